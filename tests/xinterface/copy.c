/* SPDX-License-Identifier: MIT */
/* bind: which descriptors; lifetime. Copies: slots, holes, read-only slots, dirty log, bad memory, changed code, changed slots. */
#include "kvmtest.h"
#include "usekvm/xinterface.h"

#define HIGH 0x40000000ull

GUEST16(prog, "mov $0x11, %al\n out %al, $0x10\n jmp prog\n");
GUEST16(endless, "1: incw 0x3000\n jmp 1b\n");

static void check_bind_error(int fd, int want)
{
	struct kvm_xinterface *x;

	errno = 0;
	x = kvm_xinterface_bind(fd);
	CHECK(!x);
	CHECK_EQ(errno, want);
	if (x)
		kvm_xinterface_put(x);
}

static void bad_fds(struct vm *v)
{
	int null = open("/dev/null", O_RDWR), ev = eventfd(0, 0), closed = dup(null), again;
	struct kvm_xinterface *x;

	close(closed);
	check_bind_error(-1, EBADF);
	check_bind_error(1 << 30, EBADF);
	check_bind_error(closed, EBADF);
	check_bind_error(null, EINVAL);
	check_bind_error(ev, EINVAL);
	check_bind_error(v->sys, EINVAL);
	check_bind_error(v->vcpu, EINVAL);
	again = dup(v->vm);
	x = kvm_xinterface_bind(again);
	CHECK(x);
	close(again);
	check_bind_error(again, EBADF);
	if (x)
		kvm_xinterface_put(x);
	close(null);
	close(ev);
}

static u64 dirty(struct vm *v, u32 slot)
{
	u64 bits[64] = {0};
	struct kvm_dirty_log d = {.slot = slot, .dirty_bitmap = bits};

	CHECK_OK(ioctl(v->vm, KVM_GET_DIRTY_LOG, &d));
	return bits[0];
}

static void slots(struct vm *v, struct kvm_xinterface *x)
{
	u8 *a = kt_pages(0x4000), *b = kt_pages(0x4000), *rom = kt_pages(0x1000), out[0x3000], in[0x3000], *cut;

	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (u8)(i * 7 + 1);
	/* Two slots side by side with memory far apart, logged; a read-only one behind; then nothing. */
	CHECK_OK(kt_slot(v->vm, 1, KVM_MEM_LOG_DIRTY_PAGES, HIGH, 0x4000, a));
	CHECK_OK(kt_slot(v->vm, 2, KVM_MEM_LOG_DIRTY_PAGES, HIGH + 0x4000, 0x4000, b));
	CHECK_OK(kt_slot(v->vm, 3, KVM_MEM_READONLY, HIGH + 0x8000, 0x1000, rom));
	CHECK_EQ(dirty(v, 1) | dirty(v, 2), 0);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH + 0x2ff0, out, sizeof(out)), 0);
	CHECK(!memcmp(a + 0x2ff0, out, 0x1010) && !memcmp(b, out + 0x1010, sizeof(out) - 0x1010));
	CHECK_EQ(dirty(v, 1), 0xc);
	CHECK_EQ(dirty(v, 2), 0x3);
	memset(in, 0, sizeof(in));
	CHECK_EQ(kvm_xinterface_copy_from(x, in, HIGH + 0x2ff0, sizeof(in)), 0);
	CHECK(!memcmp(in, out, sizeof(in)));
	CHECK_EQ(dirty(v, 1) | dirty(v, 2), 0);
	/* Reads go into the read-only slot and stop at its end; writes stop before it. */
	CHECK_EQ(kvm_xinterface_copy_from(x, in, HIGH + 0x7f00, 0x1200), 0x100);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH + 0x7f00, out, 0x1200), 0x1100);
	CHECK(!memcmp(b + 0x3f00, out, 0x100) && !rom[0]);
	CHECK_EQ(dirty(v, 2), 0x8);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH + 0x8000, out, 1), 1);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH - 1, out, 8), 8);
	CHECK_EQ(kvm_xinterface_copy_to(x, ~0ull - 3, out, 8), 8);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH, out, 0), 0);
	CHECK_EQ(kvm_xinterface_copy_from(x, in, HIGH + 0x123456789000ull, 8), 8);
	/* A bad buffer of the client's counts from its first bad byte. */
	cut = kt_pages(0x2000);
	munmap(cut + 0x1000, 0x1000);
	CHECK_EQ(kvm_xinterface_copy_from(x, cut + 0xff0, HIGH, 0x40), 0x30);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH, cut + 0xff0, 0x40), 0x30);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH, KT_BAD, 8), 8);
	/* Memory that the VMM took away under the slot. */
	dirty(v, 1);
	munmap(a + 0x2000, 0x1000);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH + 0x1000, out, 0x2800), 0x1800);
	CHECK_EQ(kvm_xinterface_copy_from(x, in, HIGH + 0x1800, 0x1000), 0x800);
	CHECK(dirty(v, 1) & 2);
	/* The slot goes, and comes back with other memory: no copy reaches the old one. */
	CHECK_OK(kt_slot(v->vm, 2, 0, HIGH + 0x4000, 0, b));
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH + 0x4000, out, 8), 8);
	CHECK_OK(kt_slot(v->vm, 2, 0, HIGH + 0x4000, 0x1000, rom));
	memset(b, 0, 8);
	CHECK_EQ(kvm_xinterface_copy_to(x, HIGH + 0x4000, out, 8), 0);
	CHECK(!b[0] && !memcmp(rom, out, 8));
	for (u32 s = 1; s <= 3; s++)
		kt_slot(v->vm, s, 0, 0, 0, NULL);
	munmap(b, 0x4000);
}

