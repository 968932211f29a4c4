/* SPDX-License-Identifier: MIT */
/*
 * Which accesses of a unit are made by one look-up: those off the same base whose distances are known. A base is a register, that of FS or GS, or a
 * page whose address is in the instructions; or, for accesses off the same index, a register that has the same value for all of them.
 *
 * Register values are followed as a symbol and an offset from it: PUSH, POP, ADD, SUB, INC, DEC, LEA and MOV between registers change the offset
 * or hand the symbol on, anything else makes a new symbol. Accesses of one symbol that lie close together are a group. Its first access
 * looks up the whole of it, its span, and keeps the host address in cpu.x_span; the others need no look-up. A span that is not wholly in
 * one page, or may not be accessed so, sends the unit to its plain twin (docs/translate.md), which looks up each access.
 *
 * Reads before the first write are a group of their own, since a page that is never written should not be asked for by a write that may not
 * come; but on the stack, and where no way out lies between the group's first access and the write: there it does come.
 */
#include "interp/ops.h"
#include "interp/stub_int.h"
#include "translate/translate.h"

#define M(n) ZYDIS_MNEMONIC_##n
#define FAR (1 << 20) /* offsets beyond are not followed */

struct value {
	u32 sym;
	s32 off;
};

#define PAGES 6u
#define PAIRS 8u
#define REGS (SHARE_PAGE + PAGES)

struct follow {
	struct value reg[REGS]; /* general ones, and what stands for one: SHARE_... */
	u64 page[PAGES];
	unsigned npages;
	struct pair { /* of a base's value and an index: one symbol */
		struct value base;
		u32 index, sym;
		u8 shift;
	} pair[PAIRS];
	unsigned npairs;
	u32 next;
	unsigned ngroups;
	unsigned exits; /* that lie before here */
	struct {
		u32 sym;
		s64 lo, hi;
		u64 page;
		unsigned exits;
		u8 n;
		bool write, stack, whole;
	} group[XSHARE_TRY];
};

static void fresh(struct follow *f, unsigned g)
{
	f->reg[g] = (struct value){ f->next++, 0 };
}

static void shift(struct follow *f, unsigned to, unsigned from, s64 by)
{
	s64 off = f->reg[from].off + by;

	if (off < -FAR || off > FAR)
		fresh(f, to);
	else
		f->reg[to] = (struct value){ f->reg[from].sym, (s32)off };
}

static bool is_gpr64(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER && reg_is_gpr64(o->reg.value);
}

/* What the instruction does to registers. */
static void effect(struct follow *f, const struct tinsn *t)
{
	const struct decoded *d = &t->d;
	const ZydisDecodedOperand *a = &d->op[0], *b = &d->op[1];

	switch (t->kind) {
	case T_OP:
	case T_CLAC: /* what was looked up with AC may not be accessed without */
		for (unsigned g = 0; g < SHARE_PAGE; g++)
			fresh(f, g);
		f->npages = 0;
		return;
	case T_SWAPGS: fresh(f, SHARE_FS + 1); return;
	case T_PUSH:
	case T_PUSHF:
		shift(f, R_SP, R_SP, -8);
		return;
	case T_POP:
		shift(f, R_SP, R_SP, 8);
		fresh(f, (unsigned)reg_gpr(a->reg.value));
		return;
	case T_LEAVE:
		shift(f, R_SP, R_BP, 8);
		fresh(f, R_BP);
		return;
	default: break;
	}
	if (is_gpr64(a)) {
		unsigned g = (unsigned)reg_gpr(a->reg.value);
		bool imm = b->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
		switch (d->z.mnemonic) {
		case M(MOV):
			if (!is_gpr64(b))
				break;
			shift(f, g, (unsigned)reg_gpr(b->reg.value), 0);
			return;
		case M(ADD):
			if (!imm)
				break;
			shift(f, g, g, b->imm.value.s);
			return;
		case M(SUB):
			if (!imm)
				break;
			shift(f, g, g, -b->imm.value.s);
			return;
		case M(INC): shift(f, g, g, 1); return;
		case M(DEC): shift(f, g, g, -1); return;
		case M(LEA):
			if (!x_simple_base(t, b))
				break;
			shift(f, g, (unsigned)reg_gpr(b->mem.base), b->mem.disp.value);
			return;
		default: break;
		}
	}
	for (unsigned k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE && reg_gpr(o->reg.value) >= 0)
			fresh(f, (unsigned)reg_gpr(o->reg.value));
	}
}

static bool joins(const struct follow *f, unsigned k, u32 sym, s64 lo, s64 hi, bool write)
{
	s64 l = MIN(f->group[k].lo, lo), h = MAX(f->group[k].hi, hi);
	return f->group[k].sym == sym && (f->group[k].whole || h - l <= XSPAN_MAX) && (f->group[k].stack || f->group[k].write || !write || f->group[k].exits == f->exits);
}

/* An access of size bytes at v plus disp; s: the registers. */
static void joined(struct follow *f, struct share *s, struct value v, s64 disp, unsigned size, bool write)
{
	s64 lo = v.off + disp, hi = lo + size;
	bool page = s->index == REG_NONE && s->base >= SHARE_PAGE;
	unsigned k = f->ngroups;

	if (lo < -FAR || lo > FAR)
		return;
	while (k-- > 0) /* the newest: one that may be written, if there is one */
		if (joins(f, k, v.sym, lo, hi, write))
			break;
	if (k == ~0u) {
		if (f->ngroups == XSHARE_TRY)
			return;
		k = f->ngroups++;
		f->group[k].sym = v.sym;
		f->group[k].lo = lo;
		f->group[k].hi = hi;
		f->group[k].n = 0;
		f->group[k].exits = f->exits;
		f->group[k].write = false;
		f->group[k].stack = s->base == R_SP;
		f->group[k].whole = page;
		f->group[k].page = page ? f->page[s->base - SHARE_PAGE] : 0;
	}
	f->group[k].lo = MIN(f->group[k].lo, lo);
	f->group[k].hi = MAX(f->group[k].hi, hi);
	f->group[k].write |= write;
	f->group[k].n++;
	s->group = (u8)(k + 1);
	s->at = (s32)lo;
	s->off = v.off;
	if (page)
		s->base = SHARE_PAGE;
}

