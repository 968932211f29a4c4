/* SPDX-License-Identifier: MIT */
/*
 * The program's own CPUID instructions (src/preload/cpuid.c): they say VMX or SVM and are otherwise the host's; what only looks like one
 * keeps its bytes; the program's SIGILL stays its own. Built with -DNAMES_KVM and without: only a program that names /dev/kvm is touched.
 * Bytes are compared only where the host's CPU shows neither bit: elsewhere there is nothing to do.
 */
#include <cpuid.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef NAMES_KVM
const char *volatile name = "/dev/kvm";
#define NAMED true
#else
#define NAMED false
#endif

#define CHECK(cond, ...) ((cond) ? (void)0 : fail(#cond, __LINE__, __VA_ARGS__))
static void fail(const char *cond, int line, const char *what)
{
	printf("cpuid.c:%d: %s (%s)\n", line, cond, what);
	exit(1);
}

struct regs {
	uint32_t a, b, c, d;
};

/* asm_cpuid: what a compiler makes, with values in the red zone, XMM0 and the flags. */
extern const uint8_t asm_cpuid[], asm_site[], immediate_site[], behind_site[], doubtful_site[], bare_site[], data_site[], padded_site[];
__asm__(".pushsection .text\n"
	".p2align 4\n.type asm_cpuid, @function\nasm_cpuid:\n.cfi_startproc\n"
	"	push %rbx\n.cfi_def_cfa_offset 16\n.cfi_offset rbx, -16\n"
	"	mov %edi, %eax\n	mov %esi, %ecx\n	mov %rdx, %r8\n"
	"	movabs $0x1122334455667788, %r9\n	mov %r9, -8(%rsp)\n	mov %r9, -128(%rsp)\n	movq %r9, %xmm0\n"
	"	bts $32, %rax\n	bts $33, %rcx\n" /* only the low halves count */
	"	stc\n"
	"asm_site: cpuid\n"
	"	jnc 1f\n"
	"	cmp %r9, -8(%rsp)\n	jne 1f\n	cmp %r9, -128(%rsp)\n	jne 1f\n"
	"	movq %xmm0, %r10\n	cmp %r9, %r10\n	jne 1f\n"
	"	mov %rax, %r11\n	or %rbx, %r11\n	or %rcx, %r11\n	or %rdx, %r11\n	shr $32, %r11\n	jne 1f\n"
	"	mov %eax, (%r8)\n	mov %ebx, 4(%r8)\n	mov %ecx, 8(%r8)\n	mov %edx, 12(%r8)\n"
	"	mov $1, %eax\n	pop %rbx\n	ret\n"
	"1:	xor %eax, %eax\n	pop %rbx\n	ret\n"
	".cfi_endproc\n.size asm_cpuid, . - asm_cpuid\n"
	/* In another instruction's bytes. */
	".type immediate, @function\nimmediate:\n.cfi_startproc\n"
	"	.byte 0xb8\nimmediate_site: .byte 0x0f, 0xa2, 0x90, 0x90\n	ret\n"
	".cfi_endproc\n"
	/* Never reached: constants behind a function's end, and in its middle. */
	".type behind, @function\nbehind:\n.cfi_startproc\n"
	"	jmp 1f\nbehind_site: .byte 0x0f, 0xa2, 0xc3, 0x00\n1:	ret\n"
	".cfi_endproc\n"
	/* Two ways to read it. */
	".type doubtful, @function\ndoubtful:\n.cfi_startproc\n"
	"	test %edi, %edi\n	je 1f\n	.byte 0xb8\ndoubtful_site:\n1:	.byte 0x0f, 0xa2, 0x90, 0x90\n	ret\n"
	".cfi_endproc\n"
	/* No function is said to be here. */
	"bare: nop\nbare_site: cpuid\n	ret\n"
	/* A jump through a table hides what follows; that is no code. */
	".type tabled, @function\ntabled:\n.cfi_startproc\n"
	"	jmp *%rdi\ndata_site: .byte 0x0f, 0xa2, 0x06, 0x06\n"
	".cfi_endproc\n"
	/* Reached over a byte that is not. */
	".type padded, @function\npadded:\n.cfi_startproc\n"
	"	push %rbx\n	xor %eax, %eax\n	jmp padded_site\n	.byte 0xb8\npadded_site: cpuid\n	pop %rbx\n	ret\n"
	".cfi_endproc\n"
	".popsection\n");

typedef int (*cpuid_fn)(uint32_t leaf, uint32_t sub, struct regs *r);
static cpuid_fn raw;

/* From memory of our own making: nobody changes that. */
static void make_raw(void)
{
	static const uint8_t code[] = { 0x53, 0x89, 0xf8, 0x89, 0xf1, 0x49, 0x89, 0xd0, 0x0f, 0xa2, 0x41, 0x89, 0x00, 0x41, 0x89, 0x58, 0x04,
					0x41, 0x89, 0x48, 0x08, 0x41, 0x89, 0x50, 0x0c, 0x5b, 0xc3 };
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED, "mmap");
	memcpy(p, code, sizeof(code));
	CHECK(!mprotect(p, 4096, PROT_READ | PROT_EXEC), "mprotect");
	raw = (cpuid_fn)p;
}

