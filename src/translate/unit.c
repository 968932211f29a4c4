/* SPDX-License-Identifier: MIT */
/*
 * The units of one vCPU: making, finding, linking and dropping them, and running them.
 *
 * Invariants
 *  - A unit runs only if its block is valid: block_find() has looked at the page's bytes since they may have changed, or cpu.xid says
 *    that somebody has. Whatever may change code or its mapping clears cpu.xid (cpu/tlb.c, interp/loop.c).
 *  - Links inside a page need no check: if the source stands at its address, so does the target. All others go through a thunk.
 *  - Code memory is mapped twice, writable and executable; nothing is ever both at one address.
 *  - Everything is dropped at once (generation), never a single unit.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/code.h"
#include "base/log.h"
#include "base/perfmap.h"
#include "base/process.h"
#include "base/sys.h"
#include "cpu/cr.h"
#include "cpu/tlb.h"
#include "interp/event.h"
#include "interp/fast.h"
#include "interp/ops.h"
#include "interp/stub_int.h"
#include "mem/mem.h"
#include "translate/engine.h"
#include "translate/translate.h"

/* ---- memory ---- */

static void *carve(struct translate *t, size_t *at, size_t n)
{
	void *p = (u8 *)t + *at;

	*at = ALIGN_UP(*at + n, PAGE_SIZE);
	return p;
}

static void drop(struct cpu *c)
{
	struct translate *t = c->tr;
	u32 n = load_relaxed(&c->mem->engines);
	u32 share = XCODE_SIZE / (n ? n : 1);

	stat_add(&c->xstat[XS_RECYCLINGS], !!t->nunits);
	if (t->nunits && log_on(translate, LOG_DEBUG))
		x_log_drop(c);
	t->limit = MAX(share, XCODE_MIN);
	if (process_code_cache)
		t->limit = MIN(t->limit, t->first + MIN(process_code_cache, XCODE_MIN) + UNIT_MAX_BYTES + THUNK_MAX);
	t->generation++;
	t->pos = t->first;
	t->nunits = t->nmarks = t->ninsns = t->npages = 0;
	/* What comes out of a direct jump to another page says the last indirect one's number. No such jump was made in what comes now. */
	t->sites[0] = (struct site){ .kind = SITE_IND };
	t->nsites = 1;
	c->x_site = 0;
	memset(t->page_hash, 0, sizeof(t->page_hash));
	memset(t->quick, 0, sizeof(t->quick));
	memset(t->redo, 0, sizeof(t->redo));
	memset(t->by_rip, 0, sizeof(t->by_rip));
	memset(t->jc_first, 0, sizeof(t->jc_first));
	for (unsigned u = 0; u < CPU_SPACES; u++)
		for (unsigned k = 0; k < 1u << CPU_JC_BITS; k++)
			c->jc[u][k] = x_rx(t, t->t_ind);
}

static bool full(const struct translate *t)
{
	return t->pos + UNIT_MAX_BYTES + THUNK_MAX > t->limit || t->nunits + 1 > XUNITS || t->nsites + 4 * UNIT_MAX_INSNS + 8 > XSITES ||
	       t->nmarks + 2 * UNIT_MAX_INSNS > XMARKS || t->ninsns + 2 * UNIT_MAX_INSNS > XINSNS / 2 || t->npages + 2 > XPAGES;
}

/* ---- pages ---- */

static u32 page_id(struct cpu *c, u64 vpage, const struct code_page *page, u32 live)
{
	struct translate *t = c->tr;
	u32 space = x_space(c);
	u32 *h = &t->page_hash[(vpage ^ (u64)page >> 4) & (XPAGE_HASH - 1)];

	for (u32 x = *h; x; x = t->pages[x - 1].next) {
		struct xpage *p = &t->pages[x - 1];
		if (p->vpage == vpage && p->page == page && p->live == live && p->space == space)
			return x;
	}
	if (t->npages == XPAGES)
		return 0;
	t->pages[t->npages++] = (struct xpage){ vpage, page, live, space, *h };
	*h = t->npages;
	return *h;
}

