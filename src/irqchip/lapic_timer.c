/* SPDX-License-Identifier: MIT */
/*
 * The LAPIC timer: one-shot, periodic, TSC deadline (SDM 3, 11.5.4).
 *
 * timer_expiry_ns (CLOCK_MONOTONIC; ~0: off) is the truth and belongs to the vCPU's thread. The service timer is an alarm clock: it only
 * kicks the vCPU, whose lapic_run_timer() looks at the clock itself. An alarm that was overtaken by a new setting therefore does nothing,
 * and a vCPU that wakes by its own means need not wait for it.
 *
 * Periods that passed while the vCPU did not run collapse into one interrupt; the phase is kept.
 */
#include <time.h>

#include "base/sys.h"
#include "irqchip/chips.h"

#define OFF (~0ull)
/* A guest must not be able to keep the host busy with nothing but its timer. */
#define MIN_PERIOD_NS 200000ull

static u64 now_ns(void)
{
	return sys_clock_ns(CLOCK_MONOTONIC);
}

static u32 divisor(u32 tdcr)
{
	u32 v = ((tdcr & 3) | ((tdcr & 8) >> 1)) + 1;

	return 1u << (v & 7);
}

static u64 count_ns(const struct lapic *l)
{
	return MAX(l->chip->bus_cycle_ns, 1ull) * divisor(apic_get(l, APIC_TDCR));
}

static u64 count_to_ns(const struct lapic *l, u32 count)
{
	return count * count_ns(l);
}

static bool periodic(const struct lapic *l)
{
	return l->timer_mode == APIC_TIMER_PERIODIC;
}

static u64 limit_period(const struct lapic *l, u64 period)
{
	return periodic(l) && period && period < MIN_PERIOD_NS ? MIN_PERIOD_NS : period;
}

static void set_expiry(struct lapic *l, u64 expiry)
{
	u64 old = l->timer_expiry_ns;

	l->timer_expiry_ns = expiry;
	if (l->chip->svc && !(old == OFF && expiry == OFF))
		svc_timer_set(l->chip->svc, &l->timer, expiry);
}

static void alarm_rang(struct svc_timer *t)
{
	struct lapic *l = container_of(t, struct lapic, timer);

	store_relaxed(&l->timer_pending, 1);
	lapic_kick(l);
}

void lapic_timer_init(struct lapic *l)
{
	svc_timer_init(&l->timer, alarm_rang);
	l->timer_expiry_ns = OFF;
	l->timer_period_ns = 0;
	l->timer_mode = 0;
	l->tsc_deadline = 0;
}

void lapic_timer_reset(struct lapic *l)
{
	set_expiry(l, OFF);
	l->timer_period_ns = 0;
	l->tsc_deadline = 0;
	store_relaxed(&l->timer_pending, 0);
}

/* The time at which the guest's TSC reaches the deadline; `now` if it has. */
static u64 deadline_to_ns(struct lapic *l, u64 now)
{
	const struct irq_ops *ops = l->chip->ops;
	u64 tsc = ops->guest_tsc(l), ns;

	if (tsc >= l->tsc_deadline)
		return now;
	ns = ops->tsc_to_ns(l, l->tsc_deadline - tsc);
	return ns < OFF - 1 - now ? now + ns + 1 : OFF - 1;
}

static void arm(struct lapic *l, u64 start, u64 expiry)
{
	l->timer_start_ns = start;
	set_expiry(l, expiry);
	if (expiry <= start)
		lapic_run_timer(l);
}

void lapic_timer_start(struct lapic *l)
{
	u64 now;

	store_relaxed(&l->timer_pending, 0);
	if (l->timer_mode == APIC_TIMER_DEADLINE) {
		if (!l->tsc_deadline) {
			set_expiry(l, OFF);
			return;
		}
		now = now_ns();
		arm(l, now, deadline_to_ns(l, now));
		return;
	}
	l->timer_period_ns = limit_period(l, count_to_ns(l, apic_get(l, APIC_TMICT)));
	now = now_ns();
	if (l->timer_period_ns)
		arm(l, now, now + l->timer_period_ns);
	else
		set_expiry(l, OFF);
}

