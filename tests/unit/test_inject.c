/* SPDX-License-Identifier: MIT */
/*
 * --inject: its grammar; draws come as often as asked, depend on the seed alone, and are counted.
 *
 * LINK: base/inject.c base/injectspec.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/inject.h"

static void test_grammar(void **state)
{
	static const char *const refused[] = { "", ",", "eintr,", "eintr=", "eintr=0", "eintr=x", "eintr=-1", "eintr=1x", "eintr=1000000001", "eint", "eintrs",
					       "EINTR", "kick wake", "seed", "seed=", "seed=18446744073709551616", "delay", "delay=10000001", "=3" };
	struct inject_spec s = { .seed = 99 };
	const char *bad;

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		assert_int_equal(inject_parse(refused[i], &s, &bad), -1);
	assert_int_equal(s.seed, 99); /* untouched by what is refused */
	assert_int_equal(inject_parse("wake,kick=7,nonsense,seed=4", &s, &bad), -1);
	assert_string_equal(bad, "nonsense,seed=4");
	assert_int_equal(inject_parse("kick=7", &s, &bad), 0);
	assert_int_equal(s.one_in[INJECT_KICK], 7);
	assert_int_equal(s.one_in[INJECT_EINTR] | s.one_in[INJECT_WAKE] | s.one_in[INJECT_NOMEM], 0);
	assert_int_equal(s.seed, 1);
	assert_int_equal(inject_parse("eintr,seed=18446744073709551615,wake=1000000000,nomem,delay=0", &s, &bad), 0);
	assert_true(s.one_in[INJECT_EINTR] > 1 && s.one_in[INJECT_NOMEM] > 1);
	assert_int_equal(s.one_in[INJECT_WAKE], 1000000000);
	assert_true(s.seed == ~0ull);
	assert_int_equal(s.delay_us, 0);
}

static void begin(const char *text)
{
	struct inject_spec s;
	const char *bad;

	assert_int_equal(inject_parse(text, &s, &bad), 0);
	inject_start(&s);
}

static void test_draws(void **state)
{
	u64 before = inject_count(INJECT_EINTR);
	u32 n = 0;

	assert_false(inject_draw(INJECT_EINTR)); /* off */
	begin("eintr=10,nomem=1");
	for (int i = 0; i < 10000; i++)
		n += inject_draw(INJECT_EINTR);
	assert_in_range(n, 900, 1100);
	assert_int_equal(inject_count(INJECT_EINTR) - before, n);
	assert_false(inject_draw(INJECT_WAKE));
	assert_int_equal(inject_count(INJECT_WAKE), 0);
}

static void test_only_where_allowed(void **state)
{
	begin("nomem=1");
	assert_false(inject_fault(12));
	inject_allow(true);
	assert_true(inject_fault(12));
	inject_allow(false);
	assert_false(inject_fault(12));
	assert_int_equal(inject_count(INJECT_NOMEM), 1);
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

static void test_sleep(void **state)
{
	u64 longest = 0;

	begin("kick=1,delay=20000");
	for (int i = 0; i < 10; i++) {
		u64 t = now_ns();

		inject_slow_kick();
		longest = MAX(longest, now_ns() - t);
	}
	assert_true(longest > 5000000);
	assert_int_equal(inject_count(INJECT_KICK), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grammar),
		cmocka_unit_test(test_draws),
		cmocka_unit_test(test_only_where_allowed),
		cmocka_unit_test(test_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
