/* SPDX-License-Identifier: MIT */
/*
 * The table of memory slots.
 *
 * A change is made in three steps: everything that can fail (checks, the new table, a new dirty bitmap, new memory); then the new
 * table is installed and ops->flush_all() returns when no vCPU and no other reader uses the old one; then what only the old one
 * needed is freed. A table is an array sorted by gfn, copied for each change: some tens of thousands of slots cost a copy of about
 * two megabytes a change, and lookups stay a binary search without locks. The old table's memory is kept for the next change.
 *
 * Which changes are allowed, and the order of the checks (it decides which error a caller sees), are those of Linux 6.18 on x86.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/agent.h"
#include "base/process.h"
#include "base/ramfile.h"
#include "base/sys.h"
#include "mem/mem_int.h"

/* Dirty log calls count pages in 32 bits. */
#define SLOT_MAX_PAGES ((1ull << 31) - 1)
/* Guest-physical addresses have at most 52 bits, whatever the guest's CPUID says. */
#define MAX_GFN ((1ull << (52 - PAGE_SHIFT)) - 1)

/* User addresses end one page below the half that belongs to the kernel; how wide they are depends on 5-level paging of the host. */
static u64 host_user_max(void)
{
	u64 wide = 1ull << 48;

	/* mincore() of nothing fails only if the address cannot be a user's. */
	if (agent_sys3(SYS_mincore, wide, 0, 0) == 0)
		return (1ull << 56) - PAGE_SIZE;
	return (1ull << 47) - PAGE_SIZE;
}

int mem_init(struct guest_mem *m, const struct mem_ops *ops)
{
	int r;

	memset(m, 0, sizeof(*m));
	mutex_init(&m->lock, "mem");
	m->ops = ops;
	m->user_max = host_user_max();
	m->slots = calloc(1, sizeof(*m->slots));
	m->id_table = calloc(MEM_MAX_SLOTS, sizeof(*m->id_table));
	r = m->slots && m->id_table ? track_init(m) : -ENOMEM;
	if (r) {
		free(m->slots);
		free(m->id_table);
		m->slots = NULL;
		m->id_table = NULL;
	}
	return r;
}

void mem_pages_put(struct mem_pages *p)
{
	if (__atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL))
		return;
	sys_munmap(p->addr, p->len);
	free(p);
}

static void release_slot(struct memslot *s)
{
	dirty_free(s->dirty);
	if (s->owned)
		mem_pages_put(s->owned);
}

void mem_destroy(struct guest_mem *m)
{
	if (m->slots)
		for (u32 i = 0; i < m->slots->n; i++)
			release_slot(&m->slots->slot[i]);
	free(m->slots);
	free(m->spare);
	free(m->id_table);
	m->slots = m->spare = NULL;
	m->id_table = NULL;
	track_destroy(m);
}

