/* SPDX-License-Identifier: MIT */
/*
 * Calls per second per thread, one thread for each vCPU of one VM: KVM_GET_REGS, and KVM_RUN of a guest that exits at once. With as many
 * CPUs as threads the numbers of N threads should be those of one. Arguments: the most threads (number of CPUs), seconds a line (1).
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX 64
struct thread {
	pthread_t id;
	int vcpu, failed, pad;
	unsigned long calls;
} __attribute__((aligned(128)));

static struct thread threads[MAX];
static int go, run_guest; /* go: 0 wait, 1 measure, 2 stop */

static void *caller(void *arg)
{
	struct thread *t = arg;
	struct kvm_regs regs;
	unsigned long n = 0;
	int phase;

	while ((phase = __atomic_load_n(&go, __ATOMIC_ACQUIRE)) != 2) {
		if ((run_guest ? ioctl(t->vcpu, KVM_RUN, 0ul) : ioctl(t->vcpu, KVM_GET_REGS, &regs)) < 0) {
			t->failed = 1;
			break;
		}
		n += phase;
	}
	t->calls = n;
	return NULL;
}

static double measure(int count, double seconds)
{
	struct timespec a, b;
	double sum = 0;

	go = 0;
	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i].id, NULL, caller, &threads[i])) {
			perror("a thread");
			exit(1);
		}
	usleep(50000);
	clock_gettime(CLOCK_MONOTONIC, &a);
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	usleep((useconds_t)(seconds * 1e6));
	__atomic_store_n(&go, 2, __ATOMIC_RELEASE);
	clock_gettime(CLOCK_MONOTONIC, &b);
	for (int i = 0; i < count; i++) {
		pthread_join(threads[i].id, NULL);
		if (threads[i].failed) {
			fprintf(stderr, "a call failed\n");
			exit(1);
		}
		sum += (double)threads[i].calls;
	}
	return sum / count / ((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9);
}

int main(int argc, char **argv)
{
	static const unsigned char code[] = {0xe6, 0x10, 0xeb, 0xfc}; /* 1: out %al, $0x10; jmp 1b */
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int most = argc > 1 ? atoi(argv[1]) : cpus > MAX ? MAX : (int)cpus, kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;
	double seconds = argc > 2 ? atof(argv[2]) : 1, one[2] = {0, 0};
	unsigned char *mem = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region r = {.memory_size = 0x10000, .userspace_addr = (unsigned long)mem};

	if (kvm < 0 || mem == MAP_FAILED || most < 1 || most > MAX || seconds <= 0 || seconds > 60) {
		fprintf(stderr, "usage: vcpu-scaling [THREADS (1..%d) [SECONDS]], with a /dev/kvm\n", MAX);
		return 1;
	}
	memcpy(mem + 0x1000, code, sizeof(code));
	vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
	if (vm < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r) < 0) {
		perror("a VM");
		return 1;
	}
	for (int i = 0; i < most; i++) {
		struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
		struct kvm_sregs s;

		threads[i].vcpu = ioctl(vm, KVM_CREATE_VCPU, (unsigned long)i);
		if (threads[i].vcpu < 0 || ioctl(threads[i].vcpu, KVM_GET_SREGS, &s) < 0) {
			perror("a vCPU");
			return 1;
		}
		s.cs.base = 0;
		s.cs.selector = 0;
		if (ioctl(threads[i].vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(threads[i].vcpu, KVM_SET_REGS, &regs) < 0) {
			perror("a vCPU's state");
			return 1;
		}
	}
	printf("%ld CPUs; calls per second per thread (ratio to one thread)\n%8s %22s %22s\n", cpus, "threads", "KVM_GET_REGS", "KVM_RUN");
	for (int n = 1; n <= most; n++) {
		double rate[2];

		for (run_guest = 0; run_guest < 2; run_guest++) {
			rate[run_guest] = measure(n, seconds);
			if (n == 1)
				one[run_guest] = rate[run_guest];
		}
		printf("%8d %14.0f (%5.2f) %14.0f (%5.2f)\n", n, rate[0], rate[0] / one[0], rate[1], rate[1] / one[1]);
	}
	return 0;
}
