/* SPDX-License-Identifier: MIT */
/*
 * Two threads call KVM_RUN on one vCPU. The second waits for the first; a signal that it gets meanwhile ends its call with EINTR when its turn
 * comes, though the guest never exits, and the first thread's call goes on.
 */
#include "kvmtest.h"

GUEST16(loop, "1: jmp 1b\n");

static struct vm v;
static volatile int answer[2], number[2];

static void nothing(int sig)
{
}

static void *runner(void *arg)
{
	int i = *(int *)arg, r = ioctl(v.vcpu, KVM_RUN, 0ul);

	number[i] = errno;
	__atomic_store_n(&answer[i], r < 0 ? 1 : 2, __ATOMIC_RELEASE);
	return NULL;
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
		kt_sleep_ms(50);
	}
	pthread_kill(t[1], SIGUSR1); /* reaches it while it waits */
	kt_sleep_ms(50);
	CHECK(!answer[0]);
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
