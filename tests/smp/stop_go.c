/* SPDX-License-Identifier: MIT */
/*
 * A VMM stops all of four running vCPUs by signals and lets them go on, 300 times; a halted vCPU uses no CPU time; a guest that waits
 * with PAUSE for a peer on the same host CPU goes on. Each with guests in real and in 64-bit mode: engines may run these in different ways.
 */
#include <sched.h>
#include <sys/resource.h>
#include "kvmtest.h"

#define CPUS 4
#define TIMES 300

struct prog {
	const u8 *start, *end;
};
#define PROG(name, text16, text64)                                                                                                         \
	GUEST16(name##_16, text16);                                                                                                        \
	GUEST64(name##_64, text64);                                                                                                        \
	static const struct prog name[2] = { { name##_16, name##_16_end }, { name##_64, name##_64_end } }
#define HALT "cli\n 1: hlt\n jmp 1b\n"
/* Turn EAX is ours: wait for it in the word at 0x3000, give the next one. EDX: turns left. */
#define TURN "1: cmp %eax, 0x3000\n je 2f\n pause\n jmp 1b\n 2: incl 0x3000\n add $2, %eax\n dec %edx\n jnz 1b\n out %al, $0x10\n"
PROG(count, "1: incl (%bx)\n jmp 1b\n", "1: incl (%rbx)\n jmp 1b\n");
PROG(halt, HALT, HALT);
PROG(turns, TURN, TURN);
static bool is64;

struct cpu {
	pthread_t thread;
	int fd;
	struct kvm_run *run;
	struct vm *v;
	u32 eintr;
	double used;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool stop, quit;
static unsigned stopped, generation;
static __thread struct cpu *self;

static void kick(int sig)
{
	if (self)
		self->run->immediate_exit = 1;
}

static void *stop_go(void *arg)
{
	struct cpu *c = self = arg;
	unsigned seen;

	for (;;) {
		int r = ioctl(c->fd, KVM_RUN, 0ul);

		if (r != -1 || errno != EINTR) {
			CHECK_EQ(r, -1);
			CHECK_EQ(c->run->exit_reason, KVM_EXIT_INTR);
			exit(1);
		}
		c->eintr++;
		pthread_mutex_lock(&lock);
		c->run->immediate_exit = 0;
		if (stop) {
			seen = generation;
			stopped++;
			pthread_cond_broadcast(&changed);
			while (seen == generation)
				pthread_cond_wait(&changed, &lock);
		}
		if (quit) {
			pthread_mutex_unlock(&lock);
			return NULL;
		}
		pthread_mutex_unlock(&lock);
	}
}

static u32 counter(struct vm *v, int cpu)
{
	return __atomic_load_n((u32 *)(v->mem + 0x3000 + cpu * 64), __ATOMIC_SEQ_CST);
}

static void make(struct vm *v, struct cpu *cpu, int cpus, bool chips, const struct prog *p)
{
	vm_open(v);
	if (chips)
		CHECK_OK(ioctl(v->vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(v);
	kt_code(v, p[is64].start, p[is64].end);
	for (int i = 0; i < cpus; i++) {
		struct kvm_regs r;

		cpu[i] = (struct cpu){ .fd = i ? ioctl(v->vm, KVM_CREATE_VCPU, (unsigned long)i) : v->vcpu, .v = v };
		REQUIRE(cpu[i].fd >= 0);
		cpu[i].run = i ? kt_map_run(v, cpu[i].fd) : v->run;
		if (is64)
			kt_long(v, cpu[i].fd, KT_CODE);
		else
			kt_real(cpu[i].fd, KT_CODE);
		kt_get_regs(cpu[i].fd, &r);
		r.rbx = 0x3000 + (u64)i * 64;
		REQUIRE(ioctl(cpu[i].fd, KVM_SET_REGS, &r) == 0);
	}
}

static void stop_and_go(void)
{
	struct cpu cpu[CPUS];
	u32 last[CPUS] = { 0 };
	struct vm v;

	make(&v, cpu, CPUS, false, count);
	for (int i = 0; i < CPUS; i++)
		REQUIRE(pthread_create(&cpu[i].thread, NULL, stop_go, &cpu[i]) == 0);
	for (int n = 0; n < TIMES; n++) {
		struct kvm_regs r;

		if (n % 10 == 0) /* all of them run, and go on after the stop before */
			for (int i = 0; i < CPUS; i++)
				for (int k = 0; k < 5000 && counter(&v, i) == last[i]; k++)
					kt_sleep_ms(1);
		pthread_mutex_lock(&lock);
		stop = true;
		for (int i = 0; i < CPUS; i++)
			pthread_kill(cpu[i].thread, SIGUSR1);
		while (stopped < CPUS)
			pthread_cond_wait(&changed, &lock);
		for (int i = 0; i < CPUS; i++) {
			if (n % 10 == 0)
				CHECK(counter(&v, i) != last[i]);
			last[i] = counter(&v, i);
			CHECK_OK(ioctl(cpu[i].fd, KVM_GET_REGS, &r));
			CHECK(r.rip >= KT_CODE && r.rip < KT_CODE + (size_t)(count[is64].end - count[is64].start));
		}
		if (n % 10 == 0)
			kt_sleep_ms(1);
		for (int i = 0; i < CPUS; i++)
			CHECK_EQ(counter(&v, i), last[i]);
		stop = false;
		stopped = 0;
		quit = n == TIMES - 1;
		generation++;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	for (int i = 0; i < CPUS; i++) {
		pthread_join(cpu[i].thread, NULL);
		CHECK_EQ(cpu[i].eintr, TIMES);
	}
	quit = false;
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void *measured(void *arg)
{
	struct cpu *c = self = arg;
	double before = cpu_seconds();
	int r;

	do
		r = ioctl(c->fd, KVM_RUN, 0ul);
	while (r == -1 && errno == EAGAIN); /* what a vCPU that was never started answers once */
	CHECK_EQ(r, -1);
	CHECK_EQ(errno, EINTR);
	c->used = cpu_seconds() - before;
	return NULL;
}

/* vCPU 0 sleeps in HLT, 1 waits for SIPI. */
static void idle(void)
{
	struct cpu cpu[2];
	struct vm v;

	make(&v, cpu, 2, true, halt);
	for (int i = 0; i < 2; i++)
		REQUIRE(pthread_create(&cpu[i].thread, NULL, measured, &cpu[i]) == 0);
	kt_sleep_ms(200);
	for (int i = 0; i < 2; i++) {
		pthread_kill(cpu[i].thread, SIGUSR1);
		pthread_join(cpu[i].thread, NULL);
		printf("idle vCPU %d: %.1f ms of CPU time in 200 ms\n", i, cpu[i].used * 1000);
		CHECK(cpu[i].used < 0.020);
	}
}

#define TURNS 500
static void *turn_thread(void *arg)
{
	struct cpu *c = self = arg;
	cpu_set_t one;
	int r;

	sched_getaffinity(0, sizeof(one), &one);
	for (int i = 0, kept = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &one) && kept++)
			CPU_CLR(i, &one);
	REQUIRE(CPU_COUNT(&one) == 1 && sched_setaffinity(0, sizeof(one), &one) == 0);
	do
		r = ioctl(c->fd, KVM_RUN, 0ul);
	while (r < 0 && errno == EAGAIN);
	CHECK_EQ(r, 0);
	CHECK_EQ(c->run->exit_reason, KVM_EXIT_IO);
	return NULL;
}

/* Without a yield each turn costs a time slice of the host's scheduler. */
static void peers(void)
{
	struct timespec a, b;
	struct cpu cpu[2];
	struct vm v;

	make(&v, cpu, 2, false, turns);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < 2; i++) {
		struct kvm_regs r;

		kt_get_regs(cpu[i].fd, &r);
		r.rax = (u64)i;
		r.rdx = TURNS;
		REQUIRE(ioctl(cpu[i].fd, KVM_SET_REGS, &r) == 0);
		REQUIRE(pthread_create(&cpu[i].thread, NULL, turn_thread, &cpu[i]) == 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(cpu[i].thread, NULL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	CHECK_EQ(counter(&v, 0), 2 * TURNS);
	printf("%d turns of two vCPUs on one CPU: %.0f ms\n", 2 * TURNS, (b.tv_sec - a.tv_sec) * 1e3 + (b.tv_nsec - a.tv_nsec) * 1e-6);
}

int main(void)
{
	struct sigaction sa = { .sa_handler = kick };

	sigaction(SIGUSR1, &sa, NULL);
	for (int k = 0; k < 2; k++) {
		is64 = k;
		stop_and_go();
		alarm(60);
		idle();
		peers();
	}
	return kt_end();
}
