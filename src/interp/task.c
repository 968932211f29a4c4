/* SPDX-License-Identifier: MIT */
/*
 * Hardware task switches (SDM 3, chapter 7): JMP, CALL, IRET and task gates, between 16- and 32-bit TSSs. Not in long mode.
 *
 * The order is the manual's: checks in the old task's context; the old TSS written; the new one read; TR, CR3, flags and registers
 * loaded; then the segment registers, whose faults already belong to the new task.
 */
#include "cpu/cr.h"
#include "interp/access.h"
#include "interp/seg.h"
#include "mmu/mmu.h"

struct tss {
	u32 cr3, eip, eflags, gpr[8];
	u16 seg[6], ldt, link; /* ES CS SS DS FS GS */
	bool trap;
};

static u32 rd(struct cpu *c, u32 base, unsigned off, unsigned size)
{
	return (u32)lin_ld(c, (u32)(base + off), size, MMU_IMPLICIT);
}

static void wr(struct cpu *c, u32 base, unsigned off, unsigned size, u32 v)
{
	lin_st(c, (u32)(base + off), size, v, MMU_IMPLICIT);
}

static void tss_read(struct cpu *c, const struct cpu_seg *s, struct tss *t)
{
	bool is32 = s->ar & 8;
	u32 b = (u32)s->base;
	unsigned w = is32 ? 4 : 2, at = is32 ? 0x20 : 0x0e;

	*t = (struct tss){ .link = (u16)rd(c, b, 0, 2) };
	if (is32)
		t->cr3 = rd(c, b, 0x1c, 4);
	t->eip = rd(c, b, at, w);
	t->eflags = rd(c, b, at + w, w);
	at += 2 * w;
	for (unsigned n = 0; n < 8; n++, at += w)
		t->gpr[n] = rd(c, b, at, w) | (is32 ? 0 : 0xffff0000);
	for (unsigned n = 0; n < (is32 ? 6u : 4u); n++, at += w)
		t->seg[n] = (u16)rd(c, b, at, 2);
	t->ldt = (u16)rd(c, b, at, 2);
	t->trap = is32 && rd(c, b, 0x64, 2) & 1;
}

static void tss_save(struct cpu *c, const struct cpu_seg *s, u32 eip, u32 eflags)
{
	bool is32 = s->ar & 8;
	u32 b = (u32)s->base;
	unsigned w = is32 ? 4 : 2, at = is32 ? 0x20 : 0x0e;

	lin_check_write(c, (u32)(b + at), is32 ? 0x60 - 0x20 : 0x2a - 0x0e, MMU_IMPLICIT);
	wr(c, b, at, w, eip);
	wr(c, b, at + w, w, eflags);
	at += 2 * w;
	for (unsigned n = 0; n < 8; n++, at += w)
		wr(c, b, at, w, (u32)c->gpr[n]);
	for (unsigned n = 0; n < (is32 ? 6u : 4u); n++, at += w)
		wr(c, b, at, 2, c->seg[n].sel);
}

static struct cpu_seg check_tss(struct cpu *c, u16 sel, enum task_reason why)
{
	unsigned vec = why == TASK_IRET ? EX_TS : EX_GP;
	u64 d;

