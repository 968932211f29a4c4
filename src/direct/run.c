/* SPDX-License-Identifier: MIT */
/*
 * Entering guest code and coming back, and when it is worth it.
 *
 * A way out and back takes some microseconds, a system call of the guest's in the engines a fraction of one. So an address space is run directly once
 * its user code was found running for long between its returns from the kernel (sample), and no more for a while when it comes out often (judge).
 */
#include "direct/direct.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "base/agent.h"
#include "base/log.h"
#include "base/process.h"
#include "base/ramfile.h"
#include "base/string.h"
#include "base/sys.h"
#include "cpu/cr.h"
#include "cpu/fpu.h"
#include "direct/space.h"
#include "interp/debug.h"
#include "interp/interp.h"
#include "mem/mem.h"
#include "mmu/mmu.h"
#include "translate/engine.h"

#define SPACES 4u
#define NOWHERE (D_BASE + 0xdead000) /* in the half TiB where nothing of the guest's is (space_collides) */
/* What the host's Linux gives user code; guests that are Linux have the same. */
#define USER_CS 0x33
#define USER_SS 0x2b

/* Microseconds. */
#define LONG_RUN 40u      /* of user code between two entries from the kernel, by which it is found */
#define SHORT_STAY 14u    /* from entry to exit, below which it does not pay, in the mean */
#define MAP_COST 15u      /* of a page that is missing in the process */
#define BAN_FIRST 2000u   /* finding out that it still does not pay takes some 300 */
#define BAN_LAST 20000u
#define LOOK_EVERY 100000u
#define STOP_FOR 100000u  /* after a process was lost */

struct direct {
	struct space *space[SPACES];
	bool off;           /* this host does not allow it */
	u64 looked;         /* TSC: when the thread was found to have no filter of system calls (ready()) */
	bool step;          /* the next block is the engine's */
	u64 sampled;        /* TSC */
	u64 sampled_entries;
	u64 sampled_root;
	u64 not_before;     /* TSC: no new process until then */
	u64 us;             /* TSC ticks */
	struct {
		bool valid;
		gva_t va;
		int kind;
		u64 root;
		u32 error;
	} last_fault;       /* that the guest had to deal with */
};

/* The order of the registers in struct dcontext. */
static const u8 order[16] = { R_8, R_9, R_10, R_11, R_12, R_13, R_14, R_15, R_DI, R_SI, R_BP, R_BX, R_DX, R_AX, R_CX, R_SP };

/* ---- can this state be run? ---- */

static bool flat_null(const struct cpu *c, unsigned s)
{
	return !(c->seg[s].sel & ~3u);
}

static bool able(const struct cpu *c)
{
	const u32 not = X86_TF | X86_IOPL | X86_NT | X86_VM | X86_AC | X86_ID;
	u32 fpu = FPU_OK_X87 | FPU_OK_SSE | (c->xcr0 & 4 ? FPU_OK_AVX : 0);

	return c->cpl == 3 && cpu_is_64(c) && (c->rflags & (not | X86_IF)) == X86_IF && c->seg[S_CS].sel == USER_CS && c->seg[S_SS].sel == USER_SS &&
	       flat_null(c, S_DS) && flat_null(c, S_ES) && flat_null(c, S_FS) && flat_null(c, S_GS) && c->rip < D_USER_END && !(c->cr4 & CR4_LA57) &&
	       (c->fpu_ok & fpu) == fpu && !c->ev.shadow && !c->gdbg.flags && !debug_active(c) && !c->look_all && !c->interp->want_single;
}

/* ---- state ---- */

static u32 image_size(const struct cpu *c)
{
	u32 size = XSAVE_EXT;

	for (unsigned n = 2; n < XC_COUNT; n++)
		if (c->fpu_mask & BIT(n))
			size = MAX(size, (u32)c->xs_off[n] + c->xs_size[n]);
	return size;
}

/* struct _fpx_sw_bytes, in the last 48 of the 512 bytes of the legacy area */
struct sw_bytes {
	u32 magic1, extended_size;
	u64 xfeatures;
	u32 xstate_size, pad[7];
};
#define SW_AT 464u
#define MAGIC1 0x46505853u
#define MAGIC2 0x46505845u

