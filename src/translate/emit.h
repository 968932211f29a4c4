/* SPDX-License-Identifier: MIT */
/*
 * Writing the host code of one unit: what the files that do it share. emit.c, memory.c, jump.c, system.c, string.c and native.c include it, nobody else.
 *
 * T1 and T2 are scratch between guest instructions. Within one, what makes the host's address of the guest's is found in T1 first, and the operand
 * becomes T1 and its own registers; then guest registers without a home stand in T2 (or in both, when there is no memory operand); the last host
 * instruction that can fault is the first that changes guest state.
 *
 * Flags are in the host's (in_reg), in cpu.af (in_slot), in both, or, when nothing needs them, in neither. `live`: those that are needed later.
 */
#ifndef USEKVM_TRANSLATE_EMIT_H
#define USEKVM_TRANSLATE_EMIT_H

#include "translate/translate.h"

#define HOME_SP R_15
/* Of a TLB entry. */
#define TAG(write) ((write) ? offsetof(struct cpu_tlbe, wtag) : offsetof(struct cpu_tlbe, rtag))
#define ADD(write) ((write) ? offsetof(struct cpu_tlbe, wadd) : offsetof(struct cpu_tlbe, radd))

struct cold { /* code out of line: at the unit's end */
	u8 *jump;  /* of the hot part, to patch */
	u32 site;
	u8 kind;
	bool in_slot;
	s32 undo;  /* MEM: displacement of the TLB tag that T1 was XORed with; 0: nothing to undo */
	u32 plain; /* MEM: the site of the jump to the plain twin, if this is a span */
};

struct xl {
	struct cpu *c;
	struct translate *t;
	struct asmb a;
	struct unit *u;
	unsigned idx;     /* cpu_mmu_idx of data accesses */
	unsigned word;    /* 8, or 4: bytes that the stack moves by, and that addresses of code have */
	bool in_reg, in_slot;
	u8 fpu_checked;   /* needs that were found fulfilled */
	u8 spans_ok;      /* those that were looked up: what T1 has to be for them is in cpu.x_span */
	s16 sp_late;      /* what is yet to be added to RSP: see move_sp_late() in jump.c */
	u64 hint;         /* where the access may be that is being looked up: for a guess */
	u8 t1, t1_next;   /* index + 1 of the span whose cpu.x_span is in T1: before this instruction, after it */
	unsigned ncold;
	struct cold cold[UNIT_MAX_INSNS * 4];
};

static inline u32 xl_here(const struct xl *x)
{
	return (u32)(x->a.p - x->t->rw);
}

static inline s32 xl_gpr_slot(unsigned g)
{
	return (s32)(8 * g);
}

/* emit.c */
/* A new one's index. ti: its instruction, or NULL. */
u32 xl_site(struct xl *x, const struct tinsn *ti, enum site_kind k) hidden;
/* Code that stands at the unit's end, where `jump` leads. */
struct cold *xl_cold(struct xl *x, enum site_kind k, u32 site, u8 *jump) hidden;
/* What comes next may fault: that is where the instruction begins. */
void xl_mark(struct xl *x, const struct tinsn *ti) hidden;
/* To cpu.af, and from there. T2 is lost. */
void xl_save_flags(struct xl *x) hidden;
void xl_load_flags(struct xl *x) hidden;
/* The host's are about to be lost; wanted in them; wanted in cpu.af. */
void xl_give_up_flags(struct xl *x, u16 live) hidden;
void xl_want_flags(struct xl *x, u16 needed) hidden;
void xl_want_slot(struct xl *x, u16 live) hidden;
/* The host register of guest register g, which is tmp, loaded, if it has no home; and back. */
unsigned xl_in_host(struct xl *x, unsigned g, unsigned tmp) hidden;
void xl_from_host(struct xl *x, unsigned g, unsigned host) hidden;
/* RSP, by this much and what it lacks. */
void xl_move_sp(struct xl *x, s32 by) hidden;

