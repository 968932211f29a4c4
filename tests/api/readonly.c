/* SPDX-License-Identifier: MIT */
/* A read-only slot: reads and execution go to memory, a write is an MMIO exit and changes nothing. */
#include "kvmtest.h"

GUEST16(prog,
	"mov $0x9000, %ax\n mov %ax, %ds\n"
	"mov %ds:0, %al\n out %al, $0x10\n"
	"movw $0x1234, %ds:4\n"
	"mov %ds:4, %ax\n out %ax, $0x10\n"
	"ljmp $0x9000, $0x100\n");
GUEST16(in_rom, "mov $0x5a, %al\n out %al, $0x10\n hlt\n");

int main(void)
{
	struct vm v;
	u8 *p = kt_pages(4096);

	vm_open(&v);
	vm_vcpu(&v);
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0x80000, v.mem));
	kt_load(&v, prog);
	kt_real(v.vcpu, KT_CODE);
	p[0] = 0xab;
	memcpy(p + 0x100, in_rom, GUEST_SIZE(in_rom));
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_READONLY, 0x90000, 4096, p));
	CHECK_OUT(v.vcpu, v.run, 0x10, 0xab);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EQ(v.run->mmio.phys_addr, 0x90004);
	CHECK_EQ(v.run->mmio.len, 2);
	CHECK_EQ(v.run->mmio.is_write, 1);
	CHECK_EQ(v.run->mmio.data[0], 0x34);
	CHECK_EQ(v.run->mmio.data[1], 0x12);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0);
	CHECK_EQ(p[4], 0);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x5a);
	return kt_end();
}
