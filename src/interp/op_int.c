/* SPDX-License-Identifier: MIT */
/*
 * The rarer integer instructions, and stack and branch instructions in every operand and address size (the 64-bit forms that matter
 * are in integer.c). Op functions: see insn.h for their contract.
 */
#include "base/string.h"
#include "cpu/cpuid.h"
#include "interp/alu.h"
#include "interp/branch.h"
#include "interp/event.h"
#include "interp/integer.h"

#include <Zydis/Zydis.h>

/* The r/m operand. */
static u64 rd_rm(struct cpu *c, const struct insn *i, unsigned size)
{
	return i->has_mem ? ld(c, i->seg, ea_of(c, i), size) : gpr_read(c, i->rm, size);
}

static void wr_rm(struct cpu *c, const struct insn *i, unsigned size, u64 v)
{
	if (i->has_mem)
		st(c, i->seg, ea_of(c, i), size, v);
	else
		gpr_write(c, i->rm, size, v);
}

static u64 asz_mask(unsigned asz)
{
	return asz == 8 ? ~0ull : asz == 4 ? 0xffffffffull : 0xffffull;
}

/* ---- stack ---- */

void op_push(struct cpu *c, const struct insn *i)
{
	push(c, i->osz, rd_rm(c, i, i->osz));
}

void op_push_imm(struct cpu *c, const struct insn *i)
{
	push(c, i->osz, i->imm);
}

void op_pop(struct cpu *c, const struct insn *i)
{
	u64 sp = c->gpr[R_SP] & stack_mask(c), old = c->gpr[R_SP];
	u64 v = ld(c, S_SS, sp, i->osz);
	if (!i->has_mem) {
		set_sp(c, sp + i->osz);
		gpr_write(c, i->rm, i->osz, v);
		return;
	}
	/* The address is formed with the incremented stack pointer (SDM 2, POP). */
	set_sp(c, sp + i->osz);
	u64 ea = ea_of(c, i), new = c->gpr[R_SP];
	c->gpr[R_SP] = old;
	st(c, i->seg, ea, i->osz, v);
	c->gpr[R_SP] = new;
}

void op_pusha(struct cpu *c, const struct insn *i)
{
	unsigned n = i->osz;
	u64 m = stack_mask(c), sp = (c->gpr[R_SP] - 8 * n) & m;

	/* AX is pushed first, highest: what faults is told in this order, before anything is written. */
	for (unsigned r = 0; r < 8; r++)
		lin_check_write(c, seg_linear(c, S_SS, (sp + (7 - r) * n) & m, n, ACC_WRITE), n, c->mmu_idx);
	for (unsigned r = 0; r < 8; r++)
		st(c, S_SS, (sp + (7 - r) * n) & m, n, c->gpr[r]);
	set_sp(c, sp);
}

void op_popa(struct cpu *c, const struct insn *i)
{
	unsigned n = i->osz;
	u64 m = stack_mask(c), sp = c->gpr[R_SP] & m, v[8];

	for (unsigned r = 8; r-- > 0;) /* DI stands lowest and is popped first */
		v[r] = ld(c, S_SS, (sp + (7 - r) * n) & m, n);
	for (unsigned r = 0; r < 8; r++)
		if (r != R_SP)
			gpr_write(c, r * 8, n, v[r]);
	set_sp(c, sp + 8 * n);
}

void op_enter(struct cpu *c, const struct insn *i)
{
	unsigned n = i->osz, level = (unsigned)(i->imm >> 16) & 31;
	u64 m = stack_mask(c), size = i->imm & 0xffff;
	u64 sp = (c->gpr[R_SP] - n) & m, bp = c->gpr[R_BP] & m;

	st(c, S_SS, sp, n, c->gpr[R_BP]);
	u64 frame = sp;
	if (level) {
		for (unsigned k = 1; k < level; k++) {
			bp = (bp - n) & m;
			u64 v = ld(c, S_SS, bp, n);
			sp = (sp - n) & m;
			st(c, S_SS, sp, n, v);
		}
		sp = (sp - n) & m;
		st(c, S_SS, sp, n, frame);
	}
	sp = (sp - size) & m;
	lin_check_write(c, seg_linear(c, S_SS, sp, n, ACC_WRITE), n, c->mmu_idx);
	if (m == 0xffff)
		gpr_write(c, R_BP * 8, 2, frame);
	else
		gpr_write(c, R_BP * 8, n == 2 ? 2 : m == ~0ull ? 8 : 4, frame);
	set_sp(c, sp);
}

