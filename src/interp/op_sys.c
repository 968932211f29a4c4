/* SPDX-License-Identifier: MIT */
/*
 * Instructions on control and debug registers, descriptor table registers, flags, caches and the TLB.
 */
#include "base/cache.h"
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/tlb.h"
#include "interp/access.h"
#include "interp/debug.h"
#include "interp/event.h"
#include "interp/ops.h"
#include "mmu/mmu.h"

static void need_cpl0(struct cpu *c)
{
	if (c->cpl)
		cpu_gp(c, 0);
}

static void mode_changed(struct cpu *c)
{
	if (!c->ops->mode_changed)
		return;
	cpu_fpu_put(c);
	c->ops->mode_changed(c);
}

static unsigned native_size(const struct cpu *c)
{
	return cpu_is_64(c) ? 8 : 4;
}

/* ---- control registers ---- */

void op_mov_from_cr(struct cpu *c, const struct insn *i)
{
	u64 v;

	if (i->reg != 0 && i->reg != 2 && i->reg != 3 && i->reg != 4 && i->reg != 8)
		cpu_ud(c);
	need_cpl0(c);
	switch (i->reg) {
	case 0: v = c->cr0; break;
	case 2: v = c->cr2; break;
	case 3: v = c->cr3; break;
	case 4: v = c->cr4; break;
	default:
		cpu_fpu_put(c);
		v = c->ops->get_tpr(c);
	}
	gpr_write(c, i->rm, native_size(c), v);
}

void op_mov_to_cr(struct cpu *c, const struct insn *i)
{
	u64 v = gpr_read(c, i->rm, native_size(c));
	int r = 0;

	if (i->reg != 0 && i->reg != 2 && i->reg != 3 && i->reg != 4 && i->reg != 8)
		cpu_ud(c);
	need_cpl0(c);
	switch (i->reg) {
	case 0: r = cpu_set_cr0(c, v); break;
	case 2: c->cr2 = v; return;
	case 3: r = cpu_set_cr3(c, v); break;
	case 4: r = cpu_set_cr4(c, v); break;
	default:
		if (v >> 4)
			cpu_gp(c, 0);
		cpu_fpu_put(c);
		c->ops->set_tpr(c, v);
		return;
	}
	if (r)
		cpu_gp(c, 0);
	if (i->reg != 3)
		mode_changed(c);
}

void op_lmsw(struct cpu *c, const struct insn *i)
{
	need_cpl0(c);
	u64 v = i->has_mem ? ld(c, i->seg, ea_of(c, i), 2) : GPR16(c, i->rm);
	/* PE can be set but not cleared. */
	v = (c->cr0 & ~(u64)(CR0_MP | CR0_EM | CR0_TS)) | (v & 0xf);
	if (cpu_set_cr0(c, v))
		cpu_gp(c, 0);
	mode_changed(c);
}

static void need_no_umip(struct cpu *c)
{
	if (c->cpl && c->cr4 & CR4_UMIP)
		cpu_gp(c, 0);
}

void op_smsw(struct cpu *c, const struct insn *i)
{
	need_no_umip(c);
	if (i->has_mem)
		st(c, i->seg, ea_of(c, i), 2, (u16)c->cr0);
	else
		gpr_write(c, i->rm, i->osz, c->cr0);
}

void op_clts(struct cpu *c, const struct insn *i)
{
	need_cpl0(c);
	c->cr0 &= ~CR0_TS;
	cpu_update_mode(c);
}

/* ---- debug registers ---- */

static unsigned debug_reg(struct cpu *c, const struct insn *i)
{
	unsigned n = i->reg;

	if (n > 7 || ((n == 4 || n == 5) && c->cr4 & CR4_DE))
		cpu_ud(c);
	need_cpl0(c);
	if (debug_dr7(c) & DR7_GD)
		debug_raise(c, DR6_BD);
	return n == 4 || n == 5 ? n + 2 : n;
}

void op_mov_from_dr(struct cpu *c, const struct insn *i)
{
	unsigned n = debug_reg(c, i);

	gpr_write(c, i->rm, native_size(c), n < 4 ? c->dr[n] : n == 6 ? c->dr6 : c->dr7);
}

