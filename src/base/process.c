/* SPDX-License-Identifier: MIT */
/*
 * The process-wide state of base/process.h.
 */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/agent.h"
#include "base/string.h"
#include "base/sys.h"

static struct {
	struct mutex lock, names_lock;
	struct process_node *first;
	u64 totals[PROCESS_TOTALS];
	u32 khz;
	bool noted;
	long filters; /* process_note_filters() */
	u32 nnames;
	struct {
		u32 key;
		const void *val;
	} names[PROCESS_NAMES];
} process = { .lock = MUTEX_INIT("process"), .names_lock = MUTEX_INIT("process names") };

bool process_timing;
enum process_direct process_direct;
enum process_engine process_engine;
u32 process_code_cache;
u32 process_tlb_drop;
u32 process_check_first;

/*
 * The C library keeps a thread's id in its control block. Where, is seen on the agent, which may ask the kernel to compare: a thread of the VMM may
 * have a filter that forbids gettid.
 */
#define TID_OFFSET 720

static int *tid_word(void)
{
	return (int *)((char *)pthread_self() + TID_OFFSET);
}

static void look_for_control_block(void *arg)
{
	*(bool *)arg = *tid_word() == sys_gettid();
}

static void look_for_tid(void *arg)
{
	look_for_control_block(arg);
	*(bool *)arg = *(bool *)arg && !sys3(SYS_access, "/proc/self/schedstat", R_OK, 0);
}

bool process_has_run_delay(void)
{
	bool yes = false;

	agent_call(look_for_tid, &yes);
	return yes;
}

struct filter_query {
	int tid;
	long filters; /* of the thread; -1: not known */
};

/* On the agent: the line "Seccomp_filters: N" (Linux 5.9). */
static void count_filters(void *arg)
{
	static const char name[] = "\nSeccomp_filters:\t";
	struct filter_query *q = arg;
	char path[64] = "/proc/self/task/", buf[4096], digits[12];
	unsigned n = 0, at = 16;

	q->filters = -1;
	for (int t = q->tid ? q->tid : sys_gettid(); t > 0; t /= 10)
		digits[n++] = (char)('0' + t % 10);
	while (n)
		path[at++] = digits[--n];
	memcpy(path + at, "/status", 8);
	int fd = (int)sys6(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0); /* past base/inject.h: no call of the program's fails for it */
	if (fd < 0)
		return;
	ssize_t got = sys_read(fd, buf, sizeof(buf) - 1);
	sys_close(fd);
	buf[MAX(got, 0)] = 0;
	for (ssize_t k = 0; k + (ssize_t)sizeof(name) < got; k++)
		if (!memcmp(buf + k, name, sizeof(name) - 1)) {
			q->filters = 0;
			for (k += sizeof(name) - 1; buf[k] >= '0' && buf[k] <= '9'; k++)
				q->filters = q->filters * 10 + (buf[k] - '0');
			return;
		}
}

void process_note_filters(void)
{
	struct filter_query q = { 0, -1 };
	bool known = false;

	if (__atomic_exchange_n(&process.noted, true, __ATOMIC_SEQ_CST))
		return;
	agent_call(look_for_control_block, &known);
	agent_call(count_filters, &q);
	process.filters = known ? q.filters : -1;
}

bool process_confined(void)
{
	struct filter_query q = { *tid_word(), -1 };

	if (process.filters < 0)
		return true;
	agent_call(count_filters, &q);
	return q.filters != process.filters;
}

int process_tid(void)
{
	return *tid_word();
}

struct run_delay {
	int tid;
	long r;
	u64 ns;
};

/* On the agent: "time on a CPU, time waiting for one, time slices". */
static void read_run_delay(void *arg)
{
	struct run_delay *d = arg;
	char path[48] = "/proc/self/task/", buf[96];
	unsigned n = (unsigned)strlen(path), div = 1000000000;
	ssize_t len, k = 0;

	while (div > 1 && !(d->tid / (int)div))
		div /= 10;
	for (; div; div /= 10)
		path[n++] = (char)('0' + d->tid / (int)div % 10);
	memcpy(path + n, "/schedstat", sizeof("/schedstat"));
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	d->r = fd;
	if (fd < 0)
		return;
	len = sys_read(fd, buf, sizeof(buf));
	sys_close(fd);
	while (k < len && buf[k] != ' ')
		k++;
	d->r = k + 1 < len ? 0 : -ENODATA;
	for (k++; k < len && buf[k] >= '0' && buf[k] <= '9'; k++)
		d->ns = d->ns * 10 + (u64)(buf[k] - '0');
}

int process_run_delay(int tid, u64 *ns)
{
	struct run_delay d = { .tid = tid };

	agent_call(read_run_delay, &d);
	if (!d.r)
		*ns = d.ns;
	return (int)d.r;
}

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

static u32 helpers[PROCESS_HELPERS];

void process_helper_begins(u32 tid)
{
	for (unsigned i = 0; i < PROCESS_HELPERS; i++) {
		u32 free = 0;

		if (!load_relaxed(&helpers[i]) && __atomic_compare_exchange_n(&helpers[i], &free, tid, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return;
	}
}

void process_helper_ends(u32 tid)
{
	for (unsigned i = 0; i < PROCESS_HELPERS; i++)
		if (load_relaxed(&helpers[i]) == tid)
			store_relaxed(&helpers[i], 0);
}

bool process_is_helper(u32 tid)
{
	for (unsigned i = 0; tid && i < PROCESS_HELPERS; i++)
		if (load_relaxed(&helpers[i]) == tid)
			return true;
	return false;
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
	process.noted = false;
	memset(helpers, 0, sizeof(helpers));
	memset(process.totals, 0, sizeof(process.totals));
}
