/* SPDX-License-Identifier: MIT */
/*
 * Quiescent-state reclamation (the idea of RCU, for a handful of long-running readers): a reader announces itself with
 * qsbr_enter, passes qsbr_quiesce when it holds no pointer to protected data, and qsbr_leave when done. qsbr_synchronize waits until
 * every reader has left or quiesced since the call. Readers write only to their own cache line.
 *
 * A domain belongs to one VM. A thread that is inside a read section of a domain must not synchronize it.
 */
#ifndef USEKVM_BASE_QSBR_H
#define USEKVM_BASE_QSBR_H

#include "base/lock.h"
#include "base/types.h"

struct qsbr_reader {
	u64 seen aligned(64); /* 0: outside; otherwise the epoch at which it last held nothing */
	struct qsbr_reader *next;
};

struct qsbr {
	u64 epoch aligned(64);
	struct mutex lock; /* readers list, one synchronize at a time */
	struct qsbr_reader *readers;
};

void qsbr_init(struct qsbr *q) hidden;
void qsbr_register(struct qsbr *q, struct qsbr_reader *r) hidden;
void qsbr_unregister(struct qsbr *q, struct qsbr_reader *r) hidden;

static inline void qsbr_enter(struct qsbr *q, struct qsbr_reader *r)
{
	__atomic_store_n(&r->seen, load_acquire(&q->epoch), __ATOMIC_SEQ_CST);
}
static inline void qsbr_quiesce(struct qsbr *q, struct qsbr_reader *r)
{
	qsbr_enter(q, r);
}
static inline void qsbr_leave(struct qsbr_reader *r)
{
	store_release(&r->seen, 0);
}
/* nudge(arg) is called repeatedly (about every 50 us at first, then slower) while readers are late: it asks them to quiesce. */
void qsbr_synchronize(struct qsbr *q, void (*nudge)(void *arg), void *arg) hidden;
/*
 * The same without waiting: what was unpublished before mark = qsbr_mark() is free once qsbr_passed(mark). May be called inside a read section. False may
 * also mean that somebody else is waiting just now.
 */
u64 qsbr_mark(struct qsbr *q) hidden;
bool qsbr_passed(struct qsbr *q, u64 mark) hidden;

#endif