/* Index of the last slot that starts at or below gfn; -1 if there is none. */
static s64 index_below(const struct memslots *s, gfn_t gfn)
{
	u32 lo = 0, hi = s->n;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (s->slot[mid].gfn <= gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (s64)lo - 1;
}

const struct memslot *memslot_find(const struct memslots *s, gfn_t gfn, u32 *hint)
{
	s64 i;

	if (hint && *hint < s->n && gfn - s->slot[*hint].gfn < s->slot[*hint].npages)
		return &s->slot[*hint];
	i = index_below(s, gfn);
	if (i < 0 || gfn - s->slot[i].gfn >= s->slot[i].npages)
		return NULL;
	if (hint)
		*hint = i;
	return &s->slot[i];
}

struct memslot *memslot_by_id(struct guest_mem *m, u32 id)
{
	s64 i;

	if (id >= MEM_MAX_SLOTS || !m->id_table[id])
		return NULL;
	i = index_below(m->slots, m->id_table[id] - 1);
	return &m->slots->slot[i];
}

static bool overlaps(const struct memslots *s, u32 id, gfn_t gfn, u64 npages)
{
	s64 i = index_below(s, gfn + npages - 1);

	/* Slots do not overlap each other, so at most the slot's former place hides one more that must be looked at. */
	for (; i >= 0 && s->slot[i].gfn + s->slot[i].npages > gfn; i--)
		if (s->slot[i].id != id)
			return true;
	return false;
}

static struct memslot *copy_range(struct memslot *out, const struct memslots *t, u32 from, u32 to)
{
	memcpy(out, &t->slot[from], (to - from) * sizeof(*out));
	return out + (to - from);
}

/* Memory for a table of n slots: that of the one before the present one if it is large enough, so that changes of many slots do not allocate. */
static struct memslots *table_room(struct guest_mem *m, u32 n)
{
	struct memslots *r = m->spare;
	u32 room = n + n / 4 + 4;

	if (r && r->room >= n) {
		m->spare = NULL;
		return r;
	}
	r = malloc(sizeof(*r) + room * sizeof(r->slot[0]));
	if (r)
		r->room = room;
	return r;
}

/* A copy of the present table without `old` and with `new` (either may be NULL). */
static struct memslots *table_copy(struct guest_mem *m, const struct memslots *t, const struct memslot *old, const struct memslot *new)
{
	u32 n = t->n - (old != NULL) + (new != NULL);
	struct memslots *r = table_room(m, n);
	u32 without = old ? (u32)(old - t->slot) : t->n;               /* the one that is left out */
	u32 before = new ? (u32)(index_below(t, new->gfn) + 1) : t->n; /* the one that `new` comes before */
	struct memslot *out;

	if (!r)
		return NULL;
	r->generation = t->generation + 1;
	r->n = n;
	out = r->slot;
	if (before <= without) {
		out = copy_range(out, t, 0, before);
		if (new)
			*out++ = *new;
		out = copy_range(out, t, before, without);
		copy_range(out, t, without + (old != NULL), t->n);
	} else {
		out = copy_range(out, t, 0, without);
		out = copy_range(out, t, without + 1, before);
		if (new)
			*out++ = *new;
		copy_range(out, t, before, t->n);
	}
	return r;
}

/*
 * Replace `old` by `new`. `new` is complete but for its dirty bitmap. On success the memory that `old` owned is released unless `new`
 * has it; on failure nothing has changed.
 */
static int replace_slot(struct guest_mem *m, struct memslot *old, struct memslot *new)
{
	struct memslots *before = m->slots, *t;
	struct memslot gone = { 0 };

	if (new && (new->flags & KVM_MEM_LOG_DIRTY_PAGES)) {
		new->dirty = old ? old->dirty : NULL;
		if (!new->dirty)
			new->dirty = dirty_alloc(new->npages, m->manual_protect && m->initially_set);
		if (!new->dirty)
			return -ENOMEM;
	}
	t = table_copy(m, before, old, new);
	if (!t) {
		if (new && new->dirty && !(old && old->dirty))
			dirty_free(new->dirty);
		return -ENOMEM;
	}
	if (old) {
		gone = *old;
		m->id_table[old->id] = 0;
		if (new && new->dirty == gone.dirty)
			gone.dirty = NULL;
		if (new && new->owned == gone.owned)
			gone.owned = NULL;
	}
	if (new)
		m->id_table[new->id] = new->gfn + 1;
	store_release(&m->slots, t);
	m->ops->flush_all(m);
	free(m->spare);
	m->spare = before;
	release_slot(&gone);
	return 0;
}

struct request {
	struct memslot slot;
	bool own;  /* we supply the memory */
	int vm_fd; /* of which file; -1: anonymous */
};

/* Memory for a slot that is ours. A file is made long enough, so that no access meets its end. */
static int own_memory(struct request *q)
{
	u64 len = q->slot.npages << PAGE_SHIFT, off = q->slot.gfn << PAGE_SHIFT;
	struct mem_pages *pages = malloc(sizeof(*pages));
	struct stat st;
	void *p;
	int r;

	if (!pages)
		return -ENOMEM;
	if (q->vm_fd < 0) {
		p = sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	} else {
		r = sys3(SYS_fstat, q->vm_fd, &st, 0);
		if (!r && (u64)st.st_size < off + len)
			r = sys_ftruncate(q->vm_fd, off + len);
		if (r)
			goto out;
		p = sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, q->vm_fd, off);
	}
	if (sys_is_err(p)) {
		r = (int)(long)p;
		goto out;
	}
	pages->addr = p;
	pages->len = len;
	pages->refs = 1;
	q->slot.owned = pages;
	q->slot.hva = (u64)p;
	return 0;

out:
	free(pages);
	return r;
}

