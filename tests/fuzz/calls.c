/* SPDX-License-Identifier: MIT */
/*
 * Sequences of ioctls, as a hostile or broken VMM makes them: each record of an input is one step on objects that are there (requests.c fills the
 * structures), with pointers that may be bad, on descriptors that may be of another kind or closed, by two threads at once if the first record
 * says so, and with small guests running between. The library is linked in, for its counters of live objects and to choose the engine.
 *
 * Wrong is: an error that the request does not have; EFAULT for a structure that ends exactly where readable memory ends; an exit that is not one; a
 * canary beside the guests' memory that changed; objects or descriptors left after all was closed; and whatever session.c sees.
 */
#include "calls.h"

#include <dirent.h>
#include <semaphore.h>

#include "base/inject.h"
#include "base/log.h"
#include "base/process.h"
#include "usekvm/xinterface.h"

#define ARG (64u << 10)
#define MAPS 16

struct world world;

static struct runner {
	u8 buf[CALL_BUF] aligned(64);
	u8 *arg_end;       /* what is before can be written, what is behind cannot be read */
	u8 *readonly_end;
} runner[2];

static int pool_fd;
static u8 *image;      /* of the pool at the beginning */
static bool pool_torn; /* pages of it were taken away */
static bool parallel;  /* this input uses the second thread */
static struct kvm_run *run_of[PER_KIND];
static struct { void *p; size_t n; } map[MAPS];
static unsigned nmaps;
static struct kvm_xinterface *intf;
static struct kvm_xvmap *vmap;
static struct kvm_xioevent *ioevent;
static unsigned descriptors;

/* ---- guests ---- */

GUEST16(g_out, "1: out %al, $0x10\n inc %al\n jmp 1b\n");
GUEST16(g_ports, "mov $0x10, %dx\n in %dx, %eax\n mov $0x2000, %si\n mov %si, %di\n mov $9, %cx\n rep outsw\n mov $5, %cx\n rep insb\n cli\n hlt\n");
GUEST16(g_memory, "mov (%bx), %eax\n mov %eax, 4(%bx)\n lock incl 8(%bx)\n movups 16(%bx), %xmm0\n movups %xmm0, 24(%bx)\n hlt\n");
GUEST16(g_halt, "1: sti\n hlt\n inc %ax\n jmp 1b\n");
GUEST16(g_fill, "2: mov $0x4000, %cx\n xor %di, %di\n rep stosl\n incw %ax\n out %al, $0x11\n jmp 2b\n");
GUEST16(g_msr, "rdmsr\n wrmsr\n out %al, $0x12\n hlt\n");
GUEST16(g_pic, "mov $0x11, %al\n out %al, $0x20\n out %al, $0xa0\n mov $0x20, %al\n out %al, $0x21\n mov $4, %al\n out %al, $0x21\n mov $1, %al\n"
	       " out %al, $0x21\n mov $0, %al\n out %al, $0x21\n sti\n 1: hlt\n jmp 1b\n");
GUEST16(g_pit, "mov $0x34, %al\n out %al, $0x43\n mov $0x10, %al\n out %al, $0x40\n out %al, $0x40\n in $0x61, %al\n in $0x40, %al\n sti\n hlt\n");
GUEST16(g_changing, "1: incb %cs:0x1206\n mov $0, %al\n cmp $0, %al\n jne 1b\n hlt\n"); /* it stands at 0x1200 */
GUEST16(g_cpuid, "cpuid\n rdtsc\n in $0x10, %al\n vmcall\n int $0x20\n ud2\n hlt\n");
GUEST16(g_loop, "2: mov $200, %cx\n 1: add %cx, %ax\n mov %ax, (%bx)\n loop 1b\n jmp 2b\n");
GUEST64(g_long, "1: mov (%rbx), %rax\n mov %rax, 8(%rbx)\n incl (%rsi)\n dec %ecx\n jnz 1b\n mov %ecx, (%rdi)\n out %al, $0x10\n hlt\n");
GUEST64(g_apic, "mov $0xfee00000, %edi\n movl $0x1ff, 0xf0(%rdi)\n movl $0x20, 0x320(%rdi)\n movl $100, 0x380(%rdi)\n mov %eax, 0x300(%rdi)\n"
		" mov $0xfec00000, %edi\n mov %ecx, (%rdi)\n mov %eax, 0x10(%rdi)\n sti\n hlt\n");

