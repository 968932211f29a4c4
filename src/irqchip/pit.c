/* SPDX-License-Identifier: MIT */
/*
 * The 8254 interval timer (Intel 8254 data sheet): three binary counters at ports 40..43, and port 61 with the gate and output of counter
 * 2. Counter 0 raises GSI 0.
 *
 * Nothing counts: a counter is its initial value and the time of its load, and what the guest reads is computed. Counter 0 has a
 * service timer. Ticks that come while the guest has not yet acknowledged the last one are, by default, kept in `pending` and raised
 * one by one as it does (reinjection): guests that count ticks keep the time. Masking GSI 0 forgets them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/sys.h"
#include "irqchip/chips.h"

#define PIT_HZ 1193182ull
#define NS 1000000000ull
#define MIN_PERIOD_NS 200000ull
#define MODE_NONE 0xff /* before the first control word */

/* How a counter is accessed (rw_mode), and which half comes next (read_state, write_state). */
enum { RW_LATCH, RW_LSB, RW_MSB, RW_WORD0, RW_WORD1 };

struct pit {
	struct io_dev dev;
	struct irqchip *chip;
	struct kvm_pit_channel_state ch[3];
	u32 flags;
	bool speaker, speaker_data;
	struct svc_timer timer;
	u64 period, expiry; /* counter 0; period 0: not running. A one-shot's expiry is ~0 once it is over */
	bool periodic;
	bool reinject;
	bool acked;         /* the guest has acknowledged the last tick */
	bool work;          /* a tick may be due: pit_work_locked() */
	u64 pending;        /* ticks that are owed */
};

static u64 now_ns(void)
{
	return sys_clock_ns(CLOCK_MONOTONIC);
}

/* ---- counters ---- */

/* Clock ticks since the counter was loaded. */
static u64 elapsed(const struct kvm_pit_channel_state *ch)
{
	s64 t = (s64)now_ns() - ch->count_load_time;

	return t > 0 ? (u64)((u128)(u64)t * PIT_HZ / NS) : 0;
}

static u16 counter(const struct kvm_pit_channel_state *ch)
{
	u64 d = elapsed(ch);

	switch (ch->mode) {
	case 0:
	case 1:
	case 4:
	case 5: return (u16)(ch->count - d);
	case 3: return (u16)(ch->count - (2 * d) % ch->count); /* square wave: counts by two */
	default: return (u16)(ch->count - d % ch->count);
	}
}

static bool output(const struct kvm_pit_channel_state *ch)
{
	u64 d = elapsed(ch);

	switch (ch->mode) {
	case 1: return d < ch->count;
	case 2: return d && d % ch->count == 0;
	case 3: return d % ch->count < (ch->count + 1) / 2;
	case 4:
	case 5: return d == ch->count;
	default: return d >= ch->count;
	}
}

static void latch_count(struct kvm_pit_channel_state *ch)
{
	if (ch->count_latched)
		return;
	ch->latched_count = counter(ch);
	ch->count_latched = ch->rw_mode;
}

static void latch_status(struct kvm_pit_channel_state *ch)
{
	if (ch->status_latched)
		return;
	ch->status = (u8)(output(ch) << 7 | (ch->rw_mode & 3) << 4 | (ch->mode & 7) << 1 | (ch->bcd & 1));
	ch->status_latched = 1;
}

static void set_gate(struct kvm_pit_channel_state *ch, u8 val)
{
	/* Modes 1, 2, 3, 5 restart on a rising gate; 0 and 4 would stop counting, which nobody uses. */
	if (val > ch->gate && ch->mode != 0 && ch->mode != 4)
		ch->count_load_time = (s64)now_ns();
	ch->gate = val;
}

/* ---- counter 0's timer ---- */

static void arm(struct pit *p, u64 expiry)
{
	p->expiry = expiry;
	if (p->chip->svc)
		svc_timer_set(p->chip->svc, &p->timer, expiry);
}

static void reset_reinject(struct pit *p)
{
	p->pending = 0;
	p->acked = true;
}

static void start_timer(struct pit *p, u32 count, bool periodic)
{
	/* With an HPET in legacy mode the VMM drives GSI 0. */
	if (p->flags & KVM_PIT_FLAGS_HPET_LEGACY)
		return;
	p->period = (u64)count * NS / PIT_HZ;
	if (periodic && p->period < MIN_PERIOD_NS)
		p->period = MIN_PERIOD_NS;
	p->periodic = periodic;
	reset_reinject(p);
	arm(p, (u64)p->ch[0].count_load_time + p->period);
}

