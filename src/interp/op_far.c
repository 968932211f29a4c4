/* SPDX-License-Identifier: MIT */
/*
 * Far transfers: CALL, JMP, RET, IRET, software interrupts, system calls (SDM 2; SDM 3, 5.8 and 6.12). Each computes and checks
 * everything before it commits CS, SS and the stack pointer.
 */
#include "base/process.h"
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/msr.h"
#include "interp/access.h"
#include "interp/debug.h"
#include "interp/event.h"
#include "interp/fast.h"
#include "interp/ops.h"
#include "interp/seg.h"

static u64 truncate_to(u64 v, unsigned size)
{
	return size == 8 ? v : size == 4 ? (u32)v : (u16)v;
}

static void load_cs(struct cpu *c, u16 sel, u64 d, unsigned cpl)
{
	c->seg[S_CS] = desc_seg((u16)(SEL_ERR(sel) | cpl), d);
}

static bool desc_is64(const struct cpu *c, u64 d)
{
	return cpu_is_long(c) && DESC_AR(d) & AR_L;
}

static void check_cs_mode(struct cpu *c, u16 sel, u32 ar)
{
	if (!(ar & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	if (cpu_is_long(c) && (ar & (AR_L | AR_DB)) == (AR_L | AR_DB))
		cpu_gp(c, SEL_ERR(sel));
}

/* ---- CALL and JMP ---- */

static void far_real(struct cpu *c, u16 sel, u64 off, unsigned osz, bool call)
{
	struct stack s = stack_current(c);

	if (off > (cpu_is_v86(c) ? 0xffff : c->seg[S_CS].limit))
		cpu_gp(c, 0);
	if (call) {
		stack_push(c, &s, osz, c->seg[S_CS].sel);
		stack_push(c, &s, osz, c->next_rip);
		stack_commit_sp(c, &s);
	}
	seg_load_real(c, S_CS, sel);
	c->next_rip = off;
	cpu_update_mode(c);
}

static void far_code(struct cpu *c, u16 sel, u64 d, u64 off, unsigned osz, bool call)
{
	u32 ar = DESC_AR(d);

	if (ar & AR_DC ? ar_dpl(ar) > c->cpl : SEL_RPL(sel) > c->cpl || ar_dpl(ar) != c->cpl)
		cpu_gp(c, SEL_ERR(sel));
	check_cs_mode(c, sel, ar);
	struct cpu_seg cs = desc_seg(sel, d);
	struct stack s = stack_current(c);
	if (call) {
		stack_push(c, &s, osz, c->seg[S_CS].sel);
		stack_push(c, &s, osz, c->next_rip);
	}
	check_target(c, &cs, desc_is64(c, d), off);
	desc_set_accessed(c, sel, &d);
	if (call)
		stack_commit_sp(c, &s);
	load_cs(c, sel, d, c->cpl);
	c->next_rip = off;
	cpu_update_mode(c);
}

static void gate_inner(struct cpu *c, u16 sel, u64 d, u64 off, unsigned size, unsigned params)
{
	unsigned cpl = ar_dpl(DESC_AR(d));
	bool lm = cpu_is_long(c);
	u64 arg[31], sp;
	u16 ss;

	tss_stack(c, cpl, &ss, &sp);
	struct cpu_seg nss = lm ? (struct cpu_seg){ .sel = (u16)cpl, .ar = AR_UNUSABLE | cpl << AR_DPL_SHIFT } :
				  seg_check_ss(c, ss, cpl, EX_TS, false);
	struct stack old = stack_current(c), s = stack_new(c, &nss, sp, cpl, lm);
	s.error = SEL_ERR(ss);
	for (unsigned n = 0; n < params; n++)
		arg[n] = stack_pop(c, &old, size);
	stack_push(c, &s, size, c->seg[S_SS].sel);
	stack_push(c, &s, size, c->gpr[R_SP]);
	for (unsigned n = params; n-- > 0;)
		stack_push(c, &s, size, arg[n]);
	stack_push(c, &s, size, c->seg[S_CS].sel);
	stack_push(c, &s, size, c->next_rip);
	desc_set_accessed(c, sel, &d);
	c->seg[S_SS] = nss;
	stack_commit_sp(c, &s);
	load_cs(c, sel, d, cpl);
	c->next_rip = off;
	cpu_update_mode(c);
}

static void far_gate(struct cpu *c, u16 gate_sel, u64 gate, bool call)
{
	u32 gar = DESC_AR(gate);
	u64 hi = 0;
	bool lm = cpu_is_long(c);

	if (ar_dpl(gar) < c->cpl || ar_dpl(gar) < SEL_RPL(gate_sel))
		cpu_gp(c, SEL_ERR(gate_sel));
	if (!(gar & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(gate_sel));
	if (lm && (!desc_read_hi(c, gate_sel, &hi) || hi >> 40 & 0x1f))
		cpu_gp(c, SEL_ERR(gate_sel));
	u16 sel = (u16)(gate >> 16);
	unsigned size = lm ? 8 : gar & 8 ? 4 : 2;
	u64 off = (gate & 0xffff) | (size > 2 ? (gate >> 32) & 0xffff0000 : 0) | (lm ? hi << 32 : 0);
	if (SEL_NULL(sel))
		cpu_gp(c, 0);
	u64 d = desc_get(c, sel, EX_GP);
	u32 ar = DESC_AR(d);
	if (!ar_is_code(ar) || ar_dpl(ar) > c->cpl || (!call && !(ar & AR_DC) && ar_dpl(ar) != c->cpl))
		cpu_gp(c, SEL_ERR(sel));
	if (lm && (ar & (AR_L | AR_DB)) != AR_L)
		cpu_gp(c, SEL_ERR(sel));
	if (!(ar & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	struct cpu_seg cs = desc_seg(sel, d);
	check_target(c, &cs, lm, off);
	if (call && !(ar & AR_DC) && ar_dpl(ar) < c->cpl) {
		gate_inner(c, sel, d, off, size, lm ? 0 : (gate >> 32) & 31);
		return;
	}
	struct stack s = stack_current(c);
	if (lm) {
		s.is64 = true;
		s.mask = ~0ull;
	}
	if (call) {
		stack_push(c, &s, size, c->seg[S_CS].sel);
		stack_push(c, &s, size, c->next_rip);
	}
	desc_set_accessed(c, sel, &d);
	if (call)
		stack_commit_sp(c, &s);
	load_cs(c, sel, d, c->cpl);
	c->next_rip = off;
	cpu_update_mode(c);
}

static void far_transfer(struct cpu *c, u16 sel, u64 off, unsigned osz, bool call)
{
	enum task_reason why = call ? TASK_CALL : TASK_JMP;

	if (cpu_is_real(c) || cpu_is_v86(c)) {
		far_real(c, sel, off, osz, call);
		return;
	}
	if (SEL_NULL(sel))
		cpu_gp(c, 0);
	u64 d = desc_get(c, sel, EX_GP);
	u32 ar = DESC_AR(d);
	if (ar & AR_S) {
		if (!(ar & AR_CODE))
			cpu_gp(c, SEL_ERR(sel));
		far_code(c, sel, d, off, osz, call);
		return;
	}
	unsigned type = ar & AR_TYPE;
	if (type == SYS_CALL32 || (type == SYS_CALL16 && !cpu_is_long(c))) {
		far_gate(c, sel, d, call);
		return;
	}
	bool tss = type == SYS_TSS16 || type == SYS_TSS32;
	if (cpu_is_long(c) || (!tss && type != SYS_TASK) || ar_dpl(ar) < c->cpl || ar_dpl(ar) < SEL_RPL(sel))
		cpu_gp(c, SEL_ERR(sel));
	if (!(ar & AR_P))
		cpu_raise(c, EX_NP, true, SEL_ERR(sel));
	task_switch(c, tss ? sel : (u16)(d >> 16), why, c->next_rip, false, 0);
}

void op_call_far_imm(struct cpu *c, const struct insn *i)
{
	if (cpu_is_64(c))
		cpu_ud(c);
	far_transfer(c, (u16)(i->imm >> 32), truncate_to((u32)i->imm, i->osz), i->osz, true);
}

void op_jmp_far_imm(struct cpu *c, const struct insn *i)
{
	if (cpu_is_64(c))
		cpu_ud(c);
	far_transfer(c, (u16)(i->imm >> 32), truncate_to((u32)i->imm, i->osz), i->osz, false);
}

static void far_mem(struct cpu *c, const struct insn *i, bool call)
{
	u8 b[10];
	u64 off = 0, sel;

	if (!i->has_mem)
		cpu_ud(c);
	ld_bytes(c, i->seg, ea_of(c, i), b, i->osz + 2u);
	for (unsigned n = 0; n < i->osz; n++)
		off |= (u64)b[n] << (8 * n);
	sel = b[i->osz] | b[i->osz + 1] << 8;
	far_transfer(c, (u16)sel, off, i->osz, call);
}

void op_call_far_mem(struct cpu *c, const struct insn *i)
{
	far_mem(c, i, true);
}

void op_jmp_far_mem(struct cpu *c, const struct insn *i)
{
	far_mem(c, i, false);
}

/* ---- RET and IRET ---- */

/* The checks of the code segment that RETF and IRET return to; cpl is the selector's RPL. */
static u64 return_code(struct cpu *c, u16 sel)
{
	if (SEL_NULL(sel))
		cpu_gp(c, 0);
	u64 d = desc_get(c, sel, EX_GP);
	u32 ar = DESC_AR(d);
	if (!ar_is_code(ar) || SEL_RPL(sel) < c->cpl)
		cpu_gp(c, SEL_ERR(sel));
	if (ar & AR_DC ? ar_dpl(ar) > SEL_RPL(sel) : ar_dpl(ar) != SEL_RPL(sel))
		cpu_gp(c, SEL_ERR(sel));
	check_cs_mode(c, sel, ar);
	return d;
}

/* Data segments that the outer level may not use are taken away from it. */
static void drop_data_segs(struct cpu *c, unsigned cpl)
{
	static const u8 data[] = { S_ES, S_DS, S_FS, S_GS };

	for (unsigned n = 0; n < ARRAY_SIZE(data); n++) {
		const struct cpu_seg *s = &c->seg[data[n]];

		if (s->ar & AR_UNUSABLE || (s->ar & (AR_CODE | AR_DC)) == (AR_CODE | AR_DC))
			continue;
		if (ar_dpl(s->ar) < cpl)
			seg_set_null(c, data[n], 0);
	}
}

void op_ret_far(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);
	u64 rip = stack_pop(c, &s, i->osz);
	u16 sel = (u16)stack_pop(c, &s, i->osz);
	u32 extra = (u16)i->imm;

	if (cpu_is_real(c) || cpu_is_v86(c)) {
		if (rip > (cpu_is_v86(c) ? 0xffff : c->seg[S_CS].limit))
			cpu_gp(c, 0);
		s.sp += extra;
		stack_commit_sp(c, &s);
		seg_load_real(c, S_CS, sel);
		c->next_rip = rip;
		cpu_update_mode(c);
		return;
	}
	u64 d = return_code(c, sel);
	struct cpu_seg cs = desc_seg(sel, d);
	unsigned cpl = SEL_RPL(sel);
	s.sp = ((s.sp + extra) & s.mask) | (s.sp & ~s.mask);
	if (cpl == c->cpl) {
		check_target(c, &cs, desc_is64(c, d), rip);
		desc_set_accessed(c, sel, &d);
		stack_commit_sp(c, &s);
		load_cs(c, sel, d, cpl);
	} else {
		u64 sp = stack_pop(c, &s, i->osz);
		u16 ss = (u16)stack_pop(c, &s, i->osz);
		struct cpu_seg nss = seg_check_ss(c, ss, cpl, EX_GP, desc_is64(c, d));
		struct stack ns = stack_new(c, &nss, sp, cpl, desc_is64(c, d));

		check_target(c, &cs, desc_is64(c, d), rip);
		desc_set_accessed(c, sel, &d);
		ns.sp += extra;
		load_cs(c, sel, d, cpl);
		c->seg[S_SS] = nss;
		stack_commit_sp(c, &ns);
		drop_data_segs(c, cpl);
	}
	c->next_rip = rip;
	cpu_update_mode(c);
}

/* For direct execution (cpu.h). */
static void to_user(struct cpu *c)
{
	c->user_entries++;
	c->direct_root = unlikely(process_direct == DIRECT_ALWAYS) ? c->cr3 & CPU_ROOT_MASK : c->direct_next;
}

static void iret_done(struct cpu *c, u32 old_rflags)
{
	c->ev.nmi_masked = false;
	to_user(c);
	if (c->ev.want_nmi_window || c->ev.nmi_pending)
		cpu_request(c, CPU_REQ_EVENT);
	event_if_changed(c, old_rflags);
}

static void iret_real(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);
	u32 old = c->rflags, cur = (u32)cpu_get_rflags(c), keep = X86_VM | X86_VIF | X86_VIP;
	bool v86 = cpu_is_v86(c), vme = v86 && cpu_iopl(c) < 3;

	if (vme && (!(c->cr4 & CR4_VME) || i->osz != 2))
		cpu_gp(c, 0);
	u64 rip = stack_pop(c, &s, i->osz);
	u16 sel = (u16)stack_pop(c, &s, i->osz);
	u32 fl = (u32)stack_pop(c, &s, i->osz);
	if (rip > (v86 ? 0xffff : c->seg[S_CS].limit))
		cpu_gp(c, 0);
	if (i->osz == 2)
		keep |= 0xffff0000;
	if (v86)
		keep |= X86_IOPL;
	if (vme) {
		if (fl & X86_TF || (cur & X86_VIP && fl & X86_IF))
			cpu_gp(c, 0);
		keep |= X86_IF;
		cur = fl & X86_IF ? cur | X86_VIF : cur & ~X86_VIF;
	}
	fl = (fl & 0x277fd5 & ~keep) | (cur & keep);
	stack_commit_sp(c, &s);
	seg_load_real(c, S_CS, sel);
	c->next_rip = rip;
	cpu_set_rflags(c, fl);
	cpu_update_mode(c);
	iret_done(c, old);
}

static void iret_to_v86(struct cpu *c, struct stack *s, u64 rip, u16 cs, u32 fl)
{
	static const u8 order[] = { S_ES, S_DS, S_FS, S_GS };
	u32 old = c->rflags;
	u64 sp = stack_pop(c, s, 4);
	u16 sel[5];

	sel[4] = (u16)stack_pop(c, s, 4);
	for (unsigned n = 0; n < 4; n++)
		sel[n] = (u16)stack_pop(c, s, 4);
	cpu_set_rflags(c, fl & 0x3f7fd5);
	seg_load_real(c, S_CS, cs);
	seg_load_real(c, S_SS, sel[4]);
	for (unsigned n = 0; n < 4; n++)
		seg_load_real(c, order[n], sel[n]);
	c->gpr[R_SP] = (u32)sp;
	c->next_rip = (u16)rip;
	cpu_update_mode(c);
	iret_done(c, old);
}

/* Which flags IRET may change, from the level it is executed at. */
static u32 iret_flags(const struct cpu *c, u32 fl, unsigned osz)
{
	u32 mask = X86_ARITH | X86_TF | X86_DF | X86_NT, cur = (u32)cpu_get_rflags(c);

	if (osz > 2)
		mask |= X86_RF | X86_AC | X86_ID;
	if (c->cpl <= cpu_iopl(c))
		mask |= X86_IF;
	if (c->cpl == 0) {
		mask |= X86_IOPL;
		if (osz > 2)
			mask |= X86_VIF | X86_VIP;
	}
	return (cur & ~mask & ~X86_VM) | (fl & mask);
}

static void iret_task(struct cpu *c)
{
	u16 link;
	u32 old = c->rflags;

	if (cpu_is_long(c))
		cpu_gp(c, 0);
	link = (u16)lin_ld(c, (u32)c->seg[S_TR].base, 2, MMU_IMPLICIT);
	task_switch(c, link, TASK_IRET, c->next_rip, false, 0);
	iret_done(c, old);
}

void op_iret(struct cpu *c, const struct insn *i)
{
	if (cpu_is_real(c) || cpu_is_v86(c)) {
		iret_real(c, i);
		return;
	}
	if (c->rflags & X86_NT) {
		iret_task(c);
		return;
	}
	struct stack s = stack_current(c);
	u32 old = c->rflags;
	u64 rip = stack_pop(c, &s, i->osz);
	u16 sel = (u16)stack_pop(c, &s, i->osz);
	u32 fl = (u32)stack_pop(c, &s, i->osz);
	if (i->osz == 4 && fl & X86_VM && c->cpl == 0 && !cpu_is_long(c)) {
		iret_to_v86(c, &s, rip, sel, fl);
		return;
	}
	u64 d = return_code(c, sel);
	struct cpu_seg cs = desc_seg(sel, d);
	unsigned cpl = SEL_RPL(sel);
	bool to64 = desc_is64(c, d), outer = cpl != c->cpl;
	fl = iret_flags(c, fl, i->osz);
	if (outer || cpu_is_64(c)) {
		u64 sp = stack_pop(c, &s, i->osz);
		u16 ss = (u16)stack_pop(c, &s, i->osz);
		struct cpu_seg nss = seg_check_ss(c, ss, cpl, EX_GP, to64);
		struct stack ns = stack_new(c, &nss, sp, cpl, to64);

		check_target(c, &cs, to64, rip);
		desc_set_accessed(c, sel, &d);
		load_cs(c, sel, d, cpl);
		c->seg[S_SS] = nss;
		stack_commit_sp(c, &ns);
		if (outer)
			drop_data_segs(c, cpl);
	} else {
		check_target(c, &cs, to64, rip);
		desc_set_accessed(c, sel, &d);
		stack_commit_sp(c, &s);
		load_cs(c, sel, d, cpl);
	}
	c->next_rip = rip;
	cpu_set_rflags(c, fl);
	cpu_update_mode(c);
	iret_done(c, old);
}

/* ---- software interrupts ---- */

void op_int_n(struct cpu *c, const struct insn *i)
{
	event_deliver(c, (u8)i->imm, EVENT_SOFT_INT, false, 0, c->next_rip);
}

void op_int3(struct cpu *c, const struct insn *i)
{
	u32 want = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;

	if ((c->gdbg.flags & want) == want) {
		c->dbg_exit.int3_rip = c->rip;
		c->dbg_exit.int3_next = c->next_rip;
		debug_exit(c, EX_BP, 0);
	}
	event_deliver(c, EX_BP, EVENT_SOFT_EXC, false, 0, c->next_rip);
}

void op_into(struct cpu *c, const struct insn *i)
{
	if (cpu_is_64(c))
		cpu_ud(c);
	if (cpu_get_rflags(c) & X86_OF)
		event_deliver(c, EX_OF, EVENT_SOFT_EXC, false, 0, c->next_rip);
}

void op_int1(struct cpu *c, const struct insn *i)
{
	event_deliver(c, EX_DB, EVENT_ICEBP, false, 0, c->next_rip);
}

/* ---- system calls ---- */

void op_syscall(struct cpu *c, const struct insn *i)
{
	u16 sel = (u16)(c->msr.star >> 32) & 0xfffc;

	if (!(c->efer & EFER_SCE) || cpu_is_real(c) || cpu_is_v86(c) || (!cpu_is_64(c) && !cpu_is_amd(c)))
		cpu_ud(c);
	if (cpu_is_long(c)) {
		u32 fl = (u32)cpu_get_rflags(c) & ~X86_RF;
		bool from64 = cpu_is_64(c);

		c->gpr[R_CX] = c->next_rip;
		c->gpr[R_11] = fl;
		seg_set_flat_cs(c, sel, 0, true);
		seg_set_flat_ss(c, (u16)(sel + 8), 0);
		cpu_set_rflags(c, fl & ~(u32)c->msr.sfmask);
		c->next_rip = from64 ? c->msr.lstar : c->msr.cstar;
	} else {
		c->gpr[R_CX] = (u32)c->next_rip;
		seg_set_flat_cs(c, sel, 0, false);
		seg_set_flat_ss(c, (u16)(sel + 8), 0);
		cpu_set_rflags(c, cpu_get_rflags(c) & ~(u64)(X86_VM | X86_IF | X86_RF));
		c->next_rip = (u32)c->msr.star;
	}
	cpu_update_mode(c);
}

void op_sysret(struct cpu *c, const struct insn *i)
{
	u16 sel = (u16)(c->msr.star >> 48) | 3;
	u32 old = c->rflags;

	if (!(c->efer & EFER_SCE) || (!cpu_is_64(c) && !cpu_is_amd(c)))
		cpu_ud(c);
	if (cpu_is_real(c) || cpu_is_v86(c) || c->cpl)
		cpu_gp(c, 0);
	if (cpu_is_long(c)) {
		bool to64 = i->osz == 8;

		if (c->gpr[R_11] & X86_TF && !c->single)
			need_single(c); /* TF traps right behind it */
		/* AMD's CPUs fault at the target instead, at CPL 3. */
		if (to64 && !cpu_is_amd(c) && !cpu_canonical(c, c->gpr[R_CX]))
			cpu_gp(c, 0);
		seg_set_flat_cs(c, to64 ? (u16)(sel + 16) : sel, 3, to64);
		c->next_rip = to64 ? c->gpr[R_CX] : (u32)c->gpr[R_CX];
		seg_set_flat_ss(c, (u16)((sel + 8) | 3), 3);
		cpu_set_rflags(c, (c->gpr[R_11] & 0x3c7fd7) | 2);
	} else {
		seg_set_flat_cs(c, sel, 3, false);
		c->next_rip = (u32)c->gpr[R_CX];
		seg_set_flat_ss(c, (u16)((sel + 8) | 3), 3);
		cpu_set_rflags(c, cpu_get_rflags(c) | X86_IF);
	}
	cpu_update_mode(c);
	to_user(c);
	event_if_changed(c, old);
}

void op_sysenter(struct cpu *c, const struct insn *i)
{
	u16 sel = (u16)c->msr.sysenter_cs & 0xfffc;
	bool lm = cpu_is_long(c);

	if (lm && cpu_is_amd(c))
		cpu_ud(c);
	if (cpu_is_real(c) || !sel)
		cpu_gp(c, 0);
	cpu_set_rflags(c, cpu_get_rflags(c) & ~(u64)(X86_VM | X86_IF | X86_RF));
	seg_set_flat_cs(c, sel, 0, lm);
	seg_set_flat_ss(c, (u16)(sel + 8), 0);
	c->gpr[R_SP] = lm ? c->msr.sysenter_esp : (u32)c->msr.sysenter_esp;
	c->next_rip = lm ? c->msr.sysenter_eip : (u32)c->msr.sysenter_eip;
	cpu_update_mode(c);
}

void op_sysexit(struct cpu *c, const struct insn *i)
{
	u16 sel = (u16)c->msr.sysenter_cs & 0xfffc;
	bool to64 = cpu_is_long(c) && i->osz == 8;

	if (cpu_is_long(c) && cpu_is_amd(c))
		cpu_ud(c);
	if (cpu_is_real(c) || cpu_is_v86(c) || c->cpl || !sel)
		cpu_gp(c, 0);
	if (to64 && (!cpu_canonical(c, c->gpr[R_CX]) || !cpu_canonical(c, c->gpr[R_DX])))
		cpu_gp(c, 0);
	sel = (u16)(sel + (to64 ? 32 : 16)) | 3;
	seg_set_flat_cs(c, sel, 3, to64);
	seg_set_flat_ss(c, (u16)(sel + 8), 3);
	c->gpr[R_SP] = to64 ? c->gpr[R_CX] : (u32)c->gpr[R_CX];
	c->next_rip = to64 ? c->gpr[R_DX] : (u32)c->gpr[R_DX];
	cpu_update_mode(c);
}