static const struct { const u8 *start, *end; u8 bits; } guests[] = {
	{g_out, g_out_end, 16}, {g_ports, g_ports_end, 16}, {g_memory, g_memory_end, 16}, {g_halt, g_halt_end, 16}, {g_fill, g_fill_end, 16},
	{g_msr, g_msr_end, 16}, {g_pic, g_pic_end, 16}, {g_pit, g_pit_end, 16}, {g_changing, g_changing_end, 16}, {g_cpuid, g_cpuid_end, 16},
	{g_loop, g_loop_end, 16}, {g_long, g_long_end, 64}, {g_apic, g_apic_end, 64},
};
#define N_GUESTS (sizeof(guests) / sizeof(guests[0]))
#define OWN_CODE 0x1800u /* what a CODE step writes */

/* Guests at 0x1000, one each 64 bytes; page tables that map the low and the highest GiB of 4 one to one. */
static void make_image(void)
{
	image = kt_pages(POOL);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		REQUIRE(guests[i].end - guests[i].start <= 64);
		memcpy(image + 0x1000 + i * 64, guests[i].start, (size_t)(guests[i].end - guests[i].start));
	}
	u64 *pml4 = (u64 *)(image + 0x10000), *pdpt = (u64 *)(image + 0x11000), *pd = (u64 *)(image + 0x12000);
	pml4[0] = 0x11000 | 7;
	pdpt[0] = 0x12000 | 7;
	pdpt[3] = 0x13000 | 7;
	for (u64 i = 0; i < 512; i++) {
		pd[i] = i << 21 | 0x87;
		pd[512 + i] = ((i << 21) + 0xc0000000) | 0x87;
	}
}

static void real_mode(int fd, u64 rip, const u8 *d)
{
	static const u64 bases[] = {0, 0x20000, 0xd0000000, 0xfee00000, 0xfec00000, 0x7f000, 0xfffff000, 0x1000};
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = rip, .rsp = 0x8000, .rflags = 2, .rcx = d[1] & 1 ? 0x1b : d[1] & 2 ? 0x4b564d01 : field32(d + 4), .rbx = d[2], .rax = d[3]};

	if (ioctl(fd, KVM_GET_SREGS, &s) < 0)
		return;
	for (struct kvm_segment *g = &s.cs; g <= &s.ss; g++)
		*g = (struct kvm_segment){.limit = 0xffff, .type = 3, .present = 1, .s = 1};
	s.ds.base = s.es.base = bases[d[0] & 7];
	s.cr0 = 0x10;
	s.efer = 0;
	s.cr4 = d[0] & 0x80 ? 0x600 : 0;
	ioctl(fd, KVM_SET_SREGS, &s);
	ioctl(fd, KVM_SET_REGS, &r);
}

static void long_mode(int fd, u64 rip, const u8 *d)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = rip, .rsp = 0x8000, .rflags = 2, .rcx = d[1], .rbx = 0x20000u + d[2], .rdi = 0xd0000000, .rsi = d[3] & 1 ? 0x30ffe : 0x30000,
		.rax = field32(d + 4)};

	if (ioctl(fd, KVM_GET_SREGS, &s) < 0)
		return;
	s.cs = kt_seg(11, 8, 0, 1);
	s.ds = s.es = s.ss = s.fs = s.gs = kt_seg(3, 16, 1, 0);
	s.cr3 = 0x10000;
	s.cr4 = 0x620;
	s.cr0 = 0x80050033;
	s.efer = 0xd00;
	ioctl(fd, KVM_SET_SREGS, &s);
	ioctl(fd, KVM_SET_REGS, &r);
}

static void start_guest(int fd, const u8 *d)
{
	unsigned n = d[0] % N_GUESTS;

	if (guests[n].bits == 16)
		real_mode(fd, 0x1000 + n * 64, d + 1);
	else
		long_mode(fd, 0x1000 + n * 64, d + 1);
}

/* ---- objects ---- */

int call_fd(enum kind kind, unsigned n)
{
	for (unsigned k = 0; k < PER_KIND; k++) {
		int fd = __atomic_load_n(&world.fd[kind][(n + k) % PER_KIND], __ATOMIC_RELAXED);

		if (fd >= 0 || n & 0x80)
			return fd;
	}
	return -1;
}

/* Whoever takes a number closes it. */
static int take(enum kind kind, unsigned n)
{
	return __atomic_exchange_n(&world.fd[kind][n % PER_KIND], -1, __ATOMIC_RELAXED);
}

