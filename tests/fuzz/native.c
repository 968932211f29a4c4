/* SPDX-License-Identifier: MIT */
/*
 * The host's side. A child process (so that nothing of a library preloaded into this one is on the way, and a crash is only a
 * crash) runs a batch inside one chain of signals: each handler invocation stores what the last case left in the signal frame, puts the
 * next case's registers into the same frame and returns, which loads all of them at once.
 *
 * 32-bit code is entered the same way, by another CS in the frame; its data segments are loaded once a batch, and 64-bit code does not
 * look at them.
 *
 * From the first case on the child calls no library function: FS is the tests'. System calls are made directly.
 */
#include <asm/ldt.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "fuzz.h"

static pid_t child;
static int to_child = -1, from_child = -1;

static struct share *shm;
static u8 *data_rw, *code_rw;  /* aliases of the tested pages, writable */
static volatile u32 running;   /* 0: the loop's own trap; 1: a case */
static greg_t loop_gpr[23];
static u8 loop_xs[XS_SIZE + 64] __attribute__((aligned(64)));
static u32 frame_xs_len;

static inline long sys3(long n, long a, long b, long c)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}

static inline long sys4(long n, long a, long b, long c, long d)
{
	long r;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return r;
}

static inline void copy(void *d, const void *s, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
}

/* Order of the kernel's gregs: r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, efl. */
static const u8 greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
	REG_R12, REG_R13, REG_R14, REG_R15};

static u64 base_get(int gs)
{
	u64 v = 0;
	if (host_has_fsgsbase()) {
		if (gs)
			__asm__ volatile("rdgsbase %0" : "=r"(v));
		else
			__asm__ volatile("rdfsbase %0" : "=r"(v));
	} else {
		sys3(SYS_arch_prctl, gs ? 0x1004 : 0x1003, (long)&v, 0);
	}
	return v;
}

static void base_set(int gs, u64 v)
{
	if (host_has_fsgsbase()) {
		if (gs)
			__asm__ volatile("wrgsbase %0" ::"r"(v));
		else
			__asm__ volatile("wrfsbase %0" ::"r"(v));
	} else {
		sys3(SYS_arch_prctl, gs ? 0x1001 : 0x1002, v, 0);
	}
}

/* The segments of 32-bit code; nothing but the base of FS is not flat. */
__attribute__((no_stack_protector)) static int segments32(u64 fs)
{
	struct user_desc d = {.entry_number = 0, .base_addr = fs, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1};

	__asm__ volatile("mov %0, %%fs\n\tmov %0, %%gs" ::"r"(0));
	if (sys3(SYS_modify_ldt, 0x11, (long)&d, sizeof(d)) < 0)
		return -1;
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %1, %%fs" ::"r"(SEL_DATA), "r"(SEL_FS32));
	return 0;
}

static void segments64(void)
{
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %0, %%fs\n\tmov %0, %%gs" ::"r"(0));
}

static void store(ucontext_t *uc, struct outcome *o)
{
	const struct tcase *t = &shm->in[shm->at];
	greg_t *g = uc->uc_mcontext.gregs;

	for (int i = 0; i < 16; i++)
		o->gpr[i] = g[greg_of[i]];
	o->rip = g[REG_RIP];
	o->rflags = g[REG_EFL];
	o->vector = g[REG_TRAPNO];
	o->error = g[REG_ERR];
	o->cr2 = g[REG_TRAPNO] == 14 ? g[REG_CR2] : 0;
	o->fs = code_bits == 32 ? t->fs : base_get(0);
	o->gs = code_bits == 32 ? t->gs : base_get(1);
	o->kvm_exit = 0;
	if (t->vec)
		copy(o->xs, uc->uc_mcontext.fpregs, frame_xs_len);
	changed(shm->data, data_rw, o);
	if (o->lo < o->hi)
		copy(data_rw + o->lo, shm->data + o->lo, o->hi - o->lo);
	for (unsigned i = 0; i < t->npoke; i++)
		copy(data_rw + t->poke[i].off, shm->data + t->poke[i].off, t->poke[i].len);
}

static void load(ucontext_t *uc)
{
	const struct tcase *t = &shm->in[shm->at];
	greg_t *g = uc->uc_mcontext.gregs;
	u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
	u64 keep;

	for (int i = 0; i < 16; i++)
		g[greg_of[i]] = t->gpr[i];
	g[REG_RIP] = t->entry;
	g[REG_EFL] = t->rflags;
	for (unsigned i = 0; i < t->npoke; i++)
		copy(data_rw + t->poke[i].off, t->poke[i].data, t->poke[i].len);
	if (code_bits == 32) {
		((u16 *)&g[REG_CSGSFS])[0] = SEL_CODE32;
		((u16 *)&g[REG_CSGSFS])[3] = SEL_DATA;
	} else {
		base_set(0, t->fs);
		base_set(1, t->gs);
	}
	/* Bytes 464..511 of the frame are the kernel's description of it. */
	copy(fp, t->xs, 464);
	copy(fp + 512, t->xs + 512, frame_xs_len - 512);
	keep = host_xcr0 & 0xff;
	*(u64 *)(fp + 512) &= keep;
}

