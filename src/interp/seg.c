/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables and segment registers (SDM 3, chapters 3 and 5). Checks come first and may raise; a register is changed last.
 */
#include "interp/seg.h"

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "interp/access.h"

static bool table_of(const struct cpu *c, u16 sel, unsigned size, gva_t *la)
{
	u32 off = sel & 0xfff8;

	if (sel & 4) {
		const struct cpu_seg *l = &c->seg[S_LDTR];

		if (l->ar & AR_UNUSABLE || off + size - 1 > l->limit)
			return false;
		*la = l->base + off;
		return true;
	}
	if (off + size - 1 > c->gdtr.limit)
		return false;
	*la = c->gdtr.base + off;
	return true;
}

static gva_t wrap(const struct cpu *c, gva_t la)
{
	return cpu_is_long(c) ? la : (u32)la;
}

bool desc_read(struct cpu *c, u16 sel, u64 *d)
{
	gva_t la;

	if (!table_of(c, sel, 8, &la))
		return false;
	*d = lin_ld(c, wrap(c, la), 8, MMU_IMPLICIT);
	return true;
}

bool desc_read_hi(struct cpu *c, u16 sel, u64 *hi)
{
	gva_t la;

	if (!table_of(c, sel, 16, &la))
		return false;
	*hi = lin_ld(c, wrap(c, la + 8), 8, MMU_IMPLICIT);
	return true;
}

u64 desc_get(struct cpu *c, u16 sel, unsigned vector)
{
	u64 d;

	if (!desc_read(c, sel, &d))
		cpu_raise(c, vector, true, SEL_ERR(sel));
	return d;
}

static void type_byte(struct cpu *c, u16 sel, u8 clear, u8 set)
{
	gva_t la;

	if (!table_of(c, sel, 8, &la))
		return;
	la = wrap(c, la + 5);
	u8 *p = lin_ptr(c, la, 1, true, MMU_IMPLICIT);
	if (!p) {
		u8 v = (u8)lin_ld(c, la, 1, MMU_IMPLICIT);

		lin_st(c, la, 1, (u8)((v & ~clear) | set), MMU_IMPLICIT);
		return;
	}
	if (set)
		__atomic_fetch_or(p, set, __ATOMIC_SEQ_CST);
	if (clear)
		__atomic_fetch_and(p, (u8)~clear, __ATOMIC_SEQ_CST);
}

void desc_set_accessed(struct cpu *c, u16 sel, u64 *d)
{
	if (*d & BIT(40))
		return;
	type_byte(c, sel, 0, 1);
	*d |= BIT(40);
}

void desc_set_busy(struct cpu *c, u16 sel, bool busy)
{
	type_byte(c, sel, busy ? 0 : 2, busy ? 2 : 0);
}

struct cpu_seg desc_seg(u16 sel, u64 d)
{
	struct cpu_seg s = { .sel = sel, .ar = DESC_AR(d) };

	s.base = ((d >> 16) & 0xffffff) | ((d >> 32) & 0xff000000);
	s.limit = (u32)((d & 0xffff) | ((d >> 32) & 0xf0000));
	if (s.ar & AR_G)
		s.limit = s.limit << 12 | 0xfff;
	return s;
}

void seg_load_real(struct cpu *c, unsigned seg, u16 sel)
{
	struct cpu_seg *s = &c->seg[seg];

	s->sel = sel;
	s->base = (u32)sel << 4;
	if (cpu_is_v86(c)) {
		s->limit = 0xffff;
		s->ar = AR_P | AR_S | AR_RW | AR_ACCESSED | 3 << AR_DPL_SHIFT;
		return;
	}
	/* Real mode keeps limit and default size ("unreal" mode), but a null segment comes back to life. */
	if (s->ar & AR_UNUSABLE) {
		s->limit = 0xffff;
		s->ar = 0;
	}
	s->ar = (s->ar & ~(AR_DPL | AR_DC | AR_CODE)) | AR_P | AR_S | AR_RW | AR_ACCESSED;
	if (seg == S_CS)
		s->ar |= AR_CODE;
}

