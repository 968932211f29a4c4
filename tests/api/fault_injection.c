/* SPDX-License-Identifier: MIT */
/*
 * usekvm --inject (USEKVM_INJECT): each kind happens, is counted in --stats, repeats with its seed, and does a guest no harm. Each runs in a
 * process of its own, which has nothing else injected.
 */
#include "irqguest.h"

GUEST16(counter, "xor %ax, %ax\n1: inc %ax\n out %ax, $0x10\n jmp 1b\n");
GUEST16(sleeper, "sti\n1: hlt\n jmp 1b\n");

static void on_signal(int sig)
{
}

static u64 now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000 + (u64)t.tv_nsec / 1000;
}

/* ---- the children ---- */

#define OUTS 2000

/* 2000 numbers from the guest in their order. Stdout: one letter for each KVM_RUN. */
static int child_eintr(void)
{
	char seen[2 * OUTS];
	struct vm v;
	u16 want = 1;
	int n = 0, interrupted = 0;

	vm_real(&v, counter, counter_end);
	while (want <= OUTS && n < (int)sizeof(seen) - 1) {
		long r = ioctl(v.vcpu, KVM_RUN, 0ul);

		if (r < 0) {
			CHECK_EQ(errno, EINTR);
			CHECK_EQ(v.run->exit_reason, KVM_EXIT_INTR);
			interrupted++;
			seen[n++] = 'i';
			continue;
		}
		CHECK_EQ(v.run->exit_reason, KVM_EXIT_IO);
		CHECK_EQ(*(u16 *)kt_io_data(v.run), want);
		want++;
		seen[n++] = 'o';
	}
	CHECK_EQ(want, OUTS + 1);
	CHECK(interrupted > OUTS / 20 && interrupted < OUTS / 5); /* one in ten */
	fwrite(seen, 1, (size_t)n, stdout);
	return kt_end();
}

/* A sleeping guest wakes for interrupts only, an irqfd for signals only; a processor that waits for INIT goes on waiting. */
static int child_wake(void)
{
	int e = eventfd(0, EFD_NONBLOCK), blocking = eventfd(0, 0), ap;
	struct kvm_irqfd a = {.fd = (u32)e, .gsi = 4}, b = {.fd = (u32)blocking, .gsi = 5};
	struct kvm_mp_state mp;
	u64 one = 1;
	struct vm v;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	irq_guest(&v, false);
	CHECK_OK(ioctl(v.vm, KVM_IRQFD, &a));
	CHECK_OK(ioctl(v.vm, KVM_IRQFD, &b));
	for (int i = 0; i < 3; i++) {
		CHECK_QUIET(&v);
		CHECK_OK(ioctl(v.vcpu, KVM_GET_MP_STATE, &mp));
		CHECK_EQ(mp.mp_state, KVM_MP_STATE_HALTED);
		REQUIRE(write(i & 1 ? blocking : e, &one, 8) == 8);
		CHECK_IRQ(&v, 8 + 4 + (i & 1));
	}
	ap = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(ap >= 0);
	for (int i = 0; i < 3; i++) {
		CHECK_ERR(ioctl(ap, KVM_RUN, 0ul), EAGAIN);
		CHECK_OK(ioctl(ap, KVM_GET_MP_STATE, &mp));
		CHECK_EQ(mp.mp_state, KVM_MP_STATE_UNINITIALIZED);
	}
	return kt_end();
}

static struct vm *running;
static u32 left; /* how often KVM_RUN has returned */

