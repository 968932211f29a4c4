/* SPDX-License-Identifier: MIT */
/*
 * The interrupt chips of a VM: 8259 pair, IOAPIC, 8254 PIT, local APICs, GSI routing, MSI, irqfd.
 *
 * The chips know vCPUs only as struct lapic, one embedded in each, and reach up through irq_ops. Two locks: irqchip.lock (PIC,
 * IOAPIC, PIT, routing writers) is outer; a LAPIC's own state is atomic words (IRR, pending bits) or owned by its vCPU's thread.
 */
#ifndef USEKVM_IRQCHIP_IRQCHIP_H
#define USEKVM_IRQCHIP_IRQCHIP_H

#include <linux/kvm.h>

#include "base/lock.h"
#include "base/qsbr.h"
#include "base/service.h"
#include "base/types.h"
#include "iobus/iobus.h"

#define IRQ_MAX_ROUTES 4096 /* KVM_CAP_IRQ_ROUTING */
#define IOAPIC_PINS 24
#define APIC_DEFAULT_BASE 0xfee00000ull
#define IOAPIC_DEFAULT_BASE 0xfec00000ull

struct irqchip;
struct lapic;

struct irq_ops {
	/* Something for this vCPU may be deliverable (IRR, NMI, INIT, SIPI, timer): set its request and wake or kick it. Any thread. */
	void (*kick)(struct lapic *l);
	/* The LAPIC's APIC base or mode changed (vCPU's thread): MMIO mapping, x2APIC. May be NULL. */
	void (*base_changed)(struct lapic *l);
	/* Split irqchip: EOI of a vector the VMM's IOAPIC listens to: leave with KVM_EXIT_IOAPIC_EOI. vCPU's thread. */
	void (*ioapic_eoi_exit)(struct lapic *l, u8 vector);
	u64 (*guest_tsc)(struct lapic *l);
	u64 (*tsc_to_ns)(struct lapic *l, u64 tsc_delta); /* guest TSC ticks to ns */
	/* Reader section for routing look-ups off the vCPU threads. */
	struct qsbr *(*qsbr)(struct irqchip *c);
	void (*synchronize)(struct irqchip *c); /* qsbr_synchronize with nudging */
};

/* ---- local APIC ---- */

struct lapic {
	struct irqchip *chip;
	u32 id;              /* vcpu_id: initial APIC id */
	u64 base;            /* MSR_IA32_APICBASE: also when there is no in-kernel LAPIC (then only kept) */
	bool present;        /* in-kernel LAPIC exists */
	u8 regs[1024] aligned(64); /* as KVM_GET_LAPIC lays them out; IRR words written atomically */
	u32 nmi_pending;     /* atomic counter, at most 2 */
	u32 init_pending;    /* atomic bits: 1 INIT, 2 SIPI */
	u8 sipi_vector;
	u64 tsc_deadline;    /* MSR_IA32_TSCDEADLINE */
	struct svc_timer timer;
	u64 timer_start_ns, timer_period_ns, timer_expiry_ns;
	u32 timer_pending;   /* atomic: expiries not yet turned into an interrupt */
	u64 eoi_exit[4];     /* split irqchip: vectors that need KVM_EXIT_IOAPIC_EOI; atomic words */
	u32 irr_pending;     /* atomic: 0 means that IRR is empty */
	u32 timer_mode;      /* mode bits of LVTT that the timer runs by */
	bool x2apic_cpuid, deadline_cpuid, cmci; /* lapic_set_features() */
	u8 maxphyaddr;
	u64 reserved[6];
};

int lapic_init(struct lapic *l, struct irqchip *chip, u32 id, bool present) hidden;
void lapic_destroy(struct lapic *l) hidden;
void lapic_reset(struct lapic *l, bool init) hidden; /* init: INIT IPI (keeps base and id) */
/* What CPUID and MCG_CAP say (KVM_SET_CPUID2, KVM_X86_SETUP_MCE). Until told: x2APIC and TSC deadline yes, CMCI no, 52 bits. */
void lapic_set_features(struct lapic *l, bool x2apic, bool tsc_deadline, bool cmci, u8 maxphyaddr) hidden;

/* Highest vector that can be taken now (IRR above PPR), or -1. Any thread may ask; the answer counts on the vCPU's own. */
int lapic_pending(struct lapic *l) hidden;
/* PIC output for this vCPU through LVT0 (ExtINT) or with the LAPIC disabled: is there one to take? */
bool lapic_accepts_pic(const struct lapic *l) hidden;
/* Take vector: IRR -> ISR, PPR updated. vCPU's thread. */
void lapic_ack(struct lapic *l, int vector) hidden;
u64 lapic_get_tpr(struct lapic *l) hidden; /* CR8: 0..15 */
void lapic_set_tpr(struct lapic *l, u64 cr8) hidden;
/* APIC page access at offset (0..0xfff), len 4 (others as hardware/KVM does). */
void lapic_mmio_read(struct lapic *l, u32 off, unsigned len, void *data) hidden;
void lapic_mmio_write(struct lapic *l, u32 off, unsigned len, const void *data) hidden;
/* x2APIC MSRs 0x800..0x8ff, IA32_APICBASE (0x1b), TSC deadline (0x6e0). 0, -EINVAL (#GP), -ENOENT (not ours). */
int lapic_rdmsr(struct lapic *l, u32 index, u64 *val) hidden;
int lapic_wrmsr(struct lapic *l, u32 index, u64 val, bool host) hidden;
int lapic_set_base(struct lapic *l, u64 base, bool host) hidden; /* checks transitions (SDM 3, 10.12.5) unless host */
/* KVM_GET/SET_LAPIC. x2apic_api: KVM_X2APIC_API_USE_32BIT_IDS. */
int lapic_get_state(struct lapic *l, struct kvm_lapic_state *s) hidden;
int lapic_set_state(struct lapic *l, const struct kvm_lapic_state *s) hidden;
/* Time in CLOCK_MONOTONIC ns at which the timer will fire, ~0 if unarmed: for a vCPU that sleeps in HLT. */
u64 lapic_next_expiry(struct lapic *l) hidden;
/* A corrected machine check error, or one that software may handle later: LVT CMCI. */
void lapic_deliver_cmci(struct lapic *l) hidden;
/* Called on the vCPU's thread when woken or on CPU_REQ_TIMER: turn an expiry into an IRR bit (LVTT), re-arm periodic. */
void lapic_run_timer(struct lapic *l) hidden;
/* The VMM changed the guest's TSC: re-arm the deadline timer. */
void lapic_tsc_changed(struct lapic *l) hidden;

