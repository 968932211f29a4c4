/* SPDX-License-Identifier: MIT */
/*
 * See space.h.
 *
 * Invariants
 *  - What is mapped for writing has its dirty bit set in the guest's tables and in the dirty log, is in no read-only slot, and holds no code that the
 *    engine has decoded: the same as for an entry of the TLB that may be written through (interp/access.c).
 *  - What is mapped for execution has been searched for instructions that must not run as they are (scan.h), and is not mapped for
 *    writing; but for pages whose code changes all the time (SPACE_WX).
 *  - page[] says what the process has, or will have when the commands in ctl have been executed, which is before guest code runs.
 */
#include "direct/space.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/ramfile.h"
#include "base/string.h"
#include "base/sys.h"
#include "direct/scan.h"
#include "mem/mem.h"
#include "mmu/mmu.h"

#define FDS 32u
#define SMALL_WINDOW 16u  /* pages at whose neighbours a fault looks */
#define LARGE_WINDOW 512u

/* ---- the table of pages ---- */

static u32 hash_of(u64 va)
{
	return (u32)((va >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 40) & (SPACE_HASH - 1);
}

static struct spage *find(struct space *s, u64 va)
{
	for (u32 h = hash_of(va); s->hash[h]; h = (h + 1) & (SPACE_HASH - 1)) {
		struct spage *p = &s->page[s->hash[h] - 1];

		if ((p->va & PAGE_MASK) == va)
			return p;
	}
	return NULL;
}

/* There is room: space_fault() has seen to that. */
static struct spage *find_or_add(struct space *s, u64 va)
{
	u32 h = hash_of(va);

	for (; s->hash[h]; h = (h + 1) & (SPACE_HASH - 1)) {
		struct spage *p = &s->page[s->hash[h] - 1];

		if ((p->va & PAGE_MASK) == va)
			return p;
	}
	s->page[s->n] = (struct spage){ va, 0 };
	s->hash[h] = (u16)++s->n;
	return &s->page[s->n - 1];
}

static void table_clear(struct space *s)
{
	if (s->n) {
		sys_madvise(s->hash, SPACE_HASH * sizeof(*s->hash), MADV_DONTNEED); /* zero again */
		sys_madvise(s->page, SPACE_PAGES * sizeof(*s->page), MADV_DONTNEED);
	}
	s->n = 0;
}

/* ---- commands ---- */

static bool run_commands(struct space *s)
{
	if (!dprocess_ctl(s->p)->count)
		return true;
	return dprocess_map(s->p) == 0;
}

static struct dcmd *command(struct space *s)
{
	struct dctl *ctl = dprocess_ctl(s->p);

	if (ctl->count == DCMDS && !run_commands(s))
		return NULL;
	return &ctl->cmd[ctl->count++];
}

static bool unmap_all(struct space *s)
{
	struct dcmd *a, *b;

	dprocess_ctl(s->p)->count = 0;
	a = command(s), b = command(s);
	*a = (struct dcmd){ SYS_munmap, { 0, D_BASE } };
	*b = (struct dcmd){ SYS_munmap, { D_BASE + D_SIZE, D_USER_END - (D_BASE + D_SIZE) } };
	table_clear(s);
	s->large = false;
	s->ncopies = 0;
	return run_commands(s);
}

static bool unmap(struct space *s, struct spage *p)
{
	struct dcmd *m = command(s);

	if (!m)
		return false;
	*m = (struct dcmd){ SYS_munmap, { p->va & PAGE_MASK, PAGE_SIZE } };
	p->va &= ~(u64)SP_ANY;
	for (unsigned k = 0; k < s->ncopies; k++)
		if (s->copy[k].va == (p->va & PAGE_MASK))
			s->copy[k].va = 0;
	return true;
}

static u64 prot_of(unsigned as)
{
	return (as & SP_R ? PROT_READ : 0) | (as & SP_W ? PROT_WRITE : 0) | (as & SP_X ? PROT_EXEC : 0);
}

/* copy: which one to map instead, or -1. One command for pages that follow each other in both. */
static bool map(struct cpu *c, struct space *s, u64 va, u64 hva, unsigned as, int copy)
{
	struct dctl *ctl = dprocess_ctl(s->p);
	struct spage *p = find_or_add(s, va);
	struct ramfile f = { .fd = s->p->ctl_fd };
	struct dcmd *m;
	u64 off = D_SIZE + (u64)copy * PAGE_SIZE;

	if (copy < 0) {
		if (!ramfile_find(hva, &f))
			return true; /* it has gone just now: found out when guest code comes there */
		off = f.off + (hva - f.start);
		for (unsigned k = 0; k < s->ncopies; k++)
			if (s->copy[k].va == va)
				s->copy[k].va = 0;
	}
	p->va = va | (p->va & SP_FLIPS_MASK) | as;
	p->hva = hva;
	stat_add(&c->xstat[XS_DIRECT_PAGES], 1);
	if (ctl->count) {
		m = &ctl->cmd[ctl->count - 1];
		if (m->nr == SYS_mmap && m->arg[0] + m->arg[1] == va && m->arg[2] == prot_of(as) && m->arg[4] == (u64)f.fd && m->arg[5] + m->arg[1] == off) {
			m->arg[1] += PAGE_SIZE;
			return true;
		}
	}
	m = command(s);
	if (!m)
		return false;
	*m = (struct dcmd){ SYS_mmap, { va, PAGE_SIZE, prot_of(as), MAP_SHARED | MAP_FIXED | MAP_POPULATE, (u64)f.fd, off } };
	return true;
}

/* ---- what may be mapped ---- */

/* Where the page at gpa is, and with which rights its slot and the engine leave it. False: not in shareable memory. */
struct host_page {
	u64 hva;
	const struct memslot *slot;
	bool write; /* nobody need hear of it */
};
static bool host_page(struct cpu *c, gpa_t gpa, struct host_page *h)
{
	gfn_t gfn = gpa >> PAGE_SHIFT;

	h->slot = memslot_find(mem_slots(c->mem), gfn, NULL);
	if (!h->slot)
		return false;
	h->hva = h->slot->hva + ((gfn - h->slot->gfn) << PAGE_SHIFT);
	h->write = !h->slot->dirty && !(h->slot->flags & KVM_MEM_READONLY) && !mem_is_code(c->mem, h->hva);
	return ramfile_meets(h->hva, PAGE_SIZE);
}

/* The page of code at va, if it may be looked at; nothing is changed in the guest's tables by looking. */
static const u8 *neighbour(struct cpu *c, u64 va)
{
	struct mmu_result r;
	struct host_page h;

	if (va >= D_USER_END || mmu_peek(c, va, MMU_USER, &r) || !r.exec || !host_page(c, r.gpa, &h))
		return NULL;
	return (const u8 *)h.hva;
}

/* May the page be executed? *copy: as which copy, or -1: as it is. */
static bool may_execute(struct cpu *c, struct space *s, u64 va, u64 hva, int *copy)
{
	struct scan found;
	unsigned k = 0;

	*copy = -1;
	direct_scan(c, (const u8 *)hva, neighbour(c, va - PAGE_SIZE), neighbour(c, va + PAGE_SIZE), &found);
	if (found.refused || !found.n)
		return !found.refused;
	while (k < s->ncopies && s->copy[k].va && s->copy[k].va != va)
		k++;
	if (k == D_COPIES)
		return false;
	if (k == s->ncopies)
		s->ncopies++;
	s->copy[k].va = va;
	s->copy[k].of = (const u8 *)hva;
	s->copy[k].was = s->pristine + k * PAGE_SIZE;
	u8 *to = dprocess_copy(s->p, k);
	memcpy(s->copy[k].was, (const u8 *)hva, PAGE_SIZE);
	memcpy(to, s->copy[k].was, PAGE_SIZE);
	for (unsigned n = 0; n < found.n; n++)
		to[found.at[n]] = 0x0f, to[found.at[n] + 1] = 0x0b; /* UD2 */
	*copy = (int)k;
	return true;
}

static bool in_region(u64 va)
{
	return va - D_BASE < D_SIZE;
}

/* Pages around the one that was asked for, as far as the guest has used them already: no bit of its tables changes. */
static bool map_around(struct cpu *c, struct space *s, u64 va, int kind, unsigned window)
{
	u64 first = va & ~((u64)window * PAGE_SIZE - 1);

	for (u64 at = first; at < first + (u64)window * PAGE_SIZE; at += PAGE_SIZE) {
		struct mmu_result r;
		struct host_page h;
		struct spage *p = find(s, at);
		unsigned as = SP_R;
		int copy = -1;

		if (at >= D_USER_END || in_region(at) || (p && p->va & SP_ANY) || s->n == SPACE_PAGES)
			continue;
		if (mmu_peek(c, at, MMU_USER, &r) || !r.accessed || !r.read || !host_page(c, r.gpa, &h))
			continue;
		if (r.exec && kind == MMU_X && may_execute(c, s, at, h.hva, &copy))
			as |= SP_X;
		else if (!r.exec && r.write && h.write)
			as |= SP_W;
		if (!map(c, s, at, h.hva, as, copy))
			return false;
	}
	return true;
}

enum space_answer space_fault(struct cpu *c, struct space *s, gva_t va, int kind, u32 *error)
{
	struct mmu_result r;
	struct host_page h;
	struct spage *p;
	unsigned as = SP_R, flips;
	int copy = -1;

	va &= PAGE_MASK;
	if (va >= D_USER_END || in_region(va))
		return SPACE_CANNOT;
	if (s->n + LARGE_WINDOW > SPACE_PAGES && !unmap_all(s))
		return SPACE_BROKEN;
	if (mmu_walk(c, va, kind, MMU_USER, &r)) {
		*error = r.error;
		return SPACE_FAULT;
	}
	stat_add(&c->stat.tlb_fills, 1);
	if (!host_page(c, r.gpa, &h)) {
		log_debug(direct, "gpa %#llx of %#llx cannot be shared", (unsigned long long)r.gpa, (unsigned long long)va);
		return SPACE_CANNOT;
	}
	p = find_or_add(s, va);
	/* It is there, and yet was missed: that can do no good a second time. */
	if (p->hva == h.hva && p->va & (kind == MMU_W ? SP_W : kind == MMU_X ? SP_X : SP_R))
		return unmap(s, p) && run_commands(s) ? SPACE_CANNOT : SPACE_BROKEN;
	flips = p->va & SP_FLIPS_MASK;
	if (kind == MMU_W) {
		if (h.slot->flags & KVM_MEM_READONLY)
			return SPACE_CANNOT;
		memslot_mark_dirty(h.slot, r.gpa >> PAGE_SHIFT);
		if (!h.write && mem_is_code(c->mem, h.hva)) {
			/* Data again, as far as the engine is concerned: it looks at the bytes before it goes by what it has decoded. */
			mem_note_write(c->mem, h.hva);
			mem_untrack(c->mem, h.hva);
		}
		as |= SP_W;
		if (p->va & SP_X && flips < SP_FLIPS_MASK)
			flips += SP_FLIPS;
		if (p->va & SP_X && flips >= SPACE_WX * SP_FLIPS)
			as |= SP_X;
	} else if (kind == MMU_X) {
		if (!may_execute(c, s, va, h.hva, &copy))
			return SPACE_CANNOT;
		as |= SP_X;
		if (copy < 0 && flips >= SPACE_WX * SP_FLIPS && r.write && h.write)
			as |= SP_W;
	} else if (r.write && h.write && !r.exec) {
		as |= SP_W;
	}
	p->va = va | flips | (p->va & SP_ANY);
	if ((as & (SP_W | SP_X)) == (SP_W | SP_X) && !s->wx) {
		s->wx = true;
		dprocess_ctl(s->p)->tsc = PR_TSC_SIGSEGV;
	}
	if (!map(c, s, va, h.hva, as, copy))
		return SPACE_BROKEN;
	if (r.page_shift > PAGE_SHIFT)
		s->large = true;
	if (!map_around(c, s, va, kind, r.page_shift > PAGE_SHIFT ? LARGE_WINDOW : SMALL_WINDOW))
		return SPACE_BROKEN;
	return run_commands(s) ? SPACE_MAPPED : SPACE_BROKEN;
}

/* ---- keeping it true ---- */

/* Is the page still what it was? What may no longer be done there is taken away. */
static bool look_again(struct cpu *c, struct space *s, struct spage *p)
{
	struct mmu_result r;
	struct host_page h;
	unsigned as = p->va & SP_ANY, may = 0;

	if (!as)
		return true;
	if (!mmu_peek(c, p->va & PAGE_MASK, MMU_USER, &r) && r.accessed && host_page(c, r.gpa, &h) && h.hva == p->hva)
		may = (r.read ? SP_R : 0) | (r.write && h.write ? SP_W : 0) | (r.exec ? SP_X : 0);
	if (!(as & ~may))
		return true;
	return unmap(s, p);
}

static bool look_at_all(struct cpu *c, struct space *s)
{
	for (u32 k = 0; k < s->n; k++)
		if (!look_again(c, s, &s->page[k]))
			return false;
	return true;
}

/* Pages that the engine has decoded code from. */
static bool protect(struct cpu *c, struct space *s)
{
	u64 since = s->protects;

	if (c->tlb_protects - since > CPU_TLB_PROTECTED)
		return look_at_all(c, s);
	for (u64 n = since; n != c->tlb_protects; n++)
		for (u32 k = 0; k < s->n; k++)
			if (s->page[k].hva == c->tlb_protected[n % CPU_TLB_PROTECTED] && s->page[k].va & SP_W && !unmap(s, &s->page[k]))
				return false;
	return true;
}

/* Code that was copied, and has changed. */
static bool copies_stand(struct space *s)
{
	for (unsigned k = 0; k < s->ncopies; k++) {
		if (likely(!s->copy[k].va || !memcmp(s->copy[k].of, s->copy[k].was, PAGE_SIZE)))
			continue;
		struct spage *p = find(s, s->copy[k].va);
		if (p && !unmap(s, p))
			return false;
	}
	return run_commands(s);
}

bool space_sync(struct cpu *c, struct space *s)
{
	bool all = s->drops_all != c->drops_all, ok = true;

	if (s->ncopies && !copies_stand(s))
		return false;
	if (likely(!all && s->drops_page == c->drops_page && s->protects == c->tlb_protects))
		return true;
	if (all || c->drops_page - s->drops_page > CPU_DROPS || (s->large && s->drops_page != c->drops_page)) {
		ok = look_at_all(c, s);
	} else {
		for (u64 n = s->drops_page; ok && n != c->drops_page; n++) {
			struct spage *p = find(s, c->dropped[n % CPU_DROPS] & PAGE_MASK);

			ok = !p || look_again(c, s, p);
		}
		ok = ok && protect(c, s);
	}
	s->drops_all = c->drops_all;
	s->drops_page = c->drops_page;
	s->protects = c->tlb_protects;
	return ok && run_commands(s);
}

/* The entry of the top table for the region: 512 GiB of the guest's addresses. */
bool space_collides(struct cpu *c)
{
	gpa_t at = (c->cr3 & CPU_ROOT_MASK) + ((u64)D_BASE >> 39 & 511) * 8;
	const struct memslot *slot = memslot_find(mem_slots(c->mem), at >> PAGE_SHIFT, NULL);

	return !slot || load_relaxed((u64 *)(slot->hva + (at - (slot->gfn << PAGE_SHIFT)))) & 1;
}

/* ---- having one ---- */

static void *reserve(u64 len)
{
	void *p = sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return sys_is_err(p) ? NULL : p;
}

struct space *space_new(int *err)
{
	struct space *s = calloc(1, sizeof(*s));
	int fds[FDS];
	unsigned n;

	*err = -ENOMEM;
	if (!s)
		return NULL;
	s->files = ramfile_generation();
	s->page = reserve(SPACE_PAGES * sizeof(*s->page));
	s->hash = reserve(SPACE_HASH * sizeof(*s->hash));
	s->pristine = reserve(D_COPIES * PAGE_SIZE);
	n = ramfile_fds(fds, FDS);
	if (!n)
		*err = -ENODEV;
	if (n && n <= FDS && s->page && s->hash && s->pristine)
		s->p = dprocess_start(fds, n, err);
	if (s->p)
		return s;
	space_free(s);
	return NULL;
}

void space_free(struct space *s)
{
	if (s->p)
		dprocess_end(s->p);
	if (s->page)
		sys_munmap(s->page, SPACE_PAGES * sizeof(*s->page));
	if (s->hash)
		sys_munmap(s->hash, SPACE_HASH * sizeof(*s->hash));
	if (s->pristine)
		sys_munmap(s->pristine, D_COPIES * PAGE_SIZE);
	free(s);
}

bool space_take(struct cpu *c, struct space *s, u64 root)
{
	s->root = root;
	s->banned = s->ban = s->mean = 0;
	if (s->wx)
		dprocess_ctl(s->p)->tsc = PR_TSC_ENABLE;
	s->wx = false;
	s->drops_all = c->drops_all;
	s->drops_page = c->drops_page;
	s->protects = c->tlb_protects;
	return !s->n || unmap_all(s);
}
