/* SPDX-License-Identifier: MIT */
/*
 * The page walk.
 *
 * A walk reads the entries from the root to the leaf, keeps them, checks the rights of the whole path, and only then sets accessed and
 * dirty bits, from the root down, each by compare-and-exchange against the value that was read. If one differs meanwhile, the walk starts
 * again: so what is returned is true for one state of the tables. A walk that faults changes nothing.
 *
 * Levels are numbered as the manuals number them from the leaf: 1 PT, 2 PD, 3 PDPT, 4 PML4, 5 PML5 (SDM 3, 4.3 to 4.5).
 *
 *  mode             entry  levels  index bits           leaf sizes
 *  32-bit           4      2       31:22 21:12          4K, 4M (CR4.PSE)
 *  PAE              8      2 + 4 PDPTEs in the CPU      4K, 2M
 *  4-, 5-level      8      4, 5    47:39 (56:48) ..     4K, 2M, 1G (CPUID)
 *
 * The caller is inside a read section of the VM and holds no locks: host memory behind a table may be gone, and then the engine's fault
 * handler leaves from the middle of a walk.
 */
#include <errno.h>

#include "cpu/cpuid.h"
#include "mem/mem.h"
#include "mmu/mmu.h"

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_G BIT(8)
#define PTE_NX BIT(63)
#define PTE_ADDR 0x000ffffffffff000ull
#define PTE_PK(e) (((e) >> 59) & 15)

#define MAX_LEVEL 5

struct entry {
	u64 val;
	void *host;  /* NULL: not in a slot */
	const struct memslot *slot;
	gfn_t gfn;
};

struct walk {
	struct cpu *c;
	const struct memslots *slots;
	gva_t va;
	bool wide;   /* 8-byte entries */
	bool lma;
	bool nxe;
	int top;     /* level of the first table */
	int leaf;    /* level of the entry that maps the page */
	u64 root;    /* gpa of the first table */
	u64 rights;  /* PTE_W and PTE_U that every entry has, PTE_NX that any has */
	u32 hint;
	struct entry e[MAX_LEVEL + 1];
};

static always_inline bool has_nxe(const struct cpu *c)
{
	return (c->efer & EFER_NXE) && (c->cr4 & CR4_PAE);
}

/* The entry at gpa. What no slot has reads as all ones. */
static void entry_read(struct walk *w, struct entry *e, gpa_t gpa)
{
	u64 hva;

	e->gfn = gpa >> PAGE_SHIFT;
	e->slot = memslot_find(w->slots, e->gfn, &w->hint);
	if (!e->slot) {
		e->host = NULL;
		e->val = w->wide ? ~0ull : ~0u;
		return;
	}
	hva = e->slot->hva + (gpa - (e->slot->gfn << PAGE_SHIFT));
	e->host = (void *)hva;
	e->val = w->wide ? load_relaxed((u64 *)hva) : load_relaxed((u32 *)hva);
}

static always_inline bool takes_updates(const struct entry *e)
{
	return e->host && !(e->slot->flags & KVM_MEM_READONLY);
}

