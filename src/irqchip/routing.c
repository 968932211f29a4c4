/* SPDX-License-Identifier: MIT */
/*
 * GSI routing: which chip pins and MSIs a global interrupt number drives.
 *
 * A table is immutable and is replaced as a whole under irqchip.lock; it is only read under that lock too, so the old one can be freed
 * at once. Entries are sorted by GSI (first[gsi] .. first[gsi + 1]). chip_gsi is the way back, for acknowledges.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "irqchip/chips.h"

#define PIC_PINS 16

struct irq_route {
	bool msi;
	u8 chip, pin; /* PIC slave: pins 8..15 */
	u64 addr;
	u32 data;
};

struct irq_routes {
	u32 ngsi;
	s16 chip_gsi[KVM_NR_IRQCHIPS][IOAPIC_PINS];
	struct irq_route *route;
	u32 first[];
};

static struct irq_routes *routes_alloc(u32 ngsi, u32 n)
{
	size_t head = ALIGN_UP(sizeof(struct irq_routes) + (ngsi + 1) * sizeof(u32), 16);
	struct irq_routes *t = calloc(1, head + n * sizeof(struct irq_route));

	if (!t)
		return NULL;
	t->ngsi = ngsi;
	t->route = (struct irq_route *)((char *)t + head);
	memset(t->chip_gsi, 0xff, sizeof(t->chip_gsi));
	return t;
}

/* One entry as the VMM wrote it -> as we use it. */
static int route_check(struct irqchip *c, const struct kvm_irq_routing_entry *e, struct irq_route *r)
{
	*r = (struct irq_route){ 0 };
	switch (e->type) {
	case KVM_IRQ_ROUTING_MSI:
		if (e->flags & ~KVM_MSI_VALID_DEVID)
			return -EINVAL;
		r->msi = true;
		r->addr = (u64)e->u.msi.address_hi << 32 | e->u.msi.address_lo;
		r->data = e->u.msi.data;
		return irq_msi_invalid(c, r->addr) ? -EINVAL : 0;
	case KVM_IRQ_ROUTING_IRQCHIP:
		if (e->flags || c->split)
			return -EINVAL;
		r->chip = (u8)e->u.irqchip.irqchip;
		r->pin = (u8)e->u.irqchip.pin;
		switch (e->u.irqchip.irqchip) {
		case KVM_IRQCHIP_PIC_MASTER: return e->u.irqchip.pin < PIC_PINS / 2 ? 0 : -EINVAL;
		case KVM_IRQCHIP_PIC_SLAVE: r->pin += PIC_PINS / 2; return e->u.irqchip.pin < PIC_PINS / 2 ? 0 : -EINVAL;
		case KVM_IRQCHIP_IOAPIC: return e->u.irqchip.pin < IOAPIC_PINS ? 0 : -EINVAL;
		}
	}
	return -EINVAL;
}

/* A GSI drives one MSI, or at most one pin of each chip. */
static bool route_conflicts(const struct irq_routes *t, u32 gsi, u32 have, const struct irq_route *r)
{
	for (u32 i = 0; i < have; i++) {
		const struct irq_route *o = &t->route[t->first[gsi] + i];

		if (o->msi || r->msi || o->chip == r->chip)
			return true;
	}
	return false;
}

static int routes_fill(struct irqchip *c, struct irq_routes *t, const struct kvm_irq_routing_entry *e, u32 n, u32 *have)
{
	for (u32 i = 0; i < n; i++)
		t->first[e[i].gsi + 1]++;
	for (u32 g = 0; g < t->ngsi; g++)
		t->first[g + 1] += t->first[g];
	for (u32 i = 0; i < n; i++) {
		struct irq_route r;
		u32 gsi = e[i].gsi;
		int err = route_check(c, &e[i], &r);

		if (err)
			return err;
		if (route_conflicts(t, gsi, have[gsi], &r))
			return -EINVAL;
		t->route[t->first[gsi] + have[gsi]++] = r;
		if (!r.msi)
			t->chip_gsi[r.chip][r.pin] = (s16)gsi;
	}
	return 0;
}

static int routes_build(struct irqchip *c, const struct kvm_irq_routing_entry *e, u32 n, struct irq_routes **out)
{
	struct irq_routes *t;
	u32 ngsi = 0, *have;
	int r;

	if (n > IRQ_MAX_ROUTES)
		return -EINVAL;
	for (u32 i = 0; i < n; i++) {
		if (e[i].gsi >= IRQ_MAX_ROUTES)
			return -EINVAL;
		ngsi = MAX(ngsi, e[i].gsi + 1);
	}
	t = routes_alloc(ngsi, n);
	have = calloc(ngsi + 1, sizeof(*have));
	r = t && have ? routes_fill(c, t, e, n, have) : -ENOMEM;
	free(have);
	if (r)
		free(t);
	else
		*out = t;
	return r;
}

