/* SPDX-License-Identifier: MIT */
/*
 * Port and MMIO address spaces of a VM: devices that usekvm emulates itself, ioeventfds, coalesced ranges. What no entry takes goes to
 * the VMM as an exit.
 *
 * Lookups run on vCPU threads inside a qsbr read section and take no lock: each space is a table that is replaced as a whole
 * under `lock`, or changed by single atomic stores. Exact-address entries (ioeventfd, xioevent) are hashed, so their number does not matter;
 * device ranges are few and sorted. Writes are offered to events, then devices, then coalesced zones.
 */
#ifndef USEKVM_IOBUS_IOBUS_H
#define USEKVM_IOBUS_IOBUS_H

#include <linux/kvm.h>

#include "base/lock.h"
#include "base/types.h"

enum io_space { IO_MMIO, IO_PIO, IO_SPACES };

struct io_dev;
struct io_dev_ops {
	/* len 1, 2, 4, 8. 0: done; -EOPNOTSUPP: not for me after all, go on looking. Called without locks. */
	int (*read)(struct io_dev *d, void *vcpu, u64 addr, unsigned len, void *data);
	int (*write)(struct io_dev *d, void *vcpu, u64 addr, unsigned len, const void *data);
};
struct io_dev {
	const struct io_dev_ops *ops;
};

/*
 * An exact-address write listener; datamatch and len 0 (any length) as KVM_IOEVENTFD has them. The owner keeps it until deleted. signal()
 * answers whether it took the write; if not, the search goes on as if the event were not there.
 */
struct io_event {
	u64 addr, datamatch;
	u32 len;
	bool match;
	bool (*signal)(struct io_event *e, void *vcpu, u64 addr, unsigned len, const void *data);
	/* iobus_drop_event() only: nobody can look at it any more. */
	void (*free)(struct io_event *e);
	struct io_event *next_dropped;
};

struct iobus;
struct iobus_ops {
	/* Returns when no vCPU looks at an old table any more. Called without the lock. */
	void (*synchronize)(struct iobus *b);
	/*
	 * The same without waiting: passed(mark) says whether no vCPU looks any more at what was replaced before mark() (and asks those that may to hurry).
	 * May be NULL both: then synchronize() does it.
	 */
	u64 (*mark)(struct iobus *b);
	bool (*passed)(struct iobus *b, u64 mark);
};

struct io_dropped {
	struct io_table *tables;
	struct io_event *events;
};

struct iobus {
	struct io_table *table[IO_SPACES]; /* load_acquire */
	struct mutex lock;
	const struct iobus_ops *ops;
	struct ioeventfd *ioeventfds;         /* implementation's own; under lock */
	struct kvm_coalesced_mmio_ring *ring; /* one page, shared with the vCPU mappings; NULL: no coalescing */
	u32 ring_lock;
	struct io_dropped fresh, waiting;     /* what vCPUs may still look at: `waiting` is free when `mark` has passed; under lock */
	u64 mark;
};

int iobus_init(struct iobus *b, const struct iobus_ops *ops) hidden;
void iobus_destroy(struct iobus *b) hidden; /* releases ioeventfds */

/* 0: handled; -EOPNOTSUPP: the VMM's. vcpu is passed on to the devices (the LAPIC needs to know whose access it is). */
int iobus_read(struct iobus *b, enum io_space s, void *vcpu, u64 addr, unsigned len, void *data) hidden;
int iobus_write(struct iobus *b, enum io_space s, void *vcpu, u64 addr, unsigned len, const void *data) hidden;

int iobus_add_dev(struct iobus *b, enum io_space s, u64 addr, u64 len, struct io_dev *d) hidden;
void iobus_del_dev(struct iobus *b, enum io_space s, struct io_dev *d) hidden; /* all its ranges; synchronizes */
/* These two never wait for a vCPU, so that they may be called with locks held, and on a vCPU's thread from within a signal(). */
int iobus_add_event(struct iobus *b, enum io_space s, struct io_event *e) hidden; /* -EEXIST if the same match exists */
/* Delete e, and call e->free some time later when no vCPU can look at it. A signal() may run until then: the owner's matter. */
void iobus_drop_event(struct iobus *b, enum io_space s, struct io_event *e) hidden;
void iobus_del_event(struct iobus *b, enum io_space s, struct io_event *e) hidden; /* synchronizes: no signal() runs after it */

/* KVM_IOEVENTFD with KVM's errors: the eventfd is duplicated, so it stays ours until deassigned. */
int iobus_ioeventfd(struct iobus *b, const struct kvm_ioeventfd *args) hidden;
/* KVM_(UN)REGISTER_COALESCED_MMIO. */
int iobus_coalesced(struct iobus *b, const struct kvm_coalesced_mmio_zone *z, bool add) hidden;

#endif