static u32 *xid_of(struct cpu *c, u64 rip, unsigned space)
{
	return &c->xid[space][(rip >> PAGE_SHIFT) & (CPU_XID_SLOTS - 1)];
}

/* Whether all of u's pages are known to be as they were when it was made. */
static bool is_known(struct cpu *c, const struct unit *u)
{
	return *xid_of(c, u->rip, u->space) == u->id && (!u->id2 || *xid_of(c, u->rip + PAGE_SIZE, u->space) == u->id2);
}

/* They have been looked at. A page that another vCPU may write to unseen is looked at each time. */
static void page_known(struct cpu *c, const struct unit *u)
{
	const struct xpage *p = c->tr->pages;

	if (likely(!p[u->id - 1].page->unstable))
		cpu_xid_set(c, u->rip, u->space, u->id);
	if (unlikely(u->id2) && !p[u->id2 - 1].page->unstable)
		cpu_xid_set(c, u->rip + PAGE_SIZE, u->space, u->id2);
}

/* ---- making and finding ---- */

static struct unit *match(const struct cpu *c, const struct block *b, bool plain)
{
	for (struct unit *u = b->unit; u; u = u->next)
		if (u->rip == c->rip && u->mmu_idx == c->mmu_idx && u->plain == plain)
			return u;
	return NULL;
}

static void block_moved(struct block *b)
{
	for (struct unit *u = b->unit; u; u = u->next)
		u->b = b;
}

static bool is_dead(const struct translate *t, const struct unit *u)
{
	const struct xpage *p = &t->pages[u->id - 1], *p2 = &t->pages[(u->id2 ? u->id2 : u->id) - 1];
	return p->page->live != p->live || p2->page->live != p2->live;
}

/*
 * v's thunk becomes one of u, and so do the links to it. The first takes v's place in the chain of cpu.jc, where another that is of the same
 * address has none: no chain leads to it, so that none can become a ring.
 */
static void take_thunk(struct cpu *c, struct unit *u, struct unit *v)
{
	struct translate *t = c->tr;
	struct unit before = *u, *w = NULL;
	unsigned slot = x_jc_slot(u->rip);
	u32 *x = &t->jc_first[u->space][slot];

	for (; *x && &t->units[*x - 1] != v; x = &w->chain)
		w = &t->units[*x - 1];
	if (!before.thunk) {
		u->chain = v->chain;
		x_unit_thunk(c, u, v->thunk);
		if (*x)
			*x = (u32)(u - t->units) + 1;
	} else {
		if (*x && w) {
			x_thunk_chain(c, w, v->chain);
		} else if (*x) {
			*x = v->chain;
			c->jc[u->space][slot] = x_rx(t, *x ? t->units[*x - 1].thunk : t->t_ind);
		}
		u->chain = 0;
		x_unit_thunk(c, u, v->thunk);
		*u = before;
	}
	v->thunk = 0;
}

static u32 by_rip_slot(u64 rip)
{
	return (rip ^ rip >> 13) & (XBYRIP - 1);
}

/* The page's code has changed and u is what now stands where older units stood: the thunk, and with it all links from afar, is now u's. */
static void inherit(struct cpu *c, struct unit *u)
{
	struct translate *t = c->tr;
	u32 *h = &t->by_rip[by_rip_slot(u->rip)];

	/* One that is dead is not asked for any more: when it has no thunk to leave, it leaves the chain. */
	for (u32 *x = h; *x;) {
		struct unit *v = &t->units[*x - 1];
		bool dead = is_dead(t, v);
		if (dead && v->thunk && v->rip == u->rip && v->mmu_idx == u->mmu_idx && v->space == u->space)
			take_thunk(c, u, v);
		if (dead && !v->thunk)
			*x = v->older;
		else
			x = &v->older;
	}
	u->older = *h;
	*h = (u32)(u - t->units) + 1;
}

