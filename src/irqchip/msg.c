/* SPDX-License-Identifier: MIT */
/*
 * Interrupt messages: from an IPI, an IOAPIC pin or an MSI to the LAPICs they name (SDM 3, 11.6 and 11.11).
 *
 * LAPICs are looked at without a lock: their registers are atomic words, and irqchip_del_lapic() waits for readers. A message that
 * races with the change of a LAPIC's address goes to the old or to the new one, as on hardware.
 */
#include <errno.h>

#include "irqchip/chips.h"

#define BROADCAST_X2APIC 0xffffffffu
#define BROADCAST_XAPIC 0xffu

bool irq_msi_invalid(const struct irqchip *c, u64 addr)
{
	return c->x2apic_32bit && ((addr >> 32) & 0xff);
}

void irq_msg_from_msi(struct irqchip *c, u64 addr, u32 data, struct irq_msg *m)
{
	*m = (struct irq_msg){
		.dest = (addr >> 12) & 0xff,
		.vector = data & 0xff,
		.delivery = (data >> 8) & 7,
		.logical = addr & 4,
		.level = data & 0x8000,
		.assert = true,
		.redirect_hint = addr & 8,
	};
	if (c->x2apic_32bit)
		m->dest |= (u32)(addr >> 32) & 0xffffff00u;
}

static bool match_physical(const struct lapic *l, u32 dest)
{
	if (lapic_x2apic(l))
		return dest == BROADCAST_X2APIC || dest == l->id;
	/* An xAPIC id has 8 bits; vCPUs above that must be reachable before they switch to x2APIC. */
	if (l->id > 0xff && dest == l->id)
		return true;
	return dest == BROADCAST_XAPIC || dest == apic_get(l, APIC_ID) >> 24;
}

static bool match_logical(const struct lapic *l, u32 dest)
{
	u32 ldr = apic_get(l, APIC_LDR);

	if (lapic_x2apic(l))
		return dest == BROADCAST_X2APIC || ((ldr >> 16) == (dest >> 16) && (ldr & dest & 0xffff));
	if (dest == BROADCAST_XAPIC)
		return true;
	ldr >>= 24;
	switch (apic_get(l, APIC_DFR) >> 28) {
	case 0xf: return ldr & dest;
	case 0x0: return (ldr >> 4) == (dest >> 4) && (ldr & dest & 0xf);
	default: return false;
	}
}

bool lapic_match(struct lapic *l, struct lapic *src, const struct irq_msg *m)
{
	u32 dest = m->dest;

	switch (m->shorthand) {
	case 1: return l == src;
	case 2: return true;
	case 3: return l != src;
	}
	/* An MSI or IOAPIC message to 0xff means everybody, in x2APIC mode too, unless the VMM has asked for exact ids. */
	if (!src && !l->chip->x2apic_no_broadcast_quirk && dest == BROADCAST_XAPIC && lapic_x2apic(l))
		dest = BROADCAST_X2APIC;
	return m->logical ? match_logical(l, dest) : match_physical(l, dest);
}

static bool lowest_priority(const struct irq_msg *m)
{
	if (m->delivery != DM_LOWEST && !m->redirect_hint)
		return false;
	/* Physical broadcast cannot be arbitrated (SDM 3, 11.6.2.1). */
	return m->logical || m->dest != BROADCAST_XAPIC;
}

/* The vector chooses among the LAPICs that match: a given interrupt always goes to the same one. */
static struct lapic *pick_lowest(struct irqchip *c, struct lapic *src, const struct irq_msg *m, u32 *slot)
{
	u32 n = load_acquire(&c->nlapics), found = 0, want;

	for (u32 i = 0; i < n; i++) {
		struct lapic *l = irqchip_lapic(c, i);

		found += l && lapic_hw_enabled(l) && lapic_sw_enabled(l) && lapic_match(l, src, m);
	}
	if (!found)
		return NULL;
	want = m->vector % found;
	for (u32 i = 0; i < n; i++) {
		struct lapic *l = irqchip_lapic(c, i);

		if (!l || !lapic_hw_enabled(l) || !lapic_sw_enabled(l) || !lapic_match(l, src, m))
			continue;
		if (!want--) {
			*slot = i;
			return l;
		}
	}
	return NULL;
}

static int accept(struct lapic *l, u32 slot, const struct irq_msg *m, u64 *dest)
{
	int r = lapic_accept(l, m->delivery, m->vector, m->assert, m->level);

	if (r && dest)
		dest[slot >> 6] |= BIT(slot & 63);
	return r;
}

int irq_deliver_to(struct irqchip *c, struct lapic *src, const struct irq_msg *m, u64 *dest)
{
	u32 n = load_acquire(&c->nlapics), slot;
	struct lapic *l;
	int r = 0;

	if (lowest_priority(m)) {
		l = pick_lowest(c, src, m, &slot);
		return l ? accept(l, slot, m, dest) : 0;
	}
	/* A vCPU's slot is usually its id, and its alone. */
	if (!m->shorthand && !m->logical && m->dest < MIN(n, BROADCAST_XAPIC) && !__atomic_load_n(&c->ids_moved, __ATOMIC_SEQ_CST)) {
		l = irqchip_lapic(c, m->dest);
		if (l && l->id == m->dest && lapic_hw_enabled(l) && match_physical(l, m->dest))
			return accept(l, m->dest, m, dest);
	}
	for (u32 i = 0; i < n; i++) {
		l = irqchip_lapic(c, i);
		if (l && lapic_hw_enabled(l) && lapic_match(l, src, m))
			r += accept(l, i, m, dest);
	}
	return r;
}

int irq_deliver_msg(struct irqchip *c, struct lapic *src, const struct irq_msg *m)
{
	return irq_deliver_to(c, src, m, NULL);
}

int irq_deliver_msi(struct irqchip *c, u64 addr, u32 data)
{
	struct irq_msg m;

	if (irq_msi_invalid(c, addr))
		return -EINVAL;
	irq_msg_from_msi(c, addr, data, &m);
	return irq_deliver_msg(c, NULL, &m);
}
