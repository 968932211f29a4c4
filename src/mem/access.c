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

/* Both sides' pages one by one, so that a fault comes with a piece's first byte: bytes not copied. */
static size_t copy_by_pages(void *dst, const void *src, size_t len, int (*copy)(void *, const void *, size_t))
{
	while (len) {
		size_t n = MIN(PAGE_SIZE - ((u64)dst & ~PAGE_MASK), PAGE_SIZE - ((u64)src & ~PAGE_MASK));

		n = MIN(n, len);
		if (copy(dst, src, n))
			break;
		dst = (char *)dst + n;
		src = (const char *)src + n;
		len -= n;
	}
	return len;
}

static size_t copy_part(void *dst, const void *src, size_t len, int (*copy)(void *, const void *, size_t))
{
	return likely(!copy(dst, src, len)) ? 0 : copy_by_pages(dst, src, len, copy);
}

size_t mem_copy_from(struct guest_mem *m, void *buf, gpa_t gpa, size_t len, u32 *hint)
{
	const struct memslots *t = mem_slots(m);

	while (len) {
		size_t n, left;
		u64 hva;

		if (!part(t, gpa, len, hint, &hva, &n))
			break;
		left = copy_part(buf, (const void *)hva, n, copy_from_user);
		len -= n - left;
		if (left)
			break;
		buf = (char *)buf + n;
		gpa += n;
	}
	return len;
}

void memslot_wrote(struct guest_mem *m, const struct memslot *s, gpa_t gpa, size_t n)
{
	u64 hva = s->hva + (gpa - (s->gfn << PAGE_SHIFT));

	if (!n)
		return;
	/* The bytes before the look at what is tracked: mem_track_code() marks the page before it lets its caller read it. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (gfn_t g = gpa >> PAGE_SHIFT; g <= (gpa + n - 1) >> PAGE_SHIFT; g++)
		memslot_mark_dirty(s, g);
	for (u64 h = hva & PAGE_MASK; h <= hva + n - 1; h += PAGE_SIZE)
		mem_note_write(m, h);
}

size_t mem_copy_to(struct guest_mem *m, gpa_t gpa, const void *buf, size_t len, u32 *hint)
{
	const struct memslots *t = mem_slots(m);

	while (len) {
		const struct memslot *s;
		size_t n, left;
		u64 hva;

		s = part(t, gpa, len, hint, &hva, &n);
		if (!s || (s->flags & KVM_MEM_READONLY))
			break;
		left = copy_part((void *)hva, buf, n, copy_to_user);
		memslot_wrote(m, s, gpa, n); /* a copy that failed may have written its beginning */
		len -= n - left;
		if (left)
			break;
		buf = (const char *)buf + n;
		gpa += n;
	}
	return len;
}

int mem_read(struct guest_mem *m, gpa_t gpa, void *buf, size_t len)
{
	u32 hint = 0;

	return mem_copy_from(m, buf, gpa, len, &hint) ? -EFAULT : 0;
}

int mem_write(struct guest_mem *m, gpa_t gpa, const void *buf, size_t len)
{
	u32 hint = 0;

	return mem_copy_to(m, gpa, buf, len, &hint) ? -EFAULT : 0;
}