static void put_state(struct cpu *c, struct dprocess *p)
{
	struct dctl *ctl = dprocess_ctl(p);
	struct dcontext *u = (struct dcontext *)(p->region + D_FRAME_AT);
	u8 *image = p->region + D_FRAME_AT + D_FPSTATE_AT;
	u32 size = image_size(c);

	ctl->fs = c->seg[S_FS].base;
	ctl->gs = c->seg[S_GS].base;
	memset(u, 0, sizeof(*u));
	u->flags = 7; /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
	u->stack_sp = D_BASE + D_STACK_AT;
	u->stack_size = D_SIZE - D_STACK_AT;
	for (unsigned k = 0; k < 16; k++)
		u->gpr[k] = c->gpr[order[k]];
	u->rip = c->rip;
	u->eflags = cpu_get_rflags(c);
	u->cs = USER_CS;
	u->ss = USER_SS;
	u->fpstate = D_BASE + D_FRAME_AT + D_FPSTATE_AT;
	memcpy(image, c->xsave, size);
	struct sw_bytes *sw = (struct sw_bytes *)(image + SW_AT);
	memset(sw, 0, sizeof(*sw));
	sw->magic1 = MAGIC1;
	sw->extended_size = size + 4;
	sw->xfeatures = c->fpu_mask;
	sw->xstate_size = size;
	*(u32 *)(image + size) = MAGIC2;
}

/* An address in the guest's stack for signals, where there are n bytes: in this process. */
static const void *on_stack(const struct dprocess *p, u64 at, u64 n)
{
	u64 off = at - (D_BASE + D_STACK_AT), size = D_SIZE - D_STACK_AT;

	return off < size && n <= size - off && !(at & 7) ? p->region + D_STACK_AT + off : NULL;
}

/* What guest code has left. It can write there what it likes: all that is taken is what it can have in its registers. */
static bool get_state(struct cpu *c, const struct dprocess *p, const struct dstop *s, struct dcontext *u)
{
	const void *at = on_stack(p, s->arg[2], sizeof(*u));
	u32 size = image_size(c);
	const u32 users = X86_DF | X86_ID | X86_AC | X86_NT | X86_TF;

	if (!at)
		return false;
	memcpy(u, at, sizeof(*u));
	const u8 *image = on_stack(p, u->fpstate, size);
	if (!image || u->fpstate & 63 || u->rip >= D_USER_END || !cpu_canonical(c, s->arg[4]) || !cpu_canonical(c, s->arg[5]))
		return false;
	for (unsigned k = 0; k < 16; k++)
		c->gpr[order[k]] = u->gpr[k];
	c->rip = u->rip;
	c->af = cpu_flags_to_af((u32)u->eflags);
	c->rflags = (c->rflags & ~users) | ((u32)u->eflags & users);
	if (unlikely(c->rflags & X86_AC))
		cpu_update_mode(c);
	c->seg[S_FS].base = s->arg[4];
	c->seg[S_GS].base = s->arg[5];
	memcpy(c->xsave, image, size);
	memset(c->xsave + SW_AT, 0, 48);
	memset(c->xsave + XSAVE_HDR + 8, 0, 56);
	*xs_bv(c) &= c->fpu_mask & (c->xcr0 | 3);
	*(u32 *)(c->xsave + 24) &= c->mxcsr_mask;
	*(u32 *)(c->xsave + 28) = c->mxcsr_mask;
	return true;
}

/* ---- when ---- */

static void no_more(struct cpu *c)
{
	c->direct_root = c->direct_next = ~0ull;
}

static struct space *space_of(struct direct *d, u64 root)
{
	for (unsigned k = 0; k < SPACES; k++)
		if (d->space[k] && d->space[k]->root == root)
			return d->space[k];
	return NULL;
}

static void lose(struct cpu *c, struct space *s)
{
	struct direct *d = c->direct;

	log_info(direct, "the process for address space %#llx was lost", (unsigned long long)s->root);
	for (unsigned k = 0; k < SPACES; k++)
		if (d->space[k] == s)
			d->space[k] = NULL;
	space_free(s);
	d->not_before = host_rdtsc() + STOP_FOR * d->us;
	no_more(c);
}