static void *run_thread(void *arg)
{
	while (!__atomic_load_n((u32 *)arg, __ATOMIC_ACQUIRE)) {
		if (ioctl(running->vcpu, KVM_RUN, 0ul) < 0)
			CHECK_EQ(errno, EINTR);
		__atomic_fetch_add(&left, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* A kick is answered, but up to 40 ms late. */
static int child_kick(void)
{
	struct sigaction sa = {.sa_handler = on_signal};
	u64 longest = 0;
	u32 stop = 0;
	struct vm v;
	pthread_t t;

	sigaction(SIGUSR1, &sa, NULL);
	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	kt_load(&v, sleeper);
	kt_real(v.vcpu, KT_CODE);
	running = &v;
	pthread_create(&t, NULL, run_thread, &stop);
	kt_sleep_ms(50);
	for (int i = 0; i < 20; i++) {
		u32 before = __atomic_load_n(&left, __ATOMIC_ACQUIRE);
		u64 begin = now_us(), took;

		if (i == 19)
			__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
		pthread_kill(t, SIGUSR1);
		while (__atomic_load_n(&left, __ATOMIC_ACQUIRE) == before && now_us() - begin < 10000000)
			usleep(100);
		took = now_us() - begin;
		CHECK(took < 10000000);
		longest = took > longest ? took : longest;
		kt_sleep_ms(2);
	}
	pthread_join(t, NULL);
	CHECK(longest > 10000);
	return kt_end();
}

/* Again and again until it is there; nothing else may go wrong. */
static int made, failures;

#define MAKE(call)                                                                                                                         \
	do {                                                                                                                               \
		for (made = -1; made < 0;) {                                                                                               \
			made = (int)(call);                                                                                                \
			if (made >= 0)                                                                                                     \
				break;                                                                                                     \
			failures++;                                                                                                        \
			if (errno != ENOMEM && errno != EMFILE && errno != EAGAIN) {                                                       \
				printf("%s fails with %d (%s)\n", #call, errno, strerror(errno));                                          \
				exit(1);                                                                                                   \
			}                                                                                                                  \
		}                                                                                                                          \
	} while (0)

static int descriptors(void)
{
	int n = 0;

	for (int i = 0; i < 256; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

static void make_all(struct vm *v)
{
	static struct {
		struct kvm_cpuid2 h;
		struct kvm_cpuid_entry2 e[256];
	} id;
	static struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} m = {.h = {.nmsrs = 1}, .e = {.index = 0x174}};
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[1];
	} r = {.head.nr = 1, .e[0] = {.gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {KVM_IRQCHIP_IOAPIC, 5}}};
	struct kvm_userspace_memory_region s = {.memory_size = KT_MEM, .userspace_addr = (u64)(v->mem = kt_pages(KT_MEM))};
	struct kvm_pit_config pit = {0};
	int e = eventfd(0, 0);
	struct kvm_irqfd q = {.fd = (u32)e, .gsi = 5};
	struct kvm_ioeventfd io = {.addr = 0xd0000000, .len = 4, .fd = e};

	v->sys = kt_open();
	MAKE(ioctl(v->sys, KVM_CREATE_VM, 0ul));
	v->vm = made;
	MAKE(ioctl(v->vm, KVM_CREATE_IRQCHIP, 0ul));
	MAKE(ioctl(v->vm, KVM_CREATE_PIT2, &pit));
	MAKE(ioctl(v->vm, KVM_SET_USER_MEMORY_REGION, &s));
	MAKE(ioctl(v->vm, KVM_CREATE_VCPU, 0ul));
	v->vcpu = made;
	v->run_size = (size_t)ioctl(v->sys, KVM_GET_VCPU_MMAP_SIZE, 0ul);
	v->run = kt_map_run(v, v->vcpu);
	do
		id.h.nent = 256;
	while (ioctl(v->sys, KVM_GET_SUPPORTED_CPUID, &id));
	MAKE(ioctl(v->vcpu, KVM_SET_CPUID2, &id));
	MAKE(ioctl(v->vcpu, KVM_GET_MSRS, &m));
	MAKE(ioctl(v->vm, KVM_SET_GSI_ROUTING, &r));
	MAKE(ioctl(v->vm, KVM_IRQFD, &q));
	MAKE(ioctl(v->vm, KVM_IOEVENTFD, &io));
	close(e);
}

/* What took its memory when it was made cannot lack it later: the timers of a chip, KVM_RUN. */
static int child_nomem(void)
{
	struct kvm_lapic_state l;
	struct vm v;
	int before = descriptors();

	for (int round = 0; round < 10; round++) {
		make_all(&v);
		kt_load(&v, counter);
		kt_real(v.vcpu, KT_CODE);
		for (u16 i = 1; i <= 200; i++) {
			CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
			CHECK_EQ(*(u16 *)kt_io_data(v.run), i);
		}
		/* A LAPIC timer that the VMM sets, of 10 ms, interrupts a loop. */
		REQUIRE(ioctl(v.vcpu, KVM_GET_LAPIC, &l) == 0);
		*(u32 *)(l.regs + 0xf0) = 0x1ff;
		*(u32 *)(l.regs + 0x320) = 0x40;
		*(u32 *)(l.regs + 0x3e0) = 0xb;
		*(u32 *)(l.regs + 0x380) = *(u32 *)(l.regs + 0x390) = 10000000;
		REQUIRE(ioctl(v.vcpu, KVM_SET_LAPIC, &l) == 0);
		memcpy(v.mem + KT_CODE, "\xeb\xfe\xe6\x11", 4); /* JMP to itself; OUT 0x11 */
		((u16 *)v.mem)[0x80] = KT_CODE + 2;              /* vector 0x40 */
		((u16 *)v.mem)[0x81] = 0;
		kt_real(v.vcpu, KT_CODE);
		struct kvm_regs regs;
		kt_get_regs(v.vcpu, &regs);
		regs.rflags |= 0x200;
		CHECK_OK(ioctl(v.vcpu, KVM_SET_REGS, &regs));
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
		CHECK_EQ(v.run->io.port, 0x11);
		munmap(v.run, v.run_size);
		close(v.vcpu);
		close(v.vm);
		close(v.sys);
		munmap(v.mem, KT_MEM);
	}
	CHECK_EQ(descriptors(), before);
	CHECK(failures > 20);
	return kt_end();
}

/* ---- the parent ---- */

static u64 counted(const char *stats, const char *kind)
{
	char key[40];
	const char *p;

	snprintf(key, sizeof(key), "\"injected_%s\":", kind);
	p = strstr(stats, key);
	return p ? strtoull(p + strlen(key), NULL, 10) : ~0ull;
}

/* Runs `kind` with `spec`; its stdout into out. Only that kind may have been counted. Gives the count. */
static u64 child(const char *self, const char *kind, const char *spec, char *out, size_t room)
{
	static const char *const all[] = {"eintr", "wake", "kick", "nomem"};
	char path[] = "/tmp/usekvm-inject-XXXXXX.json", stats[16384] = "";
	int fd = mkstemps(path, 5), p[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	REQUIRE(fd >= 0 && pipe(p) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		setenv("USEKVM_STATS", path, 1);
		setenv("USEKVM_INJECT", spec, 1);
		dup2(p[1], 1);
		close(p[0]);
		execl("/proc/self/exe", self, kind, (char *)NULL);
		_exit(99);
	}
	close(p[1]);
	while (n + 1 < room && (got = read(p[0], out + n, room - 1 - n)) > 0)
		n += (size_t)got;
	out[n] = 0;
	close(p[0]);
	REQUIRE(waitpid(pid, &status, 0) == pid);
	if (status)
		printf("%s with %s: status %#x\n%s\n", kind, spec, status, out), kt_failures++;
	REQUIRE(read(fd, stats, sizeof(stats) - 1) > 0);
	close(fd);
	unlink(path);
	for (unsigned i = 0; i < 4; i++)
		CHECK(strcmp(all[i], kind) ? counted(stats, all[i]) == 0 : counted(stats, kind) + 1 > 1);
	return counted(stats, kind);
}

static u64 letters(const char *s, char c)
{
	u64 n = 0;

	for (; *s; s++)
		n += *s == c;
	return n;
}

int main(int argc, char **argv)
{
	static char a[8192], b[8192], c[8192];

	if (!kt_usekvm())
		SKIP("faults on demand are usekvm's");
	if (argc > 1)
		return !strcmp(argv[1], "eintr") ? child_eintr() : !strcmp(argv[1], "wake") ? child_wake() :
			!strcmp(argv[1], "kick") ? child_kick() : child_nomem();
	CHECK_EQ(child(argv[0], "eintr", "eintr=10", a, sizeof(a)), letters(a, 'i'));
	child(argv[0], "eintr", "eintr=10,seed=1", b, sizeof(b));
	child(argv[0], "eintr", "eintr=10,seed=2", c, sizeof(c));
	CHECK(!strcmp(a, b));
	CHECK(strcmp(a, c));
	CHECK(child(argv[0], "wake", "wake=1", a, sizeof(a)) > 100);
	CHECK(child(argv[0], "kick", "kick=1,delay=40000", a, sizeof(a)) >= 20);
	CHECK(child(argv[0], "nomem", "nomem=4", a, sizeof(a)) > 20);
	CHECK(child(argv[0], "nomem", "nomem=3,seed=7", a, sizeof(a)) > 20);
	return kt_end();
}
