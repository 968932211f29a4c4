/* SPDX-License-Identifier: MIT */
/* Memory bandwidth: copies and fills of 8 MB with the C library's functions, and reads one cache line apart. */
#include <string.h>
#include "work.h"

#define SIZE (8u << 20)

static uint64_t memory(unsigned long rounds)
{
	unsigned char *a = work_alloc(SIZE), *b = work_alloc(SIZE);
	uint64_t sum = 0;

	memset(a, 1, SIZE);
	memset(b, 2, SIZE);
	work_begin();
	while (rounds--) {
		memset(a, (int)(sum & 127) + 1, SIZE);
		memcpy(b, a, SIZE);
		memmove(a + 1, a, SIZE - 1);
		for (size_t i = 0; i < SIZE; i += 64)
			sum += *(volatile uint64_t *)(b + i) ^ i;
		for (size_t i = 0; i < SIZE; i += 4096)
			b[i]++;
		sum = work_mix(sum, a[SIZE / 2] + (unsigned int)b[4096]);
	}
	return sum;
}
WORK(memory_row, "memory", APP, memory, 80, 0xbc19cda79007192c);
