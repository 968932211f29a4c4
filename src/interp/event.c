/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and interrupts: SDM 3, chapter 6 (protected and 64-bit mode), chapter 20 (real and virtual-8086 mode).
 *
 * A delivery writes the new stack first and the registers last, so a fault in the middle leaves only garbage below the stack pointer.
 */
#include "interp/event.h"

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "interp/access.h"
#include "interp/debug.h"
#include "interp/seg.h"

/* ---- which event, and what a fault inside a delivery makes of it ---- */

static bool contributory(unsigned v)
{
	return v == EX_DE || (v >= EX_TS && v <= EX_GP);
}

/* Such an event stands in c->ev only if the VMM put it there, usually an INT3 that was no breakpoint of its own. */
static bool soft(unsigned vector)
{
	return vector == EX_BP || vector == EX_OF;
}

bool event_raise(struct cpu *c, unsigned vector, bool has_error, u32 error)
{
	struct cpu_events *ev = &c->ev;
	bool in_delivery = event_injected(c);

	if (ev->exc_injected) {
		unsigned first = ev->exc_vector;

		if (first == EX_DF && (contributory(vector) || vector == EX_PF)) {
			ev->exc_injected = ev->nmi_injected = ev->intr_injected = false;
			return false;
		}
		if ((contributory(first) && contributory(vector)) || (first == EX_PF && (contributory(vector) || vector == EX_PF))) {
			vector = EX_DF;
			has_error = true;
			error = 0;
		}
	}
	/* EXT: the fault came up while something from outside the program was being delivered. */
	if (in_delivery && !(ev->exc_injected && soft(ev->exc_vector)) && has_error && vector >= EX_TS && vector <= EX_GP)
		error |= 1;
	ev->intr_injected = ev->nmi_injected = false;
	ev->exc_pending = false;
	ev->exc_injected = true;
	ev->exc_vector = (u8)vector;
	ev->exc_has_error = has_error;
	ev->exc_error = has_error ? error : 0;
	return true;
}

void event_run(struct cpu *c)
{
	struct cpu_events *ev = &c->ev;

	c->cur = NULL;
	if (ev->exc_injected) {
		bool back = ev->exc_vector == EX_BP && c->rip == c->dbg_exit.int3_rip && c->dbg_exit.int3_next;

		event_deliver(c, ev->exc_vector, soft(ev->exc_vector) ? EVENT_SOFT_EXC : EVENT_EXC, ev->exc_has_error, ev->exc_error,
			      back ? c->dbg_exit.int3_next : c->rip);
		c->dbg_exit.int3_next = 0;
	} else if (ev->nmi_injected) {
		ev->nmi_masked = true;
		event_deliver(c, EX_NMI, EVENT_NMI, false, 0, c->rip);
	} else if (ev->intr_injected) {
		event_deliver(c, ev->intr_vector, EVENT_INTR, false, 0, c->rip);
		stat_add(&c->stat.interrupts, 1);
	} else {
		return;
	}
	/* One event an entry: others that the VMM has injected with it are dropped, as KVM does when the CPU comes back. */
	ev->exc_injected = ev->nmi_injected = ev->intr_injected = false;
	ev->shadow = 0;
	c->rip = c->next_rip;
}

/* ---- delivery ---- */

struct delivery {
	u8 vector;
	enum event_type type;
	bool has_error;
	u32 error;
	u64 ret_rip;
	u32 flags;    /* image to push */
	bool masks_if; /* interrupt gate */
};

/* RF in the pushed image: set for faults, so that a code breakpoint does not strike again; not for #DB itself (SDM 3, 17.3.1.1). */
static u32 flags_image(const struct cpu *c, const struct delivery *d)
{
	u32 fl = (u32)cpu_get_rflags(c);

	if (d->type == EVENT_EXC && d->vector != EX_DB && d->vector != EX_NMI && d->vector != EX_DF && d->vector != EX_MC)
		fl |= X86_RF;
	return fl;
}

static void deliver_ivt(struct cpu *c, const struct delivery *d, gva_t entry, u32 image, u32 clear, u32 set_vif_clear)
{
	u32 vec = (u32)lin_ld(c, entry, 4, cpu_is_v86(c) ? c->mmu_idx : MMU_IMPLICIT);
	struct stack s = stack_current(c);

	stack_push(c, &s, 2, (u16)image);
	stack_push(c, &s, 2, c->seg[S_CS].sel);
	stack_push(c, &s, 2, (u16)d->ret_rip);
	stack_commit_sp(c, &s);
	seg_load_real(c, S_CS, (u16)(vec >> 16));
	c->next_rip = (u16)vec;
	cpu_set_rflags(c, cpu_get_rflags(c) & ~(u64)(clear | set_vif_clear));
	cpu_update_mode(c);
}