void op_mov_to_dr(struct cpu *c, const struct insn *i)
{
	unsigned n = debug_reg(c, i);
	u64 v = gpr_read(c, i->rm, native_size(c));

	if (n >= 6 && v >> 32)
		cpu_gp(c, 0);
	if (n < 4)
		c->dr[n] = v;
	else if (n == 6)
		c->dr6 = (v & 0xe00f) | DR6_FIXED;
	else
		c->dr7 = (v & 0xffff23ff) | DR7_FIXED;
	cpu_tlb_flush(c); /* a page that a watchpoint lies on must be seen by the slow path */
}

/* ---- descriptor table registers ---- */

static void load_table(struct cpu *c, const struct insn *i, struct cpu_dtable *t)
{
	u8 b[10];
	unsigned n = cpu_is_64(c) ? 8 : 4;
	u64 base = 0;

	if (!i->has_mem)
		cpu_ud(c);
	need_cpl0(c);
	ld_bytes(c, i->seg, ea_of(c, i), b, n + 2);
	for (unsigned k = 0; k < n; k++)
		base |= (u64)b[k + 2] << (8 * k);
	if (n == 4 && i->osz == 2)
		base &= 0xffffff;
	if (n == 8 && !cpu_canonical(c, base))
		cpu_gp(c, 0);
	t->base = base;
	t->limit = (u16)(b[0] | b[1] << 8);
}

static void store_table(struct cpu *c, const struct insn *i, const struct cpu_dtable *t)
{
	u8 b[10];
	unsigned n = cpu_is_64(c) ? 8 : 4;

	if (!i->has_mem)
		cpu_ud(c);
	need_no_umip(c);
	b[0] = (u8)t->limit;
	b[1] = (u8)(t->limit >> 8);
	for (unsigned k = 0; k < n; k++)
		b[k + 2] = (u8)(t->base >> (8 * k));
	st_bytes(c, i->seg, ea_of(c, i), b, n + 2);
}

void op_lgdt(struct cpu *c, const struct insn *i)
{
	load_table(c, i, &c->gdtr);
}

void op_lidt(struct cpu *c, const struct insn *i)
{
	load_table(c, i, &c->idtr);
}

void op_sgdt(struct cpu *c, const struct insn *i)
{
	store_table(c, i, &c->gdtr);
}

void op_sidt(struct cpu *c, const struct insn *i)
{
	store_table(c, i, &c->idtr);
}

/* ---- TLB and caches ---- */

void op_invlpg(struct cpu *c, const struct insn *i)
{
	u64 la;

	if (!i->has_mem)
		cpu_ud(c);
	need_cpl0(c);
	la = ea_of(c, i);
	if (!cpu_is_64(c))
		la = (u32)(la + c->seg[i->seg].base);
	else if (i->seg >= S_FS)
		la += c->seg[i->seg].base;
	cpu_tlb_flush_page(c, la);
}

void op_invlpga(struct cpu *c, const struct insn *i)
{
	cpu_ud(c);
}

void op_invpcid(struct cpu *c, const struct insn *i)
{
	u64 d[2], type;

	if (!cpu_has(c, CPUID_INVPCID) || !i->has_mem || cpu_is_v86(c))
		cpu_ud(c);
	need_cpl0(c);
	type = gpr_read(c, i->reg, native_size(c));
	if (type > 3)
		cpu_gp(c, 0);
	ld_bytes(c, i->seg, ea_of(c, i), d, 16);
	if (type < 2) {
		if (d[0] >> 12 || (d[0] && !(c->cr4 & CR4_PCIDE)))
			cpu_gp(c, 0);
		if (type == 0 && !cpu_canonical(c, d[1]))
			cpu_gp(c, 0);
	}
	bool present = !(c->cr4 & CR4_PCIDE) || d[0] == (c->cr3 & 0xfff);
	if (type == 0 && present)
		cpu_tlb_flush_page(c, d[1]);
	else if (type == 1 && present)
		cpu_tlb_flush_local(c);
	else if (type < 2)
		cpu_tlb_flush_pcid(c, (u16)d[0]);
	else if (type == 3)
		cpu_tlb_flush_locals(c);
	else
		cpu_tlb_flush(c);
}

void op_invd(struct cpu *c, const struct insn *i)
{
	need_cpl0(c);
	cpu_fpu_put(c);
	c->ops->wbinvd(c);
}

