/* SPDX-License-Identifier: MIT */
/* One host page at two guest-physical addresses: writes through one are seen through the other, code included. */
#include "kvmtest.h"

/* Calls the code at 0x90000, patches its immediate through the alias at 0xa0000, calls again. */
GUEST16(prog,
	"mov $0x9000, %ax\n mov %ax, %ds\n mov $0xa000, %ax\n mov %ax, %es\n"
	"lcall $0x9000, $0\n out %al, $0x10\n"
	"movb $0x66, %es:1\n"
	"lcall $0x9000, $0\n out %al, $0x10\n"
	"mov %ds:1, %al\n out %al, $0x10\n"
	"hlt\n");
GUEST16(callee, "mov $0x55, %al\n lret\n");

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
	memcpy(p, callee, GUEST_SIZE(callee));
	CHECK_OK(kt_slot(v.vm, 1, 0, 0x90000, 4096, p));
	CHECK_OK(kt_slot(v.vm, 2, 0, 0xa0000, 4096, p));
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x55);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x66);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x66);
	CHECK_EQ(p[1], 0x66);
	return kt_end();
}
