/* SPDX-License-Identifier: MIT */
/* Integer code without branches: multiplications, rotations, a CRC by table, division. */
#include "work.h"

#define WORDS 8192

static uint64_t hash(unsigned long rounds)
{
	uint64_t *buf = work_alloc(WORDS * sizeof(*buf)), s = 88172645463325252u, h = 1;
	uint32_t table[256], crc = 0xffffffff;

	for (int i = 0; i < WORDS; i++)
		buf[i] = work_random(&s);
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320 ^ (c >> 1) : c >> 1;
		table[i] = c;
	}
	work_begin();
	while (rounds--) {
		const unsigned char *b = (const unsigned char *)buf;

		for (int i = 0; i < WORDS; i++) {
			uint64_t k = buf[i] * 0x87c37b91114253d5u;

			k = (k << 31 | k >> 33) * 0x4cf5ad432745937fu;
			h ^= k;
			h = (h << 27 | h >> 37) * 5 + 0x52dce729;
		}
		for (int i = 0; i < 2 * WORDS; i++)
			crc = crc >> 8 ^ table[(crc ^ b[i]) & 0xff];
		for (int i = 0; i < WORDS / 16; i++)
			h += buf[i] / (h >> 40 | 3) + buf[i] % 1000003;
		buf[h % WORDS] += crc;
	}
	return work_mix(h, crc);
}
WORK(hash_row, "hash", APP, hash, 10000, 0x52e6162558692836);