static struct space *get_space(struct cpu *c, u64 root)
{
	struct direct *d = c->direct;
	struct space *s = space_of(d, root), *old = NULL;
	unsigned place = 0;
	int err;

	if (s && s->files != ramfile_generation()) {
		s->root = ~0ull;
		s->used = 0;
		s = NULL;
	}
	if (s)
		return s;
	if (host_rdtsc() < d->not_before)
		return NULL;
	for (unsigned k = 0; k < SPACES; k++) {
		if (!d->space[k]) {
			place = k, old = NULL;
			break;
		}
		if (!old || d->space[k]->used < old->used)
			old = d->space[k], place = k;
	}
	if (old && old->files != ramfile_generation()) {
		space_free(old);
		d->space[place] = old = NULL;
	}
	if (!old) {
		s = space_new(&err);
		if (!s) {
			log_info(direct, "user code cannot be run directly here: %d", err);
			d->off = true;
			return NULL;
		}
		d->space[place] = old = s;
	}
	if (!space_take(c, old, root)) {
		lose(c, old);
		return NULL;
	}
	return old;
}

/*
 * Something was requested while user code ran in the engine, a timer's tick mostly: has it run for long, for what it needs the kernel?
 * Making a process takes milliseconds: for the first, twice.
 */
static void sample(struct cpu *c)
{
	struct direct *d = c->direct;
	u64 now = host_rdtsc(), root = c->cr3 & CPU_ROOT_MASK, entries = c->user_entries - d->sampled_entries, time = now - d->sampled;

	if (d->off || time < 200 * d->us)
		return;
	bool same = d->sampled_root == root;
	d->sampled = now;
	d->sampled_entries = c->user_entries;
	d->sampled_root = root;
	struct space *s = space_of(d, root);
	if (s && s->banned > now)
		return;
	if (time / (entries + 1) < LONG_RUN * d->us || (!s && !same && !d->space[0]) || !able(c))
		return;
	if (log_on(direct, LOG_DEBUG))
		cpu_fpu_put(c); /* formatting uses vector registers */
	log_debug(direct, "address space %#llx ran for %llu us with %llu entries", (unsigned long long)root, (unsigned long long)(time / d->us), (unsigned long long)entries);
	c->direct_root = c->direct_next = root;
}

/* Does it pay? */
static void judge(struct cpu *c, struct space *s, s64 stay)
{
	struct direct *d = c->direct;

	s->mean += (u64)MAX(stay, 0) / 16 - s->mean / 16;
	if (likely(s->mean >= SHORT_STAY * d->us) || process_direct == DIRECT_ALWAYS) {
		if (s->mean > 20 * SHORT_STAY * d->us)
			s->ban = 0;
		return;
	}
	s->ban = s->ban ? MIN(2 * s->ban, BAN_LAST * d->us) : BAN_FIRST * d->us;
	s->banned = host_rdtsc() + s->ban;
	log_debug(direct, "address space %#llx comes out every %llu us: not for %llu us", (unsigned long long)s->root, (unsigned long long)(s->mean / d->us),
		  (unsigned long long)(s->ban / d->us));
	s->mean = 0;
	no_more(c);
}

/* ---- running ---- */

static void drain(int fd)
{
	u64 n;

	sys_read(fd, &n, sizeof(n));
}

/* Go on there; look around; have the engine run a block; have it go on from here; an exception of the guest's own. */
enum { STAY, LEAVE, STEP, NOT, PAGE_FAULT, SINGLE_STEP };

static int on_page_fault(struct cpu *c, struct space *s, const struct dcontext *u)
{
	struct direct *d = c->direct;
	int kind = u->err & PF_I ? MMU_X : u->err & PF_W ? MMU_W : MMU_R;
	gva_t va = u->cr2;
	u32 error = 0;

	switch (space_fault(c, s, va, kind, &error)) {
	case SPACE_MAPPED:
		return STAY;
	case SPACE_FAULT:
		d->last_fault.valid = true;
		d->last_fault.va = va;
		d->last_fault.kind = kind;
		d->last_fault.root = s->root;
		d->last_fault.error = error;
		return PAGE_FAULT;
	case SPACE_CANNOT:
		return kind == MMU_X ? NOT : STEP; /* such a page is not left at once */
	default:
		lose(c, s);
		return LEAVE;
	}
}

