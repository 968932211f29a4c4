/* SPDX-License-Identifier: MIT */
/*
 * What the files of this folder know of each other. Functions ending in _locked want irqchip.lock held. The lock is dropped with
 * irqchip_unlock(), never mutex_unlock(): an acknowledge seen under the lock may have made a missed PIT tick due, and it is raised
 * there, when no chip is in the middle of a change.
 */
#ifndef USEKVM_IRQCHIP_CHIPS_H
#define USEKVM_IRQCHIP_CHIPS_H

#include "irqchip/irqchip.h"

/* Who drives an interrupt line: it is up while anybody holds it up. */
enum irq_source { IRQ_SRC_USER, IRQ_SRC_RESAMPLE, IRQ_SRC_PIT };

static inline bool irq_line_state(u32 *line, enum irq_source src, int level)
{
	if (level)
		*line |= 1u << src;
	else
		*line &= ~(1u << src);
	return *line != 0;
}

/* ---- pic.c, ioapic.c, pit.c ---- */

int pic_create(struct irqchip *c) hidden;
void pic_destroy(struct irqchip *c) hidden;
int pic_set_pin_locked(struct irqchip *c, unsigned pin, enum irq_source src, int level) hidden;
void pic_get_locked(struct irqchip *c, unsigned which, struct kvm_pic_state *s) hidden;
void pic_set_locked(struct irqchip *c, unsigned which, const struct kvm_pic_state *s) hidden;

int ioapic_create(struct irqchip *c) hidden;
void ioapic_destroy(struct irqchip *c) hidden;
int ioapic_set_pin_locked(struct irqchip *c, unsigned pin, enum irq_source src, int level, bool want_status) hidden;
void ioapic_get_locked(struct irqchip *c, struct kvm_ioapic_state *s) hidden;
void ioapic_set_locked(struct irqchip *c, const struct kvm_ioapic_state *s) hidden;
/* Is it worth taking the lock when this vector is EOIed? */
bool ioapic_has_vector(const struct irqchip *c, u8 vector) hidden;

void pit_destroy(struct irqchip *c) hidden;
void pit_acked_locked(struct irqchip *c) hidden;
void pit_mask_changed_locked(struct irqchip *c, bool masked) hidden;
void pit_work_locked(struct irqchip *c) hidden;

static inline void irqchip_unlock(struct irqchip *c)
{
	if (c->pit)
		pit_work_locked(c);
	mutex_unlock(&c->lock);
}

/* ---- routing.c ---- */

int routes_default(struct irqchip *c, bool empty) hidden;
void routes_destroy(struct irqchip *c) hidden;
int irqchip_set_gsi_locked(struct irqchip *c, u32 gsi, enum irq_source src, int level, bool want_status) hidden;
/* A chip's pin was acknowledged, masked or unmasked: tell PIT and irqfds of its GSI. chip is KVM_IRQCHIP_*, PIC pins are 0..15. */
void irq_notify_ack_locked(struct irqchip *c, u32 chip, unsigned pin) hidden;
void irq_notify_mask_locked(struct irqchip *c, u32 chip, unsigned pin, bool masked) hidden;
/* The GSI of a pin, or -1. */
int irq_pin_to_gsi_locked(struct irqchip *c, u32 chip, unsigned pin) hidden;
/* Split irqchip: recompute l->eoi_exit from the MSI routes of the VMM's IOAPIC pins. */
void irq_scan_eoi_exits_locked(struct irqchip *c, struct lapic *l) hidden;

/* ---- irqfd.c ---- */

void irqfd_destroy(struct irqchip *c) hidden;
/* True if a resampling irqfd listens to the GSI: its line has been lowered and its owner told. */
bool irqfd_acked_locked(struct irqchip *c, u32 gsi) hidden;

/* ---- msg.c ---- */

void irq_msg_from_msi(struct irqchip *c, u64 addr, u32 data, struct irq_msg *m) hidden;
bool irq_msi_invalid(const struct irqchip *c, u64 addr) hidden;
bool lapic_match(struct lapic *l, struct lapic *src, const struct irq_msg *m) hidden;
/* Like irq_deliver_msg; sets in dest (1024 bits by LAPIC slot) who took it, if dest is not NULL. */
int irq_deliver_to(struct irqchip *c, struct lapic *src, const struct irq_msg *m, u64 *dest) hidden;
static inline struct lapic *irqchip_lapic(struct irqchip *c, u32 slot)
{
	return load_acquire(&c->lapics[slot]);
}