static uint32_t leaf_of_bit, bit;
static bool changed; /* is it expected? */

static void expect(uint32_t leaf, uint32_t sub, struct regs *r)
{
	raw(leaf, sub, r);
	if (leaf == leaf_of_bit && NAMED && !getenv("USEKVM_HOST_CPUID"))
		r->c |= bit;
}

static void compare(uint32_t leaf, uint32_t sub)
{
	struct regs want, got;

	expect(leaf, sub, &want);
	CHECK(((cpuid_fn)asm_cpuid)(leaf, sub, &got), "other registers, flags or memory changed");
	if (memcmp(&want, &got, sizeof(want)))
		printf("leaf %x,%x: %x %x %x %x instead of %x %x %x %x\n", leaf, sub, got.a, got.b, got.c, got.d, want.a, want.b, want.c, want.d);
	CHECK(!memcmp(&want, &got, sizeof(want)), "values");
}

static void values(void)
{
	static const uint32_t leaf[] = { 0, 1, 2, 4, 7, 0xb, 0xd, 0x15, 0x40000000, 0x80000000, 0x80000001, 0x80000002, 0x80000008, 0x8000000a, 0xffffffff };

	for (unsigned i = 0; i < sizeof(leaf) / sizeof(leaf[0]); i++)
		for (uint32_t sub = 0; sub < 3; sub++)
			compare(leaf[i], sub);
}

/* As a compiler writes it, behind a jump table. */
static __attribute__((noinline, noclone)) uint32_t switched(unsigned how)
{
	uint32_t a = leaf_of_bit, b, c = 0, d;

	switch (how) {
	case 0: return 7;
	case 1: __asm__ volatile("nop" : "+r"(a)); return a;
	case 2: __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)); return c;
	case 3: return (uint32_t)getpid();
	case 4: puts(""); return 3;
	case 5: __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)); return c & bit;
	default: return 0;
	}
}

static void in_a_switch(void)
{
	volatile unsigned how = 2;
	struct regs want;

	expect(leaf_of_bit, 0, &want);
	CHECK(switched(how) == want.c, "behind a jump table");
	how = 5;
	CHECK(switched(how) == (want.c & bit), "behind a jump table");
}

static void bytes(void)
{
	CHECK(asm_site[0] == 0x0f && asm_site[1] == (changed ? 0x0b : 0xa2), "an instruction");
	CHECK(padded_site[1] == (changed ? 0x0b : 0xa2), "an instruction behind a byte that is none");
	CHECK(immediate_site[1] == 0xa2, "inside an instruction");
	CHECK(behind_site[1] == 0xa2, "constants in a function");
	CHECK(doubtful_site[1] == 0xa2, "two ways to read it");
	CHECK(bare_site[1] == 0xa2, "no function");
	CHECK(data_site[1] == 0xa2, "data behind a jump of unknown target");
}

/* ---- the program's own SIGILL ---- */

static volatile int ills;
extern const uint8_t own_ud2[];

static void on_ill(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;

	ills += sig == SIGILL && info->si_addr == (void *)own_ud2 && uc->uc_mcontext.gregs[REG_RIP] == (greg_t)own_ud2;
	compare(leaf_of_bit, 0);
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

static void own_handler(void)
{
	struct sigaction sa, old;

	CHECK(!sigaction(SIGILL, NULL, &old) && old.sa_handler == SIG_DFL, "no handler is seen that the program has not installed");
	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = on_ill;
	sa.sa_flags = SA_SIGINFO;
	sigfillset(&sa.sa_mask);
	CHECK(!sigaction(SIGILL, &sa, NULL), "sigaction");
	__asm__ volatile(".globl own_ud2\nown_ud2: ud2" ::: "memory");
	CHECK(ills == 1, "UD2 of the program");
	values();
	CHECK(ills == 1, "CPUID is not the program's affair");
	signal(SIGILL, SIG_DFL);
	values();
}

static int killed_by(void (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		fn();
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
	return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void die(void)
{
	__asm__ volatile("ud2");
}

static void *in_thread(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	values();
	return arg;
}

int main(void)
{
	struct regs r;
	pthread_t t;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one); /* some leaves tell which CPU it is */
	make_raw();
	raw(0, 0, &r);
	leaf_of_bit = r.b == signature_AMD_ebx ? 0x80000001 : 1;
	bit = r.b == signature_AMD_ebx ? 1u << 2 : 1u << 5;
	raw(leaf_of_bit, 0, &r);
	changed = NAMED && !getenv("USEKVM_HOST_CPUID") && !(r.c & bit);
	bytes();
	values();
	in_a_switch();
	own_handler();
	CHECK(killed_by(values) == 0, "after fork");
	CHECK(killed_by(die) == SIGILL, "UD2 with no handler");
	CHECK(!pthread_create(&t, NULL, in_thread, NULL) && !pthread_join(t, NULL), "a thread that blocks all signals");
	return 0;
}
