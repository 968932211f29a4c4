/* SPDX-License-Identifier: MIT */
/* The core's memory functions against simple loops, and the fault-safe copies with and without the handlers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/sig.h"
#include "base/string.h"
#include "base/sys.h"

static void fill(u8 *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (u8)((i + seed) * 2654435761u >> 11);
}

static void move_at(size_t n, size_t from, size_t to)
{
	static u8 a[4096], want[4096];

	fill(a, sizeof(a), (unsigned)n);
	for (size_t i = 0; i < sizeof(a); i++)
		want[i] = i >= to && i < to + n ? (u8)((i - to + from + n) * 2654435761u >> 11) : a[i];
	assert_ptr_equal(memmove(a + to, a + from, n), a + to);
	for (size_t i = 0; i < sizeof(a); i++)
		if (a[i] != want[i])
			fail_msg("memmove of %zu from %zu to %zu: byte %zu", n, from, to, i);
}

static void test_memmove(void **state)
{
	static const size_t distance[] = { 0, 1, 3, 7, 8, 9, 63, 64, 65, 700 };

	for (size_t n = 0; n < 1200; n += n < 80 ? 1 : 61) {
		for (size_t k = 0; k < ARRAY_SIZE(distance); k++) {
			move_at(n, 1000, 1000 + distance[k]);
			move_at(n, 1000 + distance[k], 1000);
		}
	}
}

static void test_set_cpy_cmp(void **state)
{
	static u8 a[2048], b[2048];

	for (size_t n = 0; n < 1200; n += n < 80 ? 1 : 37) {
		fill(a, sizeof(a), 5);
		fill(b, sizeof(b), 9);
		memcpy(b + 3, a + 1, n);
		assert_int_equal(memcmp(b + 3, a + 1, n), 0);
		assert_int_equal(b[2], (u8)((2 + 9) * 2654435761u >> 11));
		assert_int_equal(b[3 + n], (u8)((3 + n + 9) * 2654435761u >> 11));
		memset(b + 3, 0xa5, n);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(b[3 + i], 0xa5);
		assert_int_equal(b[3 + n], (u8)((3 + n + 9) * 2654435761u >> 11));
	}
	assert_true(memcmp("abcdefgh1", "abcdefgh2", 9) < 0);
	assert_true(memcmp("b\xff" "aaaaaa", "b\x01" "aaaaaa", 8) > 0);
	assert_int_equal(strlen("hello"), 5);
}

static void user_copies(void)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), buf[4096];

	mprotect(p + 4096, 4096, PROT_NONE);
	p[4095] = 7;
	for (size_t n = 1; n <= 16; n++) {
		assert_int_equal(copy_from_user(buf, p + 4096 - n, n), 0);
		assert_int_equal(buf[n - 1], 7);
		assert_int_equal(copy_from_user(buf, p + 4097 - n, n), -EFAULT);
		assert_int_equal(copy_to_user(p + 4097 - n, buf, n), -EFAULT);
		assert_int_equal(copy_to_user(p + 4096 - n, buf, n), 0);
	}
	assert_int_equal(copy_from_user(buf, NULL, 8), -EFAULT);
	assert_int_equal(copy_from_user(buf, (void *)0x8000000000000000ul, 8), -EFAULT); /* not canonical: #GP */
	assert_int_equal(copy_from_user(buf, (void *)-4096l, 100), -EFAULT);
	assert_int_equal(copy_from_user(buf, p, 0), 0);
	munmap(p, 8192);
}

static void *blocked_thread(void *arg)
{
	user_copies();
	return arg;
}

static void test_user_copies(void **state)
{
	sigset_t all, old;
	pthread_t t;

	user_copies(); /* by the kernel */
	assert_int_equal(sig_install(), 0);
	user_copies();
	/* A thread that was born with every signal blocked. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	assert_int_equal(pthread_create(&t, NULL, blocked_thread, NULL), 0);
	pthread_join(t, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memmove),
		cmocka_unit_test(test_set_cpy_cmp),
		cmocka_unit_test(test_user_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
