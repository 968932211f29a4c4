/* SPDX-License-Identifier: MIT */
/* A search tree (treap) with insertions, deletions and searches: short loops over pointers, compare and branch. */
#include "work.h"

#define NODES (1u << 16)

struct node {
	struct node *child[2];
	uint32_t key, priority;
};

static struct node *merge(struct node *a, struct node *b)
{
	if (!a || !b)
		return a ? a : b;
	if (a->priority > b->priority) {
		a->child[1] = merge(a->child[1], b);
		return a;
	}
	b->child[0] = merge(a, b->child[0]);
	return b;
}

/* Keys below `key` into *a, the others into *b. */
static void split(struct node *t, uint32_t key, struct node **a, struct node **b)
{
	while (t) {
		if (t->key < key) {
			*a = t;
			a = &t->child[1];
			t = *a;
		} else {
			*b = t;
			b = &t->child[0];
			t = *b;
		}
	}
	*a = *b = NULL;
}

static void insert(struct node **t, struct node *n)
{
	while (*t && (*t)->priority >= n->priority)
		t = &(*t)->child[(*t)->key < n->key];
	split(*t, n->key, &n->child[0], &n->child[1]);
	*t = n;
}

static uint64_t tree(unsigned long rounds)
{
	struct node *nodes = work_alloc(NODES * sizeof(*nodes)), *root = NULL;
	uint64_t s = 7, sum = 0;

	for (uint32_t i = 0; i < NODES; i++) {
		nodes[i].key = i * 2654435761u;
		nodes[i].priority = (uint32_t)work_random(&s);
		insert(&root, &nodes[i]);
	}
	work_begin();
	for (unsigned long k = rounds * 1000; k; k--) {
		uint32_t key = (uint32_t)(work_random(&s) % NODES) * 2654435761u, depth = 0;
		struct node **t = &root, *n;

		while ((n = *t) && n->key != key) {
			t = &n->child[n->key < key];
			depth++;
		}
		if (!n)
			work_fail("a key is lost");
		sum += depth;
		if (k % 4)
			continue;
		*t = merge(n->child[0], n->child[1]);
		n->priority = (uint32_t)work_random(&s);
		insert(&root, n);
	}
	return sum;
}
WORK(tree_row, "tree", APP, tree, 700, 0x00000000000233d8);
