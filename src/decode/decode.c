/* SPDX-License-Identifier: MIT */
/*
 * The decoder is made afresh for each instruction: that is cheap beside decoding, and leaves no state to share between threads.
 *
 * CET and MPX are off, so that their instructions decode as the NOPs they are on a CPU without them.
 */
#include "decode/decode.h"
#include "base/string.h"

/* UD0, UD1 and the opcodes that VIA uses (0F A6, 0F A7) are #UD before any ModRM byte is fetched on AMD's CPUs. */
static bool is_ud_at_opcode(const u8 *b, unsigned n)
{
	unsigned k = 0;

	while (k < n && (decode_is_prefix(b[k]) || (b[k] & 0xf0) == 0x40))
		k++;
	return k + 1 < n && b[k] == 0x0f && (b[k + 1] == 0xff || b[k + 1] == 0xb9 || (b[k + 1] & 0xfe) == 0xa6);
}

/* VPINSRQ and VPEXTRQ exist in 64-bit mode only, and W is not ignored elsewhere (SDM 2); with EVEX it is. */
static bool is_quad_lane(const ZydisDecodedInstruction *z)
{
	return (z->mnemonic == ZYDIS_MNEMONIC_VPINSRD || z->mnemonic == ZYDIS_MNEMONIC_VPEXTRD) &&
	       z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && z->raw.vex.W;
}

enum decode_result decode(struct decoded *d, const u8 *bytes, unsigned n, unsigned code_size, bool amd)
{
	ZydisDecoder dec;
	ZydisMachineMode mode = code_size == 8 ? ZYDIS_MACHINE_MODE_LONG_64
				: code_size == 4 ? ZYDIS_MACHINE_MODE_LEGACY_32
						 : ZYDIS_MACHINE_MODE_LEGACY_16;
	ZydisStackWidth sw = code_size == 8 ? ZYDIS_STACK_WIDTH_64 : code_size == 4 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;

	d->memo = NULL;
	ZydisDecoderInit(&dec, mode, sw);
	ZydisDecoderEnableMode(&dec, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(&dec, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
	ZydisDecoderEnableMode(&dec, ZYDIS_DECODER_MODE_AMD_BRANCHES, amd);
	ZyanStatus s = ZydisDecoderDecodeFull(&dec, bytes, n, &d->z, d->op);
	if (ZYAN_SUCCESS(s)) {
		if (code_size != 8 && is_quad_lane(&d->z))
			return DECODE_INVALID;
		memset(d->bytes, 0, sizeof(d->bytes));
		memcpy(d->bytes, bytes, d->z.length);
		return DECODE_OK;
	}
	if (s == ZYDIS_STATUS_NO_MORE_DATA && amd && is_ud_at_opcode(bytes, n))
		return DECODE_INVALID;
	if (s == ZYDIS_STATUS_NO_MORE_DATA)
		return n >= 15 ? DECODE_LONG : DECODE_MORE;
	if (s == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
		return DECODE_LONG;
	return DECODE_INVALID;
}