/*
 * Has c->rip's code changed while there was a unit of it that lived long enough to be worth making? What a compiler of the guest's writes where it wrote
 * before will be run as often.
 */
static bool was_worth_it(const struct cpu *c)
{
	const struct translate *t = c->tr;

	for (u32 x = t->by_rip[by_rip_slot(c->rip)]; x; x = t->units[x - 1].older) {
		const struct unit *v = &t->units[x - 1];
		if (v->rip == c->rip && v->mmu_idx == c->mmu_idx && v->space == x_space(c))
			return is_dead(t, v) && host_rdtsc() - v->made > XWORTH;
	}
	return false;
}

static bool is_flat(const struct cpu_seg *s, u32 wanted, u32 unwanted)
{
	return s->base == 0 && s->limit == 0xffffffff && (s->ar & wanted) == wanted && !(s->ar & unwanted);
}

/* Flat 32-bit segments: a unit's accesses are not checked against them. Whatever loads one of them ends a unit. */
static bool flat32(const struct cpu *c)
{
	const u32 data = AR_P | AR_S | AR_RW, other = AR_UNUSABLE | AR_CODE | AR_DC;

	return c->code_size == 4 && c->cr0 & CR0_PE && is_flat(&c->seg[S_CS], AR_P | AR_S | AR_RW | AR_CODE | AR_DB, AR_UNUSABLE) &&
	       is_flat(&c->seg[S_SS], data | AR_DB, other) && is_flat(&c->seg[S_DS], data, other) && is_flat(&c->seg[S_ES], data, other);
}

/* May guest code run as units, as things are? */
static bool able(const struct cpu *c)
{
	return (c->code_size == 8 || (flat32(c) && !c->tr->check)) && c->tlb == c->tlbs[c->mmu_idx];
}

static struct unit *make(struct cpu *c, struct block *b, bool plain)
{
	struct translate *t = c->tr;
	bool fall;

	u64 since = host_rdtsc();
	if (full(t)) {
		cpu_request(c, CPU_REQ_CODE);
		return NULL;
	}
	u32 id = page_id(c, c->rip >> PAGE_SHIFT, b->page, b->live);
	u32 id2 = b->hva2 ? page_id(c, (c->rip >> PAGE_SHIFT) + 1, b->page2, b->live2) : 0;
	cpu_fpu_put(c); /* the decoder is compiled with vector registers */
	unsigned n = id ? x_scan(c, b, c->rip, &fall) : 0;
	if (!n)
		return NULL;
	struct unit *u = x_emit(c, b, c->rip, n, fall, plain);
	u->id = id;
	u->id2 = id2;
	u->made = since;
	u->next = b->unit;
	b->unit = u;
	if (!u->plain)
		inherit(c, u);
	code_serialize();
	if (t->check)
		x_check_made(c, u);
	if (log_on(translate, LOG_DEBUG))
		x_log_unit(c, u, n);
	if (perf_map_wanted())
		perf_map_add(x_rx(t, u->start), u->end - u->start, u->rip, NULL);
	stat_add(&c->xstat[XS_UNITS], 1);
	stat_add(&c->xstat[XS_BYTES], u->end - u->start);
	stat_add(&c->xstat[XS_MAKE_TSC], host_rdtsc() - since);
	return u;
}

static struct unit **quick_slot(const struct cpu *c, bool plain)
{
	return &c->tr->quick[(c->rip ^ c->rip >> 9 ^ c->mmu_idx ^ (u64)plain << 8) & (XQUICK - 1)];
}

/* The unit at c->rip, or NULL: then *b is the block there, if units may run at all. May raise a fault of the fetch. */
static struct unit *find(struct cpu *c, struct block **b, bool plain)
{
	struct unit **q = quick_slot(c, plain), *u = *q;

	*b = NULL;
	if (!able(c))
		return NULL;
	if (u && u->rip == c->rip && u->mmu_idx == c->mmu_idx && u->space == x_space(c) && u->plain == plain && is_known(c, u))
		return u;
	*b = block_find(c);
	u = *b ? match(c, *b, plain) : NULL;
	if (u)
		*q = u;
	return u;
}

