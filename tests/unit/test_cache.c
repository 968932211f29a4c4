/* SPDX-License-Identifier: MIT */
/* base/cache.c: what is there is flushed and keeps its contents; holes, vanished and untouched memory are survived and stay untouched. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cache.h"
#include "base/sig.h"
#include "base/types.h"

/* Not cmocka: that takes the fault signals for itself. */
static int failures;
#define assert_true(x)                                                                                                                     \
	do {                                                                                                                               \
		if (!(x)) {                                                                                                                \
			printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #x);                                                             \
			failures++;                                                                                                        \
		}                                                                                                                          \
	} while (0)
#define assert_int_equal(a, b) assert_true((long)(a) == (long)(b))

static u8 *map(size_t n)
{
	u8 *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static void contents(void)
{
	size_t n = 5 * PAGE_SIZE;
	u8 *p = map(n);

	for (size_t i = 0; i < n; i++)
		p[i] = (u8)(i * 7);
	assert_int_equal(cache_flush((u64)p, n), n / 64);
	assert_int_equal(cache_flush((u64)p + 10, 60), 2); /* both lines that it touches */
	assert_int_equal(cache_flush((u64)p + PAGE_SIZE - 1, 2), 2);
	assert_int_equal(cache_flush((u64)p, 0), 0);
	assert_int_equal(cache_flush_line((u64)p + 3), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(p[i], (u8)(i * 7));
	munmap(p, n);
}

static void holes(void)
{
	size_t n = 2000 * PAGE_SIZE;
	u8 *p = map(n);
	u8 resident[2000];
	unsigned touched = 0;

	p[0] = p[700 * PAGE_SIZE] = p[1999 * PAGE_SIZE] = 1;
	assert_int_equal(cache_flush((u64)p, n), 3 * 64);
	assert_int_equal(mincore(p, n, resident), 0);
	for (unsigned i = 0; i < 2000; i++)
		touched += resident[i] & 1;
	assert_int_equal(touched, 3); /* nothing was made resident */
	munmap(p + 600 * PAGE_SIZE, 10 * PAGE_SIZE);
	mprotect(p + 1998 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_NONE);
	assert_true(cache_flush((u64)p, n) >= 2 * 64);
	munmap(p, n);
	assert_int_equal(cache_flush((u64)p, n), 0);
	assert_int_equal(cache_flush_line((u64)p), -14);
}

/* Behind the end of a file: SIGBUS. */
static void truncated(void)
{
	int fd = memfd_create("test", 0);
	u8 *p;

	assert_int_equal(ftruncate(fd, 4 * PAGE_SIZE), 0);
	p = mmap(NULL, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(p, 1, 4 * PAGE_SIZE);
	assert_int_equal(cache_flush((u64)p, 4 * PAGE_SIZE), 4 * 64);
	assert_int_equal(ftruncate(fd, 2 * PAGE_SIZE), 0);
	assert_int_equal(cache_flush((u64)p, 4 * PAGE_SIZE), 2 * 64);
	assert_int_equal(cache_flush_line((u64)p + 3 * PAGE_SIZE), -14);
	munmap(p, 4 * PAGE_SIZE);
	close(fd);
}

int main(void)
{
	if (sig_install())
		return 1;
	contents();
	holes();
	truncated();
	return failures ? 1 : 0;
}
