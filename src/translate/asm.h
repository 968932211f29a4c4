/* SPDX-License-Identifier: MIT */
/*
 * Writing host instructions: bytes, and the few forms that translated code needs beside the guest's own instructions.
 *
 * Registers are numbers as ModRM has them. `w`: 64-bit operand. An opcode above 0xff stands for 0F xx. Who writes a unit
 * has seen that there is room for the longest.
 */
#ifndef USEKVM_TRANSLATE_ASM_H
#define USEKVM_TRANSLATE_ASM_H

#include "base/types.h"
#include "base/string.h"
#include "cpu/cpu.h"
#include "interp/encode.h"

struct asmb {
	u8 *p;
};

enum { REG_T1 = R_10, REG_T2 = R_11, REG_CTX = R_SP };

struct xea {
	u8 base, index; /* host registers, or REG_NONE */
	u8 scale;       /* shift */
	s32 disp;
};

/* Displacement of a field of struct cpu from the context register. */
#define CTX(field) ((s32)((long)offsetof(struct cpu, field) - (long)offsetof(struct cpu, gpr)))

static inline void e8(struct asmb *a, unsigned v)
{
	*a->p++ = (u8)v;
}
static inline void e32(struct asmb *a, u32 v)
{
	memcpy(a->p, &v, 4);
	a->p += 4;
}
static inline void e64(struct asmb *a, u64 v)
{
	memcpy(a->p, &v, 8);
	a->p += 8;
}

static inline void asm_opcode(struct asmb *a, unsigned opc)
{
	if (opc > 0xff)
		e8(a, 0x0f);
	e8(a, opc);
}

/* opc reg, rm */
static inline void asm_rr(struct asmb *a, bool w, unsigned opc, unsigned reg, unsigned rm)
{
	unsigned rex = 0x40 | (unsigned)w << 3 | (reg >> 3) << 2 | rm >> 3;
	if (rex != 0x40)
		e8(a, rex);
	asm_opcode(a, opc);
	e8(a, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* opc reg, [m] */
void asm_rm(struct asmb *a, bool w, unsigned opc, unsigned reg, struct xea m) hidden;
static inline struct xea xea_base(unsigned base, s32 disp)
{
	return (struct xea){ (u8)base, REG_NONE, 0, disp };
}
static inline struct xea xea_ctx(s32 disp)
{
	return xea_base(REG_CTX, disp);
}

static inline void asm_mov(struct asmb *a, unsigned dst, unsigned src)
{
	if (dst != src)
		asm_rr(a, true, 0x8b, dst, src);
}
static inline void asm_load(struct asmb *a, unsigned reg, struct xea m)
{
	asm_rm(a, true, 0x8b, reg, m);
}
static inline void asm_store(struct asmb *a, unsigned reg, struct xea m)
{
	asm_rm(a, true, 0x89, reg, m);
}
static inline void asm_lea(struct asmb *a, unsigned reg, struct xea m)
{
	asm_rm(a, true, 0x8d, reg, m);
}
void asm_imm(struct asmb *a, unsigned reg, u64 v) hidden; /* the shortest mov; no flags */
/* opc /ext rm, imm32 of the 81 group: ADD 0, OR 1, AND 4, SUB 5, XOR 6, CMP 7 */
void asm_ri(struct asmb *a, bool w, unsigned ext, unsigned rm, s32 imm) hidden;
void asm_mi(struct asmb *a, bool w, unsigned ext, struct xea m, s32 imm) hidden;

/* jmp or jcc rel32; the position to patch. cc: 0..15, or CC_ALWAYS. */
enum { CC_ALWAYS = 16, CC_AE = 3, CC_E = 4, CC_NE = 5, CC_BE = 6, CC_A = 7 };
static inline u8 *asm_jump(struct asmb *a, unsigned cc)
{
	if (cc == CC_ALWAYS) {
		e8(a, 0xe9);
	} else {
		e8(a, 0x0f);
		e8(a, 0x80 | cc);
	}
	e32(a, 0);
	return a->p - 4;
}
static inline void asm_patch(u8 *at, const u8 *to)
{
	s32 rel = (s32)(to - (at + 4));
	memcpy(at, &rel, 4);
}
static inline void asm_jump_to(struct asmb *a, unsigned cc, const u8 *to)
{
	asm_patch(asm_jump(a, cc), to);
}

/* The host's flags from cpu.af. EAX is lost. */
static inline void asm_load_af(struct asmb *a)
{
	asm_rm(a, false, 0x1b7, R_AX, xea_ctx(CTX(af))); /* movzx: it may have been stored by 16 bits */
	e8(a, 0x04), e8(a, 0x7f);                        /* add al, 0x7f */
	e8(a, 0x9e);                                     /* sahf */
}

/* A jump with 8 bits of displacement: JMP eb, JRCXZ e3. */
static inline u8 *asm_short(struct asmb *a, unsigned opc)
{
	e8(a, opc);
	e8(a, 0);
	return a->p - 1;
}
static inline void asm_patch_short(u8 *at, const u8 *to)
{
	*at = (u8)(to - (at + 1));
}

/* The guest's own instruction (interp/encode.h). False: cannot be encoded so, nothing is written. */
static inline bool asm_copy(struct asmb *a, const struct decoded *d, const struct rename *r)
{
	unsigned n = encode_copy(a->p, d, r);

	a->p += n;
	return n;
}

#endif