	if (SEL_NULL(sel) || sel & 4 || !desc_read(c, sel, &d))
		cpu_raise(c, vec, true, SEL_ERR(sel));
	unsigned type = DESC_AR(d) & (AR_S | AR_TYPE), avail = why == TASK_IRET ? 2 : 0;
	if ((type & ~8u) != (SYS_TSS16 | avail))
		cpu_raise(c, vec, true, SEL_ERR(sel));
	if (!(DESC_AR(d) & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	struct cpu_seg s = desc_seg(sel, d);
	if (s.limit < (s.ar & 8 ? 0x67u : 0x2bu))
		cpu_raise(c, EX_TS, true, SEL_ERR(sel));
	return s;
}

static void load_ldt(struct cpu *c, u16 sel)
{
	u64 d;

	c->seg[S_LDTR] = (struct cpu_seg){ .sel = sel, .ar = AR_UNUSABLE };
	if (SEL_NULL(sel))
		return;
	if (sel & 4 || !desc_read(c, sel, &d) || (DESC_AR(d) & (AR_S | AR_TYPE)) != SYS_LDT || !(DESC_AR(d) & AR_P))
		cpu_raise(c, EX_TS, true, SEL_ERR(sel));
	c->seg[S_LDTR] = desc_seg(sel, d);
}

static void load_code(struct cpu *c, u16 sel)
{
	if (SEL_NULL(sel))
		cpu_raise(c, EX_TS, true, 0);
	u64 d = desc_get(c, sel, EX_TS);
	u32 ar = DESC_AR(d);
	if (!ar_is_code(ar) || (ar & AR_DC ? ar_dpl(ar) > SEL_RPL(sel) : ar_dpl(ar) != SEL_RPL(sel)))
		cpu_raise(c, EX_TS, true, SEL_ERR(sel));
	if (!(ar & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	desc_set_accessed(c, sel, &d);
	c->seg[S_CS] = desc_seg(sel, d);
}

static void load_data(struct cpu *c, unsigned seg, u16 sel, unsigned cpl)
{
	if (SEL_NULL(sel)) {
		seg_set_null(c, seg, sel);
		return;
	}
	u64 d = desc_get(c, sel, EX_TS);
	u32 ar = DESC_AR(d);
	if (!(ar & AR_S) || (ar & (AR_CODE | AR_RW)) == AR_CODE)
		cpu_raise(c, EX_TS, true, SEL_ERR(sel));
	if ((ar & (AR_CODE | AR_DC)) != (AR_CODE | AR_DC) && (ar_dpl(ar) < cpl || ar_dpl(ar) < SEL_RPL(sel)))
		cpu_raise(c, EX_TS, true, SEL_ERR(sel));
	if (!(ar & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	desc_set_accessed(c, sel, &d);
	c->seg[seg] = desc_seg(sel, d);
}

static void load_segs(struct cpu *c, const struct tss *t)
{
	static const u8 data[] = { S_ES, S_DS, S_FS, S_GS };
	unsigned cpl = SEL_RPL(t->seg[S_CS]);

	/* The selectors first: a fault below finds them loaded, with nothing behind them yet. */
	for (unsigned n = 0; n < S_COUNT; n++)
		c->seg[n] = (struct cpu_seg){ .sel = t->seg[n], .ar = AR_UNUSABLE };
	if (cpu_is_v86(c)) {
		for (unsigned n = 0; n < S_COUNT; n++)
			seg_load_real(c, n, t->seg[n]);
		load_ldt(c, t->ldt);
		cpu_update_mode(c);
		return;
	}
	c->seg[S_SS].ar |= cpl << AR_DPL_SHIFT;
	cpu_update_mode(c);
	load_ldt(c, t->ldt);
	load_code(c, t->seg[S_CS]);
	c->seg[S_SS] = seg_check_ss(c, t->seg[S_SS], cpl, EX_TS, false);
	for (unsigned n = 0; n < ARRAY_SIZE(data); n++)
		load_data(c, data[n], t->seg[data[n]], cpl);
	cpu_update_mode(c);
}

void task_switch(struct cpu *c, u16 sel, enum task_reason why, u64 ret_rip, bool has_error, u32 error)
{
	struct cpu_seg old = c->seg[S_TR], new = check_tss(c, sel, why);
	bool nest = why == TASK_CALL || why == TASK_GATE;
	u32 fl = (u32)cpu_get_rflags(c);
	struct tss t;

	if (why == TASK_IRET)
		fl &= ~X86_NT;
	tss_read(c, &new, &t);
	tss_save(c, &old, (u32)ret_rip, fl);
	if (nest)
		wr(c, (u32)new.base, 0, 2, old.sel);
	if (!nest)
		desc_set_busy(c, old.sel, false);
	if (why != TASK_IRET)
		desc_set_busy(c, sel, true);
	new.ar |= 2;
	c->seg[S_TR] = new;
	c->cr0 |= CR0_TS;
	c->dr7 &= ~0x155ull; /* local breakpoints and LE end with their task */
	if (new.ar & 8 && c->cr0 & CR0_PG && cpu_set_cr3(c, t.cr3))
		cpu_raise(c, EX_TS, true, SEL_ERR(sel));
	for (unsigned n = 0; n < 8; n++)
		c->gpr[n] = t.gpr[n];
	cpu_set_rflags(c, (t.eflags & (new.ar & 8 ? 0x3f7fd7 : 0x7fd7)) | 2 | (nest ? X86_NT : 0));
	c->rip = c->next_rip = t.eip;
	c->cur = NULL; /* from here on faults belong to the new task's first instruction */
	load_segs(c, &t);
	if (c->next_rip > c->seg[S_CS].limit)
		cpu_raise(c, EX_TS, true, SEL_ERR(t.seg[S_CS]));
	if (has_error)
		push(c, new.ar & 8 ? 4 : 2, error);
	if (t.trap) {
		c->dr6 |= 1u << 15;
		cpu_raise(c, EX_DB, false, 0);
	}
}
