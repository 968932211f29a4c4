/* SPDX-License-Identifier: MIT */
/*
 * The counters of base/inject.h. Empty but in debug builds.
 */
#include "base/inject.h"

#ifdef USEKVM_DEBUG
static u32 left;
static int failed;
static s32 live[LIVE_KINDS];

bool inject_fault(int err)
{
	u32 n = load_relaxed(&left);

	do {
		if (likely(!n))
			return false;
	} while (!__atomic_compare_exchange_n(&left, &n, n - 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	if (n > 1)
		return false;
	store_relaxed(&failed, err);
	return true;
}

int inject_arm(u32 n)
{
	int err = __atomic_exchange_n(&failed, 0, __ATOMIC_RELAXED);

	store_relaxed(&left, n);
	return err;
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
