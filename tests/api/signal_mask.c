/* SPDX-License-Identifier: MIT */
/*
 * KVM_SET_SIGNAL_MASK: a signal that the thread blocks and this mask does not ends KVM_RUN with EINTR and stays pending (no handler
 * runs); sigtimedwait takes it. A length that is not that of the kernel's sigset is EINVAL.
 */
#include "kvmtest.h"

GUEST16(prog, "1: jmp 1b\n");

static volatile sig_atomic_t hits;
static pthread_t vcpu_thread;

static void handler(int sig)
{
	hits++;
}

static void *kicker(void *arg)
{
	kt_sleep_ms(100);
	pthread_kill(vcpu_thread, SIGUSR1);
	return NULL;
}

static int set_mask(int vcpu, u64 mask, u32 len)
{
	struct {
		struct kvm_signal_mask m;
		u8 set[8];
	} s = {.m = {.len = len}};

	memcpy(s.m.sigset, &mask, 8);
	return ioctl(vcpu, KVM_SET_SIGNAL_MASK, &s);
}

int main(void)
{
	struct vm v;
	struct sigaction sa = {.sa_handler = handler};
	struct timespec zero = {0};
	sigset_t set, pending;
	pthread_t t;

	vm_real(&v, prog, prog_end);
	vcpu_thread = pthread_self();
	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	CHECK_ERR(set_mask(v.vcpu, 0, 4), EINVAL);
	CHECK_ERR(set_mask(v.vcpu, 0, 128), EINVAL);
	CHECK_OK(set_mask(v.vcpu, 0, 8)); /* blocks nothing */
	pthread_create(&t, NULL, kicker, NULL);
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	CHECK_EQ(v.run->exit_reason, KVM_EXIT_INTR);
	pthread_join(t, NULL);
	CHECK_EQ(hits, 0);
	sigpending(&pending);
	CHECK(sigismember(&pending, SIGUSR1));
	/* Still pending: the next KVM_RUN ends at once. */
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	CHECK_EQ(hits, 0);
	CHECK_EQ(sigtimedwait(&set, NULL, &zero), SIGUSR1);
	sigpending(&pending);
	CHECK(!sigismember(&pending, SIGUSR1));
	/* The thread's own mask is what it was. */
	pthread_sigmask(SIG_BLOCK, NULL, &pending);
	CHECK(sigismember(&pending, SIGUSR1));
	/* NULL takes the mask away. */
	CHECK_OK(ioctl(v.vcpu, KVM_SET_SIGNAL_MASK, NULL));
	/* Default action, unblocked by the mask only: it must not kill, as the signal is not delivered. */
	signal(SIGUSR1, SIG_DFL);
	CHECK_OK(set_mask(v.vcpu, 0, 8));
	pthread_create(&t, NULL, kicker, NULL);
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	pthread_join(t, NULL);
	CHECK_EQ(sigtimedwait(&set, NULL, &zero), SIGUSR1);
	return kt_end();
}
