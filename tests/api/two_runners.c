/* SPDX-License-Identifier: MIT */
/*
 * Two threads call KVM_RUN on one vCPU. The second waits for the first; a signal that it gets meanwhile ends its call with EINTR when its turn
 * comes, though the guest never exits, and the first thread's call goes on.
 */
#include "kvmtest.h"

GUEST16(loop, "1: jmp 1b\n");

static struct vm v;
static volatile int answer[2], number[2], tid[2];

static void nothing(int sig)
{
}

static void *runner(void *arg)
{
	int i = *(int *)arg, r;

	__atomic_store_n(&tid[i], gettid(), __ATOMIC_RELEASE);
	r = ioctl(v.vcpu, KVM_RUN, 0ul);

	number[i] = errno;
	__atomic_store_n(&answer[i], r < 0 ? 1 : 2, __ATOMIC_RELEASE);
	return NULL;
}

/* The thread is at work in its call, or sleeps in it: on a busy host either may take a while to come. */
static void is_in_it(int i, char state)
{
	char name[64], line[128] = "";

	for (int ms = 0; ms < 20000; ms += 10) {
		kt_sleep_ms(10);
		snprintf(name, sizeof(name), "/proc/self/task/%d/stat", __atomic_load_n(&tid[i], __ATOMIC_ACQUIRE));
		FILE *f = tid[i] ? fopen(name, "r") : NULL;
		if (!f)
			continue;
		const char *s = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
		fclose(f);
		if (s && s[2] == state)
			break;
	}
	kt_sleep_ms(50);
}

static bool over(int i, int ms)
{
	while (!__atomic_load_n(&answer[i], __ATOMIC_ACQUIRE) && ms-- > 0)
		kt_sleep_ms(1);
	return answer[i];
}

int main(void)
{
	struct sigaction sa = {.sa_handler = nothing};
	static int index[2] = {0, 1};
	pthread_t t[2];

	vm_real(&v, loop, loop_end);
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 2; i++) {
		REQUIRE(!pthread_create(&t[i], NULL, runner, &index[i]));
		is_in_it(i, i ? 'S' : 'R');
	}
	pthread_kill(t[1], SIGUSR1); /* reaches it while it waits */
	kt_sleep_ms(50);
	CHECK(!answer[0]);
	for (int tries = 0; tries < 50 && !over(0, 100); tries++)
		pthread_kill(t[0], SIGUSR1);
	CHECK(over(0, 5000));
	CHECK_EQ(number[0], EINTR);
	if (!over(1, 5000)) {
		printf("the second KVM_RUN has lost its signal\n");
		return 1;
	}
	CHECK_EQ(answer[1], 1);
	CHECK_EQ(number[1], EINTR);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	return kt_end();
}
