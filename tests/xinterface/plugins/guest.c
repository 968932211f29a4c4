/* SPDX-License-Identifier: MIT */
/*
 * A VMM that knows nothing of plug-ins. Its guest, in 64-bit mode, rings the doorbell at 0xfed10000 with 1..100, 7 and 102, writes two bytes there,
 * sets up a ring at 0x20000 with three buffers (one across the end of a slot) and rings that. Output: the exits that the VMM saw, the ring's answer.
 */
#include "kvmtest.h"

GUEST64(prog,
	"mov $0xfed10000, %ebx\n"
	"mov $1, %ecx\n"
	"1: mov %ecx, (%rbx)\n"
	"inc %ecx\n cmp $101, %ecx\n jne 1b\n"
	"movl $7, (%rbx)\n"
	"movl $102, (%rbx)\n"
	"movw $5, (%rbx)\n"
	"mov $0x20000, %eax\n"
	"mov $0xfed20000, %ebx\n"
	"mov %rax, (%rbx)\n"
	"movl $3, 4(%rax)\n"
	"movl $1, 8(%rbx)\n"
	"mov 8(%rax), %ecx\n"
	"mov 12(%rax), %edx\n"
	"hlt\n");

int main(void)
{
	struct {
		u32 size, produced, consumed, sum;
		struct {
			u64 addr;
			u32 len, flags;
		} desc[4];
	} *ring;
	struct kvm_regs regs;
	struct vm v;
	u8 *more;
	int vm2;

	vm_open(&v);
	vm_vcpu(&v);
	more = kt_pages(0x1000);
	REQUIRE(kt_slot(v.vm, 1, 0, v.mem_size, 0x1000, more) == 0);
	kt_load(&v, prog);
	kt_long(&v, v.vcpu, KT_CODE);
	ring = (void *)(v.mem + 0x20000);
	ring->size = 4;
	ring->desc[0].addr = 0x30000;
	ring->desc[0].len = 1000;
	ring->desc[1].addr = v.mem_size - 4;
	ring->desc[1].len = 8;
	ring->desc[2].addr = 0x7000000000ull; /* not RAM */
	ring->desc[2].len = 8;
	memset(v.mem + 0x30000, 3, 1000);
	memset(v.mem + v.mem_size - 4, 5, 4);
	memset(more, 7, 4);
	for (int exits = 0;; exits++) {
		REQUIRE(kt_run(v.vcpu) == 0 && exits < 200);
		if (v.run->exit_reason == KVM_EXIT_HLT)
			break;
		REQUIRE(v.run->exit_reason == KVM_EXIT_MMIO);
		printf("exit at 0x%llx, %u bytes\n", (unsigned long long)v.run->mmio.phys_addr, v.run->mmio.len);
	}
	kt_get_regs(v.vcpu, &regs);
	printf("consumed %u, sum %u\n", (u32)regs.rcx, (u32)regs.rdx);
	vm2 = ioctl(v.sys, KVM_CREATE_VM, 0ul);
	CHECK(vm2 >= 0);
	close(vm2);
	munmap(v.run, v.run_size);
	close(v.vm);
	close(v.vcpu);
	return kt_end();
}
