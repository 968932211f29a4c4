/* SPDX-License-Identifier: MIT */
/*
 * Where an instruction that ends at the end of a page ends: opcodes that are #UD before any ModRM byte is fetched, on AMD's CPUs.
 * LINK: decode/decode.c base/string.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "decode/decode.h"

static enum decode_result two(u8 opcode, bool amd)
{
	const u8 b[] = {0x0f, opcode}, prefixed[] = {0x66, 0x48, 0x0f, opcode};
	struct decoded d;
	enum decode_result r = decode(&d, b, sizeof(b), 8, amd);

	assert_int_equal(decode(&d, prefixed, sizeof(prefixed), 8, amd), r);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_modrm_on_amd),
		cmocka_unit_test(modrm_is_fetched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
