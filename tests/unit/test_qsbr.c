/* SPDX-License-Identifier: MIT */
/* A writer frees only what no reader can still see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/qsbr.h"

#define POISON 0xdeadul

static struct qsbr domain;
static unsigned long cells[2], *shared = &cells[0];
static bool stop;
static unsigned long bad, nudges;

static void *reader(void *arg)
{
	struct qsbr_reader r = { 0 };

	qsbr_register(&domain, &r);
	while (!load_relaxed(&stop)) {
		qsbr_enter(&domain, &r);
		for (int i = 0; i < 50; i++) {
			unsigned long *p = load_acquire(&shared);

			for (int k = 0; k < 20; k++)
				if (load_relaxed(p) == POISON)
					__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
			qsbr_quiesce(&domain, &r);
		}
		qsbr_leave(&r);
	}
	qsbr_unregister(&domain, &r);
	return arg;
}

static void nudge(void *arg)
{
	nudges++;
}

static void test_reclaim(void **state)
{
	pthread_t t[2];

	qsbr_init(&domain);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, reader, NULL), 0);
	for (int i = 0; i < 3000; i++) {
		unsigned long *old = shared, *fresh = &cells[old == &cells[0]];

		store_relaxed(fresh, 1);
		store_release(&shared, fresh);
		qsbr_synchronize(&domain, nudge, NULL);
		store_relaxed(old, POISON);
	}
	store_relaxed(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(bad, 0);
	assert_null(domain.readers);
}

static void test_outside_does_not_wait(void **state)
{
	struct qsbr_reader r;

	qsbr_init(&domain);
	qsbr_register(&domain, &r);
	nudges = 0;
	qsbr_synchronize(&domain, nudge, NULL);
	qsbr_enter(&domain, &r);
	qsbr_leave(&r);
	qsbr_synchronize(&domain, nudge, NULL);
	assert_int_equal(nudges, 0);
	qsbr_unregister(&domain, &r);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_reclaim), cmocka_unit_test(test_outside_does_not_wait) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
