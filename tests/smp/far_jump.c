/* SPDX-License-Identifier: MIT */
/*
 * A loop of direct jumps between pages, while nothing is known of these pages (CR3 is written in each turn) and translated code is dropped all the
 * time (run with USEKVM_CODE_CACHE): an engine that comes out of such a jump must not take it for another one, made before the drop.
 *
 * First one CALL and RET, which are the only indirect jumps. Then passes through more blocks than the engine keeps, so many of them that each
 * pass leaves the engine in another state, and the loop after each pass. In a VM with one vCPU, then with three that do the same.
 */
#include "kvmtest.h"

#define PASSES 600u
#define TURNS 40u
#define CPUS 3

/* EDI: passes left, EDX: blocks of this pass, EBP: turns; R9, R10, R11: counts. */
GUEST64(prog,
	"mov $100, %ecx\n 1: call 2f\n dec %ecx\n jnz 1b\n jmp again\n 2: inc %r9d\n ret\n"
	"again: imul $7, %edi, %edx\n and $0xff, %edx\n inc %edx\n mov $40, %ebp\n jmp 3f\n"
	".balign 4096\n 3:\n"
	".rept 257\n add $1, %r10\n dec %edx\n jz turn\n jmp 4f\n .balign 16\n 4:\n .endr\n hlt\n"
	".balign 4096\n turn: mov %cr3, %rax\n mov %rax, %cr3\n inc %r11\n jmp other\n"
	".balign 4096\n other: add $3, %r11\n dec %ebp\n jnz turn\n dec %edi\n jnz again\n out %al, $0x10\n");

static struct vm v;
static struct { int fd; struct kvm_run *run; pthread_t thread; } cpu[CPUS];

static void *run(void *arg)
{
	long n = (long)arg;
	struct kvm_regs r;
	u64 blocks = 0;

	for (u32 pass = PASSES; pass; pass--)
		blocks += (pass * 7 & 0xff) + 1;
	CHECK_EXIT(cpu[n].fd, cpu[n].run, KVM_EXIT_IO);
	kt_get_regs(cpu[n].fd, &r);
	CHECK_EQ(r.rdi, 0);
	CHECK_EQ(r.r9, 100);
	CHECK_EQ(r.r10, blocks);
	CHECK_EQ(r.r11, 4ull * PASSES * TURNS);
	return NULL;
}

static void all(long n)
{
	vm_long(&v, prog, prog_end);
	for (long i = 0; i < n; i++) {
		struct kvm_regs r;

		cpu[i].fd = i ? ioctl(v.vm, KVM_CREATE_VCPU, (unsigned long)i) : v.vcpu;
		REQUIRE(cpu[i].fd >= 0);
		cpu[i].run = i ? kt_map_run(&v, cpu[i].fd) : v.run;
		kt_long(&v, cpu[i].fd, KT_CODE);
		kt_get_regs(cpu[i].fd, &r);
		r.rdi = PASSES;
		r.rsp = 0x40000 + (u64)i * 0x1000;
		REQUIRE(ioctl(cpu[i].fd, KVM_SET_REGS, &r) == 0);
	}
	for (long i = 0; i < n; i++)
		REQUIRE(pthread_create(&cpu[i].thread, NULL, run, (void *)i) == 0);
	for (long i = 0; i < n; i++) {
		pthread_join(cpu[i].thread, NULL);
		munmap(cpu[i].run, v.run_size);
		close(cpu[i].fd);
	}
	close(v.vm);
	close(v.sys);
}

int main(void)
{
	all(1);
	all(CPUS);
	return kt_end();
}
