/* SPDX-License-Identifier: MIT */
/*
 * What the files of mem/ share and nobody else sees.
 */
#ifndef USEKVM_MEM_MEM_INT_H
#define USEKVM_MEM_MEM_INT_H

#include "mem/mem.h"

/* The slot with this id in the present table, or NULL. Lock held. */
struct memslot *memslot_by_id(struct guest_mem *m, u32 id) hidden;

/*
 * A dirty bitmap of npages bits, twice: the second half is where a dirty log call collects what it hands out, so that it cannot run out
 * of memory after it has cleared bits.
 */
static inline size_t dirty_words(u64 npages)
{
	return (npages + 63) / 64;
}
u64 *dirty_alloc(u64 npages, bool all_set) hidden;
void dirty_free(u64 *bitmap) hidden;

int track_init(struct guest_mem *m) hidden;
void track_destroy(struct guest_mem *m) hidden;

#endif
