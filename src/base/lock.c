/* SPDX-License-Identifier: MIT */
/*
 * Mutex over futex with the three states of Drepper's "Futexes Are Tricky": an unlock makes a system call only when somebody may
 * sleep. A waiter that was woken takes the lock in state 2, since it cannot know whether it was the last one.
 *
 * Mutexes are process-private and know nothing of fork: a child has no use for ours (every call of it fails with EIO).
 */
#include "base/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/inject.h"
#include "base/log.h"
#include "base/sys.h"

#define EARLY_NS 20000 /* how long a sleep that ends for no reason takes */
#define SPINS 64 /* critical sections are short; sleeping and waking costs thousands of cycles */

void mutex_init(struct mutex *m, const char *name)
{
	m->word = 0;
	m->owner = 0;
	m->name = name;
}

static always_inline void take_owner(struct mutex *m)
{
#ifdef USEKVM_DEBUG
	store_relaxed(&m->owner, (u32)sys_gettid());
#endif
}

bool mutex_trylock(struct mutex *m)
{
	u32 free = 0;

	if (!__atomic_compare_exchange_n(&m->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	take_owner(m);
	return true;
}

static noinline void lock_slow(struct mutex *m)
{
	for (int i = 0; i < SPINS; i++) {
		u32 free = 0;

		if (!load_relaxed(&m->word) && __atomic_compare_exchange_n(&m->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
		__builtin_ia32_pause();
	}
	while (__atomic_exchange_n(&m->word, 2, __ATOMIC_ACQUIRE) != 0)
		futex_wait(&m->word, 2, -1);
}

void mutex_lock(struct mutex *m)
{
	u32 free = 0;

#ifdef USEKVM_DEBUG
	if (load_relaxed(&m->owner) == (u32)sys_gettid())
		log_error(api, "mutex %s is locked again by its owner", m->name);
#endif
	if (unlikely(!__atomic_compare_exchange_n(&m->word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
		lock_slow(m);
	take_owner(m);
}

void mutex_unlock(struct mutex *m)
{
#ifdef USEKVM_DEBUG
	mutex_assert_held(m);
	store_relaxed(&m->owner, 0);
#endif
	if (unlikely(__atomic_exchange_n(&m->word, 0, __ATOMIC_RELEASE) == 2))
		futex_wake(&m->word, 1);
}

void mutex_assert_held(const struct mutex *m)
{
#ifdef USEKVM_DEBUG
	if (load_relaxed(&m->owner) != (u32)sys_gettid())
		log_error(api, "mutex %s is not held where it must be", m->name);
#else
	(void)m;
#endif
}

int futex_wait(u32 *word, u32 val, s64 timeout_ns)
{
	struct timespec ts = { 0, 0 };
	bool early = inject_draw(INJECT_WAKE);
	long r;

	if (early && (timeout_ns < 0 || timeout_ns > EARLY_NS))
		timeout_ns = EARLY_NS;
	else
		early = false;
	if (timeout_ns >= 0) {
		ts.tv_sec = timeout_ns / 1000000000;
		ts.tv_nsec = timeout_ns % 1000000000;
	}
	r = sys6(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, (long)val, timeout_ns >= 0 ? (long)&ts : 0, 0, 0);
	return early && r == -ETIMEDOUT ? 0 : (int)r;
}

void futex_wake(u32 *word, int n)
{
	sys3(SYS_futex, word, FUTEX_WAKE_PRIVATE, n);
}