/* Runs on the alternate stack, with AC and the like cleared by the entry below. */
__attribute__((used, no_stack_protector)) static void on_signal(int sig, siginfo_t *si, ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	u8 *fp = (u8 *)uc->uc_mcontext.fpregs;

	if (!running) {
		for (int i = 0; i < 23; i++)
			loop_gpr[i] = g[i];
		frame_xs_len = *(u32 *)(fp + 464 + 16);
		if (frame_xs_len > XS_SIZE || frame_xs_len < 576)
			frame_xs_len = 512;
		copy(loop_xs, fp, frame_xs_len);
		shm->at = 0;
		running = 1;
		load(uc);
		return;
	}
	store(uc, &shm->out[shm->at]);
	if (shm->at + 1 < shm->n) {
		shm->at++;
		load(uc);
		return;
	}
	running = 0;
	for (int i = 0; i <= REG_CSGSFS; i++)
		g[i] = loop_gpr[i];
	copy(fp, loop_xs, frame_xs_len);
}

void native_entry(void);
void native_restorer(void);
__asm__(".text\n"
	".globl native_entry\n.hidden native_entry\n"
	"native_entry:\n"
	"pushq $2\n\tpopfq\n"
	"jmp on_signal\n"
	".globl native_restorer\n.hidden native_restorer\n"
	"native_restorer:\n"
	"movl $15, %eax\n\tsyscall\n");

struct ksigaction {
	void (*handler)(void);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};

static int map_pages(void)
{
	int fd = memfd_create("fuzz", 0);
	size_t len = DATA_SIZE + CODE_SIZE;
	u8 *all;

	if (fd < 0 || ftruncate(fd, len))
		return -1;
	all = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (all == MAP_FAILED)
		return -1;
	data_rw = all;
	code_rw = all + DATA_SIZE;
	for (int i = 0; i < DATA_MAPPED; i++) {
		int prot = i == 2 ? PROT_READ : PROT_READ | PROT_WRITE;
		void *want = (void *)(DATA_FIRST + i * PG);
		if (mmap(want, PG, prot, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, i * PG) != want)
			return -1;
	}
	if (mmap((void *)CODE_BASE, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, DATA_SIZE) !=
		(void *)CODE_BASE)
		return -1;
	/* Touch with the permission they have, so that a fault is never the kernel's business. */
	for (int i = 0; i < DATA_MAPPED; i++)
		if (i != 2)
			*(volatile u8 *)(DATA_FIRST + i * PG) = 0;
		else
			(void)*(volatile u8 *)(DATA_FIRST + i * PG);
	return 0;
}

__attribute__((no_stack_protector)) static void child_main(int in, int out)
{
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	struct ksigaction sa = {native_entry, SA_SIGINFO | SA_ONSTACK | SA_NODEFER | 0x04000000, native_restorer, 0};
	stack_t ss = {.ss_size = 256 * 1024};
	char c = 0;

	ss.ss_sp = mmap(NULL, ss.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (map_pages() || ss.ss_sp == MAP_FAILED)
		_exit(3);
	sys3(SYS_sigaltstack, (long)&ss, 0, 0);
	for (unsigned i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sys4(SYS_rt_sigaction, sigs[i], (long)&sa, 0, 8);
	u64 none = 0;
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, 8);
	u64 fs = base_get(0), gs = base_get(1);
	sys3(SYS_write, out, (long)&c, 1);
	while (sys3(SYS_read, in, (long)&c, 1) == 1) {
		copy(data_rw, shm->data, DATA_SIZE);
		copy(code_rw, shm->code, CODE_SIZE);
		if (shm->n && code_bits == 32 && segments32(shm->in[0].fs))
			break;
		if (shm->n)
			__asm__ volatile("int3" ::: "memory");
		if (code_bits == 32)
			segments64();
		base_set(0, fs);
		base_set(1, gs);
		if (sys3(SYS_write, out, (long)&c, 1) != 1)
			break;
	}
	sys3(SYS_exit_group, 0, 0, 0);
}

int native_start(struct share *sh)
{
	int a[2], b[2];
	char c;

	shm = sh;
	if (pipe(a) || pipe(b))
		return -1;
	fflush(NULL);
	child = fork();
	if (child < 0)
		return -1;
	if (!child) {
		close(a[1]);
		close(b[0]);
		child_main(a[0], b[1]);
	}
	close(a[0]);
	close(b[1]);
	to_child = a[1];
	from_child = b[0];
	if (read(from_child, &c, 1) != 1) {
		fprintf(stderr, "fuzz: the native process does not start: are %#llx and %#llx free?\n", DATA_BASE, CODE_BASE);
		return -1;
	}
	return 0;
}

void native_stop(void)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		close(to_child);
		close(from_child);
		child = 0;
	}
}

int native_batch(struct share *sh)
{
	struct pollfd p = {.fd = from_child, .events = POLLIN};
	char c = 0;

	if (write(to_child, &c, 1) == 1 && poll(&p, 1, 20000) == 1 && read(from_child, &c, 1) == 1)
		return 0;
	native_stop();
	return native_start(sh) ? -2 : -1;
}
