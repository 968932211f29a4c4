/* SPDX-License-Identifier: MIT */
/*
 * Memory order and atomics between vCPU threads: litmus tests as guests (SDM 3, 8.2.3; names as in the literature), locks with an
 * invariant, and code that one vCPU changes and another runs.
 *
 *   litmus [SECONDS [NAME...]]    per test, default 1; only the tests that are named
 *
 * Every vCPU of a test runs its own loop over an array of cells, a cache line apart, after a common start; then it halts, and the host looks
 * for outcomes that x86 forbids. Store buffering without a fence is counted only: it is allowed, and a machine that never shows it is
 * merely slow.
 */
#include "kvmtest.h"

#include <pthread.h>
#include <time.h>

#define CELLS 2048u
#define CELL 64u
#define X 0x40000ull
#define Y 0x80000ull
#define R 0xc0000ull /* results: 32 bytes a cell, a word for each of four */
#define START 0x20000ull
#define COUNTER 0x21000ull

/* rsi x, rdi y, rbx results, rcx cells, r8 start counter, r9 number of vCPUs. */
#define BEGIN "lock incl (%r8)\n 1: pause\n cmp %r9d, (%r8)\n jb 1b\n 2:\n"
#define NEXT "add $64, %rsi\n add $64, %rdi\n add $32, %rbx\n dec %ecx\n jnz 2b\n hlt\n"
GUEST64(sb0, BEGIN "movl $1, (%rsi)\n mov (%rdi), %eax\n mov %eax, (%rbx)\n" NEXT);
GUEST64(sb1, BEGIN "movl $1, (%rdi)\n mov (%rsi), %eax\n mov %eax, 4(%rbx)\n" NEXT);
GUEST64(sbf0, BEGIN "movl $1, (%rsi)\n mfence\n mov (%rdi), %eax\n mov %eax, (%rbx)\n" NEXT);
GUEST64(sbf1, BEGIN "movl $1, (%rdi)\n mfence\n mov (%rsi), %eax\n mov %eax, 4(%rbx)\n" NEXT);
GUEST64(sbx0, BEGIN "mov $1, %edx\n xchg %edx, (%rsi)\n mov (%rdi), %eax\n mov %eax, (%rbx)\n" NEXT);
GUEST64(sbx1, BEGIN "mov $1, %edx\n xchg %edx, (%rdi)\n mov (%rsi), %eax\n mov %eax, 4(%rbx)\n" NEXT);
GUEST64(mp0, BEGIN "movl $1, (%rsi)\n movl $1, (%rdi)\n" NEXT);
GUEST64(mp1, BEGIN "mov (%rdi), %eax\n mov (%rsi), %edx\n mov %eax, (%rbx)\n mov %edx, 4(%rbx)\n" NEXT);
GUEST64(lb0, BEGIN "mov (%rdi), %eax\n movl $1, (%rsi)\n mov %eax, (%rbx)\n" NEXT);
GUEST64(lb1, BEGIN "mov (%rsi), %eax\n movl $1, (%rdi)\n mov %eax, 4(%rbx)\n" NEXT);
GUEST64(wx, BEGIN "movl $1, (%rsi)\n" NEXT);
GUEST64(wy, BEGIN "movl $1, (%rdi)\n" NEXT);
GUEST64(rxy, BEGIN "mov (%rsi), %eax\n mov (%rdi), %edx\n mov %eax, (%rbx)\n mov %edx, 4(%rbx)\n" NEXT);
GUEST64(ryx, BEGIN "mov (%rdi), %eax\n mov (%rsi), %edx\n mov %eax, 8(%rbx)\n mov %edx, 12(%rbx)\n" NEXT);

/* Counters at r10: every locked form once a round, aligned, misaligned and across cache lines. */
GUEST64(atomics,
	BEGIN "lock incl (%r10)\n lock addq $1, 8(%r10)\n mov $1, %eax\n lock xadd %eax, 16(%r10)\n lock incl 61(%r10)\n lock incw 131(%r10)\n"
	      "3: mov 192(%r10), %eax\n lea 1(%rax), %edx\n lock cmpxchg %edx, 192(%r10)\n jnz 3b\n"
	      "push %rbx\n push %rcx\n mov 208(%r10), %rax\n mov 216(%r10), %rdx\n"
	      "4: mov %rax, %rbx\n mov %rdx, %rcx\n add $1, %rbx\n adc $0, %rcx\n sub $1, %rcx\n lock cmpxchg16b 208(%r10)\n jnz 4b\n pop %rcx\n pop %rbx\n" NEXT);
