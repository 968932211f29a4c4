/* SPDX-License-Identifier: MIT */
/*
 * The interpreter's run loop: deliver what is to be delivered, find the block at rip, run it, and again.
 *
 * Two ways to run. Normally blocks run one after the other, linked through the jump cache (next_block), until a request comes or an
 * instruction wants the loop. An instruction runs alone when something must be looked at right before or after it: single step and
 * breakpoints, an interrupt shadow, MMIO, a write to a page of code.
 *
 * Everything below the loop unwinds to it by __builtin_longjmp: cpu_raise (a guest fault, recorded in c->ev), cpu_exit (leave the
 * engine), need_single (run that instruction again, alone). Handlers change guest state only when nothing can fault any more, so
 * unwinding leaves the state at the instruction's start.
 */
#include <errno.h>

#include "base/string.h"
#include "cpu/cpuid.h"
#include "interp/debug.h"
#include "interp/event.h"
#include "interp/fast.h"
#include "interp/ops.h"
#include "interp/stub.h"
#include "interp/unwind.h"
#include "mem/mem.h"

static _Noreturn noinline void unwind(struct cpu *c, int why)
{
	c->unwind = why;
	JUMP(c);
}

_Noreturn void cpu_raise(struct cpu *c, unsigned vector, bool has_error, u32 error)
{
	stat_add(&c->stat.exceptions, 1);
	if (!event_raise(c, vector, has_error, error)) {
		c->exit = CPU_EXIT_SHUTDOWN;
		unwind(c, UNWIND_EXIT);
	}
	unwind(c, UNWIND_RAISE);
}

_Noreturn void cpu_exit(struct cpu *c, int exit)
{
	c->exit = exit;
	unwind(c, UNWIND_EXIT);
}

void need_single(struct cpu *c)
{
	if (c->single)
		return;
	if (c->cur)
		c->rip = insn_rip(c, c->cur);
	unwind(c, UNWIND_SINGLE);
}

void interp_note_smc(struct cpu *c, u64 page)
{
	struct interp *in = c->interp;
	if (in->nsmc < ARRAY_SIZE(in->smc))
		in->smc[in->nsmc++] = page;
}

/* ---- op functions ---- */

static always_inline void run_op(struct cpu *c, const struct insn *i)
{
	c->cur = i;
	c->rip = insn_rip(c, i);
	c->next_rip = (c->rip + i->len) & rip_mask(c);
	i->op(c, i);
	c->rip = c->next_rip;
}

const struct insn *h_op(struct cpu *c, const struct insn *i)
{
	run_op(c, i);
	NEXT(c, i);
}

const struct insn *h_op_end(struct cpu *c, const struct insn *i)
{
	run_op(c, i);
	return NULL;
}

/* A repeated string instruction may stop before its end: then the block ends too, and it is run again. */
const struct insn *h_op_rep(struct cpu *c, const struct insn *i)
{
	run_op(c, i);
	if (unlikely(c->rip == insn_rip(c, i)))
		return NULL;
	NEXT(c, i);
}

/* ---- one instruction alone ---- */

static void run_block(struct cpu *c, struct block *b)
{
	struct interp *in = c->interp;

	in->current = b;
	c->gpr[SLOT_BLOCK_RIP] = c->rip;
	stat_add(&c->stat.insns, b->n);
	stat_add(&c->stat.blocks, 1);
	const struct insn *i = b->insn;
#ifdef USEKVM_LOOP_DISPATCH
	while (i)
		i = i->fn(c, i);
#else
	i->fn(c, i);
#endif
}

static void after_single(struct cpu *c)
{
	struct interp *in = c->interp;

	c->single = false;
	c->stop = 0;
	c->mmio.n = c->mmio.replay = 0;
	if (likely(!in->nsmc))
		return;
	for (unsigned k = 0; k < in->nsmc; k++)
		mem_note_write(c->mem, in->smc[k]), block_page_written(c, in->smc[k]);
	in->nsmc = 0;
	cpu_xid_flush(c);
}

static void check_code_breakpoint(struct cpu *c)
{
	if (likely(!debug_active(c)) || c->rflags & X86_RF)
		return;
	u32 hit = debug_match_code(c, cpu_is_64(c) ? c->rip : (u32)(c->seg[S_CS].base + c->rip));
	if (hit)
		debug_raise(c, hit);
}

