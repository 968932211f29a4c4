/* SPDX-License-Identifier: MIT */
/*
 * The agent: a thread with a queue of calls, which lives as long as the process, has every signal blocked, and owns no descriptor and no heap.
 *
 * A job stands on its caller's stack. The agent takes it off the queue under the lock, runs it without, and touches nothing of it once it has
 * set `done`; the wake-up after that may go to a word that is gone, where nobody waits.
 */
#include "base/agent.h"

#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/inject.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/sys.h"

#define STACK_SIZE (256u << 10)

struct job {
	struct job *next;
	void (*fn)(void *arg);
	void *arg;
	u32 done;
};

static struct {
	struct mutex start_lock, lock;
	bool running;
	u32 tid; /* 0 until the thread runs */
	u32 seq; /* changes with each job: what the agent sleeps on */
	struct job *first, **last;
} agent = { .start_lock = MUTEX_INIT("agent start"), .lock = MUTEX_INIT("agent"), .last = &agent.first };

static __thread __attribute__((tls_model("initial-exec"))) bool is_agent;

static struct job *take(u32 *seq)
{
	struct job *j;

	mutex_lock(&agent.lock);
	j = agent.first;
	*seq = agent.seq;
	if (j) {
		agent.first = j->next;
		if (!agent.first)
			agent.last = &agent.first;
	}
	mutex_unlock(&agent.lock);
	return j;
}

static void *agent_main(void *arg)
{
	is_agent = true;
	process_helper_begins((u32)sys_gettid());
	store_release(&agent.tid, (u32)sys_gettid());
	futex_wake(&agent.tid, 1);
	sys6(SYS_prctl, PR_SET_NAME, (long)"usekvm-agent", 0, 0, 0, 0);
	for (;;) {
		u32 seq;
		struct job *j = take(&seq);

		if (j) {
			u32 *done = &j->done;

			j->fn(j->arg);
			store_release(done, 1);
			futex_wake(done, 1);
		} else {
			futex_wait(&agent.seq, seq, -1);
		}
	}
	return NULL;
}

int agent_thread(void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	u64 all = ~0ull, old;
	int r = pthread_attr_init(&attr);

	if (r)
		return -r;
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sys_sigprocmask(SIG_BLOCK, &all, &old);
	r = inject_fault(EAGAIN) ? EAGAIN : pthread_create(&thread, &attr, fn, arg);
	sys_sigprocmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

int agent_start(void)
{
	int r = 0;

	if (load_acquire(&agent.running))
		return 0;
	mutex_lock(&agent.start_lock);
	if (!agent.running) {
		r = agent_thread(agent_main, NULL);
		while (!r && !load_acquire(&agent.tid))
			futex_wait(&agent.tid, 0, -1);
		store_release(&agent.running, !r);
	}
	mutex_unlock(&agent.start_lock);
	return r;
}

void agent_call(void (*fn)(void *arg), void *arg)
{
	struct job j = { NULL, fn, arg, 0 };

	if (is_agent || !load_acquire(&agent.running)) {
		fn(arg);
		return;
	}
	mutex_lock(&agent.lock);
	*agent.last = &j;
	agent.last = &j.next;
	store_relaxed(&agent.seq, agent.seq + 1);
	mutex_unlock(&agent.lock);
	futex_wake(&agent.seq, 1);
	while (!load_acquire(&j.done))
		futex_wait(&j.done, 0, -1);
}

struct request {
	long n, a, b, c, d, e, f, result;
};

static void make_call(void *arg)
{
	struct request *q = arg;

	q->result = sys6(q->n, q->a, q->b, q->c, q->d, q->e, q->f);
}

long agent_sys(long n, long a, long b, long c, long d, long e, long f)
{
	struct request q = { n, a, b, c, d, e, f, 0 };

	agent_call(make_call, &q);
	return q.result;
}

void agent_forked(void)
{
	mutex_init(&agent.start_lock, "agent start");
	mutex_init(&agent.lock, "agent");
	agent.tid = 0;
	agent.running = false; /* its thread stayed with the parent */
	agent.first = NULL;
	agent.last = &agent.first;
}