/* ---- links ---- */

static void patch_jump(struct translate *t, u32 at, u32 to)
{
	asm_patch(t->rw + at, t->rw + to);
}

static bool far_entry(struct cpu *c, struct unit *u)
{
	struct translate *t = c->tr;

	if (u->thunk)
		return true;
	if (t->pos + THUNK_MAX > t->limit)
		return false;
	x_unit_thunk(c, u, 0);
	return true;
}

/* False: this needs the way from afar. */
static bool link_near(struct translate *t, struct site *s, const struct unit *u)
{
	if (u->by_slot && !s->dead) {
		patch_jump(t, s->next, !s->in_slot ? u->flags : s->backward ? u->poll : u->slot);
		s->linked = true;
		return true;
	}
	if (u->live_in && (s->dead || (!s->in_reg && s->backward)))
		return false;
	if (u->live_in && !s->in_reg)
		patch_jump(t, s->next, u->slot);
	else
		patch_jump(t, s->next, s->backward ? u->poll : u->flags);
	s->linked = true;
	return true;
}

static void link_far(struct cpu *c, struct site *s, struct unit *u)
{
	struct translate *t = c->tr;

	if (!far_entry(c, u) || (u->live_in && s->dead))
		return;
	u32 to = s->backward ? u->far_poll : u->far;
	if (s->dead) {
		patch_jump(t, s->next, to);
	} else {
		/* Over the way out, behind the instructions that save the flags: u may not need them, but what stands there once its page has changed. */
		t->rw[s->hit] = 0xe9;
		patch_jump(t, s->hit + 1, to);
	}
	s->linked = true;
}

/* u becomes the first of those that indirect jumps to its place in cpu.jc try; if it is not there yet: then its page was not known. */
static void indirect_way(struct cpu *c, struct unit *u)
{
	struct translate *t = c->tr;
	unsigned slot = x_jc_slot(u->rip), n = 1;
	u32 *first = &t->jc_first[u->space][slot], me = (u32)(u - t->units) + 1;

	for (u32 x = *first; x; x = t->units[x - 1].chain, n++) {
		if (x == me)
			return;
		if (n == XCHAIN - 1)
			x_thunk_chain(c, &t->units[x - 1], 0);
	}
	if (!far_entry(c, u))
		return;
	x_thunk_chain(c, u, *first);
	*first = me;
	c->jc[u->space][slot] = x_rx(t, u->thunk);
	code_serialize();
}

static void link_site(struct cpu *c, struct site *s, struct unit *u)
{
	struct translate *t = c->tr;
	const struct unit *from = &t->units[s->unit];

	if (s->plain) {
		if (from->id == u->id) {
			patch_jump(t, s->next, u->slot);
			code_serialize();
		}
	} else if (s->kind == SITE_LINK && !s->linked && s->mmu_idx == u->mmu_idx) {
		if (from->id != u->id || u->id2 || !link_near(t, s, u))
			link_far(c, s, u);
		stat_add(&c->xstat[XS_LINKS], s->linked);
		code_serialize();
	} else if (s->kind == SITE_IND && u->mmu_idx != MMU_KERNEL_AC) {
		indirect_way(c, u);
	}
}

/* ---- the interpreter does one instruction ---- */

const struct insn *x_stop(struct cpu *c, const struct insn *i)
{
	return NULL;
}

void x_run_insn(struct cpu *c, const struct insn *i, u64 rip)
{
	c->gpr[SLOT_BLOCK_RIP] = rip;
	c->cur = i;
	c->stop = 1; /* no block after it */
#ifdef USEKVM_LOOP_DISPATCH
	for (const struct insn *k = i; k; )
		k = k->fn(c, k);
#else
	i->fn(c, i);
#endif
	c->stop = 0;
}

