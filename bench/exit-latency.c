/* SPDX-License-Identifier: MIT */
/*
 * A real-mode guest that writes to a port for ever: nanoseconds from KVM_RUN to KVM_RUN, as the median of rounds. Run it under usekvm and
 * plainly. Argument: exits a round (2000).
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define ROUNDS 9

static int cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	static const unsigned char code[] = {0xe6, 0x10, 0xeb, 0xfc}; /* 1: out %al, $0x10; jmp 1b */
	int n = argc > 1 ? atoi(argv[1]) : 2000, kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;
	unsigned char *mem = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region r = {.memory_size = 0x10000, .userspace_addr = (unsigned long)mem};
	struct kvm_sregs s;
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
	struct kvm_run *run;
	double t[ROUNDS];

	if (kvm < 0 || mem == MAP_FAILED || n <= 0) {
		perror("/dev/kvm");
		return 1;
	}
	memcpy(mem + 0x1000, code, sizeof(code));
	vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
	if (vm < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r) < 0 || (vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul)) < 0) {
		perror("a VM");
		return 1;
	}
	run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0ul), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	ioctl(vcpu, KVM_GET_SREGS, &s);
	s.cs.base = 0;
	s.cs.selector = 0;
	ioctl(vcpu, KVM_SET_SREGS, &s);
	ioctl(vcpu, KVM_SET_REGS, &regs);
	for (int k = 0; k < ROUNDS; k++) {
		struct timespec a, b;

		clock_gettime(CLOCK_MONOTONIC, &a);
		for (int i = 0; i < n; i++)
			if (ioctl(vcpu, KVM_RUN, 0ul) < 0 || run->exit_reason != KVM_EXIT_IO) {
				fprintf(stderr, "unexpected exit %u\n", run->exit_reason);
				return 1;
			}
		clock_gettime(CLOCK_MONOTONIC, &b);
		t[k] = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / n;
	}
	qsort(t, ROUNDS, sizeof(t[0]), cmp);
	printf("port-write exit round trip: median %.0f ns (%.0f to %.0f)\n", t[ROUNDS / 2], t[0], t[ROUNDS - 1]);
	return 0;
}
