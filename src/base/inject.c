/* SPDX-License-Identifier: MIT */
/*
 * The draws and the counters of base/inject.h. No locks, no heap, no errno: a draw may stand in a signal handler and in an allocator.
 */
#include "base/inject.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/sys.h"

static struct inject_spec spec;
bool inject_on;
static u64 drawn[INJECT_KINDS], happened[INJECT_KINDS];
static __thread __attribute__((tls_model("initial-exec"))) bool allowed;

void inject_start(const struct inject_spec *s)
{
	spec = *s;
	inject_on = true;
}

/* The finalizer of splitmix64. */
static u64 mix(u64 z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* True: *random is a further number of that draw. */
static bool draw(enum inject_kind kind, u64 *random)
{
	u64 n, z;

	if (!spec.one_in[kind])
		return false;
	n = __atomic_add_fetch(&drawn[kind], 1, __ATOMIC_RELAXED);
	z = mix(mix(spec.seed * INJECT_KINDS + kind) + n * 0x9e3779b97f4a7c15ull);
	if (z % spec.one_in[kind])
		return false;
	*random = mix(z + 1);
	__atomic_fetch_add(&happened[kind], 1, __ATOMIC_RELAXED);
	return true;
}

bool inject_hit(enum inject_kind kind)
{
	u64 random;

	return draw(kind, &random);
}

u64 inject_count(enum inject_kind kind)
{
	return load_relaxed(&happened[kind]);
}

/* By futex: nanosleep is not on every filter's list, and futex_wait() has draws of its own. */
void inject_sleep(void)
{
	struct timespec ts = { 0, 0 };
	u32 word = 0;
	u64 random;

	if (!draw(INJECT_KICK, &random))
		return;
	random %= spec.delay_us + 1ull;
	ts.tv_sec = (time_t)(random / 1000000);
	ts.tv_nsec = (long)(random % 1000000 * 1000);
	sys6(SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 0, (long)&ts, 0, 0);
}

void inject_allow(bool on)
{
	allowed = on;
}

static bool fails_by_chance(void)
{
	u64 random;

	return allowed && draw(INJECT_NOMEM, &random);
}

#ifdef USEKVM_DEBUG
static u32 left;
static int failed;
static s32 live[LIVE_KINDS];

bool inject_fault(int err)
{
	u32 n = load_relaxed(&left);

	if (unlikely(inject_on) && fails_by_chance())
		return true;
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
#else
bool inject_nomem(void)
{
	return fails_by_chance();
}
#endif
