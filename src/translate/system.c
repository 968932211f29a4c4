/* SPDX-License-Identifier: MIT */
/*
 * System instructions that have host code of their own: those that a kernel runs all the time.
 */
#include "interp/stub_int.h"
#include "translate/emit.h"

void xl_cli(struct xl *x, const struct tinsn *ti)
{
	xl_give_up_flags(x, ti->live);
	asm_mi(&x->a, false, 4, xea_ctx(CTX(rflags)), (s32)~X86_IF);
}

/* The shadow lasts for one more instruction; xl_sti_after() comes behind that. */
void xl_sti(struct xl *x, const struct tinsn *ti)
{
	xl_give_up_flags(x, ti->live);
	asm_mi(&x->a, false, 1, xea_ctx(CTX(rflags)), X86_IF);
}

void xl_sti_after(struct xl *x, const struct tinsn *last)
{
	u32 site = xl_site(x, last, SITE_WINDOW);

	xl_move_sp(x, 0);
	xl_give_up_flags(x, last->live_after);
	x->t->sites[site].rip = last->rip + last->len;
	asm_rm(&x->a, false, 0x80, 7, xea_ctx(CTX(ev.want_irq_window))), e8(&x->a, 0);
	xl_cold(x, SITE_WINDOW, site, asm_jump(&x->a, CC_NE));
}

void xl_cld(struct xl *x, const struct tinsn *ti)
{
	xl_give_up_flags(x, ti->live);
	asm_mi(&x->a, false, 4, xea_ctx(CTX(rflags)), (s32)~X86_DF);
}

/* CLAC and STAC: what cpu_update_mode() would do. */
void xl_set_ac(struct xl *x, const struct tinsn *ti, bool ac)
{
	struct asmb *a = &x->a;

	xl_give_up_flags(x, ti->live);
	x->idx = ac ? MMU_KERNEL_AC : MMU_KERNEL;
	if (ac)
		asm_mi(a, false, 1, xea_ctx(CTX(rflags)), X86_AC);
	else
		asm_mi(a, false, 4, xea_ctx(CTX(rflags)), (s32)~X86_AC);
	asm_rm(a, false, 0xc6, 0, xea_ctx(CTX(mmu_idx))), e8(a, x->idx);
	asm_lea(a, REG_T1, xea_ctx(xl_tlb_at(x, 0)));
	asm_store(a, REG_T1, xea_ctx(CTX(tlb)));
}

/* RSP is the context's: what the host's PUSHF puts below it is cpu.rip, which nobody needs while a unit runs. */
void xl_pushf(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	struct xea at;

	xl_want_flags(x, X86_ARITH);
	xl_want_slot(x, X86_ARITH);
	e8(a, 0x9c);           /* pushfq */
	e8(a, 0x41), e8(a, 0x5b); /* pop T2 */
	x->in_reg = false;
	asm_ri(a, false, 4, REG_T2, X86_ARITH);
	asm_rm(a, false, 0x0b, REG_T2, xea_ctx(CTX(rflags)));
	asm_ri(a, false, 4, REG_T2, (s32)~(X86_VM | X86_RF));
	asm_store(a, REG_T2, xea_ctx(CTX(x_tmp)));
	u32 site = xl_push_room(x, ti, X86_ARITH, &at);
	xl_mark(x, ti);
	asm_load(a, REG_T2, xea_ctx(CTX(x_tmp)));
	asm_store(a, REG_T2, at);
	xl_move_sp(x, -8);
	xl_next(x, site);
}
_Static_assert(offsetof(struct cpu, rip) + 8 == offsetof(struct cpu, gpr), "pushf() writes there");

/* MOV of a segment register to a general one. */
void xl_from_sreg(struct xl *x, const struct tinsn *ti)
{
	unsigned g = (unsigned)reg_gpr(ti->d.op[0].reg.value), dst = x_home[g] != REG_NONE ? x_home[g] : REG_T2, s = ti->i.reg;

	asm_rm(&x->a, false, 0x1b7, dst, xea_ctx(CTX(seg) + (s32)(s * sizeof(struct cpu_seg) + offsetof(struct cpu_seg, sel))));
	xl_from_host(x, g, dst);
	x->t1_next = x->t1;
}

void xl_swapgs(struct xl *x)
{
	struct asmb *a = &x->a;
	struct xea gs = xl_seg_base(S_GS);

	asm_load(a, REG_T1, gs);
	asm_load(a, REG_T2, xea_ctx(CTX(msr.kernel_gs_base)));
	asm_store(a, REG_T2, gs);
	asm_store(a, REG_T1, xea_ctx(CTX(msr.kernel_gs_base)));
}

void xl_rdtsc(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	u32 site = 0;

	xl_give_up_flags(x, ti->live);
	if (x->u->user) { /* CR4.TSD forbids it there */
		site = xl_site(x, ti, SITE_OP);
		x->t->sites[site].insn = xl_lowered(x, ti);
		asm_rm(a, false, 0xf6, 0, xea_ctx(CTX(cr4))), e8(a, CR4_TSD);
		xl_cold(x, SITE_OP, site, asm_jump(a, CC_NE));
	}
	e8(a, 0x0f), e8(a, 0x31);
	asm_rr(a, true, 0xc1, 4, R_DX), e8(a, 32);    /* shl rdx, 32 */
	asm_rr(a, true, 0x0b, R_AX, R_DX);            /* or rax, rdx */
	asm_rm(a, true, 0x03, R_AX, xea_ctx(CTX(tsc_offset)));
	asm_mov(a, R_DX, R_AX);
	asm_rr(a, true, 0xc1, 5, R_DX), e8(a, 32);    /* shr rdx, 32 */
	asm_rr(a, false, 0x8b, R_AX, R_AX);
	if (site)
		xl_next(x, site);
}
