/* SPDX-License-Identifier: MIT */
/* Text that can be compressed: words of a made-up language, the frequent ones more often. */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

#include "work.h"

static inline void make_text(unsigned char *p, size_t size)
{
	uint64_t s = 31337;
	size_t i = 0;

	while (i < size) {
		uint64_t r = work_random(&s), word = (r % 512) * ((r >> 16) % 512) / 64 + 17;
		int length = 2 + (int)(word % 7);

		for (int k = 0; k < length && i < size; k++) {
			p[i++] = (unsigned char)("etaoinshrdlucmfwypvbgkjq"[word % 24]);
			word = word * 31 / 7 + 5;
		}
		if (i < size)
			p[i++] = (r >> 40) % 13 ? ' ' : '\n';
	}
}

#endif
