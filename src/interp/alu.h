/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of the integer instructions: the host's own instruction on the guest's values, the flags caught by LAHF and SETO
 * into cpu.af. Undefined flags come out as this CPU makes them.
 */
#ifndef USEKVM_INTERP_ALU_H
#define USEKVM_INTERP_ALU_H

#include "interp/insn.h"

#define SFX8 "b"
#define SFX16 "w"
#define SFX32 "l"
#define SFX64 "q"

#define CATCH "\n\tlahf\n\tseto %%al"
/* Flags from af (in eax) into the host's: OF by an addition that overflows if al is 1, the others by SAHF. */
#define LOAD_FLAGS "addb $0x7f, %%al\n\tsahf\n\t"

#define ALU_BIN(op, bits)                                                                                                                  \
	static always_inline u##bits alu_##op##bits(struct cpu *c, u##bits a, u##bits b)                                                   \
	{                                                                                                                                  \
		u32 f;                                                                                                                     \
		__asm__(#op SFX##bits " %2, %0" CATCH : "+r"(a), "=&a"(f) : "r"(b) : "cc");                                                \
		c->af = (u16)f;                                                                                                            \
		return a;                                                                                                                  \
	}                                                                                                                                  \
	static always_inline void alu_##op##bits##_m(struct cpu *c, u##bits *p, u##bits b)                                                 \
	{                                                                                                                                  \
		u32 f;                                                                                                                     \
		__asm__ volatile(#op SFX##bits " %2, %0" CATCH : "+m"(*p), "=&a"(f) : "r"(b) : "cc", "memory");                            \
		c->af = (u16)f;                                                                                                            \
	}                                                                                                                                  \
	static always_inline void alu_##op##bits##_lock(struct cpu *c, u##bits *p, u##bits b)                                              \
	{                                                                                                                                  \
		u32 f;                                                                                                                     \
		__asm__ volatile("lock " #op SFX##bits " %2, %0" CATCH : "+m"(*p), "=&a"(f) : "r"(b) : "cc", "memory");                    \
		c->af = (u16)f;                                                                                                            \
	}
/* As above with CF taken in. */
#define ALU_BINC(op, bits)                                                                                                                 \
	static always_inline u##bits alu_##op##bits(struct cpu *c, u##bits a, u##bits b)                                                   \
	{                                                                                                                                  \
		u32 f;                                                                                                                     \
		__asm__("btl $8, %3\n\t" #op SFX##bits " %2, %0" CATCH : "+r"(a), "=&a"(f) : "r"(b), "r"(c->af) : "cc");                   \
		c->af = (u16)f;                                                                                                            \
		return a;                                                                                                                  \
	}                                                                                                                                  \
	static always_inline void alu_##op##bits##_m(struct cpu *c, u##bits *p, u##bits b)                                                 \
	{                                                                                                                                  \
		u32 f;                                                                                                                     \
		__asm__ volatile("btl $8, %3\n\t" #op SFX##bits " %2, %0" CATCH                                                            \
				 : "+m"(*p), "=&a"(f)                                                                                      \
				 : "r"(b), "r"(c->af)                                                                                      \
				 : "cc", "memory");                                                                                        \
		c->af = (u16)f;                                                                                                            \
	}                                                                                                                                  \
	static always_inline void alu_##op##bits##_lock(struct cpu *c, u##bits *p, u##bits b)                                              \
	{                                                                                                                                  \
		u32 f;                                                                                                                     \
		__asm__ volatile("btl $8, %3\n\tlock " #op SFX##bits " %2, %0" CATCH                                                       \
				 : "+m"(*p), "=&a"(f)                                                                                      \
				 : "r"(b), "r"(c->af)                                                                                      \
				 : "cc", "memory");                                                                                        \
		c->af = (u16)f;                                                                                                            \
	}
/* One operand; flags that the instruction leaves alone (INC, DEC: CF; NOT: all) pass through. The second argument is not used. */
#define ALU_UN(op, bits)                                                                                                                   \
	static always_inline u##bits alu_##op##bits(struct cpu *c, u##bits a, u##bits b)                                                   \
	{                                                                                                                                  \
		u32 f = c->af;                                                                                                             \
		__asm__(LOAD_FLAGS #op SFX##bits " %0" CATCH : "+r"(a), "+&a"(f) : : "cc");                                                \
		c->af = (u16)f;                                                                                                            \
		return a;                                                                                                                  \
	}                                                                                                                                  \
	static always_inline void alu_##op##bits##_m(struct cpu *c, u##bits *p, u##bits b)                                                 \
	{                                                                                                                                  \
		u32 f = c->af;                                                                                                             \
		__asm__ volatile(LOAD_FLAGS #op SFX##bits " %0" CATCH : "+m"(*p), "+&a"(f) : : "cc", "memory");                            \
		c->af = (u16)f;                                                                                                            \
	}                                                                                                                                  \
	static always_inline void alu_##op##bits##_lock(struct cpu *c, u##bits *p, u##bits b)                                              \
	{                                                                                                                                  \
		u32 f = c->af;                                                                                                             \
		__asm__ volatile(LOAD_FLAGS "lock " #op SFX##bits " %0" CATCH : "+m"(*p), "+&a"(f) : : "cc", "memory");                    \
		c->af = (u16)f;                                                                                                            \
	}
/* Shifts and rotates by a count (any; the host masks it as the guest would). */
#define ALU_SH(op, bits)                                                                                                                   \
	static always_inline u##bits alu_##op##bits(struct cpu *c, u##bits a, u8 n)                                                        \
	{                                                                                                                                  \
		u32 f = c->af;                                                                                                             \
		__asm__(LOAD_FLAGS #op SFX##bits " %%cl, %0" CATCH : "+r"(a), "+&a"(f) : "c"(n) : "cc");                                   \
		c->af = (u16)f;                                                                                                            \
		return a;                                                                                                                  \
	}
/* Double shifts. */
#define ALU_SHD(op, bits)                                                                                                                  \
	static always_inline u##bits alu_##op##bits(struct cpu *c, u##bits a, u##bits b, u8 n)                                             \
	{                                                                                                                                  \
		u32 f = c->af;                                                                                                             \
		__asm__(LOAD_FLAGS #op SFX##bits " %%cl, %2, %0" CATCH : "+r"(a), "+&a"(f) : "r"(b), "c"(n) : "cc");                       \
		c->af = (u16)f;                                                                                                            \
		return a;                                                                                                                  \
	}
/* Two operands, flags in and out: bit tests with the offset inside the operand; source to destination, the old one taken in (BSF of 0). */
#define ALU_TWO(op, bits)                                                                                                                   \
	static always_inline u##bits alu_##op##bits(struct cpu *c, u##bits a, u##bits b)                                                   \
	{                                                                                                                                  \
		u32 f = c->af;                                                                                                             \
		__asm__(LOAD_FLAGS #op SFX##bits " %2, %0" CATCH : "+r"(a), "+&a"(f) : "r"(b) : "cc");                                     \
		c->af = (u16)f;                                                                                                            \
		return a;                                                                                                                  \
	}
#define FOR4(M, op) M(op, 8) M(op, 16) M(op, 32) M(op, 64)
#define FOR3(M, op) M(op, 16) M(op, 32) M(op, 64)
FOR4(ALU_BIN, add)
FOR4(ALU_BIN, or)
FOR4(ALU_BIN, and)
FOR4(ALU_BIN, sub)
FOR4(ALU_BIN, xor)
FOR4(ALU_BINC, adc)
FOR4(ALU_BINC, sbb)
FOR4(ALU_UN, inc)
FOR4(ALU_UN, dec)
FOR4(ALU_UN, neg)
FOR4(ALU_UN, not)
FOR4(ALU_SH, rol)
FOR4(ALU_SH, ror)
FOR4(ALU_SH, rcl)
FOR4(ALU_SH, rcr)
FOR4(ALU_SH, shl)
FOR4(ALU_SH, shr)
FOR4(ALU_SH, sar)
FOR3(ALU_SHD, shld)
FOR3(ALU_SHD, shrd)
FOR3(ALU_TWO, bt)
FOR3(ALU_TWO, bts)
FOR3(ALU_TWO, btr)
FOR3(ALU_TWO, btc)
FOR3(ALU_TWO, bsf)
FOR3(ALU_TWO, bsr)
FOR3(ALU_TWO, popcnt)
FOR3(ALU_TWO, lzcnt)
FOR3(ALU_TWO, tzcnt)
FOR3(ALU_TWO, imul)

#define ALU_CMP(op, bits)                                                                                                                  \
	static always_inline void alu_##op##bits(struct cpu *c, u##bits a, u##bits b)                                                      \
	{                                                                                                                                  \
		u32 f;                                                                                                                     \
		__asm__(#op SFX##bits " %2, %1" CATCH : "=&a"(f) : "r"(a), "r"(b) : "cc");                                                 \
		c->af = (u16)f;                                                                                                            \
	}
FOR4(ALU_CMP, cmp)
FOR4(ALU_CMP, test)

static always_inline void wr8(struct cpu *c, unsigned o, u8 v)
{
	GPR8(c, o) = v;
}
static always_inline void wr16(struct cpu *c, unsigned o, u16 v)
{
	GPR16(c, o) = v;
}
static always_inline void wr32(struct cpu *c, unsigned o, u32 v)
{
	GPR64(c, o) = v;
}
static always_inline void wr64(struct cpu *c, unsigned o, u64 v)
{
	GPR64(c, o) = v;
}

#endif