void seg_set_null(struct cpu *c, unsigned seg, u16 sel)
{
	struct cpu_seg *s = &c->seg[seg];

	s->sel = sel;
	s->ar = AR_UNUSABLE | (seg == S_SS ? (u32)c->cpl << AR_DPL_SHIFT : 0);
	/* AMD's CPUs without the "clears base" bit leave the base, which FS and GS show in 64-bit mode. */
	if (!cpu_is_amd(c) || cpu_has(c, CPUID_NULL_SEL_CLR_BASE)) {
		s->base = 0;
		s->limit = 0;
	}
}

void seg_set_flat_cs(struct cpu *c, u16 sel, unsigned cpl, bool is64)
{
	c->seg[S_CS] = (struct cpu_seg){
		.limit = 0xffffffff, .sel = sel,
		.ar = AR_P | AR_S | AR_CODE | AR_RW | AR_ACCESSED | AR_G | cpl << AR_DPL_SHIFT | (is64 ? AR_L : AR_DB),
	};
}

void seg_set_flat_ss(struct cpu *c, u16 sel, unsigned cpl)
{
	c->seg[S_SS] = (struct cpu_seg){
		.limit = 0xffffffff, .sel = sel, .ar = AR_P | AR_S | AR_RW | AR_ACCESSED | AR_G | AR_DB | cpl << AR_DPL_SHIFT,
	};
}

struct cpu_seg seg_check_ss(struct cpu *c, u16 sel, unsigned cpl, unsigned vector, bool null_ok)
{
	if (SEL_NULL(sel)) {
		if (!null_ok || cpl == 3 || SEL_RPL(sel) != cpl)
			cpu_raise(c, vector, true, 0);
		return (struct cpu_seg){ .sel = sel, .ar = AR_UNUSABLE | cpl << AR_DPL_SHIFT };
	}
	u64 d = desc_get(c, sel, vector);
	u32 ar = DESC_AR(d);
	if (SEL_RPL(sel) != cpl || ar_dpl(ar) != cpl || !ar_is_wdata(ar))
		cpu_raise(c, vector, true, SEL_ERR(sel));
	if (!(ar & AR_P))
		cpu_raise(c, EX_SS, true, SEL_ERR(sel));
	desc_set_accessed(c, sel, &d);
	return desc_seg(sel, d);
}

