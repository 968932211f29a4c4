/* SPDX-License-Identifier: MIT */
/* Many kicks, each sent when the one before was answered: to a guest that spins, one that sleeps in HLT, one that exits all the time; in real and in 64-bit mode. */
#include "kvmtest.h"

/* The same bytes in both modes. */
GUEST16(spin, "1: jmp 1b\n");
GUEST16(halt, "1: cli\n hlt\n jmp 1b\n");
GUEST16(exits, "1: out %al, $0x10\n jmp 1b\n");

static struct vm v;
static volatile u32 kicks, answers; /* atomic enough: one writer each */
static volatile bool stop;

static void handler(int sig)
{
	v.run->immediate_exit = 1;
}

static void *run_vcpu(void *arg)
{
	while (!stop) {
		int r = ioctl(v.vcpu, KVM_RUN, 0ul);

		if (r < 0 && errno == EINTR) {
			v.run->immediate_exit = 0;
			__atomic_store_n(&answers, answers + 1, __ATOMIC_SEQ_CST);
		} else if (r < 0 || v.run->exit_reason != KVM_EXIT_IO) {
			CHECK_EQ(r < 0 ? errno : 0, 0);
			CHECK_EQ(v.run->exit_reason, KVM_EXIT_IO);
			return NULL;
		}
	}
	return NULL;
}

static void storm(const u8 *from, const u8 *to, bool chips, bool is64, unsigned n)
{
	pthread_t t;
	unsigned i;

	vm_open(&v);
	if (chips)
		CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	kt_code(&v, from, to);
	if (is64)
		kt_long(&v, v.vcpu, KT_CODE);
	else
		kt_real(v.vcpu, KT_CODE);
	stop = false;
	kicks = answers = 0;
	pthread_create(&t, NULL, run_vcpu, NULL);
	for (i = 0; i < n; i++) {
		struct timespec a, b;

		if (i % 3 == 1) /* at different points of the way in and out */
			for (volatile unsigned k = 0; k < i * 7 % 3000; k++)
				;
		pthread_kill(t, SIGUSR1);
		clock_gettime(CLOCK_MONOTONIC, &a);
		do {
			sched_yield();
			clock_gettime(CLOCK_MONOTONIC, &b);
		} while (__atomic_load_n(&answers, __ATOMIC_SEQ_CST) <= i && b.tv_sec - a.tv_sec < 5);
		if (answers <= i)
			break;
	}
	if (i < n)
		printf("kick %u was lost\n", i);
	CHECK_EQ(i, n);
	CHECK_EQ(answers, i); /* and none was answered twice */
	stop = true;
	pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
	munmap(v.run, v.run_size);
	close(v.vcpu);
	close(v.vm);
	close(v.sys);
}

int main(void)
{
	struct sigaction sa = {.sa_handler = handler};
	unsigned n = kt_usekvm() ? 500 : 25;

	sigaction(SIGUSR1, &sa, NULL);
	for (int is64 = 0; is64 < 2; is64++) {
		storm(spin, spin_end, false, is64, n);
		storm(halt, halt_end, true, is64, n);
		storm(exits, exits_end, false, is64, n);
	}
	return kt_end();
}
