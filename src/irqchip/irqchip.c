/* SPDX-License-Identifier: MIT */
/*
 * The VM's irqchip as a whole: making it and taking it down, the list of LAPICs, interrupt lines and MSIs from the VMM, chip state.
 *
 * The array of LAPICs has its full size from the start, so that readers need no lock: a slot is filled before nlapics covers it, and
 * emptied with a wait for the readers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "irqchip/chips.h"

#define MAX_LAPICS 1024

int irqchip_init(struct irqchip *c, const struct irq_ops *ops, struct iobus *bus, struct service *svc)
{
	memset(c, 0, sizeof(*c));
	c->lapics = calloc(MAX_LAPICS, sizeof(*c->lapics));
	if (!c->lapics)
		return -ENOMEM;
	c->ops = ops;
	c->bus = bus;
	c->svc = svc;
	c->bus_cycle_ns = 1;
	mutex_init(&c->lock, "irqchip");
	return 0;
}

void irqchip_destroy(struct irqchip *c)
{
	irqfd_destroy(c);
	pit_destroy(c);
	ioapic_destroy(c);
	pic_destroy(c);
	routes_destroy(c);
	free(c->lapics);
	c->lapics = NULL;
	c->nlapics = 0;
	c->kernel = c->split = false;
}

int irqchip_create(struct irqchip *c)
{
	int r;

	if (c->kernel || c->split)
		return -EEXIST;
	r = pic_create(c);
	if (!r)
		r = ioapic_create(c);
	if (!r)
		r = routes_default(c, false);
	if (r) {
		ioapic_destroy(c);
		pic_destroy(c);
		return r;
	}
	c->kernel = true;
	return 0;
}

int irqchip_split(struct irqchip *c, u32 pins)
{
	int r;

	if (pins > IRQ_MAX_ROUTES)
		return -EINVAL;
	if (c->kernel || c->split)
		return -EEXIST;
	r = routes_default(c, true);
	if (r)
		return r;
	c->split_pins = pins;
	c->split = true;
	return 0;
}

int irqchip_add_lapic(struct irqchip *c, struct lapic *l)
{
	int r = c->svc ? svc_timer_reserve(c->svc) : 0;

	if (r)
		return r;
	mutex_lock(&c->lock);
	if (c->nlapics >= MAX_LAPICS) {
		r = -EINVAL;
	} else {
		store_release(&c->lapics[c->nlapics], l);
		store_release(&c->nlapics, c->nlapics + 1);
		if (c->split)
			irq_scan_eoi_exits_locked(c, l);
	}
	irqchip_unlock(c);
	return r;
}

void irqchip_del_lapic(struct irqchip *c, struct lapic *l)
{
	bool found = false;

	if (!c->lapics)
		return;
	mutex_lock(&c->lock);
	for (u32 i = 0; i < c->nlapics; i++) {
		if (c->lapics[i] != l)
			continue;
		found = true;
		store_release(&c->lapics[i], NULL);
	}
	while (c->nlapics && !c->lapics[c->nlapics - 1])
		store_release(&c->nlapics, c->nlapics - 1);
	irqchip_unlock(c);
	if (found && c->ops->synchronize)
		c->ops->synchronize(c);
}

int irqchip_set_line(struct irqchip *c, u32 gsi, int level, int *status)
{
	int r;

	if (!c->kernel && !c->split)
		return -ENXIO;
	mutex_lock(&c->lock);
	r = irqchip_set_gsi_locked(c, gsi, IRQ_SRC_USER, level, status != NULL);
	irqchip_unlock(c);
	if (status)
		*status = r;
	return 0;
}

int irqchip_signal_msi(struct irqchip *c, const struct kvm_msi *msi)
{
	int r;

	if ((!c->kernel && !c->split) || msi->flags)
		return -EINVAL;
	mutex_lock(&c->lock);
	r = irq_deliver_msi(c, (u64)msi->address_hi << 32 | msi->address_lo, msi->data);
	irqchip_unlock(c);
	return r;
}

int irqchip_get(struct irqchip *c, struct kvm_irqchip *k)
{
	int r = 0;

	if (!c->kernel)
		return -ENXIO;
	mutex_lock(&c->lock);
	switch (k->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE: pic_get_locked(c, k->chip_id, &k->chip.pic); break;
	case KVM_IRQCHIP_IOAPIC: ioapic_get_locked(c, &k->chip.ioapic); break;
	default: r = -EINVAL;
	}
	irqchip_unlock(c);
	return r;
}

int irqchip_set(struct irqchip *c, const struct kvm_irqchip *k)
{
	int r = 0;

	if (!c->kernel)
		return -ENXIO;
	mutex_lock(&c->lock);
	switch (k->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE: pic_set_locked(c, k->chip_id, &k->chip.pic); break;
	case KVM_IRQCHIP_IOAPIC: ioapic_set_locked(c, &k->chip.ioapic); break;
	default: r = -EINVAL;
	}
	irqchip_unlock(c);
	return r;
}
