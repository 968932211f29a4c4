/* SPDX-License-Identifier: MIT */
/* KVM_SET_MEMORY_REGION (0x40), the form in which the host allocates the memory and the VMM maps the VM's descriptor at the guest physical address. Today's kernel has dropped it (EINVAL or ENOTTY). */
#include "kvmtest.h"

#ifndef KVM_SET_MEMORY_REGION
struct kvm_memory_region {
	u32 slot, flags;
	u64 guest_phys_addr, memory_size;
};
#define KVM_SET_MEMORY_REGION _IOW(KVMIO, 0x40, struct kvm_memory_region)
#endif

GUEST16(prog, "mov $0x9000, %ax\n mov %ax, %ds\n movb $0x21, %ds:5\n mov %ds:5, %al\n out %al, $0x10\n mov %ds:6, %al\n out %al, $0x11\n hlt\n");

int main(void)
{
	struct vm v;
	struct kvm_memory_region r = {.slot = 1, .guest_phys_addr = 0x90000, .memory_size = 4096};

	vm_open(&v);
	vm_vcpu(&v);
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0x80000, v.mem));
	if (ioctl(v.vm, KVM_SET_MEMORY_REGION, &r) < 0) {
		printf("KVM_SET_MEMORY_REGION: %s\n", strerror(errno));
		CHECK(errno == EINVAL || errno == ENOTTY);
		if (kt_failures)
			return kt_end();
		SKIP("no KVM_SET_MEMORY_REGION here");
	}
	u8 *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, v.vm, 0x90000);
	REQUIRE(p != MAP_FAILED);
	p[6] = 0x43;
	kt_load(&v, prog);
	kt_real(v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x21);
	CHECK_EQ(p[5], 0x21);
	CHECK_OUT(v.vcpu, v.run, 0x11, 0x43);
	/* The mapping outlives the slot; a slot that is deleted is gone for the guest. */
	r.memory_size = 0;
	CHECK_OK(ioctl(v.vm, KVM_SET_MEMORY_REGION, &r));
	CHECK_EQ(p[5], 0x21);
	kt_set_rip(v.vcpu, KT_CODE);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EQ(v.run->mmio.phys_addr, 0x90005);
	return kt_end();
}
