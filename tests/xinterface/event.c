/* SPDX-License-Identifier: MIT */
/*
 * ioevent: arguments; exact address and length; payload; in the vCPU's thread and without exit; beside ioeventfds; what a signal() may do; deassign in
 * and outside of it.
 */
#include "kvmtest.h"
#include "usekvm/xinterface.h"

#define BAR 0x40000800ull

GUEST64(prog,
	"mov $0x40000800, %ebx\n"
	"movb $0x11, (%rbx)\n movw $0x2222, (%rbx)\n movl $0x33333333, (%rbx)\n"
	"mov $0x4444444455555555, %rax\n mov %rax, (%rbx)\n"
	"movl $1, 1(%rbx)\n movl $2, -1(%rbx)\n mov (%rbx), %ecx\n"
	"mov $0x51, %al\n out %al, $0x40\n mov $0x5252, %ax\n out %ax, $0x40\n"
	"mov $0x53535353, %eax\n out %eax, $0x40\n in $0x40, %eax\n"
	"hlt\n");
GUEST64(strings, "mov $0x3000, %esi\n mov $5, %ecx\n mov $0x40, %edx\n rep outsw\n hlt\n");
GUEST64(once, "mov $0x40000800, %ebx\n movl $7, (%rbx)\n hlt\n");
GUEST64(many, "mov $0x40000800, %ebx\n 1: mov %ebx, (%rbx)\n add $16, %ebx\n cmp $0x40010800, %ebx\n jne 1b\n hlt\n");

static struct vm v;
static struct kvm_xinterface *x;

struct seen {
	unsigned n;
	u64 val[16];
	pthread_t thread;
	bool bad;
};

static void see(struct kvm_xioevent *e, const void *val)
{
	struct seen *s = e->priv;

	s->thread = pthread_self();
	s->val[s->n % 16] = 0;
	memcpy(&s->val[s->n % 16], val, e->len);
	s->n++;
}

static struct kvm_xioevent *assign(u64 addr, unsigned long len, unsigned long flags, struct seen *s)
{
	struct kvm_xioevent *e = kvm_xinterface_ioevent(x, addr, len, flags);

	REQUIRE(e);
	CHECK(e->intf == x && e->addr == addr && e->len == len && e->flags == flags && !e->signal);
	memset(s, 0, sizeof(*s));
	kvm_xioevent_arm(e, see, s);
	return e;
}

static void check_error(u64 addr, unsigned long len, unsigned long flags, int want)
{
	struct kvm_xioevent *e;

	errno = 0;
	e = kvm_xinterface_ioevent(x, addr, len, flags);
	CHECK(!e);
	CHECK_EQ(errno, want);
	if (e)
		kvm_xioevent_deassign(e);
}

static void start(const u8 *from, const u8 *to)
{
	kt_code(&v, from, to);
	kt_set_rip(v.vcpu, KT_CODE);
}
#define START(name) start(name, name##_end)

static void arguments(void)
{
	struct kvm_xioevent *e;
	struct seen s;

	for (unsigned long len = 0; len <= 20; len++)
		if (len != 1 && len != 2 && len != 4 && len != 8)
			check_error(BAR, len, 0, EINVAL);
	check_error(BAR, 1ul << 32 | 4, 0, EINVAL);
	check_error(BAR, 4, 2, EINVAL);
	check_error(BAR, 4, 1ul << 32, EINVAL);
	check_error(~0ull, 1, 0, EINVAL);
	check_error(~0ull - 3, 4, 0, EINVAL);
	check_error(~0ull - 2, 8, KVM_XIOEVENT_FLAG_PIO, EINVAL);
	e = assign(~0ull - 4, 4, 0, &s);
	kvm_xioevent_deassign(e);
	e = assign(BAR, 4, 0, &s);
	check_error(BAR, 4, 0, EEXIST);
	struct kvm_xioevent *other = assign(BAR, 4, KVM_XIOEVENT_FLAG_PIO, &s); /* another space */
	kvm_xioevent_deassign(other);
	other = assign(BAR, 2, 0, &s);
	kvm_xioevent_deassign(other);
	kvm_xioevent_deassign(e);
	e = assign(BAR, 4, 0, &s);
	kvm_xioevent_deassign(e);
}

