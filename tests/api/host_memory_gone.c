/* SPDX-License-Identifier: MIT */
/* The host memory under a slot vanishes: KVM_RUN says EFAULT, and works again when the memory is back. */
#include "kvmtest.h"

GUEST64(prog,
	"mov $0x10000000, %ebx\n"
	"mov (%rbx), %al\n out %al, $0x10\n"
	"mov (%rbx), %al\n out %al, $0x10\n"
	"movb $0x44, 8(%rbx)\n out %al, $0x10\n"
	"hlt\n");

int main(void)
{
	struct vm v;
	u8 *p = kt_pages(4096);
	struct kvm_regs a, b;

	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog);
	kt_long(&v, v.vcpu, KT_CODE);
	p[0] = 0x31;
	CHECK_OK(kt_slot(v.vm, 1, 0, 0x10000000, 4096, p));
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x31);
	REQUIRE(munmap(p, 4096) == 0);
	/* A kernel backend that emulates every instruction takes the access for MMIO; ordinary KVM faults. */
	if (kt_run(v.vcpu) == 0 && v.run->exit_reason == KVM_EXIT_MMIO && !kt_usekvm())
		SKIP("this kernel's backend answers vanished memory with an MMIO exit");
	CHECK_ERR(kt_run(v.vcpu), EFAULT);
	if (kt_cap(v.sys, 232) && v.run->exit_reason == 39) { /* KVM_CAP_MEMORY_FAULT_INFO, KVM_EXIT_MEMORY_FAULT */
		u64 info[3]; /* flags, gpa, size */

		memcpy(info, v.run->padding, sizeof(info));
		CHECK_EQ(info[0], 0);
		CHECK_EQ(info[1], 0x10000000);
		CHECK_EQ(info[2], 4096);
	} else {
		CHECK(!kt_usekvm());
	}
	kt_get_regs(v.vcpu, &a);
	CHECK_ERR(kt_run(v.vcpu), EFAULT); /* and again, at the same instruction */
	kt_get_regs(v.vcpu, &b);
	CHECK_EQ(a.rip, b.rip);
	REQUIRE(mmap(p, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	p[0] = 0x32;
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x32);
	/* Read-only host memory under a writable slot. */
	mprotect(p, 4096, PROT_READ);
	CHECK_ERR(kt_run(v.vcpu), EFAULT);
	mprotect(p, 4096, PROT_READ | PROT_WRITE);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(p[8], 0x44);
	return kt_end();
}