void op_leave(struct cpu *c, const struct insn *i)
{
	u64 bp = c->gpr[R_BP] & stack_mask(c);
	u64 v = ld(c, S_SS, bp, i->osz);
	set_sp(c, bp + i->osz);
	gpr_write(c, R_BP * 8, i->osz, v);
}

void op_bound(struct cpu *c, const struct insn *i)
{
	u64 ea = ea_of(c, i), lo = ld(c, i->seg, ea, i->osz), hi = ld(c, i->seg, (ea + i->osz) & asz_mask(i->asz), i->osz);
	u64 v = gpr_read(c, i->reg, i->osz);
	bool out = i->osz == 2 ? (s16)v < (s16)lo || (s16)v > (s16)hi : (s32)v < (s32)lo || (s32)v > (s32)hi;
	if (out)
		cpu_raise(c, EX_BR, false, 0);
}

/* ---- branches ---- */

static void jump(struct cpu *c, const struct insn *i, u64 target)
{
	target &= i->osz == 2 ? 0xffffull : i->osz == 4 ? 0xffffffffull : ~0ull;
	if (cpu_is_64(c))
		branch_check(c, i, target);
	else if (target > c->seg[S_CS].limit)
		cpu_gp(c, 0);
	c->next_rip = target;
}

void op_jcc(struct cpu *c, const struct insn *i)
{
	if (cond(c->af, i->opcode & 15))
		jump(c, i, c->next_rip + i->imm);
}

void op_jmp_rel(struct cpu *c, const struct insn *i)
{
	jump(c, i, c->next_rip + i->imm);
}

void op_jmp_ind(struct cpu *c, const struct insn *i)
{
	jump(c, i, rd_rm(c, i, i->osz));
}

static void call(struct cpu *c, const struct insn *i, u64 target)
{
	u64 ret = c->next_rip, sp = (c->gpr[R_SP] - i->osz) & stack_mask(c);

	/* A fault of the push goes before one of the target, but nothing is written then. */
	lin_check_write(c, seg_linear(c, S_SS, sp, i->osz, ACC_WRITE), i->osz, c->mmu_idx);
	jump(c, i, target);
	st(c, S_SS, sp, i->osz, ret);
	set_sp(c, sp);
}

void op_call_rel(struct cpu *c, const struct insn *i)
{
	call(c, i, c->next_rip + i->imm);
}

void op_call_ind(struct cpu *c, const struct insn *i)
{
	call(c, i, rd_rm(c, i, i->osz));
}

void op_ret_near(struct cpu *c, const struct insn *i)
{
	u64 sp = c->gpr[R_SP] & stack_mask(c);
	jump(c, i, ld(c, S_SS, sp, i->osz));
	set_sp(c, sp + i->osz + i->imm);
}

void op_loop(struct cpu *c, const struct insn *i)
{
	u64 n = (c->gpr[R_CX] - 1) & asz_mask(i->asz);
	bool take = n != 0;

	if (i->mnem != ZYDIS_MNEMONIC_LOOP) {
		bool want = i->mnem == ZYDIS_MNEMONIC_LOOPE;
		if (i->rep && cpu_is_amd(c)) /* AMD: F3 makes either of the two LOOPE, F2 LOOPNE */
			want = i->rep == REP_E;
		take = take && !!(c->af & 0x4000) == want;
	}
	if (take)
		jump(c, i, c->next_rip + i->imm);
	gpr_write(c, R_CX * 8, i->asz, n);
}

void op_jcxz(struct cpu *c, const struct insn *i)
{
	if (!(c->gpr[R_CX] & asz_mask(i->asz)))
		jump(c, i, c->next_rip + i->imm);
}

/* ---- compare and exchange ---- */

/* Host pointer for an atomic update, or NULL with write permission checked. */
static void *atomic_ptr(struct cpu *c, const struct insn *i, unsigned size, gva_t *la)
{
	*la = seg_linear(c, i->seg, ea_of(c, i), size, ACC_WRITE);
	void *p = lin_ptr(c, *la, size, true, c->mmu_idx);
	if (!p)
		lin_check_write(c, *la, size, c->mmu_idx);
	return p;
}

