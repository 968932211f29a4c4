/* SPDX-License-Identifier: MIT */
/*
 * The I/O APIC (Intel 82093AA data sheet): 24 pins, redirection table, version 0x11.
 *
 * `irr` has a bit for each line that is up (an edge stays in it until the line falls, so that raising a line that is already up counts as
 * coalesced). A level pin that a LAPIC has taken carries Remote IRR until that LAPIC's EOI; if the line is still up then, it is sent
 * again. Polarity is what the VMM makes of it: a raised GSI is active. `vectors` holds the vectors of all pins, so that EOIs of MSIs, IPIs
 * and timers need not take the lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/sys.h"
#include "irqchip/chips.h"

#define RED_VECTOR 0xffull
#define RED_LOGICAL BIT(11)
#define RED_STATUS BIT(12)
#define RED_REMOTE_IRR BIT(14)
#define RED_LEVEL BIT(15)
#define RED_MASKED BIT(16)

#define RTC_PIN 8
/* A level line that is up again after each of so many EOIs is a stuck one: give the guest 10 ms of air. */
#define STORM_COUNT 10000
#define STORM_PAUSE_NS 10000000ull

struct ioapic {
	struct io_dev dev;
	struct irqchip *chip;
	u64 base;
	u32 ioregsel, id;
	u32 irr;
	u32 irr_delivered; /* edges that have been sent: not pending in KVM_GET_IRQCHIP's view */
	u64 redir[IOAPIC_PINS];
	u32 lines[IOAPIC_PINS];
	u32 eoi_count[IOAPIC_PINS];
	u64 vectors[4];    /* atomic words */
	u64 rtc_dest[16];  /* LAPIC slots that took the last RTC interrupt */
	u8 rtc_vector;
	struct svc_timer storm;
};

static void update_vectors(struct ioapic *io)
{
	u64 v[4] = { 0, 0, 0, 0 };

	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		v[(io->redir[i] & RED_VECTOR) >> 6] |= BIT(io->redir[i] & 63);
	for (unsigned i = 0; i < 4; i++)
		__atomic_store_n(&io->vectors[i], v[i], __ATOMIC_SEQ_CST);
}

bool ioapic_has_vector(const struct irqchip *c, u8 vector)
{
	return c->ioapic && (load_relaxed(&c->ioapic->vectors[vector >> 6]) & BIT(vector & 63));
}

/* The RTC's interrupt is still in some LAPIC: VMMs count lost RTC ticks by this (KVM_IRQ_LINE_STATUS). */
static bool rtc_in_flight(struct ioapic *io)
{
	u32 n = load_acquire(&io->chip->nlapics);

	for (u32 i = 0; i < n; i++) {
		struct lapic *l = irqchip_lapic(io->chip, i);

		if (l && (io->rtc_dest[i >> 6] & BIT(i & 63)) &&
			(apic_vec_test(l, APIC_IRR, io->rtc_vector) || apic_vec_test(l, APIC_ISR, io->rtc_vector)))
			return true;
	}
	return false;
}

/* Send the pin's message. How many LAPICs took it; -1 if masked or waiting for an EOI. */
static int ioapic_service(struct ioapic *io, unsigned pin, bool want_status)
{
	u64 e = io->redir[pin];
	struct irq_msg m = {
		.dest = (u32)(e >> 56),
		.vector = (u8)e,
		.delivery = (e >> 8) & 7,
		.logical = e & RED_LOGICAL,
		.level = e & RED_LEVEL,
		.assert = true,
	};
	u64 *dest = NULL;
	int r;

	if ((e & RED_MASKED) || (m.level && (e & RED_REMOTE_IRR)))
		return -1;
	if (!m.level)
		io->irr_delivered |= 1u << pin;
	if (pin == RTC_PIN && want_status) {
		memset(io->rtc_dest, 0, sizeof(io->rtc_dest));
		io->rtc_vector = m.vector;
		dest = io->rtc_dest;
	}
	/* Before the message: the EOI may come, and wait for our lock, at once. */
	if (m.level)
		io->redir[pin] |= RED_REMOTE_IRR;
	r = irq_deliver_to(io->chip, NULL, &m, dest);
	if (m.level && !r)
		io->redir[pin] &= ~RED_REMOTE_IRR;
	return r;
}

