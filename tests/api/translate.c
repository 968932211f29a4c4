/* SPDX-License-Identifier: MIT */
/* KVM_TRANSLATE: the walk of the guest's own tables; not present is valid 0. KVM says writeable and supervisor of every page. */
#include "kvmtest.h"

static void check(struct vm *v, u64 linear, bool valid, u64 physical)
{
	struct kvm_translation t = {.linear_address = linear, .writeable = 7, .usermode = 7, .valid = 7};

	CHECK_OK(ioctl(v->vcpu, KVM_TRANSLATE, &t));
	CHECK_EQ(t.linear_address, linear);
	CHECK_EQ(t.valid, valid);
	CHECK_EQ(t.physical_address, physical);
	CHECK_EQ(t.writeable, 1);
	CHECK_EQ(t.usermode, 0);
}

int main(void)
{
	struct vm v;
	u64 *pt, *pd;

	vm_open(&v);
	vm_vcpu(&v);
	check(&v, 0x123456, true, 0x123456); /* no paging */
	check(&v, ~1ull, true, ~1ull);
	check(&v, ~0ull, false, ~0ull);
	kt_long(&v, v.vcpu, KT_CODE);
	check(&v, 0x345678, true, 0x345678);
	check(&v, 0x8000000000, false, ~0ull);
	/* Small pages at 1 GiB: a user's that is read-only, an absent one, one without memory behind it. */
	pd = (u64 *)(v.mem + KT_PML4 + 0x3000);
	pt = (u64 *)(v.mem + 0x20000);
	pd[0] = 0x20000 | 7;
	pt[0] = 0x77000 | 5;
	pt[2] = 0x700000000 | 3;
	check(&v, (1ull << 30) + 0x123, true, 0x77123);
	check(&v, (1ull << 30) + 0x1123, false, ~0ull);
	check(&v, (1ull << 30) + 0x2fff, true, 0x700000fff);
	CHECK_EQ(pt[0], 0x77000 | 0x25); /* the walk sets accessed bits */
	CHECK_ERR(ioctl(v.vcpu, KVM_TRANSLATE, KT_BAD), EFAULT);
	return kt_end();
}