/* Any byte of the line will do: the access checks are those of a load of one byte (SDM 2, CLFLUSH). */
void op_clflush(struct cpu *c, const struct insn *i)
{
	if (!i->has_mem || !cpu_has(c, CPUID_CLFLUSH))
		cpu_ud(c);
	u64 off = ea_of(c, i);

	ld(c, i->seg, off, 1);
	if (unlikely(load_relaxed(&c->noncoherent))) {
		void *p = lin_ptr(c, seg_linear_noac(c, i->seg, off, 1, ACC_READ), 1, false, c->mmu_idx);

		if (p)
			cache_flush_line((u64)p);
	}
}

void op_clzero(struct cpu *c, const struct insn *i)
{
	static const u8 zero[64];

	if (!cpu_has(c, CPUID_CLZERO))
		cpu_ud(c);
	/* The line is that of the linear address; outside 64-bit mode all of it has to lie in the segment. */
	u64 off = gpr_read(c, R_AX * 8, i->asz);
	gva_t la = seg_linear_noac(c, i->seg, off, 1, ACC_WRITE);
	if (!cpu_is_64(c))
		seg_linear_noac(c, i->seg, (u32)(off - (la & 63)), 64, ACC_WRITE);
	lin_st_bytes(c, la & ~63ull, zero, 64, c->mmu_idx);
}

/* ---- stop, leave ---- */

void op_hlt(struct cpu *c, const struct insn *i)
{
	need_cpl0(c);
	if (c->rflags & X86_TF)
		return; /* the single-step trap ends it at once */
	c->rip = c->next_rip;
	cpu_exit(c, CPU_EXIT_HLT);
}

/* MONITOR and MWAIT: a wait may end at any time, so one that does not begin is right. */
void op_mwait(struct cpu *c, const struct insn *i)
{
	if (!(load_relaxed(&c->policy) & CPU_POLICY_MWAIT_NOP) && !cpuid_has_mwait(c))
		cpu_ud(c);
	if (c->cpl)
		cpu_ud(c);
}

/*
 * VMCALL is Intel's and VMMCALL AMD's, by the host's maker as in KVM. The other one is replaced in the guest's code, so that it happens
 * once; where the guest may not write to its code it is taken as it is each time.
 */
static void make_native(struct cpu *c, const struct insn *i)
{
	const u8 code[3] = { 0x0f, 0x01, cpuid_host_is_amd() ? 0xd9 : 0xc1 };
	gva_t la = cpu_is_64(c) ? c->rip : (u32)(c->seg[S_CS].base + c->rip);
	struct mmu_result r;

	if (i->modrm == code[2])
		return;
	if (!(load_relaxed(&c->policy) & CPU_POLICY_FIX_HYPERCALL))
		cpu_ud(c);
	if (i->len == sizeof(code) && !mmu_walk(c, la, MMU_W, c->mmu_idx, &r) && !mmu_walk(c, la + 2, MMU_W, c->mmu_idx, &r))
		lin_st_bytes(c, la, code, sizeof(code), c->mmu_idx);
}

void op_hypercall(struct cpu *c, const struct insn *i)
{
	make_native(c, i);
	cpu_fpu_put(c);
	c->rip = c->next_rip;
	if (c->ops->hypercall(c))
		cpu_exit(c, CPU_EXIT_USER);
}

void op_ud(struct cpu *c, const struct insn *i)
{
	cpu_ud(c);
}

/* ---- flags ---- */

/* CLI and STI act on VIF instead of IF: virtual-8086 mode with VME, or CPL 3 with PVI, when IOPL forbids the real thing. */
static bool uses_vif(struct cpu *c)
{
	if (cpu_is_real(c) || c->cpl <= cpu_iopl(c))
		return false;
	if (cpu_is_v86(c) ? c->cr4 & CR4_VME : c->cpl == 3 && c->cr4 & CR4_PVI)
		return true;
	cpu_gp(c, 0);
}

void op_cli(struct cpu *c, const struct insn *i)
{
	if (uses_vif(c))
		c->rflags &= ~X86_VIF;
	else
		c->rflags &= ~X86_IF;
}