static int ioapic_set_irq(struct ioapic *io, unsigned pin, bool level, bool want_status)
{
	u32 bit = 1u << pin;
	bool was = io->irr & bit;

	if (!level) {
		io->irr &= ~bit;
		return 1;
	}
	if (pin == RTC_PIN && want_status && rtc_in_flight(io))
		return 0;
	io->irr |= bit;
	if (!(io->redir[pin] & RED_LEVEL)) {
		io->irr_delivered &= ~bit;
		if (was)
			return 0;
	}
	return ioapic_service(io, pin, want_status);
}

int ioapic_set_pin_locked(struct irqchip *c, unsigned pin, enum irq_source src, int level, bool want_status)
{
	struct ioapic *io = c->ioapic;

	if (!io || pin >= IOAPIC_PINS)
		return -1;
	return ioapic_set_irq(io, pin, irq_line_state(&io->lines[pin], src, level), want_status);
}

/* ---- end of interrupt ---- */

static void eoi_pin(struct ioapic *io, struct lapic *l, unsigned pin, bool level)
{
	struct irqchip *c = io->chip;

	irq_notify_ack_locked(c, KVM_IRQCHIP_IOAPIC, pin);
	/* With directed EOI the guest would write the IOAPIC's own EOI register, which version 0x11 lacks: KVM offers it only without
	 * an IOAPIC in the kernel, but the VMM may have set the bit. */
	if (!level || !(io->redir[pin] & RED_LEVEL) || (apic_get(l, APIC_SPIV) & APIC_SPIV_DIRECTED_EOI))
		return;
	io->redir[pin] &= ~RED_REMOTE_IRR;
	if ((io->redir[pin] & RED_MASKED) || !(io->irr & (1u << pin))) {
		io->eoi_count[pin] = 0;
		return;
	}
	if (++io->eoi_count[pin] >= STORM_COUNT && c->svc) {
		io->eoi_count[pin] = 0;
		svc_timer_set(c->svc, &io->storm, sys_clock_ns(CLOCK_MONOTONIC) + STORM_PAUSE_NS);
		return;
	}
	ioapic_service(io, pin, false);
}

void ioapic_eoi(struct irqchip *c, struct lapic *l, u8 vector, bool level)
{
	struct ioapic *io = c->ioapic;

	if (!io)
		return;
	mutex_lock(&c->lock);
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		if ((io->redir[i] & RED_VECTOR) == vector)
			eoi_pin(io, l, i, level);
	irqchip_unlock(c);
}

static void storm_over(struct svc_timer *t)
{
	struct ioapic *io = container_of(t, struct ioapic, storm);

	mutex_lock(&io->chip->lock);
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		if ((io->redir[i] & RED_LEVEL) && (io->irr & (1u << i)))
			ioapic_service(io, i, false);
	irqchip_unlock(io->chip);
}

/* ---- registers ---- */

static u32 ioapic_read_reg(struct ioapic *io)
{
	unsigned pin = (io->ioregsel - 0x10) >> 1;

	switch (io->ioregsel) {
	case 0: /* ID */
	case 2: return (io->id & 0xf) << 24; /* arbitration ID */
	case 1: return (IOAPIC_PINS - 1) << 16 | 0x11;
	}
	if (io->ioregsel < 0x10 || pin >= IOAPIC_PINS)
		return ~0u;
	return (u32)(io->ioregsel & 1 ? io->redir[pin] >> 32 : io->redir[pin]);
}

static void ioapic_write_redir(struct ioapic *io, unsigned pin, bool high, u32 val)
{
	const u64 ro = RED_STATUS | RED_REMOTE_IRR;
	u64 old = io->redir[pin], e;

	if (high)
		e = (u32)old | (u64)val << 32;
	else
		e = (old & ~0xffffffffull) | (val & ~ro) | (old & ro);
	/* Linux resets a stuck level interrupt by switching the pin to edge and back. */
	if (!(e & RED_LEVEL))
		e &= ~RED_REMOTE_IRR;
	io->redir[pin] = e;
	update_vectors(io);
	if ((old ^ e) & RED_MASKED)
		irq_notify_mask_locked(io->chip, KVM_IRQCHIP_IOAPIC, pin, e & RED_MASKED);
	if (!(e & RED_LEVEL) || (e & (RED_MASKED | RED_REMOTE_IRR)) || !(io->irr & (1u << pin)))
		return;
	/* A line held by a resampling irqfd may have fallen at the device since the EOI (threaded handlers unmask late): ask. */
	if (old & RED_MASKED) {
		int gsi = irq_pin_to_gsi_locked(io->chip, KVM_IRQCHIP_IOAPIC, pin);

		if (gsi >= 0)
			irqfd_acked_locked(io->chip, (u32)gsi);
	}
	if (io->irr & (1u << pin))
		ioapic_service(io, pin, false);
}

