/* SPDX-License-Identifier: MIT */
/*
 * Instructions on segment registers and descriptors: Sreg moves, LAR to ARPL, LDTR and TR, FS and GS bases.
 */
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "interp/access.h"
#include "interp/ops.h"
#include "interp/seg.h"

static u16 source16(struct cpu *c, const struct insn *i)
{
	return i->has_mem ? (u16)ld(c, i->seg, ea_of(c, i), 2) : GPR16(c, i->rm);
}

/* A 16-bit value to r/m: memory gets two bytes, a register its whole operand size. */
static void dest16(struct cpu *c, const struct insn *i, u16 v)
{
	if (i->has_mem)
		st(c, i->seg, ea_of(c, i), 2, v);
	else
		gpr_write(c, i->rm, i->osz, v);
}

static void need_prot(struct cpu *c)
{
	if (cpu_is_real(c) || cpu_is_v86(c))
		cpu_ud(c);
}

static void need_cpl0(struct cpu *c)
{
	if (c->cpl)
		cpu_gp(c, 0);
}

static void loaded(struct cpu *c, unsigned seg)
{
	if (seg == S_SS)
		c->ev.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
	cpu_update_mode(c);
}

void op_mov_to_sreg(struct cpu *c, const struct insn *i)
{
	if (i->reg == S_CS || i->reg > S_GS)
		cpu_ud(c);
	seg_load(c, i->reg, source16(c, i));
	loaded(c, i->reg);
}

void op_mov_from_sreg(struct cpu *c, const struct insn *i)
{
	if (i->reg > S_GS)
		cpu_ud(c);
	dest16(c, i, c->seg[i->reg].sel);
}

void op_push_sreg(struct cpu *c, const struct insn *i)
{
	push(c, i->osz, c->seg[i->reg].sel);
}

void op_pop_sreg(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);
	u16 sel = (u16)ld(c, S_SS, s.sp & s.mask, 2);

	s.sp += i->osz;
	seg_load(c, i->reg, sel);
	stack_commit_sp(c, &s);
	loaded(c, i->reg);
}

void op_load_far_ptr(struct cpu *c, const struct insn *i)
{
	u8 b[10];
	u64 off = 0;

	if (!i->has_mem)
		cpu_ud(c);
	ld_bytes(c, i->seg, ea_of(c, i), b, i->osz + 2u);
	for (unsigned n = 0; n < i->osz; n++)
		off |= (u64)b[n] << (8 * n);
	seg_load(c, (unsigned)i->imm, (u16)(b[i->osz] | b[i->osz + 1] << 8));
	gpr_write(c, i->reg, i->osz, off);
	cpu_update_mode(c);
}

/* ---- looking at descriptors ---- */

static void set_zf(struct cpu *c, bool on)
{
	u32 bit = X86_ZF << 8;

	c->af = on ? c->af | bit : c->af & ~bit;
}

/* The descriptor, if LAR (types_lar) or LSL may see it. */
static bool visible(struct cpu *c, u16 sel, u32 types, u64 *d)
{
	if (SEL_NULL(sel) || !desc_read(c, sel, d))
		return false;
	u32 ar = DESC_AR(*d);
	if (!(ar & AR_S)) {
		u64 hi;

		if (!(types >> (ar & AR_TYPE) & 1))
			return false;
		if (cpu_is_long(c) && (!desc_read_hi(c, sel, &hi) || hi >> 40 & 0x1f))
			return false;
	}
	if (ar_is_code(ar) && ar & AR_DC)
		return true;
	return ar_dpl(ar) >= c->cpl && ar_dpl(ar) >= SEL_RPL(sel);
}

void op_lar(struct cpu *c, const struct insn *i)
{
	u32 types = cpu_is_long(c) ? 1u << 2 | 1u << 9 | 1u << 11 | 1u << 12 :
				     1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 9 | 1u << 11 | 1u << 12;
	u64 d;

	need_prot(c);
	bool ok = visible(c, source16(c, i), types, &d);
	if (ok)
		gpr_write(c, i->reg, i->osz, (d >> 32) & 0x00f0ff00);
	set_zf(c, ok);
}

void op_lsl(struct cpu *c, const struct insn *i)
{
	u32 types = cpu_is_long(c) ? 1u << 2 | 1u << 9 | 1u << 11 : 1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11;
	u16 sel;
	u64 d;

	need_prot(c);
	sel = source16(c, i);
	bool ok = visible(c, sel, types, &d);
	if (ok)
		gpr_write(c, i->reg, i->osz, desc_seg(sel, d).limit);
	set_zf(c, ok);
}

static void verify(struct cpu *c, const struct insn *i, bool write)
{
	u64 d;
	bool ok;

	need_prot(c);
	ok = visible(c, source16(c, i), 0, &d);
	if (ok && write)
		ok = ar_is_wdata(DESC_AR(d));
	else if (ok)
		ok = (DESC_AR(d) & (AR_CODE | AR_RW)) != AR_CODE;
	set_zf(c, ok);
}

