/* SPDX-License-Identifier: MIT */
/*
 * Guest-physical memory: memory slots, the dirty log, and who must hear of writes to a page.
 *
 * Readers (vCPU threads inside KVM_RUN, API calls, in-process clients) look at an immutable table of slots through
 * mem_slots(), inside a qsbr read section (base/qsbr.h). Writers hold `lock`, install a new table, make every vCPU drop its
 * translations, and wait for all readers before the old one is freed and before the ioctl returns: after that the VMM may unmap the
 * memory. Dirty bitmaps belong to the slot and are written with atomic bit operations.
 *
 * Write tracking is keyed by HOST page, since one host page can stand at several guest-physical addresses.
 */
#ifndef USEKVM_MEM_MEM_H
#define USEKVM_MEM_MEM_H

#include <linux/kvm.h>

#include "base/lock.h"
#include "base/qsbr.h"
#include "base/types.h"

#define MEM_MAX_SLOTS 32764 /* KVM_CAP_NR_MEMSLOTS, as Linux x86 */

/* Memory that is ours and not the VMM's. Unmapped with the last reference. */
struct mem_pages {
	u32 refs; /* atomic */
	void *addr;
	u64 len;
};
/* For one who found it in a slot, inside a read section, or has a reference already. */
static inline void mem_pages_get(struct mem_pages *p)
{
	__atomic_fetch_add(&p->refs, 1, __ATOMIC_RELAXED);
}
void mem_pages_put(struct mem_pages *p) hidden;

struct memslot {
	u32 id, flags;   /* KVM_MEM_* */
	gfn_t gfn;
	u64 npages;
	u64 hva;         /* host address of the first page */
	u64 *dirty;      /* one bit a page, if KVM_MEM_LOG_DIRTY_PAGES; shared by successive tables */
	struct mem_pages *owned; /* KVM_SET_MEMORY_REGION: memory we mapped; the slot has a reference */
};

struct memslots { /* immutable once installed */
	u64 generation;
	u32 n, room; /* room: how many the allocation can hold */
	struct memslot slot[]; /* sorted by gfn, not overlapping */
};

struct guest_mem;

/* What memory asks of the VM. */
struct mem_ops {
	/* Make every vCPU drop (all / write) translations; returns when none uses a stale one any more. Called with guest_mem.lock held. */
	void (*flush_all)(struct guest_mem *m);
	void (*flush_write)(struct guest_mem *m);
	/* Bytes of a page of code were written: every vCPU looks again before it relies on what it knows of code. May be NULL. */
	void (*code_written)(struct guest_mem *m);
};

struct mem_track; /* host pages that hold decoded code: mem/track.c */

struct guest_mem {
	struct memslots *slots;     /* load_acquire */
	struct mutex lock;          /* writers; dirty log calls */
	struct memslots *spare;     /* the table before: its memory is the next one's; under lock */
	const struct mem_ops *ops;
	struct mem_track *track;
	u32 engines;                /* atomic: vCPUs with decoded code, for sharing out memory among them */
	bool manual_protect;        /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	bool initially_set;
	bool ran;                   /* atomic: a vCPU has run, and threads of the VMM may be writing to the guest's memory */
	u64 *id_table;              /* by slot id: gfn + 1, 0 if there is no such slot; under lock */
	u64 user_max;               /* highest end of a user mapping, as the host kernel's access_ok() has it */
};

int mem_init(struct guest_mem *m, const struct mem_ops *ops) hidden;
void mem_destroy(struct guest_mem *m) hidden;

static inline const struct memslots *mem_slots(const struct guest_mem *m)
{
	return load_acquire(&m->slots);
}

/* The slot that holds gfn, or NULL. Binary search; *hint (may be NULL) remembers the last index found. */
const struct memslot *memslot_find(const struct memslots *s, gfn_t gfn, u32 *hint) hidden;

