/* SPDX-License-Identifier: MIT */
/* Compression by repeated strings (in the manner of LZ4): hash table, comparisons, short copies; packed, unpacked and compared. */
#include <string.h>
#include "text.h"

#define SIZE (256u << 10)

static inline uint32_t get32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

static unsigned char *put_length(unsigned char *o, size_t n)
{
	for (; n >= 255; n -= 255)
		*o++ = 255;
	*o++ = (unsigned char)n;
	return o;
}

/* Literals, then a match: both lengths (4 bits each, more follow), the literals, the distance. */
static size_t pack(const unsigned char *in, size_t size, unsigned char *out)
{
	static uint32_t table[1 << 14];
	const unsigned char *p = in, *end = in + size - 8, *literal = in;
	unsigned char *o = out;
	size_t n;

	memset(table, 0, sizeof(table));
	while (p < end) {
		uint32_t h = get32(p) * 2654435761u >> 18;
		const unsigned char *m = in + table[h];

		table[h] = (uint32_t)(p - in);
		if (m >= p || p - m > 65535 || get32(m) != get32(p)) {
			p++;
			continue;
		}
		for (n = 4; p + n < end && m[n] == p[n];)
			n++;
		*o++ = (unsigned char)((p - literal < 15 ? p - literal : 15) << 4 | (n - 4 < 15 ? n - 4 : 15));
		if (p - literal >= 15)
			o = put_length(o, (size_t)(p - literal) - 15);
		memcpy(o, literal, (size_t)(p - literal));
		o += p - literal;
		*o++ = (unsigned char)((p - m) & 255);
		*o++ = (unsigned char)((p - m) >> 8);
		if (n - 4 >= 15)
			o = put_length(o, n - 4 - 15);
		p += n;
		literal = p;
	}
	n = (size_t)(in + size - literal);
	*o++ = (unsigned char)((n < 15 ? n : 15) << 4);
	if (n >= 15)
		o = put_length(o, n - 15);
	memcpy(o, literal, n);
	return (size_t)(o + n - out);
}

static size_t get_length(const unsigned char **p, size_t n)
{
	if (n == 15) {
		do
			n += **p;
		while (*(*p)++ == 255);
	}
	return n;
}

static size_t unpack(const unsigned char *p, size_t size, unsigned char *out)
{
	const unsigned char *end = p + size;
	unsigned char *o = out;

	for (;;) {
		unsigned int token = *p++;
		size_t n = get_length(&p, token >> 4), distance;

		memcpy(o, p, n);
		o += n;
		p += n;
		if (p >= end)
			return (size_t)(o - out);
		distance = p[0] | (size_t)p[1] << 8;
		p += 2;
		n = get_length(&p, token & 15) + 4;
		for (; n; n--, o++)
			*o = *(o - distance);
	}
}

static uint64_t lz(unsigned long rounds)
{
	unsigned char *text = work_alloc(SIZE), *packed = work_alloc(SIZE * 2), *again = work_alloc(SIZE);
	size_t n = 0;

	make_text(text, SIZE);
	work_begin();
	while (rounds--) {
		n = pack(text, SIZE, packed);
		if (unpack(packed, n, again) != SIZE || memcmp(text, again, SIZE))
			work_fail("not the same text");
	}
	return work_mix(n, work_hash(1, packed, n));
}
WORK(lz_row, "lz", APP, lz, 150, 0xab41675fcdfb0bf7);