static void load_count(struct pit *p, unsigned n, u32 val)
{
	struct kvm_pit_channel_state *ch = &p->ch[n];

	ch->count = val ? val : 0x10000;
	ch->count_load_time = (s64)now_ns();
	if (n)
		return;
	switch (ch->mode) {
	case 0:
	case 1:
	case 4: start_timer(p, ch->count, false); break;
	case 2:
	case 3: start_timer(p, ch->count, true); break;
	default: p->period = 0; arm(p, ~0ull);
	}
}

static void tick(struct svc_timer *t)
{
	struct pit *p = container_of(t, struct pit, timer);
	u64 now, n = 1;

	mutex_lock(&p->chip->lock);
	now = now_ns();
	if (p->expiry == ~0ull || now < p->expiry) { /* set anew while we waited for the lock */
		irqchip_unlock(p->chip);
		return;
	}
	if (p->periodic) {
		n += (now - p->expiry) / p->period;
		arm(p, p->expiry + n * p->period);
	} else {
		p->expiry = ~0ull;
	}
	if (p->reinject)
		p->pending += n;
	p->work = true;
	irqchip_unlock(p->chip);
}

/* A watchdog may have LVT0 as NMI on every CPU, counting on the PIT's line. */
static void deliver_watchdog(struct irqchip *c)
{
	u32 n = load_acquire(&c->nlapics);

	for (u32 i = 0; i < n; i++) {
		struct lapic *l = irqchip_lapic(c, i);

		if (l && ((apic_get(l, APIC_LVT0) >> 8) & 7) == DM_NMI)
			lapic_local_deliver(l, APIC_LVT0);
	}
}

void pit_work_locked(struct irqchip *c)
{
	struct pit *p = c->pit;

	while (p->work) {
		p->work = false;
		if (p->reinject) {
			if (!p->acked)
				return;
			p->acked = false;
		}
		irqchip_set_gsi_locked(c, 0, IRQ_SRC_PIT, 1, false);
		irqchip_set_gsi_locked(c, 0, IRQ_SRC_PIT, 0, false);
		deliver_watchdog(c);
	}
}

void pit_acked_locked(struct irqchip *c)
{
	struct pit *p = c->pit;

	if (!p->reinject)
		return;
	p->acked = true;
	if (p->pending && --p->pending)
		p->work = true;
}

void pit_mask_changed_locked(struct irqchip *c, bool masked)
{
	if (!masked && c->pit->reinject)
		reset_reinject(c->pit);
}

/* ---- ports ---- */

static void control_word(struct pit *p, u8 val)
{
	unsigned n = val >> 6, access = (val >> 4) & 3;
	struct kvm_pit_channel_state *ch = &p->ch[n % 3];

	if (n == 3) { /* read-back */
		for (n = 0; n < 3; n++) {
			if (!(val & (2u << n)))
				continue;
			if (!(val & 0x20))
				latch_count(&p->ch[n]);
			if (!(val & 0x10))
				latch_status(&p->ch[n]);
		}
		return;
	}
	if (access == RW_LATCH) {
		latch_count(ch);
		return;
	}
	ch->rw_mode = ch->read_state = ch->write_state = (u8)access;
	ch->mode = (val >> 1) & 7;
	if (ch->mode > 5)
		ch->mode -= 4;
	ch->bcd = val & 1;
}

static void write_counter(struct pit *p, unsigned n, u8 val)
{
	struct kvm_pit_channel_state *ch = &p->ch[n];

	switch (ch->write_state) {
	case RW_MSB: load_count(p, n, (u32)val << 8); break;
	case RW_WORD0:
		ch->write_latch = val;
		ch->write_state = RW_WORD1;
		break;
	case RW_WORD1:
		ch->write_state = RW_WORD0;
		load_count(p, n, ch->write_latch | (u32)val << 8);
		break;
	default: load_count(p, n, val);
	}
}

static u8 read_latched(struct kvm_pit_channel_state *ch)
{
	switch (ch->count_latched) {
	case RW_MSB: ch->count_latched = 0; return (u8)(ch->latched_count >> 8);
	case RW_WORD0: ch->count_latched = RW_MSB; return (u8)ch->latched_count;
	default: ch->count_latched = 0; return (u8)ch->latched_count;
	}
}

static u8 read_counter(struct kvm_pit_channel_state *ch)
{
	if (ch->status_latched) {
		ch->status_latched = 0;
		return ch->status;
	}
	if (ch->count_latched)
		return read_latched(ch);
	switch (ch->read_state) {
	case RW_MSB: return (u8)(counter(ch) >> 8);
	case RW_WORD0: ch->read_state = RW_WORD1; return (u8)counter(ch);
	case RW_WORD1: ch->read_state = RW_WORD0; return (u8)(counter(ch) >> 8);
	default: return (u8)counter(ch);
	}
}

static u8 read_speaker(struct pit *p)
{
	/* Bit 4 follows the DRAM refresh, every 15 us or so: BIOSes time by it. */
	return (u8)(p->speaker_data << 1 | (p->ch[2].gate & 1) | output(&p->ch[2]) << 5 | ((now_ns() >> 14) & 1) << 4);
}

