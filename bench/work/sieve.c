/* SPDX-License-Identifier: MIT */
/* Integer code: the primes below two million, with byte stores at growing distances and branches that are hard to foresee at first. */
#include <string.h>
#include "work.h"

#define ODD 1000000u

static uint64_t sieve(unsigned long rounds)
{
	unsigned char *composite = work_alloc(ODD);
	uint64_t sum = 0;

	while (rounds--) {
		unsigned int n = 0;

		memset(composite, 0, ODD);
		for (unsigned int i = 1; i < ODD; i++) {
			if (composite[i])
				continue;
			n++;
			for (uint64_t k = 2ul * i * (i + 1); k < ODD; k += 2 * i + 1)
				composite[k] = 1;
		}
		sum = work_mix(sum, n);
	}
	return sum;
}
WORK(sieve_row, "sieve", APP, sieve, 60, 0x09bb2fe9cd7bd658);
