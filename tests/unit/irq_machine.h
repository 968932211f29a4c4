/* SPDX-License-Identifier: MIT */
/*
 * A machine for the interrupt tests: an irqchip, LAPICs without vCPUs, a bus. Guest TSC runs at 1 GHz with CLOCK_MONOTONIC.
 */
#ifndef IRQ_MACHINE_H
#define IRQ_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"
#include "irqchip/irqchip.h"

#define MS 1000000ull
#define NCPU 4

static struct {
	struct irqchip chip;
	struct iobus bus;
	struct service *svc;
	struct lapic cpu[NCPU];
	u32 kicks[NCPU];
	int eoi_exit;
} m;

static __attribute__((unused)) u64 now(void)
{
	return sys_clock_ns(CLOCK_MONOTONIC);
}

static void m_kick(struct lapic *l)
{
	__atomic_fetch_add(&m.kicks[l - m.cpu], 1, __ATOMIC_SEQ_CST);
}
static void m_eoi_exit(struct lapic *l, u8 vector)
{
	m.eoi_exit = vector;
}
static u64 m_tsc(struct lapic *l)
{
	return now();
}
static u64 m_tsc_to_ns(struct lapic *l, u64 d)
{
	return d;
}
static void m_sync(struct irqchip *c)
{
}
static void m_bus_sync(struct iobus *b)
{
}
static const struct irq_ops m_ops = { .kick = m_kick, .ioapic_eoi_exit = m_eoi_exit, .guest_tsc = m_tsc, .tsc_to_ns = m_tsc_to_ns,
	.synchronize = m_sync };
static const struct iobus_ops m_bus_ops = { .synchronize = m_bus_sync };

static __attribute__((unused)) void outb(u16 port, u8 v)
{
	assert_int_equal(iobus_write(&m.bus, IO_PIO, NULL, port, 1, &v), 0);
}
static __attribute__((unused)) u8 inb(u16 port)
{
	u8 v = 0xcc;
	assert_int_equal(iobus_read(&m.bus, IO_PIO, NULL, port, 1, &v), 0);
	return v;
}
static __attribute__((unused)) void ioapic_wr(u32 reg, u32 v)
{
	assert_int_equal(iobus_write(&m.bus, IO_MMIO, NULL, 0xfec00000, 4, &reg), 0);
	assert_int_equal(iobus_write(&m.bus, IO_MMIO, NULL, 0xfec00010, 4, &v), 0);
}
static __attribute__((unused)) u32 ioapic_rd(u32 reg)
{
	u32 v;
	assert_int_equal(iobus_write(&m.bus, IO_MMIO, NULL, 0xfec00000, 4, &reg), 0);
	assert_int_equal(iobus_read(&m.bus, IO_MMIO, NULL, 0xfec00010, 4, &v), 0);
	return v;
}
static __attribute__((unused)) void ioapic_pin(unsigned pin, u32 lo, u32 dest)
{
	ioapic_wr(0x11 + 2 * pin, dest << 24);
	ioapic_wr(0x10 + 2 * pin, lo);
}
static __attribute__((unused)) void apic_w(unsigned cpu, u32 off, u32 v)
{
	lapic_mmio_write(&m.cpu[cpu], off, 4, &v);
}
static __attribute__((unused)) u32 apic_r(unsigned cpu, u32 off)
{
	u32 v = 0xcccccccc;
	lapic_mmio_read(&m.cpu[cpu], off, 4, &v);
	return v;
}
/* The vCPU takes its highest interrupt; -1 if there is none. */
static __attribute__((unused)) int take(unsigned cpu)
{
	int v = lapic_pending(&m.cpu[cpu]);
	if (v >= 0)
		lapic_ack(&m.cpu[cpu], v);
	return v;
}
static __attribute__((unused)) int line(u32 gsi, int level)
{
	int st = -99;
	assert_int_equal(irqchip_set_line(&m.chip, gsi, level, &st), 0);
	return st;
}
static __attribute__((unused)) int msi(u32 addr, u32 data)
{
	struct kvm_msi k = { .address_lo = addr, .data = data };
	return irqchip_signal_msi(&m.chip, &k);
}
static __attribute__((unused)) void pic_init_pair(u8 icw4)
{
	outb(0x20, 0x11), outb(0x21, 0x20), outb(0x21, 4), outb(0x21, icw4);
	outb(0xa0, 0x11), outb(0xa1, 0x28), outb(0xa1, 2), outb(0xa1, icw4);
}

static int m_open(bool split)
{
	memset(&m, 0, sizeof(m));
	m.eoi_exit = -1;
	if (service_start(&m.svc, "test") || iobus_init(&m.bus, &m_bus_ops) || irqchip_init(&m.chip, &m_ops, &m.bus, m.svc))
		return -1;
	if (split ? irqchip_split(&m.chip, 24) : irqchip_create(&m.chip))
		return -1;
	for (unsigned i = 0; i < NCPU; i++) {
		lapic_init(&m.cpu[i], &m.chip, i, true);
		irqchip_add_lapic(&m.chip, &m.cpu[i]);
		apic_w(i, 0xf0, 0x1ff);
	}
	memset(m.kicks, 0, sizeof(m.kicks));
	return 0;
}
static __attribute__((unused)) int m_setup(void **state)
{
	return m_open(false);
}
static __attribute__((unused)) int m_setup_split(void **state)
{
	return m_open(true);
}
static __attribute__((unused)) int m_teardown(void **state)
{
	for (unsigned i = 0; i < NCPU; i++) {
		irqchip_del_lapic(&m.chip, &m.cpu[i]);
		lapic_destroy(&m.cpu[i]);
	}
	irqchip_destroy(&m.chip);
	iobus_destroy(&m.bus);
	service_stop(m.svc);
	return 0;
}
static __attribute__((unused)) bool wait_nonzero(u32 *w, u32 n)
{
	u64 end = now() + 2000 * MS;
	while (load_acquire(w) < n && now() < end)
		usleep(200);
	return load_acquire(w) >= n;
}

#define T(f) cmocka_unit_test_setup_teardown(f, m_setup, m_teardown)
#define TS(f) cmocka_unit_test_setup_teardown(f, m_setup_split, m_teardown)

#endif
