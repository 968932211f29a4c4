/* SPDX-License-Identifier: MIT */
/*
 * From a guest's doorbell write to the moment at which the client has seen it, by three ways, with 1, 16, 256 and 4096 addresses registered: a
 * KVM_RUN exit, a KVM_IOEVENTFD with a thread that waits in read(), and an xioevent. Median in ns of ROUNDS writes, and how many xioevents
 * that is. The guest takes the time itself (RDTSC) just before each write to an MMIO address, and waits until the client has answered in memory.
 *
 *     usekvm xioevent [ROUNDS]
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "usekvm/xinterface.h"

#define BAR 0x40000000ull
#define MAX 4096
#define STAMP 0x8000 /* u64: when the guest wrote; u32 at + 8: the client has seen it */

/* 64-bit code; ebx: the address. mfence; rdtsc; store; clear the answer; ring; wait for the answer. */
__asm__(".pushsection .rodata\nguest_code:\n"
	"1: movl $0, 0x8008\n mfence\n rdtsc\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, 0x8000\n"
	"movl $1, (%rbx)\n"
	"2: pause\n cmpl $0, 0x8008\n je 2b\n jmp 1b\n"
	"guest_code_end:\n.popsection\n");
extern const uint8_t guest_code[], guest_code_end[];

static struct {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	uint8_t *mem;
	uint64_t *sample;
	uint32_t n, rounds;
	double ns_per_tick;
	uint64_t tsc_offset; /* guest's less host's */
} b;

static uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi) : : "ecx", "memory");
	return (uint64_t)hi << 32 | lo;
}

/* The client has it: how long did it take? */
static void seen(void)
{
	uint64_t now = rdtsc() + b.tsc_offset;

	if (b.n < b.rounds)
		b.sample[b.n] = now - *(volatile uint64_t *)(b.mem + STAMP);
	__atomic_fetch_add(&b.n, 1, __ATOMIC_SEQ_CST);
	if (b.n >= b.rounds)
		b.run->immediate_exit = 1;
	__atomic_store_n((uint32_t *)(b.mem + STAMP + 8), 1, __ATOMIC_SEQ_CST);
}

static int by_value(const void *a, const void *c)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)c;

	return x < y ? -1 : x > y;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void setup(void)
{
	struct kvm_userspace_memory_region r = {.memory_size = 2 << 20};
	struct kvm_sregs s;
	uint64_t *pml4, *pdpt, *pd;

	b.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	b.vm = ioctl(b.kvm, KVM_CREATE_VM, 0ul);
	b.mem = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r.userspace_addr = (uint64_t)b.mem;
	if (b.vm < 0 || ioctl(b.vm, KVM_SET_USER_MEMORY_REGION, &r) < 0 || (b.vcpu = ioctl(b.vm, KVM_CREATE_VCPU, 0ul)) < 0)
		die("a VM");
	b.run = mmap(NULL, (size_t)ioctl(b.kvm, KVM_GET_VCPU_MMAP_SIZE, 0ul), PROT_READ | PROT_WRITE, MAP_SHARED, b.vcpu, 0);
	pml4 = (uint64_t *)(b.mem + 0x10000), pdpt = pml4 + 512, pd = pdpt + 512;
	pml4[0] = 0x11000 | 3;
	for (uint64_t i = 0; i < 2; i++)
		pdpt[i] = (0x12000 + i * 0x1000) | 3;
	for (uint64_t i = 0; i < 1024; i++)
		pd[i] = i << 21 | 0x83;
	memcpy(b.mem + 0x1000, guest_code, (size_t)(guest_code_end - guest_code));
	ioctl(b.vcpu, KVM_GET_SREGS, &s);
	s.cs = (struct kvm_segment){.limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	s.ds = s.es = s.ss = (struct kvm_segment){.limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	s.cr3 = 0x10000;
	s.cr4 |= 0x20;
	s.cr0 = 0x80050033;
	s.efer = 0x500;
	if (ioctl(b.vcpu, KVM_SET_SREGS, &s) < 0)
		die("KVM_SET_SREGS");
}

/* How far the guest's TSC is from the host's: asked in the middle of two readings, the closest pair of many. */
static void find_tsc(void)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} m = {.h = {.nmsrs = 1}, .e = {.index = 0x10}};
	uint64_t best = ~0ull;

	for (int i = 0; i < 200; i++) {
		uint64_t before = rdtsc(), after;

		if (ioctl(b.vcpu, KVM_GET_MSRS, &m) != 1)
			die("KVM_GET_MSRS");
		after = rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		b.tsc_offset = m.e.data - (before + best / 2);
	}
}

static void calibrate(void)
{
	struct timespec x, y;
	uint64_t a, c;

	clock_gettime(CLOCK_MONOTONIC, &x);
	a = rdtsc();
	usleep(50000);
	clock_gettime(CLOCK_MONOTONIC, &y);
	c = rdtsc();
	b.ns_per_tick = ((double)(y.tv_sec - x.tv_sec) * 1e9 + (double)(y.tv_nsec - x.tv_nsec)) / (double)(c - a);
}