/* A lock taken by XCHG around an ordinary counter. */
GUEST64(spinlock, BEGIN "3: mov $1, %eax\n xchg %eax, (%r10)\n test %eax, %eax\n jz 5f\n 4: pause\n cmpl $0, (%r10)\n jne 4b\n jmp 3b\n"
			"5: incq 64(%r10)\n mov 64(%r10), %rax\n mov %rax, 128(%r10)\n movl $0, (%r10)\n" NEXT);
/* A ticket lock. */
GUEST64(ticket, BEGIN "mov $1, %eax\n lock xadd %eax, (%r10)\n 3: cmp %eax, 4(%r10)\n je 5f\n pause\n jmp 3b\n"
		      "5: incq 64(%r10)\n incl 4(%r10)\n" NEXT);
/*
 * The writer changes the immediate of `mov $imm32, %eax; ret` at r10 and then says so at x; the reader, having seen that, serializes by
 * CPUID and must get the value or a later one.
 */
GUEST64(patch_w, BEGIN "mov %ecx, %eax\n neg %eax\n mov %eax, 1(%r10)\n mov %eax, (%r11)\n 3: pause\n cmp %eax, 4(%r11)\n jne 3b\n" NEXT);
GUEST64(patch_r, BEGIN "mov %ecx, %r12d\n neg %r12d\n 3: pause\n cmp %r12d, (%r11)\n jne 3b\n push %rcx\n push %rbx\n xor %eax, %eax\n cpuid\n pop %rbx\n pop %rcx\n"
		       "call *%r13\n sub %r12d, %eax\n mov %eax, (%rbx)\n mov %r12d, 4(%r11)\n" NEXT);

struct prog {
	const u8 *start, *end;
};
#define P(n) { n, n##_end }

struct test {
	const char *name;
	unsigned cpus;
	struct prog prog[4];
	bool (*forbidden)(const u32 *r); /* of one cell's results; NULL: only counted by `shown` */
	bool (*shown)(const u32 *r);
	void (*check)(struct vm *v, unsigned cpus);
};

static bool both_zero(const u32 *r)
{
	return !r[0] && !r[1];
}
static bool flag_without_data(const u32 *r)
{
	return r[0] && !r[1];
}
static bool both_one(const u32 *r)
{
	return r[0] && r[1];
}
static bool orders_differ(const u32 *r)
{
	return r[0] && !r[1] && r[2] && !r[3];
}
static bool nonzero(const u32 *r)
{
	return r[0];
}

static void check_atomics(struct vm *v, unsigned cpus)
{
	const u8 *m = v->mem + COUNTER;
	u32 n = CELLS * cpus, a;
	u64 b[2];

	CHECK_EQ(*(const u32 *)m, n);
	CHECK_EQ(*(const u64 *)(m + 8), n);
	CHECK_EQ(*(const u32 *)(m + 16), n);
	memcpy(&a, m + 61, 4);
	CHECK_EQ(a, n);
	CHECK_EQ(m[131] | m[132] << 8, n & 0xffff);
	CHECK_EQ(*(const u32 *)(m + 192), n);
	memcpy(b, m + 208, 16);
	CHECK_EQ(b[0], n);
	CHECK_EQ(b[1], (u64)0 - n);
}

static void check_lock(struct vm *v, unsigned cpus)
{
	CHECK_EQ(*(u64 *)(v->mem + COUNTER + 64), (u64)CELLS * cpus);
}

static const struct test tests[] = {
	{ "SB", 2, { P(sb0), P(sb1) }, NULL, both_zero, NULL },
	{ "SB+mfences", 2, { P(sbf0), P(sbf1) }, both_zero, NULL, NULL },
	{ "SB+xchgs", 2, { P(sbx0), P(sbx1) }, both_zero, NULL, NULL },
	{ "MP", 2, { P(mp0), P(mp1) }, flag_without_data, NULL, NULL },
	{ "LB", 2, { P(lb0), P(lb1) }, both_one, NULL, NULL },
	{ "IRIW", 4, { P(wx), P(wy), P(rxy), P(ryx) }, orders_differ, NULL, NULL },
	{ "atomics", 2, { P(atomics), P(atomics) }, NULL, NULL, check_atomics },
	{ "atomics4", 4, { P(atomics), P(atomics), P(atomics), P(atomics) }, NULL, NULL, check_atomics },
	{ "spinlock", 3, { P(spinlock), P(spinlock), P(spinlock) }, NULL, NULL, check_lock },
	{ "ticket", 2, { P(ticket), P(ticket) }, NULL, NULL, check_lock },
	{ "cross-modify", 2, { P(patch_w), P(patch_r) }, nonzero, NULL, NULL },
};

