/* SPDX-License-Identifier: MIT */
/*
 * The local APIC: registers, priorities, IPIs, base and modes, state (SDM 3, chapter 11). Its timer is in lapic_timer.c.
 *
 * The registers live in l->regs at their MMIO offsets, as KVM_GET_LAPIC shows them, in xAPIC and x2APIC mode alike (ICR is split in
 * two words in both). Everything is changed by the vCPU's own thread, but IRR, TMR and the pending words, which lapic_accept() sets
 * from any thread with atomic operations. l->irr_pending is set after a bit in IRR is, and cleared only before a scan that finds none.
 */
#include <errno.h>
#include <string.h>

#include "irqchip/chips.h"

#define LVT_BITS 0x110ffu /* mask, delivery status, vector */
#define LVT_MODE 0x700u
#define LINT_BITS (LVT_BITS | LVT_MODE | 0xe000u)
#define ICR_BUSY 0x1000u
#define X2APIC_ICR_RESERVED 0xfff32000u
#define SPIV_RESET 0xffu

enum { PEND_INIT = 1, PEND_SIPI = 2 };

/* ---- priorities ---- */

static int vec_highest(const struct lapic *l, u32 set)
{
	for (int i = 7; i >= 0; i--) {
		u32 w = apic_get(l, set + (u32)i * 0x10);

		if (w)
			return i * 32 + 31 - __builtin_clz(w);
	}
	return -1;
}

static int irr_highest(struct lapic *l)
{
	int v;

	if (!load_relaxed(&l->irr_pending))
		return -1;
	v = vec_highest(l, APIC_IRR);
	if (v >= 0)
		return v;
	__atomic_exchange_n(&l->irr_pending, 0, __ATOMIC_SEQ_CST);
	v = vec_highest(l, APIC_IRR);
	if (v >= 0)
		__atomic_store_n(&l->irr_pending, 1, __ATOMIC_SEQ_CST);
	return v;
}

static u32 ppr(const struct lapic *l)
{
	u32 tpr = apic_get(l, APIC_TASKPRI) & 0xff;
	int isr = vec_highest(l, APIC_ISR);
	u32 isrv = isr < 0 ? 0 : (u32)isr & 0xf0;

	return (tpr & 0xf0) >= isrv ? tpr : isrv;
}

int lapic_pending(struct lapic *l)
{
	int v;

	if (!lapic_hw_enabled(l))
		return -1;
	v = irr_highest(l);
	return v >= 0 && ((u32)v & 0xf0) > ppr(l) ? v : -1;
}

bool lapic_accepts_pic(const struct lapic *l)
{
	u32 lvt0 = apic_get(l, APIC_LVT0);

	if (!lapic_hw_enabled(l))
		return true;
	return !(lvt0 & APIC_LVT_MASKED) && ((lvt0 >> 8) & 7) == DM_EXTINT;
}

static void kick_if_pending(struct lapic *l)
{
	if (lapic_pending(l) >= 0)
		lapic_kick(l);
}

void lapic_ack(struct lapic *l, int vector)
{
	u8 v = (u8)vector;

	__atomic_and_fetch(apic_vec_word(l, APIC_IRR, v), ~(1u << (v & 31)), __ATOMIC_SEQ_CST);
	__atomic_or_fetch(apic_vec_word(l, APIC_ISR, v), 1u << (v & 31), __ATOMIC_SEQ_CST);
}

u64 lapic_get_tpr(struct lapic *l)
{
	return (apic_get(l, APIC_TASKPRI) >> 4) & 0xf;
}

static void set_tpr(struct lapic *l, u32 tpr)
{
	u32 old = apic_get(l, APIC_TASKPRI);

	apic_put(l, APIC_TASKPRI, tpr & 0xff);
	if (tpr < old)
		kick_if_pending(l);
}

void lapic_set_tpr(struct lapic *l, u64 cr8)
{
	set_tpr(l, (u32)(cr8 & 0xf) << 4);
}

/* ---- taking interrupts ---- */

