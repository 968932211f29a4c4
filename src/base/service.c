/* SPDX-License-Identifier: MIT */
/*
 * The service thread: a binary heap of timers, a table of watched descriptors, a queue of calls.
 *
 * s->lock guards everything here and is never held while a callback runs. The thread sleeps in epoll_wait on a timerfd (always
 * re-armed by the thread itself, so that other threads need only write(2) to the eventfd to hand it an earlier deadline), the eventfd
 * and the watched descriptors.
 *
 * A callback in progress is named by s->running. The *_sync functions first take their object out of the heap or table, then wait until
 * s->running is something else; on the service thread itself there is nothing to wait for. An epoll event carries a slot number and
 * the slot's generation, so that an event fetched just before its watch was deleted finds nobody.
 */
#include "base/service.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <errno.h>

#include "base/agent.h"
#include "base/inject.h"
#include "base/log.h"
#include "base/process.h"
#include "base/sys.h"

#define SLOT_TIMER 0xfffffffeu
#define SLOT_WAKE 0xffffffffu
#define NO_DEADLINE (~0ull)
#define TIMERS_AT_FIRST 64

struct svc_slot {
	struct svc_watch *watch;
	u32 gen;
};

struct svc_job {
	struct svc_job *next;
	void (*fn)(void *arg);
	void *arg;
	u32 done;
};

struct service {
	struct mutex lock;
	u32 tid;          /* 0 until the thread runs */
	bool stop;
	bool woken;       /* the eventfd has been written and not yet read */
	int epfd, timerfd, wakefd;
	u64 armed;        /* what the timerfd is set to */
	struct svc_timer **heap;
	unsigned nheap, heap_cap;
	unsigned timers;  /* that may be in it at once */
	struct svc_slot *slots;
	unsigned nslots;
	struct svc_job *jobs, **jobs_tail;
	const void *running;
	u32 waiters;
	u32 seq;          /* bumped after each callback: what *_sync sleeps on */
	u32 *ended;       /* of service_stop: the thread frees everything, then writes 1 there */
	char name[16];
};

/* ---- the heap: heap[i] has pos i + 1; pos 0 is "not in it" ---- */

static void heap_put(struct service *s, unsigned i, struct svc_timer *t)
{
	s->heap[i] = t;
	t->pos = i + 1;
}

