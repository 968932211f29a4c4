/* SPDX-License-Identifier: MIT */
/*
 * Fast handlers: the integer instructions that make up most of any program, in the forms compilers emit.
 *
 * A handler with a memory destination works on the host page directly when the TLB has it (so does LOCK, with the host's own LOCK
 * prefix), and otherwise checks the write first, then reads, computes, and writes; flags are committed after the write.
 */
#include "interp/alu.h"
#include "interp/branch.h"
#include "interp/fast.h"
#include "interp/integer.h"

#define H(name) const struct insn *name(struct cpu *c, const struct insn *i)
#define SH(name) static const struct insn *name(struct cpu *c, const struct insn *i)

/* ---- two operands ---- */

/* The operand is not in one writable RAM page: piecewise. */
#define SLOW_RMW(op, bits, src)                                                                                                            \
	do {                                                                                                                               \
		u32 af = c->af, nf;                                                                                                        \
		lin_check_write(c, la, bits / 8, c->mmu_idx);                                                                              \
		u##bits v = (u##bits)slow_ld(c, la, bits / 8);                                                                             \
		v = alu_##op##bits(c, v, src);                                                                                             \
		nf = c->af, c->af = af;                                                                                                    \
		slow_st(c, la, bits / 8, v);                                                                                               \
		c->af = nf;                                                                                                                \
	} while (0)

