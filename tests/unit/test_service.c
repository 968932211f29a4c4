/* SPDX-License-Identifier: MIT */
/* base/service.c: timers in order, re-arming, cancelling, watches, calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/service.h"
#include "base/sys.h"

#define MS 1000000ull

static struct service *svc;

static u64 now(void)
{
	return sys_clock_ns(CLOCK_MONOTONIC);
}

static int setup(void **state)
{
	return service_start(&svc, "svc-test");
}

static int teardown(void **state)
{
	service_stop(svc);
	return 0;
}

struct probe {
	struct svc_timer t;
	u32 count, order;
	u64 at, again;
};

static u32 sequence;

static void probe_fn(struct svc_timer *t)
{
	struct probe *p = container_of(t, struct probe, t);

	p->at = now();
	p->order = ++sequence;
	__atomic_fetch_add(&p->count, 1, __ATOMIC_SEQ_CST);
	if (load_relaxed(&p->again))
		svc_timer_set(svc, t, now() + p->again);
}

static bool wait_for(u32 *word, u32 n)
{
	u64 end = now() + 2000 * MS;

	while (load_acquire(word) < n && now() < end)
		usleep(200);
	return load_acquire(word) >= n;
}

static void test_order(void **state)
{
	static struct probe p[50];
	u64 base = now() + 20 * MS;

	sequence = 0;
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(svc_timer_reserve(svc), 0);
		svc_timer_init(&p[i].t, probe_fn);
		svc_timer_set(svc, &p[i].t, base + ((i * 37) % 50) * MS / 2);
	}
	for (unsigned i = 0; i < 50; i++) {
		assert_true(wait_for(&p[i].count, 1));
		assert_int_equal(p[i].order, (i * 37) % 50 + 1);
		assert_true(p[i].at >= base + ((i * 37) % 50) * MS / 2);
	}
}

static void test_move_and_cancel(void **state)
{
	struct probe a = { 0 }, b = { 0 };

	assert_int_equal(svc_timer_reserve(svc), 0);
	svc_timer_init(&a.t, probe_fn);
	assert_int_equal(svc_timer_reserve(svc), 0);
	svc_timer_init(&b.t, probe_fn);
	svc_timer_set(svc, &a.t, now() + 3600000 * MS);
	svc_timer_set(svc, &b.t, now() + 300 * MS); /* long enough for a busy host to run a's first */
	svc_timer_set(svc, &a.t, now() + 1 * MS); /* earlier */
	assert_true(wait_for(&a.count, 1));
	svc_timer_set(svc, &b.t, ~0ull);
	usleep(350000);
	assert_int_equal(b.count, 0);
	svc_timer_set(svc, &a.t, 0); /* the past */
	assert_true(wait_for(&a.count, 2));
	store_relaxed(&a.again, MS);
	svc_timer_set(svc, &a.t, now());
	assert_true(wait_for(&a.count, 6));
	svc_timer_cancel_sync(svc, &a.t);
	u32 n = a.count;
	usleep(5000);
	assert_int_equal(a.count, n);
}

static u32 slow_state;

static void slow_fn(struct svc_timer *t)
{
	store_release(&slow_state, 1);
	usleep(30000);
	store_release(&slow_state, 2);
}

static void test_cancel_waits(void **state)
{
	struct svc_timer t;

	assert_int_equal(svc_timer_reserve(svc), 0);
	svc_timer_init(&t, slow_fn);
	svc_timer_set(svc, &t, now());
	assert_true(wait_for(&slow_state, 1));
	svc_timer_cancel_sync(svc, &t);
	assert_int_equal(slow_state, 2);
}

struct eye {
	struct svc_watch w;
	u32 count;
	bool del;
};

static void eye_fn(struct svc_watch *w, u32 events)
{
	struct eye *e = container_of(w, struct eye, w);
	u64 v;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(w->fd, &v, 8), 8);
	__atomic_fetch_add(&e->count, (u32)v, __ATOMIC_SEQ_CST);
	if (e->del)
		svc_watch_del_sync(svc, w);
}

static void test_watch(void **state)
{
	struct eye e[20];
	u64 one = 1;

	for (unsigned i = 0; i < 20; i++) {
		e[i] = (struct eye){ .w = { eye_fn, eventfd(i == 7 ? 5 : 0, EFD_NONBLOCK) } };
		assert_int_equal(svc_watch_add(svc, &e[i].w), 0);
	}
	assert_true(wait_for(&e[7].count, 5)); /* ready before it was added */
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(write(e[i].w.fd, &one, 8), 8);
	for (unsigned i = 0; i < 20; i++)
		assert_true(wait_for(&e[i].count, 1));
	for (unsigned i = 1; i < 20; i++)
		svc_watch_del_sync(svc, &e[i].w);
	assert_int_equal(write(e[3].w.fd, &one, 8), 8);
	e[0].del = true;
	assert_int_equal(write(e[0].w.fd, &one, 8), 8);
	assert_true(wait_for(&e[0].count, 2));
	usleep(2000);
	assert_int_equal(write(e[0].w.fd, &one, 8), 8);
	usleep(5000);
	assert_int_equal(e[0].count, 2);
	assert_int_equal(e[3].count, 1);
	for (unsigned i = 0; i < 20; i++)
		close(e[i].w.fd);
	struct svc_watch bad = { eye_fn, 9999 };
	assert_int_equal(svc_watch_add(svc, &bad), -9);
}

static void call_fn(void *arg)
{
	*(int *)arg = sys_gettid();
}

static void nested_fn(void *arg)
{
	svc_call(svc, call_fn, arg);
}

static void test_call(void **state)
{
	int tid = 0, tid2 = 0;

	for (int i = 0; i < 200; i++) {
		svc_call(svc, call_fn, &tid);
		svc_call(svc, nested_fn, &tid2);
		assert_int_equal(tid, tid2);
		assert_int_not_equal(tid, sys_gettid());
	}
}

static void test_start_stop(void **state)
{
	for (int i = 0; i < 20; i++) {
		struct service *s;
		struct probe p = { 0 };

		assert_int_equal(service_start(&s, "a name that is too long"), 0);
		assert_int_equal(svc_timer_reserve(s), 0);
		svc_timer_init(&p.t, probe_fn);
		svc_timer_set(s, &p.t, now() + 1000 * MS);
		service_stop(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_move_and_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_call, setup, teardown),
		cmocka_unit_test(test_start_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
