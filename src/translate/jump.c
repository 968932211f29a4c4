/* SPDX-License-Identifier: MIT */
/*
 * Stack instructions and jumps, and with them the ways out of a unit.
 */
#include "interp/ops.h"
#include "interp/stub_int.h"
#include "translate/emit.h"

/* ---- ways out ---- */

void xl_leave_to(struct xl *x, const struct tinsn *ti, u8 *jump, u64 target, u16 live)
{
	u32 site = xl_site(x, NULL, SITE_LINK);
	struct site *s = &x->t->sites[site];

	s->rip = target;
	s->backward = target <= ti->rip;
	s->mmu_idx = (u8)x->idx;
	s->in_reg = x->in_reg;
	s->in_slot = x->in_slot;
	s->dead = !live;
	s->next = (u32)(jump - x->t->rw);
	struct cold *c = xl_cold(x, SITE_LINK, site, jump);
	c->in_slot = x->in_slot;
}

void xl_leave_always(struct xl *x, const struct tinsn *ti, u64 target, u16 live)
{
	xl_leave_to(x, ti, asm_jump(&x->a, CC_ALWAYS), target, live);
}

/* T1 holds the target; adjust: what RSP was changed by, to be undone if the target is not canonical. */
static void leave_indirect(struct xl *x, const struct tinsn *ti, s64 adjust)
{
	struct asmb *a = &x->a;
	u32 site = xl_site(x, ti, SITE_IND);

	x->t->sites[site].la = (u64)adjust;
	x->t->sites[site].insn = xl_lowered(x, ti);
	asm_rm(a, false, 0xc7, 0, xea_ctx(CTX(x_site)));
	e32(a, site);
	if (x->idx == MMU_KERNEL_AC) { /* the table is of those that run without AC */
		asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_ind);
		return;
	}
	asm_rr(a, false, 0x8b, REG_T2, REG_T1);
	asm_ri(a, false, 4, REG_T2, ((1 << CPU_JC_BITS) - 1) << XJC_SHIFT); /* x_jc_slot() */
	struct xea e = { REG_CTX, REG_T2, 3 - XJC_SHIFT, CTX(jc) + (s32)(x->u->space * sizeof(x->c->jc[0])) };
	asm_rm(a, false, 0xff, 4, e);
}

/* ---- stack and jumps ---- */

/* *at: room for a word below RSP. */
u32 xl_push_room(struct xl *x, const struct tinsn *ti, u16 live, struct xea *at)
{
	if (ti->stack.group)
		return xl_shared(x, ti, &ti->stack, 8, true, S_SS, live, at);
	xl_give_up_flags(x, live);
	asm_rm(&x->a, x->word == 8, 0x8d, REG_T1, xea_base(HOME_SP, -(s32)x->word));
	x->hint = x->c->gpr[R_SP] - x->word;
	u32 site = xl_translate(x, ti, x->word, true, S_SS);
	*at = xl_word_on_host(x, R_SP, -(s32)x->word);
	return site;
}

/* *at: the word at guest register g, RSP or RBP, which is to be popped. */
static u32 popped(struct xl *x, const struct tinsn *ti, unsigned g, u16 live, struct xea *at)
{
	if (ti->stack.group)
		return xl_shared(x, ti, &ti->stack, 8, false, S_SS, live, at);
	xl_give_up_flags(x, live);
	asm_rr(&x->a, x->word == 8, 0x8b, REG_T1, x_home[g]);
	x->hint = x->c->gpr[g];
	u32 site = xl_translate(x, ti, x->word, false, S_SS);
	*at = xl_word_on_host(x, g, 0);
	return site;
}

/* A row of PUSHes or POPs whose span has been looked up moves RSP at its end. Nothing of it but vanished memory can fault: marks know how much is missing. */
static void move_sp_late(struct xl *x, const struct tinsn *ti, s32 by)
{
	if (ti->stack.group)
		x->sp_late = (s16)(x->sp_late + by);
	else
		xl_move_sp(x, by);
}

static bool names_only_gprs(const struct decoded *d)
{
	for (unsigned k = 0; k < d->z.operand_count_visible; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		int g = o->type == ZYDIS_OPERAND_TYPE_REGISTER ? reg_gpr(o->reg.value) : R_AX;
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY || g < 0 || g == R_SP)
			return false;
	}
	return true;
}

/* Does host code for ti do with an RSP that is not up to date? */
bool xl_sp_may_wait(const struct xl *x, const struct tinsn *ti)
{
	switch (ti->kind) {
	case T_NOP: return true;
	case T_COPY: return names_only_gprs(&ti->d);
	case T_PUSH:
	case T_POP:
		if (!names_only_gprs(&ti->d))
			return false;
		break;
	case T_CALL:
	case T_RET: break;
	default: return false;
	}
	return ti->stack.group && x->spans_ok & BIT(ti->stack.group - 1);
}

static void load_word(struct xl *x, unsigned reg, struct xea m)
{
	asm_rm(&x->a, x->word == 8, 0x8b, reg, m);
}

static void store_word(struct xl *x, unsigned reg, struct xea m)
{
	asm_rm(&x->a, x->word == 8, 0x89, reg, m);
}

static void store_imm(struct xl *x, struct xea at, u64 v)
{
	if (v == (u64)(s64)(s32)v || x->word == 4) {
		asm_rm(&x->a, x->word == 8, 0xc7, 0, at);
		e32(&x->a, (u32)v);
	} else {
		asm_imm(&x->a, REG_T2, v);
		asm_store(&x->a, REG_T2, at);
	}
}

