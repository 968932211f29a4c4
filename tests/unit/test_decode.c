/* SPDX-License-Identifier: MIT */
/*
 * Where an instruction that ends at the end of a page ends: opcodes that are #UD before any ModRM byte is fetched, on AMD's CPUs. And what is decoded
 * by memory is what is decoded without.
 * LINK: decode/decode.c decode/memo.c base/string.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "decode/memo.h"

static enum decode_result two(u8 opcode, bool amd)
{
	const u8 b[] = {0x0f, opcode}, prefixed[] = {0x66, 0x48, 0x0f, opcode}, locked[] = {0xf0, 0x0f, opcode};
	struct decoded d;
	enum decode_result r = decode(&d, b, sizeof(b), 8, amd);

	assert_int_equal(decode(&d, prefixed, sizeof(prefixed), 8, amd), r);
	assert_int_equal(decode(&d, locked, sizeof(locked), 8, amd), r);
	return r;
}

static void no_modrm_on_amd(void **state)
{
	(void)state;
	static const u8 opcode[] = {0xa6, 0xa7, 0xb9, 0xff};

	for (unsigned n = 0; n < sizeof(opcode); n++)
		assert_int_equal(two(opcode[n], true), DECODE_INVALID);
	assert_int_equal(two(0xb9, false), DECODE_MORE);
	assert_int_equal(two(0xff, false), DECODE_MORE);
}

static void modrm_is_fetched(void **state)
{
	(void)state;
	static const u8 opcode[] = {0xa5, 0xaf, 0xbb, 0x10};

	for (unsigned n = 0; n < sizeof(opcode); n++)
		assert_int_equal(two(opcode[n], true), DECODE_MORE);
}

/* ---- the memory ---- */

#define STARTS 4096u /* of instructions: so that most are met again with other numbers, and many are given up and remembered again */

static u64 state = 1;

static u32 any(u32 n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (u32)(state >> 20) % n;
}

static void start_of(u8 *b)
{
	static const u8 prefix[] = {0x66, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x67};
	unsigned k = 0;

	for (unsigned n = any(8) < 5 ? 0 : 1 + any(3); n; n--)
		b[k++] = prefix[any(sizeof(prefix))];
	if (any(2))
		b[k++] = (u8)(0x40 | any(16));
	if (any(3) == 0) {
		b[k++] = 0x0f;
		if (any(4) == 0)
			b[k++] = any(2) ? 0x38 : 0x3a;
	}
	while (k < 8)
		b[k++] = (u8)any(256);
}

static void same(const struct decoded *a, const struct decoded *b)
{
	assert_memory_equal(&a->z, &b->z, sizeof(a->z));
	assert_memory_equal(a->op, b->op, sizeof(a->op[0]) * (a->z.operand_count > ZYDIS_MAX_OPERAND_COUNT_VISIBLE ? a->z.operand_count : ZYDIS_MAX_OPERAND_COUNT_VISIBLE));
	assert_memory_equal(a->bytes, b->bytes, sizeof(a->bytes));
}

static void by_memory(void **unused)
{
	(void)unused;
	static const u8 end[] = {0x00, 0xff, 0x80, 0x7f, 0x01};
	static u8 start[STARTS][8];
	struct decode_memo *m = calloc(1, sizeof(*m));
	unsigned remembered = 0;

	assert_non_null(m);
	for (unsigned n = 0; n < STARTS; n++)
		start_of(start[n]);
	for (unsigned n = 0; n < 1000000; n++) {
		struct decoded with, without;
		unsigned code_size = any(4) ? 8 : any(8) ? 4 : 2, len = any(4) ? 15 : 1 + any(15);
		bool amd = any(8);
		u8 b[15];

		memcpy(b, start[any(any(2) ? STARTS : 64)], 8);
		for (unsigned k = 2 + any(6); k < sizeof(b); k++)
			if (k > 7 || !any(4))
				b[k] = any(2) ? (u8)any(256) : end[any(sizeof(end))];
		memset(&with, 0xcc, sizeof(with));
		memset(&without, 0xcc, sizeof(without));
		enum decode_result r = decode(&without, b, len, code_size, amd);
		assert_int_equal(decode_by_memo(m, &with, b, len, code_size, amd), r);
		if (r == DECODE_OK)
			same(&with, &without);
	}
	for (unsigned s = 0; s < MEMO_SETS; s++)
		for (unsigned w = 0; w < MEMO_WAYS; w++)
			remembered += !!m->key[s][w];
	assert_true(remembered > MEMO_SETS); /* else nothing was tried */
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_modrm_on_amd),
		cmocka_unit_test(modrm_is_fetched),
		cmocka_unit_test(by_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
