/* SPDX-License-Identifier: MIT */
/*
 * The guest's own instruction as host code: the same but for the registers it names and its memory operand.
 */
#ifndef USEKVM_INTERP_ENCODE_H
#define USEKVM_INTERP_ENCODE_H

#include "decode/decode.h"
#include "decode/reg.h"

enum { REG_NONE = 0x80 };

/* Which host register stands for the guest's in each field of the encoding; REG_NONE: the field names no general register. */
struct rename {
	u8 reg, rm, vvvv, opreg;
	bool mem;       /* the memory operand becomes [mbase + mdisp]; not RSP, RBP, R12, R13 */
	u8 mbase;
	s32 mdisp;
	bool sib;       /* [mbase + (mindex << mshift) + mdisp]; not RSP */
	u8 mindex, mshift;
};

/* The field of r that operand o's register stands in, or NULL. */
u8 *rename_field(struct rename *r, const ZydisDecodedOperand *o) hidden;

/* Does d name AH, CH, DH or BH? They are named by encodings without REX only, so never renamed, and then d cannot have [mbase] or [mindex] of R8 or above. */
bool encode_has_high_byte(const struct decoded *d) hidden;

/*
 * 64-bit code for d, whatever the guest's mode was, at code: up to ENCODE_MAX bytes. How many; 0: cannot be encoded so. What was written
 * decodes to the same instruction on the renamed operands: that is checked here, since the bytes come from the guest.
 */
#define ENCODE_MAX 32u
unsigned encode_copy(u8 *code, const struct decoded *d, const struct rename *r) hidden;

#endif
