/* SPDX-License-Identifier: MIT */
/* A handler that sets immediate_exit on a vCPU that never leaves by itself: the way most VMMs kick; no kick is lost in 20. In real and in 64-bit mode. */
#include "kvmtest.h"

GUEST16(prog, "1: inc %eax\n jmp 1b\n");
GUEST64(prog64, "1: inc %eax\n jmp 1b\n");

static struct vm v;
static pthread_t vcpu_thread;
static volatile int stop, kicks;

static void handler(int sig)
{
	v.run->immediate_exit = 1;
}

static void *kicker(void *arg)
{
	for (int i = 0; i < 20; i++) {
		int seen = kicks;

		pthread_kill(vcpu_thread, SIGUSR1);
		while (kicks == seen)
			kt_sleep_ms(0);
	}
	stop = 1;
	pthread_kill(vcpu_thread, SIGUSR1);
	return NULL;
}

static void kick_it(bool is64)
{
	struct sigaction sa = {.sa_handler = handler};
	pthread_t t;
	int n = 0;

	stop = kicks = 0;
	if (is64)
		vm_long(&v, prog64, prog64_end);
	else
		vm_real(&v, prog, prog_end);
	vcpu_thread = pthread_self();
	sigaction(SIGUSR1, &sa, NULL);
	pthread_create(&t, NULL, kicker, NULL);
	while (!stop) {
		int r = ioctl(v.vcpu, KVM_RUN, 0ul);

		if (r != -1 || errno != EINTR) {
			CHECK(!"KVM_RUN ends with EINTR only");
			break;
		}
		n++;
		v.run->immediate_exit = 0;
		kicks++;
	}
	CHECK(n >= 20);
	pthread_join(t, NULL);
}

int main(void)
{
	kick_it(false);
	kick_it(true);
	return kt_end();
}
