/* SPDX-License-Identifier: MIT */
/*
 * Host pages that hold decoded code: which they are, and a version for each.
 *
 * A radix tree over the host page number: top -> middle -> leaf, a leaf being 512 versions (2 MiB of host addresses) and a bit for each that
 * says whether the page is tracked now. A lookup is at most three dependent loads and takes no lock; one counter answers for a VM without
 * any. Nodes are cut from one reservation made with the VM (an engine must not call malloc, and a VMM's seccomp filter may forbid mmap later)
 * and are never freed or moved before mem_destroy(), so a version cell stays good for ever. Untouched parts of the reservation cost nothing.
 *
 * If the reservation is used up, pages without a leaf all share one cell, and from then on every page counts as code and every write
 * bumps that cell too: slow, but never wrong.
 *
 *   56           34 33        21 20       12
 *  +---------------+------------+-----------+
 *  | top (22 bits) | middle: 13 | leaf: 9   |
 *  +---------------+------------+-----------+
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/sys.h"
#include "mem/mem_int.h"

#define LEAF_BITS 9
#define MID_BITS 13
#define TOP_BITS 22
#define PAGE_NR_BITS (LEAF_BITS + MID_BITS + TOP_BITS)

/* 256 MiB of leaves: code in some 240 GiB of host addresses. Less address space allowed (RLIMIT_AS): less. */
#define ARENA_MAX (256ull << 20)
#define ARENA_MIN (1ull << 20)

struct leaf {
	u32 version[1 << LEAF_BITS];
	u64 tracked[(1 << LEAF_BITS) / 64];
	struct leaf *next; /* all leaves, newest first */
} aligned(64);

struct mid {
	struct leaf *leaf[1 << MID_BITS];
};

struct mem_track {
	u32 active;   /* some page may be tracked */
	u32 overflow; /* 1: there are pages without a leaf */
	u32 shared_version;
	u32 top_bits;
	struct leaf *leaves;
	char *arena;
	u64 used, size;
	u64 top_bytes;
	struct mid **top;
};

static void *reserve(u64 len)
{
	void *p = sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return sys_is_err(p) ? NULL : p;
}

int track_init(struct guest_mem *m)
{
	struct mem_track *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->top_bits = m->user_max >> 47 ? TOP_BITS : 47 - PAGE_SHIFT - LEAF_BITS - MID_BITS;
	t->top_bytes = sizeof(*t->top) << t->top_bits;
	t->top = reserve(t->top_bytes);
	for (t->size = ARENA_MAX; t->top && !t->arena && t->size >= ARENA_MIN; t->size /= 2) {
		t->arena = reserve(t->size);
		if (t->arena)
			break;
	}
	if (!t->arena) {
		if (t->top)
			sys_munmap(t->top, t->top_bytes);
		free(t);
		return -ENOMEM;
	}
	m->track = t;
	return 0;
}

void track_destroy(struct guest_mem *m)
{
	struct mem_track *t = m->track;

	if (!t)
		return;
	sys_munmap(t->top, t->top_bytes);
	sys_munmap(t->arena, t->size);
	free(t);
	m->track = NULL;
}

static void *arena_get(struct mem_track *t, u64 len)
{
	u64 at;

	if (load_relaxed(&t->used) + len > t->size)
		return NULL;
	at = __atomic_fetch_add(&t->used, len, __ATOMIC_RELAXED);
	return at + len <= t->size ? t->arena + at : NULL;
}

static always_inline struct leaf *leaf_of(struct mem_track *t, u64 nr)
{
	u64 top = nr >> (LEAF_BITS + MID_BITS);
	struct mid *mid;

	if (unlikely(top >> t->top_bits))
		return NULL;
	mid = load_acquire(&t->top[top]);
	return mid ? load_acquire(&mid->leaf[(nr >> LEAF_BITS) & (BIT(MID_BITS) - 1)]) : NULL;
}

/* Put a node of len bytes into *where if nobody else has yet. The loser's node is wasted; it is a rare race. */
static void *node_make(struct mem_track *t, void **where, u64 len)
{
	void *have = load_acquire(where), *node;

	if (have)
		return have;
	node = arena_get(t, len);
	if (!node)
		return NULL;
	if (__atomic_compare_exchange_n(where, &have, node, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE))
		return node;
	return have;
}

