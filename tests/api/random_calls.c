/* SPDX-License-Identifier: MIT */
/*
 * A hostile VMM: random requests with random, half-right and bad arguments on random descriptors, with guests that run whatever comes of it. The
 * process must survive, nothing but the memory given to the VMs may be written, and a VM made afterwards works. Arguments: seed, number of
 * calls. Not for the kernel's /dev/kvm.
 */
#include "kvmtest.h"

#define POOL (4u << 20)
#define LIVE 6
#define GUARD 4096u

static u64 state;
static u8 *pool, *guards;
static int vms[LIVE], vcpus[LIVE], sys_fd, event;
static struct kvm_run *runs[LIVE];
static u8 buf[16384];

static u64 rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static u32 below(u32 n)
{
	return (u32)(rnd() >> 16) % n;
}

/* Everything that a descriptor could be asked, GETs beside their SETs; KVM_RUN is apart. */
static const unsigned long requests[] = {
	KVM_GET_API_VERSION, KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE, KVM_GET_SUPPORTED_CPUID, KVM_GET_EMULATED_CPUID,
	KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_X86_GET_MCE_CAP_SUPPORTED, KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR,
	KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG, KVM_SET_NR_MMU_PAGES, KVM_CREATE_IRQCHIP, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, KVM_IRQ_LINE,
	KVM_IRQ_LINE_STATUS, KVM_SET_GSI_ROUTING, KVM_SIGNAL_MSI, KVM_IRQFD, KVM_IOEVENTFD, KVM_REGISTER_COALESCED_MMIO,
	KVM_UNREGISTER_COALESCED_MMIO, KVM_CREATE_PIT2, KVM_GET_PIT2, KVM_SET_PIT2, KVM_REINJECT_CONTROL, KVM_SET_BOOT_CPU_ID, KVM_GET_CLOCK,
	KVM_SET_CLOCK, KVM_GET_TSC_KHZ, KVM_SET_TSC_KHZ, KVM_ENABLE_CAP, KVM_CREATE_DEVICE, KVM_X86_SET_MSR_FILTER, KVM_GET_REGS, KVM_SET_REGS,
	KVM_GET_SREGS, KVM_SET_SREGS, KVM_GET_SREGS2, KVM_SET_SREGS2, KVM_GET_FPU, KVM_SET_FPU, KVM_GET_XSAVE, KVM_SET_XSAVE, KVM_GET_XSAVE2,
	KVM_GET_XCRS, KVM_SET_XCRS, KVM_GET_MSRS, KVM_SET_MSRS, KVM_SET_CPUID2, KVM_GET_CPUID2, KVM_GET_LAPIC, KVM_SET_LAPIC,
	KVM_GET_MP_STATE, KVM_SET_MP_STATE, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
	KVM_SET_GUEST_DEBUG, KVM_DEBUG_GUEST, KVM_TRANSLATE, KVM_INTERRUPT, KVM_NMI, KVM_SMI, KVM_TPR_ACCESS_REPORTING,
	KVM_SET_VAPIC_ADDR, KVM_X86_SETUP_MCE, KVM_X86_SET_MCE, KVM_KVMCLOCK_CTRL, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR,
	KVM_HAS_DEVICE_ATTR, KVM_GET_STATS_FD, KVM_RESET_DIRTY_RINGS, KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE,
};
#define N_REQUESTS (sizeof(requests) / sizeof(requests[0]))

/* Numbers that mean something somewhere. */
static u64 value(void)
{
	static const u64 some[] = {0, 1, 2, 4, 8, 16, 32, 64, 0x1000, 0xa0000, 0xfee00000, 0xfec00000, 0x80000000, 1ull << 32, 1ull << 52, 1ull << 63,
		~0ull, 0xc0000080, 0x1b, 0x6e0, 0x10, 0x4b564d01, 121, 128, 129, 168, 188, 24, 0x7fffffff};

	switch (below(4)) {
	case 0: return some[below(sizeof(some) / sizeof(some[0]))];
	case 1: return below(256);
	case 2: return (u64)(pool + (below(POOL) & ~7u)) & (below(2) ? ~0xfffull : ~0ull);
	default: return rnd() >> below(64);
	}
}

/* A few fields of what is there get other values; now and then all of them. */
static void mutate(void)
{
	u32 n = below(4) ? below(4) : 600;

	while (n--) {
		u64 v = value();
		u32 width = below(3) ? 4 : 8;

		memcpy(buf + (below(below(3) ? 96 : 4096) & ~3u), &v, width);
	}
}

static int any_fd(void)
{
	switch (below(12)) {
	case 0: return sys_fd;
	case 1: return -1;
	case 2: return event;
	case 3:
	case 4:
	case 5: return vms[below(LIVE)];
	default: return vcpus[below(LIVE)];
	}
}

static void drop_vcpu(unsigned i)
{
	if (runs[i])
		munmap(runs[i], 3 * 4096);
	if (vcpus[i] >= 0)
		close(vcpus[i]);
	runs[i] = NULL;
	vcpus[i] = -1;
}