void seg_load(struct cpu *c, unsigned seg, u16 sel)
{
	if (cpu_is_real(c) || cpu_is_v86(c)) {
		seg_load_real(c, seg, sel);
		return;
	}
	if (seg == S_SS) {
		c->seg[S_SS] = seg_check_ss(c, sel, c->cpl, EX_GP, cpu_is_64(c));
		return;
	}
	if (SEL_NULL(sel)) {
		seg_set_null(c, seg, sel);
		return;
	}
	u64 d = desc_get(c, sel, EX_GP);
	u32 ar = DESC_AR(d);
	if (!(ar & AR_S) || (ar & (AR_CODE | AR_RW)) == AR_CODE)
		cpu_gp(c, SEL_ERR(sel));
	if ((ar & (AR_CODE | AR_DC)) != (AR_CODE | AR_DC)) {
		if (ar_dpl(ar) < c->cpl || ar_dpl(ar) < SEL_RPL(sel))
			cpu_gp(c, SEL_ERR(sel));
	}
	if (!(ar & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	desc_set_accessed(c, sel, &d);
	c->seg[seg] = desc_seg(sel, d);
}

void tss_stack(struct cpu *c, unsigned cpl, u16 *ss, u64 *sp)
{
	const struct cpu_seg *tr = &c->seg[S_TR];
	unsigned off, size;

	if (cpu_is_long(c)) {
		off = 4 + 8 * cpl;
		size = 8;
	} else if (tr->ar & 8) {
		off = 4 + 8 * cpl;
		size = 6;
	} else {
		off = 2 + 4 * cpl;
		size = 4;
	}
	if (tr->ar & AR_UNUSABLE || off + size - 1 > tr->limit)
		cpu_raise(c, EX_TS, true, SEL_ERR(tr->sel));
	gva_t la = wrap(c, tr->base + off);
	if (cpu_is_long(c)) {
		*sp = lin_ld(c, la, 8, MMU_IMPLICIT);
		*ss = 0;
	} else if (size == 6) {
		*sp = lin_ld(c, la, 4, MMU_IMPLICIT);
		*ss = (u16)lin_ld(c, wrap(c, la + 4), 2, MMU_IMPLICIT);
	} else {
		*sp = lin_ld(c, la, 2, MMU_IMPLICIT);
		*ss = (u16)lin_ld(c, wrap(c, la + 2), 2, MMU_IMPLICIT);
	}
}

u64 tss_ist(struct cpu *c, unsigned ist)
{
	const struct cpu_seg *tr = &c->seg[S_TR];
	unsigned off = 0x24 + 8 * (ist - 1);

	if (tr->ar & AR_UNUSABLE || off + 7 > tr->limit)
		cpu_raise(c, EX_TS, true, SEL_ERR(tr->sel));
	return lin_ld(c, tr->base + off, 8, MMU_IMPLICIT);
}

/* ---- stacks ---- */

struct stack stack_new(struct cpu *c, const struct cpu_seg *ss, u64 sp, unsigned cpl, bool is64)
{
	return (struct stack){
		.seg = *ss, .sp = sp, .mask = is64 ? ~0ull : ss->ar & AR_DB ? 0xffffffff : 0xffff, .idx = mmu_idx_of(c, cpl), .is64 = is64,
	};
}

struct stack stack_current(struct cpu *c)
{
	return stack_new(c, &c->seg[S_SS], c->gpr[R_SP], c->cpl, cpu_is_64(c));
}

static gva_t stack_linear(struct cpu *c, const struct stack *s, u64 off, unsigned size)
{
	u64 last = off + size - 1;

	if (s->is64) {
		if (!cpu_canonical(c, off) || !cpu_canonical(c, last))
			cpu_raise(c, EX_SS, true, s->error);
		return off;
	}
	if (s->seg.ar & AR_UNUSABLE)
		cpu_raise(c, EX_SS, true, s->error);
	if ((s->seg.ar & (AR_S | AR_CODE | AR_DC)) == (AR_S | AR_DC)) {
		if (off <= s->seg.limit || last > (s->seg.ar & AR_DB ? 0xffffffff : 0xffff))
			cpu_raise(c, EX_SS, true, s->error);
	} else if (last > s->seg.limit) {
		cpu_raise(c, EX_SS, true, s->error);
	}
	return (u32)(s->seg.base + off);
}

void stack_push(struct cpu *c, struct stack *s, unsigned size, u64 val)
{
	u64 off = (s->sp - size) & s->mask;

	lin_st(c, stack_linear(c, s, off, size), size, val, s->idx);
	s->sp = off | (s->sp & ~s->mask);
}

u64 stack_pop(struct cpu *c, struct stack *s, unsigned size)
{
	u64 off = s->sp & s->mask;
	u64 v = lin_ld(c, stack_linear(c, s, off, size), size, s->idx);

	s->sp = ((s->sp + size) & s->mask) | (s->sp & ~s->mask);
	return v;
}

void stack_commit_sp(struct cpu *c, const struct stack *s)
{
	if (s->mask == 0xffff)
		c->gpr[R_SP] = (c->gpr[R_SP] & ~0xffffull) | (s->sp & 0xffff);
	else
		c->gpr[R_SP] = s->sp & s->mask;
}

void check_target(struct cpu *c, const struct cpu_seg *cs, bool is64, u64 rip)
{
	if (is64 ? !cpu_canonical(c, rip) : rip > cs->limit)
		cpu_gp(c, 0);
}
