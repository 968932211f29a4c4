/* SPDX-License-Identifier: MIT */
/*
 * The engines' TLB: dropping translations, and keeping those of other process contexts (PCIDs).
 *
 * Invariants
 *  - A bit of tlb_used is set for every entry that has a tag; one of tlb_global for those of global pages. So dropping costs what is there.
 *  - tlb_ctx holds entries of other PCIDs, never global ones: MOV to CR3 puts the present ones away and fetches those of the new PCID, if
 *    they are still good. Whatever drops more than one context's translations drops the ones put away too.
 *  - tlb_large has a bit for every gigabyte (by a hash) in which part of a large page was filled since the last full flush: elsewhere INVLPG drops one entry.
 *  - tlb_writer has, by a hash of host pages, the places + 1 in the tables of the two entries at most that may have a write tag, or
 *    CPU_TLB_WRITER_MANY twice. Those put away are not in it: tlb_protected says what they missed.
 *  - An entry without a tag for reading, or for writing, adds nothing to the address then: accesses through guessed entries rely on it (cpu.h).
 *  - Tables MMU_COUNT and up, where tables are counted in one, are those for fetching.
 *  - cpu.xid (what translated code knows of pages of code) never outlives the translation it was taken from.
 */
#include "cpu/tlb.h"
#include "base/string.h"

#define WORDS (CPU_TLB_SIZE / 64)

/* ---- what translated code knows of pages of code ---- */

static void xid_clear(struct cpu *c, unsigned list)
{
	u32 *x = c->xid[0];

	for (u32 n = 0; n < c->nxid[list]; n++)
		x[c->xid_used[list][n]] = 0;
	c->nxid[list] = 0;
}

void cpu_xid_flush(struct cpu *c)
{
	xid_clear(c, 0);
	xid_clear(c, 1);
}

void cpu_xid_set(struct cpu *c, gva_t page, unsigned space, u32 id)
{
	u32 slot = space * CPU_XID_SLOTS + ((page >> PAGE_SHIFT) & (CPU_XID_SLOTS - 1));
	unsigned n = (page >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1);
	u32 *x = (u32 *)c->xid + slot;

	if (*x == id)
		return;
	bool global = c->tlbx[MMU_KERNEL][n].tag == (page & PAGE_MASK) && c->tlb_global[MMU_COUNT + MMU_KERNEL][n / 64] & BIT(n % 64);
	unsigned list = !(space & 1) && global;
	/* A slot whose entry went by INVLPG is still in a list and gets into it again; so it may, and in the other one too. */
	if (c->nxid[list] == CPU_XID_LIST)
		cpu_xid_flush(c);
	c->xid_used[list][c->nxid[list]++] = (u16)slot;
	*x = id;
}

/* Pages of code go with the large page that they are a part of. */
static void xid_clear_range(struct cpu *c, gva_t va, unsigned shift)
{
	u32 n = 1u << (shift - PAGE_SHIFT), first = (u32)(va >> PAGE_SHIFT) & ~(n - 1) & (CPU_XID_SLOTS - 1);

	if (n >= CPU_XID_SLOTS) {
		cpu_xid_flush(c);
		return;
	}
	for (unsigned s = 0; s < CPU_SPACES; s++)
		for (u32 k = first; k < first + n; k++)
			c->xid[s][k] = 0;
}

/* ---- entries ---- */

static void entry_clear(struct cpu *c, unsigned t, unsigned n)
{
	if (t < MMU_COUNT)
		c->tlbs[t][n] = cpu_tlbe_none(n);
	else
		c->tlbx[t - MMU_COUNT][n] = (struct cpu_tlbx){ cpu_tlb_none(n), CPU_TLB_NOWHERE };
}

static bool entry_has(const struct cpu *c, unsigned t, unsigned n, u64 tag, unsigned shift)
{
	if (t >= MMU_COUNT)
		return c->tlbx[t - MMU_COUNT][n].tag >> shift == tag;
	return c->tlbs[t][n].rtag >> shift == tag;
}

/* The first entry of table t from n on that has a tag, and CPU_TLB_SIZE when there is none. locals: of pages that are not global. */
static unsigned used_from(const struct cpu *c, unsigned t, unsigned n, bool locals)
{
	for (; n < CPU_TLB_SIZE; n = (n | 63) + 1) {
		u64 m = c->tlb_used[t][n / 64] & (locals ? ~c->tlb_global[t][n / 64] : ~0ull);
		m &= ~0ull << n % 64;
		if (m)
			return (n & ~63u) + (unsigned)__builtin_ctzll(m);
	}
	return n;
}
#define EACH_USED(c, t, n, locals) (unsigned n = used_from(c, t, 0, locals); n < CPU_TLB_SIZE; n = used_from(c, t, n + 1, locals))

void cpu_tlb_reset(struct cpu *c)
{
	for (unsigned n = 0; n < CPU_TLB_SIZE; n++) {
		for (unsigned t = 0; t < CPU_TLBS; t++)
			entry_clear(c, t, n);
		c->tlbs[MMU_COUNT][n] = cpu_tlbe_none(n);
	}
}

