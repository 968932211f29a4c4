/* SPDX-License-Identifier: MIT */
/* KVM_TRANSLATE: the walk of the guest's own tables; not present is valid 0. */
#include "kvmtest.h"

int main(void)
{
	struct vm v;
	struct kvm_translation t = {.linear_address = 0x123456};

	vm_open(&v);
	vm_vcpu(&v);
	CHECK_OK(ioctl(v.vcpu, KVM_TRANSLATE, &t)); /* no paging */
	CHECK_EQ(t.valid, 1);
	CHECK_EQ(t.physical_address, 0x123456);
	kt_long(&v, v.vcpu, KT_CODE);
	t.linear_address = 0x345678;
	CHECK_OK(ioctl(v.vcpu, KVM_TRANSLATE, &t));
	CHECK_EQ(t.valid, 1);
	CHECK_EQ(t.physical_address, 0x345678);
	t.linear_address = 0x8000000000;
	CHECK_OK(ioctl(v.vcpu, KVM_TRANSLATE, &t));
	CHECK_EQ(t.valid, 0);
	return kt_end();
}