void op_verr(struct cpu *c, const struct insn *i)
{
	verify(c, i, false);
}

void op_verw(struct cpu *c, const struct insn *i)
{
	verify(c, i, true);
}

void op_arpl(struct cpu *c, const struct insn *i)
{
	need_prot(c);
	u64 ea = i->has_mem ? ea_of(c, i) : 0;
	u16 dst = source16(c, i), rpl = SEL_RPL(GPR16(c, i->reg));
	bool less = SEL_RPL(dst) < rpl;
	if (less) {
		dst = (u16)((dst & ~3) | rpl);
		if (i->has_mem)
			st(c, i->seg, ea, 2, dst);
		else
			GPR16(c, i->rm) = dst;
	}
	set_zf(c, less);
}

/* ---- LDTR, TR ---- */

static u64 system_base_hi(struct cpu *c, u16 sel)
{
	u64 hi = 0;

	if (!cpu_is_long(c))
		return 0;
	if (!desc_read_hi(c, sel, &hi) || hi >> 40 & 0x1f)
		cpu_gp(c, SEL_ERR(sel));
	return hi << 32;
}

void op_lldt(struct cpu *c, const struct insn *i)
{
	need_prot(c);
	need_cpl0(c);
	u16 sel = source16(c, i);
	if (SEL_NULL(sel)) {
		c->seg[S_LDTR] = (struct cpu_seg){ .sel = sel, .ar = AR_UNUSABLE };
		return;
	}
	if (sel & 4)
		cpu_gp(c, SEL_ERR(sel));
	u64 d = desc_get(c, sel, EX_GP);
	if ((DESC_AR(d) & (AR_S | AR_TYPE)) != SYS_LDT)
		cpu_gp(c, SEL_ERR(sel));
	if (!(DESC_AR(d) & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	struct cpu_seg s = desc_seg(sel, d);
	s.base |= system_base_hi(c, sel);
	if (!cpu_canonical(c, s.base))
		cpu_gp(c, SEL_ERR(sel));
	c->seg[S_LDTR] = s;
}

void op_ltr(struct cpu *c, const struct insn *i)
{
	need_prot(c);
	need_cpl0(c);
	u16 sel = source16(c, i);
	if (SEL_NULL(sel))
		cpu_gp(c, 0);
	if (sel & 4)
		cpu_gp(c, SEL_ERR(sel));
	u64 d = desc_get(c, sel, EX_GP);
	unsigned type = DESC_AR(d) & (AR_S | AR_TYPE);
	if (type != SYS_TSS32 && (type != SYS_TSS16 || cpu_is_long(c)))
		cpu_gp(c, SEL_ERR(sel));
	if (!(DESC_AR(d) & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	struct cpu_seg s = desc_seg(sel, d);
	s.base |= system_base_hi(c, sel);
	if (!cpu_canonical(c, s.base))
		cpu_gp(c, SEL_ERR(sel));
	desc_set_busy(c, sel, true);
	s.ar |= 2;
	c->seg[S_TR] = s;
}

static void need_no_umip(struct cpu *c)
{
	if (c->cpl && c->cr4 & CR4_UMIP)
		cpu_gp(c, 0);
}

void op_sldt(struct cpu *c, const struct insn *i)
{
	need_prot(c);
	need_no_umip(c);
	dest16(c, i, c->seg[S_LDTR].sel);
}

void op_str(struct cpu *c, const struct insn *i)
{
	need_prot(c);
	need_no_umip(c);
	dest16(c, i, c->seg[S_TR].sel);
}

/* ---- FS and GS bases ---- */

void op_swapgs(struct cpu *c, const struct insn *i)
{
	u64 base = c->seg[S_GS].base;

	if (!cpu_is_64(c))
		cpu_ud(c);
	need_cpl0(c);
	c->seg[S_GS].base = c->msr.kernel_gs_base;
	c->msr.kernel_gs_base = base;
}

static void need_fsgsbase(struct cpu *c)
{
	if (!cpu_is_64(c) || !(c->cr4 & CR4_FSGSBASE))
		cpu_ud(c);
}

static void wrbase(struct cpu *c, const struct insn *i, unsigned seg)
{
	need_fsgsbase(c);
	u64 v = gpr_read(c, i->rm, i->osz);
	if (!cpu_canonical(c, v))
		cpu_gp(c, 0);
	c->seg[seg].base = v;
}

void op_rdfsbase(struct cpu *c, const struct insn *i)
{
	need_fsgsbase(c);
	gpr_write(c, i->rm, i->osz, c->seg[S_FS].base);
}

void op_rdgsbase(struct cpu *c, const struct insn *i)
{
	need_fsgsbase(c);
	gpr_write(c, i->rm, i->osz, c->seg[S_GS].base);
}

void op_wrfsbase(struct cpu *c, const struct insn *i)
{
	wrbase(c, i, S_FS);
}

void op_wrgsbase(struct cpu *c, const struct insn *i)
{
	wrbase(c, i, S_GS);
}