/* Read first: if the push faults, the whole is done again. */
static void push_memory(struct xl *x, const struct tinsn *ti)
{
	struct xea at;
	u32 from = xl_operand(x, ti, &ti->d.op[0], x->word, false, ti->live, &at);

	xl_mark(x, ti);
	load_word(x, REG_T2, at);
	asm_store(&x->a, REG_T2, xea_ctx(CTX(x_tmp)));
	x->t1 = x->t1_next;
	u32 to = xl_push_room(x, ti, ti->live, &at);
	xl_mark(x, ti);
	asm_load(&x->a, REG_T2, xea_ctx(CTX(x_tmp)));
	store_word(x, REG_T2, at);
	xl_move_sp(x, -(s32)x->word);
	xl_next(x, from);
	xl_next(x, to);
	if (from || !ti->stack.group)
		x->t1_next = 0; /* another way comes here */
}

void xl_push(struct xl *x, const struct tinsn *ti)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];
	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		push_memory(x, ti);
		return;
	}
	struct xea at;
	u32 site = xl_push_room(x, ti, ti->live, &at);
	if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		xl_mark(x, ti);
		store_imm(x, at, ti->i.imm);
	} else {
		unsigned r = xl_in_host(x, (unsigned)reg_gpr(o->reg.value), REG_T2);
		xl_mark(x, ti);
		store_word(x, r, at);
	}
	move_sp_late(x, ti, -(s32)x->word);
	xl_next(x, site);
}

void xl_pop(struct xl *x, const struct tinsn *ti)
{
	unsigned g = (unsigned)reg_gpr(ti->d.op[0].reg.value);
	struct xea at;
	u32 site = popped(x, ti, R_SP, ti->live, &at);

	xl_mark(x, ti);
	if (x_home[g] != REG_NONE && g != R_SP) {
		load_word(x, x_home[g], at);
		move_sp_late(x, ti, (s32)x->word);
	} else if (g != R_SP) {
		load_word(x, REG_T2, at);
		move_sp_late(x, ti, (s32)x->word);
		xl_from_host(x, g, REG_T2);
	} else {
		load_word(x, REG_T2, at);
		xl_from_host(x, g, REG_T2);
	}
	xl_next(x, site);
}

void xl_leave(struct xl *x, const struct tinsn *ti)
{
	struct xea at;
	u32 site = popped(x, ti, R_BP, ti->live, &at);

	xl_mark(x, ti);
	load_word(x, REG_T2, at);
	asm_rm(&x->a, x->word == 8, 0x8d, HOME_SP, xea_base(R_BP, (s32)x->word));
	asm_mov(&x->a, R_BP, REG_T2);
	xl_next(x, site);
}

void xl_ret(struct xl *x, const struct tinsn *ti)
{
	s32 adjust = (s32)x->word + (s32)(ti->d.z.operand_count_visible ? ti->d.op[0].imm.value.u & 0xffff : 0);
	struct xea at;

	xl_want_slot(x, X86_ARITH);
	x->in_reg = false;
	popped(x, ti, R_SP, X86_ARITH, &at);
	xl_mark(x, ti);
	load_word(x, REG_T1, at);
	xl_move_sp(x, adjust);
	leave_indirect(x, ti, adjust);
}

/* T1: the target of an indirect jump or call. */
static u32 target(struct xl *x, const struct tinsn *ti)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];

	xl_want_slot(x, X86_ARITH);
	x->in_reg = false;
	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		struct xea at;
		u32 site = xl_operand(x, ti, o, x->word, false, X86_ARITH, &at);
		xl_mark(x, ti);
		load_word(x, REG_T1, at);
		return site;
	}
	asm_rr(&x->a, x->word == 8, 0x8b, REG_T1, xl_in_host(x, (unsigned)reg_gpr(o->reg.value), REG_T1));
	return 0;
}

void xl_jmp_indirect(struct xl *x, const struct tinsn *ti)
{
	target(x, ti);
	leave_indirect(x, ti, 0);
}

void xl_call(struct xl *x, const struct tinsn *ti)
{
	struct xea at;

	xl_push_room(x, ti, ti->live, &at);
	xl_mark(x, ti);
	store_imm(x, at, ti->rip + ti->len);
	xl_move_sp(x, -(s32)x->word);
	xl_leave_always(x, ti, ti->target, ti->live_target);
}

void xl_call_indirect(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	struct xea at;

	target(x, ti);
	/* A target that is not canonical faults before anything is pushed: the interpreter knows how. It sees more of them than need be: in user code those of the kernel, and with LA57. */
	if (x->word == 8) {
		asm_mov(a, REG_T2, REG_T1);
		if (x->u->user) {
			asm_rr(a, true, 0xc1, 5, REG_T2), e8(a, 47); /* shr */
		} else {
			asm_rr(a, true, 0xc1, 4, REG_T2), e8(a, 16); /* shl */
			asm_rr(a, true, 0xc1, 7, REG_T2), e8(a, 16); /* sar */
			asm_rr(a, true, 0x3b, REG_T2, REG_T1);
		}
		u32 op = xl_site(x, ti, SITE_OP);
		x->t->sites[op].insn = xl_lowered(x, ti);
		x->t->sites[op].ends = true;
		xl_cold(x, SITE_OP, op, asm_jump(a, CC_NE));
	}
	asm_store(a, REG_T1, xea_ctx(CTX(x_tmp)));
	x->t1 = 0;
	xl_push_room(x, ti, X86_ARITH, &at);
	xl_mark(x, ti);
	store_imm(x, at, ti->rip + ti->len);
	xl_move_sp(x, -(s32)x->word);
	asm_load(a, REG_T1, xea_ctx(CTX(x_tmp)));
	leave_indirect(x, ti, -(s64)x->word);
}
