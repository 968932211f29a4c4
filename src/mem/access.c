/* SPDX-License-Identifier: MIT */
/*
 * Copies between our memory and guest-physical memory, for API code and devices.
 *
 * The caller is inside a read section: the table of slots is loaded once for a copy and stays valid. Host memory may vanish at any time (the
 * VMM may unmap it), so all copies are the fault-safe ones. What was written is made known after the bytes are there: a dirty bit set too
 * early could be collected before the write, and a version bumped too early could go with the old bytes.
 */
#include <errno.h>

#include "base/sys.h"
#include "mem/mem_int.h"

/* The longest part of [gpa, gpa + len) that lies in one slot. */
static const struct memslot *part(const struct memslots *t, gpa_t gpa, size_t len, u32 *hint, u64 *hva, size_t *n)
{
	const struct memslot *s = memslot_find(t, gpa >> PAGE_SHIFT, hint);
	u64 off;

	if (!s)
		return NULL;
	off = gpa - (s->gfn << PAGE_SHIFT);
	*hva = s->hva + off;
	*n = MIN(len, (s->npages << PAGE_SHIFT) - off);
	return s;
}

int mem_read(struct guest_mem *m, gpa_t gpa, void *buf, size_t len)
{
	const struct memslots *t = mem_slots(m);
	u32 hint = 0;

	while (len) {
		u64 hva;
		size_t n;

		if (!part(t, gpa, len, &hint, &hva, &n) || copy_from_user(buf, (const void *)hva, n))
			return -EFAULT;
		buf = (char *)buf + n;
		gpa += n;
		len -= n;
	}
	return 0;
}

static void wrote(struct guest_mem *m, const struct memslot *s, gpa_t gpa, u64 hva, size_t n)
{
	/* The bytes before the look at what is tracked: mem_track_code() marks the page before it lets its caller read it. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (gfn_t g = gpa >> PAGE_SHIFT; g <= (gpa + n - 1) >> PAGE_SHIFT; g++)
		memslot_mark_dirty(s, g);
	for (u64 h = hva & PAGE_MASK; h <= hva + n - 1; h += PAGE_SIZE)
		mem_note_write(m, h);
}

int mem_write(struct guest_mem *m, gpa_t gpa, const void *buf, size_t len)
{
	const struct memslots *t = mem_slots(m);
	u32 hint = 0;

	while (len) {
		const struct memslot *s;
		u64 hva;
		size_t n;
		int r;

		s = part(t, gpa, len, &hint, &hva, &n);
		if (!s || (s->flags & KVM_MEM_READONLY))
			return -EFAULT;
		r = copy_to_user((void *)hva, buf, n);
		wrote(m, s, gpa, hva, n); /* a copy that failed may have written its beginning */
		if (r)
			return r;
		buf = (const char *)buf + n;
		gpa += n;
		len -= n;
	}
	return 0;
}
