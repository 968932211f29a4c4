/* SPDX-License-Identifier: MIT */
/* KVM_GET/SET_CLOCK, TSC frequency, and the kvmclock page that a guest asks for by MSR. */
#include "kvmtest.h"

GUEST16(prog, "out %al, $0x10\n out %al, $0x10\n hlt\n");

/* Nanoseconds that a page of kvmclock gives at this TSC. */
static u64 page_ns(const u32 *page, u64 tsc)
{
	u64 delta = tsc - *(const u64 *)(page + 2);
	int shift = ((const signed char *)page)[28];

	delta = shift < 0 ? delta >> -shift : delta << shift;
	return *(const u64 *)(page + 4) + (u64)(((unsigned __int128)delta * page[6]) >> 32);
}

/*
 * Linux reads CPU 0's page on every CPU. When a clock has been set back while the VM stood still, no CPU may see the old time first and then
 * the earlier one: CPU 0's page is right before CPU 0 runs.
 */
static void all_pages_at_once(void)
{
	struct kvm_clock_data c = {.clock = 1000000000};
	struct kvm_run *run;
	struct vm v;
	int vcpu;
	u64 tsc;

	vm_real(&v, prog, prog_end);
	vcpu = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(vcpu >= 0);
	run = kt_map_run(&v, vcpu);
	kt_real(vcpu, KT_CODE);
	CHECK_EQ(kt_set_msr(v.vcpu, 0x4b564d01, 0x3000 | 1), 1);
	CHECK_EQ(kt_set_msr(vcpu, 0x4b564d01, 0x3040 | 1), 1);
	c.clock = 100000000000;
	CHECK_OK(ioctl(v.vm, KVM_SET_CLOCK, &c));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EXIT(vcpu, run, KVM_EXIT_IO);
	c.clock = 1000000000;
	CHECK_OK(ioctl(v.vm, KVM_SET_CLOCK, &c));
	CHECK_EXIT(vcpu, run, KVM_EXIT_IO);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x10, &tsc), 1);
	for (int i = 0; i < 2; i++) {
		u64 ns = page_ns((const u32 *)(v.mem + 0x3000 + 0x40 * i), tsc);

		/* The kernel's KVM writes a page when its vCPU runs next. */
		if (i || kt_usekvm())
			CHECK(ns >= 1000000000 && ns < 50000000000);
	}
}

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
	all_pages_at_once();
	return kt_end();
}
