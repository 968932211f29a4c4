/* SPDX-License-Identifier: MIT */
/*
 * Coalesced MMIO and port writes: a write inside a registered zone goes to a ring that the VMM empties when it likes.
 *
 * The ring is a page that the VMM can write: `first` and `last` are read once and checked. One place stays free, so that empty and full
 * differ. A write that finds the ring full goes to the VMM as an exit, like one outside all zones.
 */
#include <errno.h>

#include "base/sys.h"
#include "iobus/table.h"

#define RING_ENTRIES ((u32)KVM_COALESCED_MMIO_MAX)

/* Held for some tens of instructions; whoever waits long has met a holder that lost its CPU. */
static void ring_lock(struct iobus *b)
{
	for (unsigned spins = 0; __atomic_exchange_n(&b->ring_lock, 1, __ATOMIC_ACQUIRE); spins++) {
		if (spins < 100)
			__builtin_ia32_pause();
		else
			sys_yield();
	}
}

static void ring_unlock(struct iobus *b)
{
	store_release(&b->ring_lock, 0);
}

static int ring_put(struct iobus *b, enum io_space s, u64 addr, unsigned len, const void *data)
{
	struct kvm_coalesced_mmio_ring *ring = b->ring;
	struct kvm_coalesced_mmio *e;
	u32 at, next;

	at = load_relaxed(&ring->last);
	if (at >= RING_ENTRIES)
		return -EOPNOTSUPP;
	next = (at + 1) % RING_ENTRIES;
	if (next == load_acquire(&ring->first))
		return -EOPNOTSUPP;
	e = &ring->coalesced_mmio[at];
	e->phys_addr = addr;
	e->len = len;
	e->pio = s == IO_PIO;
	for (unsigned i = 0; i < len; i++)
		e->data[i] = ((const u8 *)data)[i];
	store_release(&ring->last, next);
	return 0;
}

static bool zone_holds(u64 zone, u32 size, u64 addr, u64 len)
{
	return size && addr + len >= addr && addr >= zone && addr + len <= zone + size;
}

int coalesced_write(struct iobus *b, const struct io_table *t, enum io_space s, u64 addr, unsigned len, const void *data)
{
	int r = -EOPNOTSUPP;

	if (!b->ring || len > sizeof(b->ring->coalesced_mmio[0].data))
		return r;
	for (u32 i = 0; i < t->nzones; i++) {
		if (!zone_holds(t->zone[i].addr, load_relaxed(&t->zone[i].size), addr, len))
			continue;
		ring_lock(b);
		r = ring_put(b, s, addr, len, data);
		ring_unlock(b);
		break;
	}
	return r;
}

static u32 zones_live(const struct io_table *t)
{
	u32 n = 0;

	for (u32 i = 0; i < t->nzones; i++)
		n += t->zone[i].size != 0;
	return n;
}

static int zone_add(struct iobus *b, enum io_space s, const struct kvm_coalesced_mmio_zone *z, struct io_table **old)
{
	struct io_zone n = { .addr = z->addr, .size = z->size };

	if (zones_live(b->table[s]) >= IO_MAX_ZONES)
		return -ENOSPC;
	/* A zone of no size takes no write. */
	return z->size ? io_table_change(b, s, NULL, &n, old) : 0;
}

/* What goes is every zone that holds all of the range given, not every zone inside it: the kernel's rule. */
static void zone_del(struct iobus *b, enum io_space s, const struct kvm_coalesced_mmio_zone *z)
{
	struct io_table *t = b->table[s];

	if (z->size > INT32_MAX)
		return;
	for (u32 i = 0; i < t->nzones; i++)
		if (zone_holds(t->zone[i].addr, t->zone[i].size, z->addr, z->size))
			store_relaxed(&t->zone[i].size, 0);
}

int iobus_coalesced(struct iobus *b, const struct kvm_coalesced_mmio_zone *z, bool add)
{
	enum io_space s = z->pio ? IO_PIO : IO_MMIO;
	struct io_table *old = NULL;
	int r = 0;

	if (z->pio > 1) /* zones may come before the first vCPU, whose page is the ring */
		return -EINVAL;
	mutex_lock(&b->lock);
	if (add)
		r = zone_add(b, s, z, &old);
	else
		zone_del(b, s, z);
	mutex_unlock(&b->lock);
	io_table_retire(b, old);
	return r;
}
