/* SPDX-License-Identifier: MIT */
/*
 * A memory of what has been decoded, for who decodes all the time: most instructions differ from one seen before in no more than the displacement and the
 * immediates, which are put into what is remembered of that. One thread's at a time.
 */
#ifndef USEKVM_DECODE_MEMO_H
#define USEKVM_DECODE_MEMO_H

#include "decode/decode.h"

#define MEMO_SETS 256u
#define MEMO_WAYS 4u
#define MEMO_OPS 4u

struct memo_numbers { /* which operands have them; MEMO_OPS: none */
	u8 disp_op, imm_op[2];
};
struct memo_entry {
	struct decoded d;
	struct memo_numbers at;
};

/* All zero is empty. */
struct decode_memo {
	u64 key[MEMO_SETS][MEMO_WAYS]; /* the bytes before displacement and immediates, up to 7; the last: how many, and the mode. 0: none */
	u8 next[MEMO_SETS];            /* way that is given up next */
	struct memo_entry entry[MEMO_SETS][MEMO_WAYS];
};

/*
 * As decode(), which it is if m is NULL: the same in every field of (*d)->z and of the operands that there are; the others up to
 * ZYDIS_MAX_OPERAND_COUNT_VISIBLE are zero. *d is room, or what is remembered: that is good until the next call.
 */
enum decode_result decode_lent(struct decode_memo *m, struct decoded *room, const struct decoded **d, const u8 *bytes, unsigned n, unsigned code_size,
			       bool amd) hidden;
/* The same, and it is in d. */
enum decode_result decode_by_memo(struct decode_memo *m, struct decoded *d, const u8 *bytes, unsigned n, unsigned code_size, bool amd) hidden;

/* What was lent, to keep, if it is not in `to` already; of its operands those that there are, and zero. */
void decode_keep(struct decoded *to, const struct decoded *from) hidden;

#endif
