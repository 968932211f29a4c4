/* SPDX-License-Identifier: MIT */
/* Coalesced MMIO and PIO: writes in a zone go to the ring and make no exit; unregistering ends it. */
#include "kvmtest.h"

GUEST16(prog, "mov $0x5a, %al\n out %al, $0x70\n movw $0x1234, %gs:8\n movb $1, %gs:0x1000\n hlt\n");

int main(void)
{
	struct vm v;
	struct kvm_sregs s;
	struct kvm_coalesced_mmio_zone p = {.addr = 0x70, .size = 1, .pio = 1}, m = {.addr = 0x40000000, .size = 0x100};
	struct kvm_coalesced_mmio_ring *ring;

	vm_real(&v, prog, prog_end);
	ring = (void *)((u8 *)v.run + 4096 * (size_t)kt_cap(v.sys, KVM_CAP_COALESCED_MMIO));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_SREGS, &s));
	s.gs.base = 0x40000000;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_SREGS, &s));
	CHECK_OK(ioctl(v.vm, KVM_REGISTER_COALESCED_MMIO, &p));
	CHECK_OK(ioctl(v.vm, KVM_REGISTER_COALESCED_MMIO, &m));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EQ(v.run->mmio.phys_addr, 0x40001000);
	CHECK_EQ(ring->first, 0);
	CHECK_EQ(ring->last, 2);
	CHECK_EQ(ring->coalesced_mmio[0].phys_addr, 0x70);
	CHECK_EQ(ring->coalesced_mmio[0].pio, 1);
	CHECK_EQ(ring->coalesced_mmio[0].len, 1);
	CHECK_EQ(ring->coalesced_mmio[0].data[0], 0x5a);
	CHECK_EQ(ring->coalesced_mmio[1].phys_addr, 0x40000008);
	CHECK_EQ(ring->coalesced_mmio[1].len, 2);
	CHECK_EQ(ring->coalesced_mmio[1].pio, 0);
	ring->first = ring->last;
	CHECK_OK(ioctl(v.vm, KVM_UNREGISTER_COALESCED_MMIO, &p));
	CHECK_OK(ioctl(v.vm, KVM_UNREGISTER_COALESCED_MMIO, &p)); /* not there: fine */
	kt_set_rip(v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x70, 0x5a);
	p.pio = 2;
	CHECK_ERR(ioctl(v.vm, KVM_REGISTER_COALESCED_MMIO, &p), EINVAL);
	return kt_end();
}
