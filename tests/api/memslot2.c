/* SPDX-License-Identifier: MIT */
/* KVM_SET_USER_MEMORY_REGION2 for ordinary memory: as the first form, with the same slots; guest_memfd needs a kind of VM that has it. */
#include "kvmtest.h"

#ifndef KVM_SET_USER_MEMORY_REGION2
struct kvm_userspace_memory_region2 {
	u32 slot, flags;
	u64 guest_phys_addr, memory_size, userspace_addr, guest_memfd_offset;
	u32 guest_memfd, pad1;
	u64 pad2[14];
};
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif
#ifndef KVM_CAP_USER_MEMORY2
#define KVM_CAP_USER_MEMORY2 231
#endif
#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD (1u << 2)
#endif

GUEST16(prog, "mov $0x9000, %ax\n mov %ax, %ds\n 1: mov %ds:5, %al\n out %al, $0x10\n movb $9, %ds:6\n jmp 1b\n");

int main(void)
{
	struct kvm_userspace_memory_region2 r = {.slot = 1, .flags = KVM_MEM_LOG_DIRTY_PAGES, .guest_phys_addr = 0x90000, .memory_size = 0x1000};
	u64 bits = 0;
	struct kvm_dirty_log log = {.slot = 1, .dirty_bitmap = &bits};
	u8 *p = kt_pages(0x1000), *q = kt_pages(0x1000);
	struct vm v;

	vm_open(&v);
	if (!kt_cap(v.vm, KVM_CAP_USER_MEMORY2) && !kt_usekvm())
		SKIP("no KVM_SET_USER_MEMORY_REGION2 here");
	vm_vcpu(&v);
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0x80000, v.mem));
	p[5] = 0x21;
	q[5] = 0x22;
	r.userspace_addr = (u64)p;
	CHECK_OK(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION2, &r));
	kt_load(&v, prog);
	kt_real(v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x21);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x21);
	CHECK_EQ(p[6], 9);
	CHECK_OK(ioctl(v.vm, KVM_GET_DIRTY_LOG, &log));
	CHECK_EQ(bits, 1);
	/* The slot is the one that the first form sees. */
	CHECK_ERR(kt_slot(v.vm, 2, 0, 0x90000, 0x1000, q), EEXIST);
	CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL));
	r.userspace_addr = (u64)q;
	CHECK_OK(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION2, &r));
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x22);
	r.slot = 2;
	r.guest_phys_addr = 0xa0000;
	r.flags = KVM_MEM_GUEST_MEMFD;
	CHECK_ERR(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION2, &r), EINVAL);
	r.flags = 1u << 31;
	CHECK_ERR(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION2, &r), EINVAL);
	r.flags = 0;
	r.userspace_addr++;
	CHECK_ERR(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION2, &r), EINVAL);
	CHECK_ERR(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION2, KT_BAD), EFAULT);
	return kt_end();
}