/* The instruction of a site, decoded again, and kept: operands that lie in two pages come again and again. */
static void run_site_insn(struct cpu *c, const struct site *s)
{
	struct translate *t = c->tr;
	const struct unit *u = &t->units[s->unit];
	u32 site = (u32)(s - t->sites);
	struct redo *r = &t->redo[site % XREDO];
	struct decoded d;

	if (r->site != site) {
		cpu_fpu_put(c); /* the decoder is compiled with vector registers */
		memset(r, 0, sizeof(*r));
		r->i[1].fn = x_stop;
		if ((u->b->hva2 ? block_decode_crossing(c, u->b, &d) : block_decode(c, u->b->page, s->off, &d)) != DECODE_OK)
			cpu_exit(c, CPU_EXIT_EMULATION);
		r->i[0].len = d.z.length;
		if (!lower(c, &d, &r->i[0]))
			cpu_exit(c, CPU_EXIT_EMULATION);
		r->site = site;
	}
	x_run_insn(c, &r->i[0], s->rip);
}

static struct unit *wanted(struct cpu *c, struct block *b)
{
	if (!able(c)) {
		stat_add(&c->xstat[XS_FALL_MODE], 1);
		b->heat = 8;
		return NULL;
	}
	struct unit *u = match(c, b, false);
	if (u) {
		b->heat = 1; /* so that the interpreter stops before it */
		return u;
	}
	if (b->heat == c->interp->heat && was_worth_it(c))
		b->heat = MIN(b->heat, XHOT_AGAIN);
	if (b->heat && --b->heat)
		return NULL;
	/* The same code at another address, a library in the next process: it must become hot there too. */
	if (b->unit && !b->again && c->interp->heat > 1) {
		b->again = true;
		b->heat = c->interp->heat;
		return NULL;
	}
	b->again = false;
	u = make(c, b, false);
	b->heat = u ? 1 : ~0u;
	return u;
}

/* A cold instruction that lies in two pages is done at once, and on. NULL: for the loop. */
static struct unit *find_or_cross(struct cpu *c)
{
	for (;;) {
		struct block *b;
		struct unit *u = find(c, &b, false);
		if (!u && b && b->hva2)
			u = wanted(c, b);
		if (u || !b || !b->hva2)
			return u;
		stat_add(&c->xstat[XS_FALL_CROSSING], 1);
		x_run_insn(c, &b->insn[0], c->rip);
		if (load_relaxed(&c->requests) || interp_alone(c) || event_injected(c))
			return NULL;
	}
}

/* Out of translated code, from a helper: c holds the whole state. */
static u64 leave(struct cpu *c)
{
	c->x_ret = SITE_NONE;
	return (u64)x_rx(c->tr, c->tr->t_leave);
}

/* The plain twin of the unit at c->rip, made if need be: it begins where a span was not to be had. */
static struct unit *plain_unit(struct cpu *c)
{
	struct block *b;
	struct unit *u = find(c, &b, true);

	if (u || !b)
		return u;
	u = make(c, b, true);
	if (!u)
		c->interp->want_single = true; /* no room: the next try may end here too, so one instruction is done first */
	return u;
}

static bool in_tlb(const struct cpu *c, u64 la, bool write)
{
	const struct cpu_tlbe *e = &c->tlb[(la >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1)];
	return (write ? e->wtag : e->rtag) == (la & PAGE_MASK);
}

/* What T1 is to be when linear address la stands at p. */
static u64 apart(const struct site *s, const void *p, u64 la)
{
	return (u64)p - (s->far_page ? la & ~PAGE_MASK : la);
}