static int create_slot(struct guest_mem *m, struct request *q)
{
	int r;

	if (overlaps(m->slots, q->slot.id, q->slot.gfn, q->slot.npages))
		return -EEXIST;
	if (q->slot.gfn + q->slot.npages - 1 > MAX_GFN)
		return -EINVAL;
	r = q->own ? own_memory(q) : 0;
	if (r)
		return r;
	if (process_direct)
		ramfile_share(q->slot.hva, q->slot.npages << PAGE_SHIFT, load_relaxed(&m->ran));
	r = replace_slot(m, NULL, &q->slot);
	if (r && q->own)
		mem_pages_put(q->slot.owned);
	return r;
}

static int modify_slot(struct guest_mem *m, struct memslot *old, struct request *q)
{
	bool move = q->slot.gfn != old->gfn;

	if (q->own) {
		if (!old->owned)
			return -EINVAL;
		/* The file's offset is the guest-physical address: such a slot has one place only. */
		if (move && q->vm_fd >= 0)
			return -EINVAL;
		q->slot.hva = old->hva;
	}
	if (q->slot.hva != old->hva || q->slot.npages != old->npages || ((q->slot.flags ^ old->flags) & KVM_MEM_READONLY))
		return -EINVAL;
	if (!move && q->slot.flags == old->flags)
		return 0;
	if (move) {
		if (overlaps(m->slots, q->slot.id, q->slot.gfn, q->slot.npages))
			return -EEXIST;
		if (q->slot.gfn + q->slot.npages - 1 > MAX_GFN)
			return -EINVAL;
	}
	q->slot.owned = old->owned;
	return replace_slot(m, old, &q->slot);
}

static int set_region(struct guest_mem *m, const struct kvm_userspace_memory_region *r, bool own, int vm_fd)
{
	struct request q = { .own = own, .vm_fd = vm_fd };
	struct memslot *old;
	int ret;

	/* Bits 16.. of the slot number are the address space; there is one. */
	if ((r->slot >> 16) || r->slot >= MEM_MAX_SLOTS)
		return -EINVAL;
	if (r->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	if (((r->memory_size | r->guest_phys_addr | r->userspace_addr) & (PAGE_SIZE - 1)))
		return -EINVAL;
	if (r->userspace_addr + r->memory_size < r->userspace_addr || r->userspace_addr + r->memory_size > m->user_max)
		return -EINVAL;
	if (r->guest_phys_addr + r->memory_size < r->guest_phys_addr)
		return -EINVAL;
	if ((r->memory_size >> PAGE_SHIFT) > SLOT_MAX_PAGES)
		return -EINVAL;
	q.slot.id = r->slot;
	q.slot.flags = r->flags;
	q.slot.gfn = r->guest_phys_addr >> PAGE_SHIFT;
	q.slot.npages = r->memory_size >> PAGE_SHIFT;
	q.slot.hva = r->userspace_addr;

	mutex_lock(&m->lock);
	old = memslot_by_id(m, r->slot);
	if (!q.slot.npages)
		ret = old ? replace_slot(m, old, NULL) : -EINVAL;
	else if (old)
		ret = modify_slot(m, old, &q);
	else
		ret = create_slot(m, &q);
	mutex_unlock(&m->lock);
	return ret;
}

int mem_set_region(struct guest_mem *m, const struct kvm_userspace_memory_region *r)
{
	return set_region(m, r, false, -1);
}

int mem_set_region_owned(struct guest_mem *m, u32 slot, u32 flags, gpa_t gpa, u64 size, int vm_fd)
{
	struct kvm_userspace_memory_region r = { .slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size };

	return set_region(m, &r, true, vm_fd);
}

bool mem_owns_hva(struct guest_mem *m, u64 hva, gpa_t *gpa)
{
	const struct memslots *t = mem_slots(m);

	for (u32 i = 0; i < t->n; i++) {
		u64 off = hva - t->slot[i].hva;

		if (off < t->slot[i].npages << PAGE_SHIFT) {
			if (gpa)
				*gpa = (t->slot[i].gfn << PAGE_SHIFT) + off;
			return true;
		}
	}
	return false;
}
