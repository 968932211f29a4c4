/* SPDX-License-Identifier: MIT */
/*
 * KVM_PRE_FAULT_MEMORY: host pages behind a range of guest memory are there afterwards; the call says how far it came, and an error only if it could
 * not begin.
 */
#include "kvmtest.h"

#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
struct kvm_pre_fault_memory {
	u64 gpa, size, flags, padding[5];
};
#endif
#define PAGES 16

static int pre_fault(int vcpu, u64 gpa, u64 size, u64 *left)
{
	struct kvm_pre_fault_memory p = {.gpa = gpa, .size = size};
	int r = ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &p);

	*left = p.size;
	CHECK_EQ(p.gpa + p.size, gpa + size);
	return r;
}

int main(void)
{
	struct kvm_pre_fault_memory bad = {.gpa = 0, .size = 4096, .flags = 1};
	unsigned char there[PAGES];
	u64 left, gpa = 64 << 20;
	struct vm v;
	u8 *mem;

	vm_open(&v);
	if (kt_cap(v.sys, KVM_CAP_PRE_FAULT_MEMORY) <= 0)
		SKIP("no KVM_CAP_PRE_FAULT_MEMORY");
	vm_vcpu(&v);
	mem = kt_pages(PAGES * 4096);
	madvise(mem, PAGES * 4096, MADV_NOHUGEPAGE);
	REQUIRE(kt_slot(v.vm, 1, 0, gpa, PAGES * 4096, mem) == 0);
	CHECK_ERR(ioctl(v.vcpu, KVM_PRE_FAULT_MEMORY, &bad), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_PRE_FAULT_MEMORY, NULL), EFAULT);
	CHECK_ERR(pre_fault(v.vcpu, gpa + 1, 4096, &left), EINVAL);
	CHECK_ERR(pre_fault(v.vcpu, gpa, 0, &left), EINVAL);
	CHECK_ERR(pre_fault(v.vcpu, ~0ull << 12, 8192, &left), EINVAL);
	CHECK_OK(pre_fault(v.vcpu, gpa, 4 * 4096, &left));
	CHECK_EQ(left, 0);
	mincore(mem, sizeof(there) * 4096, there);
	CHECK_EQ(there[3] & 1, 1);
	/* Over the end of the slot: as far as it goes, and then not at all. */
	CHECK_OK(pre_fault(v.vcpu, gpa + (PAGES - 2) * 4096, 3 * 4096, &left));
	CHECK_EQ(left, 4096);
	CHECK_ERR(pre_fault(v.vcpu, gpa + PAGES * 4096, 4096, &left), ENOENT);
	CHECK_EQ(left, 4096);
	munmap(mem + 8 * 4096, 4096);
	CHECK_ERR(pre_fault(v.vcpu, gpa + 8 * 4096, 4096, &left), EFAULT);
	return kt_end();
}