/* Interrupt instructions enter a handler with TF clear: no single-step trap is left of theirs (SDM 3, 17.3.1.4). */
static bool enters_handler(const struct insn *i)
{
	return i->op == op_int_n || i->op == op_int3 || i->op == op_into || i->op == op_int1;
}

/*
 * SYSCALL and SYSRET trap by the TF that they leave behind, not by the one they find: a kernel masks it, and user code that is stepped goes on
 * being stepped from the SYSCALL's return.
 */
static bool traps_by_new_tf(const struct insn *i)
{
	return i->op == op_syscall || i->op == op_sysret;
}

/* IRET brings its own RF; every other instruction clears it when it completes (SDM 3, 17.3.1.1). */
static bool loads_flags(const struct insn *i)
{
	return i->op == op_iret;
}

static void run_single(struct cpu *c)
{
	struct interp *in = c->interp;
	bool tf = c->rflags & X86_TF, rf = c->rflags & X86_RF, vmm_step = c->gdbg.flags & KVM_GUESTDBG_SINGLESTEP;

	stat_add(&c->xstat[in->want_single ? XS_FALL_ALONE : XS_FALL_DEBUG], 1);
	in->want_single = false;
	in->shadow = c->ev.shadow;
	in->watch_hits = 0;
	in->held_now = in->held;
	in->held = 0;
	if (c->look_all != debug_active(c)) {
		c->look_all = !c->look_all;
		cpu_update_mode(c);
	}
	c->mmio.replay = 0;
	c->single = true;
	c->stop = 1;
	check_code_breakpoint(c);
	u64 rip = c->rip;
	struct block *b = block_find(c);
	if (!b)
		b = block_find(c); /* single now: at most one instruction, or #GP */
	c->ev.shadow = 0;
	run_block(c, b);
	in->current = NULL;
	if (rf && c->rip != rip && !loads_flags(&b->insn[0]))
		c->rflags &= ~X86_RF;
	if (in->shadow && !c->ev.shadow && (c->ev.want_irq_window || c->ev.want_nmi_window))
		cpu_request(c, CPU_REQ_EVENT); /* STI asked while its shadow still held */
	after_single(c);
	u32 hits = in->watch_hits | in->held_now;
	if (traps_by_new_tf(&b->insn[0]))
		tf = c->rflags & X86_TF;
	else if (tf && !(c->rflags & X86_TF) && enters_handler(&b->insn[0]))
		tf = false;
	if (unlikely(hits && b->insn[0].op == op_int1)) { /* a MOV SS before ICEBP: one #DB for both */
		c->dr6 |= hits;
		hits = 0;
	}
	if (unlikely(c->ev.shadow & KVM_X86_SHADOW_INT_MOV_SS))
		in->held = hits; /* a data breakpoint of MOV SS comes behind the next instruction (SDM 3, 6.8.3) */
	else if (unlikely(tf || vmm_step || hits))
		debug_raise(c, hits | (tf || vmm_step ? DR6_BS : 0));
}

bool interp_alone(const struct cpu *c)
{
	return c->interp->want_single | !!(c->rflags & (X86_TF | X86_RF)) | !!c->ev.shadow | !!c->gdbg.flags | debug_active(c) | c->look_all;
}

/* ---- the loop ---- */

static void deliver(struct cpu *c)
{
	c->single = true; /* a stack on MMIO or on a page of code needs no special care here */
	c->mmio.replay = 0;
	event_run(c);
	after_single(c);
	/* What could not be injected beside it comes before the handler's first instruction. */
	if (unlikely((c->ev.want_nmi_window && !c->ev.nmi_masked) || (c->ev.want_irq_window && c->rflags & X86_IF)))
		cpu_request(c, CPU_REQ_EVENT);
}

/* Answers that the VMM left before the last entry. */
static void finish_pending(struct cpu *c)
{
	if (c->io.state == IO_DONE) {
		bool step = c->rflags & X86_TF || c->gdbg.flags & KVM_GUESTDBG_SINGLESTEP, done;
		u64 rip = c->rip;

		c->ev.shadow = 0;
		c->single = true;
		c->mmio.replay = 0;
		c->interp->watch_hits = 0;
		done = interp_complete_io(c);
		after_single(c);
		if (c->rip != rip)
			c->rflags &= ~X86_RF;
		if (unlikely(done && (step || c->interp->watch_hits)))
			debug_raise(c, c->interp->watch_hits | (step ? DR6_BS : 0));
	}
	if (c->mmio.n && !event_injected(c)) {
		if (c->mmio.frag[c->mmio.n - 1].done && c->mmio.rip == c->rip)
			run_single(c);
		else
			c->mmio.n = 0;
	}
}

