/* SPDX-License-Identifier: MIT */
/*
 * The first program of a Linux guest whose user code runs as it is (src/direct/): is everything there as it would be, and does hostile code get no further
 * than its own process? Prints a line for each part, "direct: NAME ok" or "direct: NAME FAILED: WHY", and "direct: done"; then powers off.
 *
 * usage as init of an initramfs; boot with USEKVM_DIRECT=always, with two CPUs. Natively (as a plain program) the parts that need no guest hold too.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define REGION 0x3f8000000000ull /* src/direct/stub.h: D_BASE, D_SIZE */
#define REGION_SIZE 0x10000u
#define PAGE 4096u

static u64 seed = 1;
static u64 rnd(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}

static char why[200];
static int fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return 1;
}

/* ---- faults of this process ---- */

static sigjmp_buf back;
static volatile int got_signal;
static volatile u64 got_addr, got_rip;

static void on_fault(int sig, siginfo_t *info, void *uc)
{
	got_signal = sig;
	got_addr = (u64)info->si_addr;
	got_rip = (u64)((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP];
	siglongjmp(back, 1);
}

static void catch_faults(void)
{
	static char stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

	sigaltstack(&ss, NULL);
	for (const int *s = (const int[]){ SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, 0 }; *s; s++)
		sigaction(*s, &act, NULL);
}

/* Which signal an access gets; 0: none. */
static int access_of(volatile u8 *p, int write)
{
	got_signal = 0;
	if (!sigsetjmp(back, 1)) {
		if (write)
			*p = 1;
		else
			(void)*p;
		return 0;
	}
	return got_signal;
}

/* ---- registers ---- */

static int registers(void)
{
	static u8 in[16][32], out[16][32];
	struct timespec t;

	for (int r = 0; r < 300; r++) {
		u64 g[6], h[6], *gp = g, *hp = h;
		u32 mxcsr = 0x1f80 | (u32)(r & 3) << 13, mxcsr2;
		uint16_t fcw = (uint16_t)(0x37f | (r & 3) << 10), fcw2;

		for (unsigned k = 0; k < sizeof(in); k++)
			((u8 *)in)[k] = (u8)rnd();
		for (unsigned k = 0; k < 6; k++)
			g[k] = rnd();
		/* Long enough for interrupts, with a page fault, CPUID and a system call between. */
		u8 *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		__asm__ volatile("ldmxcsr %[m]; fldcw %[f]\n"
				 "vmovdqu (%[in]), %%ymm0; vmovdqu 0x20(%[in]), %%ymm5; vmovdqu 0x40(%[in]), %%ymm11; vmovdqu 0x60(%[in]), %%ymm15\n"
				 "mov %[g], %%rax; mov (%%rax), %%r12; mov 8(%%rax), %%r13; mov 16(%%rax), %%r14; mov 24(%%rax), %%r15; mov 32(%%rax), %%r8; mov 40(%%rax), %%r9\n"
				 "mov %[page], %%rax; movb $1, (%%rax)\n"
				 "mov $20000, %%ecx\n"
				 "1: dec %%ecx; jnz 1b\n"
				 "xor %%eax, %%eax; xor %%ecx, %%ecx; mov %%rbx, %%r10; cpuid; mov %%r10, %%rbx\n"
				 "mov $39, %%eax; syscall\n"
				 "mov $20000, %%ecx\n"
				 "2: dec %%ecx; jnz 2b\n"
				 "vmovdqu %%ymm0, (%[out]); vmovdqu %%ymm5, 0x20(%[out]); vmovdqu %%ymm11, 0x40(%[out]); vmovdqu %%ymm15, 0x60(%[out])\n"
				 "mov %[h], %%rax; mov %%r12, (%%rax); mov %%r13, 8(%%rax); mov %%r14, 16(%%rax); mov %%r15, 24(%%rax); mov %%r8, 32(%%rax); mov %%r9, 40(%%rax)\n"
				 "stmxcsr %[m2]; fnstcw %[f2]; fninit; vzeroupper\n"
				 : [m2] "=m"(mxcsr2), [f2] "=m"(fcw2)
				 : [m] "m"(mxcsr), [f] "m"(fcw), [in] "D"(in), [out] "S"(out), [g] "m"(gp), [h] "m"(hp), [page] "m"(page)
				 : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc", "xmm0", "xmm5", "xmm11", "xmm15");
		munmap(page, PAGE);
		if (memcmp(in, out, 128) || memcmp(g, h, sizeof(g)) || mxcsr != (mxcsr2 & ~0x3fu) || fcw != fcw2)
			return fail("round %d: vectors %d, general %d, mxcsr %x %x, fcw %x %x", r, memcmp(in, out, 128), memcmp(g, h, sizeof(g)), mxcsr, mxcsr2, fcw, fcw2);
		if (!(r % 16))
			clock_gettime(CLOCK_MONOTONIC, &t);
	}
	return 0;
}

/* Read, changed and written: once, whatever comes between. */
static int once(void)
{
	enum { N = 20000 };
	volatile u32 *a = mmap(NULL, N * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timespec t;
	u64 sum = 0;

	for (int r = 0; r < 3000; r++) {
		for (int i = 0; i < 1000; i++)
			__asm__ volatile("incl %0" : "+m"(a[(r * 2003 + i * 7) % N]));
		if (!(r & 15))
			clock_gettime(CLOCK_MONOTONIC, &t);
	}
	for (int i = 0; i < N; i++)
		sum += a[i];
	return sum == 3000000 ? 0 : fail("%llu increments of 3000000", (unsigned long long)sum);
}

/* ---- memory ---- */

static int memory(void)
{
	volatile u8 *m = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int r = 0; r < 100; r++) {
		for (int k = 0; k < 8; k++)
			if (m[k * PAGE] && r == 0)
				return fail("fresh memory is not zero");
		memset((void *)m, r + 1, 8 * PAGE);
		mprotect((void *)m, PAGE, PROT_READ);
		if (access_of(m, 0) || access_of(m, 1) != SIGSEGV || got_addr != (u64)m || m[0] != r + 1)
			return fail("read-only page: signal %d at %#llx", got_signal, (unsigned long long)got_addr);
		mprotect((void *)(m + PAGE), PAGE, PROT_NONE);
		if (access_of(m + PAGE, 0) != SIGSEGV || access_of(m + PAGE + 1, 1) != SIGSEGV)
			return fail("page without access can be used");
		mprotect((void *)m, 2 * PAGE, PROT_READ | PROT_WRITE);
		if (access_of(m, 1) || m[PAGE] != r + 1)
			return fail("page given back");
		madvise((void *)(m + 2 * PAGE), PAGE, MADV_DONTNEED);
		if (m[2 * PAGE])
			return fail("a dropped page is not zero");
		munmap((void *)(m + 3 * PAGE), PAGE);
		if (access_of(m + 3 * PAGE, 0) != SIGSEGV)
			return fail("an unmapped page can be read");
		if (mmap((void *)(m + 3 * PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED || m[3 * PAGE])
			return fail("new memory is not zero");
		/* Two processes, one page: each keeps its own. */
		m[4 * PAGE] = 77;
		pid_t p = fork();
		if (!p) {
			m[4 * PAGE] = 78;
			_exit(m[4 * PAGE] == 78 && m[5 * PAGE] == (u8)(r + 1) ? 0 : 1);
		}
		m[5 * PAGE] = 79;
		int st;
		waitpid(p, &st, 0);
		if (st || m[4 * PAGE] != 77 || m[5 * PAGE] != 79)
			return fail("after fork: child %x, %d %d", st, m[4 * PAGE], m[5 * PAGE]);
	}
	return 0;
}

/* A page moved: its old address has nothing, the new one the bytes. */
static int moving(void)
{
	u8 *a = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int r = 0; r < 200; r++) {
		memset(a, r, PAGE);
		u8 *b = mremap(a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, a + 2 * PAGE);
		if (b != a + 2 * PAGE || b[5] != (u8)r || access_of(a, 0) != SIGSEGV)
			return fail("round %d", r);
		if (mremap(b, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, a) != a || a[7] != (u8)r)
			return fail("round %d, back", r);
	}
	return 0;
}

/* ---- instructions that answer for the host ---- */

static void signature(char s[13])
{
	u32 a, b, c, d;

	__cpuid(0x40000000, a, b, c, d);
	memcpy(s, &b, 4), memcpy(s + 4, &c, 4), memcpy(s + 8, &d, 4);
	s[12] = 0;
}

static u64 tsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (u64)hi << 32 | lo;
}

static int cpuid(void)
{
	char first[13], s[13];
	volatile u32 spin;
	u64 last = 0;
	u32 a, b, c, d, a2, b2, c2, d2;

	signature(first);
	__cpuid_count(7, 0, a, b, c, d);
	for (int r = 0; r < 2000; r++) {
		for (spin = 0; spin < 3000; spin++)
			;
		signature(s);
		if (strcmp(s, first) || strncmp(s, "KVMKVMKVM", 9))
			return fail("signature '%s', then '%s'", first, s);
		__cpuid_count(7, 0, a2, b2, c2, d2);
		if (a != a2 || b != b2 || c != c2 || d != d2)
			return fail("leaf 7 was %x %x %x, is %x %x %x", b, c, d, b2, c2, d2);
		u64 now = tsc();
		if (now < last)
			return fail("the TSC went back from %llu to %llu", (unsigned long long)last, (unsigned long long)now);
		last = now;
	}
	return 0;
}

/* CPUID in code that was made just now, at any place in its page, and across its end. */
static int made_code(void)
{
	u8 *m = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* push rbx; mov eax, 0x40000000; cpuid; mov eax, ebx; pop rbx; ret */
	static const u8 code[] = { 0x53, 0xb8, 0, 0, 0, 0x40, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3 };

	for (unsigned at = 0; at < PAGE + 64; at += at > PAGE - 32 && at < PAGE + 8 ? 1 : 61) {
		memset(m, 0x90, 2 * PAGE);
		memcpy(m + at, code, sizeof(code));
		mprotect(m, 2 * PAGE, PROT_READ | PROT_EXEC);
		u32 got = ((u32(*)(void))(m + at))();
		if (got != 0x4b4d564b) /* "KVMK" */
			return fail("at %u: %x", at, got);
		if (memcmp(m + at, code, 6) || memcmp(m + at + 8, code + 8, 4))
			return fail("at %u: the code reads as another", at);
		mprotect(m, 2 * PAGE, PROT_READ | PROT_WRITE);
	}
	return 0;
}

/* Code that is written and run in turn, in one page. */
static int changing_code(void)
{
	u8 *m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (u32 r = 0; r < 3000; r++) {
		m[0] = 0xb8; /* mov eax, r; ret */
		memcpy(m + 1, &r, 4);
		m[5] = 0xc3;
		if (((u32(*)(void))m)() != r)
			return fail("round %u", r);
	}
	return 0;
}

/* ---- traps ---- */

static int traps(void)
{
	for (int r = 0; r < 200; r++) {
		got_signal = 0;
		if (!sigsetjmp(back, 1))
			__asm__ volatile("int3");
		if (got_signal != SIGTRAP)
			return fail("INT3: signal %d", got_signal);
		got_signal = 0;
		if (!sigsetjmp(back, 1))
			__asm__ volatile("ud2");
		if (got_signal != SIGILL)
			return fail("UD2: signal %d", got_signal);
		got_signal = 0;
		if (!sigsetjmp(back, 1))
			__asm__ volatile("hlt");
		if (got_signal != SIGSEGV)
			return fail("HLT: signal %d", got_signal);
		got_signal = 0;
		if (!sigsetjmp(back, 1))
			__asm__ volatile("xor %%edx, %%edx; mov $1, %%eax; xor %%ecx, %%ecx; div %%ecx" ::: "eax", "ecx", "edx");
		if (got_signal != SIGFPE)
			return fail("DIV: signal %d", got_signal);
		got_signal = 0;
		if (!sigsetjmp(back, 1)) /* one step, by its own TF */
			__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" ::: "memory", "cc");
		if (got_signal != SIGTRAP)
			return fail("TF: signal %d", got_signal);
		got_signal = 0;
		if (!sigsetjmp(back, 1))
			(void)*(volatile u8 *)(0x8000000000000000ull + rnd() % (1ull << 40));
		if (got_signal != SIGSEGV)
			return fail("no canonical address: signal %d", got_signal);
	}
	return 0;
}

/* The signal that comes while code runs, and code goes on after it. */
static volatile int alarms;
static void on_alarm(int sig)
{
	alarms++;
}

static int interrupted(void)
{
	struct sigaction act = { .sa_handler = on_alarm };
	timer_t t;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	struct itimerspec each = { { 0, 1000000 }, { 0, 1000000 } };
	u64 x = 1, y = 1;

	sigaction(SIGALRM, &act, NULL);
	if (timer_create(CLOCK_MONOTONIC, &ev, &t))
		return fail("timer_create: %s", strerror(errno));
	timer_settime(t, 0, &each, NULL);
	for (u64 k = 0; alarms < 50 && k < 4000000000ull; k++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		__asm__ volatile("" : "+r"(y));
		y = y * 6364136223846793005ull + 1442695040888963407ull;
	}
	timer_delete(t);
	return alarms >= 50 && x == y ? 0 : fail("%d signals, %d", alarms, x == y);
}

/* ---- threads ---- */

static u32 counter;
static void *count(void *arg)
{
	for (int k = 0; k < 1000000; k++)
		__atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
	return arg;
}

static int threads(void)
{
	pthread_t t[4];

	counter = 0;
	for (int k = 0; k < 4; k++)
		if (pthread_create(&t[k], NULL, count, NULL))
			return fail("pthread_create");
	/* Meanwhile other processors' translations are dropped. */
	for (int k = 0; k < 200; k++) {
		u8 *m = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memset(m, 1, 4 * PAGE);
		mprotect(m, 4 * PAGE, PROT_READ);
		munmap(m, 4 * PAGE);
	}
	for (int k = 0; k < 4; k++)
		pthread_join(t[k], NULL);
	return counter == 4000000 ? 0 : fail("%u of 4000000", counter);
}

/* ---- hostile code: each in a process of its own, which may end as it likes ---- */

/* Jump to an address with these registers. Does not come back. */
struct regs {
	u64 rax, rbx, rcx, rdx, rsi, rdi, r8, r9, r10, r12, r13, r14, r15, rsp, to;
};
static void jump(const struct regs *r)
{
	__asm__ volatile("mov %0, %%r11\n"
			 "mov 0x00(%%r11), %%rax; mov 0x08(%%r11), %%rbx; mov 0x10(%%r11), %%rcx; mov 0x18(%%r11), %%rdx\n"
			 "mov 0x20(%%r11), %%rsi; mov 0x28(%%r11), %%rdi; mov 0x30(%%r11), %%r8; mov 0x38(%%r11), %%r9\n"
			 "mov 0x40(%%r11), %%r10; mov 0x48(%%r11), %%r12; mov 0x50(%%r11), %%r13; mov 0x58(%%r11), %%r14\n"
			 "mov 0x60(%%r11), %%r15; mov 0x68(%%r11), %%rsp; jmp *0x70(%%r11)" ::"r"(r)
			 : "memory");
	__builtin_unreachable();
}

static u8 heap[65536] __attribute__((aligned(4096)));

static u64 nasty(void)
{
	static const u64 some[] = { 0, 1, 11, 31, 9, 10, 15, 1023, 0x1000, 0x2000, 231, 56, 157, 317, 0x100, ~0ull, 1ull << 63, REGION, REGION + 0x1000, REGION + 0x4000,
				    REGION + 0x8000, REGION + 0xf000, REGION + REGION_SIZE - 8, 0x7ffffffff000ull };

	return rnd() % 4 ? some[rnd() % (sizeof(some) / sizeof(some[0]))] : rnd() % 2 ? (u64)heap + rnd() % sizeof(heap) / 64 * 64 : rnd();
}

static void attack(unsigned n)
{
	struct regs r;

	/* One that stops nowhere ends by this. */
	alarm(2);
	/* At first be run directly. */
	for (volatile int k = 0; k < 20000; k++)
		;
	for (unsigned k = 0; k < sizeof(heap) / 8; k++)
		((u64 *)heap)[k] = nasty();
	for (unsigned k = 0; k < sizeof(r) / 8; k++)
		((u64 *)&r)[k] = nasty();
	r.rsp = rnd() % 2 ? (u64)heap + 32768 : r.rsp;
	r.to = REGION + n % 0x1a0; /* the code there is shorter than that */
	if (n % 7 == 0) { /* the way in, with a frame that blocks every signal, and then a loop */
		static const u8 loop[] = { 0xeb, 0xfe };
		u8 *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		u64 *uc = (u64 *)heap;

		memcpy(code, loop, 2);
		memset(heap, 0, 1024);
		uc[5 + 16] = (u64)code;                          /* rip */
		uc[5 + 15] = (u64)heap + 32768;                  /* rsp */
		uc[5 + 17] = 0x202;
		uc[5 + 18] = 0x33 | 0x2bull << 48;
		uc[37] = ~0ull;                                  /* sigmask */
		r.rsp = (u64)heap;
		r.rax = 15;
		for (unsigned k = 0; k < 0x1a0; k++)
			if (((volatile u8 *)REGION)[k] == 0x0f && ((volatile u8 *)REGION)[k + 1] == 0x05) /* SYSCALL: where it is allowed */
				r.to = REGION + k;
	} else if (n % 7 == 1) { /* what must not be writable */
		((volatile u8 *)REGION)[rnd() % 0x8000] = 1;
	} else if (n % 7 == 2) { /* what can be: signals of this code land there */
		memset((void *)(REGION + 0x8000), (int)rnd(), 0x8000);
	} else if (n % 7 == 3) { /* system calls of the host's that would be welcome, from where some are allowed */
		static const u64 calls[] = { 9, 10, 11, 13, 15, 25, 39, 56, 57, 59, 62, 101, 157, 160, 231, 257, 310, 311, 317, 437 };
		r.rax = calls[rnd() % (sizeof(calls) / sizeof(calls[0]))];
	}
	jump(&r);
}

static int hostile(void)
{
	static u8 canary[16 * PAGE];
	int ends[128] = { 0 };

	for (unsigned k = 0; k < sizeof(canary); k++)
		canary[k] = (u8)(k * 7);
	for (unsigned n = 0; n < 900; n++) {
		pid_t p = fork();
		int st;

		if (!p) {
			for (const int *s = (const int[]){ SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM, 0 }; *s; s++)
				signal(*s, SIG_DFL);
			seed = n * 77 + 1;
			rnd(), rnd();
			attack(n);
			_exit(99);
		}
		/* One that the alarm does not reach is killed. */
		for (int k = 0; k < 400 && !waitpid(p, &st, WNOHANG); k++)
			usleep(k < 20 ? 500 : 10000);
		kill(p, SIGKILL);
		waitpid(p, &st, 0);
		ends[WIFSIGNALED(st) ? WTERMSIG(st) & 127 : 0]++;
		for (unsigned k = 0; k < sizeof(canary); k++)
			if (canary[k] != (u8)(k * 7))
				return fail("memory of another process was changed (%u)", n);
	}
	printf("direct: hostile: %d by SIGSEGV, %d SIGILL, %d SIGALRM, %d SIGKILL, %d exits\n", ends[SIGSEGV], ends[SIGILL], ends[SIGALRM], ends[SIGKILL], ends[0]);
	return ends[SIGSEGV] + ends[SIGILL] ? 0 : fail("no attack was stopped");
}

/* ---- all ---- */

static const struct {
	const char *name;
	int (*run)(void);
} parts[] = {
	{ "registers", registers }, { "once", once },           { "memory", memory },       { "moving", moving }, { "cpuid", cpuid },   { "made-code", made_code },
	{ "changing-code", changing_code }, { "traps", traps }, { "interrupted", interrupted }, { "threads", threads }, { "hostile", hostile }, { "registers-again", registers },
};

int main(void)
{
	if (getpid() == 1) {
		int fd = open("/dev/console", O_RDWR);

		dup2(fd, 0), dup2(fd, 1), dup2(fd, 2);
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	catch_faults();
	for (unsigned k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) {
		if (parts[k].run())
			printf("direct: %s FAILED: %s\n", parts[k].name, why);
		else
			printf("direct: %s ok\n", parts[k].name);
	}
	printf("direct: done\n");
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	return 0;
}