static void heap_up(struct service *s, unsigned i)
{
	struct svc_timer *t = s->heap[i];

	while (i && s->heap[(i - 1) / 2]->deadline > t->deadline) {
		heap_put(s, i, s->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(s, i, t);
}

static void heap_down(struct service *s, unsigned i)
{
	struct svc_timer *t = s->heap[i];

	for (;;) {
		unsigned k = 2 * i + 1;

		if (k >= s->nheap)
			break;
		if (k + 1 < s->nheap && s->heap[k + 1]->deadline < s->heap[k]->deadline)
			k++;
		if (s->heap[k]->deadline >= t->deadline)
			break;
		heap_put(s, i, s->heap[k]);
		i = k;
	}
	heap_put(s, i, t);
}

static void heap_remove(struct service *s, struct svc_timer *t)
{
	unsigned i = t->pos - 1;
	struct svc_timer *last;

	t->pos = 0;
	last = s->heap[--s->nheap];
	if (last == t)
		return;
	heap_put(s, i, last);
	heap_up(s, i);
	heap_down(s, last->pos - 1);
}

static int heap_grow(struct service *s, unsigned cap)
{
	struct svc_timer **h = realloc(s->heap, cap * sizeof(*h));

	if (!h)
		return -ENOMEM;
	s->heap = h;
	s->heap_cap = cap;
	return 0;
}

/* There is room for each timer that there is (svc_timer_reserve). */
static void heap_insert(struct service *s, struct svc_timer *t)
{
	if (unlikely(s->nheap == s->heap_cap)) {
		log_error(timer, "a timer without room in the heap");
		return;
	}
	heap_put(s, s->nheap++, t);
	heap_up(s, s->nheap - 1);
}

/* ---- waking and waiting ---- */

static __thread __attribute__((tls_model("initial-exec"))) const struct service *this_thread;

static bool on_thread(const struct service *s)
{
	return this_thread == s;
}

static void wake_locked(struct service *s)
{
	u64 one = 1;

	if (s->woken)
		return;
	s->woken = true;
	sys_write(s->wakefd, &one, sizeof(one));
}

/* Called and returns with the lock held. */
static void call_out_begin(struct service *s, const void *what)
{
	s->running = what;
	mutex_unlock(&s->lock);
}

static void call_out_end(struct service *s)
{
	mutex_lock(&s->lock);
	s->running = NULL;
	store_release(&s->seq, s->seq + 1);
	if (s->waiters)
		futex_wake(&s->seq, 1 << 30);
}

static void wait_idle(struct service *s, const void *what)
{
	if (on_thread(s))
		return;
	while (s->running == what) {
		u32 seq = s->seq;

		s->waiters++;
		mutex_unlock(&s->lock);
		futex_wait(&s->seq, seq, -1);
		mutex_lock(&s->lock);
		s->waiters--;
	}
}

/* ---- timers ---- */

/* Rooms are not given back: a timer ends with its VM, or with the call that failed to make its owner. */
int svc_timer_reserve(struct service *s)
{
	int r = 0;

	mutex_lock(&s->lock);
	if (s->timers == s->heap_cap)
		r = heap_grow(s, s->heap_cap * 2);
	if (!r)
		s->timers++;
	mutex_unlock(&s->lock);
	return r;
}

void svc_timer_init(struct svc_timer *t, void (*fn)(struct svc_timer *))
{
	t->fn = fn;
	t->deadline = NO_DEADLINE;
	t->pos = 0;
}

static void timer_set_locked(struct service *s, struct svc_timer *t, u64 deadline)
{
	if (deadline == NO_DEADLINE) {
		if (t->pos)
			heap_remove(s, t);
		t->deadline = deadline;
		return;
	}
	if (t->pos) {
		bool later = deadline > t->deadline;

		t->deadline = deadline;
		if (later)
			heap_down(s, t->pos - 1);
		else
			heap_up(s, t->pos - 1);
	} else {
		t->deadline = deadline;
		heap_insert(s, t);
	}
	/* A later deadline than the one armed needs no wake-up: the thread finds nothing to do and re-arms. */
	if (deadline < s->armed && !on_thread(s))
		wake_locked(s);
}

void svc_timer_set(struct service *s, struct svc_timer *t, u64 deadline_ns)
{
	mutex_lock(&s->lock);
	timer_set_locked(s, t, deadline_ns);
	mutex_unlock(&s->lock);
}

void svc_timer_cancel_sync(struct service *s, struct svc_timer *t)
{
	mutex_lock(&s->lock);
	timer_set_locked(s, t, NO_DEADLINE);
	wait_idle(s, t);
	/* The callback may have re-armed itself meanwhile. */
	timer_set_locked(s, t, NO_DEADLINE);
	mutex_unlock(&s->lock);
}

static void run_timers(struct service *s)
{
	u64 now = sys_clock_ns(CLOCK_MONOTONIC);

	while (s->nheap && s->heap[0]->deadline <= now && !s->stop) {
		struct svc_timer *t = s->heap[0];

		heap_remove(s, t);
		t->deadline = NO_DEADLINE;
		call_out_begin(s, t);
		t->fn(t);
		call_out_end(s);
	}
}

static void arm_timerfd(struct service *s)
{
	u64 next = s->nheap ? s->heap[0]->deadline : NO_DEADLINE;
	struct itimerspec its = { { 0, 0 }, { 0, 0 } };

	if (next == s->armed)
		return;
	s->armed = next;
	if (next != NO_DEADLINE) {
		/* A zero value would disarm; deadlines beyond what the kernel's clock holds are as good as centuries. */
		u64 t = MIN(MAX(next, 1ull), (u64)INT64_MAX);

		its.it_value.tv_sec = (time_t)(t / 1000000000);
		its.it_value.tv_nsec = (long)(t % 1000000000);
	}
	sys6(SYS_timerfd_settime, s->timerfd, TFD_TIMER_ABSTIME, (long)&its, 0, 0, 0);
}

/* ---- watches ---- */

static int slot_find(struct service *s, const struct svc_watch *w)
{
	for (unsigned i = 0; i < s->nslots; i++)
		if (s->slots[i].watch == w)
			return (int)i;
	return -1;
}

static int slot_alloc(struct service *s)
{
	int i = slot_find(s, NULL);
	unsigned n = s->nslots ? s->nslots * 2 : 16;
	struct svc_slot *t;

	if (i >= 0)
		return i;
	t = realloc(s->slots, n * sizeof(*t));
	if (!t)
		return -ENOMEM;
	for (unsigned k = s->nslots; k < n; k++)
		t[k] = (struct svc_slot){ NULL, 0 };
	i = (int)s->nslots;
	s->slots = t;
	s->nslots = n;
	return i;
}

static int epoll_add(struct service *s, int fd, u32 slot, u32 gen)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (u64)gen << 32 | slot };

	if (inject_fault(ENOMEM))
		return -ENOMEM;
	return (int)sys6(SYS_epoll_ctl, s->epfd, EPOLL_CTL_ADD, fd, (long)&ev, 0, 0);
}