/* At guest register base, or what stands for one. */
static void at_base(struct follow *f, struct share *s, unsigned base, s64 disp, unsigned size, bool write)
{
	*s = (struct share){ .base = (u8)base, .index = REG_NONE };
	joined(f, s, f->reg[base], disp, size, write);
}

/* The symbol of what s' base is now and its index. 0: there are too many. */
static u32 pair_symbol(struct follow *f, const struct share *s)
{
	struct value base = s->base == REG_NONE ? (struct value){ 0, 0 } : f->reg[s->base];
	u32 index = f->reg[s->index].sym;

	for (unsigned k = 0; k < f->npairs; k++) {
		const struct pair *p = &f->pair[k];
		if (p->base.sym == base.sym && p->base.off == base.off && p->index == index && p->shift == s->shift)
			return p->sym;
	}
	if (f->npairs == PAIRS)
		return 0;
	f->pair[f->npairs++] = (struct pair){ base, index, f->next, s->shift };
	return f->next++;
}

/* The base that stands for the page at this address. 0: there are too many. */
static unsigned page_base(struct follow *f, u64 page)
{
	for (unsigned k = 0; k < f->npages; k++)
		if (f->page[k] == page)
			return SHARE_PAGE + k;
	if (f->npages == PAGES)
		return 0;
	f->page[f->npages] = page;
	fresh(f, SHARE_PAGE + f->npages);
	return SHARE_PAGE + f->npages++;
}

static void operand_access(struct follow *f, struct tinsn *t, const ZydisDecodedOperand *m)
{
	bool write = m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	unsigned size = m->size / 8, base;
	struct share s = { 0 };
	struct value v;
	s32 disp;
	u64 la;

	if (x_simple_base(t, m))
		at_base(f, &t->operand, (unsigned)reg_gpr(m->mem.base), m->mem.disp.value, size, write);
	else if (x_segment_base(t, m))
		at_base(f, &t->operand, SHARE_FS + (m->mem.segment == ZYDIS_REGISTER_GS), m->mem.disp.value, size, write);
	else if (x_absolute(t, m, &la) && (la & ~PAGE_MASK) + size <= PAGE_SIZE && (base = page_base(f, la & PAGE_MASK)))
		at_base(f, &t->operand, base, (s64)(la & ~PAGE_MASK), size, write);
	else if (x_indexed(t, m, &s, &disp) && (v.sym = pair_symbol(f, &s))) {
		v.off = f->reg[s.index].off * (1 << s.shift);
		joined(f, &s, v, disp, size, write);
		t->operand = s;
	}
}

static void accesses(struct follow *f, struct tinsn *t)
{
	const ZydisDecodedOperand *m = x_memory_operand(&t->d);
	bool operand = t->kind == T_COPY ? !x_looked_up_alone(t) : t->kind == T_PUSH || t->kind == T_JMP_IND || t->kind == T_CALL_IND;

	t->operand = t->stack = (struct share){ 0 };
	if (m && operand && m->type == ZYDIS_OPERAND_TYPE_MEMORY && m->mem.type == ZYDIS_MEMOP_TYPE_MEM && m->size && m->size % 8 == 0)
		operand_access(f, t, m);
	switch (t->kind) {
	case T_PUSH:
	case T_PUSHF:
	case T_CALL:
	case T_CALL_IND: at_base(f, &t->stack, R_SP, -8, 8, true); break;
	case T_POP:
	case T_RET: at_base(f, &t->stack, R_SP, 0, 8, false); break;
	case T_LEAVE: at_base(f, &t->stack, R_BP, 0, 8, false); break;
	default: break;
	}
}

/* The numbers of groups become those of spans; a group of one access is none. */
static void settle(const struct translate *tr, const u8 *span_of, struct share *s)
{
	if (s->group)
		s->group = span_of[s->group - 1];
	if (s->group)
		s->at -= tr->span[s->group - 1].lo;
}

void x_share(struct translate *tr, unsigned n)
{
	struct follow f = { .next = SHARE_PAGE + 1 };
	u8 span_of[XSHARE_TRY] = { 0 };
	unsigned spans = 0;

	for (unsigned g = 0; g < SHARE_PAGE; g++)
		f.reg[g].sym = g + 1;
	for (unsigned k = 0; k < n; k++) {
		accesses(&f, &tr->in[k]);
		f.exits += tr->in[k].kind == T_JCC;
		effect(&f, &tr->in[k]);
	}
	for (unsigned k = 0; k < f.ngroups; k++) {
		if (f.group[k].n < 2 || spans == CPU_SPANS)
			continue;
		if (f.group[k].whole) {
			f.group[k].lo = 0;
			f.group[k].hi = PAGE_SIZE;
		}
		tr->span[spans++] = (struct span){ f.group[k].page, (s32)f.group[k].lo, (u16)(f.group[k].hi - f.group[k].lo), f.group[k].write };
		span_of[k] = (u8)spans;
	}
	for (unsigned k = 0; k < n; k++) {
		settle(tr, span_of, &tr->in[k].operand);
		settle(tr, span_of, &tr->in[k].stack);
	}
}
