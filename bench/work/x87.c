/* SPDX-License-Identifier: MIT */
/* The x87 unit: long double sums, quotients and square roots. Nothing transcendental, whose last bits are not the same on every system. */
#include <math.h>
#include <string.h>
#include "work.h"

static uint64_t x87(unsigned long rounds)
{
	long double a[16], x = 0.3L, sum = 0;
	unsigned char bits[16] = {0};

	for (int i = 0; i < 16; i++)
		a[i] = 1 / (long double)(i + 3);
	for (unsigned long n = rounds * 1000; n; n--) {
		long double p = a[15];

		x = 3.7L * x * (1 - x);
		for (int i = 14; i >= 0; i--)
			p = p * x + a[i];
		sum += sqrtl(p) / (1 + x);
		a[n & 15] += x / 1048576;
	}
	memcpy(bits, &sum, 10);
	return work_hash(1, bits, sizeof(bits));
}
WORK(x87_row, "x87", VECTOR, x87, 1500, 0x706adfcc8b4ffae2);