void lapic_timer_mode_changed(struct lapic *l)
{
	u32 mode = apic_get(l, APIC_LVTT) & (l->deadline_cpuid ? APIC_TIMER_MODES : APIC_TIMER_PERIODIC);
	u32 old = l->timer_mode;

	if (mode == old)
		return;
	l->timer_mode = mode;
	/* Between deadline and count the timer is disarmed; between one-shot and periodic it goes on. */
	if ((mode == APIC_TIMER_DEADLINE) != (old == APIC_TIMER_DEADLINE)) {
		set_expiry(l, OFF);
		apic_put(l, APIC_TMICT, 0);
		l->timer_period_ns = 0;
		l->tsc_deadline = 0;
		store_relaxed(&l->timer_pending, 0);
	}
	l->timer_period_ns = limit_period(l, l->timer_period_ns);
}

void lapic_timer_restore(struct lapic *l)
{
	u64 left, now = now_ns();
	u32 old = l->timer_mode;

	set_expiry(l, OFF);
	store_relaxed(&l->timer_pending, 0);
	l->timer_mode = apic_get(l, APIC_LVTT) & (l->deadline_cpuid ? APIC_TIMER_MODES : APIC_TIMER_PERIODIC);
	left = count_to_ns(l, apic_get(l, APIC_TMCCT));
	apic_put(l, APIC_TMCCT, 0);
	l->timer_period_ns = 0;
	if (l->timer_mode == APIC_TIMER_DEADLINE && old == APIC_TIMER_DEADLINE) {
		lapic_timer_start(l); /* the deadline is an MSR of its own: it stands */
		return;
	}
	l->tsc_deadline = 0;
	if (l->timer_mode == APIC_TIMER_DEADLINE || !apic_get(l, APIC_TMICT))
		return;
	l->timer_period_ns = limit_period(l, count_to_ns(l, apic_get(l, APIC_TMICT)));
	if (!left && periodic(l))
		left = l->timer_period_ns;
	arm(l, now, now + MIN(left, l->timer_period_ns));
}

void lapic_timer_divider(struct lapic *l, u32 old_tdcr)
{
	u32 from = divisor(old_tdcr), to = divisor(apic_get(l, APIC_TDCR));
	u64 now, left;

	if (from == to || !l->timer_period_ns)
		return;
	l->timer_period_ns = limit_period(l, count_to_ns(l, apic_get(l, APIC_TMICT)));
	if (l->timer_expiry_ns == OFF)
		return;
	now = now_ns();
	left = l->timer_expiry_ns > now ? l->timer_expiry_ns - now : 0;
	arm(l, now, now + (u64)((u128)left * to / from));
}

u32 lapic_timer_current(struct lapic *l)
{
	u64 now, left;

	if (!apic_get(l, APIC_TMICT) || !l->timer_period_ns || l->timer_expiry_ns == OFF)
		return 0;
	now = now_ns();
	if (now >= l->timer_expiry_ns) {
		/* Expired, and nobody has looked yet. */
		if (!periodic(l))
			return 0;
		left = l->timer_period_ns - (now - l->timer_expiry_ns) % l->timer_period_ns;
	} else {
		left = l->timer_expiry_ns - now;
	}
	return (u32)(left / count_ns(l));
}

u64 lapic_next_expiry(struct lapic *l)
{
	return l->present ? l->timer_expiry_ns : OFF;
}

void lapic_run_timer(struct lapic *l)
{
	u64 now, expiry;

	store_relaxed(&l->timer_pending, 0);
	if (!l->present || l->timer_expiry_ns == OFF)
		return;
	now = now_ns();
	if (now < l->timer_expiry_ns)
		return;
	switch (l->timer_mode) {
	case APIC_TIMER_PERIODIC:
		expiry = l->timer_expiry_ns;
		if (!l->timer_period_ns) {
			set_expiry(l, OFF);
			break;
		}
		set_expiry(l, expiry + ((now - expiry) / l->timer_period_ns + 1) * l->timer_period_ns);
		break;
	case APIC_TIMER_DEADLINE:
		/* The guest's clock decides, not our conversion of it. */
		expiry = deadline_to_ns(l, now);
		if (expiry > now) {
			set_expiry(l, expiry);
			return;
		}
		l->tsc_deadline = 0;
		set_expiry(l, OFF);
		break;
	default: set_expiry(l, OFF);
	}
	lapic_local_deliver(l, APIC_LVTT);
}

void lapic_tsc_changed(struct lapic *l)
{
	if (l->present && l->timer_mode == APIC_TIMER_DEADLINE && l->tsc_deadline)
		lapic_timer_start(l);
}