static void deliver_real(struct cpu *c, const struct delivery *d)
{
	if (d->vector * 4u + 3 > c->idtr.limit)
		cpu_gp(c, d->vector * 8u + 2);
	deliver_ivt(c, d, (u32)(c->idtr.base + d->vector * 4), d->flags, X86_IF | X86_TF | X86_AC | X86_RF, 0);
}

/* CR4.VME: does the bit map before the I/O map send this INT n to the virtual-8086 task's own vector table? (SDM 3, 20.3.3) */
static bool redirected(struct cpu *c, u8 vector)
{
	const struct cpu_seg *tr = &c->seg[S_TR];

	if (tr->ar & AR_UNUSABLE || tr->limit < 103)
		cpu_gp(c, 0);
	u32 map = (u32)lin_ld(c, (u32)(tr->base + 102), 2, MMU_IMPLICIT);
	if (map < 32 || map - 1 > tr->limit)
		cpu_gp(c, 0);
	u8 bits = (u8)lin_ld(c, (u32)(tr->base + map - 32 + vector / 8), 1, MMU_IMPLICIT);
	return !(bits >> (vector % 8) & 1);
}

/* INT n in virtual-8086 mode. True: done. */
static bool deliver_v86_int(struct cpu *c, const struct delivery *d)
{
	bool iopl3 = cpu_iopl(c) == 3;

	if (c->cr4 & CR4_VME && redirected(c, d->vector)) {
		u32 image = d->flags;

		if (!iopl3) {
			image = (image & ~X86_IF) | X86_IOPL | (image & X86_VIF ? X86_IF : 0);
			deliver_ivt(c, d, d->vector * 4u, image, X86_TF | X86_RF, X86_VIF);
		} else {
			deliver_ivt(c, d, d->vector * 4u, image, X86_IF | X86_TF | X86_RF, 0);
		}
		return true;
	}
	if (!iopl3)
		cpu_gp(c, 0);
	return false;
}