/* The guest has run this code; a copy changes it. */
static void code(struct vm *v, struct kvm_xinterface *x)
{
	kt_load(v, prog);
	kt_set_rip(v->vcpu, KT_CODE);
	for (u32 i = 0x11; i < 0x15; i++) {
		u8 byte = (u8)i;

		CHECK_EQ(kvm_xinterface_copy_to(x, KT_CODE + 1, &byte, 1), 0);
		for (int k = 0; k < 3; k++)
			CHECK_OUT(v->vcpu, v->run, 0x10, i);
	}
	kt_run(v->vcpu);
}

static void *run_endless(void *arg)
{
	struct vm *v = arg;

	while (ioctl(v->vcpu, KVM_RUN, 0ul) < 0 && errno == EINTR && !v->run->immediate_exit)
		;
	return NULL;
}

static void nothing(int sig)
{
}

/* A guest that writes without pause; slot changes and copies go on meanwhile. */
static void while_running(struct vm *v, struct kvm_xinterface *x)
{
	u8 *a = kt_pages(0x1000);
	pthread_t t;
	u16 n[2];

	signal(SIGUSR1, nothing);
	kt_load(v, endless);
	kt_set_rip(v->vcpu, KT_CODE);
	REQUIRE(pthread_create(&t, NULL, run_endless, v) == 0);
	for (int i = 0; i < 50; i++) {
		u64 val = (u64)i;

		CHECK_OK(kt_slot(v->vm, 5, 0, HIGH, 0x1000, a));
		CHECK_EQ(kvm_xinterface_copy_to(x, HIGH + 8, &val, 8), 0);
		CHECK_EQ(*(u64 *)(a + 8), val);
		CHECK_OK(kt_slot(v->vm, 5, 0, HIGH, 0, a));
		CHECK_EQ(kvm_xinterface_copy_to(x, HIGH + 8, &val, 8), 8);
	}
	for (int i = 0; i < 1000; i++) {
		CHECK_EQ(kvm_xinterface_copy_from(x, &n[1], 0x3000, 2), 0);
		if (i && n[0] != n[1])
			break;
		n[0] = n[1];
		kt_sleep_ms(1);
	}
	CHECK(n[0] != n[1]);
	v->run->immediate_exit = 1;
	pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
	v->run->immediate_exit = 0;
}

int main(void)
{
	struct kvm_xinterface *x, *y;
	struct vm v;
	u64 val = 0x1122334455667788, got = 0;

	vm_real(&v, prog, prog_end);
	bad_fds(&v);
	x = kvm_xinterface_bind(v.vm);
	REQUIRE(x);
	y = kvm_xinterface_bind(v.vm);
	CHECK(y && y != x);
	kvm_xinterface_put(y);
	slots(&v, x);
	code(&v, x);
	while_running(&v, x);
	/* The interface holds the VM: its descriptors go, and the slots are still there. A reference more, one less. */
	kvm_xinterface_get(x);
	munmap(v.run, v.run_size);
	close(v.vm);
	close(v.vcpu);
	check_bind_error(v.vm, EBADF);
	CHECK_EQ(kvm_xinterface_copy_to(x, 0x8000, &val, 8), 0);
	CHECK_EQ(*(u64 *)(v.mem + 0x8000), val);
	kvm_xinterface_put(x);
	CHECK_EQ(kvm_xinterface_copy_from(x, &got, 0x8000, 8), 0);
	CHECK_EQ(got, val);
	munmap(v.mem, v.mem_size);
	CHECK_EQ(kvm_xinterface_copy_from(x, &got, 0x8000, 8), 8);
	kvm_xinterface_put(x);
	/* In a child of a fork: nothing to bind to, and letting go is harmless. */
	vm_real(&v, prog, prog_end);
	x = kvm_xinterface_bind(v.vm);
	REQUIRE(x);
	pid_t pid = fork();
	if (!pid) {
		kt_failures = 0;
		check_bind_error(v.vm, EIO);
		kvm_xinterface_put(x);
		_exit(kt_failures);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK_EQ(kvm_xinterface_copy_from(x, &got, 0x8000, 8), 0);
	kvm_xinterface_put(x);
	return kt_end();
}