static void routes_replace(struct irqchip *c, struct irq_routes *t)
{
	struct irq_routes *old;
	u32 n;

	mutex_lock(&c->lock);
	old = c->routes;
	store_release(&c->routes, t);
	n = load_acquire(&c->nlapics);
	for (u32 i = 0; c->split && i < n; i++) {
		struct lapic *l = irqchip_lapic(c, i);

		if (l)
			irq_scan_eoi_exits_locked(c, l);
	}
	irqchip_unlock(c);
	free(old);
}

int irqchip_set_routing(struct irqchip *c, const struct kvm_irq_routing_entry *e, u32 n)
{
	struct irq_routes *t;
	int r;

	if (!c->kernel && !c->split)
		return -EINVAL;
	r = routes_build(c, e, n, &t);
	if (!r)
		routes_replace(c, t);
	return r;
}

/* GSI n is pin n of the PIC pair and of the IOAPIC, 16..23 the IOAPIC's alone. */
int routes_default(struct irqchip *c, bool empty)
{
	struct kvm_irq_routing_entry e[PIC_PINS + IOAPIC_PINS];
	struct irq_routes *t;
	u32 n = 0;
	int r;

	memset(e, 0, sizeof(e));
	for (u32 i = 0; i < IOAPIC_PINS && !empty; i++) {
		e[n].gsi = i;
		e[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[n].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		e[n++].u.irqchip.pin = i;
		if (i >= PIC_PINS)
			continue;
		e[n].gsi = i;
		e[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[n].u.irqchip.irqchip = i >> 3;
		e[n++].u.irqchip.pin = i & 7;
	}
	r = routes_build(c, e, n, &t);
	if (!r)
		routes_replace(c, t);
	return r;
}

void routes_destroy(struct irqchip *c)
{
	free(c->routes);
	c->routes = NULL;
}

/* ---- use ---- */

static int drive_route(struct irqchip *c, const struct irq_route *r, enum irq_source src, int level, bool want_status)
{
	if (r->msi)
		return level ? irq_deliver_msi(c, r->addr, r->data) : -1;
	if (r->chip == KVM_IRQCHIP_IOAPIC)
		return ioapic_set_pin_locked(c, r->pin, src, level, want_status);
	return pic_set_pin_locked(c, r->pin, src, level);
}

int irqchip_set_gsi_locked(struct irqchip *c, u32 gsi, enum irq_source src, int level, bool want_status)
{
	const struct irq_routes *t = c->routes;
	int ret = -1;

	if (!t || gsi >= t->ngsi)
		return -1;
	for (u32 i = t->first[gsi]; i < t->first[gsi + 1]; i++) {
		int r = drive_route(c, &t->route[i], src, level, want_status);

		if (r >= 0)
			ret = MAX(ret, 0) + r;
	}
	return ret;
}

int irq_pin_to_gsi_locked(struct irqchip *c, u32 chip, unsigned pin)
{
	return c->routes && pin < IOAPIC_PINS ? c->routes->chip_gsi[chip][pin] : -1;
}

void irq_notify_ack_locked(struct irqchip *c, u32 chip, unsigned pin)
{
	int gsi = irq_pin_to_gsi_locked(c, chip, pin);

	if (gsi < 0)
		return;
	if (gsi == 0 && c->pit)
		pit_acked_locked(c);
	irqfd_acked_locked(c, (u32)gsi);
}

void irq_notify_mask_locked(struct irqchip *c, u32 chip, unsigned pin, bool masked)
{
	if (c->pit && irq_pin_to_gsi_locked(c, chip, pin) == 0)
		pit_mask_changed_locked(c, masked);
}

void irq_scan_eoi_exits_locked(struct irqchip *c, struct lapic *l)
{
	const struct irq_routes *t = c->routes;
	u64 bits[4] = { 0, 0, 0, 0 };
	u32 ngsi = t ? MIN(t->ngsi, c->split_pins) : 0;

	for (u32 i = 0; i < (ngsi ? t->first[ngsi] : 0); i++) {
		struct irq_msg m;

		if (!t->route[i].msi)
			continue;
		irq_msg_from_msi(c, t->route[i].addr, t->route[i].data, &m);
		/* An interrupt already taken by its old description still owes the EOI. */
		if (m.level && (lapic_match(l, NULL, &m) || apic_vec_test(l, APIC_IRR, m.vector) || apic_vec_test(l, APIC_ISR, m.vector)))
			bits[m.vector >> 6] |= BIT(m.vector & 63);
	}
	for (unsigned i = 0; i < 4; i++)
		store_relaxed(&l->eoi_exit[i], bits[i]);
}