/* la: where the span begins. Either all of it may be accessed as it is wanted to be, or the plain twin goes on with the instruction. */
static u64 slow_span(struct cpu *c, u64 la, const struct site *s)
{
	u64 at = la + (u64)s->at;
	bool live = c->fpu_live;
	u8 *p = NULL;

	if ((la & ~PAGE_MASK) + s->size <= PAGE_SIZE && !(at & s->align))
		p = s->awrite ? slow_wptr(c, at, s->asize) : slow_rptr(c, at, s->asize);
	if (p && in_tlb(c, at, s->write)) {
		if (live)
			cpu_fpu_get(c);
		c->x_ret = apart(s, p, at);
		return (u64)x_rx(c->tr, s->hit);
	}
	stat_add(&c->xstat[XS_PLAIN], 1);
	struct unit *u = plain_unit(c);
	if (!u)
		return leave(c);
	page_known(c, u);
	return (u64)x_rx(c->tr, u->flags);
}

/* A wrong guess costs what some fifty right ones gain: as many may be as time allows, and who comes when there are more guesses no more. */
static bool afford(struct translate *t)
{
	u64 now = host_rdtsc();

	t->guess_credit = MIN(t->guess_credit + (now - t->guess_time), 64ull * XGUESS_APART);
	t->guess_time = now;
	if (t->guess_credit < XGUESS_APART)
		return false;
	t->guess_credit -= XGUESS_APART;
	return true;
}

/* The access was not to the page of last time. False: nor to one that the TLB has. */
static bool guess_again(struct cpu *c, u64 la, struct site *s)
{
	struct translate *t = c->tr;
	u32 n = (la >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1);

	if (s->guess == n + 1)
		return false;
	if (s->wrong < XGUESS_FREE || afford(t)) {
		s->wrong += s->wrong < XGUESS_FREE;
		x_guess(t, s, n);
		code_serialize();
	} else if (t->pos + GUESS_MAX <= t->limit) {
		x_guess_no_more(t, s);
		code_serialize();
	}
	if (!in_tlb(c, la, s->write) || (la & ~PAGE_MASK) + s->size > PAGE_SIZE)
		return false;
	c->x_ret = c->tlb[n].radd;
	return true;
}

u64 x_slow_mem(struct cpu *c, u64 la, u32 site)
{
	struct translate *t = c->tr;
	struct site *s = &t->sites[site];
	bool live = c->fpu_live;
	void *p = NULL;

	if (s->guess) {
		const struct cpu_tlbe *e = &c->tlbs[s->mmu_idx][s->guess - 1];
		la ^= s->write ? e->wtag : e->rtag;
		if (guess_again(c, la, s))
			return (u64)x_rx(t, s->hit);
	}
	stub_done(c);
	if (s->absolute)
		la = s->la;
	stat_add(&c->xstat[XS_SLOW], 1);
	c->gpr[SLOT_BLOCK_RIP] = c->rip = s->rip;
	t->dummy.seg = s->seg;
	c->cur = &t->dummy;
	if (s->spans)
		return slow_span(c, la, s);
	if (!s->masked && !(la & s->align))
		p = s->write ? slow_wptr(c, la, s->size) : slow_rptr(c, la, s->size);
	if (!p) {
		stat_add(&c->xstat[XS_FALL_ACCESS], 1);
		run_site_insn(c, s);
	}
	if (live)
		cpu_fpu_get(c);
	c->x_ret = apart(s, p, la);
	if (p)
		return (u64)x_rx(t, s->hit);
	return s->next ? (u64)x_rx(t, s->next) : leave(c);
}

/* The next unit without going through the loop, when nothing is to be looked at before. */
static u64 go_on(struct cpu *c)
{
	if (load_relaxed(&c->requests) || interp_alone(c) || event_injected(c) || direct_wanted(c))
		return leave(c);
	struct unit *u = find_or_cross(c);
	if (!u)
		return leave(c);
	page_known(c, u);
	return (u64)x_rx(c->tr, u->flags);
}