static void ioapic_write_reg(struct ioapic *io, u32 val)
{
	unsigned pin = (io->ioregsel - 0x10) >> 1;

	if (io->ioregsel == 0)
		io->id = (val >> 24) & 0xf;
	else if (io->ioregsel >= 0x10 && pin < IOAPIC_PINS)
		ioapic_write_redir(io, pin, io->ioregsel & 1, val);
}

static bool in_range(struct ioapic *io, u64 addr)
{
	return addr - load_relaxed(&io->base) < 0x100;
}

static int ioapic_read(struct io_dev *d, void *vcpu, u64 addr, unsigned len, void *data)
{
	struct ioapic *io = container_of(d, struct ioapic, dev);
	u32 val = 0;

	if (!in_range(io, addr))
		return -EOPNOTSUPP;
	mutex_lock(&io->chip->lock);
	switch (addr & 0xff) {
	case 0x00: val = io->ioregsel; break;
	case 0x10: val = ioapic_read_reg(io); break;
	}
	irqchip_unlock(io->chip);
	memset(data, 0, len);
	memcpy(data, &val, MIN(len, 4u));
	return 0;
}

static int ioapic_write(struct io_dev *d, void *vcpu, u64 addr, unsigned len, const void *data)
{
	struct ioapic *io = container_of(d, struct ioapic, dev);
	u32 val = 0;

	if (!in_range(io, addr))
		return -EOPNOTSUPP;
	memcpy(&val, data, MIN(len, 4u));
	mutex_lock(&io->chip->lock);
	switch (addr & 0xff) {
	case 0x00: io->ioregsel = val & 0xff; break;
	case 0x10: ioapic_write_reg(io, val); break;
	}
	irqchip_unlock(io->chip);
	return 0;
}

static const struct io_dev_ops ioapic_ops = { ioapic_read, ioapic_write };

/* ---- state ---- */

void ioapic_get_locked(struct irqchip *c, struct kvm_ioapic_state *s)
{
	struct ioapic *io = c->ioapic;

	memset(s, 0, sizeof(*s));
	s->base_address = io->base;
	s->ioregsel = io->ioregsel;
	s->id = io->id;
	s->irr = io->irr & ~io->irr_delivered;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		s->redirtbl[i].bits = io->redir[i];
}

void ioapic_set_locked(struct irqchip *c, const struct kvm_ioapic_state *s)
{
	struct ioapic *io = c->ioapic;

	store_relaxed(&io->base, s->base_address);
	io->ioregsel = s->ioregsel & 0xff;
	io->id = s->id & 0xf;
	io->irr = 0;
	io->irr_delivered = 0;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		io->redir[i] = s->redirtbl[i].bits;
	update_vectors(io);
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		if (s->irr & (1u << i))
			ioapic_set_irq(io, i, true, true);
}

int ioapic_create(struct irqchip *c)
{
	struct ioapic *io = calloc(1, sizeof(*io));
	int r = c->svc ? svc_timer_reserve(c->svc) : 0;

	if (!io || r) {
		free(io);
		return -ENOMEM;
	}
	io->dev.ops = &ioapic_ops;
	io->chip = c;
	io->base = IOAPIC_DEFAULT_BASE;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		io->redir[i] = RED_MASKED;
	update_vectors(io);
	svc_timer_init(&io->storm, storm_over);
	c->ioapic = io;
	r = iobus_add_dev(c->bus, IO_MMIO, IOAPIC_DEFAULT_BASE, 0x100, &io->dev);
	if (r)
		ioapic_destroy(c);
	return r;
}

void ioapic_destroy(struct irqchip *c)
{
	struct ioapic *io = c->ioapic;

	if (!io)
		return;
	iobus_del_dev(c->bus, IO_MMIO, &io->dev);
	if (c->svc)
		svc_timer_cancel_sync(c->svc, &io->storm);
	c->ioapic = NULL;
	free(io);
}