static void keep(enum kind kind, unsigned n, int fd)
{
	int old = __atomic_exchange_n(&world.fd[kind][n % PER_KIND], fd, __ATOMIC_RELAXED);

	if (old >= 0)
		close(old);
}

static void keep_map(void *p, size_t n)
{
	unsigned at = __atomic_fetch_add(&nmaps, 1, __ATOMIC_RELAXED);

	if (at < MAPS) {
		map[at].p = p;
		map[at].n = n;
	} else {
		__atomic_store_n(&nmaps, MAPS, __ATOMIC_RELAXED);
		munmap(p, n);
	}
}

static void keep_vcpu(unsigned n, int fd)
{
	void *p = nmaps < MAPS - 4 ? mmap(NULL, world.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	keep(K_VCPU, n, fd);
	if (p == MAP_FAILED)
		return;
	__atomic_store_n(&run_of[n % PER_KIND], p, __ATOMIC_RELAXED);
	keep_map(p, world.run_size);
}

/* The shared page of the vCPU that fd is, or NULL. */
static struct kvm_run *run_of_fd(int fd)
{
	for (unsigned k = 0; k < PER_KIND; k++)
		if (fd >= 0 && world.fd[K_VCPU][k] == fd)
			return run_of[k];
	return NULL;
}

static void made(const struct request *q, struct call *c, long r)
{
	unsigned n = c->r->obj >> 4;

	switch (q->number) {
	case (u32)KVM_CREATE_VM: keep(K_VM, n, (int)r); break;
	case (u32)KVM_CREATE_VCPU: keep_vcpu(n, (int)r); break;
	case (u32)KVM_GET_STATS_FD: keep(K_STATS, n, (int)r); break;
	case (u32)KVM_CREATE_DEVICE:
		if (!(((struct kvm_create_device *)c->buf)->flags & KVM_CREATE_DEVICE_TEST))
			keep(K_DEVICE, n, (int)((struct kvm_create_device *)c->buf)->fd);
		break;
	}
}

/* ---- requests ---- */

static unsigned long bad_pointer(struct runner *t, const struct record *r, const struct call *c)
{
	switch (r->how >> 3 & 7) {
	case 0: return 0;
	case 1: return 8;
	case 2: return (unsigned long)t->arg_end;
	case 3: return (unsigned long)t->arg_end - (c->size ? r->pick % c->size : 0);
	case 4: return 0xffff800000000000;
	case 5: return (unsigned long)t->readonly_end - c->size;
	case 6: return 1ul << 63;
	default: return (unsigned long)world.nowhere;
	}
}

static bool among(const u8 *errors, int err)
{
	for (unsigned i = 0; i < 8; i++)
		if (errors[i] == err && err)
			return true;
	return false;
}

/* Of a request of this number on any kind of descriptor. */
static bool known_error(u32 number, int err)
{
	for (unsigned i = 0; request_at(i); i++)
		if (request_at(i)->number == number && among(request_at(i)->errors, err))
			return true;
	return false;
}

static void request(struct runner *t, const struct record *r, const struct request *q)
{
	struct call c = {.r = r, .buf = t->buf, .size = _IOC_SIZE(q->number)};
	bool bad = (r->how & 7) == 7, other = (r->how & 0xb8) == 0xb8 && !bad;
	unsigned long arg;

	c.fd = call_fd(other ? (enum kind)(r->obj % KINDS) : q->kind, r->obj);
	memset(c.buf, 0, q->get ? CALL_BUF : 1024);
	if (q->get)
		ioctl(c.fd, q->get, c.buf);
	if (q->fill)
		q->fill(&c);
	memcpy(t->arg_end - c.size, c.buf, c.size);
	arg = bad ? bad_pointer(t, r, &c) : c.size ? (unsigned long)t->arg_end - c.size : c.value;
	errno = 0;
	int ret = ioctl(c.fd, q->number, arg), err = errno;
	fuzz_say("%s(%d, %#lx) = %d%s%s\n", q->name, c.fd, arg, ret, ret < 0 ? " " : "", ret < 0 ? strerror(err) : "");
	if (ret >= 0 && !bad) {
		memcpy(c.buf, t->arg_end - c.size, c.size);
		if (!other)
			made(q, &c, ret);
		else if (q->number == (u32)KVM_GET_STATS_FD || q->number == (u32)KVM_CREATE_VM || q->number == (u32)KVM_CREATE_VCPU)
			close(ret);
		else if (q->number == (u32)KVM_CREATE_DEVICE)
			made(q, &c, ret);
	} else if (ret >= 0) {
		if (q->number == (u32)KVM_GET_STATS_FD || q->number == (u32)KVM_CREATE_VM || q->number == (u32)KVM_CREATE_VCPU)
			close(ret);
	}
	if (ret >= 0 || among(q->errors, err) || (err == EFAULT && (bad || c.efault)) || (err == EBADF && (c.fd < 0 || parallel)) ||
		(err == ENOMEM && c.nomem) || ((other || parallel) &&
		(known_error(q->number, err) || err == EINVAL || err == ENOTTY || err == EPERM || err == ENXIO)))
		return;
	fuzz_fail("%s gives errno %d (%s), which it does not have%s", q->name, err, strerror(err), err == EFAULT ? ": all of its structure is there" : "");
}

/* ---- KVM_RUN ---- */

static void check_exit(const struct kvm_run *run)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		if (!run->io.size || run->io.size > 4 || run->io.size == 3 || !run->io.count || run->io.direction > 1 || run->io.data_offset < sizeof(*run) ||
			run->io.data_offset + (u64)run->io.size * run->io.count > world.run_size)
			fuzz_fail("I/O of %u times %u bytes at %#llx", run->io.count, run->io.size, run->io.data_offset);
		break;
	case KVM_EXIT_MMIO:
		if (!run->mmio.len || run->mmio.len > 8 || run->mmio.is_write > 1)
			fuzz_fail("MMIO of %u bytes", run->mmio.len);
		break;
	case KVM_EXIT_HLT:
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_DEBUG:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_IOAPIC_EOI:
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_HYPERCALL:
	case KVM_EXIT_SYSTEM_EVENT:
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		if (run->internal.ndata > 16)
			fuzz_fail("internal error with %u data", run->internal.ndata);
		break;
	default:
		fuzz_fail("exit reason %u", run->exit_reason);
	}
}