u64 x_slow_op(struct cpu *c, u32 site)
{
	struct translate *t = c->tr;
	const struct site *s = &t->sites[site];

	stub_done(c);
	c->rip = s->rip;
	if (s->kind == SITE_WINDOW) { /* after STI and the instruction behind it */
		cpu_request(c, CPU_REQ_EVENT);
		return leave(c);
	}
	if (s->kind == SITE_FPU) {
		if (s->size & ~c->fpu_ok) {
			stat_add(&c->xstat[XS_FALL_FPU], 1);
			run_site_insn(c, s); /* raises */
		}
		stat_add(&c->xstat[XS_FPU], 1);
		cpu_fpu_get(c);
		return (u64)x_rx(t, s->hit);
	}
	const struct insn *i = &t->insns[2 * s->insn];
	stat_add(&c->xstat[XS_FALL_INSN], 1);
	t->op[i->mnem]++;
	x_run_insn(c, i, s->rip);
	if (s->ends)
		return go_on(c);
	if (i->fn == h_op_rep && c->rip == s->rip)
		return leave(c);
	return (u64)x_rx(t, s->next);
}

/* ---- running ---- */

/* An indirect jump went to where nothing can be: undo it, and let the interpreter do it, which raises the fault. */
static void bad_target(struct cpu *c, const struct site *s)
{
	c->gpr[R_SP] -= s->la;
	c->rip = s->rip;
	x_run_insn(c, &c->tr->insns[2 * s->insn], s->rip);
}

static u32 enter(struct cpu *c, const struct unit *u)
{
	u64 (*fn)(struct cpu *, void *) = (u64(*)(struct cpu *, void *))x_rx(c->tr, c->tr->t_enter);

	stat_add(&c->xstat[XS_ENTRIES], 1);
	page_known(c, u);
	c->cur = NULL;
	u32 site = (u32)fn(c, x_rx(c->tr, u->flags));
	stub_done(c);
	return site;
}

void x_run_alone(struct cpu *c, const struct unit *u)
{
	u32 n = enter(c, u);

	if (n == SITE_NONE)
		return;
	const struct site *s = &c->tr->sites[n];
	if (s->kind != SITE_IND)
		c->rip = s->rip;
	else if (!cpu_canonical(c, c->rip))
		bad_target(c, s);
}

struct unit *x_unit_of(struct cpu *c, struct block *b)
{
	if (!able(c))
		return NULL;
	struct unit *u = match(c, b, false);
	return u ? u : make(c, b, false);
}

static bool run_units(struct cpu *c, struct block *b)
{
	struct translate *t = c->tr;
	struct unit *u = wanted(c, b);

	if (!u)
		return false;
	for (;;) {
		u32 n = enter(c, u);
		if (n == SITE_NONE)
			return true;
		u32 generation = t->generation;
		struct site *s = &t->sites[n];
		stat_add(&c->xstat[XS_INDIRECT], s->kind == SITE_IND);
		stat_add(&c->xstat[XS_POLLS], s->kind == SITE_POLL);
		if (s->kind == SITE_IND) {
			if (unlikely(!cpu_canonical(c, c->rip)))
				bad_target(c, s);
		} else {
			c->rip = s->rip;
		}
		if (unlikely(load_relaxed(&c->requests)))
			return true;
		u64 rip = c->rip;
		u = s->plain ? plain_unit(c) : find_or_cross(c);
		if (!u)
			return true;
		if (generation == t->generation && u->rip == rip)
			link_site(c, s, u);
	}
}

static bool run_unit(struct cpu *c, struct block *b)
{
	if (likely(!process_timing))
		return run_units(c, b);
	c->x_since = host_rdtsc(); /* whoever unwinds counts in our place */
	bool ran = run_units(c, b);
	stat_add(&c->xstat[XS_RUN_TSC], host_rdtsc() - c->x_since);
	c->x_since = 0;
	return ran;
}

/* ---- host faults ---- */

