/* SPDX-License-Identifier: MIT */
/*
 * Zydis's names of general registers as numbers, without calls of Zydis: this is asked some ten times for each instruction that is translated.
 */
#ifndef USEKVM_DECODE_REG_H
#define USEKVM_DECODE_REG_H

#include <Zydis/Zydis.h>

#include "base/types.h"

_Static_assert(ZYDIS_REGISTER_BH == ZYDIS_REGISTER_AL + 7 && ZYDIS_REGISTER_R15B == ZYDIS_REGISTER_AL + 19 && ZYDIS_REGISTER_AX == ZYDIS_REGISTER_AL + 20 &&
		       ZYDIS_REGISTER_EAX == ZYDIS_REGISTER_AX + 16 && ZYDIS_REGISTER_RAX == ZYDIS_REGISTER_EAX + 16 &&
		       ZYDIS_REGISTER_R15 == ZYDIS_REGISTER_RAX + 15,
	       "by ranges");

/* AH, CH, DH, BH */
static inline bool reg_is_high_byte(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
}

static inline bool reg_is_gpr64(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15;
}

/* The number of the general register that r is, or is a part of; -1: r is none. */
static inline int reg_gpr(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15)
		return (int)(r - ZYDIS_REGISTER_AX) & 15;
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B)
		return (int)(r - ZYDIS_REGISTER_AL) - (r >= ZYDIS_REGISTER_AH ? 4 : 0);
	return -1;
}

/* The width of a general register in bytes; 0: r is none. */
static inline unsigned reg_gpr_size(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15)
		return 2u << ((unsigned)(r - ZYDIS_REGISTER_AX) >> 4);
	return r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B;
}

#endif