/* What is there for guest code to do now that it has stopped. */
static int on_stop(struct cpu *c, struct space *s, const struct dstop *stop, const struct dcontext *u)
{
	switch (stop->what) {
	case D_KICK:
		return LEAVE;
	case SIGBUS:
		return STEP; /* there is no memory: the engine tells the monitor */
	case SIGSEGV:
		if (u->trapno == EX_PF)
			return on_page_fault(c, s, u);
		return STEP;
	case SIGSYS: {
		const siginfo_t *info = on_stack(s->p, stop->arg[1], sizeof(*info));

		/* The kernel has executed a call of its own page, and put the guest behind the one that went there. */
		if (info && (u64)info->si_call_addr >> 63) {
			c->rip = (u64)info->si_call_addr & ~1023ull;
			c->gpr[R_SP] -= 8;
			return STEP;
		}
		c->rip -= 2; /* SYSCALL, INT 80h */
		return STEP;
	}
	case SIGTRAP:
		if (u->trapno == EX_BP) {
			u8 last;
			struct mmu_result r;

			/* CC or CD 03: the trap is behind it. The page is there: it was executed. */
			if (mmu_peek(c, c->rip - 1, MMU_USER, &r) || mem_read(c->mem, r.gpa, &last, 1))
				return STEP;
			c->rip -= last == 0xcc ? 1 : 2;
			return STEP;
		}
		if (u->trapno == EX_DB && u->eflags & X86_TF)
			return SINGLE_STEP;
		if (u->trapno == EX_DB)
			c->rip -= 1; /* INT1 */
		return STEP;
	default:
		return STEP;
	}
}

/* The host's selectors that guest code may have loaded: flat data, and code that can be read. */
static void take_selectors(struct cpu *c, u64 all)
{
	if (likely(!(all & ~3ull)))
		return;
	/* Which of the four had it is not known; all of them are alike but for the base. */
	for (unsigned k = S_DS; k <= S_GS; k++)
		if (k != S_CS && k != S_SS)
			c->seg[k].sel = (u16)all;
}

/* The kernel has seen to the page that guest code was missing, most likely: then it need not come out for it again. */
static bool repeat_fault(struct cpu *c, struct space *s)
{
	struct direct *d = c->direct;
	struct mmu_result r;
	u32 error;

	if (!d->last_fault.valid)
		return true;
	d->last_fault.valid = false;
	if (d->last_fault.root != s->root || mmu_peek(c, d->last_fault.va, MMU_USER, &r))
		return true;
	if (!(d->last_fault.kind == MMU_W ? r.write : d->last_fault.kind == MMU_X ? r.exec : r.read))
		return true;
	return space_fault(c, s, d->last_fault.va, d->last_fault.kind, &error) != SPACE_BROKEN;
}

/* A monitor's filter would kill it for the calls that are made here, and may come at any time. */
static bool free_to_call(struct direct *d)
{
	u64 now = host_rdtsc();

	if (d->looked && now - d->looked < LOOK_EVERY * d->us)
		return true;
	if (process_confined()) {
		d->off = true;
		return false;
	}
	d->looked = now;
	return true;
}

static struct space *ready(struct cpu *c)
{
	struct space *s = free_to_call(c->direct) ? get_space(c, c->cr3 & CPU_ROOT_MASK) : NULL;

	if (s && space_sync(c, s) && repeat_fault(c, s)) {
		if (!s->mean)
			s->mean = 4 * SHORT_STAY * c->direct->us;
		return s;
	}
	if (s)
		lose(c, s);
	return NULL;
}

