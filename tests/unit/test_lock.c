/* SPDX-License-Identifier: MIT */
/* Mutual exclusion under contention, and the answers of futex_wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "base/lock.h"
#include "base/sys.h"

static struct mutex lock = MUTEX_INIT("test");
static volatile long counter;

static void *adder(void *arg)
{
	for (int i = 0; i < 100000; i++) {
		mutex_lock(&lock);
		counter = counter + 1;
		mutex_unlock(&lock);
	}
	return arg;
}

static void test_contention(void **state)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, adder, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(counter, 400000);
	assert_int_equal(lock.word, 0);
}

static void test_trylock(void **state)
{
	assert_true(mutex_trylock(&lock));
	assert_false(mutex_trylock(&lock));
	mutex_unlock(&lock);
	assert_true(mutex_trylock(&lock));
	mutex_unlock(&lock);
}

static void test_futex(void **state)
{
	u32 word = 1;

	errno = 77;
	assert_int_equal(futex_wait(&word, 2, -1), -EAGAIN);
	assert_int_equal(futex_wait(&word, 1, 2000000), -ETIMEDOUT);
	assert_int_equal(errno, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_contention), cmocka_unit_test(test_trylock), cmocka_unit_test(test_futex) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
