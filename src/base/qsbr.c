/* SPDX-License-Identifier: MIT */
/*
 * The waiting half of base/qsbr.h.
 *
 * Why it is right: a reader stores `seen` with a full barrier before it loads a protected pointer; a writer publishes the new
 * pointer, then moves the epoch with a full barrier, then loads `seen`. So either the writer sees the reader and waits, or the reader's
 * loads come after the publication and find the new pointer. A stale epoch stored late only makes the writer wait longer.
 *
 * The lock is held while waiting: one synchronize at a time, and the list of readers stands still.
 */
#include "base/qsbr.h"

#include "base/sys.h"

#define FIRST_WAIT_NS 50000
#define MAX_WAIT_NS 2000000

void qsbr_init(struct qsbr *q)
{
	q->epoch = 1; /* 0 in `seen` means outside */
	mutex_init(&q->lock, "qsbr");
	q->readers = NULL;
}

void qsbr_register(struct qsbr *q, struct qsbr_reader *r)
{
	store_relaxed(&r->seen, 0);
	mutex_lock(&q->lock);
	r->next = q->readers;
	q->readers = r;
	mutex_unlock(&q->lock);
}

void qsbr_unregister(struct qsbr *q, struct qsbr_reader *r)
{
	struct qsbr_reader **p;

	mutex_lock(&q->lock);
	for (p = &q->readers; *p; p = &(*p)->next) {
		if (*p == r) {
			*p = r->next;
			break;
		}
	}
	mutex_unlock(&q->lock);
}

static bool is_late(const struct qsbr_reader *r, u64 epoch)
{
	u64 seen = __atomic_load_n(&r->seen, __ATOMIC_SEQ_CST);

	return seen && seen < epoch;
}

static void sleep_ns(long ns)
{
	u32 word = 0;

	futex_wait(&word, 0, ns); /* nanosleep is not on every filter's list */
}

void qsbr_synchronize(struct qsbr *q, void (*nudge)(void *arg), void *arg)
{
	long wait = FIRST_WAIT_NS;
	u64 epoch;

	mutex_lock(&q->lock);
	epoch = __atomic_add_fetch(&q->epoch, 1, __ATOMIC_SEQ_CST);
	for (struct qsbr_reader *r = q->readers; r;) {
		if (!is_late(r, epoch)) {
			r = r->next;
			continue;
		}
		if (nudge)
			nudge(arg);
		/* A reader that looks at its requests often is done before a sleep would have begun. */
		for (int i = 0; i < 200 && is_late(r, epoch); i++)
			__builtin_ia32_pause();
		if (is_late(r, epoch)) {
			sleep_ns(wait);
			wait = MIN(wait * 2, MAX_WAIT_NS);
		}
	}
	mutex_unlock(&q->lock);
}

u64 qsbr_mark(struct qsbr *q)
{
	return __atomic_add_fetch(&q->epoch, 1, __ATOMIC_SEQ_CST);
}

bool qsbr_passed(struct qsbr *q, u64 mark)
{
	bool late = false;

	if (!mutex_trylock(&q->lock))
		return false;
	for (struct qsbr_reader *r = q->readers; r && !late; r = r->next)
		late = is_late(r, mark);
	mutex_unlock(&q->lock);
	return !late;
}
