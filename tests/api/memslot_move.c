/* SPDX-License-Identifier: MIT */
/* A slot is added, moved, deleted and put back between runs: the guest sees RAM where it is, MMIO where it is not. */
#include "kvmtest.h"

/* Reads the byte at DS:0 for ever, DS being set by the program outside. */
GUEST16(prog, "1: mov %ds:0, %al\n out %al, $0x10\n jmp 1b\n");

static void set_ds(struct vm *v, u64 base)
{
	struct kvm_sregs s;

	REQUIRE(ioctl(v->vcpu, KVM_GET_SREGS, &s) == 0);
	s.ds.base = base;
	s.ds.selector = (u16)(base >> 4);
	REQUIRE(ioctl(v->vcpu, KVM_SET_SREGS, &s) == 0);
	kt_set_rip(v->vcpu, KT_CODE);
}

int main(void)
{
	struct vm v;
	u8 *p = kt_pages(4096);

	vm_open(&v);
	vm_vcpu(&v);
	/* RAM only below 0x80000, so that the rest of the first MiB is free. */
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0x80000, v.mem));
	kt_load(&v, prog);
	kt_real(v.vcpu, KT_CODE);
	p[0] = 0x11;
	CHECK_OK(kt_slot(v.vm, 1, 0, 0x90000, 4096, p));
	set_ds(&v, 0x90000);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x11);
	p[0] = 0x22; /* written by us, seen by the guest */
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x22);
	/* Move: the old place is empty, the new one has it. */
	CHECK_OK(kt_slot(v.vm, 1, 0, 0xa0000, 4096, p));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EQ(v.run->mmio.phys_addr, 0x90000);
	CHECK_EQ(v.run->mmio.is_write, 0);
	v.run->mmio.data[0] = 0x99;
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x99);
	set_ds(&v, 0xa0000);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x22);
	CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EQ(v.run->mmio.phys_addr, 0xa0000);
	v.run->mmio.data[0] = 0x77;
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x77);
	/* Other memory at the same place. */
	CHECK_OK(kt_slot(v.vm, 1, 0, 0xa0000, 4096, kt_pages(4096)));
	CHECK_OUT(v.vcpu, v.run, 0x10, 0);
	return kt_end();
}
