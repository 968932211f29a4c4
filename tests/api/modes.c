/* SPDX-License-Identifier: MIT */
/* Protected mode with and without paging, and long mode, entered by KVM_SET_SREGS alone; the guest shows the width it runs with. */
#include "kvmtest.h"

GUEST32(prog32, "mov $0x12345678, %eax\n mov %eax, 0x3000\n push %eax\n pop %ebx\n inc %ebx\n mov %ebx, %eax\n out %eax, $0x10\n hlt\n");
GUEST64(prog64, "mov $0x123456789abcdef0, %rax\n mov %rax, 0x3000\n push %rax\n pop %r9\n lea 1(%r9), %rax\n shr $32, %rax\n out %eax, $0x10\n"
		"mov %r9d, %eax\n out %eax, $0x10\n hlt\n");

static void protected_mode(void)
{
	struct vm v;
	u32 x;

	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog32);
	kt_protected(v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x12345679);
	memcpy(&x, v.mem + 0x3000, 4);
	CHECK_EQ(x, 0x12345678);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
}

static void paged(void)
{
	struct vm v;
	struct kvm_sregs s;
	u32 *pd, *pt, x;

	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog32);
	kt_protected(v.vcpu, KT_CODE);
	/* Linear 0x3000 is physical 0x5000; the rest of the first 4 MiB one to one. */
	pd = (u32 *)(v.mem + 0x20000);
	pt = (u32 *)(v.mem + 0x21000);
	pd[0] = 0x21003;
	for (u32 i = 0; i < 512; i++)
		pt[i] = (i << 12) | 3;
	pt[3] = 0x5003;
	REQUIRE(ioctl(v.vcpu, KVM_GET_SREGS, &s) == 0);
	s.cr3 = 0x20000;
	s.cr0 |= 0x80000000;
	REQUIRE(ioctl(v.vcpu, KVM_SET_SREGS, &s) == 0);
	/* A backend for 64-bit guests only shuts down here; said in docs/status.md. */
	if (!kt_usekvm() && kt_run(v.vcpu) == 0 && v.run->exit_reason == KVM_EXIT_SHUTDOWN) {
		printf("note: this kernel's backend has no 32-bit paging\n");
		return;
	}
	kt_set_rip(v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x12345679);
	memcpy(&x, v.mem + 0x5000, 4);
	CHECK_EQ(x, 0x12345678);
	CHECK_EQ(pt[3] & 0x60, 0x60); /* accessed and dirty */
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
}

static void long_mode(void)
{
	struct vm v;
	u64 x;

	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog64);
	kt_long(&v, v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x12345678);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x9abcdef0);
	memcpy(&x, v.mem + 0x3000, 8);
	CHECK_EQ(x, 0x123456789abcdef0);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
}

int main(void)
{
	protected_mode();
	paged();
	long_mode();
	return kt_end();
}
