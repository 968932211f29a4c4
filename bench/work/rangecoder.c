/* SPDX-License-Identifier: MIT */
/* Compression by an adaptive binary range coder (as in LZMA): integer operations that wait for each other, branches nobody foresees. */
#include <string.h>
#include "text.h"

#define SIZE (64u << 10)

struct coder {
	uint64_t low;
	uint32_t range, code;
	unsigned char *p;
	uint16_t model[256][256];
};

static void reset(struct coder *c, unsigned char *p)
{
	c->low = 0;
	c->range = 0xffffffff;
	c->p = p;
	for (int i = 0; i < 256; i++) {
		for (int k = 0; k < 256; k++)
			c->model[i][k] = 1024;
	}
}

static void carry(unsigned char *p)
{
	while (!++*--p)
		;
}

static void encode(struct coder *c, unsigned int context, unsigned int byte)
{
	unsigned int node = 1;

	for (int i = 7; i >= 0; i--) {
		uint16_t *m = &c->model[context][node];
		uint32_t bound = (c->range >> 11) * *m;
		unsigned int bit = byte >> i & 1;

		if (!bit) {
			c->range = bound;
			*m += (2048 - *m) >> 5;
		} else {
			c->low += bound;
			c->range -= bound;
			*m -= *m >> 5;
		}
		if (c->low >> 32) {
			carry(c->p);
			c->low = (uint32_t)c->low;
		}
		while (c->range < 1u << 24) {
			*c->p++ = (unsigned char)(c->low >> 24);
			c->low = (uint32_t)(c->low << 8);
			c->range <<= 8;
		}
		node = node << 1 | bit;
	}
}

static unsigned int decode(struct coder *c, unsigned int context)
{
	unsigned int node = 1;

	while (node < 256) {
		uint16_t *m = &c->model[context][node];
		uint32_t bound = (c->range >> 11) * *m;

		node <<= 1;
		if (c->code < bound) {
			c->range = bound;
			*m += (2048 - *m) >> 5;
		} else {
			c->code -= bound;
			c->range -= bound;
			*m -= *m >> 5;
			node |= 1;
		}
		while (c->range < 1u << 24) {
			c->code = c->code << 8 | *c->p++;
			c->range <<= 8;
		}
	}
	return node & 255;
}

static uint64_t rangecoder(unsigned long rounds)
{
	unsigned char *text = work_alloc(SIZE), *packed = (unsigned char *)work_alloc(SIZE * 2) + 1;
	static struct coder c;
	size_t n = 0;

	make_text(text, SIZE);
	work_begin();
	while (rounds--) {
		unsigned int before = 0;

		reset(&c, packed);
		for (unsigned int i = 0; i < SIZE; i++) {
			encode(&c, before, text[i]);
			before = text[i];
		}
		for (int i = 0; i < 4; i++) {
			*c.p++ = (unsigned char)(c.low >> 24);
			c.low = (uint32_t)(c.low << 8);
		}
		n = (size_t)(c.p - packed);
		reset(&c, packed + 4);
		c.code = (uint32_t)packed[0] << 24 | (uint32_t)packed[1] << 16 | (uint32_t)packed[2] << 8 | packed[3];
		before = 0;
		for (unsigned int i = 0; i < SIZE; i++) {
			before = decode(&c, before);
			if (before != text[i])
				work_fail("not the same text");
		}
	}
	return work_mix(n, work_hash(1, packed, n));
}
WORK(rangecoder_row, "rangecoder", APP, rangecoder, 40, 0x6406a1c736b886ca);
