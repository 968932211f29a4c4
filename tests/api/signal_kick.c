/* SPDX-License-Identifier: MIT */
/* A signal with a handler ends KVM_RUN with EINTR and exit_reason INTR; the handler has run once when KVM_RUN returns. In real and in 64-bit mode. */
#include "kvmtest.h"

/* The same bytes in both modes. */
GUEST16(prog, "1: jmp 1b\n");

static volatile sig_atomic_t hits;
static struct vm v;
static volatile int running;
static pthread_t vcpu_thread;

static void handler(int sig)
{
	hits++;
}

static void *kicker(void *arg)
{
	while (!running)
		sched_yield();
	kt_sleep_ms(100);
	pthread_kill(vcpu_thread, SIGUSR1);
	return NULL;
}

static void *ignored_then_real(void *arg)
{
	kt_sleep_ms(60);
	pthread_kill(vcpu_thread, SIGUSR2); /* SIG_IGN: must not end it */
	kt_sleep_ms(60);
	pthread_kill(vcpu_thread, SIGUSR1);
	return NULL;
}

static void kicks(bool is64)
{
	struct sigaction sa = {.sa_handler = handler};
	pthread_t t;
	struct kvm_regs r;
	long ret;

	hits = running = 0;
	if (is64)
		vm_long(&v, prog, prog_end);
	else
		vm_real(&v, prog, prog_end);
	vcpu_thread = pthread_self();
	sigaction(SIGUSR1, &sa, NULL);
	pthread_create(&t, NULL, kicker, NULL);
	v.run->exit_reason = 99;
	running = 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	CHECK_EQ(hits, 1);
	CHECK_EQ(v.run->exit_reason, KVM_EXIT_INTR);
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(r.rip, KT_CODE);
	pthread_join(t, NULL);

	/* SA_RESTART does not matter, nor does an ignored signal. */
	sa.sa_flags = SA_RESTART;
	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGUSR2, SIG_IGN);
	pthread_create(&t, NULL, ignored_then_real, NULL);
	errno = 0;
	ret = ioctl(v.vcpu, KVM_RUN, 0ul);
	CHECK(ret == -1 && errno == EINTR);
	CHECK_EQ(hits, 2);
	CHECK_EQ(v.run->exit_reason, KVM_EXIT_INTR);
	pthread_join(t, NULL);

	/* signal(), the BSD way. */
	signal(SIGUSR1, handler);
	pthread_create(&t, NULL, kicker, NULL);
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	CHECK_EQ(hits, 3);
	pthread_join(t, NULL);
	{
		/* Pending before KVM_RUN, blocked: does not count. Then unblocked: the handler runs before. */
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
		pthread_kill(vcpu_thread, SIGUSR1);
		CHECK_EQ(hits, 3);
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
		CHECK_EQ(hits, 4);
	}
}

int main(void)
{
	kicks(false);
	kicks(true);
	return kt_end();
}
