/* SPDX-License-Identifier: MIT */
/* Device attributes without a device: XSAVE components on the system descriptor, the TSC's offset on a vCPU. */
#include "kvmtest.h"

GUEST16(prog, "1: rdtsc\n out %eax, $0x10\n mov %edx, %eax\n out %eax, $0x11\n jmp 1b\n");

static u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi));
	return (u64)hi << 32 | lo;
}

static u64 guest_tsc(struct vm *v)
{
	u32 lo = 0, hi = 0;

	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	memcpy(&lo, kt_io_data(v->run), 4);
	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	memcpy(&hi, kt_io_data(v->run), 4);
	return (u64)hi << 32 | lo;
}

static void system_attr(int sys)
{
	u64 mask = 0;
	struct kvm_device_attr a = {.attr = KVM_X86_XCOMP_GUEST_SUPP, .addr = (u64)&mask};

	if (!kt_cap(sys, KVM_CAP_SYS_ATTRIBUTES)) {
		CHECK_ERR(ioctl(sys, KVM_GET_DEVICE_ATTR, &a), EINVAL);
		return;
	}
	CHECK_OK(ioctl(sys, KVM_HAS_DEVICE_ATTR, &a));
	CHECK_OK(ioctl(sys, KVM_GET_DEVICE_ATTR, &a));
	CHECK_EQ(mask & 3, 3);
	a.attr = 99;
	CHECK_ERR(ioctl(sys, KVM_HAS_DEVICE_ATTR, &a), ENXIO);
	CHECK_ERR(ioctl(sys, KVM_GET_DEVICE_ATTR, &a), ENXIO);
	a.attr = KVM_X86_XCOMP_GUEST_SUPP;
	a.group = 1;
	CHECK_ERR(ioctl(sys, KVM_GET_DEVICE_ATTR, &a), ENXIO);
	a.group = 0;
	a.addr = (u64)KT_BAD;
	CHECK_ERR(ioctl(sys, KVM_GET_DEVICE_ATTR, &a), EFAULT);
	CHECK_ERR(ioctl(sys, KVM_SET_DEVICE_ATTR, &a), EINVAL);
}

int main(void)
{
	struct vm v;
	u64 offset = 0, t, before, msr;
	struct kvm_device_attr a = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (u64)&offset};

	vm_real(&v, prog, prog_end);
	system_attr(v.sys);
	CHECK_EQ(kt_cap(v.sys, KVM_CAP_VCPU_ATTRIBUTES), 1);
	CHECK_OK(ioctl(v.vcpu, KVM_HAS_DEVICE_ATTR, &a));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_DEVICE_ATTR, &a));
	before = rdtsc() + offset;
	t = guest_tsc(&v);
	CHECK(t >= before && t <= rdtsc() + offset);

	offset = 0x123456789abcull;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_DEVICE_ATTR, &a));
	offset = 0;
	CHECK_OK(ioctl(v.vcpu, KVM_GET_DEVICE_ATTR, &a));
	if (!kt_usekvm() && !offset && !kt_failures)
		SKIP("this backend takes a TSC offset and keeps none");
	CHECK_EQ(offset, 0x123456789abcull);
	before = rdtsc() + offset;
	t = guest_tsc(&v);
	CHECK(t >= before && t <= rdtsc() + offset);
	before = rdtsc() + offset;
	CHECK_EQ(kt_get_msr(v.vcpu, 0x10, &msr), 1);
	CHECK(msr >= before && msr <= rdtsc() + offset);

	/* Writing the MSR moves the offset. */
	CHECK_EQ(kt_set_msr(v.vcpu, 0x10, 1ull << 60), 1);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_DEVICE_ATTR, &a));
	t = rdtsc() + offset;
	CHECK(t >= 1ull << 60 && t - (1ull << 60) < 1ull << 40);

	a.attr = 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_HAS_DEVICE_ATTR, &a), ENXIO);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_DEVICE_ATTR, &a), ENXIO);
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_DEVICE_ATTR, &a), ENXIO);
	a.attr = KVM_VCPU_TSC_OFFSET;
	a.group = 7;
	CHECK_ERR(ioctl(v.vcpu, KVM_HAS_DEVICE_ATTR, &a), ENXIO);
	a.group = KVM_VCPU_TSC_CTRL;
	a.addr = (u64)KT_BAD;
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_DEVICE_ATTR, &a), EFAULT);
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_DEVICE_ATTR, &a), EFAULT);
	return kt_end();
}
