/* SPDX-License-Identifier: MIT */
/* Switches between two that take turns on one CPU: processes through pipes, threads through a futex. */
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "work.h"

static uint64_t pipes(unsigned long rounds)
{
	unsigned long turns = rounds * 100;
	uint64_t v = 1;
	int a[2], b[2];
	pid_t pid;

	if (pipe(a) || pipe(b) || (pid = fork()) < 0)
		work_fail("no pipe or process");
	if (!pid) {
		close(a[1]);
		while (read(a[0], &v, sizeof(v)) == sizeof(v)) {
			v = v * 3 + 1;
			if (write(b[1], &v, sizeof(v)) != sizeof(v))
				_exit(1);
		}
		_exit(0);
	}
	while (turns--) {
		if (write(a[1], &v, sizeof(v)) != sizeof(v) || read(b[0], &v, sizeof(v)) != sizeof(v))
			work_fail("pipe");
	}
	close(a[1]);
	waitpid(pid, NULL, 0);
	return v;
}
WORK(pipes_row, "pipes", KERNEL, pipes, 150, 0xc1debc00b6d41db9, WORK_ONE_CPU);

static struct {
	int turn;
	unsigned long turns;
	uint64_t value;
} shared;

/* The thread `me` adds when it is its turn. */
static void take_turns(int me)
{
	for (unsigned long i = 0; i < shared.turns; i++) {
		while (__atomic_load_n(&shared.turn, __ATOMIC_ACQUIRE) != me)
			syscall(SYS_futex, &shared.turn, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
		shared.value = shared.value * 5 + (uint64_t)me;
		__atomic_store_n(&shared.turn, !me, __ATOMIC_RELEASE);
		syscall(SYS_futex, &shared.turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
}

static void *other(void *arg)
{
	take_turns(1);
	return arg;
}

static uint64_t futexes(unsigned long rounds)
{
	pthread_t t;

	shared.turns = rounds * 100;
	if (pthread_create(&t, NULL, other, NULL))
		work_fail("no thread");
	take_turns(0);
	pthread_join(t, NULL);
	return shared.value;
}
WORK(futex_row, "futex", KERNEL, futexes, 300, 0x933c897f74d98edc, WORK_ONE_CPU);
