/* SPDX-License-Identifier: MIT */
/*
 * A mutex and a sleeping word over futex, without the C library: usable while the guest's FPU state is live, never touching errno.
 * In debug builds (USEKVM_DEBUG) a mutex knows its owner, and mutex_assert_held() checks it; lock order is in docs/locking.md.
 */
#ifndef USEKVM_BASE_LOCK_H
#define USEKVM_BASE_LOCK_H

#include "base/types.h"

struct mutex {
	u32 word;  /* 0 free, 1 held, 2 held with waiters */
	u32 owner; /* tid, debug builds */
	const char *name;
};

#define MUTEX_INIT(n) { 0, 0, n }
void mutex_init(struct mutex *m, const char *name) hidden;
void mutex_lock(struct mutex *m) hidden;
bool mutex_trylock(struct mutex *m) hidden;
void mutex_unlock(struct mutex *m) hidden;
void mutex_assert_held(const struct mutex *m) hidden;

/* Sleep while *word == val, at most timeout_ns (< 0: for ever). Returns 0 (also for no reason), -EAGAIN (value differed), -EINTR or -ETIMEDOUT. */
int futex_wait(u32 *word, u32 val, s64 timeout_ns) hidden;
void futex_wake(u32 *word, int n) hidden;

#endif