/* KVM_SET_USER_MEMORY_REGION with KVM's checks and errors (EINVAL, EEXIST, ENOMEM, ...). */
int mem_set_region(struct guest_mem *m, const struct kvm_userspace_memory_region *r) hidden;
/* KVM_SET_MEMORY_REGION (0x40): as above with memory that we allocate (or, vm_fd >= 0, a MAP_SHARED mapping of it at offset gpa). */
int mem_set_region_owned(struct guest_mem *m, u32 slot, u32 flags, gpa_t gpa, u64 size, int vm_fd) hidden;

/* Dirty log. Bitmaps are copied to `bitmap`, a user pointer that may be bad (EFAULT). */
int mem_get_dirty_log(struct guest_mem *m, u32 slot, void *bitmap) hidden;
int mem_clear_dirty_log(struct guest_mem *m, u32 slot, u64 first_page, u32 num_pages, const void *bitmap) hidden;
static inline void memslot_mark_dirty(const struct memslot *s, gfn_t gfn)
{
	if (s->dirty) {
		u64 n = gfn - s->gfn;
		if (!(load_relaxed(&s->dirty[n / 64]) & BIT(n % 64)))
			__atomic_fetch_or(&s->dirty[n / 64], BIT(n % 64), __ATOMIC_RELAXED);
	}
}

/*
 * Copies for API code, devices and clients, inside the caller's read section: cross slots, mark dirty, tell the write tracking, survive host
 * memory that is not there. They stop at the first byte that cannot be copied and return how many are left. A read-only slot is not
 * written. hint: as for memslot_find().
 */
size_t mem_copy_from(struct guest_mem *m, void *buf, gpa_t gpa, size_t len, u32 *hint) hidden;
size_t mem_copy_to(struct guest_mem *m, gpa_t gpa, const void *buf, size_t len, u32 *hint) hidden;
/* Bytes [gpa, gpa + len) of one slot were written past these functions: dirty bits, write tracking. */
void memslot_wrote(struct guest_mem *m, const struct memslot *s, gpa_t gpa, size_t len) hidden;
/* The same for all or nothing: 0 or -EFAULT (a part may be done). */
int mem_read(struct guest_mem *m, gpa_t gpa, void *buf, size_t len) hidden;
int mem_write(struct guest_mem *m, gpa_t gpa, const void *buf, size_t len) hidden;

/* ---- pages that hold decoded code ---- */

/*
 * mem_track_code(): from now on writes by vCPUs to this host page are to be reported; returns the page's version cell, which is
 * incremented (atomically) on each reported write. Stays valid until mem_destroy. *was_new: it was not tracked before, and vCPUs may
 * hold write translations for it: the caller drops its own and has the others do so (cpu_ops.write_flush_start).
 * mem_is_code(): may a write translation be cached for this host page? Called on each TLB fill for write.
 * mem_note_write(): a write to a tracked page happened or is about to; bump its version.
 * mem_untrack(): this page is written to again and again and no longer run, as it seems: writes need not be reported until somebody calls
 * mem_track_code() for it, which who finds the version changed does before he compares the bytes; the version that he goes by afterwards is one that he
 * has read before that call. Called after mem_note_write().
 */
u32 *mem_track_code(struct guest_mem *m, u64 hva_page, bool *was_new) hidden;
bool mem_is_code(struct guest_mem *m, u64 hva_page) hidden;
void mem_note_write(struct guest_mem *m, u64 hva_page) hidden;
void mem_untrack(struct guest_mem *m, u64 hva_page) hidden;
/* No vCPU has code of this page any more (its caches were recycled): writes need not be reported. */
void mem_untrack_all(struct guest_mem *m) hidden;

/* Is host address a inside a memory slot? For the SIGSEGV/SIGBUS handler: async-signal-safe. */
bool mem_owns_hva(struct guest_mem *m, u64 hva, gpa_t *gpa) hidden;

#endif