/* What the VMM gets of prog, as MMIO length or -port size, with the events of `taken` (1, 2, 4, 8 MMIO; 16 * size PIO) assigned. */
static void expect(unsigned taken)
{
	START(prog);
	for (u32 len = 1; len <= 8; len *= 2) {
		if (taken & len)
			continue;
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
		CHECK(v.run->mmio.phys_addr == BAR && v.run->mmio.len == len && v.run->mmio.is_write);
	}
	for (int i = 0; i < 2; i++) { /* one byte off: never the event's */
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
		CHECK(v.run->mmio.phys_addr == (i ? BAR - 1 : BAR + 1) && v.run->mmio.len == 4);
	}
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK(v.run->mmio.phys_addr == BAR && !v.run->mmio.is_write); /* nor is a read */
	for (u32 len = 1; len <= 4; len *= 2) {
		if (taken & 16 * len)
			continue;
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
		CHECK(v.run->io.port == 0x40 && v.run->io.size == len && v.run->io.direction == KVM_EXIT_IO_OUT);
	}
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK(v.run->io.direction == KVM_EXIT_IO_IN);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
}

static void exact(void)
{
	static const u64 mmio[] = {0x11, 0x2222, 0x33333333, 0x4444444455555555}, pio[] = {0x51, 0x5252, 0x53535353};
	struct kvm_xioevent *e[7];
	struct seen s[7];

	expect(0);
	for (int i = 0; i < 4; i++) {
		e[i] = assign(BAR, 1ul << i, 0, &s[i]);
		expect(1u << i);
		CHECK(s[i].n == 1 && s[i].val[0] == mmio[i] && pthread_equal(s[i].thread, pthread_self()));
		kvm_xioevent_deassign(e[i]);
	}
	for (int i = 0; i < 3; i++) {
		e[i] = assign(0x40, 1ul << i, KVM_XIOEVENT_FLAG_PIO, &s[i]);
		expect(16u << i);
		CHECK(s[i].n == 1 && s[i].val[0] == pio[i]);
		kvm_xioevent_deassign(e[i]);
	}
	for (int i = 0; i < 7; i++)
		e[i] = i < 4 ? assign(BAR, 1ul << i, 0, &s[i]) : assign(0x40, 1ul << (i - 4), KVM_XIOEVENT_FLAG_PIO, &s[i]);
	expect(0x7f);
	for (int i = 0; i < 7; i++) {
		CHECK(s[i].n == 1 && s[i].val[0] == (i < 4 ? mmio[i] : pio[i - 4]));
		kvm_xioevent_deassign(e[i]);
	}
	expect(0);
	for (int i = 0; i < 7; i++)
		CHECK_EQ(s[i].n, 1);
	/* A string is a write for each item. */
	for (u16 i = 0; i < 5; i++)
		((u16 *)(v.mem + 0x3000))[i] = (u16)(0x100 + i);
	e[0] = assign(0x40, 2, KVM_XIOEVENT_FLAG_PIO, &s[0]);
	START(strings);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	CHECK_EQ(s[0].n, 5);
	for (u32 i = 0; i < 5; i++)
		CHECK_EQ(s[0].val[i], 0x100 + i);
	kvm_xioevent_deassign(e[0]);
}

static int eventfd_at(int fd, u64 addr, u32 len, u64 match, u32 flags)
{
	struct kvm_ioeventfd a = {.datamatch = match, .addr = addr, .len = len, .fd = fd, .flags = flags};

	return ioctl(v.vm, KVM_IOEVENTFD, &a);
}

static u64 count(int fd)
{
	u64 n = 0;

	return read(fd, &n, 8) == 8 ? n : 0;
}