/* ---- interrupt messages ---- */

struct irq_msg {
	u32 dest;        /* APIC id or logical destination (x2APIC: 32 bits) */
	u8 vector;
	u8 delivery;     /* 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7 ExtINT */
	bool logical, level, assert;
	u8 shorthand;    /* 0 none, 1 self, 2 all, 3 all but self */
	bool redirect_hint;
};
/* This LAPIC, whatever the destination says: did it take it? */
int lapic_accept_msg(struct lapic *l, const struct irq_msg *m) hidden;
/* Returns how many LAPICs took it; <= 0: none. Inside a reader section of the VM's qsbr domain, or with irqchip.lock held. */
int irq_deliver_msg(struct irqchip *c, struct lapic *src, const struct irq_msg *m) hidden;
int irq_deliver_msi(struct irqchip *c, u64 addr, u32 data) hidden;

/* ---- the VM's part ---- */

struct pic; struct ioapic; struct pit; struct irq_routes; /* one .c file each */

struct irqchip {
	const struct irq_ops *ops;
	struct mutex lock;
	struct iobus *bus;
	struct service *svc;
	bool kernel, split;         /* KVM_CREATE_IRQCHIP / KVM_CAP_SPLIT_IRQCHIP done */
	u32 split_pins;
	bool x2apic_32bit, x2apic_no_broadcast_quirk; /* KVM_CAP_X2APIC_API */
	u64 bus_cycle_ns;           /* KVM_CAP_X86_APIC_BUS_CYCLES_NS; default 1 */
	struct pic *pic;
	struct ioapic *ioapic;
	struct pit *pit;
	struct irq_routes *routes;  /* load_acquire, qsbr */
	u32 nlapics;                /* grows; slots are published with store_release */
	struct lapic **lapics;      /* by creation order; capacity KVM_MAX_VCPUS (1024) */
	u32 boot_id;                /* KVM_SET_BOOT_CPU_ID */
	bool lint0_masked;          /* KVM_X86_QUIRK_LINT0_REENABLED is off */
	u32 ids_moved;              /* atomic, stays set: some LAPIC's id was changed, so an id may be of several */
	struct irqfd_list *irqfds;
	void *reserved[4];
};

int irqchip_init(struct irqchip *c, const struct irq_ops *ops, struct iobus *bus, struct service *svc) hidden;
void irqchip_destroy(struct irqchip *c) hidden; /* irqfds, PIT, chips, routes */
int irqchip_create(struct irqchip *c) hidden;   /* KVM_CREATE_IRQCHIP: PIC + IOAPIC on the bus, default routes. -EEXIST */
int irqchip_split(struct irqchip *c, u32 pins) hidden;
int irqchip_add_lapic(struct irqchip *c, struct lapic *l) hidden;
void irqchip_del_lapic(struct irqchip *c, struct lapic *l) hidden;

/* KVM_IRQ_LINE(_STATUS): status > 0 delivered to n, 0 coalesced, < 0 masked. 0 or -ENXIO. */
int irqchip_set_line(struct irqchip *c, u32 gsi, int level, int *status) hidden;
int irqchip_signal_msi(struct irqchip *c, const struct kvm_msi *msi) hidden; /* like KVM: > 0 delivered, 0, or -EINVAL */
int irqchip_set_routing(struct irqchip *c, const struct kvm_irq_routing_entry *e, u32 n) hidden;
int irqchip_get(struct irqchip *c, struct kvm_irqchip *k) hidden;
int irqchip_set(struct irqchip *c, const struct kvm_irqchip *k) hidden;
int irqchip_irqfd(struct irqchip *c, const struct kvm_irqfd *args) hidden;

/* 8259 output towards the CPU: is INTR up, and take a vector (INTA). */
bool pic_intr(struct irqchip *c) hidden;
int pic_inta(struct irqchip *c) hidden; /* vector 0..255; spurious as hardware */
/* A LAPIC got an EOI for a vector: level-triggered IOAPIC pins, resample irqfds. */
void ioapic_eoi(struct irqchip *c, struct lapic *l, u8 vector, bool level) hidden;

int pit_create(struct irqchip *c, const struct kvm_pit_config *cfg) hidden; /* KVM_CREATE_PIT(2). -EEXIST; -ENOENT without irqchip as KVM */
int pit_get(struct irqchip *c, struct kvm_pit_state2 *s) hidden;
int pit_set(struct irqchip *c, const struct kvm_pit_state2 *s) hidden;
int pit_reinject(struct irqchip *c, bool on) hidden;

#endif