static void new_vm(void)
{
	unsigned i = below(LIVE);

	if (vms[i] >= 0)
		close(vms[i]);
	vms[i] = ioctl(sys_fd, KVM_CREATE_VM, 0ul);
	CHECK(vms[i] >= 0);
	kt_slot(vms[i], 0, 0, 0, POOL, pool);
}

static void new_vcpu(void)
{
	unsigned i = below(LIVE);
	void *p;

	drop_vcpu(i);
	vcpus[i] = ioctl(vms[below(LIVE)], KVM_CREATE_VCPU, (u64)below(8));
	if (vcpus[i] < 0)
		return;
	p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vcpus[i], 0);
	runs[i] = p == MAP_FAILED ? NULL : p;
}

static void region(void)
{
	struct kvm_userspace_memory_region r = {
		.slot = below(6), .flags = below(4) ? below(4) : (u32)value(), .guest_phys_addr = value() & ~0xfffull,
		.memory_size = (u64)below(64) << 12, .userspace_addr = (u64)(pool + (below(POOL - (64u << 12)) & ~0xfffu))};

	if (!below(8))
		r.memory_size = value();
	if (!below(8)) /* where nothing is: a guest's access must be found out */
		r.userspace_addr = below(2) ? 0x1000 : 0x7ffffffff000 - 0x1000;
	if (r.userspace_addr >= (u64)pool && r.memory_size > (u64)pool + POOL - r.userspace_addr)
		r.memory_size = 0x1000; /* the guest gets the pool, and not what lies behind it */
	ioctl(vms[below(LIVE)], KVM_SET_USER_MEMORY_REGION, &r);
}

static void real_mode(int fd)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = below(POOL > 0xffff ? 0xffff : POOL), .rsp = 0x8000, .rflags = 2};

	if (ioctl(fd, KVM_GET_SREGS, &s) < 0)
		return;
	s.cs.base = s.ds.base = s.es.base = s.ss.base = 0;
	s.cs.selector = 0;
	ioctl(fd, KVM_SET_SREGS, &s);
	ioctl(fd, KVM_SET_REGS, &r);
}

static void run(void)
{
	unsigned i = below(LIVE);

	if (vcpus[i] < 0 || !runs[i])
		return;
	if (!below(3))
		real_mode(vcpus[i]);
	if (!below(16))
		((u64 *)runs[i])[below(512)] = value(); /* kvm_run is the VMM's to spoil */
	for (unsigned k = below(20); k; k--)
		if (ioctl(vcpus[i], KVM_RUN, 0ul) < 0)
			break;
}

static void call(void)
{
	unsigned long request = requests[below(N_REQUESTS)];
	int fd = any_fd();

	if (!below(6)) {
		ioctl(fd, request, value() % 8192 < 4096 ? 8ul : (unsigned long)below(256));
		return;
	}
	if (!below(3))
		ioctl(fd, requests[below(N_REQUESTS)], buf); /* leaves a state of some kind */
	mutate();
	ioctl(fd, request, buf);
}

static void nothing(int sig)
{
}

static void timer(void)
{
	struct sigaction sa = {.sa_handler = nothing};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec t = {{0, 1000000}, {0, 1000000}};
	timer_t id;

	sigaction(SIGUSR1, &sa, NULL);
	REQUIRE(timer_create(CLOCK_MONOTONIC, &ev, &id) == 0);
	REQUIRE(timer_settime(id, 0, &t, NULL) == 0);
}

GUEST16(after, "mov $0x42, %al\n out %al, $0x10\n");

int main(int argc, char **argv)
{
	u64 seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	unsigned n = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 20000;
	struct vm v;

	if (!kt_usekvm())
		SKIP("not for a kernel");
	sys_fd = kt_open();
	state = seed * 0x9e3779b97f4a7c15ull + 1;
	guards = kt_pages(POOL + 2 * GUARD);
	pool = guards + GUARD;
	memset(guards, 0xa5, GUARD);
	memset(pool + POOL, 0xa5, GUARD);
	for (u32 i = 0; i < POOL; i += 8)
		*(u64 *)(pool + i) = rnd();
	event = eventfd(0, EFD_NONBLOCK);
	for (int i = 0; i < LIVE; i++) {
		vms[i] = vcpus[i] = -1;
		new_vm();
	}
	timer();
	for (unsigned i = 0; i < n; i++) {
		switch (below(40)) {
		case 0: new_vm(); break;
		case 1:
		case 2: new_vcpu(); break;
		case 3:
		case 4: region(); break;
		case 5:
		case 6:
		case 7: run(); break;
		default: call();
		}
	}
	for (u32 i = 0; i < GUARD; i++)
		if (guards[i] != 0xa5 || pool[POOL + i] != 0xa5) {
			printf("memory outside the slots was written\n");
			kt_failures++;
			break;
		}
	for (unsigned i = 0; i < LIVE; i++) {
		drop_vcpu(i);
		close(vms[i]);
	}
	vm_real(&v, after, after_end);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x42);
	return kt_end();
}