static u64 target_code(struct cpu *c, u16 sel)
{
	if (SEL_NULL(sel))
		cpu_gp(c, 0);
	u64 d = desc_get(c, sel, EX_GP);
	u32 ar = DESC_AR(d);
	if (!ar_is_code(ar) || ar_dpl(ar) > c->cpl)
		cpu_gp(c, SEL_ERR(sel));
	if (!(ar & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	if (cpu_is_long(c) && (ar & (AR_L | AR_DB)) != AR_L)
		cpu_gp(c, SEL_ERR(sel));
	return d;
}

static u32 flags_after(const struct cpu *c, const struct delivery *d)
{
	u32 fl = (u32)cpu_get_rflags(c) & ~(X86_TF | X86_NT | X86_RF | X86_VM);

	return d->masks_if ? fl & ~X86_IF : fl;
}

/* Commit: the code segment, its level and flags. The stack has been committed by the caller. */
static void enter_handler(struct cpu *c, const struct delivery *d, u16 sel, u64 desc, unsigned cpl, u64 rip)
{
	struct cpu_seg cs = desc_seg((u16)SEL_ERR(sel) | cpl, desc);

	c->seg[S_CS] = cs;
	cpu_set_rflags(c, flags_after(c, d));
	cpu_update_mode(c);
	c->next_rip = rip;
}

static void deliver_long(struct cpu *c, const struct delivery *d, u64 gate, u64 gate_hi)
{
	u16 sel = (u16)(gate >> 16);
	u64 rip = (gate & 0xffff) | ((gate >> 32) & 0xffff0000) | gate_hi << 32;
	unsigned ist = (gate >> 32) & 7;
	u64 desc = target_code(c, sel);
	u32 ar = DESC_AR(desc);
	unsigned cpl = ar & AR_DC ? c->cpl : ar_dpl(ar);
	u64 sp = c->gpr[R_SP];
	u16 ss;

	if (!cpu_canonical(c, rip))
		cpu_gp(c, 0);
	if (ist)
		sp = tss_ist(c, ist);
	else if (cpl < c->cpl)
		tss_stack(c, cpl, &ss, &sp);
	struct stack s = stack_new(c, &c->seg[S_SS], sp & ~15ull, cpl, true);
	stack_push(c, &s, 8, c->seg[S_SS].sel);
	stack_push(c, &s, 8, c->gpr[R_SP] & (cpu_is_64(c) ? ~0ull : 0xffffffff));
	stack_push(c, &s, 8, d->flags);
	stack_push(c, &s, 8, c->seg[S_CS].sel);
	stack_push(c, &s, 8, d->ret_rip);
	if (d->has_error)
		stack_push(c, &s, 8, d->error);
	desc_set_accessed(c, sel, &desc);
	c->gpr[R_SP] = s.sp;
	if (cpl != c->cpl)
		c->seg[S_SS] = (struct cpu_seg){ .sel = (u16)cpl, .ar = AR_UNUSABLE | cpl << AR_DPL_SHIFT };
	enter_handler(c, d, sel, desc, cpl, rip);
}

static void push_frame(struct cpu *c, struct stack *s, const struct delivery *d, unsigned size, bool stack_switch)
{
	if (cpu_is_v86(c)) {
		stack_push(c, s, size, c->seg[S_GS].sel);
		stack_push(c, s, size, c->seg[S_FS].sel);
		stack_push(c, s, size, c->seg[S_DS].sel);
		stack_push(c, s, size, c->seg[S_ES].sel);
	}
	if (stack_switch) {
		stack_push(c, s, size, c->seg[S_SS].sel);
		stack_push(c, s, size, c->gpr[R_SP]);
	}
	stack_push(c, s, size, d->flags);
	stack_push(c, s, size, c->seg[S_CS].sel);
	stack_push(c, s, size, d->ret_rip);
	if (d->has_error)
		stack_push(c, s, size, d->error);
}

static void deliver_prot(struct cpu *c, const struct delivery *d, u64 gate)
{
	u16 sel = (u16)(gate >> 16), ss;
	unsigned size = gate & BIT(43) ? 4 : 2;
	u64 rip = (gate & 0xffff) | (size == 4 ? (gate >> 32) & 0xffff0000 : 0), sp;
	u64 desc = target_code(c, sel);
	u32 ar = DESC_AR(desc);
	bool v86 = cpu_is_v86(c), inner = !(ar & AR_DC) && ar_dpl(ar) < c->cpl;
	unsigned cpl = inner ? ar_dpl(ar) : c->cpl;
	struct cpu_seg cs = desc_seg(sel, desc);

	if (v86 && (!inner || cpl != 0))
		cpu_gp(c, SEL_ERR(sel));
	check_target(c, &cs, false, rip);
	if (!inner) {
		struct stack s = stack_current(c);

		push_frame(c, &s, d, size, false);
		desc_set_accessed(c, sel, &desc);
		stack_commit_sp(c, &s);
		enter_handler(c, d, sel, desc, cpl, rip);
		return;
	}
	tss_stack(c, cpl, &ss, &sp);
	struct cpu_seg nss = seg_check_ss(c, ss, cpl, EX_TS, false);
	struct stack s = stack_new(c, &nss, sp, cpl, false);
	s.error = SEL_ERR(ss);
	push_frame(c, &s, d, size, true);
	desc_set_accessed(c, sel, &desc);
	c->seg[S_SS] = nss;
	stack_commit_sp(c, &s);
	if (v86) {
		static const u8 data[] = { S_ES, S_DS, S_FS, S_GS };

		for (unsigned n = 0; n < ARRAY_SIZE(data); n++)
			c->seg[data[n]] = (struct cpu_seg){ .ar = AR_UNUSABLE };
	}
	enter_handler(c, d, sel, desc, cpl, rip);
}

void event_deliver(struct cpu *c, u8 vector, enum event_type type, bool has_error, u32 error, u64 ret_rip)
{
	struct delivery d = { .vector = vector, .type = type, .has_error = has_error, .error = error, .ret_rip = ret_rip };

	d.flags = flags_image(c, &d);
	if (vector == EX_DB && type != EVENT_SOFT_INT)
		c->dr7 &= ~(u64)DR7_GD;
	if (cpu_is_real(c)) {
		deliver_real(c, &d);
		return;
	}
	if (cpu_is_v86(c) && type == EVENT_SOFT_INT && deliver_v86_int(c, &d))
		return;
	bool lm = cpu_is_long(c);
	unsigned size = lm ? 16 : 8;
	u32 err = vector * 8u + 2;
	if (vector * size + size - 1 > c->idtr.limit)
		cpu_gp(c, err);
	gva_t la = c->idtr.base + vector * size;
	u64 gate = lin_ld(c, lm ? la : (u32)la, 8, MMU_IMPLICIT);
	u64 gate_hi = lm ? lin_ld(c, la + 8, 8, MMU_IMPLICIT) : 0;
	u32 ar = DESC_AR(gate);
	unsigned kind = ar & (AR_TYPE | AR_S);
	bool ok = kind == SYS_INT32 || kind == SYS_TRAP32 || (!lm && (kind == SYS_INT16 || kind == SYS_TRAP16 || kind == SYS_TASK));
	if (!ok)
		cpu_gp(c, err);
	if ((type == EVENT_SOFT_INT || type == EVENT_SOFT_EXC) && ar_dpl(ar) < c->cpl)
		cpu_gp(c, err);
	if (!(ar & AR_P))
		cpu_raise(c, EX_NP, true, err);
	if (kind == SYS_TASK) {
		task_switch(c, (u16)(gate >> 16), TASK_GATE, ret_rip, has_error, error);
		return;
	}
	d.masks_if = kind == SYS_INT32 || kind == SYS_INT16;
	if (lm)
		deliver_long(c, &d, gate, gate_hi);
	else
		deliver_prot(c, &d, gate);
}
