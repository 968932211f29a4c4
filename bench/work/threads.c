/* SPDX-License-Identifier: MIT */
/* Two threads on two CPUs: each on its own with a counter now and then, both at one counter without a lock, both at one mutex. */
#include <pthread.h>
#include "work.h"

static struct {
	unsigned long rounds;
	int ready;
	uint64_t count __attribute__((aligned(64)));
	uint64_t sum[2][8] __attribute__((aligned(64)));
	pthread_mutex_t mutex;
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void together(void)
{
	__atomic_add_fetch(&shared.ready, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&shared.ready, __ATOMIC_ACQUIRE) != 2)
		__builtin_ia32_pause();
}

static void *alone(void *arg)
{
	uint64_t s = 1 + (arg != NULL), sum = 0;

	together();
	for (unsigned long i = 0; i < shared.rounds * 100; i++) {
		for (int k = 0; k < 1000; k++)
			sum += work_random(&s) >> 3;
		__atomic_add_fetch(&shared.count, 1, __ATOMIC_RELAXED);
	}
	shared.sum[arg != NULL][0] = sum;
	return NULL;
}

static void *atomics(void *arg)
{
	together();
	for (unsigned long i = 0; i < shared.rounds * 1000; i++) {
		uint64_t v = __atomic_load_n(&shared.count, __ATOMIC_RELAXED);

		__atomic_add_fetch(&shared.sum[0][0], i, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(&shared.count, &v, v + i, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			;
	}
	return arg;
}

static void *mutex(void *arg)
{
	together();
	for (unsigned long i = 0; i < shared.rounds * 1000; i++) {
		pthread_mutex_lock(&shared.mutex);
		shared.count += i;
		pthread_mutex_unlock(&shared.mutex);
		for (int k = 0; k < 20; k++)
			__asm__ volatile("");
	}
	return arg;
}

static uint64_t two(unsigned long rounds, void *(*f)(void *arg))
{
	pthread_t t;

	shared.rounds = rounds;
	if (pthread_create(&t, NULL, f, &shared))
		work_fail("no thread");
	f(NULL);
	pthread_join(t, NULL);
	return work_mix(shared.count, work_mix(shared.sum[0][0], shared.sum[1][0]));
}

static uint64_t threads_alone(unsigned long rounds)
{
	return two(rounds, alone);
}
WORK(threads_row, "threads", APP, threads_alone, 1200, 0xbbe159c9a55ff6c4, WORK_TWO_CPUS);

static uint64_t threads_atomics(unsigned long rounds)
{
	return two(rounds, atomics);
}
WORK(atomics_row, "threads-atomic", APP, threads_atomics, 10000, 0xa767c03cf11ac822, WORK_TWO_CPUS);

static uint64_t threads_mutex(unsigned long rounds)
{
	return two(rounds, mutex);
}
WORK(mutex_row, "threads-mutex", KERNEL, threads_mutex, 5000, 0x2ce06fae470cda09, WORK_TWO_CPUS);