int svc_watch_add(struct service *s, struct svc_watch *w)
{
	int i, r;

	mutex_lock(&s->lock);
	i = slot_alloc(s);
	if (i < 0) {
		mutex_unlock(&s->lock);
		return i;
	}
	r = epoll_add(s, w->fd, (u32)i, ++s->slots[i].gen);
	if (!r)
		s->slots[i].watch = w;
	mutex_unlock(&s->lock);
	return r;
}

void svc_watch_del_sync(struct service *s, struct svc_watch *w)
{
	struct epoll_event ev = { 0 };
	int i;

	mutex_lock(&s->lock);
	i = slot_find(s, w);
	if (i >= 0) {
		sys6(SYS_epoll_ctl, s->epfd, EPOLL_CTL_DEL, w->fd, (long)&ev, 0, 0);
		s->slots[i].watch = NULL;
		s->slots[i].gen++;
	}
	wait_idle(s, w);
	mutex_unlock(&s->lock);
}

static void run_watch(struct service *s, const struct epoll_event *ev)
{
	u32 slot = (u32)ev->data.u64, gen = (u32)(ev->data.u64 >> 32);
	struct svc_watch *w;
	u64 buf;

	if (slot == SLOT_TIMER) {
		sys_read(s->timerfd, &buf, sizeof(buf));
		s->armed = NO_DEADLINE; /* it has fired, so it is not armed */
		return;
	}
	if (slot == SLOT_WAKE) {
		sys_read(s->wakefd, &buf, sizeof(buf));
		s->woken = false;
		return;
	}
	if (slot >= s->nslots || s->slots[slot].gen != gen || !s->slots[slot].watch)
		return;
	w = s->slots[slot].watch;
	call_out_begin(s, w);
	w->fn(w, ev->events);
	call_out_end(s);
}

/* Watches that epoll has not named, by chance: as if somebody else had emptied the descriptor meanwhile. */
static void run_idle_watches(struct service *s)
{
	for (unsigned i = 0; i < s->nslots && !s->stop; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (u64)s->slots[i].gen << 32 | i };

		if (s->slots[i].watch && inject_draw(INJECT_WAKE))
			run_watch(s, &ev);
	}
}

/* ---- calls ---- */

void svc_call(struct service *s, void (*fn)(void *arg), void *arg)
{
	struct svc_job j = { NULL, fn, arg, 0 };

	if (on_thread(s)) {
		fn(arg);
		return;
	}
	mutex_lock(&s->lock);
	*s->jobs_tail = &j;
	s->jobs_tail = &j.next;
	wake_locked(s);
	mutex_unlock(&s->lock);
	while (!load_acquire(&j.done))
		futex_wait(&j.done, 0, -1);
	/* The thread's wake comes under the lock: once we hold it, j is ours alone. */
	mutex_lock(&s->lock);
	mutex_unlock(&s->lock);
}