struct cpu {
	pthread_t thread;
	int fd;
	struct kvm_run *run;
	int result;
};

static void *run(void *arg)
{
	struct cpu *c = arg;

	do
		c->result = ioctl(c->fd, KVM_RUN, 0ul);
	while (c->result && errno == EINTR);
	return NULL;
}

#define CODE_AT(n) (0x2000ull + (n) * 0x1000)
#define PATCHED 0x30000ull

static void setup(struct vm *v, struct cpu *cpu, const struct test *t)
{
	static const u8 fn[] = { 0xb8, 0, 0, 0, 0, 0xc3 }; /* mov $0, %eax; ret */

	memset(v->mem + X, 0, CELLS * CELL);
	memset(v->mem + Y, 0, CELLS * CELL);
	memset(v->mem + R, 0, CELLS * 32);
	memset(v->mem + START, 0, 0x2000);
	memcpy(v->mem + PATCHED, fn, sizeof(fn));
	for (unsigned i = 0; i < t->cpus; i++) {
		struct kvm_regs r = { .rip = CODE_AT(i), .rsp = 0x8000 + i * 0x1000, .rflags = 2, .rsi = X, .rdi = Y, .rbx = R, .rcx = CELLS,
				      .r8 = START, .r9 = t->cpus, .r10 = t->prog[0].start == patch_w ? PATCHED : COUNTER, .r11 = X + 0x30000,
				      .r13 = PATCHED };

		memcpy(v->mem + CODE_AT(i), t->prog[i].start, (size_t)(t->prog[i].end - t->prog[i].start));
		REQUIRE(ioctl(cpu[i].fd, KVM_SET_REGS, &r) == 0);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void run_test(struct vm *v, struct cpu *cpu, const struct test *t, double seconds)
{
	unsigned long rounds = 0, bad = 0, shown = 0;

	for (double end = now() + seconds; now() < end && !kt_failures; rounds++) {
		setup(v, cpu, t);
		for (unsigned i = 0; i < t->cpus; i++)
			REQUIRE(pthread_create(&cpu[i].thread, NULL, run, &cpu[i]) == 0);
		for (unsigned i = 0; i < t->cpus; i++) {
			pthread_join(cpu[i].thread, NULL);
			CHECK_EQ(cpu[i].result, 0);
			CHECK_EQ(cpu[i].run->exit_reason, KVM_EXIT_HLT);
		}
		for (unsigned n = 0; n < CELLS; n++) {
			const u32 *r = (const u32 *)(v->mem + R + n * 32);

			bad += t->forbidden && t->forbidden(r);
			shown += t->shown && t->shown(r);
		}
		if (t->check)
			t->check(v, t->cpus);
		CHECK_EQ(bad, 0);
	}
	printf("%-14s %lu rounds of %u", t->name, rounds, CELLS);
	if (t->shown)
		printf(", %lu times the allowed reordering", shown);
	printf("\n");
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc <= 2;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : kt_usekvm() ? 1 : 0.2;
	unsigned ran = 0;
	struct cpu cpu[4];
	struct vm v;

	vm_open(&v);
	alarm((unsigned)(seconds * 30) + 60);
	vm_vcpu(&v);
	kt_long(&v, v.vcpu, CODE_AT(0));
	struct kvm_cpuid2 *id = calloc(1, sizeof(*id) + 256 * sizeof(id->entries[0]));
	id->nent = 256;
	REQUIRE(ioctl(v.sys, KVM_GET_SUPPORTED_CPUID, id) == 0);
	for (int i = 0; i < 4; i++) {
		cpu[i].fd = i ? ioctl(v.vm, KVM_CREATE_VCPU, (unsigned long)i) : v.vcpu;
		REQUIRE(cpu[i].fd >= 0);
		cpu[i].run = kt_map_run(&v, cpu[i].fd);
		if (i) {
			REQUIRE(ioctl(cpu[i].fd, KVM_SET_CPUID2, id) == 0);
			kt_long(&v, cpu[i].fd, CODE_AT(i));
		}
	}
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (wanted(tests[i].name, argc, argv)) {
			run_test(&v, cpu, &tests[i], seconds);
			ran++;
		}
	CHECK(ran > 0);
	return kt_end();
}
