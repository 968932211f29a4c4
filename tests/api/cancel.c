/* SPDX-License-Identifier: MIT */
/*
 * pthread_cancel of threads inside KVM_RUN: one that can be cancelled at any time ends there, as a thread in a system call would, and leaves nothing
 * locked; one that can be cancelled at cancellation points only comes back with EINTR at most.
 */
#include "kvmtest.h"

GUEST64(spin, "1: inc %rax\n jmp 1b\n");
static int vcpu;
static volatile int entered, returned;

static void *runner(void *type)
{
	int old;

	pthread_setcanceltype((int)(long)type, &old);
	entered = 1;
	ioctl(vcpu, KVM_RUN, 0ul);
	returned = 1;
	for (;;)
		pthread_testcancel();
	return NULL;
}

static void cancel(struct vm *v, const u8 *code, const u8 *end, int type)
{
	void *how = NULL;
	pthread_t t;

	kt_code(v, code, end);
	kt_long(v, v->vcpu, KT_CODE);
	vcpu = v->vcpu;
	entered = returned = 0;
	REQUIRE(!pthread_create(&t, NULL, runner, (void *)(long)type));
	while (!entered)
		usleep(1000);
	usleep(30000);
	CHECK_EQ(pthread_cancel(t), 0);
	if (type == PTHREAD_CANCEL_DEFERRED) {
		usleep(30000);
		v->run->immediate_exit = 1; /* the C library need not have woken it */
		pthread_kill(t, SIGUSR1);
	}
	CHECK_EQ(pthread_join(t, &how), 0);
	CHECK(how == PTHREAD_CANCELED);
	CHECK_EQ(returned, type == PTHREAD_CANCEL_DEFERRED);
	v->run->immediate_exit = 0;
	/* Nobody waits for the thread that is gone: not the slots, not the vCPU. */
	CHECK_OK(kt_slot(v->vm, 1, 0, 64 << 20, 4096, v->mem));
	CHECK_OK(kt_slot(v->vm, 1, 0, 64 << 20, 0, v->mem));
	memcpy(v->mem + KT_CODE, "\xf4", 1);
	kt_set_rip(v->vcpu, KT_CODE);
	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_HLT);
}

static void handler(int sig)
{
	(void)sig;
}

int main(void)
{
	struct sigaction sa = {.sa_handler = handler};
	struct vm v;

	sigaction(SIGUSR1, &sa, NULL);
	vm_open(&v);
	vm_vcpu(&v);
	for (unsigned i = 0; i < 3; i++) {
		cancel(&v, spin, spin_end, PTHREAD_CANCEL_ASYNCHRONOUS);
		cancel(&v, spin, spin_end, PTHREAD_CANCEL_DEFERRED);
	}
	return kt_end();
}