static void run_jobs(struct service *s)
{
	while (s->jobs) {
		struct svc_job *j = s->jobs;

		s->jobs = j->next;
		if (!s->jobs)
			s->jobs_tail = &s->jobs;
		call_out_begin(s, j);
		j->fn(j->arg);
		call_out_end(s);
		store_release(&j->done, 1);
		futex_wake(&j->done, 1);
	}
}

/* ---- the thread ---- */

static void service_free(struct service *s)
{
	if (s->epfd >= 0)
		sys_close(s->epfd);
	if (s->timerfd >= 0)
		sys_close(s->timerfd);
	if (s->wakefd >= 0)
		sys_close(s->wakefd);
	free(s->heap);
	free(s->slots);
	free(s);
}

static void *service_main(void *arg)
{
	struct service *s = arg;
	struct epoll_event ev[16];

	this_thread = s;
	sys6(SYS_prctl, PR_SET_NAME, (long)s->name, 0, 0, 0, 0);
	u32 tid = (u32)sys_gettid();
	process_helper_begins(tid);
	store_release(&s->tid, tid);
	futex_wake(&s->tid, 1);

	mutex_lock(&s->lock);
	while (!s->stop) {
		long n;

		run_jobs(s);
		run_timers(s);
		arm_timerfd(s);
		mutex_unlock(&s->lock);
		n = sys6(SYS_epoll_wait, s->epfd, (long)ev, ARRAY_SIZE(ev), inject_draw(INJECT_WAKE) ? 1 : -1, 0, 0);
		mutex_lock(&s->lock);
		for (long i = 0; i < n && !s->stop; i++)
			run_watch(s, &ev[i]);
		if (unlikely(inject_on))
			run_idle_watches(s);
	}
	run_jobs(s);
	u32 *ended = s->ended;
	mutex_unlock(&s->lock);
	service_free(s);
	process_helper_ends(tid);
	store_release(ended, 1);
	futex_wake(ended, 1); /* perhaps of a word that is gone: then nobody waits there */
	return NULL;
}

static int open_fd(long call, long a, long b)
{
	if (inject_fault(EMFILE))
		return -EMFILE;
	return (int)sys3(call, a, b, 0);
}

static int open_fds(struct service *s)
{
	int r;

	s->epfd = open_fd(SYS_epoll_create1, EPOLL_CLOEXEC, 0);
	if (s->epfd < 0)
		return s->epfd;
	s->timerfd = open_fd(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->timerfd < 0)
		return s->timerfd;
	s->wakefd = open_fd(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wakefd < 0)
		return s->wakefd;
	r = epoll_add(s, s->timerfd, SLOT_TIMER, 0);
	return r ? r : epoll_add(s, s->wakefd, SLOT_WAKE, 0);
}

static int start_thread(struct service *s)
{
	int r = agent_thread(service_main, s);

	if (r)
		return r;
	while (!load_acquire(&s->tid))
		futex_wait(&s->tid, 0, -1);
	return 0;
}

/* What a seccomp filter may forbid, and what the new thread would inherit. */
struct start {
	struct service *s;
	int result;
};

static void start_by_agent(void *arg)
{
	struct start *a = arg;

	a->result = open_fds(a->s);
	if (!a->result)
		a->result = start_thread(a->s);
}

int service_start(struct service **out, const char *name)
{
	struct service *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	mutex_init(&s->lock, "service");
	s->epfd = s->timerfd = s->wakefd = -1;
	s->armed = NO_DEADLINE;
	s->jobs_tail = &s->jobs;
	for (unsigned i = 0; i + 1 < sizeof(s->name) && name[i]; i++)
		s->name[i] = name[i];
	struct start a = { s, heap_grow(s, TIMERS_AT_FIRST) };
	if (!a.result)
		agent_call(start_by_agent, &a);
	if (a.result) {
		service_free(s);
		return a.result;
	}
	*out = s;
	return 0;
}

void service_stop(struct service *s)
{
	u32 ended = 0;

	if (!s)
		return;
	mutex_lock(&s->lock);
	s->stop = true;
	s->ended = &ended;
	wake_locked(s);
	mutex_unlock(&s->lock);
	/* Not pthread_join, whose futex is not on every filter's list. */
	while (!load_acquire(&ended))
		futex_wait(&ended, 0, -1);
}
