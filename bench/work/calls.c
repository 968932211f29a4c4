/* SPDX-License-Identifier: MIT */
/* Direct and indirect calls and returns: a recursive function, and sixteen functions through a table in random order. */
#include "work.h"

static __attribute__((noinline, optimize("no-optimize-sibling-calls"))) unsigned int fib(unsigned int n)
{
	unsigned int r;

	if (n < 2)
		return n;
	r = fib(n - 1);
	__asm__ volatile("" : "+r"(r)); /* the compiler is to leave the recursion as it is */
	return r + fib(n - 2);
}

#define F(n)                                                                                                                               \
	static __attribute__((noinline)) uint64_t f##n(uint64_t x)                                                                         \
	{                                                                                                                                  \
		return (x << (n + 1)) + (x >> 7) + n;                                                                                      \
	}
F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)

static uint64_t calls(unsigned long rounds)
{
	static uint64_t (*const volatile table[16])(uint64_t) = {f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15};
	uint64_t s = 1234567, sum = 0;

	while (rounds--) {
		sum = work_mix(sum, fib(20));
		for (int i = 0; i < 3000; i++)
			sum += table[work_random(&s) & 15](sum);
		for (int i = 0; i < 3000; i++)
			sum ^= table[i & 3](sum);
	}
	return sum;
}
WORK(calls_row, "calls", APP, calls, 3000, 0x0f25a8cd352b995d);