static void contexts_drop(struct cpu *c)
{
	for (unsigned k = 0; k < CPU_TLB_CTXS; k++)
		c->tlb_ctx[k].valid = false;
}

void cpu_tlb_flush(struct cpu *c)
{
	for (unsigned t = 0; t < CPU_TLBS; t++) {
		for EACH_USED(c, t, n, false)
			entry_clear(c, t, n);
		for (unsigned w = 0; w < WORDS; w++)
			c->tlb_used[t][w] = c->tlb_global[t][w] = 0;
	}
	for (unsigned t = 0; t < MMU_COUNT; t++) {
		c->tlb_shift[t] = 0;
		memset(c->tlb_large[t], 0, sizeof(c->tlb_large[t]));
	}
	contexts_drop(c);
	cpu_xid_flush(c);
	c->tlb_epoch++;
	c->drops_all++;
}

static void put_away(struct cpu *c, struct cpu_tlb_ctx *x, unsigned t, unsigned n)
{
	if (x->n == CPU_TLB_CTX_MAX)
		return;
	x->where[x->n] = (u16)(t * CPU_TLB_SIZE + n);
	if (t < MMU_COUNT)
		x->e[x->n++].data = c->tlbs[t][n];
	else
		x->e[x->n++].x = c->tlbx[t - MMU_COUNT][n];
}

/* Everything but global pages leaves the tables; into x, if there is one. */
static void locals_leave(struct cpu *c, struct cpu_tlb_ctx *x)
{
	u64 left[MMU_COUNT] = { 0 };

	for (unsigned t = 0; t < CPU_TLBS; t++) {
		for EACH_USED(c, t, n, true) {
			if (x)
				put_away(c, x, t, n);
			entry_clear(c, t, n);
		}
		for (unsigned w = 0; w < WORDS; w++)
			left[t % MMU_COUNT] |= c->tlb_used[t][w] &= c->tlb_global[t][w];
	}
	for (unsigned t = 0; t < MMU_COUNT; t++) {
		if (x)
			x->shift[t] = c->tlb_shift[t];
		if (!left[t])
			c->tlb_shift[t] = 0;
	}
	xid_clear(c, 0);
	c->tlb_epoch++;
}

void cpu_tlb_flush_local(struct cpu *c)
{
	locals_leave(c, NULL);
	c->drops_all++;
}

void cpu_tlb_flush_locals(struct cpu *c)
{
	locals_leave(c, NULL);
	contexts_drop(c);
	c->drops_all++;
}

static struct cpu_tlb_ctx *context(struct cpu *c, u16 pcid)
{
	for (unsigned k = 0; k < CPU_TLB_CTXS; k++)
		if (c->tlb_ctx[k].valid && c->tlb_ctx[k].pcid == pcid)
			return &c->tlb_ctx[k];
	return NULL;
}

void cpu_tlb_flush_pcid(struct cpu *c, u16 pcid)
{
	struct cpu_tlb_ctx *x = context(c, pcid);

	if (x)
		x->valid = false;
	c->drops_all++;
}

static struct cpu_tlb_ctx *context_new(struct cpu *c, u16 pcid)
{
	struct cpu_tlb_ctx *best = &c->tlb_ctx[0];

	for (unsigned k = 0; k < CPU_TLB_CTXS; k++) {
		struct cpu_tlb_ctx *x = &c->tlb_ctx[k];
		if (!x->valid) {
			best = x;
			break;
		}
		if (x->stamp < best->stamp)
			best = x;
	}
	best->valid = true;
	best->pcid = pcid;
	best->n = 0;
	best->stamp = ++c->tlb_stamp;
	best->protects = c->tlb_protects;
	return best;
}

/* Has the page become code since the context was put away? */
static bool protected_since(const struct cpu *c, const struct cpu_tlb_ctx *x, u64 host_page)
{
	if (c->tlb_protects - x->protects > CPU_TLB_PROTECTED)
		return true; /* nobody knows */
	for (u64 k = x->protects; k != c->tlb_protects; k++)
		if (c->tlb_protected[k % CPU_TLB_PROTECTED] == host_page)
			return true;
	return false;
}

static void fetch(struct cpu *c, struct cpu_tlb_ctx *x)
{
	for (u32 k = 0; k < x->n; k++) {
		unsigned t = x->where[k] / CPU_TLB_SIZE, n = x->where[k] % CPU_TLB_SIZE;
		c->tlb_used[t][n / 64] |= BIT(n % 64);
		c->tlb_global[t][n / 64] &= ~BIT(n % 64);
		if (t >= MMU_COUNT) {
			c->tlbx[t - MMU_COUNT][n] = x->e[k].x;
			continue;
		}
		struct cpu_tlbe *e = &c->tlbs[t][n];
		*e = x->e[k].data;
		if (e->wtag == cpu_tlb_none(n))
			continue;
		u64 page = cpu_tlbe_host_page(e);
		if (protected_since(c, x, page))
			cpu_tlbe_read_only(e, n);
		else
			cpu_tlb_may_write(c, t, n, page);
	}
	for (unsigned t = 0; t < MMU_COUNT; t++)
		c->tlb_shift[t] = MAX(c->tlb_shift[t], x->shift[t]);
	x->valid = false;
}

