/* SPDX-License-Identifier: MIT */
/*
 * The counters of base/inject.h. Empty but in debug builds.
 */
#include "base/inject.h"

#ifdef USEKVM_DEBUG
#include <stdlib.h>

static u32 reached;
static s32 live[LIVE_KINDS];

bool inject_fault(void)
{
	const char *n = getenv("USEKVM_INJECT");

	if (likely(!n || !*n))
		return false;
	return __atomic_add_fetch(&reached, 1, __ATOMIC_RELAXED) == (u32)atoi(n);
}

void live_add(enum live_kind kind, int n)
{
	__atomic_fetch_add(&live[kind], n, __ATOMIC_RELAXED);
}

int live_count(enum live_kind kind)
{
	return load_relaxed(&live[kind]);
}

/* What the parent had is not the child's to free. */
void live_forked(void)
{
	for (unsigned i = 0; i < LIVE_KINDS; i++)
		store_relaxed(&live[i], 0);
}
#endif
