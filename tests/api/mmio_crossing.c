/* SPDX-License-Identifier: MIT */
/*
 * MMIO accesses that are misaligned, cross a page of MMIO, or lie half in RAM: however they are cut into exits, the bytes
 * must be right and the RAM half must be in RAM.
 */
#include "kvmtest.h"

#define TOP 0x10000000ull /* one page of RAM below, nothing above */

GUEST64(prog,
	"mov $0x40000000, %ebx\n mov $0x1122334455667788, %rax\n"
	"mov %rax, 3(%rbx)\n"          /* misaligned inside a page */
	"mov %eax, 0xffe(%rbx)\n"      /* across two MMIO pages */
	"mov 0xffd(%rbx), %rcx\n mov %rcx, 0x3000\n"
	"mov $0x10000000, %edx\n"
	"mov %rax, -3(%rdx)\n"         /* three bytes in RAM, five outside */
	"mov -4(%rdx), %rcx\n mov %rcx, 0x3008\n"
	"hlt\n");

static u8 device[0x3000], above[16];

static u8 *at(u64 gpa)
{
	if (gpa >= 0x40000000 && gpa < 0x40000000 + sizeof(device) - 8)
		return device + (gpa - 0x40000000);
	if (gpa >= TOP && gpa < TOP + 8)
		return above + (gpa - TOP);
	printf("an access to 0x%llx\n", (unsigned long long)gpa);
	kt_failures++;
	return above + 8;
}

static void serve(struct vm *v)
{
	for (int i = 0; i < 40; i++) {
		if (kt_run(v->vcpu) < 0 || v->run->exit_reason != KVM_EXIT_MMIO)
			break;
		CHECK(v->run->mmio.len >= 1 && v->run->mmio.len <= 8);
		/* One exit never spans two pages. */
		CHECK((v->run->mmio.phys_addr & 0xfff) + v->run->mmio.len <= 0x1000);
		if (v->run->mmio.is_write)
			memcpy(at(v->run->mmio.phys_addr), v->run->mmio.data, v->run->mmio.len);
		else
			memcpy(v->run->mmio.data, at(v->run->mmio.phys_addr), v->run->mmio.len);
	}
	if (v->run->exit_reason != KVM_EXIT_HLT)
		kt_wrong_exit(__FILE__, __LINE__, v->vcpu, v->run, KVM_EXIT_HLT);
}

int main(void)
{
	struct vm v;
	u8 *page = kt_pages(4096);
	u64 x;

	vm_open(&v);
	vm_vcpu(&v);
	CHECK_OK(kt_slot(v.vm, 1, 0, TOP - 4096, 4096, page));
	kt_load(&v, prog);
	kt_long(&v, v.vcpu, KT_CODE);
	page[4092] = 0xc0;
	device[0xffd] = 0xee;
	device[0x1004] = 0xdd;
	serve(&v);
	memcpy(&x, device + 3, 8);
	CHECK_EQ(x, 0x1122334455667788);
	CHECK_EQ(device[0xffe], 0x88);
	CHECK_EQ(device[0xfff], 0x77);
	CHECK_EQ(device[0x1000], 0x66);
	CHECK_EQ(device[0x1001], 0x55);
	memcpy(&x, v.mem + 0x3000, 8);
	CHECK_EQ(x, 0xdd000055667788eeull);
	CHECK_EQ(page[4093], 0x88);
	CHECK_EQ(page[4095], 0x66);
	CHECK_EQ(above[0], 0x55);
	CHECK_EQ(above[4], 0x11);
	memcpy(&x, v.mem + 0x3008, 8);
	CHECK_EQ(x, 0x22334455667788c0ull);
	return kt_end();
}
