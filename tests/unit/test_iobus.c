/* SPDX-License-Identifier: MIT */
/*
 * Dispatch of port and MMIO accesses, ioeventfd and coalesced zones.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "iobus/iobus.h"

static unsigned syncs;
static void synchronize(struct iobus *b) { syncs++; }
static const struct iobus_ops ops = { synchronize };
static struct iobus bus;
static u64 page[512] aligned(4096);

static int setup(void **state)
{
	int r = iobus_init(&bus, &ops);

	memset(page, 0, sizeof(page));
	bus.ring = (void *)page;
	return r;
}

static int teardown(void **state)
{
	iobus_destroy(&bus);
	return 0;
}

struct dev {
	struct io_dev d;
	unsigned reads, writes;
	u64 last;
	bool refuse;
};

static int dev_read(struct io_dev *d, void *vcpu, u64 addr, unsigned len, void *data)
{
	struct dev *v = (struct dev *)d;

	v->reads++;
	memset(data, 0xd0, len);
	return v->refuse ? -EOPNOTSUPP : 0;
}

static int dev_write(struct io_dev *d, void *vcpu, u64 addr, unsigned len, const void *data)
{
	struct dev *v = (struct dev *)d;

	v->writes++;
	v->last = addr;
	return v->refuse ? -EOPNOTSUPP : 0;
}
static const struct io_dev_ops dev_ops = { dev_read, dev_write };

static int out(enum io_space s, u64 addr, unsigned len, u64 val)
{
	return iobus_write(&bus, s, NULL, addr, len, &val);
}

static void test_devices(void **state)
{
	struct dev a = { .d.ops = &dev_ops }, b = a, c = a;
	u64 v;

	assert_int_equal(iobus_add_dev(&bus, IO_PIO, 0x20, 2, &a.d), 0);
	assert_int_equal(iobus_add_dev(&bus, IO_PIO, 0xa0, 2, &a.d), 0);
	assert_int_equal(iobus_add_dev(&bus, IO_PIO, 0x40, 4, &b.d), 0);
	assert_int_equal(iobus_add_dev(&bus, IO_PIO, 0x10, 0x100, &c.d), 0);
	assert_int_equal(iobus_add_dev(&bus, IO_PIO, 0x10, 0, &c.d), -EINVAL);
	assert_int_equal(out(IO_PIO, 0x21, 1, 0), 0);
	assert_int_equal(a.writes, 1);
	assert_int_equal(out(IO_PIO, 0x21, 2, 0), 0); /* not wholly in a */
	assert_int_equal(a.writes, 1);
	assert_int_equal(c.writes, 1);
	assert_int_equal(out(IO_PIO, 0xf, 2, 0), -EOPNOTSUPP);
	assert_int_equal(out(IO_MMIO, 0x21, 1, 0), -EOPNOTSUPP);
	assert_int_equal(iobus_read(&bus, IO_PIO, NULL, 0x43, 1, &v), 0);
	assert_int_equal(b.reads, 1);
	b.refuse = true;
	assert_int_equal(iobus_read(&bus, IO_PIO, NULL, 0x43, 1, &v), 0);
	assert_int_equal(c.reads, 1);
	syncs = 0;
	iobus_del_dev(&bus, IO_PIO, &a.d);
	iobus_del_dev(&bus, IO_PIO, &c.d);
	assert_int_equal(syncs, 2);
	assert_int_equal(out(IO_PIO, 0x20, 1, 0), -EOPNOTSUPP);
	assert_int_equal(out(IO_PIO, 0xa0, 1, 0), -EOPNOTSUPP);
	assert_int_equal(out(IO_PIO, 0x40, 1, 0), -EOPNOTSUPP);
	assert_int_equal(iobus_add_dev(&bus, IO_MMIO, ~0xfffull, 0x1000, &a.d), 0);
	assert_int_equal(out(IO_MMIO, ~0ull, 1, 0), 0);
	assert_int_equal(out(IO_MMIO, ~0ull, 2, 0), -EOPNOTSUPP);
}

static int ioe(u64 match, u64 addr, u32 len, int fd, u32 flags)
{
	struct kvm_ioeventfd a = { .datamatch = match, .addr = addr, .len = len, .fd = fd, .flags = flags };

	return iobus_ioeventfd(&bus, &a);
}

static u64 drain(int fd)
{
	u64 v = 0;

	return read(fd, &v, 8) == 8 ? v : 0;
}

#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define DEL KVM_IOEVENTFD_FLAG_DEASSIGN

