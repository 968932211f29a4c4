/* SPDX-License-Identifier: MIT */
/*
 * Dispatch of port and MMIO accesses, and the tables behind it (see table.h for what may change in place and what replaces a table).
 *
 * ops->synchronize() is called with the lock free, so that a reader that is late because it waits for the lock does not hang its waiter.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "iobus/table.h"

#define MIN_CELLS 8

static u32 event_hash(u64 addr)
{
	return (addr * 0x9e3779b97f4a7c15ull) >> 32;
}

static struct io_table *table_alloc(u32 nranges, u32 nzones, u32 cells)
{
	size_t at_zones = sizeof(struct io_table) + nranges * sizeof(struct io_range);
	size_t at_events = ALIGN_UP(at_zones + nzones * sizeof(struct io_zone), sizeof(void *));
	struct io_table *t = calloc(1, at_events + cells * sizeof(struct io_event *));

	if (!t)
		return NULL;
	t->range = (struct io_range *)(t + 1);
	t->zone = (struct io_zone *)((char *)t + at_zones);
	t->event = (struct io_event **)((char *)t + at_events);
	t->mask = cells - 1;
	return t;
}

int iobus_init(struct iobus *b, const struct iobus_ops *ops)
{
	memset(b, 0, sizeof(*b));
	mutex_init(&b->lock, "iobus");
	b->ops = ops;
	for (unsigned s = 0; s < IO_SPACES; s++) {
		b->table[s] = table_alloc(0, 0, MIN_CELLS);
		if (!b->table[s]) {
			while (s--)
				free(b->table[s]);
			return -ENOMEM;
		}
	}
	return 0;
}

static void free_dropped(struct io_dropped *d)
{
	while (d->tables) {
		struct io_table *t = d->tables;

		d->tables = t->next_dropped;
		free(t);
	}
	while (d->events) {
		struct io_event *e = d->events;

		d->events = e->next_dropped;
		e->free(e);
	}
}

void iobus_destroy(struct iobus *b)
{
	ioeventfd_release_all(b);
	free_dropped(&b->fresh);
	free_dropped(&b->waiting);
	for (unsigned s = 0; s < IO_SPACES; s++) {
		free(b->table[s]);
		b->table[s] = NULL;
	}
}

/*
 * Free what has waited long enough, and let what was dropped since wait in its turn. Lock held, and let go of: e->free may be called, and where
 * there is no mark() this waits.
 */
static void collect_unlock(struct iobus *b)
{
	struct io_dropped done = { 0 };

	if ((!b->waiting.tables && !b->waiting.events) || !b->ops->mark || b->ops->passed(b, b->mark)) {
		done = b->waiting;
		b->waiting = b->fresh;
		b->fresh = (struct io_dropped){ 0 };
		if (b->ops->mark && (b->waiting.tables || b->waiting.events))
			b->mark = b->ops->mark(b);
	}
	mutex_unlock(&b->lock);
	if (!b->ops->mark && (done.tables || done.events))
		b->ops->synchronize(b);
	free_dropped(&done);
}

void io_table_retire(struct iobus *b, struct io_table *old)
{
	if (!old)
		return;
	b->ops->synchronize(b);
	free(old);
}

static void event_put(struct io_table *t, struct io_event *e)
{
	u32 i = event_hash(e->addr) & t->mask;

	while (t->event[i] && t->event[i] != EVENT_GONE)
		i = (i + 1) & t->mask;
	if (!t->event[i])
		t->nevents++;
	t->live++;
	store_release(&t->event[i], e);
}

static void copy_ranges(struct io_table *t, const struct io_table *from, const struct io_range *add)
{
	u64 reach = 0;

	for (u32 i = 0; i < from->nranges; i++) {
		if (!from->range[i].dev)
			continue;
		if (add && from->range[i].first > add->first) {
			t->range[t->nranges++] = *add;
			add = NULL;
		}
		t->range[t->nranges++] = from->range[i];
	}
	if (add)
		t->range[t->nranges++] = *add;
	for (u32 i = 0; i < t->nranges; i++) {
		reach = MAX(reach, t->range[i].last);
		t->range[i].reach = reach;
	}
}

int io_table_change(struct iobus *b, enum io_space s, const struct io_range *range, const struct io_zone *zone, struct io_table **old)
{
	struct io_table *from = b->table[s], *t;
	u32 cells = MIN_CELLS;

	while (cells < (from->live + 1) * 4)
		cells *= 2;
	t = table_alloc(from->nranges + (range != NULL), from->nzones + (zone != NULL), cells);
	if (!t)
		return -ENOMEM;
	copy_ranges(t, from, range);
	for (u32 i = 0; i < from->nzones; i++)
		if (from->zone[i].size)
			t->zone[t->nzones++] = from->zone[i];
	if (zone)
		t->zone[t->nzones++] = *zone;
	for (u32 i = 0; i <= from->mask; i++)
		if (from->event[i] && from->event[i] != EVENT_GONE)
			event_put(t, from->event[i]);
	*old = from;
	store_release(&b->table[s], t);
	return 0;
}

/* ---- devices ---- */

int iobus_add_dev(struct iobus *b, enum io_space s, u64 addr, u64 len, struct io_dev *d)
{
	struct io_range r = { .first = addr, .last = addr + len - 1, .dev = d };
	struct io_table *old = NULL;
	int ret;

	if (!len || r.last < addr)
		return -EINVAL;
	mutex_lock(&b->lock);
	ret = io_table_change(b, s, &r, NULL, &old);
	mutex_unlock(&b->lock);
	io_table_retire(b, old);
	return ret;
}

