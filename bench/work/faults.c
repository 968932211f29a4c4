/* SPDX-License-Identifier: MIT */
/* Page faults: memory that is mapped, touched and given back, page by page. */
#include <sys/mman.h>
#include "work.h"

#define SIZE (1u << 20)

static uint64_t faults(unsigned long rounds)
{
	uint64_t sum = 0;

	for (unsigned long k = 0; k < rounds; k++) {
		unsigned char *p = work_alloc(SIZE);

		madvise(p, SIZE, MADV_NOHUGEPAGE);
		for (size_t i = 0; i < SIZE; i += 4096) {
			p[i] = (unsigned char)(i >> 12);
			sum += p[i + 1] + p[i];
		}
		munmap(p, SIZE);
	}
	return sum;
}
WORK(faults_row, "page-faults", KERNEL, faults, 200, 0x000000000000ff00);