void op_sti(struct cpu *c, const struct insn *i)
{
	u32 old = c->rflags;

	if (uses_vif(c)) {
		if (old & X86_VIP)
			cpu_gp(c, 0);
		c->rflags |= X86_VIF;
		return;
	}
	if (old & X86_IF)
		return;
	c->rflags |= X86_IF;
	c->ev.shadow |= KVM_X86_SHADOW_INT_STI;
	event_if_changed(c, old);
}

static void set_ac(struct cpu *c, bool on)
{
	u64 fl = cpu_get_rflags(c);

	if (!cpu_has(c, CPUID_SMAP) || c->cpl)
		cpu_ud(c);
	cpu_set_rflags(c, on ? fl | X86_AC : fl & ~(u64)X86_AC);
}

void op_clac(struct cpu *c, const struct insn *i)
{
	set_ac(c, false);
}

void op_stac(struct cpu *c, const struct insn *i)
{
	set_ac(c, true);
}

void op_pushf(struct cpu *c, const struct insn *i)
{
	u32 fl = (u32)cpu_get_rflags(c) & ~(X86_VM | X86_RF);

	if (cpu_is_v86(c) && cpu_iopl(c) < 3) {
		if (!(c->cr4 & CR4_VME) || i->osz != 2)
			cpu_gp(c, 0);
		fl = (fl & ~X86_IF) | X86_IOPL | (fl & X86_VIF ? X86_IF : 0);
	}
	push(c, i->osz, fl);
}

static u32 popf_mask(const struct cpu *c, unsigned osz)
{
	u32 mask = X86_ARITH | X86_TF | X86_DF | X86_NT;

	if (osz > 2)
		mask |= X86_RF | X86_AC | X86_ID; /* RF: the image's bit is dropped, so it is cleared */
	if (c->cpl <= cpu_iopl(c))
		mask |= X86_IF;
	if (c->cpl == 0)
		mask |= X86_IOPL;
	return mask;
}

void op_popf(struct cpu *c, const struct insn *i)
{
	u32 cur = (u32)cpu_get_rflags(c), mask = popf_mask(c, i->osz), fl;

	if (cpu_is_v86(c) && cpu_iopl(c) < 3) {
		if (!(c->cr4 & CR4_VME) || i->osz != 2)
			cpu_gp(c, 0);
		fl = (u16)ld(c, S_SS, c->gpr[R_SP] & stack_mask(c), 2);
		if (fl & X86_TF || (fl & X86_IF && cur & X86_VIP))
			cpu_gp(c, 0);
		pop(c, 2);
		cur = fl & X86_IF ? cur | X86_VIF : cur & ~X86_VIF;
	} else {
		fl = (u32)pop(c, i->osz) & ~X86_RF;
	}
	u32 old = c->rflags;
	cpu_set_rflags(c, (cur & ~mask) | (fl & mask));
	event_if_changed(c, old);
}

static void need_lahf(struct cpu *c)
{
	if (cpu_is_64(c) && !cpu_has(c, CPUID_LAHF_LM))
		cpu_ud(c);
}

void op_lahf(struct cpu *c, const struct insn *i)
{
	need_lahf(c);
	GPR8(c, 1) = (u8)cpu_af_to_flags(c->af) | 2;
}

void op_sahf(struct cpu *c, const struct insn *i)
{
	need_lahf(c);
	c->af = cpu_flags_to_af((cpu_af_to_flags(c->af) & X86_OF) | GPR8(c, 1));
}

/* ---- protection keys: CPUID does not show them and CR4.PKE cannot be set ---- */

void op_rdpkru(struct cpu *c, const struct insn *i)
{
	if (!(c->cr4 & CR4_PKE))
		cpu_ud(c);
	if ((u32)c->gpr[R_CX])
		cpu_gp(c, 0);
	c->gpr[R_AX] = c->pkru_soft;
	c->gpr[R_DX] = 0;
}

void op_wrpkru(struct cpu *c, const struct insn *i)
{
	if (!(c->cr4 & CR4_PKE))
		cpu_ud(c);
	if ((u32)c->gpr[R_CX] || (u32)c->gpr[R_DX])
		cpu_gp(c, 0);
	c->pkru_soft = (u32)c->gpr[R_AX];
	cpu_tlb_flush(c);
}