void iobus_del_dev(struct iobus *b, enum io_space s, struct io_dev *d)
{
	struct io_table *t;

	mutex_lock(&b->lock);
	t = b->table[s];
	for (u32 i = 0; i < t->nranges; i++)
		if (t->range[i].dev == d)
			store_release(&t->range[i].dev, NULL);
	mutex_unlock(&b->lock);
	b->ops->synchronize(b);
}

/*
 * Offer an access to each device whose range holds all of it, the one that starts last first: a small range inside a large one
 * wins.
 */
static int dev_access(const struct io_table *t, void *vcpu, u64 addr, unsigned len, void *data, bool write)
{
	u64 last = addr + len - 1;
	u32 lo = 0, hi = t->nranges;

	if (last < addr)
		return -EOPNOTSUPP;
	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (t->range[mid].first <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	while (lo-- && t->range[lo].reach >= last) {
		struct io_dev *d = load_acquire(&t->range[lo].dev);
		int r;

		if (!d || t->range[lo].last < last)
			continue;
		if (write)
			r = d->ops->write ? d->ops->write(d, vcpu, addr, len, data) : -EOPNOTSUPP;
		else
			r = d->ops->read ? d->ops->read(d, vcpu, addr, len, data) : -EOPNOTSUPP;
		if (r != -EOPNOTSUPP)
			return r;
	}
	return -EOPNOTSUPP;
}

/* ---- events ---- */

bool io_event_collides(const struct io_event *a, const struct io_event *b)
{
	if (a->addr != b->addr)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (!a->match || !b->match || a->datamatch == b->datamatch);
}

int io_event_insert(struct iobus *b, enum io_space s, struct io_event *e, struct io_table **old)
{
	struct io_table *t = b->table[s];
	int r;

	*old = NULL;
	for (u32 i = event_hash(e->addr) & t->mask; t->event[i]; i = (i + 1) & t->mask)
		if (t->event[i] != EVENT_GONE && io_event_collides(t->event[i], e))
			return -EEXIST;
	if ((t->nevents + 1) * 2 > t->mask) {
		r = io_table_change(b, s, NULL, NULL, old);
		if (r)
			return r;
	}
	event_put(b->table[s], e);
	return 0;
}

bool io_event_remove(struct iobus *b, enum io_space s, struct io_event *e)
{
	struct io_table *t = b->table[s];

	for (u32 i = event_hash(e->addr) & t->mask; t->event[i]; i = (i + 1) & t->mask)
		if (t->event[i] == e) {
			store_release(&t->event[i], EVENT_GONE);
			t->live--;
			return true;
		}
	return false;
}

int iobus_add_event(struct iobus *b, enum io_space s, struct io_event *e)
{
	struct io_table *old;
	int r;

	mutex_lock(&b->lock);
	r = io_event_insert(b, s, e, &old);
	if (old) {
		old->next_dropped = b->fresh.tables;
		b->fresh.tables = old;
	}
	collect_unlock(b);
	return r;
}

void iobus_del_event(struct iobus *b, enum io_space s, struct io_event *e)
{
	mutex_lock(&b->lock);
	io_event_remove(b, s, e);
	mutex_unlock(&b->lock);
	b->ops->synchronize(b);
}

void iobus_drop_event(struct iobus *b, enum io_space s, struct io_event *e)
{
	mutex_lock(&b->lock);
	io_event_remove(b, s, e);
	e->next_dropped = b->fresh.events;
	b->fresh.events = e;
	collect_unlock(b);
}

static u64 value_of(unsigned len, const void *data)
{
	u64 v = 0;

	for (unsigned i = 0; i < len && i < sizeof(v); i++)
		v |= (u64)((const u8 *)data)[i] << (8 * i);
	return v;
}

static bool event_fires(const struct io_event *e, u64 addr, unsigned len, const void *data)
{
	if (e->addr != addr || (e->len && e->len != len))
		return false;
	return !e->match || value_of(len, data) == e->datamatch;
}

/* At most one event matches a write, since collisions are refused. */
static bool event_write(const struct io_table *t, void *vcpu, u64 addr, unsigned len, const void *data)
{
	struct io_event *e;

	for (u32 i = event_hash(addr) & t->mask; (e = load_acquire(&t->event[i])); i = (i + 1) & t->mask)
		if (e != EVENT_GONE && event_fires(e, addr, len, data))
			return e->signal(e, vcpu, addr, len, data);
	return false;
}

/* ---- dispatch ---- */

int iobus_read(struct iobus *b, enum io_space s, void *vcpu, u64 addr, unsigned len, void *data)
{
	return dev_access(load_acquire(&b->table[s]), vcpu, addr, len, data, false);
}

int iobus_write(struct iobus *b, enum io_space s, void *vcpu, u64 addr, unsigned len, const void *data)
{
	const struct io_table *t = load_acquire(&b->table[s]);
	int r;

	if (event_write(t, vcpu, addr, len, data))
		return 0;
	r = dev_access(t, vcpu, addr, len, (void *)data, true);
	if (r != -EOPNOTSUPP)
		return r;
	return coalesced_write(b, t, s, addr, len, data);
}