/* Set bits in an entry. False: it is no longer what was read. */
static bool entry_update(struct walk *w, struct entry *e, u64 bits)
{
	u64 new = e->val | bits;
	bool done;

	if (new == e->val || !takes_updates(e))
		return true;
	if (w->wide) {
		u64 old = e->val;

		done = __atomic_compare_exchange_n((u64 *)e->host, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	} else {
		u32 old = e->val;

		done = __atomic_compare_exchange_n((u32 *)e->host, &old, (u32)new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	if (!done)
		return false;
	e->val = new;
	memslot_mark_dirty(e->slot, e->gfn);
	mem_note_write(w->c->mem, (u64)e->host & PAGE_MASK);
	return true;
}

static always_inline bool is_leaf(const struct walk *w, int level, u64 e)
{
	if (level == 1)
		return true;
	if (!(e & PTE_PS))
		return false;
	if (level == 2)
		return w->wide || (w->c->cr4 & CR4_PSE);
	return level == 3 && cpu_has(w->c, CPUID_PDPE1GB);
}

/* PSE-36: bits 39:32 of a 4 MiB page stand in bits 20:13 of the entry, as many as there are; the rest up to bit 21 is reserved. */
static u64 reserved_4m(const struct cpu *c)
{
	unsigned pa = MIN((unsigned)c->maxphyaddr, 40u);
	u64 used = cpu_has(c, CPUID_PSE36) && pa > 32 ? BIT(pa - 32) - 1 : 0;

	return 0x3fe000 & ~(used << 13);
}

static u64 reserved_bits(const struct walk *w, int level, u64 e)
{
	const struct cpu *c = w->c;
	u64 r;

	if (!w->wide)
		return level == 2 && is_leaf(w, 2, e) ? reserved_4m(c) : 0;
	r = c->rsvd_pa;
	if (!w->nxe)
		r |= PTE_NX;
	if (!w->lma)
		r |= 0x7ff0000000000000ull; /* SDM 3, table 4-9 and following: 62:52 are ignored only in 4- and 5-level paging */
	if (level >= 4)
		return r | PTE_PS;
	if (level == 3 && (e & PTE_PS))
		return r | (cpu_has(c, CPUID_PDPE1GB) ? 0x3fffe000 : PTE_PS);
	if (level == 2 && (e & PTE_PS))
		return r | 0x1fe000;
	return r;
}

static always_inline gpa_t entry_address(const struct walk *w, gpa_t table, int level)
{
	if (!w->wide)
		return table + ((w->va >> (level == 2 ? 22 : 12)) & 0x3ff) * 4;
	return table + ((w->va >> (12 + 9 * (level - 1))) & 0x1ff) * 8;
}

/* From the root to the leaf. 0, or the P and RSVD bits of the error with PF_BAD. */
#define PF_BAD BIT(31)
static u32 descend(struct walk *w)
{
	gpa_t table = w->root;
	int level = w->top;

	w->rights = PTE_W | PTE_U;
	if (w->top == 2 && w->wide) { /* PAE: the PDPTE has no rights; its reserved bits were checked when it was loaded */
		u64 pdpte = w->c->pdptr[(w->va >> 30) & 3];

		if (!(pdpte & PTE_P))
			return PF_BAD;
		table = pdpte & PTE_ADDR & ~w->c->rsvd_pa;
	}
	for (;; level--) {
		struct entry *e = &w->e[level];

		entry_read(w, e, entry_address(w, table, level));
		if (!(e->val & PTE_P))
			return PF_BAD;
		if (e->val & reserved_bits(w, level, e->val))
			return PF_BAD | PF_P | PF_RSVD;
		w->rights = (w->rights & (e->val | PTE_NX)) | (e->val & PTE_NX);
		if (is_leaf(w, level, e->val))
			break;
		table = e->val & (w->wide ? PTE_ADDR : 0xfffff000);
	}
	w->leaf = level;
	return 0;
}

struct rights {
	bool read, write, exec;
	bool key_read, key_write; /* a protection key stands against it */
};

/* SDM 3, 4.6: what accesses of this kind of privilege may do at the page. */
static struct rights rights_of(const struct walk *w, unsigned idx)
{
	const struct cpu *c = w->c;
	bool user_page = w->rights & PTE_U, user = idx == MMU_USER, wp = c->cr0 & CR0_WP;
	struct rights r;

	r.exec = !(w->rights & PTE_NX); /* without NXE the bit is reserved, without PAE it is not there */
	if (user) {
		r.read = user_page;
		r.exec &= user_page;
		r.write = user_page && (w->rights & PTE_W);
	} else {
		r.read = !(user_page && idx == MMU_KERNEL && (c->cr4 & CR4_SMAP));
		r.exec &= !(user_page && (c->cr4 & CR4_SMEP));
		r.write = r.read && (!wp || (w->rights & PTE_W));
	}
	r.key_read = r.key_write = false;
	if (w->lma && (c->cr4 & CR4_PKE) && user_page) {
		u32 key = c->pkru_soft >> (2 * PTE_PK(w->e[w->leaf].val));

		r.key_read = key & 1;
		r.key_write = (key & 1) || ((key & 2) && (wp || user));
		r.read &= !r.key_read;
		r.write &= !r.key_write;
	}
	return r;
}

static u32 access_error(const struct cpu *c, int kind, unsigned idx)
{
	u32 err = 0;

	if (kind == MMU_W)
		err |= PF_W;
	if (kind == MMU_X && (has_nxe(c) || (c->cr4 & CR4_SMEP)))
		err |= PF_I;
	if (idx == MMU_USER)
		err |= PF_U;
	return err;
}

/* Accessed bits from the root down, the dirty bit with the leaf's. False: walk again. */
static bool set_accessed(struct walk *w, bool write)
{
	for (int level = w->top; level >= w->leaf; level--) {
		u64 bits = PTE_A | (write && level == w->leaf ? PTE_D : 0);

		if (!entry_update(w, &w->e[level], bits))
			return false;
	}
	return true;
}

static void translate(const struct walk *w, struct mmu_result *r)
{
	const struct entry *e = &w->e[w->leaf];
	u64 mask;

	if (!w->wide && w->leaf == 2) {
		r->page_shift = 22;
		r->gpa = (e->val & 0xffc00000) | ((e->val & 0x1fe000) << 19) | (w->va & 0x3fffff);
	} else {
		r->page_shift = w->leaf == 1 ? 12 : w->leaf == 2 ? 21 : 30;
		mask = BIT(r->page_shift) - 1;
		r->gpa = (e->val & PTE_ADDR & ~mask) | (w->va & mask);
	}
	r->user = w->rights & PTE_U;
	r->global = (e->val & PTE_G) && (w->c->cr4 & CR4_PGE);
}

static void walk_init(struct walk *w, struct cpu *c, gva_t va)
{
	w->c = c;
	w->slots = mem_slots(c->mem);
	w->hint = 0;
	w->lma = cpu_is_long(c);
	w->wide = c->cr4 & CR4_PAE;
	w->nxe = has_nxe(c);
	w->va = w->lma ? va : (u32)va;
	if (w->lma) {
		w->top = c->cr4 & CR4_LA57 ? 5 : 4;
		w->root = c->cr3 & PTE_ADDR & ~c->rsvd_pa;
	} else {
		w->top = 2;
		w->root = c->cr3 & 0xfffff000; /* PAE: not used, the PDPTEs are in the CPU */
	}
}

int mmu_walk(struct cpu *c, gva_t va, int kind, unsigned idx, struct mmu_result *r)
{
	struct walk w;
	struct rights can;
	bool ok, key;
	u32 bad;

	if (!(c->cr0 & CR0_PG)) {
		*r = (struct mmu_result){ .gpa = (u32)va, .page_shift = 30, .read = true, .write = true, .exec = true };
		return 0;
	}
	walk_init(&w, c, va);
	do {
		bad = descend(&w);
		if (bad) {
			r->error = (bad & ~PF_BAD) | access_error(c, kind, idx);
			return -EFAULT;
		}
		can = rights_of(&w, idx);
		ok = kind == MMU_R ? can.read : kind == MMU_W ? can.write : can.exec;
		if (!ok) {
			key = kind == MMU_R ? can.key_read : kind == MMU_W && can.key_write;
			r->error = PF_P | (key ? PF_PK : 0) | access_error(c, kind, idx);
			return -EFAULT;
		}
	} while (!set_accessed(&w, kind == MMU_W));
	translate(&w, r);
	r->read = can.read;
	r->exec = can.exec;
	/* A dirty bit that cannot be set (read-only slot, no slot) need not be waited for. */
	r->write = can.write && ((w.e[w.leaf].val & PTE_D) || !takes_updates(&w.e[w.leaf]));
	r->error = 0;
	return 0;
}

int mmu_peek(struct cpu *c, gva_t va, unsigned idx, struct mmu_result *r)
{
	struct walk w;
	struct rights can;

	walk_init(&w, c, va);
	if (!(c->cr0 & CR0_PG) || descend(&w))
		return -EFAULT;
	can = rights_of(&w, idx);
	translate(&w, r);
	r->read = can.read;
	r->exec = can.exec;
	r->write = can.write && (w.e[w.leaf].val & PTE_D);
	r->accessed = w.e[w.leaf].val & PTE_A;
	r->error = 0;
	return 0;
}

/* EFLAGS.AC lifts SMAP here as it would for the guest. */
int mmu_probe(struct cpu *c, gva_t va, struct mmu_result *r)
{
	return mmu_walk(c, va, MMU_R, c->rflags & X86_AC ? MMU_KERNEL_AC : MMU_KERNEL, r);
}

int mmu_load_pdptrs(struct cpu *c, u64 cr3)
{
	struct walk w = { .c = c, .wide = true, .slots = mem_slots(c->mem) };
	u64 reserved = c->rsvd_pa | 0xfff0000000000000ull | 0x1e6; /* SDM 3, table 4-8 */
	u64 pdptr[4];

	for (unsigned i = 0; i < 4; i++) {
		struct entry e;

		entry_read(&w, &e, (cr3 & 0xffffffe0) + 8 * i);
		if ((e.val & PTE_P) && (e.val & reserved))
			return -EINVAL;
		pdptr[i] = e.val;
	}
	for (unsigned i = 0; i < 4; i++)
		c->pdptr[i] = pdptr[i];
	return 0;
}
