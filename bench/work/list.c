/* SPDX-License-Identifier: MIT */
/* Pointers that are followed through 16 MB in random order: a miss of the caches and the TLB at nearly every step. */
#include "work.h"

#define CELLS (16u << 20 >> 6)

static uint64_t list(unsigned long rounds)
{
	struct cell {
		struct cell *next;
		uint64_t value, rest[6];
	} *cells = work_alloc(CELLS * sizeof(*cells)), *p;
	uint32_t *order = work_alloc(CELLS * sizeof(*order));
	uint64_t s = 42, sum = 0;

	for (uint32_t i = 0; i < CELLS; i++)
		order[i] = i;
	for (uint32_t i = CELLS - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(work_random(&s) % (i + 1)), t = order[i];

		order[i] = order[k];
		order[k] = t;
	}
	for (uint32_t i = 0; i < CELLS; i++) {
		cells[order[i]].next = &cells[order[(i + 1) % CELLS]];
		cells[order[i]].value = i;
	}
	work_begin();
	p = cells;
	for (unsigned long i = rounds * 10000; i; i--) {
		sum = sum * 3 + p->value;
		p = p->next;
	}
	return sum;
}
WORK(list_row, "list", APP, list, 300, 0x630170e3cc3e0178);
