/* SPDX-License-Identifier: MIT */
/*
 * Instructions whose operand is not the one of ModRM, or not there: MOV of an address in the instruction, REP STOS and MOVS inside a page, bit strings in memory.
 */
#include "interp/stub_int.h"
#include "translate/emit.h"

#define M(n) ZYDIS_MNEMONIC_##n

/* MOV between the accumulator and an address in the instruction: 32-bit code has many. */
void xl_moffs(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	bool load = !(ti->d.z.opcode & 2);
	const ZydisDecodedOperand *m = &ti->d.op[load ? 1 : 0];
	struct xea at;
	u32 site = xl_operand(x, ti, m, m->size / 8, !load, ti->live, &at);

	xl_mark(x, ti);
	if (m->size == 16)
		e8(a, 0x66);
	asm_rm(a, m->size == 64, (load ? 0x8a : 0x88) | (m->size > 8), R_AX, at);
	xl_next(x, site);
}

/*
 * T1 and reg: host address of what RSI or RDI (reg, a copy of which is at kept) points to, for RCX elements of 1 << shift bytes. The two jumps to
 * where that cannot be: the page is not in the TLB, or it ends before.
 */
static void string_operand(struct xl *x, unsigned reg, struct xea kept, unsigned shift, bool write, u8 **bad)
{
	struct asmb *a = &x->a;
	struct xea e = { REG_CTX, REG_T2, 3, xl_tlb_at(x, TAG(write)) };

	asm_mov(a, REG_T1, reg);
	xl_entry_of_t1(a);
	asm_rm(a, true, 0x33, REG_T1, e);
	asm_ri(a, true, 7, REG_T1, PAGE_SIZE - 1);
	bad[0] = asm_jump(a, CC_A);
	asm_lea(a, reg, (struct xea){ REG_T1, R_CX, (u8)shift, 0 });
	asm_ri(a, true, 7, reg, PAGE_SIZE);
	bad[1] = asm_jump(a, CC_A);
	e.disp = xl_tlb_at(x, ADD(write));
	asm_load(a, REG_T1, e);
	asm_rm(a, true, 0x03, REG_T1, kept);
	asm_mov(a, reg, REG_T1);
}

/* REP STOS and MOVS inside a page, upwards, by the host's own; else by the interpreter. The guest's RDI and RSI are in x_tmp and x_tmp2 meanwhile. */
void xl_string(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	unsigned shift = (unsigned)__builtin_ctz(ti->i.osz);
	bool movs = (ti->d.z.opcode & 0xfe) == 0xa4;
	u8 *bad[4];

	xl_give_up_flags(x, ti->live);
	u32 site = xl_site(x, ti, SITE_OP);
	x->t->sites[site].insn = xl_lowered(x, ti);
	if (x->word == 4) {
		asm_rr(a, false, 0x8b, R_CX, R_CX);
		asm_rr(a, false, 0x8b, R_DI, R_DI);
		asm_rr(a, false, 0x8b, R_SI, R_SI);
	}
	asm_rm(a, false, 0xf7, 0, xea_ctx(CTX(rflags))), e32(a, X86_DF);
	xl_cold(x, SITE_OP, site, asm_jump(a, CC_NE));
	asm_ri(a, true, 7, R_CX, (s32)(PAGE_SIZE >> shift));
	xl_cold(x, SITE_OP, site, asm_jump(a, CC_A));
	asm_store(a, R_DI, xea_ctx(CTX(x_tmp)));
	asm_store(a, R_SI, xea_ctx(CTX(x_tmp2)));
	if (movs)
		string_operand(x, R_SI, xea_ctx(CTX(x_tmp2)), shift, false, bad + 2);
	string_operand(x, R_DI, xea_ctx(CTX(x_tmp)), shift, true, bad);
	xl_mark(x, ti);
	e8(a, 0xf3);
	if (ti->i.osz == 2)
		e8(a, 0x66);
	if (ti->i.osz == 8)
		e8(a, 0x48);
	e8(a, (movs ? 0xa4 : 0xaa) | (ti->i.osz > 1));
	asm_rr(a, true, 0x2b, R_DI, REG_T1);
	if (movs) {
		asm_load(a, R_SI, xea_ctx(CTX(x_tmp2)));
		asm_rr(a, true, 0x03, R_SI, R_DI);
	}
	asm_rm(a, true, 0x03, R_DI, xea_ctx(CTX(x_tmp)));
	u8 *over = asm_short(a, 0xeb);
	for (unsigned k = 0; k < (movs ? 4 : 2); k++)
		asm_patch(bad[k], a->p);
	asm_load(a, R_DI, xea_ctx(CTX(x_tmp)));
	asm_load(a, R_SI, xea_ctx(CTX(x_tmp2)));
	xl_cold(x, SITE_OP, site, asm_jump(a, CC_ALWAYS));
	asm_patch_short(over, a->p);
	x->t->sites[site].next = xl_here(x);
}

/* BT and the like with the number of the bit in a register, which reaches beyond the operand. False: flags that it leaves are needed. */
bool xl_bit_string(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	const ZydisDecodedOperand *m = &ti->d.op[0], *o = &ti->d.op[1];
	unsigned size = m->size / 8, g = (unsigned)reg_gpr(o->reg.value), shift = size == 8 ? 3 : 2;
	bool w = size == 8;

	if (ti->live_after & ~ti->fkill)
		return false;
	xl_give_up_flags(x, ti->live);
	xl_linear(x, ti, m);
	asm_rr(a, true, w ? 0x8b : 0x63, REG_T2, xl_in_host(x, g, REG_T2)); /* movsxd */
	asm_rr(a, true, 0xc1, 7, REG_T2), e8(a, shift + 3);             /* sar */
	asm_lea(a, REG_T1, (struct xea){ REG_T1, REG_T2, (u8)shift, 0 });
	asm_store(a, REG_T1, xea_ctx(CTX(x_tmp)));
	u32 site = xl_translate(x, ti, size, ti->d.z.mnemonic != M(BT), xl_seg_of(m));
	asm_rm(a, true, 0x03, REG_T1, xea_ctx(CTX(x_tmp)));
	asm_rr(a, true, 0x8b, REG_T2, xl_in_host(x, g, REG_T2));
	asm_ri(a, false, 4, REG_T2, (s32)(8 * size - 1));
	xl_mark(x, ti);
	if (ti->i.lock)
		e8(a, 0xf0);
	asm_rm(a, w, ti->d.z.mnemonic == M(BT) ? 0x1a3 : ti->d.z.mnemonic == M(BTS) ? 0x1ab : ti->d.z.mnemonic == M(BTR) ? 0x1b3 : 0x1bb, REG_T2, xea_base(REG_T1, 0));
	x->in_reg = true;
	x->in_slot = false;
	xl_next(x, site);
	return true;
}
