/* SPDX-License-Identifier: MIT */
/* KVM_GET/SET_CLOCK, TSC frequency, and the kvmclock page that a guest asks for by MSR. */
#include "kvmtest.h"

GUEST16(prog, "out %al, $0x10\n out %al, $0x10\n hlt\n");

int main(void)
{
	struct vm v;
	struct kvm_clock_data a = {.clock = 10}, b;
	u64 t1, t2;
	int khz;
	u32 *page;

	vm_real(&v, prog, prog_end);
	CHECK_OK(ioctl(v.vm, KVM_SET_CLOCK, &a));
	CHECK_OK(ioctl(v.vm, KVM_GET_CLOCK, &a));
	kt_sleep_ms(5);
	CHECK_OK(ioctl(v.vm, KVM_GET_CLOCK, &b));
	CHECK(a.clock < 10000000000ull);
	CHECK(b.clock > a.clock && b.clock - a.clock >= 4000000);
	CHECK_OK(ioctl(v.vm, KVM_SET_CLOCK, &b)); /* as it was got, flags and all */
	CHECK_OK(ioctl(v.vm, KVM_GET_CLOCK, &a));
	CHECK(a.clock >= b.clock && a.clock - b.clock < 1000000000ull);
	a.flags = 0x80;
	CHECK_ERR(ioctl(v.vm, KVM_SET_CLOCK, &a), EINVAL);
	khz = ioctl(v.vcpu, KVM_GET_TSC_KHZ, 0ul);
	CHECK(khz > 100000);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_TSC_KHZ, (unsigned long)khz));
	/* Nearly the host's, as another measurement of the same clock gives it: taken, and said from then on. */
	CHECK_OK(ioctl(v.vcpu, KVM_SET_TSC_KHZ, (unsigned long)(khz + khz / 10000)));
	CHECK_EQ(ioctl(v.vcpu, KVM_GET_TSC_KHZ, 0ul), khz + khz / 10000);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_TSC_KHZ, 0ul));
	CHECK_EQ(ioctl(v.vcpu, KVM_GET_TSC_KHZ, 0ul), khz);
	if (!kt_cap(v.sys, KVM_CAP_TSC_CONTROL))
		CHECK_ERR(ioctl(v.vcpu, KVM_SET_TSC_KHZ, (unsigned long)(khz / 2)), EINVAL);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x10, &t1), 1);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x10, &t2), 1);
	CHECK(t2 > t1);
	CHECK_EQ(kt_set_msr(v.vcpu, 0x4b564d01, 0x3000 | 1), 1);
	CHECK_EQ(kt_set_msr(v.vcpu, 0x4b564d00, 0x4000), 1);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	page = (u32 *)(v.mem + 0x3000);
	CHECK_EQ(page[0] & 1, 0);       /* version: even, not zero */
	CHECK(page[0] != 0);
	CHECK(page[6] != 0);            /* tsc_to_system_mul */
	CHECK(*(u32 *)(v.mem + 0x4000) != 0); /* wall clock version */
	CHECK(((u32 *)(v.mem + 0x4000))[1] != 0);
	return kt_end();
}
