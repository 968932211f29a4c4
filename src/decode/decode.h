/* SPDX-License-Identifier: MIT */
/*
 * Bytes -> Zydis's view of one instruction, in the guest's mode.
 */
#ifndef USEKVM_DECODE_DECODE_H
#define USEKVM_DECODE_DECODE_H

#include <Zydis/Zydis.h>

#include "base/types.h"

struct decoded {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	u8 bytes[15];
	struct decode_memo *memo; /* that it was decoded with (memo.h), for who decodes what comes of it; or NULL */
};

enum decode_result {
	DECODE_OK,
	DECODE_MORE,    /* the bytes given end inside the instruction */
	DECODE_INVALID, /* #UD */
	DECODE_LONG,    /* more than 15 bytes: #GP */
};

/* A legacy prefix (SDM 2, 2.1.1)? */
static inline bool decode_is_prefix(u8 b)
{
	return b == 0x66 || b == 0x67 || b == 0xf2 || b == 0xf3 || b == 0xf0 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 || b == 0x65;
}

/* code_size: 2, 4, 8. amd: 66-prefixed near branches have 16-bit operands in 64-bit mode. Reads n (1..15) bytes. */
enum decode_result decode(struct decoded *d, const u8 *bytes, unsigned n, unsigned code_size, bool amd) hidden;

#endif
