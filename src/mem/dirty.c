/* SPDX-License-Identifier: MIT */
/*
 * The dirty log: KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG.
 *
 * A page's bit is set when a vCPU gets a write translation for it, or after API code has written to it. Taking a bit away must be
 * followed by flush_write() before the page's content is looked at: then a vCPU that writes again must ask again, and set the bit again.
 * So the order here is: exchange the words, flush, copy out. Bits are lost if the VMM's bitmap turns out to be bad, as with the kernel.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/sys.h"
#include "mem/mem_int.h"

u64 *dirty_alloc(u64 npages, bool all_set)
{
	size_t n = dirty_words(npages);
	u64 *b = calloc(2 * n, sizeof(*b));

	if (b && all_set) {
		for (size_t i = 0; i < n; i++)
			b[i] = ~0ull;
		if (npages % 64)
			b[n - 1] = BIT(npages % 64) - 1;
	}
	return b;
}

void dirty_free(u64 *bitmap)
{
	free(bitmap);
}

static int logged_slot(struct guest_mem *m, u32 id, struct memslot **out)
{
	struct memslot *s = memslot_by_id(m, id);

	if (!s || !s->dirty)
		return -ENOENT;
	*out = s;
	return 0;
}

static int get_log(struct guest_mem *m, u32 slot, void *bitmap)
{
	struct memslot *s;
	bool flush = false;
	u64 *second;
	size_t n;
	int r = logged_slot(m, slot, &s);

	if (r)
		return r;
	n = dirty_words(s->npages);
	second = s->dirty + n;
	for (size_t i = 0; i < n; i++) {
		u64 w = load_relaxed(&s->dirty[i]);

		if (w && !m->manual_protect) {
			w = __atomic_exchange_n(&s->dirty[i], 0, __ATOMIC_SEQ_CST);
			flush = true;
		}
		second[i] = w;
	}
	if (flush)
		m->ops->flush_write(m);
	return copy_to_user(bitmap, second, n * sizeof(u64));
}

int mem_get_dirty_log(struct guest_mem *m, u32 slot, void *bitmap)
{
	int r;

	if (slot >= MEM_MAX_SLOTS)
		return -EINVAL;
	mutex_lock(&m->lock);
	r = get_log(m, slot, bitmap);
	mutex_unlock(&m->lock);
	return r;
}

static int clear_log(struct guest_mem *m, u32 slot, u64 first, u32 num, const void *bitmap)
{
	struct memslot *s;
	bool flush = false;
	u64 *second, left;
	size_t n = dirty_words(num);
	int r = logged_slot(m, slot, &s);

	if (r)
		return r;
	if (first > s->npages)
		return -EINVAL;
	left = s->npages - first;
	if (num > left || (num < left && num % 64))
		return -EINVAL;
	second = s->dirty + dirty_words(s->npages);
	if (copy_from_user(second, bitmap, n * sizeof(u64)))
		return -EFAULT;
	for (size_t i = 0; i < n; i++)
		if (second[i] && (__atomic_fetch_and(&s->dirty[first / 64 + i], ~second[i], __ATOMIC_SEQ_CST) & second[i]))
			flush = true;
	if (flush)
		m->ops->flush_write(m);
	return 0;
}

int mem_clear_dirty_log(struct guest_mem *m, u32 slot, u64 first_page, u32 num_pages, const void *bitmap)
{
	int r;

	if (slot >= MEM_MAX_SLOTS || first_page % 64)
		return -EINVAL;
	mutex_lock(&m->lock);
	r = clear_log(m, slot, first_page, num_pages, bitmap);
	mutex_unlock(&m->lock);
	return r;
}
