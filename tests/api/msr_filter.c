/* SPDX-License-Identifier: MIT */
/* KVM_CAP_X86_USER_SPACE_MSR and KVM_X86_SET_MSR_FILTER: what the guest may not read or write, or what does not exist, is the VMM's to answer. */
#include "kvmtest.h"

#ifndef KVM_MSR_FILTER_MAX_BITMAP_SIZE
#define KVM_MSR_FILTER_MAX_BITMAP_SIZE 0x600
#endif

/* #GP's handler counts at 0x3000 and goes on behind the two-byte instruction. */
GUEST16(handler, "incw 0x3000\n push %bp\n mov %sp, %bp\n addw $2, 2(%bp)\n pop %bp\n iret\n");
GUEST16(prog,
	"1: mov $0x174, %ecx\n mov $0x1234, %eax\n xor %edx, %edx\n wrmsr\n out %al, $0x10\n" /* SYSENTER_CS, denied for writing */
	"xor %eax, %eax\n rdmsr\n out %eax, $0x11\n"                                         /* reading is allowed */
	"mov $0x175, %ecx\n rdmsr\n mov %eax, %ebx\n mov %edx, %eax\n out %eax, $0x12\n mov %ebx, %eax\n out %eax, $0x13\n" /* denied for reading */
	"mov $0x2ff00, %ecx\n rdmsr\n out %eax, $0x14\n"                                     /* no such MSR */
	"mov $0x2ff, %ecx\n mov $2, %eax\n xor %edx, %edx\n wrmsr\n out %al, $0x15\n"        /* no memory type */
	"jmp 1b\n");

#define CHECK_MSR(v, want, why, msr_index)                                                                                                 \
	do {                                                                                                                               \
		CHECK_EXIT((v).vcpu, (v).run, want);                                                                                       \
		CHECK_EQ((v).run->msr.reason, why);                                                                                        \
		CHECK_EQ((v).run->msr.index, msr_index);                                                                                   \
		CHECK_EQ((v).run->msr.error, 0);                                                                                           \
	} while (0)

static u16 faults(const struct vm *v)
{
	return *(volatile u16 *)(v->mem + 0x3000);
}

static void enable(struct vm *v, u64 mask)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_X86_USER_SPACE_MSR, .args = {mask}};

	CHECK_OK(ioctl(v->vm, KVM_ENABLE_CAP, &c));
}

int main(void)
{
	u8 deny[8] = {0}, second[8] = {1};
	struct kvm_msr_filter f = {.ranges = {{.flags = KVM_MSR_FILTER_WRITE, .base = 0x174, .nmsrs = 1, .bitmap = deny},
					      {.flags = KVM_MSR_FILTER_READ, .base = 0x174, .nmsrs = 2, .bitmap = second}}};
	struct kvm_msr_filter bad;
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR, .args = {~0ull}};
	const u16 iv[2] = {0x2000, 0};
	struct kvm_regs r;
	struct vm v;
	u64 msr;

	vm_real(&v, prog, prog_end);
	if (!kt_cap(v.sys, KVM_CAP_X86_USER_SPACE_MSR) || !kt_cap(v.sys, KVM_CAP_X86_MSR_FILTER))
		SKIP("no MSR filter here");
	memcpy(v.mem + 13 * 4, iv, sizeof(iv));
	memcpy(v.mem + 0x2000, handler, GUEST_SIZE(handler));
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	CHECK_OK(ioctl(v.vm, KVM_X86_SET_MSR_FILTER, &f));

	/* Without exits: #GP. */
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x34);
	CHECK_EQ(faults(&v), 1);
	CHECK_OUT(v.vcpu, v.run, 0x11, 0);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(faults(&v), 2);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x14);
	CHECK_EQ(faults(&v), 3);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x15);
	CHECK_EQ(faults(&v), 4);

	enable(&v, KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL);
	CHECK_MSR(v, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_FILTER, 0x174);
	CHECK_EQ(v.run->msr.data, 0x1234);
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(*(u16 *)(v.mem + r.rip), 0x300f); /* on the WRMSR */
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x34);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x174, &msr), 1); /* the VMM may always */
	CHECK_EQ(msr, 0);
	CHECK_OUT(v.vcpu, v.run, 0x11, 0);
	CHECK_MSR(v, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_FILTER, 0x175);
	v.run->msr.data = 0x1122334455667788;
	CHECK_OUT(v.vcpu, v.run, 0x12, 0x11223344);
	CHECK_OUT(v.vcpu, v.run, 0x13, 0x55667788);
	CHECK_MSR(v, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN, 0x2ff00);
	v.run->msr.data = 0x77;
	v.run->immediate_exit = 1; /* the answer is taken all the same */
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	v.run->immediate_exit = 0;
	CHECK_OUT(v.vcpu, v.run, 0x14, 0x77);
	CHECK_MSR(v, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_INVAL, 0x2ff);
	CHECK_EQ(v.run->msr.data, 2);
	CHECK_EQ(faults(&v), 4);
	v.run->msr.error = 1;
	CHECK_OUT(v.vcpu, v.run, 0x15, 2);
	CHECK_EQ(faults(&v), 5);

	/* An empty filter that allows; then all is as if there were none. */
	memset(&f, 0, sizeof(f));
	CHECK_OK(ioctl(v.vm, KVM_X86_SET_MSR_FILTER, &f));
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x34);
	CHECK_OUT(v.vcpu, v.run, 0x11, 0x1234);

	memset(&bad, 0, sizeof(bad));
	bad.flags = KVM_MSR_FILTER_DEFAULT_DENY; /* and nothing allowed */
	CHECK_ERR(ioctl(v.vm, KVM_X86_SET_MSR_FILTER, &bad), EINVAL);
	bad.flags = 4;
	CHECK_ERR(ioctl(v.vm, KVM_X86_SET_MSR_FILTER, &bad), EINVAL);
	bad.flags = 0;
	bad.ranges[0] = (struct kvm_msr_filter_range){.flags = 8, .base = 1, .nmsrs = 1, .bitmap = deny};
	CHECK_ERR(ioctl(v.vm, KVM_X86_SET_MSR_FILTER, &bad), EINVAL);
	bad.ranges[0].flags = KVM_MSR_FILTER_READ;
	bad.ranges[0].nmsrs = KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8 + 1;
	CHECK_ERR(ioctl(v.vm, KVM_X86_SET_MSR_FILTER, &bad), EINVAL);
	bad.ranges[0].nmsrs = 1;
	bad.ranges[0].bitmap = KT_BAD;
	CHECK_ERR(ioctl(v.vm, KVM_X86_SET_MSR_FILTER, &bad), EFAULT);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO); /* the old one is still in force */
	return kt_end();
}