void cpu_tlb_switch(struct cpu *c, u16 from, u16 to, bool keep)
{
	struct cpu_tlb_ctx *x;

	if (from == to) {
		if (!keep)
			cpu_tlb_flush_local(c);
		return;
	}
	if (!keep)
		c->drops_all++;
	locals_leave(c, context_new(c, from));
	x = context(c, to);
	if (x && keep)
		fetch(c, x);
	else if (x)
		x->valid = false;
}

/* A large page stands in the TLB as many small ones, and INVLPG of any address in it drops them all (SDM 3, 4.10.4.1). */
void cpu_tlb_flush_page(struct cpu *c, gva_t va)
{
	for (unsigned t = 0; t < CPU_TLBS; t++) {
		unsigned of = t % MMU_COUNT, shift = c->tlb_shift[of] ? c->tlb_shift[of] : 30, large = cpu_tlb_large_bit(va);

		if (shift == PAGE_SHIFT || !(c->tlb_large[of][large / 64] & BIT(large % 64))) {
			unsigned n = (va >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1);
			if (entry_has(c, t, n, va >> PAGE_SHIFT, PAGE_SHIFT))
				entry_clear(c, t, n);
			continue;
		}
		for EACH_USED(c, t, n, false)
			if (entry_has(c, t, n, va >> shift, shift))
				entry_clear(c, t, n);
		if (t >= MMU_COUNT)
			xid_clear_range(c, va, shift);
	}
	for (unsigned s = 0; s < CPU_SPACES; s++)
		c->xid[s][(va >> PAGE_SHIFT) & (CPU_XID_SLOTS - 1)] = 0;
	c->tlb_epoch++;
	c->dropped[c->drops_page++ % CPU_DROPS] = va;
}

void cpu_tlb_flush_write(struct cpu *c)
{
	for (unsigned t = 0; t < MMU_COUNT; t++)
		for EACH_USED(c, t, n, false)
			cpu_tlbe_read_only(&c->tlbs[t][n], n);
	contexts_drop(c);
	c->tlb_epoch++;
	c->drops_all++;
}

void cpu_tlb_flush_exec(struct cpu *c)
{
	for (unsigned t = MMU_COUNT; t < CPU_TLBS; t++)
		for EACH_USED(c, t, n, false)
			entry_clear(c, t, n);
	contexts_drop(c);
	cpu_xid_flush(c);
	c->tlb_epoch++;
}

/* Its write tag goes if it is the page's, and is known again if it is another's of the same hash. */
static void protect_entry(struct cpu *c, unsigned t, unsigned n, u64 host_page)
{
	struct cpu_tlbe *e = &c->tlbs[t][n];

	if (e->wtag == cpu_tlb_none(n))
		return;
	u64 page = cpu_tlbe_host_page(e);
	if (page == host_page)
		cpu_tlbe_read_only(e, n);
	else if (cpu_tlb_writers(c, page) == cpu_tlb_writers(c, host_page))
		cpu_tlb_may_write(c, t, n, page);
}

/* Has the entry at this place a write tag for a page of host_page's hash? */
static bool writes_to(struct cpu *c, u16 place, u64 host_page)
{
	unsigned t = (place - 1u) / CPU_TLB_SIZE, n = (place - 1u) % CPU_TLB_SIZE;
	const struct cpu_tlbe *e = &c->tlbs[t][n];

	return e->wtag != cpu_tlb_none(n) && cpu_tlb_writers(c, cpu_tlbe_host_page(e)) == cpu_tlb_writers(c, host_page);
}

void cpu_tlb_third_writer(struct cpu *c, u64 host_page, u16 me)
{
	u16 *w = cpu_tlb_writers(c, host_page);

	if (w[0] == CPU_TLB_WRITER_MANY)
		return;
	for (unsigned k = 0; k < 2; k++)
		if (!writes_to(c, w[k], host_page)) {
			w[k] = me;
			return;
		}
	w[0] = w[1] = CPU_TLB_WRITER_MANY;
}

void cpu_tlb_protect(struct cpu *c, u64 host_page)
{
	u16 *w = cpu_tlb_writers(c, host_page), known[2] = { w[0], w[1] };

	c->tlb_protected[c->tlb_protects++ % CPU_TLB_PROTECTED] = host_page;
	w[0] = w[1] = 0;
	if (known[0] != CPU_TLB_WRITER_MANY) {
		for (unsigned k = 0; k < 2; k++)
			if (known[k])
				protect_entry(c, (known[k] - 1u) / CPU_TLB_SIZE, (known[k] - 1u) % CPU_TLB_SIZE, host_page);
		return;
	}
	for (unsigned t = 0; t < MMU_COUNT; t++)
		for EACH_USED(c, t, n, false)
			protect_entry(c, t, n, host_page);
}