/* From here until guest code stops. False: a request came first. */
static bool go(struct cpu *c, struct space *s, struct dstop *stop)
{
	put_state(c, s->p);
	__atomic_store_n(&c->away, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&c->requests, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&c->away, 0, __ATOMIC_SEQ_CST);
		return false;
	}
	stat_add(&c->xstat[XS_DIRECT], 1);
	stop->what = 0;
	stop->woken = false;
	if (!dprocess_go(s->p))
		dprocess_wait(s->p, c->wake_fd, stop);
	__atomic_store_n(&c->away, 0, __ATOMIC_SEQ_CST);
	if (stop->woken)
		drain(c->wake_fd);
	return true;
}

static enum direct_result run(struct cpu *c)
{
	struct direct *d = c->direct;
	struct dcontext u;
	struct dstop stop;
	struct space *s = NULL;
	s64 total = 0;
	int next;

	if (d->step) {
		d->step = false;
		return DIRECT_STEP;
	}
	if (!d->off && able(c) && !space_collides(c)) {
		cpu_fpu_put(c);
		s = ready(c);
	}
	if (!s) {
		no_more(c);
		return DIRECT_NOT;
	}
	c->rflags &= ~X86_RF; /* no breakpoint that it could stand against */
	do {
		s->used = host_rdtsc();
		if (!go(c, s, &stop))
			return DIRECT_RAN;
		u64 stay = host_rdtsc() - s->used;
		stat_add(&c->xstat[XS_DIRECT_TSC], stay);
		if (!stop.what || !get_state(c, s->p, &stop, &u)) {
			/*
			 * Guest code that does not come out or destroys its way out, or whose process was killed: its registers are lost. What it did
			 * to memory cannot be done again; so its kernel is told that it jumped to where nothing is.
			 */
			lose(c, s);
			d->not_before = host_rdtsc() + 10 * STOP_FOR * d->us;
			c->rip = NOWHERE;
			c->gpr[R_SP] = 0;
			return DIRECT_RAN;
		}
		take_selectors(c, stop.arg[3]);
		total += (s64)stay;
		if (stop.what == D_KICK)
			return DIRECT_RAN;
		u64 rip = c->rip;
		next = on_stop(c, s, &stop, &u);
		log_trace(direct, "%llu us at %#llx, stop %llu trap %llu cr2 %#llx: %d", (unsigned long long)(stay / d->us), (unsigned long long)rip,
			  (unsigned long long)stop.what, (unsigned long long)u.trapno, (unsigned long long)u.cr2, next);
		total -= next == STAY ? (s64)(MAP_COST * d->us) : 0;
	} while (next == STAY && c->direct_root != ~0ull);
	judge(c, s, total);
	d->step = next == STEP && c->direct_root != ~0ull;
	c->cur = NULL;
	if (next == PAGE_FAULT) {
		c->cr2 = d->last_fault.va;
		cpu_raise(c, EX_PF, true, d->last_fault.error);
	}
	if (next == SINGLE_STEP)
		debug_raise(c, DR6_BS);
	if (next != NOT)
		return DIRECT_RAN;
	log_debug(direct, "code at %#llx must not run as it is", (unsigned long long)c->rip);
	c->direct_root = ~0ull; /* until the kernel returns to it once more */
	return DIRECT_NOT;
}

/* ---- the engine ---- */

static void destroy(struct cpu *c)
{
	struct direct *d = c->direct;

	if (d) {
		for (unsigned k = 0; k < SPACES; k++)
			if (d->space[k])
				space_free(d->space[k]);
		if (c->wake_fd >= 0)
			sys_close(c->wake_fd);
		free(d);
		c->direct = NULL;
	}
	translate_engine.destroy(c);
}

static int init(struct cpu *c)
{
	struct direct *d;
	int r = translate_engine.init(c);

	if (r)
		return r;
	no_more(c);
	c->wake_fd = -1;
	d = calloc(1, sizeof(*d));
	if (!d) {
		translate_engine.destroy(c);
		return -ENOMEM;
	}
	d->us = process_tsc_khz() / 1000;
	c->wake_fd = (int)agent_sys3(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK, 0);
	c->direct = d;
	if (c->wake_fd < 0)
		d->off = true;
	c->interp->run_direct = run;
	c->interp->sample_user = sample;
	return 0;
}

const struct cpu_engine direct_engine = { "auto", init, destroy, interp_run };