static void run_guest(const struct record *r)
{
	int fd = call_fd(K_VCPU, r->obj);
	struct kvm_run *run = run_of_fd(fd);
	const u8 *d = r->data;

	if (!run)
		return;
	if (r->pick & 0x80)
		start_guest(fd, d);
	run->immediate_exit = !(r->pick & 0x70);
	run->request_interrupt_window = r->how >> 3 & 1;
	fuzz_ticks(1000);
	for (unsigned n = 1 + (r->pick & 15); n && fuzz_ticked < 2; n--) {
		int ret, err;

		errno = 0;
		ret = ioctl(fd, KVM_RUN, (r->how & 7) == 7 ? (unsigned long)d[3] : 0ul);
		err = errno;
		fuzz_say("KVM_RUN(%d) = %d%s%s, exit %u (%s)\n", fd, ret, ret < 0 ? " " : "", ret < 0 ? strerror(err) : "", run->exit_reason,
			kt_exit_name(run->exit_reason));
		if (ret > 0)
			fuzz_fail("KVM_RUN gives %d", ret);
		if (ret < 0 && err != EINTR && err != EAGAIN && err != EINVAL && err != EFAULT && !(parallel && (err == EBADF || err == ENOTTY)))
			fuzz_fail("KVM_RUN gives errno %d (%s)", err, strerror(err));
		if (ret < 0)
			break;
		if (!parallel)
			check_exit(run);
		run->immediate_exit = r->how >> 4 & 1;
		if (run->exit_reason == KVM_EXIT_MMIO)
			memcpy(run->mmio.data, d + 8, 8);
		if (!parallel && run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
			memset((u8 *)run + run->io.data_offset, d[9], (size_t)run->io.size * run->io.count);
		if (run->exit_reason == KVM_EXIT_X86_RDMSR || run->exit_reason == KVM_EXIT_X86_WRMSR)
			run->msr.error = d[10] & 1;
	}
	fuzz_ticks(0);
}

/* The shared page is the VMM's to spoil. */
static void spoil_run(const struct record *r)
{
	struct kvm_run *run = run_of[r->obj % PER_KIND];

	if (!run)
		return;
	if (r->pick & 0x40) {
		run->kvm_valid_regs = r->data[0] & 7;
		run->kvm_dirty_regs = r->data[1] & 7;
		change((u8 *)&run->s, sizeof(struct kvm_sync_regs), r->data + 2, r->pick & 3);
	} else {
		change((u8 *)run, r->pick & 0x20 ? 3 * PG : 512, r->data, r->pick & 3);
	}
}

/* ---- memory ---- */

static void poke(const struct record *r)
{
	u32 at = field32(r->data) % (POOL - 24);

	if (r->pick & 1) /* page tables and guests' code more often */
		at = at % 0x4000 + (r->pick & 2 ? 0x10000 : 0);
	if (pwrite(pool_fd, r->data + 4, 1 + r->pick % 24u, at) < 0)
		fuzz_say("poke: %s\n", strerror(errno));
}

static void own_code(const struct record *r)
{
	int fd = call_fd(K_VCPU, r->obj);

	if (pwrite(pool_fd, r->data + 8, 20, OWN_CODE) < 0)
		return;
	if (r->pick & 1)
		real_mode(fd, OWN_CODE, r->data);
	else
		long_mode(fd, OWN_CODE, r->data);
}

static void map_pool(u64 off, u64 len)
{
	REQUIRE(mmap(world.pool + off, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, pool_fd, (off_t)off) != MAP_FAILED);
}

static void memory_goes(const struct record *r)
{
	u64 off = (u64)(r->data[0] % (POOL / PG)) * PG, len = (u64)(1 + (r->data[1] & 15)) * PG;

	if (len > POOL - off)
		len = POOL - off;
	pool_torn = true;
	if (r->pick & 1)
		mprotect(world.pool + off, len, r->pick & 2 ? PROT_READ : PROT_NONE);
	else
		mmap(world.pool + off, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

static void memory_back(void)
{
	if (pool_torn)
		map_pool(0, POOL);
	pool_torn = false;
}

/* Mappings of descriptors with any length, offset and rights. */
static void map_fd(const struct record *r)
{
	enum kind kind = r->how & 0x80 ? (enum kind)(r->obj % KINDS) : K_VCPU;
	const u8 *d = r->data;
	size_t len = d[0] & 0x80 ? (size_t)field16(d + 1) : (size_t)(1 + (d[0] & 3)) * PG;
	off_t off = d[3] & 0x80 ? (off_t)d[3] * 100 : (off_t)(d[3] & 3) * (off_t)PG;

	if (__atomic_load_n(&nmaps, __ATOMIC_RELAXED) >= MAPS)
		return;
	void *p = mmap(NULL, len, d[4] & 3, d[4] & 4 ? MAP_PRIVATE : MAP_SHARED, call_fd(kind, r->obj), off);
	fuzz_say("mmap of kind %d, %#zx bytes at %#lx = %p\n", kind, len, (long)off, p);
	if (p != MAP_FAILED)
		keep_map(p, len);
}

/* Not the ones that run_of knows: those are read. */
static void unmap(const struct record *r)
{
	unsigned n = nmaps < MAPS ? nmaps : MAPS, at = n ? r->data[0] % n : 0;

	for (unsigned k = 0; k < PER_KIND; k++)
		if (n && map[at].p == (void *)run_of[k])
			return;
	if (n && map[at].p && map[at].n && r->pick & 1)
		mprotect(map[at].p, PG, PROT_NONE);
	else if (n && map[at].p && map[at].n)
		munmap(map[at].p, PG), mmap(map[at].p, PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* ---- descriptors ---- */

static void open_one(const struct record *r)
{
	if (r->pick & 1)
		keep(K_EVENT, r->obj, eventfd(r->data[0] & 3, EFD_NONBLOCK | EFD_CLOEXEC | (r->data[0] & 4 ? EFD_SEMAPHORE : 0)));
	else
		keep(K_SYSTEM, r->obj, open("/dev/kvm", O_RDWR | O_CLOEXEC));
}

static void close_one(const struct record *r)
{
	enum kind kind = (enum kind)(r->pick % KINDS);
	int fd = take(kind, r->obj);

	fuzz_say("close %d, kind %d\n", fd, kind);
	if (fd < 0)
		return;
	if (r->how & 1)
		close_range((unsigned)fd, (unsigned)fd, 0);
	else
		close(fd);
}

static void dup_one(const struct record *r)
{
	enum kind kind = (enum kind)(r->pick % KINDS);
	int fd = call_fd(kind, r->obj), n;

	n = r->how & 1 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : dup(fd);
	if (n < 0)
		return;
	if (kind == K_VCPU)
		run_of[(r->obj >> 4) % PER_KIND] = run_of_fd(fd);
	keep(kind, r->obj >> 4, n);
}

/* One number becomes another object's. */
static void dup_over(const struct record *r)
{
	enum kind kind = (enum kind)(r->pick % KINDS), over = (enum kind)((r->pick >> 4) % KINDS);
	int fd = call_fd(kind, r->obj);
	struct kvm_run *run = kind == K_VCPU ? run_of_fd(fd) : NULL;
	int n = take(over, r->obj >> 4);

	if (n < 0)
		return;
	if (fd < 0 || fd == n || dup2(fd, n) < 0) {
		close(n);
		return;
	}
	if (kind == K_VCPU)
		run_of[(r->obj >> 2) % PER_KIND] = run;
	keep(kind, r->obj >> 2, n);
}

static void event(const struct record *r)
{
	int fd = call_fd(K_EVENT, r->obj);
	u64 v = r->pick & 1 ? 1 : r->data[0];

	if (r->pick & 2) {
		if (read(fd, &v, 8) != 8)
			fuzz_say("event: nothing\n");
	} else if (write(fd, &v, 8) != 8) {
		fuzz_say("event: full\n");
	}
}

static void read_stats(const struct record *r)
{
	static u8 buf[16384];
	int fd = call_fd(K_STATS, r->obj);
	ssize_t n = -1;

	switch (r->pick & 3) {
	case 0: n = read(fd, buf, field16(r->data) % sizeof(buf)); break;
	case 1: n = pread(fd, buf, field16(r->data) % sizeof(buf), r->data[2] & 0x80 ? -1 : field16(r->data + 3)); break;
	case 2: lseek(fd, field16(r->data), SEEK_SET); break;
	default: n = read(fd, world.nowhere, 64);
	}
	fuzz_say("read of statistics: %zd\n", n);
}

/* ---- the xinterface: one interface, mapping and event at a time, by the first thread only ---- */

static void signalled(struct kvm_xioevent *e, const void *val)
{
	u8 b = 0;

	kvm_xinterface_copy_to(intf, 0x20000, val, 1);
	kvm_xinterface_copy_from(intf, &b, 0x1000, 1);
}

static void x_end(void)
{
	if (ioevent)
		kvm_xioevent_deassign(ioevent);
	if (vmap)
		kvm_xvmap_put(vmap);
	if (intf)
		kvm_xinterface_put(intf);
	ioevent = NULL;
	vmap = NULL;
	intf = NULL;
}

static void xinterface(const struct record *r)
{
	static u8 buf[4096];
	const u8 *d = r->data;
	u64 gpa = d[0] & 0x80 ? field64(d + 8) : (u64)field32(d) % (POOL + 4 * PG);
	unsigned long len = d[4] & 0x80 ? field16(d + 5) % sizeof(buf) : d[4];

	if (!intf) {
		intf = kvm_xinterface_bind(call_fd(r->how & 0x80 ? (enum kind)(r->pick % KINDS) : K_VM, r->obj));
		if (!intf && errno != EBADF && errno != EINVAL)
			fuzz_fail("kvm_xinterface_bind gives errno %d (%s)", errno, strerror(errno));
		return;
	}
	switch (r->pick & 7) {
	case 0:
		if (kvm_xinterface_copy_to(intf, gpa, d[16] > 250 ? world.nowhere : buf, len) > len)
			fuzz_fail("kvm_xinterface_copy_to copies less than nothing");
		break;
	case 1:
		if (kvm_xinterface_copy_from(intf, d[16] > 250 ? world.nowhere : buf, gpa, len) > len)
			fuzz_fail("kvm_xinterface_copy_from copies less than nothing");
		break;
	case 2:
		if (!vmap)
			vmap = kvm_xinterface_vmap(intf, gpa, len);
		else
			kvm_xvmap_put(vmap), vmap = NULL;
		break;
	case 3:
	case 4:
		if (vmap && r->pick & 8) {
			int section = kvm_xvmap_enter(vmap);

			if (section >= 0)
				kvm_xvmap_dirty(vmap, d[5], d[6]), kvm_xvmap_leave(vmap, section);
		} else if (vmap) {
			kvm_xvmap_copy_to(vmap, d[5], buf, d[6]);
			kvm_xvmap_copy_from(vmap, buf, d[6], d[5]);
			kvm_xvmap_valid(vmap);
		}
		break;
	case 5:
	case 6:
		if (!ioevent) {
			bool pio = d[7] & 1;

			ioevent = kvm_xinterface_ioevent(intf, pio ? 0x10 : 0xd0000000 + (d[5] & 8), d[6] & 0x80 ? d[6] : 1u << (d[6] & 3), pio | (d[7] > 250));
			if (ioevent)
				kvm_xioevent_arm(ioevent, signalled, NULL);
		} else {
			kvm_xioevent_deassign(ioevent);
			ioevent = NULL;
		}
		break;
	default:
		x_end();
	}
}

/* ---- steps ---- */

static void unknown_request(const struct record *r)
{
	u32 number = r->pick & 1 ? field32(r->data) : (field32(r->data) & 0xffff00ff) | KVMIO << 8;
	int fd = call_fd((enum kind)(r->pick / 2 % KINDS), r->obj);

	/* What it knows goes through request(), with room for what is written. */
	for (unsigned i = 0; request_at(i); i++)
		if ((request_at(i)->number & 0xff) == (number & 0xff))
			return;
	if (number == (u32)KVM_RUN)
		return;
	if (ioctl(fd, number, world.bitmap) >= 0 && _IOC_TYPE(number) == KVMIO)
		fuzz_fail("request %#x, which does not exist, succeeds", number);
}

enum { RUN, GUEST, POKE, OPEN, CLOSE, DUP, DUP_OVER, MMAP, UNMAP, EVENT, GONE, BACK, STATS, SPOIL, XINTERFACE, KICK, NAP, CODE, UNKNOWN };

static pthread_t thread[2];

static void step(unsigned who, const struct record *r)
{
	static const u8 often[8] = {RUN, RUN, RUN, GUEST, CODE, POKE, SPOIL, REQUESTS_AT + 13 /* KVM_SET_USER_MEMORY_REGION */};
	unsigned op = r->op < 192 ? r->op : often[r->op & 7];

	if (op >= REQUESTS_AT) {
		const struct request *q = request_at(op - REQUESTS_AT);

		if (q)
			request(&runner[who], r, q);
		return;
	}
	switch (op) {
	case RUN: run_guest(r); break;
	case GUEST: start_guest(call_fd(K_VCPU, r->obj), r->data); break;
	case POKE: poke(r); break;
	case OPEN: open_one(r); break;
	case CLOSE: close_one(r); break;
	case DUP: dup_one(r); break;
	case DUP_OVER: dup_over(r); break;
	case MMAP: map_fd(r); break;
	case UNMAP: unmap(r); break;
	case EVENT: event(r); break;
	case GONE: memory_goes(r); break;
	case BACK: memory_back(); break;
	case STATS: read_stats(r); break;
	case SPOIL: spoil_run(r); break;
	case XINTERFACE:
		if (!who)
			xinterface(r);
		break;
	case KICK: pthread_kill(thread[r->pick & 1], SIGRTMIN + 3); break;
	case NAP: usleep(r->data[0] & 127); break;
	case CODE: own_code(r); break;
	case UNKNOWN: unknown_request(r); break;
	default: run_guest(r);
	}
}

/* ---- the second thread ---- */

static sem_t has_work, idle;
static const struct record *work;

static void wait_sem(sem_t *s)
{
	while (sem_wait(s))
		;
}

static void *second(void *arg)
{
	for (;;) {
		wait_sem(&has_work);
		step(1, work);
		sem_post(&idle);
	}
	return NULL;
}

/* ---- one input ---- */

static unsigned count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	REQUIRE(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void begin(const struct record *r)
{
	bool bare = r->pick & 0x20;
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_pit_config pit = {0};
	int vm;

	descriptors = count_descriptors();
	process_engine = (r->obj & 3) == 1 ? ENGINE_INTERP : (r->obj & 3) == 2 ? ENGINE_TRANSLATE : ENGINE_AUTO;
	parallel = r->pick & 0x10;
	REQUIRE(pwrite(pool_fd, image, POOL, 0) == POOL);
	world.fd[K_SYSTEM][0] = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (world.fd[K_SYSTEM][0] < 0)
		fuzz_fail("/dev/kvm cannot be opened: %s", strerror(errno));
	world.fd[K_EVENT][0] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (bare)
		return;
	vm = world.fd[K_VM][0] = ioctl(world.fd[K_SYSTEM][0], KVM_CREATE_VM, 0ul);
	REQUIRE(vm >= 0);
	REQUIRE(kt_slot(vm, 0, r->how & 1 ? KVM_MEM_LOG_DIRTY_PAGES : 0, 0, POOL / 2, world.pool) == 0);
	if ((r->pick & 3) == 3)
		REQUIRE(ioctl(vm, KVM_ENABLE_CAP, &split) == 0);
	else if (r->pick & 3)
		REQUIRE(ioctl(vm, KVM_CREATE_IRQCHIP, 0ul) == 0);
	if ((r->pick & 3) == 2)
		REQUIRE(ioctl(vm, KVM_CREATE_PIT2, &pit) == 0);
	for (unsigned i = 0; i < (r->pick >> 2 & 3); i++) {
		int fd = ioctl(vm, KVM_CREATE_VCPU, (unsigned long)i);

		REQUIRE(fd >= 0);
		keep_vcpu(i, fd);
		if (!(r->pick & 0x40))
			REQUIRE(ioctl(fd, KVM_SET_CPUID2, world.cpuid) == 0);
		start_guest(fd, r->data + i);
	}
}

static void end(void)
{
	x_end();
	for (unsigned k = 0; k < KINDS; k++)
		for (unsigned n = 0; n < PER_KIND; n++) {
			int fd = take((enum kind)k, n);

			if (fd >= 0)
				close(fd);
		}
	for (unsigned k = 0; k < MAPS; k++) {
		if (map[k].p)
			munmap(map[k].p, map[k].n);
		map[k].p = NULL;
	}
	nmaps = 0;
	memset(run_of, 0, sizeof(run_of));
	memory_back();
}

static void check(void)
{
	unsigned now = 0;

	for (u32 i = 0; i < PG; i++)
		if (world.pool[-(long)PG + i] != 0xa5 || world.pool[POOL + i] != 0xa5)
			fuzz_fail("memory beside the pool was written");
	/* An irqfd whose eventfd was closed is given back by the service thread. */
	for (unsigned tries = 0; tries < 200 && (now = count_descriptors()) != descriptors; tries++)
		kt_sleep_ms(1);
	if (now != descriptors)
		fuzz_fail("%u descriptors, %u at the beginning", now, descriptors);
#ifdef USEKVM_DEBUG
	for (enum live_kind k = LIVE_VM; k <= LIVE_VFIO_FILE; k++)
		if (live_count(k))
			fuzz_fail("%d objects of kind %d are left", live_count(k), k);
#endif
}

static void run(const struct record *r, unsigned n)
{
	if (!n)
		return;
	begin(r);
	for (unsigned i = 1; i < n; i++) {
		if (!(parallel && r[i].how & 0x40)) {
			step(0, &r[i]);
			continue;
		}
		wait_sem(&idle);
		work = &r[i];
		sem_post(&has_work);
	}
	wait_sem(&idle);
	end();
	check();
	sem_post(&idle);
}

static u8 *guarded(size_t size, int prot)
{
	u8 *p = kt_pages(size + 2 * PG);

	REQUIRE(!mprotect(p + size, 2 * PG, PROT_NONE) && !mprotect(p, size, prot));
	return p;
}

static void start(void)
{
	const char *bad;
	u8 *p;
	int fd;

	log_configure("none", &bad);
	for (unsigned k = 0; k < KINDS; k++)
		for (unsigned n = 0; n < PER_KIND; n++)
			world.fd[k][n] = -1;
	for (unsigned k = 0; k < 2; k++) {
		runner[k].arg_end = guarded(ARG, PROT_READ | PROT_WRITE) + ARG;
		runner[k].readonly_end = guarded(ARG, PROT_READ) + ARG;
	}
	world.bitmap = guarded(BITMAP, PROT_READ | PROT_WRITE);
	world.nowhere = mmap(NULL, NOWHERE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	REQUIRE(world.nowhere != MAP_FAILED);
	pool_fd = memfd_create("pool", MFD_CLOEXEC);
	REQUIRE(pool_fd >= 0 && !ftruncate(pool_fd, POOL));
	p = kt_pages(POOL + 2 * PG);
	memset(p, 0xa5, PG);
	memset(p + PG + POOL, 0xa5, PG);
	world.pool = p + PG;
	map_pool(0, POOL);
	make_image();
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	REQUIRE(fd >= 0);
	world.run_size = (size_t)ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0ul);
	static u8 cpuid[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
	world.cpuid = (void *)cpuid;
	world.cpuid->nent = 256;
	REQUIRE(ioctl(fd, KVM_GET_SUPPORTED_CPUID, world.cpuid) == 0);
	close(fd);
	sem_init(&has_work, 0, 0);
	sem_init(&idle, 0, 1);
	thread[0] = pthread_self();
	fuzz_ticks(1000); /* a KICK wants the signal's handler */
	fuzz_ticks(0);
	REQUIRE(!pthread_create(&thread[1], NULL, second, NULL));
}

const struct fuzzer fuzzer = {"calls", start, run};