static void test_ioeventfd_errors(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK), fd2 = eventfd(0, EFD_NONBLOCK), copy = dup(fd), pipes[2];

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(ioe(0, 0x1000, 3, fd, 0), -EINVAL);
	assert_int_equal(ioe(0, 0x1000, 16, fd, 0), -EINVAL);
	assert_int_equal(ioe(0, ~0ull, 4, fd, 0), -EINVAL);
	assert_int_equal(ioe(0, 0x1000, 4, fd, 0x10), -EINVAL);
	assert_int_equal(ioe(0, 0x1000, 0, fd, MATCH), -EINVAL);
	assert_int_equal(ioe(0, 0x1000, 4, -1, 0), -EBADF);
	assert_int_equal(ioe(0, 0x1000, 4, 999, 0), -EBADF);
	assert_int_equal(ioe(0, 0x1000, 4, pipes[1], 0), -EINVAL);
	assert_int_equal(ioe(0, 0x1000, 4, fd, DEL), -ENOENT);
	assert_int_equal(ioe(0, 0x1000, 4, 999, DEL), -EBADF);
	assert_int_equal(ioe(5, 0x1000, 4, fd, MATCH), 0);
	assert_int_equal(ioe(5, 0x1000, 4, fd2, MATCH), -EEXIST);
	assert_int_equal(ioe(0, 0x1000, 4, fd2, 0), -EEXIST);
	assert_int_equal(ioe(0, 0x1000, 0, fd2, 0), -EEXIST);
	assert_int_equal(ioe(6, 0x1000, 4, fd2, MATCH), 0);
	assert_int_equal(ioe(0, 0x1000, 2, fd2, 0), 0);
	assert_int_equal(ioe(5, 0x1000, 4, fd, MATCH | KVM_IOEVENTFD_FLAG_PIO), 0);
	assert_int_equal(ioe(5, 0x1000, 4, fd2, MATCH | DEL), -ENOENT);
	assert_int_equal(ioe(6, 0x1000, 4, fd, MATCH | DEL), -ENOENT);
	assert_int_equal(ioe(5, 0x1000, 4, copy, MATCH | DEL), 0);
	assert_int_equal(ioe(5, 0x1000, 4, copy, MATCH | DEL), -ENOENT);
	close(fd), close(fd2), close(copy), close(pipes[0]), close(pipes[1]);
}

static void test_ioeventfd_fires(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK), any = eventfd(0, EFD_NONBLOCK);
	struct dev d = { .d.ops = &dev_ops };
	int fd2 = dup(fd);

	assert_int_equal(iobus_add_dev(&bus, IO_MMIO, 0x1000, 0x1000, &d.d), 0);
	assert_int_equal(ioe(0xfffffffe, 0x1000, 4, fd2, MATCH), 0);
	assert_int_equal(ioe(0, 0x1100, 0, any, 0), 0);
	close(fd2);
	assert_int_equal(out(IO_MMIO, 0x1000, 4, 0xfffffffe), 0);
	assert_int_equal(out(IO_MMIO, 0x1000, 4, 0xfffffffe), 0);
	assert_int_equal(drain(fd), 2);
	assert_int_equal(d.writes, 0);
	assert_int_equal(out(IO_MMIO, 0x1000, 4, 1), 0);
	assert_int_equal(out(IO_MMIO, 0x1000, 8, 0xfffffffe), 0);
	assert_int_equal(out(IO_MMIO, 0x1001, 4, 0xfffffffe), 0);
	assert_int_equal(drain(fd), 0);
	assert_int_equal(d.writes, 3);
	for (unsigned len = 1; len <= 8; len *= 2)
		assert_int_equal(out(IO_MMIO, 0x1100, len, 0), 0);
	assert_int_equal(drain(any), 4);
	assert_int_equal(ioe(0, 0x1100, 0, any, DEL), 0);
	assert_int_equal(out(IO_MMIO, 0x1100, 4, 0), 0);
	assert_int_equal(drain(any), 0);
	/* The bus that x86 has not. */
	assert_int_equal(ioe(0, 0x1100, 2, any, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY), 0);
	assert_int_equal(ioe(0, 0x1100, 2, any, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY), -EEXIST);
	assert_int_equal(out(IO_MMIO, 0x1100, 2, 0), 0);
	assert_int_equal(drain(any), 0);
	assert_int_equal(ioe(0, 0x1100, 2, any, DEL | KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY), 0);
	close(fd), close(any);
}

struct counted {
	struct io_event e;
	unsigned hits;
};
static bool hit(struct io_event *e, void *vcpu, u64 addr, unsigned len, const void *data)
{
	container_of(e, struct counted, e)->hits++;
	return true;
}

