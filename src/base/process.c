/* SPDX-License-Identifier: MIT */
/*
 * The process-wide state of base/process.h.
 */
#include "base/process.h"

#include <errno.h>
#include <time.h>

#include "base/string.h"
#include "base/sys.h"

static struct {
	struct mutex lock, names_lock;
	struct process_node *first;
	u64 totals[PROCESS_TOTALS];
	u32 khz;
	u32 nnames;
	struct {
		u32 key;
		const void *val;
	} names[PROCESS_NAMES];
} process = { .lock = MUTEX_INIT("process"), .names_lock = MUTEX_INIT("process names") };

bool process_timing;
enum process_engine process_engine;
u32 process_code_cache;
u32 process_tlb_drop;

static u64 tsc(void)
{
	u32 lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi));
	return ((u64)hi << 32) | lo;
}

/* A pair of readings as close together as a few tries give. */
static void sample(u64 *t, u64 *ns)
{
	u64 best = ~0ull;

	for (int i = 0; i < 16; i++) {
		u64 a = tsc(), n = sys_clock_ns(CLOCK_MONOTONIC_RAW), b = tsc();

		if (b - a < best) {
			best = b - a;
			*t = a + (b - a) / 2;
			*ns = n;
		}
	}
}

static u32 measure(void)
{
	u64 t0, n0, t1, n1;
	u32 word = 0;

	sample(&t0, &n0);
	do {
		futex_wait(&word, 0, 20000000);
		sample(&t1, &n1);
	} while (n1 - n0 < 20000000);
	return (u32)(((u128)(t1 - t0) * 1000000 + (n1 - n0) / 2) / (n1 - n0));
}

u32 process_tsc_khz(void)
{
	mutex_lock(&process.lock);
	if (!process.khz)
		process.khz = measure();
	u32 khz = process.khz;
	mutex_unlock(&process.lock);
	return khz;
}

void process_add(struct process_node *n)
{
	mutex_lock(&process.lock);
	n->prev = NULL;
	n->next = process.first;
	if (n->next)
		n->next->prev = n;
	process.first = n;
	mutex_unlock(&process.lock);
}

void process_del(struct process_node *n, void (*fold)(struct process_node *n, u64 *totals))
{
	mutex_lock(&process.lock);
	fold(n, process.totals);
	if (n->next)
		n->next->prev = n->prev;
	if (n->prev)
		n->prev->next = n->next;
	else
		process.first = n->next;
	mutex_unlock(&process.lock);
}

void process_sum(u64 *totals, void (*fn)(struct process_node *n, u64 *totals))
{
	mutex_lock(&process.lock);
	memcpy(totals, process.totals, sizeof(process.totals));
	for (struct process_node *n = process.first; n; n = n->next)
		fn(n, totals);
	mutex_unlock(&process.lock);
}

int process_register(u32 key, const void *val)
{
	u32 n;
	int r = 0;

	mutex_lock(&process.names_lock);
	n = process.nnames;
	for (u32 i = 0; i < n; i++)
		if (process.names[i].key == key)
			r = -EEXIST;
	if (!r && n == PROCESS_NAMES)
		r = -ENOSPC;
	if (!r) {
		process.names[n].key = key;
		process.names[n].val = val;
		store_release(&process.nnames, n + 1);
	}
	mutex_unlock(&process.names_lock);
	return r;
}

const void *process_lookup(u32 key)
{
	u32 n = load_acquire(&process.nnames);

	for (u32 i = 0; i < n; i++)
		if (process.names[i].key == key)
			return process.names[i].val;
	return NULL;
}

static __thread __attribute__((tls_model("initial-exec"))) int our_tid;

void process_thread_is_ours(void)
{
	our_tid = sys_gettid();
}

bool process_is(int pid)
{
	int tid = sys_gettid();

	if (tid == our_tid)
		return true;
	if (sys_getpid() != pid)
		return false;
	our_tid = tid;
	return true;
}

void process_forked(void)
{
	mutex_init(&process.lock, "process");
	mutex_init(&process.names_lock, "process names");
	process.first = NULL;
	memset(process.totals, 0, sizeof(process.totals));
}