static struct leaf *leaf_make(struct mem_track *t, u64 nr)
{
	u64 top = nr >> (LEAF_BITS + MID_BITS);
	struct leaf **where, *l, *node, *none = NULL;
	struct mid *mid;

	if (top >> t->top_bits)
		return NULL;
	mid = node_make(t, (void **)&t->top[top], sizeof(*mid));
	if (!mid)
		return NULL;
	where = &mid->leaf[(nr >> LEAF_BITS) & (BIT(MID_BITS) - 1)];
	l = load_acquire(where);
	if (l)
		return l;
	node = arena_get(t, sizeof(*node));
	if (!node)
		return NULL;
	if (!__atomic_compare_exchange_n(where, &none, node, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE))
		return none;
	node->next = load_relaxed(&t->leaves);
	while (!__atomic_compare_exchange_n(&t->leaves, &node->next, node, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
	return node;
}

static always_inline bool is_tracked(const struct leaf *l, u64 nr)
{
	unsigned i = nr & (BIT(LEAF_BITS) - 1);

	return load_acquire(&l->tracked[i / 64]) & BIT(i % 64);
}

u32 *mem_track_code(struct guest_mem *m, u64 hva_page, bool *was_new)
{
	struct mem_track *t = m->track;
	u64 nr = hva_page >> PAGE_SHIFT;
	unsigned i = nr & (BIT(LEAF_BITS) - 1);
	struct leaf *l = leaf_make(t, nr);
	u32 *cell;
	bool fresh;

	if (l) {
		cell = &l->version[i];
		/* Set before the caller reads the code; a writer looks at it after it has written. */
		fresh = !(load_acquire(&l->tracked[i / 64]) & BIT(i % 64)) &&
			!(__atomic_fetch_or(&l->tracked[i / 64], BIT(i % 64), __ATOMIC_SEQ_CST) & BIT(i % 64));
	} else {
		cell = &t->shared_version;
		fresh = !__atomic_exchange_n(&t->overflow, 1, __ATOMIC_SEQ_CST);
	}
	/* Not only when fresh: the one that was first may not have come to this line yet. */
	if (!load_acquire(&t->active))
		__atomic_store_n(&t->active, 1, __ATOMIC_SEQ_CST);
	if (was_new)
		*was_new = fresh;
	return cell;
}

bool mem_is_code(struct guest_mem *m, u64 hva_page)
{
	struct mem_track *t = m->track;
	u64 nr = hva_page >> PAGE_SHIFT;
	struct leaf *l;

	if (!load_acquire(&t->active))
		return false;
	l = leaf_of(t, nr);
	return (l && is_tracked(l, nr)) || unlikely(load_acquire(&t->overflow));
}

void mem_note_write(struct guest_mem *m, u64 hva_page)
{
	struct mem_track *t = m->track;
	u64 nr = hva_page >> PAGE_SHIFT;
	struct leaf *l;

	if (!load_acquire(&t->active))
		return;
	l = leaf_of(t, nr);
	bool code = l && is_tracked(l, nr);
	if (code)
		__atomic_fetch_add(&l->version[nr & (BIT(LEAF_BITS) - 1)], 1, __ATOMIC_SEQ_CST);
	if (unlikely(load_acquire(&t->overflow)))
		__atomic_fetch_add(&t->shared_version, 1, __ATOMIC_SEQ_CST), code = true;
	if (code && m->ops->code_written)
		m->ops->code_written(m);
}

void mem_untrack(struct guest_mem *m, u64 hva_page)
{
	u64 nr = hva_page >> PAGE_SHIFT;
	unsigned i = nr & (BIT(LEAF_BITS) - 1);
	struct leaf *l = leaf_of(m->track, nr);

	if (!l)
		return;
	__atomic_fetch_and(&l->tracked[i / 64], ~BIT(i % 64), __ATOMIC_SEQ_CST);
	/* Whoever takes the new version for granted has seen the page untracked. */
	__atomic_fetch_add(&l->version[i], 1, __ATOMIC_SEQ_CST);
}

/* `active` and `overflow` stay: a tracker that runs at the same time must not lose them. */
void mem_untrack_all(struct guest_mem *m)
{
	for (struct leaf *l = load_acquire(&m->track->leaves); l; l = l->next)
		for (unsigned i = 0; i < ARRAY_SIZE(l->tracked); i++)
			if (load_relaxed(&l->tracked[i]))
				__atomic_store_n(&l->tracked[i], 0, __ATOMIC_SEQ_CST);
}