/* The hash grows, keeps everything, and takes deletions and re-insertions without growing for ever. */
static void test_many_events(void **state)
{
	enum { N = 4096 };
	struct counted *c = calloc(N, sizeof(*c));

	for (unsigned i = 0; i < N; i++) {
		c[i].e = (struct io_event){ .addr = 0xfe000000 + i * 4, .len = 4, .signal = hit };
		assert_int_equal(iobus_add_event(&bus, IO_MMIO, &c[i].e), 0);
	}
	for (unsigned round = 0; round < 4; round++)
		for (unsigned i = 0; i < N; i += 2) {
			iobus_del_event(&bus, IO_MMIO, &c[i].e);
			assert_int_equal(iobus_add_event(&bus, IO_MMIO, &c[i].e), 0);
			assert_int_equal(iobus_add_event(&bus, IO_MMIO, &c[i].e), -EEXIST);
		}
	for (unsigned i = 0; i < N; i += 2)
		iobus_del_event(&bus, IO_MMIO, &c[i].e);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(out(IO_MMIO, 0xfe000000 + i * 4, 4, i), i % 2 ? 0 : -EOPNOTSUPP);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(c[i].hits, i % 2);
	for (unsigned i = 1; i < N; i += 2)
		iobus_del_event(&bus, IO_MMIO, &c[i].e);
	free(c);
}

static int zone(u64 addr, u32 size, u32 pio, bool add)
{
	struct kvm_coalesced_mmio_zone z = { .addr = addr, .size = size };

	z.pio = pio;
	return iobus_coalesced(&bus, &z, add);
}

static void test_coalesced(void **state)
{
	struct kvm_coalesced_mmio_ring *r = bus.ring;
	u32 max = KVM_COALESCED_MMIO_MAX, taken = 0;

	assert_int_equal(zone(0xb8000, 0x1000, 2, true), -EINVAL);
	assert_int_equal(zone(0xb8000, 0x1000, 0, true), 0);
	assert_int_equal(zone(0x70, 1, 1, true), 0);
	assert_int_equal(out(IO_MMIO, 0xb8ffe, 4, 0), -EOPNOTSUPP);
	assert_int_equal(out(IO_MMIO, 0xb7ffe, 4, 0), -EOPNOTSUPP);
	assert_int_equal(out(IO_PIO, 0xb8000, 4, 0), -EOPNOTSUPP);
	assert_int_equal(out(IO_MMIO, 0xb8ffc, 4, 0x11223344), 0);
	assert_int_equal(out(IO_PIO, 0x70, 1, 0xab), 0);
	assert_int_equal(r->last, 2);
	assert_int_equal(r->coalesced_mmio[0].phys_addr, 0xb8ffc);
	assert_int_equal(r->coalesced_mmio[0].len, 4);
	assert_int_equal(r->coalesced_mmio[0].pio, 0);
	assert_memory_equal(r->coalesced_mmio[0].data, "\x44\x33\x22\x11", 4);
	assert_int_equal(r->coalesced_mmio[1].pio, 1);
	assert_int_equal(r->coalesced_mmio[1].data[0], 0xab);
	while (out(IO_MMIO, 0xb8000, 1, 0) == 0)
		taken++;
	assert_int_equal(taken, max - 1 - 2);
	r->first = 1;
	assert_int_equal(out(IO_MMIO, 0xb8000, 1, 0), 0);
	assert_int_equal(r->last, 0);
	r->last = 0xffffffff; /* a hostile VMM */
	assert_int_equal(out(IO_MMIO, 0xb8000, 1, 0), -EOPNOTSUPP);
	r->last = r->first = 0;
	assert_int_equal(zone(0xb0000, 0x10000, 0, false), 0); /* larger than the zone: not meant */
	assert_int_equal(out(IO_MMIO, 0xb8000, 1, 0), 0);
	assert_int_equal(zone(0xb8100, 0x10, 0, false), 0);
	assert_int_equal(out(IO_MMIO, 0xb8000, 1, 0), -EOPNOTSUPP);
	assert_int_equal(out(IO_PIO, 0x70, 1, 0), 0);
	assert_int_equal(zone(0x70, 1, 1, false), 0);
	assert_int_equal(zone(0x70, 1, 1, false), 0);
	assert_int_equal(out(IO_PIO, 0x70, 1, 0), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(n) cmocka_unit_test_setup_teardown(test_##n, setup, teardown)
		T(devices), T(ioeventfd_errors), T(ioeventfd_fires), T(many_events), T(coalesced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