static int pit_read(struct io_dev *d, void *vcpu, u64 addr, unsigned len, void *data)
{
	struct pit *p = container_of(d, struct pit, dev);
	u8 val = 0;

	memset(data, 0, len);
	if (addr == 0x43)
		return 0;
	mutex_lock(&p->chip->lock);
	val = addr == 0x61 ? read_speaker(p) : read_counter(&p->ch[addr & 3]);
	irqchip_unlock(p->chip);
	*(u8 *)data = val;
	return 0;
}

static int pit_write(struct io_dev *d, void *vcpu, u64 addr, unsigned len, const void *data)
{
	struct pit *p = container_of(d, struct pit, dev);
	u8 val = *(const u8 *)data;

	mutex_lock(&p->chip->lock);
	if (addr == 0x61) {
		p->speaker_data = (val >> 1) & 1;
		set_gate(&p->ch[2], val & 1);
	} else if (addr == 0x43) {
		control_word(p, val);
	} else {
		write_counter(p, addr & 3, val);
	}
	irqchip_unlock(p->chip);
	return 0;
}

static const struct io_dev_ops pit_ops = { pit_read, pit_write };

/* ---- the VMM's side ---- */

int pit_create(struct irqchip *c, const struct kvm_pit_config *cfg)
{
	struct pit *p;
	int r;

	if (c->pit)
		return -EEXIST;
	if (!c->kernel)
		return -ENOENT;
	p = calloc(1, sizeof(*p));
	r = c->svc ? svc_timer_reserve(c->svc) : 0;
	if (!p || r) {
		free(p);
		return -ENOMEM;
	}
	p->dev.ops = &pit_ops;
	p->chip = c;
	p->reinject = true;
	p->expiry = ~0ull;
	svc_timer_init(&p->timer, tick);
	reset_reinject(p);
	for (unsigned i = 0; i < 3; i++) {
		p->ch[i].mode = MODE_NONE;
		p->ch[i].gate = i != 2;
		load_count(p, i, 0);
	}
	r = iobus_add_dev(c->bus, IO_PIO, 0x40, 4, &p->dev);
	if (!r && (cfg->flags & KVM_PIT_SPEAKER_DUMMY))
		r = iobus_add_dev(c->bus, IO_PIO, 0x61, 1, &p->dev);
	if (r) {
		iobus_del_dev(c->bus, IO_PIO, &p->dev);
		if (c->svc)
			svc_timer_cancel_sync(c->svc, &p->timer);
		free(p);
		return r;
	}
	mutex_lock(&c->lock);
	c->pit = p;
	irqchip_unlock(c);
	return 0;
}

void pit_destroy(struct irqchip *c)
{
	struct pit *p = c->pit;

	if (!p)
		return;
	iobus_del_dev(c->bus, IO_PIO, &p->dev);
	if (c->svc)
		svc_timer_cancel_sync(c->svc, &p->timer);
	mutex_lock(&c->lock);
	c->pit = NULL;
	mutex_unlock(&c->lock);
	free(p);
}

int pit_get(struct irqchip *c, struct kvm_pit_state2 *s)
{
	if (!c->pit)
		return -ENXIO;
	memset(s, 0, sizeof(*s));
	mutex_lock(&c->lock);
	memcpy(s->channels, c->pit->ch, sizeof(s->channels));
	s->flags = c->pit->flags;
	irqchip_unlock(c);
	return 0;
}

int pit_set(struct irqchip *c, const struct kvm_pit_state2 *s)
{
	struct pit *p = c->pit;
	bool hpet_starts;
	u8 mode;

	if (!p)
		return -ENXIO;
	mutex_lock(&c->lock);
	hpet_starts = !(p->flags & KVM_PIT_FLAGS_HPET_LEGACY) && (s->flags & KVM_PIT_FLAGS_HPET_LEGACY);
	memcpy(p->ch, s->channels, sizeof(p->ch));
	p->flags = s->flags;
	for (unsigned i = 0; i < 3; i++)
		p->ch[i].gate &= 1;
	mode = p->ch[0].mode;
	if (hpet_starts)
		p->ch[0].mode = MODE_NONE; /* stops the timer; the mode is kept for when the HPET lets go */
	for (unsigned i = 0; i < 3; i++)
		load_count(p, i, p->ch[i].count);
	p->ch[0].mode = mode;
	irqchip_unlock(c);
	return 0;
}

int pit_reinject(struct irqchip *c, bool on)
{
	if (!c->pit)
		return -ENXIO;
	mutex_lock(&c->lock);
	if (on && !c->pit->reinject)
		reset_reinject(c->pit);
	c->pit->reinject = on;
	irqchip_unlock(c);
	return 0;
}