#define BIN_MEM(op, bits, form, suffix, src)                                                                                               \
	SH(op##bits##_##form)                                                                                                              \
	{                                                                                                                                  \
		gva_t la = fast_la(c, i, bits / 8, ACC_WRITE);                                                                             \
		u##bits *p = lin_wptr(c, la, bits / 8);                                                                                    \
		if (likely(p))                                                                                                             \
			alu_##op##bits##suffix(c, p, src);                                                                                 \
		else                                                                                                                       \
			SLOW_RMW(op, bits, src);                                                                                           \
		NEXT(c, i);                                                                                                                \
	}

#define BIN(op, bits)                                                                                                                      \
	SH(op##bits##_rr)                                                                                                                  \
	{                                                                                                                                  \
		wr##bits(c, i->rm, alu_##op##bits(c, GPR##bits(c, i->rm), GPR##bits(c, i->reg)));                                          \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(op##bits##_ri)                                                                                                                  \
	{                                                                                                                                  \
		wr##bits(c, i->rm, alu_##op##bits(c, GPR##bits(c, i->rm), (u##bits)i->imm));                                               \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(op##bits##_rm)                                                                                                                  \
	{                                                                                                                                  \
		u##bits v = mem_ld##bits(c, i);                                                                                            \
		wr##bits(c, i->reg, alu_##op##bits(c, GPR##bits(c, i->reg), v));                                                           \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	BIN_MEM(op, bits, mr, _m, GPR##bits(c, i->reg))                                                                                    \
	BIN_MEM(op, bits, mi, _m, (u##bits)i->imm)                                                                                         \
	BIN_MEM(op, bits, mrl, _lock, GPR##bits(c, i->reg))                                                                                \
	BIN_MEM(op, bits, mil, _lock, (u##bits)i->imm)

#define CMPS(op, bits)                                                                                                                     \
	SH(op##bits##_rr)                                                                                                                  \
	{                                                                                                                                  \
		alu_##op##bits(c, GPR##bits(c, i->rm), GPR##bits(c, i->reg));                                                              \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(op##bits##_ri)                                                                                                                  \
	{                                                                                                                                  \
		alu_##op##bits(c, GPR##bits(c, i->rm), (u##bits)i->imm);                                                                   \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(op##bits##_rm)                                                                                                                  \
	{                                                                                                                                  \
		u##bits v = mem_ld##bits(c, i);                                                                                            \
		alu_##op##bits(c, GPR##bits(c, i->reg), v);                                                                                \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(op##bits##_mr)                                                                                                                  \
	{                                                                                                                                  \
		u##bits v = mem_ld##bits(c, i);                                                                                            \
		alu_##op##bits(c, v, GPR##bits(c, i->reg));                                                                                \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(op##bits##_mi)                                                                                                                  \
	{                                                                                                                                  \
		u##bits v = mem_ld##bits(c, i);                                                                                            \
		alu_##op##bits(c, v, (u##bits)i->imm);                                                                                     \
		NEXT(c, i);                                                                                                                \
	}

#define MOVS(bits)                                                                                                                         \
	SH(mov##bits##_rr)                                                                                                                 \
	{                                                                                                                                  \
		wr##bits(c, i->rm, GPR##bits(c, i->reg));                                                                                  \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(mov##bits##_ri)                                                                                                                 \
	{                                                                                                                                  \
		wr##bits(c, i->rm, (u##bits)i->imm);                                                                                       \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(mov##bits##_rm)                                                                                                                 \
	{                                                                                                                                  \
		wr##bits(c, i->reg, mem_ld##bits(c, i));                                                                                   \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(mov##bits##_mr)                                                                                                                 \
	{                                                                                                                                  \
		mem_st##bits(c, i, GPR##bits(c, i->reg));                                                                                  \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(mov##bits##_mi)                                                                                                                 \
	{                                                                                                                                  \
		mem_st##bits(c, i, (u##bits)i->imm);                                                                                       \
		NEXT(c, i);                                                                                                                \
	}

/* XADD: the destination's old value goes to the source register. */
#define XADD(bits)                                                                                                                         \
	SH(xadd##bits##_rr)                                                                                                                \
	{                                                                                                                                  \
		u##bits a = GPR##bits(c, i->rm), b = GPR##bits(c, i->reg), s = alu_add##bits(c, a, b);                                     \
		wr##bits(c, i->reg, a);                                                                                                    \
		wr##bits(c, i->rm, s);                                                                                                     \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(xadd##bits##_mr)                                                                                                                \
	{                                                                                                                                  \
		gva_t la = fast_la(c, i, bits / 8, ACC_WRITE);                                                                             \
		u##bits *p = lin_wptr(c, la, bits / 8), b = GPR##bits(c, i->reg), old;                                                     \
		if (likely(p)) {                                                                                                           \
			old = __atomic_fetch_add(p, b, __ATOMIC_SEQ_CST);                                                                  \
		} else {                                                                                                                   \
			lin_check_write(c, la, bits / 8, c->mmu_idx);                                                                      \
			old = (u##bits)slow_ld(c, la, bits / 8);                                                                           \
			slow_st(c, la, bits / 8, (u##bits)(old + b));                                                                      \
		}                                                                                                                          \
		alu_add##bits(c, old, b);                                                                                                  \
		wr##bits(c, i->reg, old);                                                                                                  \
		NEXT(c, i);                                                                                                                \
	}

#define ALL_BIN(op) BIN(op, 8) BIN(op, 16) BIN(op, 32) BIN(op, 64)
ALL_BIN(add)
ALL_BIN(or)
ALL_BIN(adc)
ALL_BIN(sbb)
ALL_BIN(and)
ALL_BIN(sub)
ALL_BIN(xor)
CMPS(cmp, 8) CMPS(cmp, 16) CMPS(cmp, 32) CMPS(cmp, 64)
CMPS(test, 8) CMPS(test, 16) CMPS(test, 32) CMPS(test, 64)
MOVS(8) MOVS(16) MOVS(32) MOVS(64)
XADD(8) XADD(16) XADD(32) XADD(64)

#define ROW(op, b) { op##b##_rr, op##b##_ri, op##b##_rm, op##b##_mr, op##b##_mi, op##b##_mrl, op##b##_mil }
#define ROW5(op, b) { op##b##_rr, op##b##_ri, op##b##_rm, op##b##_mr, op##b##_mi, NULL, NULL }
#define ROWX(b) { xadd##b##_rr, NULL, NULL, xadd##b##_mr, NULL, xadd##b##_mr, NULL }
#define ROWS(R, op) { R(op, 8), R(op, 16), R(op, 32), R(op, 64) }
const insn_fn alu_table[ALU_COUNT][4][F_COUNT] = {
	[ALU_ADD] = ROWS(ROW, add),	[ALU_OR] = ROWS(ROW, or),	 [ALU_ADC] = ROWS(ROW, adc),	 [ALU_SBB] = ROWS(ROW, sbb),
	[ALU_AND] = ROWS(ROW, and),	[ALU_SUB] = ROWS(ROW, sub),	 [ALU_XOR] = ROWS(ROW, xor),	 [ALU_CMP_] = ROWS(ROW5, cmp),
	[ALU_TEST_] = ROWS(ROW5, test), [ALU_MOV_] = ROWS(ROW5, mov), [ALU_XADD_] = { ROWX(8), ROWX(16), ROWX(32), ROWX(64) },
};

/* ---- one operand ---- */

#define UN(op, bits)                                                                                                                       \
	SH(op##bits##_r)                                                                                                                   \
	{                                                                                                                                  \
		wr##bits(c, i->rm, alu_##op##bits(c, GPR##bits(c, i->rm), 0));                                                             \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	BIN_MEM1(op, bits, m, _m)                                                                                                          \
	BIN_MEM1(op, bits, ml, _lock)
#define BIN_MEM1(op, bits, form, suffix) BIN_MEM(op, bits, form, suffix, 0)
#define ALL_UN(op) UN(op, 8) UN(op, 16) UN(op, 32) UN(op, 64)
ALL_UN(inc)
ALL_UN(dec)
ALL_UN(neg)
ALL_UN(not)
#define ROWU(op, b) { op##b##_r, op##b##_m, op##b##_ml }
const insn_fn un_table[UN_COUNT][4][3] = {
	[UN_INC] = ROWS(ROWU, inc),
	[UN_DEC] = ROWS(ROWU, dec),
	[UN_NEG] = ROWS(ROWU, neg),
	[UN_NOT] = ROWS(ROWU, not),
};

/* ---- shifts ---- */

#define SHIFT_MEM(op, bits, form, n)                                                                                                       \
	SH(op##bits##_##form)                                                                                                              \
	{                                                                                                                                  \
		gva_t la = fast_la(c, i, bits / 8, ACC_WRITE);                                                                             \
		u##bits *p = lin_wptr(c, la, bits / 8);                                                                                    \
		if (likely(p)) {                                                                                                           \
			GUEST_ST(p, alu_##op##bits(c, GUEST_LD(p), n));                                                                    \
		} else {                                                                                                                   \
			u32 af = c->af, nf;                                                                                                \
			lin_check_write(c, la, bits / 8, c->mmu_idx);                                                                      \
			u##bits v = alu_##op##bits(c, (u##bits)slow_ld(c, la, bits / 8), n);                                               \
			nf = c->af, c->af = af;                                                                                            \
			slow_st(c, la, bits / 8, v);                                                                                       \
			c->af = nf;                                                                                                        \
		}                                                                                                                          \
		NEXT(c, i);                                                                                                                \
	}
#define SHIFT(op, bits)                                                                                                                    \
	SH(op##bits##_i)                                                                                                                   \
	{                                                                                                                                  \
		wr##bits(c, i->rm, alu_##op##bits(c, GPR##bits(c, i->rm), (u8)i->imm));                                                    \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(op##bits##_c)                                                                                                                   \
	{                                                                                                                                  \
		wr##bits(c, i->rm, alu_##op##bits(c, GPR##bits(c, i->rm), (u8)c->gpr[R_CX]));                                              \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SHIFT_MEM(op, bits, smi, (u8)i->imm)                                                                                               \
	SHIFT_MEM(op, bits, smc, (u8)c->gpr[R_CX])
#define ALL_SHIFT(op) SHIFT(op, 8) SHIFT(op, 16) SHIFT(op, 32) SHIFT(op, 64)
ALL_SHIFT(rol)
ALL_SHIFT(ror)
ALL_SHIFT(rcl)
ALL_SHIFT(rcr)
ALL_SHIFT(shl)
ALL_SHIFT(shr)
ALL_SHIFT(sar)
#define ROWSH(op, b) { op##b##_i, op##b##_c, op##b##_smi, op##b##_smc }
const insn_fn shift_table[SH_COUNT][4][4] = {
	[SH_ROL] = ROWS(ROWSH, rol), [SH_ROR] = ROWS(ROWSH, ror), [SH_RCL] = ROWS(ROWSH, rcl), [SH_RCR] = ROWS(ROWSH, rcr),
	[SH_SHL] = ROWS(ROWSH, shl), [SH_SHR] = ROWS(ROWSH, shr), [SH_SAR] = ROWS(ROWSH, sar),
};

/* ---- extensions ---- */

#define EXTEND(name, d, s, type)                                                                                                           \
	SH(name##d##_##s##_r)                                                                                                              \
	{                                                                                                                                  \
		wr##d(c, i->reg, (u##d)(type)GPR##s(c, i->rm));                                                                            \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(name##d##_##s##_m)                                                                                                              \
	{                                                                                                                                  \
		wr##d(c, i->reg, (u##d)(type)mem_ld##s(c, i));                                                                             \
		NEXT(c, i);                                                                                                                \
	}
EXTEND(movzx, 16, 8, u8)
EXTEND(movzx, 32, 8, u8)
EXTEND(movzx, 64, 8, u8)
EXTEND(movzx, 32, 16, u16)
EXTEND(movzx, 64, 16, u16)
EXTEND(movsx, 16, 8, s8)
EXTEND(movsx, 32, 8, s8)
EXTEND(movsx, 64, 8, s8)
EXTEND(movsx, 32, 16, s16)
EXTEND(movsx, 64, 16, s16)
EXTEND(movsx, 64, 32, s32)
EXTEND(movzx, 32, 32, u32) /* MOVSXD with a 32-bit destination */
EXTEND(movzx, 16, 32, u32) /* MOVSXD with 66h: the source is 32 bits all the same */
EXTEND(movzx, 16, 16, u16) /* MOVZX, MOVSX and MOVSXD with 66h where sizes agree */
#define EX(n, d, s) { n##d##_##s##_r, n##d##_##s##_m }
const insn_fn movzx_table[4][4][2] = {
	[1] = { EX(movzx, 16, 8), EX(movzx, 16, 16) },
	[2] = { EX(movzx, 32, 8), EX(movzx, 32, 16) },
	[3] = { EX(movzx, 64, 8), EX(movzx, 64, 16) },
};
const insn_fn movsx_table[4][4][2] = {
	[1] = { EX(movsx, 16, 8), EX(movzx, 16, 16), EX(movzx, 16, 32) },
	[2] = { EX(movsx, 32, 8), EX(movsx, 32, 16), EX(movzx, 32, 32) },
	[3] = { EX(movsx, 64, 8), EX(movsx, 64, 16), EX(movsx, 64, 32) },
};

/* ---- conditions ---- */

#define CCS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define CC_HANDLERS(n)                                                                                                                     \
	SH(jcc64_##n)                                                                                                                      \
	{                                                                                                                                  \
		c->rip = c->gpr[SLOT_BLOCK_RIP] + i->off + i->len + (cond(c->af, n) ? i->imm : 0);                                         \
		return chain(c);                                                                                                           \
	}                                                                                                                                  \
	SH(setcc_##n##_r)                                                                                                                  \
	{                                                                                                                                  \
		GPR8(c, i->rm) = cond(c->af, n);                                                                                           \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(setcc_##n##_m)                                                                                                                  \
	{                                                                                                                                  \
		mem_st8(c, i, cond(c->af, n));                                                                                             \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	CMOV(n, 16) CMOV(n, 32) CMOV(n, 64)
/* The source is read, and a 32-bit destination zero-extended, whatever the condition. */
#define CMOV(n, bits)                                                                                                                      \
	SH(cmov_##n##_##bits##_r)                                                                                                          \
	{                                                                                                                                  \
		wr##bits(c, i->reg, cond(c->af, n) ? GPR##bits(c, i->rm) : GPR##bits(c, i->reg));                                          \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	SH(cmov_##n##_##bits##_m)                                                                                                          \
	{                                                                                                                                  \
		u##bits v = mem_ld##bits(c, i);                                                                                            \
		wr##bits(c, i->reg, cond(c->af, n) ? v : GPR##bits(c, i->reg));                                                            \
		NEXT(c, i);                                                                                                                \
	}
CCS(CC_HANDLERS)
#define JROW(n) [n] = jcc64_##n,
const insn_fn jcc64_table[16] = { CCS(JROW) };
#define SROW(n) [n] = { setcc_##n##_r, setcc_##n##_m },
const insn_fn setcc_table[16][2] = { CCS(SROW) };
#define CROW(n)                                                                                                                            \
	[n] = { { cmov_##n##_16_r, cmov_##n##_16_m }, { cmov_##n##_32_r, cmov_##n##_32_m }, { cmov_##n##_64_r, cmov_##n##_64_m } },
const insn_fn cmov_table[16][3][2] = { CCS(CROW) };

/* ---- addresses and moves ---- */

H(h_nop)
{
	NEXT(c, i);
}

H(h_lea64)
{
	GPR64(c, i->reg) = fast_ea(c, i);
	NEXT(c, i);
}

H(h_lea32)
{
	GPR64(c, i->reg) = (u32)fast_ea(c, i);
	NEXT(c, i);
}

H(h_bswap32)
{
	GPR64(c, i->rm) = __builtin_bswap32(GPR32(c, i->rm));
	NEXT(c, i);
}

H(h_bswap64)
{
	GPR64(c, i->rm) = __builtin_bswap64(GPR64(c, i->rm));
	NEXT(c, i);
}

H(h_cdqe)
{
	c->gpr[R_AX] = (u64)(s32)c->gpr[R_AX];
	NEXT(c, i);
}

H(h_cdq)
{
	c->gpr[R_DX] = (u32)((s32)c->gpr[R_AX] >> 31);
	NEXT(c, i);
}

H(h_cqo)
{
	c->gpr[R_DX] = (u64)((s64)c->gpr[R_AX] >> 63);
	NEXT(c, i);
}

/* IMUL r, r and r, r, imm. The destination is reg, sources rm (and imm). */
#define IMUL(bits)                                                                                                                         \
	H(h_imul2_##bits)                                                                                                                  \
	{                                                                                                                                  \
		wr##bits(c, i->reg, alu_imul##bits(c, GPR##bits(c, i->reg), GPR##bits(c, i->rm)));                                         \
		NEXT(c, i);                                                                                                                \
	}                                                                                                                                  \
	H(h_imul3_##bits)                                                                                                                  \
	{                                                                                                                                  \
		wr##bits(c, i->reg, alu_imul##bits(c, GPR##bits(c, i->rm), (u##bits)i->imm));                                              \
		NEXT(c, i);                                                                                                                \
	}
IMUL(32)
IMUL(64)

/* ---- branches of 64-bit mode ---- */

H(h_block_end)
{
	c->rip = insn_rip(c, i);
	return chain(c);
}

H(h_jmp64)
{
	c->rip = c->gpr[SLOT_BLOCK_RIP] + i->off + i->len + i->imm;
	return chain(c);
}

static always_inline void push64(struct cpu *c, const struct insn *i, u64 v)
{
	c->cur = i;
	u64 sp = c->gpr[R_SP] - 8;
	stack_st64(c, sp, v);
	c->gpr[R_SP] = sp;
}

static always_inline u64 pop64(struct cpu *c, const struct insn *i)
{
	c->cur = i;
	u64 v = stack_ld64(c, c->gpr[R_SP]);
	c->gpr[R_SP] += 8;
	return v;
}

H(h_call64)
{
	u64 next = c->gpr[SLOT_BLOCK_RIP] + i->off + i->len;
	push64(c, i, next);
	c->rip = next + i->imm;
	return chain(c);
}

/* A target that is not canonical faults at the branch, before anything is changed. */
static always_inline u64 target64(struct cpu *c, const struct insn *i, u64 t)
{
	if (unlikely((u64)((s64)(t << 16) >> 16) != t))
		branch_check(c, i, t);
	return t;
}

H(h_ret64)
{
	c->cur = i;
	c->rip = target64(c, i, stack_ld64(c, c->gpr[R_SP]));
	c->gpr[R_SP] += 8 + i->imm;
	return chain(c);
}

H(h_jmp_r64)
{
	c->rip = target64(c, i, GPR64(c, i->rm));
	return chain(c);
}

H(h_jmp_m64)
{
	c->rip = target64(c, i, mem_ld64(c, i));
	return chain(c);
}

static always_inline const struct insn *call_to(struct cpu *c, const struct insn *i, u64 target)
{
	u64 sp = c->gpr[R_SP] - 8;

	c->cur = i;
	if (unlikely((u64)((s64)(target << 16) >> 16) != target)) {
		stack_check_write(c, sp); /* a fault of the push goes first */
		branch_check(c, i, target);
	}
	stack_st64(c, sp, c->gpr[SLOT_BLOCK_RIP] + i->off + i->len);
	c->rip = target;
	c->gpr[R_SP] = sp;
	return chain(c);
}

H(h_call_r64)
{
	return call_to(c, i, GPR64(c, i->rm));
}

H(h_call_m64)
{
	return call_to(c, i, mem_ld64(c, i));
}

H(h_push_r64)
{
	push64(c, i, GPR64(c, i->rm));
	NEXT(c, i);
}

H(h_push_i64)
{
	push64(c, i, i->imm);
	NEXT(c, i);
}

H(h_push_m64)
{
	u64 v = mem_ld64(c, i);
	push64(c, i, v);
	NEXT(c, i);
}

H(h_pop_r64)
{
	u64 v = pop64(c, i);
	GPR64(c, i->rm) = v;
	NEXT(c, i);
}

H(h_leave64)
{
	c->cur = i;
	u64 bp = c->gpr[R_BP], v = stack_ld64(c, bp);
	c->gpr[R_SP] = bp + 8;
	c->gpr[R_BP] = v;
	NEXT(c, i);
}