/* memory.c */
unsigned xl_seg_of(const ZydisDecodedOperand *m) hidden;
struct xea xl_seg_base(unsigned s) hidden;
/* The address in terms of host registers, some of them T1 and T2; T1 made the linear address. */
struct xea xl_operand_ea(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m) hidden;
void xl_linear(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m) hidden;
s32 xl_tlb_at(const struct xl *x, unsigned field) hidden;
void xl_entry_of_t1(struct asmb *a) hidden;
/* T1: from a linear address to what makes it the host's when it is added; or away to the slow path, whose site is returned. T2 is lost. */
u32 xl_translate(struct xl *x, const struct tinsn *ti, unsigned size, bool write, unsigned seg) hidden;
/* After that: the operand on the host. T2 and flags are lost. */
struct xea xl_on_host(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m) hidden;
/* The same for a word at guest register g, which has a home, plus disp. */
struct xea xl_word_on_host(struct xl *x, unsigned g, s32 disp) hidden;
/* All of it; *at: the operand on the host. The site, for xl_next() behind the access; 0: none. T2 is lost. */
u32 xl_shared(struct xl *x, const struct tinsn *ti, const struct share *sh, unsigned size, bool write, unsigned seg, u16 live, struct xea *at) hidden;
u32 xl_operand(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m, unsigned size, bool write, u16 live, struct xea *at) hidden;
void xl_next(struct xl *x, u32 site) hidden;

/* jump.c */
/* jump is patched when the target has been translated; until then it goes back to C. */
void xl_leave_to(struct xl *x, const struct tinsn *ti, u8 *jump, u64 target, u16 live) hidden;
void xl_leave_always(struct xl *x, const struct tinsn *ti, u64 target, u16 live) hidden;
/* *at: room for a word below RSP. */
u32 xl_push_room(struct xl *x, const struct tinsn *ti, u16 live, struct xea *at) hidden;
/* Does host code for ti do with an RSP that is not up to date? */
bool xl_sp_may_wait(const struct xl *x, const struct tinsn *ti) hidden;
void xl_push(struct xl *x, const struct tinsn *ti) hidden;
void xl_pop(struct xl *x, const struct tinsn *ti) hidden;
void xl_leave(struct xl *x, const struct tinsn *ti) hidden;
void xl_ret(struct xl *x, const struct tinsn *ti) hidden;
void xl_jmp_indirect(struct xl *x, const struct tinsn *ti) hidden;
void xl_call(struct xl *x, const struct tinsn *ti) hidden;
void xl_call_indirect(struct xl *x, const struct tinsn *ti) hidden;

/* system.c */
void xl_cli(struct xl *x, const struct tinsn *ti) hidden;
void xl_sti(struct xl *x, const struct tinsn *ti) hidden;
void xl_sti_after(struct xl *x, const struct tinsn *last) hidden;
void xl_cld(struct xl *x, const struct tinsn *ti) hidden;
void xl_set_ac(struct xl *x, const struct tinsn *ti, bool ac) hidden;
void xl_pushf(struct xl *x, const struct tinsn *ti) hidden;
void xl_from_sreg(struct xl *x, const struct tinsn *ti) hidden;
void xl_swapgs(struct xl *x) hidden;
void xl_rdtsc(struct xl *x, const struct tinsn *ti) hidden;

/* string.c */
void xl_moffs(struct xl *x, const struct tinsn *ti) hidden;
void xl_string(struct xl *x, const struct tinsn *ti) hidden;
bool xl_bit_string(struct xl *x, const struct tinsn *ti) hidden;

/* native.c */
/* The interpreter's form of it, by index; and the whole instruction left to the interpreter. */
u32 xl_lowered(struct xl *x, const struct tinsn *ti) hidden;
void xl_interpreted(struct xl *x, const struct tinsn *ti) hidden;

#endif
