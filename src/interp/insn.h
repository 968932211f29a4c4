/* SPDX-License-Identifier: MIT */
/*
 * A decoded instruction as the interpreter runs it, and the blocks they stand in.
 *
 * A handler (`fn`) executes its instruction and then jumps to the next one's handler: NEXT(c, i). Handlers are of two kinds:
 *  - fast ones (integer.c): read and write c->gpr directly, never touch c->rip. c->cur = i must be set before any memory access.
 *  - op functions (op_*.c): rarer instructions behind h_op. On entry c->rip is this instruction's address and c->next_rip the
 *    following one's; c->cur is set. The function does everything or raises (cpu_raise, cpu_exit do not return) with nothing
 *    changed; to jump it sets c->next_rip. After it h_op sets c->rip = c->next_rip. An instruction that changes how the following
 *    ones are decoded or whether they may run (far transfer, mode, IF, paging, ...) is lowered with ends_block.
 */
#ifndef USEKVM_INTERP_INSN_H
#define USEKVM_INTERP_INSN_H

#include "cpu/cpu.h"

struct insn;
typedef const struct insn *(*insn_fn)(struct cpu *c, const struct insn *i);
typedef void (*op_fn)(struct cpu *c, const struct insn *i);

enum { REP_NONE, REP_E /* REP, REPE */, REP_NE };

struct insn {
	insn_fn fn;
	u64 imm;      /* immediate, sign-extended to 64 bits as the instruction wants it; branch: displacement */
	union {
		op_fn op;   /* for h_op */
		void *stub; /* for vector/x87 handlers: struct stub */
	};
	s32 disp;     /* displacement of the memory operand; RIP-relative: already from the block's start (base = SLOT_BLOCK_RIP) */
	u16 off;      /* of the instruction's first byte from the block's start */
	u16 mnem;     /* ZydisMnemonic */
	u8 len;
	u8 osz;       /* operand size in bytes: 1, 2, 4, 8 (of the operation; vector ops: memory operand size up to 64) */
	u8 asz;       /* address size in bytes: 2, 4, 8 */
	u8 reg;       /* ModRM.reg register as a BYTE OFFSET into c->gpr (AH is 1), or the control/debug/segment register number */
	u8 rm;        /* ModRM.rm register likewise; only if !has_mem */
	u8 base, index; /* gpr slots of the memory operand; SLOT_ZERO if none */
	u8 scale;     /* shift: 0..3 */
	u8 seg;       /* S_*: segment of the memory operand (or of DS:rSI of a string instruction) */
	u8 rep;
	u8 opcode;    /* last opcode byte */
	u8 modrm;
	bool flat : 1; /* 64-bit mode, 64-bit addresses, no segment base: linear address = effective address */
	bool has_mem : 1, lock : 1, rexw : 1, has_rex : 1, opsize_prefix : 1, ends_block : 1;
	bool kvm_lacks : 1; /* KVM's emulator does not have it: CPU_POLICY_STRICT */
};

#ifdef USEKVM_LOOP_DISPATCH
#define NEXT(c, i) return (i) + 1 /* sanitizer builds: no reliance on sibling calls */
#else
#define NEXT(c, i) return ((i) + 1)->fn((c), (i) + 1)
#endif

/* Register file access by byte offset. */
#define GPR8(c, o) (*(u8 *)((char *)(c)->gpr + (o)))
#define GPR16(c, o) (*(u16 *)((char *)(c)->gpr + (o)))
#define GPR32(c, o) (*(u32 *)((char *)(c)->gpr + (o))) /* reading; a 32-bit write must zero-extend: GPR64 = (u32)v */
#define GPR64(c, o) (*(u64 *)((char *)(c)->gpr + (o)))

/* Write a register operand of osz 1, 2, 4, 8 with x86's zero extension rule. */
static always_inline void gpr_write(struct cpu *c, unsigned off, unsigned osz, u64 v)
{
	switch (osz) {
	case 1: GPR8(c, off) = (u8)v; break;
	case 2: GPR16(c, off) = (u16)v; break;
	case 4: GPR64(c, off) = (u32)v; break;
	default: GPR64(c, off) = v;
	}
}
static always_inline u64 gpr_read(struct cpu *c, unsigned off, unsigned osz)
{
	switch (osz) {
	case 1: return GPR8(c, off);
	case 2: return GPR16(c, off);
	case 4: return GPR32(c, off);
	default: return GPR64(c, off);
	}
}

/* The handler that runs an op function; and the one that ends a block. */
const struct insn *h_op(struct cpu *c, const struct insn *i) hidden;
const struct insn *h_op_rep(struct cpu *c, const struct insn *i) hidden;
const struct insn *h_op_end(struct cpu *c, const struct insn *i) hidden;

#endif
