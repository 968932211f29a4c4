/* SPDX-License-Identifier: MIT */
/* Coalesced MMIO and PIO: writes in a zone go to the ring and make no exit; unregistering ends it. */
#include "kvmtest.h"

GUEST16(prog, "mov $0x5a, %al\n out %al, $0x70\n movw $0x1234, %gs:8\n movb $1, %gs:0x1000\n hlt\n");

/* One ring a VM: in every vCPU's mapping, in a mapping of its page alone, through a dup'ed descriptor. */
static void everywhere(struct vm *v, struct kvm_coalesced_mmio_ring *ring)
{
	size_t page = (size_t)kt_cap(v->sys, KVM_CAP_COALESCED_MMIO);
	int fd = ioctl(v->vm, KVM_CREATE_VCPU, 1ul), copy = dup(fd);
	struct kvm_run *a, *b;
	struct kvm_sregs s;
	struct kvm_coalesced_mmio_ring *alone, *of_dup, *of_first, *in_b;

	REQUIRE(fd >= 0 && copy >= 0);
	a = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	b = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, copy, 0);
	alone = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)page * 4096);
	of_dup = mmap(NULL, 4096, PROT_READ, MAP_SHARED, copy, (off_t)page * 4096);
	of_first = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, v->vcpu, (off_t)page * 4096);
	REQUIRE(a != MAP_FAILED && b != MAP_FAILED && alone != MAP_FAILED && of_dup != MAP_FAILED && of_first != MAP_FAILED);
	in_b = (void *)((u8 *)b + page * 4096);
	a->immediate_exit = 1;
	CHECK_EQ(b->immediate_exit, 1);
	a->immediate_exit = 0;
	CHECK_EQ(in_b->last, ring->last);
	kt_real(fd, KT_CODE);
	CHECK_OK(ioctl(fd, KVM_GET_SREGS, &s));
	s.gs.base = 0x40000000;
	CHECK_OK(ioctl(fd, KVM_SET_SREGS, &s));
	CHECK_EXIT(fd, a, KVM_EXIT_MMIO); /* the two writes before went to the ring */
	CHECK_EQ(ring->first, 2);
	CHECK_EQ(ring->last, 4);
	CHECK_EQ(ring->coalesced_mmio[2].phys_addr, 0x70);
	CHECK_EQ(alone->last, 4);
	CHECK_EQ(of_dup->last, 4);
	CHECK_EQ(of_first->last, 4);
	CHECK_EQ(in_b->coalesced_mmio[2].data[0], 0x5a);
	alone->first = alone->last;
	CHECK_EQ(ring->first, 4);
	CHECK_EQ(in_b->first, 4);
	CHECK_OK(munmap(b, v->run_size));
	CHECK_OK(munmap(alone, 4096));
	CHECK_EQ(of_first->first, 4);
	CHECK_EQ(a->exit_reason, KVM_EXIT_MMIO);
	close(copy);
	close(fd);
}

int main(void)
{
	struct vm v;
	struct kvm_sregs s;
	struct kvm_coalesced_mmio_zone p = {.addr = 0x70, .size = 1, .pio = 1}, m = {.addr = 0x40000000, .size = 0x100};
	struct kvm_coalesced_mmio_ring *ring;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_REGISTER_COALESCED_MMIO, &p)); /* before there is a vCPU */
	vm_vcpu(&v);
	kt_load(&v, prog);
	kt_real(v.vcpu, KT_CODE);
	ring = (void *)((u8 *)v.run + 4096 * (size_t)kt_cap(v.sys, KVM_CAP_COALESCED_MMIO));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_SREGS, &s));
	s.gs.base = 0x40000000;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_SREGS, &s));
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
	everywhere(&v, ring);
	CHECK_OK(ioctl(v.vm, KVM_UNREGISTER_COALESCED_MMIO, &p));
	CHECK_OK(ioctl(v.vm, KVM_UNREGISTER_COALESCED_MMIO, &p)); /* not there: fine */
	kt_set_rip(v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x70, 0x5a);
	p.pio = 2;
	CHECK_ERR(ioctl(v.vm, KVM_REGISTER_COALESCED_MMIO, &p), EINVAL);
	return kt_end();
}
