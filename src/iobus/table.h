/* SPDX-License-Identifier: MIT */
/*
 * The table of one I/O space, shared by the files of iobus/.
 *
 * One allocation: device ranges sorted by address, coalesced zones, and an open-addressing hash of events by address. Writers hold
 * iobus.lock. Adding a range or a zone, or growing the hash, makes a new table. The other changes are single stores that readers may see or
 * not: an event into a free cell, an event's cell to EVENT_GONE, a range's device to NULL, a zone's size to 0.
 */
#ifndef USEKVM_IOBUS_TABLE_H
#define USEKVM_IOBUS_TABLE_H

#include "iobus/iobus.h"

struct io_range {
	u64 first, last;
	u64 reach;        /* the greatest `last` of this and all ranges before it */
	struct io_dev *dev; /* NULL: deleted */
};

struct io_zone {
	u64 addr;
	u32 size; /* 0: deleted */
};

#define IO_MAX_ZONES 1000 /* the kernel's limit of devices on a bus */
#define EVENT_GONE ((struct io_event *)1)

struct io_table {
	u32 nranges, nzones;
	u32 nevents; /* cells that are not free, EVENT_GONE included */
	u32 live;    /* events */
	u32 mask;    /* cells - 1 */
	struct io_range *range;
	struct io_zone *zone;
	struct io_event **event;
	struct io_table *next_dropped;
};

/*
 * Install a copy of the space's table that has room for an event more, and `range` and `zone` (each may be NULL) put in. The old table is
 * returned through *old: free it after ops->synchronize(), without the lock. Lock held.
 */
int io_table_change(struct iobus *b, enum io_space s, const struct io_range *range, const struct io_zone *zone, struct io_table **old) hidden;

/* -EEXIST if e and another event would both fire for one write. *old as above, NULL if the table was not replaced. Lock held. */
int io_event_insert(struct iobus *b, enum io_space s, struct io_event *e, struct io_table **old) hidden;
/* False if it was not there. The caller synchronizes before e goes away. Lock held. */
bool io_event_remove(struct iobus *b, enum io_space s, struct io_event *e) hidden;
bool io_event_collides(const struct io_event *a, const struct io_event *b) hidden;

/* After a change, without the lock. */
void io_table_retire(struct iobus *b, struct io_table *old) hidden;

void ioeventfd_release_all(struct iobus *b) hidden;
int coalesced_write(struct iobus *b, const struct io_table *t, enum io_space s, u64 addr, unsigned len, const void *data) hidden;

#endif