static void run_guest(uint64_t addr)
{
	struct kvm_regs regs = {.rip = 0x1000, .rsp = 0x1000, .rflags = 2, .rbx = addr};

	b.n = 0;
	b.run->immediate_exit = 0;
	find_tsc();
	if (ioctl(b.vcpu, KVM_SET_REGS, &regs) < 0)
		die("KVM_SET_REGS");
	while (__atomic_load_n(&b.n, __ATOMIC_SEQ_CST) < b.rounds) {
		if (ioctl(b.vcpu, KVM_RUN, 0ul) < 0)
			continue;
		if (b.run->exit_reason != KVM_EXIT_MMIO || b.run->mmio.phys_addr != addr)
			die("an unexpected exit");
		seen();
	}
	b.run->immediate_exit = 1; /* complete the last write */
	ioctl(b.vcpu, KVM_RUN, 0ul);
}

static double median(void)
{
	qsort(b.sample, b.rounds, sizeof(*b.sample), by_value);
	return (double)b.sample[b.rounds / 2] * b.ns_per_tick;
}

static uint64_t addr_of(unsigned i)
{
	return BAR + 16ull * i;
}

static void ring(struct kvm_xioevent *e, const void *val)
{
	seen();
	if (b.n >= b.rounds) /* out of KVM_RUN: the next write is nobody's */
		kvm_xioevent_arm(e, NULL, NULL);
}

static double by_xioevent(unsigned n)
{
	static struct kvm_xioevent *e[MAX];
	struct kvm_xinterface *x = kvm_xinterface_bind(b.vm);
	double ns;

	if (!x)
		die("kvm_xinterface_bind");
	for (unsigned i = 0; i < n; i++) {
		e[i] = kvm_xinterface_ioevent(x, addr_of(i), 4, 0);
		if (!e[i])
			die("kvm_xinterface_ioevent");
		kvm_xioevent_arm(e[i], ring, NULL);
	}
	run_guest(addr_of(n / 2));
	ns = median();
	for (unsigned i = 0; i < n; i++)
		kvm_xioevent_deassign(e[i]);
	kvm_xinterface_put(x);
	return ns;
}

static int wait_fd;

static int eventfd_at(int fd, uint64_t addr, unsigned flags)
{
	struct kvm_ioeventfd a = {.addr = addr, .len = 4, .fd = fd, .flags = flags};

	return ioctl(b.vm, KVM_IOEVENTFD, &a);
}

static void *reader(void *arg)
{
	uint64_t v;

	for (uint32_t i = 0; i < b.rounds; i++) {
		if (read(wait_fd, &v, 8) != 8)
			die("read");
		if (i + 1 == b.rounds)
			eventfd_at(wait_fd, *(uint64_t *)arg, KVM_IOEVENTFD_FLAG_DEASSIGN); /* the next write is the VMM's */
		seen();
	}
	return NULL;
}

static double by_eventfd(unsigned n)
{
	static int fd[MAX];
	uint64_t addr = addr_of(n / 2);
	pthread_t t;
	double ns;

	for (unsigned i = 0; i < n; i++) {
		fd[i] = eventfd(0, EFD_CLOEXEC);
		if (fd[i] < 0 || eventfd_at(fd[i], addr_of(i), 0) < 0)
			die("KVM_IOEVENTFD");
	}
	wait_fd = fd[n / 2];
	if (pthread_create(&t, NULL, reader, &addr))
		die("a thread");
	run_guest(addr);
	pthread_join(t, NULL);
	ns = median();
	for (unsigned i = 0; i < n; i++) {
		eventfd_at(fd[i], addr_of(i), KVM_IOEVENTFD_FLAG_DEASSIGN);
		close(fd[i]);
	}
	return ns;
}

/* The exit is what a write outside of all registered addresses costs. */
static double by_exit(unsigned n)
{
	static int fd;
	double ns;

	fd = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 0; i < n; i++)
		if (eventfd_at(fd, addr_of(i), 0) < 0)
			die("KVM_IOEVENTFD");
	run_guest(addr_of(n) + 0x100000);
	ns = median();
	for (unsigned i = 0; i < n; i++)
		eventfd_at(fd, addr_of(i), KVM_IOEVENTFD_FLAG_DEASSIGN);
	close(fd);
	return ns;
}

int main(int argc, char **argv)
{
	static const unsigned counts[] = {1, 16, 256, 4096};
	struct rlimit rl = {2 * MAX + 256, 2 * MAX + 256};
	double first = 0;

	b.rounds = argc > 1 ? (uint32_t)atoi(argv[1]) : 5000;
	b.sample = calloc(b.rounds, sizeof(*b.sample));
	if (!b.rounds || !b.sample)
		return 2;
	if (setrlimit(RLIMIT_NOFILE, &rl))
		perror("RLIMIT_NOFILE");
	setup();
	calibrate();
	printf("%9s %14s %22s %22s %26s\n", "addresses", "xioevent (ns)", "ioeventfd (ns, times)", "exit (ns, times)", "xioevent against one");
	for (unsigned i = 0; i < 4; i++) {
		double x = by_xioevent(counts[i]), fd = by_eventfd(counts[i]), ex = by_exit(counts[i]);

		if (!i)
			first = x;
		printf("%9u %14.0f %14.0f %7.1f %14.0f %7.1f %26.2f\n", counts[i], x, fd, fd / x, ex, ex / x, x / first);
	}
	return 0;
}
