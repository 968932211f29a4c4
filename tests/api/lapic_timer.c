/* SPDX-License-Identifier: MIT */
/* The LAPIC's timer in a guest that uses x2APIC MSRs: one-shot, periodic, TSC deadline; a masked one says nothing. */
#include "kvmtest.h"

#define VECTOR 0x40
#define WR(msr, val) "mov $" #msr ", %ecx\n mov $" #val ", %eax\n xor %edx, %edx\n wrmsr\n"
#define X2APIC "mov $0x1b, %ecx\n rdmsr\n or $0xc00, %eax\n wrmsr\n" WR(0x80f, 0x1ff)
#define WAIT "sti\n hlt\n cli\n"

/* The handler counts in 0x3000 and ends the interrupt. */
GUEST16(handler, "push %eax\n push %ecx\n push %edx\n incw 0x3000\n" WR(0x80b, 0) "pop %edx\n pop %ecx\n pop %eax\n iret\n");

GUEST16(one_shot, X2APIC WR(0x83e, 0xb) WR(0x832, 0x40) WR(0x838, 1000000)
	"1: " WAIT "cmpw $1, 0x3000\n jb 1b\n"
	"mov $0x839, %ecx\n rdmsr\n out %eax, $0x10\n" /* current count: 0 */
	"hlt\n");

GUEST16(periodic, X2APIC WR(0x83e, 0xb) WR(0x832, 0x20040) WR(0x838, 1000000)
	"1: " WAIT "cmpw $10, 0x3000\n jb 1b\n" WR(0x832, 0x30040) /* masked */
	"mov 0x3000, %ax\n out %ax, $0x10\n"
	"mov $0x839, %ecx\n rdmsr\n mov %eax, %ebx\n mov $100000, %ecx\n2: dec %ecx\n jnz 2b\n"
	"mov $0x839, %ecx\n rdmsr\n cmp %eax, %ebx\n setne %al\n out %al, $0x11\n"); /* it still counts */

GUEST16(deadline, X2APIC WR(0x832, 0x40040)
	"rdtsc\n mov %eax, %esi\n add $3000000, %eax\n adc $0, %edx\n mov $0x6e0, %ecx\n wrmsr\n"
	"rdmsr\n or %edx, %eax\n setne %al\n out %al, $0x10\n" /* armed */
	"1: " WAIT "cmpw $1, 0x3000\n jb 1b\n"
	"rdtsc\n sub %esi, %eax\n cmp $3000000, %eax\n setae %al\n out %al, $0x11\n" /* not before its time */
	"mov $0x6e0, %ecx\n rdmsr\n or %edx, %eax\n out %eax, $0x12\n" /* fired: 0 */
	/* a deadline that has passed fires at once */
	"mov $1, %eax\n xor %edx, %edx\n wrmsr\n"
	"2: " WAIT "cmpw $2, 0x3000\n jb 2b\n mov 0x3000, %ax\n out %ax, $0x13\n");

static u64 cycle_ns; /* 0: as it comes */

static int bus(int vm, u64 ns)
{
	struct kvm_enable_cap c = {.cap = 237 /* KVM_CAP_X86_APIC_BUS_CYCLES_NS */, .args = {ns}};

	return ioctl(vm, KVM_ENABLE_CAP, &c);
}

static void start(struct vm *v, const u8 *from, const u8 *to)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	const u16 iv[2] = {0x2000, 0};

	vm_open(v);
	CHECK_OK(ioctl(v->vm, KVM_CREATE_IRQCHIP, 0ul));
	if (cycle_ns)
		CHECK_OK(bus(v->vm, cycle_ns));
	v->vcpu = ioctl(v->vm, KVM_CREATE_VCPU, 0ul);
	REQUIRE(v->vcpu >= 0);
	v->run = kt_map_run(v, v->vcpu);
	c->nent = 256;
	REQUIRE(ioctl(v->sys, KVM_GET_SUPPORTED_CPUID, c) == 0);
	for (u32 i = 0; i < c->nent; i++)
		if (c->entries[i].function == 1)
			c->entries[i].ecx |= 1u << 21 | 1u << 24; /* x2APIC, TSC deadline */
	REQUIRE(ioctl(v->vcpu, KVM_SET_CPUID2, c) == 0);
	free(c);
	kt_code(v, from, to);
	memcpy(v->mem + 0x2000, handler, GUEST_SIZE(handler));
	memcpy(v->mem + VECTOR * 4, iv, sizeof(iv));
	kt_real(v->vcpu, KT_CODE);
}

static void end(struct vm *v)
{
	munmap(v->run, v->run_size);
	close(v->vcpu);
	close(v->vm);
	close(v->sys);
}

/* Its time base: told before the first vCPU, to a VM with LAPICs. At 40 ns a cycle a million cycles are forty times as long. */
static void bus_clock(int sys)
{
	int vm = ioctl(sys, KVM_CREATE_VM, 0ul);

	CHECK_ERR(bus(vm, 40), ENXIO);
	CHECK_OK(ioctl(vm, KVM_CREATE_IRQCHIP, 0ul));
	CHECK_ERR(bus(vm, 0), EINVAL);
	CHECK_ERR(bus(vm, ~0ull), EINVAL);
	CHECK_OK(bus(vm, 40));
	CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, 0ul));
	CHECK_ERR(bus(vm, 10), EINVAL);
	close(vm);
	struct timespec from, to;
	struct vm v;

	cycle_ns = 40;
	start(&v, one_shot, one_shot_end);
	clock_gettime(CLOCK_MONOTONIC, &from);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	CHECK((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec >= 40000000);
	end(&v);
	cycle_ns = 0;
}

int main(void)
{
	struct vm v;
	u64 base;
	int sys = kt_open();

	if (kt_cap(sys, 237) > 0)
		bus_clock(sys);
	start(&v, one_shot, one_shot_end);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0);
	CHECK_EQ(*(u16 *)(v.mem + 0x3000), 1);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x1b, &base), 1);
	CHECK_EQ(base, 0xfee00d00);
	end(&v);
	start(&v, periodic, periodic_end);
	CHECK_OUT(v.vcpu, v.run, 0x10, 10);
	CHECK_OUT(v.vcpu, v.run, 0x11, 1);
	end(&v);
	start(&v, deadline, deadline_end);
	CHECK_OUT(v.vcpu, v.run, 0x10, 1);
	CHECK_OUT(v.vcpu, v.run, 0x11, 1);
	CHECK_OUT(v.vcpu, v.run, 0x12, 0);
	CHECK_OUT(v.vcpu, v.run, 0x13, 2);
	end(&v);
	return kt_end();
}