static u64 cmpxchg_host(void *p, unsigned size, u64 expect, u64 new)
{
	switch (size) {
	case 1: {
		u8 e = (u8)expect;
		__atomic_compare_exchange_n((u8 *)p, &e, (u8)new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		return e;
	}
	case 2: {
		u16 e = (u16)expect;
		__atomic_compare_exchange_n((u16 *)p, &e, (u16)new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		return e;
	}
	case 4: {
		u32 e = (u32)expect;
		__atomic_compare_exchange_n((u32 *)p, &e, (u32)new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		return e;
	}
	default:
		__atomic_compare_exchange_n((u64 *)p, &expect, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		return expect;
	}
}

static void compare_flags(struct cpu *c, unsigned size, u64 a, u64 b)
{
	switch (size) {
	case 1: alu_cmp8(c, (u8)a, (u8)b); break;
	case 2: alu_cmp16(c, (u16)a, (u16)b); break;
	case 4: alu_cmp32(c, (u32)a, (u32)b); break;
	default: alu_cmp64(c, a, b);
	}
}

void op_cmpxchg(struct cpu *c, const struct insn *i)
{
	unsigned n = i->osz;
	u64 acc = gpr_read(c, R_AX * 8, n), src = gpr_read(c, i->reg, n), old;

	if (!i->has_mem) {
		old = gpr_read(c, i->rm, n);
		if (old == acc)
			gpr_write(c, i->rm, n, src);
	} else {
		gva_t la;
		void *p = atomic_ptr(c, i, n, &la);
		if (p) {
			old = cmpxchg_host(p, n, acc, src);
		} else {
			old = lin_ld(c, la, n, c->mmu_idx);
			lin_st(c, la, n, old == acc ? src : old, c->mmu_idx);
		}
	}
	/* On success the accumulator is not written, on failure the destination register is not. */
	if (old != acc)
		gpr_write(c, R_AX * 8, n, old);
	compare_flags(c, n, acc, old);
}

static void set_zf(struct cpu *c, bool on)
{
	c->af = (c->af & ~0x4000u) | (on ? 0x4000u : 0);
}

void op_cmpxchg8b(struct cpu *c, const struct insn *i)
{
	u64 expect = (u32)c->gpr[R_AX] | c->gpr[R_DX] << 32, new = (u32)c->gpr[R_BX] | c->gpr[R_CX] << 32, old;
	gva_t la;
	void *p = atomic_ptr(c, i, 8, &la);

	if (p) {
		old = cmpxchg_host(p, 8, expect, new);
	} else {
		old = lin_ld(c, la, 8, c->mmu_idx);
		lin_st(c, la, 8, old == expect ? new : old, c->mmu_idx);
	}
	if (old != expect) {
		c->gpr[R_AX] = (u32)old;
		c->gpr[R_DX] = old >> 32;
	}
	set_zf(c, old == expect);
}

void op_cmpxchg16b(struct cpu *c, const struct insn *i)
{
	gva_t la;

	if (!cpu_has(c, CPUID_CX16))
		cpu_ud(c);
	u64 ea = ea_of(c, i);
	if (seg_unchecked(c, i->seg, ea) & 15) /* #GP, not #SS, even if it is not canonical too */
		cpu_gp(c, 0);
	la = seg_linear_noac(c, i->seg, ea, 16, ACC_WRITE);
	u64 *p = atomic_ptr(c, i, 16, &la), lo = c->gpr[R_AX], hi = c->gpr[R_DX];
	u64 tmp[2] aligned(16);
	bool ok;
	if (!p) {
		lin_ld_bytes(c, la, tmp, 16, c->mmu_idx);
		p = tmp;
	}
	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(ok), "+m"(*(u128 *)p), "+a"(lo), "+d"(hi)
			 : "b"(c->gpr[R_BX]), "c"(c->gpr[R_CX])
			 : "memory");
	if (p == tmp)
		lin_st_bytes(c, la, tmp, 16, c->mmu_idx);
	if (!ok) {
		c->gpr[R_AX] = lo;
		c->gpr[R_DX] = hi;
	}
	set_zf(c, ok);
}

void op_xchg_rr(struct cpu *c, const struct insn *i)
{
	u64 a = gpr_read(c, i->rm, i->osz), b = gpr_read(c, i->reg, i->osz);
	gpr_write(c, i->rm, i->osz, b);
	gpr_write(c, i->reg, i->osz, a);
}

void op_xchg_m(struct cpu *c, const struct insn *i)
{
	unsigned n = i->osz;
	u64 v = gpr_read(c, i->reg, n), old;
	gva_t la;
	void *p = atomic_ptr(c, i, n, &la);

	if (!p) {
		old = lin_ld(c, la, n, c->mmu_idx);
		lin_st(c, la, n, v, c->mmu_idx);
	} else if (n == 1) {
		old = __atomic_exchange_n((u8 *)p, (u8)v, __ATOMIC_SEQ_CST);
	} else if (n == 2) {
		old = __atomic_exchange_n((u16 *)p, (u16)v, __ATOMIC_SEQ_CST);
	} else if (n == 4) {
		old = __atomic_exchange_n((u32 *)p, (u32)v, __ATOMIC_SEQ_CST);
	} else {
		old = __atomic_exchange_n((u64 *)p, v, __ATOMIC_SEQ_CST);
	}
	gpr_write(c, i->reg, n, old);
}

/* ---- multiply and divide ---- */

#define MULDIV(op, bits)                                                                                                              \
	do {                                                                                                                               \
		u##bits lo = (u##bits)c->gpr[R_AX], hi = (u##bits)c->gpr[R_DX], s = (u##bits)v;                                            \
		u64 f = c->af;                                                                                                             \
		__asm__ volatile("movq %%rax, %%r8\n\tmovl %k[f], %%eax\n\taddb $0x7f, %%al\n\tsahf\n\tmovq %%r8, %%rax\n\t" #op SFX##bits " %[s]\n\t"                                                                 \
				 "movq %%rax, %%r8\n\tlahf\n\tseto %%al\n\tmovzwl %%ax, %k[f]\n\tmovq %%r8, %%rax"                         \
				 : "+a"(lo), "+d"(hi), [f] "+&r"(f)                                                                        \
				 : [s] "r"(s)                                                                                              \
				 : "r8", "cc");                                                                           \
		c->af = (u16)f;                                                                                                            \
		wr##bits(c, R_AX * 8, lo);                                                                                                 \
		wr##bits(c, R_DX * 8, hi);                                                                                                 \
	} while (0)

/* With AX as the double-width accumulator. */
#define MULDIV8(op)                                                                                                                        \
	do {                                                                                                                               \
		u16 ax = (u16)c->gpr[R_AX];                                                                                                \
		u64 f = c->af;                                                                                                             \
		__asm__ volatile("movq %%rax, %%r8\n\tmovl %k[f], %%eax\n\taddb $0x7f, %%al\n\tsahf\n\tmovq %%r8, %%rax\n\t" #op "b %b[s]\n\t"                                                                         \
				 "movq %%rax, %%r8\n\tlahf\n\tseto %%al\n\tmovzwl %%ax, %k[f]\n\tmovq %%r8, %%rax"                         \
				 : "+a"(ax), [f] "+&r"(f)                                                                                  \
				 : [s] "r"((u64)v)                                                                                         \
				 : "r8", "cc");                                                                           \
		c->af = (u16)f;                                                                                                            \
		GPR16(c, R_AX * 8) = ax;                                                                                                   \
	} while (0)

#define MULDIV_ANY(op)                                                                                                                     \
	switch (i->osz) {                                                                                                                  \
	case 1: MULDIV8(op); break;                                                                                                        \
	case 2: MULDIV(op, 16); break;                                                                                                  \
	case 4: MULDIV(op, 32); break;                                                                                                  \
	default: MULDIV(op, 64);                                                                                                        \
	}

void op_mul(struct cpu *c, const struct insn *i)
{
	u64 v = rd_rm(c, i, i->osz);
	MULDIV_ANY(mul)
}

void op_imul1(struct cpu *c, const struct insn *i)
{
	u64 v = rd_rm(c, i, i->osz);
	MULDIV_ANY(imul)
}

/* The host would fault where the guest must: know before. */
static bool div_fits(struct cpu *c, unsigned n, u64 v)
{
	u64 a = c->gpr[R_AX], d = c->gpr[R_DX];
	switch (n) {
	case 1: return (u8)v && (a >> 8 & 0xff) < (u8)v;
	case 2: return (u16)v && (u16)d < (u16)v;
	case 4: return (u32)v && (u32)d < (u32)v;
	default: return v && d < v;
	}
}

static u128 magnitude(u128 v, bool neg)
{
	return neg ? -v : v;
}

static bool idiv_fits(struct cpu *c, unsigned n, u64 v)
{
	u64 a = c->gpr[R_AX], d = c->gpr[R_DX];
	unsigned bits = n * 8;
	u128 num;
	s64 den;

	switch (n) {
	case 1: num = (u128)(__int128)(s16)a, den = (s8)v; break;
	case 2: num = (u128)(__int128)(s32)((u32)(u16)d << 16 | (u16)a), den = (s16)v; break;
	case 4: num = (u128)(__int128)(s64)(d << 32 | (u32)a), den = (s32)v; break;
	default: num = (u128)d << 64 | a, den = (s64)v;
	}
	if (!den)
		return false;
	bool nneg = (__int128)num < 0, dneg = den < 0, qneg = nneg != dneg;
	u128 m = magnitude(num, nneg);
	u64 dm = (u64)magnitude((u128)(__int128)den, dneg);
	/* |quotient| must be below 2^(bits-1), or equal to it when negative: compare m with dm * limit. */
	u128 limit = ((u128)1 << (bits - 1)) + (qneg ? 1 : 0); /* |q| < limit */
	/* q < limit <=> m < dm * limit; dm <= 2^63 and limit <= 2^63 + 1: no overflow of 128 bits */
	return m < (u128)dm * limit;
}

void op_div(struct cpu *c, const struct insn *i)
{
	u64 v = rd_rm(c, i, i->osz);
	if (!div_fits(c, i->osz, v))
		cpu_raise(c, EX_DE, false, 0);
	MULDIV_ANY(div)
}

void op_idiv(struct cpu *c, const struct insn *i)
{
	u64 v = rd_rm(c, i, i->osz);
	if (!idiv_fits(c, i->osz, v))
		cpu_raise(c, EX_DE, false, 0);
	MULDIV_ANY(idiv)
}

/* IMUL r, r/m [, imm] in all sizes; opcode 0f af has two operands, 69 and 6b three. */
void op_imul(struct cpu *c, const struct insn *i)
{
	u64 b = rd_rm(c, i, i->osz), a = i->opcode == 0xaf ? gpr_read(c, i->reg, i->osz) : i->imm;
	switch (i->osz) {
	case 2: wr16(c, i->reg, alu_imul16(c, (u16)a, (u16)b)); break;
	case 4: wr32(c, i->reg, alu_imul32(c, (u32)a, (u32)b)); break;
	default: wr64(c, i->reg, alu_imul64(c, a, b));
	}
}

/* ---- bits ---- */

enum { BT_T, BT_S, BT_R, BT_C };

static u64 bt_value(struct cpu *c, unsigned kind, unsigned n, u64 v, u64 bit)
{
#define BT_OP(op)                                                                                                                          \
	(n == 2 ? alu_##op##16(c, (u16)v, (u16)bit) : n == 4 ? alu_##op##32(c, (u32)v, (u32)bit) : alu_##op##64(c, v, bit))
	switch (kind) {
	case BT_T: return BT_OP(bt);
	case BT_S: return BT_OP(bts);
	case BT_R: return BT_OP(btr);
	default: return BT_OP(btc);
	}
}

static void bt_locked(struct cpu *c, unsigned kind, unsigned n, void *p, u64 bit)
{
	u64 m = 1ull << (bit & (n * 8 - 1)), old;
	/* The operand may stand at any alignment: the host's LOCK does what the guest's would. */
#define ATOMIC(T)                                                                                                                          \
	old = kind == BT_S   ? __atomic_fetch_or((T *)p, (T)m, __ATOMIC_SEQ_CST)                                                          \
	      : kind == BT_R ? __atomic_fetch_and((T *)p, (T)~m, __ATOMIC_SEQ_CST)                                                        \
			     : __atomic_fetch_xor((T *)p, (T)m, __ATOMIC_SEQ_CST)
	if (n == 2)
		ATOMIC(u16);
	else if (n == 4)
		ATOMIC(u32);
	else
		ATOMIC(u64);
	bt_value(c, BT_T, n, old, bit);
}

void op_bt(struct cpu *c, const struct insn *i)
{
	unsigned n = i->osz, kind;
	u64 bit = i->reg == 0xff ? i->imm : gpr_read(c, i->reg, n);

	switch (i->mnem) {
	case ZYDIS_MNEMONIC_BT: kind = BT_T; break;
	case ZYDIS_MNEMONIC_BTS: kind = BT_S; break;
	case ZYDIS_MNEMONIC_BTR: kind = BT_R; break;
	default: kind = BT_C;
	}
	if (!i->has_mem) {
		u64 v = bt_value(c, kind, n, gpr_read(c, i->rm, n), bit & (n * 8 - 1));
		if (kind != BT_T)
			gpr_write(c, i->rm, n, v);
		return;
	}
	u64 ea = ea_of(c, i);
	if (i->reg != 0xff) { /* a register offset reaches beyond the operand, signed */
		s64 s = n == 2 ? (s16)bit : n == 4 ? (s32)bit : (s64)bit;
		ea = (ea + (u64)((s >> (n == 2 ? 4 : n == 4 ? 5 : 6)) * (s64)n)) & asz_mask(i->asz);
	}
	if (kind == BT_T) {
		bt_value(c, kind, n, ld(c, i->seg, ea, n), bit & (n * 8 - 1));
		return;
	}
	gva_t la = seg_linear(c, i->seg, ea, n, ACC_WRITE);
	void *p = lin_ptr(c, la, n, true, c->mmu_idx);
	if (p) {
		bt_locked(c, kind, n, p, bit);
		return;
	}
	lin_check_write(c, la, n, c->mmu_idx);
	u32 af = c->af;
	u64 v = bt_value(c, kind, n, lin_ld(c, la, n, c->mmu_idx), bit & (n * 8 - 1));
	u32 nf = c->af;
	c->af = af;
	lin_st(c, la, n, v, c->mmu_idx);
	c->af = nf;
}

/* SHLD, SHRD: rm is the destination; imm, or CL when reg2 is not given (opcode a5, ad). */
void op_shd(struct cpu *c, const struct insn *i)
{
	unsigned n = i->osz;
	u8 k = i->opcode & 1 ? (u8)c->gpr[R_CX] : (u8)i->imm;
	bool left = i->mnem == ZYDIS_MNEMONIC_SHLD;
	gva_t la = 0;

	if (i->has_mem) {
		la = seg_linear(c, i->seg, ea_of(c, i), n, ACC_WRITE);
		lin_check_write(c, la, n, c->mmu_idx);
	}
	u64 v = i->has_mem ? lin_ld(c, la, n, c->mmu_idx) : gpr_read(c, i->rm, n), s = gpr_read(c, i->reg, n);
	u32 af = c->af;
	switch (n) {
	case 2: v = left ? alu_shld16(c, (u16)v, (u16)s, k) : alu_shrd16(c, (u16)v, (u16)s, k); break;
	case 4: v = left ? alu_shld32(c, (u32)v, (u32)s, k) : alu_shrd32(c, (u32)v, (u32)s, k); break;
	default: v = left ? alu_shld64(c, v, s, k) : alu_shrd64(c, v, s, k);
	}
	u32 nf = c->af;
	c->af = af;
	if (i->has_mem)
		lin_st(c, la, n, v, c->mmu_idx);
	else
		gpr_write(c, i->rm, n, v);
	c->af = nf;
}

/* BSF, BSR, POPCNT, LZCNT, TZCNT */
void op_bit_src(struct cpu *c, const struct insn *i)
{
	unsigned n = i->osz;
	u64 s = rd_rm(c, i, n), d = gpr_read(c, i->reg, n), r;
#define SRC_OP(op) (n == 2 ? alu_##op##16(c, (u16)d, (u16)s) : n == 4 ? alu_##op##32(c, (u32)d, (u32)s) : alu_##op##64(c, d, s))
	switch (i->mnem) {
	case ZYDIS_MNEMONIC_BSF: r = SRC_OP(bsf); break;
	case ZYDIS_MNEMONIC_BSR: r = SRC_OP(bsr); break;
	case ZYDIS_MNEMONIC_POPCNT: r = SRC_OP(popcnt); break;
	case ZYDIS_MNEMONIC_LZCNT: r = SRC_OP(lzcnt); break;
	default: r = SRC_OP(tzcnt);
	}
	/* BSF and BSR of 0 leave the destination, upper half included (as this family of CPUs does). */
	if ((i->mnem == ZYDIS_MNEMONIC_BSF || i->mnem == ZYDIS_MNEMONIC_BSR) && !s)
		return;
	gpr_write(c, i->reg, n, r);
}

/* With 66h; the other sizes are in integer.c. */
void op_bswap(struct cpu *c, const struct insn *i)
{
	GPR16(c, i->rm) = 0; /* undefined; this is what CPUs do */
}

static u64 swap(u64 v, unsigned n)
{
	return n == 2 ? __builtin_bswap16((u16)v) : n == 4 ? __builtin_bswap32((u32)v) : __builtin_bswap64(v);
}

void op_movbe(struct cpu *c, const struct insn *i)
{
	if (i->opcode == 0xf0)
		gpr_write(c, i->reg, i->osz, swap(rd_rm(c, i, i->osz), i->osz));
	else
		wr_rm(c, i, i->osz, swap(gpr_read(c, i->reg, i->osz), i->osz));
}

/* osz is the source's size; the destination is 32 bits, or 64 with REX.W, and zero-extends either way. */
void op_crc32(struct cpu *c, const struct insn *i)
{
	u64 s = rd_rm(c, i, i->osz), d = (u32)GPR64(c, i->reg);
	switch (i->osz) {
	case 1: __asm__("crc32b %b1, %k0" : "+r"(d) : "r"(s)); break;
	case 2: __asm__("crc32w %w1, %k0" : "+r"(d) : "r"(s)); break;
	case 4: __asm__("crc32l %k1, %k0" : "+r"(d) : "r"(s)); break;
	default: __asm__("crc32q %1, %0" : "+r"(d) : "r"(s));
	}
	GPR64(c, i->reg) = (u32)d;
}

/* ---- moves ---- */

void op_lea(struct cpu *c, const struct insn *i)
{
	gpr_write(c, i->reg, i->osz, ea_of(c, i));
}

void op_xlat(struct cpu *c, const struct insn *i)
{
	u64 off = (c->gpr[R_BX] + (u8)c->gpr[R_AX]) & asz_mask(i->asz);
	GPR8(c, R_AX * 8) = (u8)ld(c, i->seg, off, 1);
}

void op_mov_moffs_ld(struct cpu *c, const struct insn *i)
{
	gpr_write(c, R_AX * 8, i->osz, ld(c, i->seg, i->imm & asz_mask(i->asz), i->osz));
}

void op_mov_moffs_st(struct cpu *c, const struct insn *i)
{
	st(c, i->seg, i->imm & asz_mask(i->asz), i->osz, c->gpr[R_AX]);
}

void op_movnti(struct cpu *c, const struct insn *i)
{
	st(c, i->seg, ea_of(c, i), i->osz, gpr_read(c, i->reg, i->osz));
}

/* CBW, CWDE, CDQE: osz is the result's size. */
void op_convert_a(struct cpu *c, const struct insn *i)
{
	u64 a = c->gpr[R_AX];
	gpr_write(c, R_AX * 8, i->osz, i->osz == 2 ? (u64)(s8)a : i->osz == 4 ? (u64)(s16)a : (u64)(s32)a);
}

/* CWD, CDQ, CQO: osz is the source's size. */
void op_convert_d(struct cpu *c, const struct insn *i)
{
	u64 a = c->gpr[R_AX];
	s64 s = i->osz == 2 ? (s16)a : i->osz == 4 ? (s32)a : (s64)a;
	gpr_write(c, R_DX * 8, i->osz, (u64)(s >> 63));
}

/* ---- flags ---- */

void op_flag(struct cpu *c, const struct insn *i)
{
	switch (i->mnem) {
	case ZYDIS_MNEMONIC_CLC: c->af &= ~0x100u; break;
	case ZYDIS_MNEMONIC_STC: c->af |= 0x100u; break;
	case ZYDIS_MNEMONIC_CMC: c->af ^= 0x100u; break;
	case ZYDIS_MNEMONIC_CLD: c->rflags &= ~X86_DF; break;
	default: c->rflags |= X86_DF;
	}
}

/* ---- decimal (not in 64-bit mode: the decoder says #UD there) ---- */

static u32 pzs(u8 v)
{
	return (v ? 0 : X86_ZF) | (v & 0x80 ? X86_SF : 0) | (__builtin_parity(v) ? 0 : X86_PF);
}

static void set_flags(struct cpu *c, u32 f)
{
	c->af = cpu_flags_to_af(f);
}

void op_aaa(struct cpu *c, const struct insn *i)
{
	u32 f = cpu_af_to_flags(c->af);
	u16 ax = (u16)c->gpr[R_AX];
	bool adj = (ax & 15) > 9 || f & X86_AF;
	if (adj)
		ax += 0x106;
	ax &= 0xff0f;
	GPR16(c, R_AX * 8) = ax;
	set_flags(c, (adj ? X86_AF | X86_CF : 0) | pzs((u8)ax));
}

void op_aas(struct cpu *c, const struct insn *i)
{
	u32 f = cpu_af_to_flags(c->af);
	u16 ax = (u16)c->gpr[R_AX];
	bool adj = (ax & 15) > 9 || f & X86_AF;
	if (adj)
		ax -= 0x106;
	ax &= 0xff0f;
	GPR16(c, R_AX * 8) = ax;
	set_flags(c, (adj ? X86_AF | X86_CF : 0) | pzs((u8)ax));
}

void op_aam(struct cpu *c, const struct insn *i)
{
	u8 al = (u8)c->gpr[R_AX], b = (u8)i->imm;
	if (!b)
		cpu_raise(c, EX_DE, false, 0);
	GPR16(c, R_AX * 8) = (u16)((al / b) << 8 | al % b);
	set_flags(c, pzs((u8)(al % b)));
}

void op_aad(struct cpu *c, const struct insn *i)
{
	u16 ax = (u16)c->gpr[R_AX];
	u8 al = (u8)(ax + (ax >> 8) * (u8)i->imm);
	GPR16(c, R_AX * 8) = al;
	set_flags(c, pzs(al));
}

void op_daa(struct cpu *c, const struct insn *i)
{
	u32 f = cpu_af_to_flags(c->af), n = 0;
	u8 al = (u8)c->gpr[R_AX], old = al;
	if ((al & 15) > 9 || f & X86_AF)
		al += 6, n |= X86_AF;
	if (old > 0x99 || f & X86_CF)
		al += 0x60, n |= X86_CF;
	GPR8(c, R_AX * 8) = al;
	set_flags(c, n | pzs(al));
}

void op_das(struct cpu *c, const struct insn *i)
{
	u32 f = cpu_af_to_flags(c->af), n = 0;
	u8 al = (u8)c->gpr[R_AX], old = al;
	if ((al & 15) > 9 || f & X86_AF) {
		n |= X86_AF;
		if (al < 6 || f & X86_CF)
			n |= X86_CF;
		al -= 6;
	}
	if (old > 0x99 || f & X86_CF)
		al -= 0x60, n |= X86_CF;
	GPR8(c, R_AX * 8) = al;
	set_flags(c, n | pzs(al));
}

void op_salc(struct cpu *c, const struct insn *i)
{
	GPR8(c, R_AX * 8) = c->af & 0x100 ? 0xff : 0;
}

/* ---- others ---- */

void op_fence(struct cpu *c, const struct insn *i)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Orders RDTSC behind the loads before it: guests compare time stamps of several CPUs that way. */
void op_lfence(struct cpu *c, const struct insn *i)
{
	__asm__ volatile("lfence" : : : "memory");
}

void op_prefetch(struct cpu *c, const struct insn *i)
{
}

void op_pause_op(struct cpu *c, const struct insn *i)
{
	cpu_fpu_put(c);
	c->ops->pause(c);
}

void op_rdrand(struct cpu *c, const struct insn *i)
{
	bool seed = i->mnem == ZYDIS_MNEMONIC_RDSEED, ok;
	u64 v;

	if (!cpu_has(c, seed ? CPUID_RDSEED : CPUID_RDRAND))
		cpu_ud(c);
	if (seed)
		__asm__ volatile("rdseed %0" : "=r"(v), "=@ccc"(ok));
	else
		__asm__ volatile("rdrand %0" : "=r"(v), "=@ccc"(ok));
	gpr_write(c, i->rm, i->osz, ok ? v : 0);
	c->af = 0x200u | (ok ? 0x100u : 0);
}
