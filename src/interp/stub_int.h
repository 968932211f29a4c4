/* SPDX-License-Identifier: MIT */
/*
 * Between the files of the stubs: stub.c (cache, lowering), stub_emit.c (re-encoding), stub_mem.c (handlers), stub_vsib.c (gathers,
 * scatters, MASKMOVDQU), op_xsave.c.
 */
#ifndef USEKVM_INTERP_STUB_INT_H
#define USEKVM_INTERP_STUB_INT_H

#include "cpu/fpu.h"
#include "interp/stub.h"

#define STUB_MAX 160u /* bytes of code, the longest possible and more */

enum stub_lanes { LANES_NONE, LANES_PLAIN, LANES_ANY /* broadcast: accessed if any lane is active */, LANES_PACKED /* expand, compress */ };

/* What is known of an instruction beside its code. Equal code means equal values. */
struct stub {
	void (*code)(struct cpu *c, void *mem);
	u32 hash, next; /* index + 1 of the next in the hash chain */
	u16 len;
	u16 fop;        /* x87: opcode as FOP has it */
	u8 need;        /* FPU_OK_* */
	u8 align;       /* mask: low address bits that must be 0 */
	u8 size;        /* of the memory operand */
	bool write;     /* memory is the destination */
	bool control;   /* x87 instruction that does not set FIP */
	u8 lanes;       /* enum stub_lanes: masked memory operand */
	u8 lane_size;   /* bytes of memory per lane */
	u8 nlanes;      /* lanes of memory */
	u8 nmask;       /* lanes of the mask: a multiple of nlanes */
	u8 kreg;        /* mask register; 0: by sign bits of vreg */
	u8 vreg;
	u8 masked_fold; /* consecutive mask bits that share one lane of memory, or 0: lane n is bits n, n + nlanes, ... */
};

/* stub_emit.c: the host code for d. Number of bytes, or 0: cannot be done. */
unsigned stub_emit(const struct decoded *d, u8 *code) hidden;

/* stub_mem.c */
insn_fn stub_handler(const struct stub *s, bool has_mem) hidden;
const struct insn *h_stub_fninit(struct cpu *c, const struct insn *i) hidden;
const struct insn *h_ldmxcsr(struct cpu *c, const struct insn *i) hidden;
/* Raise what a missing bit of need means. */
_Noreturn void stub_unavailable(struct cpu *c, const struct insn *i, u32 need) hidden;
/* #MF, if an earlier x87 instruction left an exception: before memory is touched. */
void x87_pending(struct cpu *c, const struct insn *i) hidden;

/* stub_vsib.c: fills i for a gather or scatter, or MASKMOVDQU/MASKMOVQ. */
bool vsib_lower(const struct decoded *d, struct insn *i) hidden;
bool maskmov_lower(const struct decoded *d, struct insn *i) hidden;

/* op_xsave.c: FXSAVE and the like, x87 environments. */
bool xsave_lower(const struct decoded *d, struct insn *i) hidden;

/* #MF goes before the faults of the operand. */
static always_inline bool stub_waits(const struct insn *i, const struct stub *s)
{
	return s->need == FPU_OK_X87 ? !s->control || i->mnem == ZYDIS_MNEMONIC_FLDCW
				     : s->need == FPU_OK_MMX || i->mnem == ZYDIS_MNEMONIC_CVTPD2PI || i->mnem == ZYDIS_MNEMONIC_CVTTPD2PI;
}

static always_inline void stub_done(struct cpu *c)
{
#ifdef USEKVM_FPU_EAGER
	cpu_fpu_put(c);
#endif
}

#endif