static const struct unit *unit_at(const struct translate *t, u32 at)
{
	u32 lo = 0, hi = t->nunits;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;
		if (t->units[mid].end <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < t->nunits && t->units[lo].start <= at ? &t->units[lo] : NULL;
}

static const int uc_reg[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

static bool unit_fault(struct cpu *c, ucontext_t *uc)
{
	struct translate *t = c->tr;
	greg_t *g = uc->uc_mcontext.gregs;
	u64 at = (u64)g[REG_RIP] - (u64)t->rx;
	const struct mark *m = NULL;

	if (at >= XCODE_SIZE)
		return false;
	const struct unit *u = unit_at(t, (u32)at);
	if (!u)
		return false;
	for (u32 k = u->mark; k < u->mark + u->nmarks && t->marks[k].host <= at; k++)
		m = &t->marks[k];
	if (!m)
		return false;
	for (unsigned r = 0; r < 16; r++)
		if (x_home[r] != REG_NONE)
			c->gpr[r] = (u64)g[uc_reg[x_home[r]]];
	c->gpr[R_SP] += (u64)(s64)m->sp;
	if (m->string) { /* as far as it came */
		u64 done = (u64)(g[REG_RDI] - g[REG_R10]);
		c->gpr[R_DI] = c->x_tmp + done;
		if (m->movs)
			c->gpr[R_SI] = c->x_tmp2 + done;
	}
	if (m->rsi)
		c->gpr[R_SI] = c->x_tmp;
	if (!m->in_slot)
		c->af = cpu_flags_to_af((u32)g[REG_EFL]);
	c->gpr[SLOT_BLOCK_RIP] = c->rip = (u->rip & PAGE_MASK) + m->off;
	c->cur = &t->dummy;
	g[REG_RSP] = (greg_t)c->x_sp;
	return true;
}

/* ---- the engine ---- */

static void destroy(struct cpu *c)
{
	struct translate *t = c->tr;

	if (t) {
		translate_report(c);
		x_check_destroy(t);
		code_unmap(t->rw, t->rx, XCODE_SIZE);
		sys_munmap(t, t->bytes);
		c->tr = NULL;
	}
	interp_destroy(c);
}

static int make_translate(struct cpu *c)
{
	size_t at = sizeof(struct translate), bytes;
	struct translate *t;
	int r;

	bytes = 8 * PAGE_SIZE + at + XUNITS * sizeof(struct unit) + XSITES * sizeof(struct site) + XMARKS * sizeof(struct mark) +
		XINSNS * sizeof(struct insn) + XPAGES * sizeof(struct xpage);
	bytes = ALIGN_UP(bytes, PAGE_SIZE);
	t = sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sys_is_err(t))
		return -ENOMEM;
	t->bytes = bytes;
	at = ALIGN_UP(at, PAGE_SIZE);
	t->units = carve(t, &at, XUNITS * sizeof(struct unit));
	t->sites = carve(t, &at, XSITES * sizeof(struct site));
	t->marks = carve(t, &at, XMARKS * sizeof(struct mark));
	t->insns = carve(t, &at, XINSNS * sizeof(struct insn));
	t->pages = carve(t, &at, XPAGES * sizeof(struct xpage));
	r = code_map(perf_map_wanted() ? NULL : "usekvm-code", XCODE_SIZE, &t->rw, &t->rx);
	if (r) {
		sys_munmap(t, bytes);
		return r;
	}
	c->tr = t;
	x_thunks(c);
	if (perf_map_wanted())
		perf_map_add(t->rx, t->first, 0, "usekvm_ways_in_and_out");
	code_serialize();
	drop(c);
	return 0;
}

static int init(struct cpu *c)
{
	int r = interp_init(c);

	if (r)
		return r;
	r = make_translate(c);
	if (r) {
		interp_destroy(c);
		return r;
	}
	r = process_engine == ENGINE_CHECK ? x_check_init(c->tr) : 0;
	if (r) {
		destroy(c);
		return r;
	}
	struct interp *in = c->interp;
	in->heat = process_engine == ENGINE_AUTO ? XHOT : 1;
	in->run_unit = c->tr->check ? x_check_run : run_unit;
	in->drop_units = drop;
	in->block_moved = block_moved;
	in->unit_fault = unit_fault;
	return 0;
}

const struct cpu_engine translate_engine = { "auto", init, destroy, interp_run };