static void beside_eventfds(void)
{
	const u32 match = KVM_IOEVENTFD_FLAG_DATAMATCH, del = KVM_IOEVENTFD_FLAG_DEASSIGN;
	int fd = eventfd(0, EFD_NONBLOCK);
	struct kvm_xioevent *e;
	struct seen s;

	/* One that would take the same write. */
	CHECK_OK(eventfd_at(fd, BAR, 4, 0, 0));
	check_error(BAR, 4, 0, EEXIST);
	e = assign(BAR, 2, 0, &s);
	expect(2 | 4);
	CHECK(s.n == 1 && count(fd) == 1);
	kvm_xioevent_deassign(e);
	CHECK_OK(eventfd_at(fd, BAR, 4, 0, del));
	CHECK_OK(eventfd_at(fd, BAR, 4, 0x33333333, match));
	check_error(BAR, 4, 0, EEXIST);
	CHECK_OK(eventfd_at(fd, BAR, 4, 0x33333333, match | del));
	CHECK_OK(eventfd_at(fd, BAR, 0, 0, 0)); /* without data: any length */
	check_error(BAR, 4, 0, EEXIST);
	expect(15);
	CHECK_EQ(count(fd), 4);
	CHECK_OK(eventfd_at(fd, BAR, 0, 0, del));
	/* And the other way round. */
	e = assign(BAR, 4, 0, &s);
	CHECK_ERR(eventfd_at(fd, BAR, 4, 0, 0), EEXIST);
	CHECK_ERR(eventfd_at(fd, BAR, 4, 1, match), EEXIST);
	CHECK_ERR(eventfd_at(fd, BAR, 0, 0, 0), EEXIST);
	CHECK_OK(eventfd_at(fd, BAR, 8, 0, 0));
	expect(4 | 8);
	CHECK(s.n == 1 && count(fd) == 1);
	kvm_xioevent_deassign(e);
	CHECK_OK(eventfd_at(fd, BAR, 8, 0, del));
	close(fd);
}

/* ---- what a signal() may do ---- */

static struct kvm_xioevent *self, *other;
static unsigned calls, made;

static void deassign_self(struct kvm_xioevent *e, const void *val)
{
	calls++;
	CHECK_EQ(*(const u32 *)val, 7);
	kvm_xioevent_deassign(e);
	self = NULL;
}

static void busy_signal(struct kvm_xioevent *e, const void *val)
{
	struct kvm_xvmap *m;
	struct kvm_regs regs;
	u64 word = 0x1234, got = 0;

	calls++;
	CHECK_EQ(kvm_xinterface_copy_to(x, 0x5000, &word, 8), 0);
	CHECK_EQ(kvm_xinterface_copy_from(x, &got, 0x5000, 8), 0);
	CHECK_EQ(got, word);
	m = kvm_xinterface_vmap(x, 0x5000, 8);
	CHECK(m && kvm_xvmap_valid(m) && *(u64 *)m->addr == word);
	if (m)
		kvm_xvmap_put(m);
	struct kvm_xinterface *y = kvm_xinterface_bind(v.vm);
	CHECK(y);
	if (y)
		kvm_xinterface_put(y);
	/* Register and deregister others, enough to make the table grow. */
	for (u64 i = 0; i < 300; i++) {
		struct kvm_xioevent *n = kvm_xinterface_ioevent(x, BAR + 0x1000 + 4 * i, 4, 0);

		CHECK(n);
		made += n != NULL;
		if (n)
			kvm_xioevent_deassign(n);
	}
	if (other)
		kvm_xioevent_deassign(other);
	other = NULL;
	/* What would wait for this very thread. */
	CHECK_ERR(kt_slot(v.vm, 9, 0, 0x50000000, 0x1000, v.mem), EDEADLK);
	CHECK_ERR(eventfd_at(-1, BAR, 4, 0, 0), EDEADLK);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_VCPU, 1ul), EDEADLK);
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EDEADLK);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_REGS, &regs), EDEADLK);
	CHECK_OK(ioctl(v.vm, KVM_CHECK_EXTENSION, (unsigned long)KVM_CAP_NR_MEMSLOTS));
	CHECK_ERR(ioctl(v.sys, KVM_GET_API_VERSION, 1ul), EINVAL);
}

