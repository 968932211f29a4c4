/* SPDX-License-Identifier: MIT */
/*
 * The tables of fast integer handlers, by operand size (log2 of bytes) and form, for the lowering.
 */
#ifndef USEKVM_INTERP_INTEGER_H
#define USEKVM_INTERP_INTEGER_H

#include "interp/insn.h"

/* Operand forms. RR: rm is the destination, reg the source. RM: reg <- memory. RI: rm, imm. MR, MI: memory destination; L: LOCK. */
enum form { F_RR, F_RI, F_RM, F_MR, F_MI, F_MRL, F_MIL, F_COUNT };
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP_, ALU_TEST_, ALU_MOV_, ALU_XADD_, ALU_COUNT };
extern const insn_fn alu_table[ALU_COUNT][4][F_COUNT] hidden;

enum { UN_INC, UN_DEC, UN_NEG, UN_NOT, UN_COUNT };
extern const insn_fn un_table[UN_COUNT][4][3] hidden; /* register, memory, memory locked */

enum { SH_ROL, SH_ROR, SH_RCL, SH_RCR, SH_SHL, SH_SHR, SH_SAR, SH_COUNT };
extern const insn_fn shift_table[SH_COUNT][4][4] hidden; /* register by imm, register by CL, memory by imm, memory by CL */

extern const insn_fn movzx_table[4][4][2] hidden; /* [dest size][source size 0, 1][register, memory] */
extern const insn_fn movsx_table[4][4][2] hidden; /* source size 0, 1, 2 */
extern const insn_fn jcc64_table[16] hidden;
extern const insn_fn setcc_table[16][2] hidden; /* register, memory */
extern const insn_fn cmov_table[16][3][2] hidden; /* [cc][16, 32, 64][register, memory] */

#define INTEGER_HANDLERS(X)                                                                                                                \
	X(h_nop) X(h_lea64) X(h_lea32) X(h_jmp64) X(h_call64) X(h_ret64) X(h_jmp_r64) X(h_jmp_m64) X(h_call_r64) X(h_call_m64)  \
	X(h_push_r64) X(h_push_i64) X(h_push_m64) X(h_pop_r64) X(h_leave64) X(h_block_end)                        \
	X(h_bswap32) X(h_bswap64) X(h_cdqe) X(h_cqo) X(h_cdq) X(h_imul2_32) X(h_imul2_64) X(h_imul3_32) X(h_imul3_64)
#define X(n) const struct insn *n(struct cpu *c, const struct insn *i) hidden;
INTEGER_HANDLERS(X)
#undef X

/* op_int.c: the rarer integer instructions and every form of the stack and branches, behind h_op / h_op_end. */
#define OP(name) void op_##name(struct cpu *c, const struct insn *i) hidden
OP(push); OP(pop); OP(push_imm); OP(pusha); OP(popa); OP(enter); OP(leave); OP(bound);
OP(jcc); OP(jmp_rel); OP(jmp_ind); OP(call_rel); OP(call_ind); OP(ret_near); OP(loop); OP(jcxz);
OP(cmpxchg); OP(cmpxchg8b); OP(cmpxchg16b); OP(xchg_m); OP(mul); OP(imul1); OP(div); OP(idiv); OP(imul);
OP(bt); OP(shd); OP(bit_src); OP(bswap); OP(movbe); OP(crc32); OP(lea); OP(xlat); OP(mov_moffs_ld); OP(mov_moffs_st);
OP(convert_a); OP(convert_d); OP(flag); OP(aaa); OP(aas); OP(aam); OP(aad); OP(daa); OP(das); OP(salc);
OP(fence); OP(lfence); OP(rdrand); OP(xchg_rr); OP(movnti); OP(pause_op); OP(prefetch);
/* op_string.c */
OP(movs); OP(stos); OP(lods); OP(scas); OP(cmps);
#undef OP

#endif
