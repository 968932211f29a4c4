/* SPDX-License-Identifier: MIT */
/* MMIO reads and writes of 1, 2, 4 and 8 bytes in long mode, sign and zero extension, read-modify-write. */
#include "kvmtest.h"

#define MMIO 0x40000000ull

GUEST64(prog,
	"mov $0x40000000, %ebx\n mov $0x1122334455667788, %rax\n"
	"mov %al, (%rbx)\n mov %ax, 2(%rbx)\n mov %eax, 4(%rbx)\n mov %rax, 8(%rbx)\n"
	"movzbl (%rbx), %eax\n out %eax, $0x10\n"
	"movswl 2(%rbx), %eax\n out %eax, $0x10\n"
	"mov 4(%rbx), %eax\n out %eax, $0x10\n"
	"mov 8(%rbx), %rax\n out %eax, $0x10\n shr $32, %rax\n out %eax, $0x10\n"
	"addl $5, 16(%rbx)\n"
	"movl $0xdeadbeef, 20(%rbx)\n"
	"hlt\n");

static void wr(struct vm *v, u64 gpa, unsigned len, u64 val)
{
	u64 got = 0;

	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_MMIO);
	CHECK_EQ(v->run->mmio.phys_addr, gpa);
	CHECK_EQ(v->run->mmio.len, len);
	CHECK_EQ(v->run->mmio.is_write, 1);
	memcpy(&got, v->run->mmio.data, len <= 8 ? len : 8);
	CHECK_EQ(got, val);
}

static void rd(struct vm *v, u64 gpa, unsigned len, u64 val)
{
	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_MMIO);
	CHECK_EQ(v->run->mmio.phys_addr, gpa);
	CHECK_EQ(v->run->mmio.len, len);
	CHECK_EQ(v->run->mmio.is_write, 0);
	memcpy(v->run->mmio.data, &val, 8);
}

int main(void)
{
	struct vm v;

	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog);
	kt_long(&v, v.vcpu, KT_CODE);
	wr(&v, MMIO, 1, 0x88);
	wr(&v, MMIO + 2, 2, 0x7788);
	wr(&v, MMIO + 4, 4, 0x55667788);
	wr(&v, MMIO + 8, 8, 0x1122334455667788);
	rd(&v, MMIO, 1, 0xffffffffffffff80);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x80);
	rd(&v, MMIO + 2, 2, 0x8001);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0xffff8001);
	rd(&v, MMIO + 4, 4, 0x12345678);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x12345678);
	rd(&v, MMIO + 8, 8, 0x0102030405060708);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x05060708);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x01020304);
	rd(&v, MMIO + 16, 4, 10);
	wr(&v, MMIO + 16, 4, 15);
	wr(&v, MMIO + 20, 4, 0xdeadbeef);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	return kt_end();
}
