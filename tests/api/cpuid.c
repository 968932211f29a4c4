/* SPDX-License-Identifier: MIT */
/* KVM_GET_SUPPORTED_CPUID and KVM_SET/GET_CPUID2: E2BIG, round trip, and what the guest's CPUID instruction then says. */
#include "kvmtest.h"

GUEST16(prog, "mov $0x40000000, %eax\n cpuid\n mov %ebx, %eax\n out %eax, $0x10\n mov $1, %eax\n cpuid\n mov %ecx, %eax\n out %eax, $0x11\n hlt\n");

int main(void)
{
	struct vm v;
	struct kvm_cpuid2 *a = calloc(1, sizeof(*a) + 256 * sizeof(a->entries[0])), *b = calloc(1, sizeof(*a) + 256 * sizeof(a->entries[0]));
	u32 n;

	vm_real(&v, prog, prog_end);
	a->nent = 1;
	CHECK_ERR(ioctl(v.sys, KVM_GET_SUPPORTED_CPUID, a), E2BIG);
	a->nent = 256;
	CHECK_OK(ioctl(v.sys, KVM_GET_SUPPORTED_CPUID, a));
	n = a->nent;
	CHECK(n > 8 && n <= 100);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_CPUID2, a));
	b->nent = n - 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_CPUID2, b), E2BIG);
	CHECK_EQ(b->nent, n - 1);
	b->nent = 256;
	CHECK_OK(ioctl(v.vcpu, KVM_GET_CPUID2, b));
	CHECK_EQ(b->nent, n);
	for (u32 i = 0; i < 3; i++)
		CHECK(a->entries[i].function == b->entries[i].function && a->entries[i].eax == b->entries[i].eax);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x4b4d564b); /* KVMK */
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	/*
	 * The first list again, after the guest has run and switched things on that CPUID shows: as QEMU does when it plugs a CPU in again. But no other.
	 */
	struct kvm_sregs s;
	struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.value = 3}}};
	REQUIRE(ioctl(v.vcpu, KVM_GET_SREGS, &s) == 0);
	s.cr4 |= 1 << 18; /* OSXSAVE */
	if (ioctl(v.vcpu, KVM_SET_SREGS, &s) == 0) {
		CHECK_OK(ioctl(v.vcpu, KVM_SET_XCRS, &x));
		b->nent = 256;
		CHECK_OK(ioctl(v.vcpu, KVM_GET_CPUID2, b));
		CHECK(memcmp(a->entries, b->entries, n * sizeof(a->entries[0])));
		CHECK_OK(ioctl(v.vcpu, KVM_SET_CPUID2, b));
	}
	CHECK_OK(ioctl(v.vcpu, KVM_SET_CPUID2, a));
	a->entries[1].eax ^= 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_CPUID2, a), EINVAL);
	a->entries[1].eax ^= 1;
	a->nent = n - 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_CPUID2, a), EINVAL);
	a->nent = 100000;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_CPUID2, a), E2BIG);
	return kt_end();
}