/* ---- lapic.c, lapic_timer.c ---- */

#define APIC_ID 0x20
#define APIC_LVR 0x30
#define APIC_TASKPRI 0x80
#define APIC_PROCPRI 0xa0
#define APIC_EOI 0xb0
#define APIC_LDR 0xd0
#define APIC_DFR 0xe0
#define APIC_SPIV 0xf0
#define APIC_ISR 0x100
#define APIC_TMR 0x180
#define APIC_IRR 0x200
#define APIC_ESR 0x280
#define APIC_LVTCMCI 0x2f0
#define APIC_ICR 0x300
#define APIC_ICR2 0x310
#define APIC_LVTT 0x320
#define APIC_LVTTHMR 0x330
#define APIC_LVTPC 0x340
#define APIC_LVT0 0x350
#define APIC_LVT1 0x360
#define APIC_LVTERR 0x370
#define APIC_TMICT 0x380
#define APIC_TMCCT 0x390
#define APIC_TDCR 0x3e0
#define APIC_SELF_IPI 0x3f0

#define APIC_LVT_MASKED 0x10000u
#define APIC_SPIV_ENABLE 0x100u
#define APIC_SPIV_DIRECTED_EOI 0x1000u
#define APIC_LVR_DIRECTED_EOI 0x1000000u
#define APIC_TIMER_MODES 0x60000u
#define APIC_TIMER_PERIODIC 0x20000u
#define APIC_TIMER_DEADLINE 0x40000u

#define APICBASE_BSP 0x100ull
#define APICBASE_X2APIC 0x400ull
#define APICBASE_ENABLE 0x800ull

enum { DM_FIXED, DM_LOWEST, DM_SMI, DM_REMRD, DM_NMI, DM_INIT, DM_SIPI, DM_EXTINT };

static inline u32 apic_get(const struct lapic *l, u32 off)
{
	return load_relaxed((const u32 *)(l->regs + off));
}
static inline void apic_put(struct lapic *l, u32 off, u32 v)
{
	store_relaxed((u32 *)(l->regs + off), v);
}
static inline u32 *apic_vec_word(struct lapic *l, u32 set, u8 vector)
{
	return (u32 *)(l->regs + set + (vector >> 5) * 0x10u);
}
static inline bool apic_vec_test(const struct lapic *l, u32 set, u8 vector)
{
	return (apic_get(l, set + (vector >> 5) * 0x10u) >> (vector & 31)) & 1;
}
static inline bool lapic_hw_enabled(const struct lapic *l)
{
	return l->present && (load_relaxed(&l->base) & APICBASE_ENABLE);
}
static inline bool lapic_sw_enabled(const struct lapic *l)
{
	return apic_get(l, APIC_SPIV) & APIC_SPIV_ENABLE;
}
static inline bool lapic_x2apic(const struct lapic *l)
{
	return (load_relaxed(&l->base) & (APICBASE_X2APIC | APICBASE_ENABLE)) == (APICBASE_X2APIC | APICBASE_ENABLE);
}
static inline void lapic_kick(struct lapic *l)
{
	l->chip->ops->kick(l);
}
/* Take an interrupt message, mode DM_*. How many it counts for: 1, or 0 if it was ignored. Any thread. */
int lapic_accept(struct lapic *l, unsigned mode, u8 vector, bool assert, bool level) hidden;
/* Deliver what the local vector at `off` says. */
int lapic_local_deliver(struct lapic *l, u32 off) hidden;

void lapic_timer_init(struct lapic *l) hidden;
void lapic_timer_reset(struct lapic *l) hidden;   /* stop and forget */
void lapic_timer_mode_changed(struct lapic *l) hidden; /* LVTT was written */
void lapic_timer_start(struct lapic *l) hidden;   /* TMICT or the deadline was written */
void lapic_timer_restore(struct lapic *l) hidden; /* registers were set by the VMM: go on from TMCCT */
void lapic_timer_divider(struct lapic *l, u32 old_tdcr) hidden;
u32 lapic_timer_current(struct lapic *l) hidden;

#endif