static void accept_fixed(struct lapic *l, u8 vector, bool level)
{
	u32 bit = 1u << (vector & 31);

	if (level)
		__atomic_or_fetch(apic_vec_word(l, APIC_TMR, vector), bit, __ATOMIC_SEQ_CST);
	else if (apic_vec_test(l, APIC_TMR, vector))
		__atomic_and_fetch(apic_vec_word(l, APIC_TMR, vector), ~bit, __ATOMIC_SEQ_CST);
	__atomic_or_fetch(apic_vec_word(l, APIC_IRR, vector), bit, __ATOMIC_SEQ_CST);
	__atomic_store_n(&l->irr_pending, 1, __ATOMIC_SEQ_CST);
}

static void accept_nmi(struct lapic *l)
{
	u32 n = load_relaxed(&l->nmi_pending);

	/* One being handled and one latched is all that a CPU can hold. */
	while (n < 2 && !__atomic_compare_exchange_n(&l->nmi_pending, &n, n + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
}

int lapic_accept(struct lapic *l, unsigned mode, u8 vector, bool assert, bool level)
{
	switch (mode) {
	case DM_FIXED:
	case DM_LOWEST:
		if ((level && !assert) || !lapic_sw_enabled(l))
			return 0;
		accept_fixed(l, vector, level);
		break;
	case DM_NMI: accept_nmi(l); break;
	case DM_INIT:
		if (level && !assert)
			return 0; /* INIT level de-assert: only arbitration ids, long gone */
		__atomic_store_n(&l->init_pending, PEND_INIT, __ATOMIC_SEQ_CST);
		break;
	case DM_SIPI:
		store_relaxed(&l->sipi_vector, vector);
		__atomic_or_fetch(&l->init_pending, PEND_SIPI, __ATOMIC_SEQ_CST);
		break;
	default: return 0; /* SMI: there is no SMM; ExtINT comes through LVT0 only */
	}
	lapic_kick(l);
	return 1;
}

int lapic_accept_msg(struct lapic *l, const struct irq_msg *m)
{
	return lapic_hw_enabled(l) ? lapic_accept(l, m->delivery, m->vector, m->assert, m->level) : 0;
}

int lapic_local_deliver(struct lapic *l, u32 off)
{
	u32 lvt = apic_get(l, off);
	int r;

	if (!lapic_hw_enabled(l) || (lvt & APIC_LVT_MASKED))
		return 0;
	r = lapic_accept(l, off == APIC_LVTT ? DM_FIXED : (lvt >> 8) & 7, (u8)lvt, true, lvt & 0x8000);
	if (r && off == APIC_LVTPC)
		apic_put(l, off, lvt | APIC_LVT_MASKED);
	return r;
}

void lapic_deliver_cmci(struct lapic *l)
{
	if (l->cmci)
		lapic_local_deliver(l, APIC_LVTCMCI);
}

/* ---- IPIs and EOI ---- */

static void send_ipi(struct lapic *l, u32 lo, u32 hi)
{
	struct irq_msg m = {
		.dest = lapic_x2apic(l) ? hi : hi >> 24,
		.vector = (u8)lo,
		.delivery = (lo >> 8) & 7,
		.logical = lo & 0x800,
		.level = lo & 0x8000,
		.assert = lo & 0x4000,
		.shorthand = (lo >> 18) & 3,
	};

	if (m.shorthand == 1) {
		lapic_accept(l, m.delivery, m.vector, m.assert, m.level);
		return;
	}
	irq_deliver_msg(l->chip, l, &m);
}

static void eoi(struct lapic *l)
{
	struct irqchip *c = l->chip;
	int v = vec_highest(l, APIC_ISR);
	u8 vec = (u8)v;

	if (v < 0)
		return;
	__atomic_and_fetch(apic_vec_word(l, APIC_ISR, vec), ~(1u << (vec & 31)), __ATOMIC_SEQ_CST);
	if (c->split) {
		if ((load_relaxed(&l->eoi_exit[vec >> 6]) & BIT(vec & 63)) && c->ops->ioapic_eoi_exit)
			c->ops->ioapic_eoi_exit(l, vec);
	} else if (ioapic_has_vector(c, vec)) {
		ioapic_eoi(c, l, vec, apic_vec_test(l, APIC_TMR, vec));
	}
	kick_if_pending(l);
}

/* What this LAPIC answers to has changed: which EOIs concern the VMM's IOAPIC follows from it. */
static void address_changed(struct lapic *l)
{
	struct irqchip *c = l->chip;

	if (!c->split)
		return;
	mutex_lock(&c->lock);
	irq_scan_eoi_exits_locked(c, l);
	irqchip_unlock(c);
}

/* ---- register access ---- */

static bool is_lvt(const struct lapic *l, u32 off)
{
	return (off >= APIC_LVTT && off <= APIC_LVTERR) || (off == APIC_LVTCMCI && l->cmci);
}

static u32 lvt_bits(const struct lapic *l, u32 off)
{
	switch (off) {
	case APIC_LVTT: return LVT_BITS | (l->deadline_cpuid ? APIC_TIMER_MODES : APIC_TIMER_PERIODIC);
	case APIC_LVT0:
	case APIC_LVT1: return LINT_BITS;
	case APIC_LVTERR: return LVT_BITS;
	default: return LVT_BITS | LVT_MODE;
	}
}

static void write_lvt(struct lapic *l, u32 off, u32 val)
{
	if (!lapic_sw_enabled(l))
		val |= APIC_LVT_MASKED;
	apic_put(l, off, val & lvt_bits(l, off));
	if (off == APIC_LVTT)
		lapic_timer_mode_changed(l);
	else if (off == APIC_LVT0)
		lapic_kick(l); /* the PIC may have been waiting for this */
}

static void mask_lvts(struct lapic *l)
{
	for (u32 off = APIC_LVTT; off <= APIC_LVTERR; off += 0x10)
		apic_put(l, off, apic_get(l, off) | APIC_LVT_MASKED);
	if (l->cmci)
		apic_put(l, APIC_LVTCMCI, apic_get(l, APIC_LVTCMCI) | APIC_LVT_MASKED);
}

static void write_spiv(struct lapic *l, u32 val)
{
	u32 bits = 0x3ff;

	if (apic_get(l, APIC_LVR) & APIC_LVR_DIRECTED_EOI)
		bits |= APIC_SPIV_DIRECTED_EOI;
	apic_put(l, APIC_SPIV, val & bits);
	if (!(val & APIC_SPIV_ENABLE))
		mask_lvts(l);
}

static void write_icr(struct lapic *l, u32 lo, u32 hi)
{
	lo &= ~ICR_BUSY; /* delivered before the guest can look */
	send_ipi(l, lo, hi);
	apic_put(l, APIC_ICR, lo);
	apic_put(l, APIC_ICR2, hi);
}

/* Registers that only one of the two modes can write. */
static int write_mode_reg(struct lapic *l, u32 off, u32 val)
{
	bool x2 = lapic_x2apic(l);

	if (off == APIC_SELF_IPI) {
		if (!x2 || (val & ~0xffu))
			return -EINVAL;
		lapic_accept(l, DM_FIXED, (u8)val, false, false);
		return 0;
	}
	if (off == APIC_ESR) /* no error is ever recorded; the write only latches */
		return x2 && val ? -EINVAL : 0;
	if (x2)
		return -EINVAL;
	switch (off) {
	case APIC_ID:
		if (val >> 24 != l->id)
			__atomic_store_n(&l->chip->ids_moved, 1, __ATOMIC_SEQ_CST);
		apic_put(l, off, val);
		break;
	case APIC_LDR: apic_put(l, off, val & 0xff000000u); break;
	case APIC_DFR: apic_put(l, off, val | 0x0fffffffu); break;
	case APIC_ICR2: apic_put(l, off, val & 0xff000000u); return 0;
	default: return -EINVAL;
	}
	address_changed(l);
	return 0;
}

static int write_reg(struct lapic *l, u32 off, u32 val)
{
	u32 old;

	if (is_lvt(l, off)) {
		write_lvt(l, off, val);
		return 0;
	}
	switch (off) {
	case APIC_TASKPRI: set_tpr(l, val & 0xff); return 0;
	case APIC_EOI: eoi(l); return 0;
	case APIC_SPIV:
		write_spiv(l, val);
		return 0;
	case APIC_ICR: write_icr(l, val, apic_get(l, APIC_ICR2)); return 0;
	case APIC_TMICT:
		if (l->timer_mode != APIC_TIMER_DEADLINE) {
			apic_put(l, off, val);
			lapic_timer_start(l);
		}
		return 0;
	case APIC_TDCR:
		old = apic_get(l, off);
		apic_put(l, off, val & 0xb);
		lapic_timer_divider(l, old);
		return 0;
	default: return write_mode_reg(l, off, val);
	}
}

/* Bit n: the register at n * 16 can be read. */
static bool readable(const struct lapic *l, u32 off)
{
	u64 regs = BIT(0x2) | BIT(0x3) | BIT(0x8) | BIT(0xa) | BIT(0xd) | BIT(0xf) | 0xffffffull << 0x10 | BIT(0x28) | BIT(0x30) |
		   0x3full << 0x32 | BIT(0x38) | BIT(0x39) | BIT(0x3e);

	if (l->cmci)
		regs |= BIT(0x2f);
	if (!lapic_x2apic(l))
		regs |= BIT(0x9) | BIT(0xe) | BIT(0x31);
	return regs & BIT(off >> 4);
}

static u32 read_reg(struct lapic *l, u32 off)
{
	switch (off) {
	case APIC_PROCPRI: return ppr(l);
	case APIC_TMCCT: return lapic_timer_current(l);
	default: return apic_get(l, off);
	}
}

void lapic_mmio_read(struct lapic *l, u32 off, unsigned len, void *data)
{
	u32 val, align = off & 0xf;

	memset(data, 0, len);
	if (off > APIC_SELF_IPI + 0xf || align + len > 4 || !readable(l, off))
		return;
	val = read_reg(l, off & ~0xfu);
	memcpy(data, (char *)&val + align, len);
}

void lapic_mmio_write(struct lapic *l, u32 off, unsigned len, const void *data)
{
	u32 val;

	/* SDM 3, 11.4.1: registers are accessed with aligned 32-bit stores; others do nothing here. */
	if (len != 4 || (off & 0xf) || off > APIC_SELF_IPI)
		return;
	memcpy(&val, data, 4);
	write_reg(l, off, val);
}

/* ---- MSRs ---- */

static int x2apic_rdmsr(struct lapic *l, u32 index, u64 *val)
{
	u32 off = (index - 0x800) << 4;

	if (!l->present || !lapic_x2apic(l) || off > APIC_SELF_IPI || !readable(l, off))
		return -EINVAL;
	*val = read_reg(l, off);
	if (off == APIC_ICR)
		*val |= (u64)apic_get(l, APIC_ICR2) << 32;
	return 0;
}

static int x2apic_wrmsr(struct lapic *l, u32 index, u64 val)
{
	u32 off = (index - 0x800) << 4;

	if (!l->present || !lapic_x2apic(l) || off > APIC_SELF_IPI)
		return -EINVAL;
	if (off == APIC_ICR) {
		if ((u32)val & X2APIC_ICR_RESERVED)
			return -EINVAL;
		write_icr(l, (u32)val, (u32)(val >> 32));
		return 0;
	}
	return val >> 32 ? -EINVAL : write_reg(l, off, (u32)val);
}

int lapic_rdmsr(struct lapic *l, u32 index, u64 *val)
{
	if (index >= 0x800 && index <= 0x8ff)
		return x2apic_rdmsr(l, index, val);
	switch (index) {
	case 0x1b: *val = l->base; return 0;
	case 0x6e0: *val = l->present && l->timer_mode == APIC_TIMER_DEADLINE ? l->tsc_deadline : 0; return 0;
	default: return -ENOENT;
	}
}

int lapic_wrmsr(struct lapic *l, u32 index, u64 val, bool host)
{
	if (index >= 0x800 && index <= 0x8ff)
		return x2apic_wrmsr(l, index, val);
	switch (index) {
	case 0x1b: return lapic_set_base(l, val, host);
	case 0x6e0:
		if (l->present && l->timer_mode == APIC_TIMER_DEADLINE) {
			l->tsc_deadline = val;
			lapic_timer_start(l);
		}
		return 0;
	default: return -ENOENT;
	}
}

/* ---- base and modes ---- */

static void set_xapic_id(struct lapic *l)
{
	apic_put(l, APIC_ID, l->id << 24);
}

static u32 x2apic_ldr(const struct lapic *l)
{
	return (l->id >> 4) << 16 | 1u << (l->id & 0xf);
}

static void base_apply(struct lapic *l, u64 base)
{
	u64 diff = l->base ^ base;

	store_relaxed(&l->base, base);
	if (!l->present)
		return;
	if ((diff & base & APICBASE_ENABLE) && !(base & APICBASE_X2APIC))
		set_xapic_id(l);
	if (diff & APICBASE_X2APIC) {
		if (base & APICBASE_X2APIC) {
			apic_put(l, APIC_ID, l->id);
			apic_put(l, APIC_LDR, x2apic_ldr(l));
		} else if (base & APICBASE_ENABLE) {
			set_xapic_id(l);
		}
	}
	if (diff & (APICBASE_X2APIC | APICBASE_ENABLE))
		address_changed(l);
}

int lapic_set_base(struct lapic *l, u64 base, bool host)
{
	const u64 modes = APICBASE_ENABLE | APICBASE_X2APIC;
	u64 old = l->base & modes, new = base & modes;
	u64 reserved = 0x2ff | (l->x2apic_cpuid ? 0 : APICBASE_X2APIC) | (l->maxphyaddr < 64 ? ~0ull << l->maxphyaddr : 0);
	u64 was = l->base;

	if ((base & reserved) || new == APICBASE_X2APIC)
		return -EINVAL;
	if (!host && ((old == modes && new == APICBASE_ENABLE) || (!old && new == modes)))
		return -EINVAL;
	base_apply(l, base);
	if (base != was) {
		if (l->chip->ops->base_changed)
			l->chip->ops->base_changed(l);
		if (l->present)
			lapic_kick(l);
	}
	return 0;
}

static void set_version(struct lapic *l)
{
	u32 v = 0x14 | (l->cmci ? 6u : 5u) << 16;

	/* Only a VMM's IOAPIC can have the EOI register that goes with it. */
	if (l->chip->split && l->x2apic_cpuid)
		v |= APIC_LVR_DIRECTED_EOI;
	apic_put(l, APIC_LVR, v);
}

void lapic_set_features(struct lapic *l, bool x2apic, bool tsc_deadline, bool cmci, u8 maxphyaddr)
{
	if (cmci && !l->cmci)
		apic_put(l, APIC_LVTCMCI, APIC_LVT_MASKED);
	l->x2apic_cpuid = x2apic;
	l->deadline_cpuid = tsc_deadline;
	l->cmci = cmci;
	l->maxphyaddr = maxphyaddr;
	if (l->present)
		set_version(l);
}

/* ---- life ---- */

static void clear_vectors(struct lapic *l)
{
	for (u32 off = APIC_ISR; off < APIC_ESR; off += 0x10)
		apic_put(l, off, 0);
	store_relaxed(&l->irr_pending, 0);
}

void lapic_reset(struct lapic *l, bool init)
{
	bool bsp = l->id == l->chip->boot_id;
	u64 old_base = l->base;

	store_relaxed(&l->nmi_pending, 0);
	if (!init) {
		store_relaxed(&l->init_pending, 0);
		base_apply(l, APIC_DEFAULT_BASE | APICBASE_ENABLE | (bsp ? APICBASE_BSP : 0));
	}
	apic_put(l, APIC_TASKPRI, 0);
	if (!l->present)
		return;
	lapic_timer_reset(l);
	if (!init)
		set_xapic_id(l);
	set_version(l);
	for (u32 off = APIC_LVTT; off <= APIC_LVTERR; off += 0x10)
		apic_put(l, off, APIC_LVT_MASKED);
	if (l->cmci)
		apic_put(l, APIC_LVTCMCI, APIC_LVT_MASKED);
	/* The boot processor starts with the PIC connected, as firmware that knows no APIC expects. */
	if (bsp && !l->chip->lint0_masked)
		apic_put(l, APIC_LVT0, DM_EXTINT << 8);
	lapic_timer_mode_changed(l);
	apic_put(l, APIC_DFR, 0xffffffff);
	apic_put(l, APIC_SPIV, SPIV_RESET);
	if (!lapic_x2apic(l))
		apic_put(l, APIC_LDR, 0);
	apic_put(l, APIC_ESR, 0);
	apic_put(l, APIC_ICR, 0);
	apic_put(l, APIC_ICR2, 0);
	apic_put(l, APIC_TDCR, 0);
	apic_put(l, APIC_TMICT, 0);
	clear_vectors(l);
	address_changed(l);
	if (old_base && old_base != l->base && l->chip->ops->base_changed)
		l->chip->ops->base_changed(l);
}

int lapic_init(struct lapic *l, struct irqchip *chip, u32 id, bool present)
{
	l->chip = chip;
	l->id = id;
	l->present = present;
	l->x2apic_cpuid = l->deadline_cpuid = true;
	l->maxphyaddr = 52;
	lapic_timer_init(l);
	lapic_reset(l, false);
	return 0;
}

void lapic_destroy(struct lapic *l)
{
	if (l->chip && l->chip->svc)
		svc_timer_cancel_sync(l->chip->svc, &l->timer);
}

/* ---- state ---- */

int lapic_get_state(struct lapic *l, struct kvm_lapic_state *s)
{
	u32 v;

	if (!l->present)
		return -EINVAL;
	memcpy(s->regs, l->regs, sizeof(s->regs));
	v = ppr(l);
	memcpy(s->regs + APIC_PROCPRI, &v, 4);
	v = lapic_timer_current(l);
	memcpy(s->regs + APIC_TMCCT, &v, 4);
	if (lapic_x2apic(l) && !l->chip->x2apic_32bit) {
		v = l->id << 24;
		memcpy(s->regs + APIC_ID, &v, 4);
	}
	return 0;
}

int lapic_set_state(struct lapic *l, const struct kvm_lapic_state *s)
{
	u32 w;

	if (!l->present)
		return -EINVAL;
	memcpy(&w, s->regs + APIC_ID, 4);
	if (lapic_x2apic(l) && l->chip->x2apic_32bit && w != l->id)
		return -EINVAL;
	for (u32 off = 0; off < sizeof(l->regs); off += 4) {
		memcpy(&w, s->regs + off, 4);
		apic_put(l, off, w);
	}
	if (!lapic_x2apic(l) && apic_get(l, APIC_ID) >> 24 != l->id)
		__atomic_store_n(&l->chip->ids_moved, 1, __ATOMIC_SEQ_CST);
	if (lapic_x2apic(l)) { /* both are the hardware's, not the VMM's, in this mode */
		apic_put(l, APIC_ID, l->id);
		apic_put(l, APIC_LDR, x2apic_ldr(l));
	}
	set_version(l);
	apic_put(l, APIC_TASKPRI, apic_get(l, APIC_TASKPRI) & 0xff);
	apic_put(l, APIC_TDCR, apic_get(l, APIC_TDCR) & 0xb);
	__atomic_store_n(&l->irr_pending, 1, __ATOMIC_SEQ_CST);
	lapic_timer_restore(l);
	address_changed(l);
	lapic_kick(l);
	return 0;
}