static void in_signal(void)
{
	struct seen s;

	self = kvm_xinterface_ioevent(x, BAR, 4, 0);
	REQUIRE(self);
	START(once);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO); /* not armed: as if it were not there */
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	kvm_xioevent_arm(self, deassign_self, NULL);
	START(once);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	CHECK(calls == 1 && !self);
	START(once);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	CHECK_EQ(calls, 1);

	self = kvm_xinterface_ioevent(x, BAR, 4, 0);
	other = assign(BAR, 8, 0, &s);
	REQUIRE(self);
	kvm_xioevent_arm(self, busy_signal, NULL);
	START(once);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	CHECK(calls == 2 && made == 300 && !other);
	kvm_xioevent_deassign(self);
	CHECK_OK(kt_slot(v.vm, 9, 0, 0x50000000, 0x1000, v.mem));
	CHECK_OK(kt_slot(v.vm, 9, 0, 0, 0, NULL));
}

/* ---- deassign waits ---- */

static int inside, let_go, done;

static void slow(struct kvm_xioevent *e, const void *val)
{
	__atomic_store_n(&inside, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&let_go, __ATOMIC_SEQ_CST))
		kt_sleep_ms(1);
	kt_sleep_ms(20);
	__atomic_store_n(&inside, 0, __ATOMIC_SEQ_CST);
}

static void *run_once(void *arg)
{
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	return NULL;
}

static void *deassign(void *arg)
{
	kvm_xioevent_deassign(arg);
	CHECK(!__atomic_load_n(&inside, __ATOMIC_SEQ_CST));
	__atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void waits(void)
{
	struct kvm_xioevent *e = kvm_xinterface_ioevent(x, BAR, 4, 0), *free_one;
	pthread_t run, end;
	struct seen s;

	REQUIRE(e);
	free_one = assign(BAR, 8, 0, &s);
	kvm_xioevent_arm(e, slow, NULL);
	START(once);
	REQUIRE(pthread_create(&run, NULL, run_once, NULL) == 0);
	while (!__atomic_load_n(&inside, __ATOMIC_SEQ_CST))
		kt_sleep_ms(1);
	kvm_xioevent_deassign(free_one); /* waits for no signal but its own */
	free_one = assign(BAR, 8, 0, &s);
	kvm_xioevent_deassign(free_one);
	REQUIRE(pthread_create(&end, NULL, deassign, e) == 0);
	kt_sleep_ms(60);
	CHECK(!__atomic_load_n(&done, __ATOMIC_SEQ_CST));
	__atomic_store_n(&let_go, 1, __ATOMIC_SEQ_CST);
	pthread_join(end, NULL);
	pthread_join(run, NULL);
	CHECK(done);
}

static void count_one(struct kvm_xioevent *e, const void *val)
{
	struct seen *s = e->priv;

	s->n++;
	s->bad |= *(const u32 *)val != (u32)e->addr;
}

static void thousands(void)
{
	static struct kvm_xioevent *e[4096];
	static struct seen s[4096];

	for (u64 i = 0; i < 4096; i++) {
		e[i] = kvm_xinterface_ioevent(x, BAR + 16 * i, 4, 0);
		REQUIRE(e[i]);
		kvm_xioevent_arm(e[i], count_one, &s[i]);
	}
	START(many);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	for (u64 i = 0; i < 4096; i++) {
		CHECK(s[i].n == 1 && !s[i].bad);
		kvm_xioevent_deassign(e[i]);
	}
}

int main(void)
{
	vm_open(&v);
	vm_vcpu(&v);
	kt_long(&v, v.vcpu, KT_CODE);
	x = kvm_xinterface_bind(v.vm);
	REQUIRE(x);
	arguments();
	exact();
	beside_eventfds();
	in_signal();
	waits();
	thousands();
	/* An event keeps the interface and the VM. */
	self = kvm_xinterface_ioevent(x, BAR, 4, 0);
	REQUIRE(self);
	kvm_xinterface_put(x);
	munmap(v.run, v.run_size);
	close(v.vm);
	close(v.vcpu);
	u64 got;
	CHECK_EQ(kvm_xinterface_copy_from(self->intf, &got, 0x5000, 8), 0);
	kvm_xioevent_deassign(self);
	return kt_end();
}