static int loop(struct cpu *c)
{
	struct interp *in = c->interp;

	for (;;) {
		if (unlikely(load_relaxed(&c->requests) & (CPU_REQ_CODE | CPU_REQ_XID))) {
			u32 req = __atomic_fetch_and(&c->requests, ~(u32)(CPU_REQ_CODE | CPU_REQ_XID), __ATOMIC_SEQ_CST);
			cpu_xid_flush(c);
			if (req & CPU_REQ_CODE)
				block_flush_all(c);
		}
		if (unlikely(c->mmio.n || c->io.state == IO_DONE))
			finish_pending(c);
		if (unlikely(event_injected(c)))
			deliver(c);
		if (unlikely(load_acquire(&c->requests) || in->complete_only)) {
			if (c->cpl == 3 && in->sample_user)
				in->sample_user(c);
			return CPU_EXIT_REQUEST;
		}
		enum direct_result direct = DIRECT_NOT;
		if (direct_wanted(c)) {
			direct = in->run_direct(c);
			if (direct == DIRECT_RAN)
				continue;
		}
		if (unlikely(interp_alone(c))) {
			run_single(c);
			continue;
		}
		struct block *b = block_find(c);
		if (unlikely(direct == DIRECT_STEP && b)) {
			c->stop = 1; /* behind this block */
			run_block(c, b);
			c->stop = 0;
		} else if (likely(b) && !(in->run_unit && in->run_unit(c, b))) {
			run_block(c, b);
		}
		in->current = NULL;
	}
}

/* An instruction was left in the middle: what it and the rest of its block did not execute is not counted. HLT is done, IN and OUT soon are. */
static void uncount(struct cpu *c)
{
	struct block *b = c->interp->current;
	bool done = c->unwind == UNWIND_EXIT && (c->exit == CPU_EXIT_HLT || c->exit == CPU_EXIT_IO);

	if (b && c->cur >= b->insn && c->cur < b->insn + b->n)
		stat_add(&c->stat.insns, -(u64)(b->n - (c->cur - b->insn) - done));
	c->interp->current = NULL;
}

/* True: go on in the loop. */
static bool unwound(struct cpu *c)
{
	struct interp *in = c->interp;

	uncount(c);
	if (c->x_since) {
		stat_add(&c->xstat[XS_RUN_TSC], host_rdtsc() - c->x_since);
		c->x_since = 0;
	}
	if (c->unwind == UNWIND_SINGLE) {
		in->want_single = true;
		c->single = false;
		c->stop = 0;
		return true;
	}
	if (c->single && c->unwind == UNWIND_EXIT && c->exit != CPU_EXIT_HLT)
		c->ev.shadow = in->shadow, in->held = in->held_now; /* the instruction is not done yet */
	in->shadow = 0;
	unsigned n = c->mmio.n;
	after_single(c);
	if (c->unwind == UNWIND_EXIT && c->exit == CPU_EXIT_MMIO)
		c->mmio.n = n;
	return c->unwind == UNWIND_RAISE;
}

static int enter(struct cpu *c)
{
	struct interp *in = c->interp;
	int ret;

	in->entry_gen++;
	if (c->code_stale || !(c->cr0 & CR0_PG)) {
		c->code_stale = false;
		cpu_xid_flush(c);
	}
	c->in_engine = true;
	if (CATCH_JUMP(c)) {
		if (!unwound(c)) {
			ret = c->exit;
			goto out;
		}
	}
	ret = loop(c);
out:
	c->in_engine = false;
	cpu_fpu_put(c);
	return ret;
}

int interp_run(struct cpu *c)
{
	c->interp->complete_only = false;
	return enter(c);
}

int interp_complete(struct cpu *c)
{
	if (c->io.state != IO_DONE && !c->mmio.n)
		return CPU_EXIT_REQUEST;
	c->interp->complete_only = true;
	return enter(c);
}

int interp_init(struct cpu *c)
{
	int r = block_init(c);
	if (r)
		return r;
	r = stub_init(c);
	if (r)
		block_destroy(c);
	return r;
}

void interp_destroy(struct cpu *c)
{
	stub_destroy(c);
	block_destroy(c);
}

const struct cpu_engine interp_engine = { "interp", interp_init, interp_destroy, interp_run };
