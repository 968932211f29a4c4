/* SPDX-License-Identifier: MIT */
/*
 * Decoding guest code into blocks, and the cache of them.
 *
 * A block is found by the HOST address of its first byte and the mode bits decoding depended on, so it serves every guest address at
 * which the page stands and survives context switches. It is valid while the bytes it was made from are the same. Those are kept,
 * line by line, in the page's code_page, and compared with memory when they may have changed:
 *  - a vCPU wrote to the page: such writes never pass the TLB (mem/track.c) and bump *version;
 *  - the VMM may have written, since it had control: entry_gen differs.
 * When a page becomes code, another vCPU may for a moment still have a write translation for it: until all have dropped theirs the
 * page is `unstable` and compared at each look-up.
 * A block is decoded from that copy, never from memory that could change while we look.
 *
 * All blocks stand in one arena; when it is full, or there are too many pages, those that are not translated are dropped, or everything if that is
 * not enough. The vCPUs of a VM share one allowance of memory for their arenas: the more there are, the earlier each counts its own as full.
 */
#include "base/lock.h"
#include "base/process.h"
#include "base/string.h"
#include "base/sys.h"
#include "cpu/cpuid.h"
#include "cpu/tlb.h"
#include "decode/decode.h"
#include "interp/fast.h"
#include "interp/stub.h"
#include "mem/mem.h"

#include <errno.h>
#include <sys/mman.h>

#define LINE 64u
#define BLOCK_SIZE_MAX (sizeof(struct block) + sizeof(struct insn) * (BLOCK_MAX_INSNS + 2)) /* the largest there is */

int block_init(struct cpu *c)
{
	size_t size = ALIGN_UP(sizeof(struct interp), PAGE_SIZE);
	size_t pool = ALIGN_UP(sizeof(struct code_page) * CODE_PAGES_MAX, PAGE_SIZE);
	u8 *m = sys_mmap(NULL, size + pool + BLOCK_ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (sys_is_err(m))
		return -ENOMEM;
	struct interp *in = (struct interp *)m;
	in->page_pool = (struct code_page *)(m + size);
	in->arena = in->arena_pos = m + size + pool;
	in->arena_end = in->arena + BLOCK_ARENA_SIZE;
	in->arena_touched = in->arena;
	c->interp = in;
	in->heat = ~0u;
	__atomic_fetch_add(&c->mem->engines, 1, __ATOMIC_RELAXED);
	return 0;
}

void block_destroy(struct cpu *c)
{
	struct interp *in = c->interp;
	if (!in)
		return;
	__atomic_fetch_sub(&c->mem->engines, 1, __ATOMIC_RELAXED);
	sys_munmap(in, (size_t)(in->arena_end - (u8 *)in));
	c->interp = NULL;
}

static size_t arena_share(const struct cpu *c)
{
	u32 n = load_relaxed(&c->mem->engines);
	size_t share = BLOCK_ARENA_SIZE / (n ? n : 1);
	if (process_code_cache)
		return MIN(BLOCK_ARENA_MIN, 4 * BLOCK_SIZE_MAX + 2 * (size_t)process_code_cache);
	return MAX(share, (size_t)BLOCK_ARENA_MIN);
}

static u32 pages_share(const struct cpu *c)
{
	u32 n = load_relaxed(&c->mem->engines);
	if (process_code_cache)
		return MIN(CODE_PAGES_MIN, 4 + process_code_cache / 2048);
	return MAX(CODE_PAGES_MAX / (n ? n : 1), CODE_PAGES_MIN);
}

/* No blocks stand at pos and above any more. */
static void arena_end_at(struct cpu *c, u8 *pos)
{
	struct interp *in = c->interp;
	u8 *keep = MAX(in->arena + arena_share(c), pos);

	in->arena_touched = MAX(in->arena_touched, in->arena_pos);
	in->arena_pos = pos;
	if (in->arena_touched > keep) { /* other vCPUs have come */
		sys_madvise((void *)ALIGN_UP((u64)keep, PAGE_SIZE), (size_t)(in->arena_end - keep) & PAGE_MASK, MADV_DONTNEED);
		in->arena_touched = keep;
	}
	in->current = NULL;
}

void block_flush_all(struct cpu *c)
{
	struct interp *in = c->interp;

	memset(in->hash, 0, sizeof(in->hash));
	memset(in->pages, 0, sizeof(in->pages));
	in->npages = in->nfree = 0;
	in->free_pages = NULL;
	in->drops++;
	arena_end_at(c, in->arena);
	if (in->drop_units)
		in->drop_units(c);
	cpu_xid_flush(c);
	c->tlb_epoch++;
	stat_add(&c->stat.code_flushes, 1);
	stub_reset(c);
}

/* ---- making room ---- */

static struct block **hash_slot(struct interp *in, u64 hva)
{
	return &in->hash[(hva ^ (hva >> BLOCK_HASH_BITS)) & ((1u << BLOCK_HASH_BITS) - 1)];
}

static void hash_in(struct interp *in, struct block *b)
{
	struct block **h = hash_slot(in, b->hva);

	b->next = *h;
	*h = b;
}

static unsigned page_slot(u64 hva)
{
	return (hva >> PAGE_SHIFT) & (CODE_PAGES_MAX - 1);
}

/* Pages none of whose blocks were kept are given up. */
static void sweep_pages(struct interp *in)
{
	memset(in->pages, 0, sizeof(in->pages));
	in->free_pages = NULL;
	in->nfree = 0;
	for (u32 k = 0; k < in->npages; k++) {
		struct code_page *p = &in->page_pool[k], **list = p->kept ? &in->pages[page_slot(p->hva)] : &in->free_pages;
		in->nfree += !p->kept;
		p->next = *list;
		*list = p;
		p->kept = false;
	}
}

/* Blocks that are translated stay, moved together: what was made of them took longer to make. The others are decoded again if they are run again. */
static void sweep(struct cpu *c)
{
	struct interp *in = c->interp;
	u8 *to = in->arena, *end = in->arena_pos;
	u32 size;

	memset(in->hash, 0, sizeof(in->hash));
	for (u8 *from = in->arena; from < end; from += size) {
		struct block *b = (struct block *)from, *moved = (struct block *)to;
		size = b->size;
		for (unsigned k = 0; k < size; k += LINE)
			__builtin_prefetch(from + 4096 + k); /* where the next one begins is known only when this one is there */
		if (!b->unit || b->live != b->page->live)
			continue;
		to += size;
		if (moved != b) {
			memmove(moved, b, size);
			in->block_moved(moved);
		}
		hash_in(in, moved);
		moved->page->kept = true;
		if (moved->hva2)
			moved->page2->kept = true;
	}
	sweep_pages(in);
	arena_end_at(c, to);
	in->drops++;
	c->tlb_epoch++; /* the jump cache is of where they were */
}

/* Room for new blocks and pages of code. */
static void make_room(struct cpu *c)
{
	struct interp *in = c->interp;

	if (in->block_moved) {
		sweep(c);
		/* If much is left the next would come soon. */
		if (in->arena_pos < in->arena + arena_share(c) / 4 * 3 && in->npages - in->nfree < pages_share(c) / 4 * 3)
			return;
	}
	block_flush_all(c);
}

/* ---- pages ---- */

/* The page has become one of code: nobody writes to it unseen, or until the token is done every look at it compares. fresh: for any vCPU. */
static void page_shut(struct cpu *c, struct code_page *p, bool fresh)
{
	cpu_tlb_protect(c, p->hva);
	p->unstable = c->ops->write_flush_start ? c->ops->write_flush_start(c, fresh) : 0;
}

static struct code_page *page_get(struct cpu *c, u64 hva)
{
	struct interp *in = c->interp;
	struct code_page *p;
	bool was_new, again;

	for (p = in->pages[page_slot(hva)]; p; p = p->next)
		if (p->hva == hva)
			return p;
	if (in->npages - in->nfree >= pages_share(c))
		make_room(c);
	p = in->free_pages;
	if (p) {
		in->free_pages = p->next;
		in->nfree--;
	} else {
		p = &in->page_pool[in->npages++];
	}
	p->hva = hva;
	p->version = mem_track_code(c->mem, hva, &was_new);
	p->seen = load_acquire(p->version);
	mem_track_code(c->mem, hva, &again); /* after the version: see page_validate() */
	p->gen = in->entry_gen;
	page_shut(c, p, was_new || again);
	p->live++;
	p->used = 0;
	p->next = in->pages[page_slot(hva)];
	in->pages[page_slot(hva)] = p;
	return p;
}

static bool same_line(const void *a, const void *b)
{
	const u64 *x = a, *y = b;
	u64 d = 0;
	for (unsigned k = 0; k < LINE / 8; k++)
		d |= load_relaxed(&x[k]) ^ y[k]; /* a is guest memory */
	return !d;
}

/* Make sure that the page's blocks match memory now; kill them if not. */
static void page_validate(struct cpu *c, struct code_page *p)
{
	struct interp *in = c->interp;
	u32 v = load_acquire(p->version);

	/* It may have been given up as a page of code. v stays what it was before: when it is given up after this, that must be seen as another version. */
	if (unlikely(v != p->seen)) {
		bool fresh;
		mem_track_code(c->mem, p->hva, &fresh);
		if (fresh)
			page_shut(c, p, true);
	}
	if (unlikely(p->unstable) && c->ops->write_flush_done(c, p->unstable))
		p->unstable = 0; /* and once more compared below, after that */
	else if (likely(v == p->seen && p->gen == in->entry_gen && !p->unstable))
		return;
	const u8 *mem = (const u8 *)p->hva;
	for (u64 m = p->used; m; m &= m - 1) {
		unsigned l = (unsigned)__builtin_ctzll(m);
		if (!same_line(mem + l * LINE, p->copy + l * LINE)) {
			p->live++;
			p->used = 0;
			c->tlb_epoch++;
			break;
		}
	}
	p->seen = v;
	p->gen = in->entry_gen;
}

/* A page of code was written to, and its version is up to date. */
void block_page_written(struct cpu *c, u64 hva)
{
	struct code_page *p = c->interp->pages[page_slot(hva)];

	while (p && p->hva != hva)
		p = p->next;
	if (!p || load_relaxed(p->version) - p->seen >= CODE_WRITES_MAX)
		mem_untrack(c->mem, hva);
}

static void page_use(struct code_page *p, unsigned line)
{
	if (p->used & BIT(line))
		return;
	const u64 *from = (const u64 *)(p->hva + line * LINE);
	u64 *to = (u64 *)(p->copy + line * LINE);

	for (unsigned k = 0; k < LINE / 8; k++)
		to[k] = load_relaxed(&from[k]);
	p->used |= BIT(line);
}

/* ---- decoding ---- */

static const struct insn *h_ud(struct cpu *c, const struct insn *i)
{
	c->rip = insn_rip(c, i);
	cpu_ud(c);
}

static const struct insn *h_too_long(struct cpu *c, const struct insn *i)
{
	c->rip = insn_rip(c, i);
	cpu_gp(c, 0);
}

/* Bytes of the instruction at off from the page's copy, at most 15, extending the copy no further than needed. */
static enum decode_result decode_in_page(struct cpu *c, struct decoded *room, const struct decoded **d, struct code_page *p, unsigned off, unsigned *avail)
{
	unsigned line = off / LINE;
	bool amd = cpu_is_amd(c);

	for (;; line++) {
		page_use(p, line);
		unsigned n = (line + 1) * LINE - off;
		*avail = n;
		enum decode_result r = decode_lent(&c->interp->memo, room, d, p->copy + off, MIN(n, 15u), c->code_size, amd);
		if (r != DECODE_MORE || (line + 1) * LINE == PAGE_SIZE)
			return r;
	}
}

enum decode_result block_decode(struct cpu *c, struct code_page *p, unsigned off, struct decoded *d)
{
	const struct decoded *lent;
	unsigned avail;
	enum decode_result r = decode_in_page(c, d, &lent, p, off, &avail);

	decode_keep(d, lent);
	return r;
}

/* The instruction of a block that runs into page2. */
enum decode_result block_decode_crossing(struct cpu *c, const struct block *b, struct decoded *d)
{
	unsigned off = (unsigned)(b->hva & ~PAGE_MASK), first = (unsigned)PAGE_SIZE - off;
	u8 bytes[15];

	memcpy(bytes, b->page->copy + off, first);
	memcpy(bytes + first, b->page2->copy, 15 - first);
	return decode_by_memo(&c->interp->memo, d, bytes, 15, c->code_size, cpu_is_amd(c));
}

/* Fill *i from a decode result. False: not implemented; c->insn_bytes are set. */
static bool make_insn(struct cpu *c, enum decode_result r, const struct decoded *d, struct insn *i, unsigned off)
{
	memset(i, 0, sizeof(*i));
	i->off = (u16)off;
	stat_add(&c->stat.decodes, 1);
	if (r != DECODE_OK) {
		i->fn = r == DECODE_LONG ? h_too_long : h_ud;
		i->len = 1;
		i->ends_block = true;
		return true;
	}
	u8 bytes[sizeof(d->bytes)];
	memcpy(bytes, d->bytes, sizeof(bytes)); /* d may be lent, and lower() decodes */
	i->len = d->z.length;
	if (lower(c, d, i))
		return true;
	memcpy(c->insn_bytes, bytes, sizeof(bytes));
	c->insn_len = i->len;
	return false;
}

static void arena_room(struct cpu *c)
{
	struct interp *in = c->interp;
	if (in->arena_pos + BLOCK_SIZE_MAX > in->arena + arena_share(c))
		make_room(c);
	if (stub_full(c))
		block_flush_all(c);
}

static void finish(struct cpu *c, struct block *b, bool ended)
{
	struct interp *in = c->interp;
	unsigned n = b->n;

	if (!ended) {
		struct insn *e = &b->insn[n++];
		memset(e, 0, sizeof(*e));
		e->fn = h_block_end;
		e->off = b->bytes;
	}
	in->arena_pos = (u8 *)ALIGN_UP((u64)&b->insn[n], 16);
	b->size = (u32)(in->arena_pos - (u8 *)b);
	hash_in(in, b);
}

/* For the exit that says which instruction: the bytes of one of the running block, or none during an event's delivery. */
void block_insn_bytes(struct cpu *c, const struct insn *i)
{
	const struct block *b = c->interp->current;

	c->insn_len = 0;
	if (!b || !i)
		return;
	unsigned off = (unsigned)(b->hva & ~PAGE_MASK) + i->off;
	for (unsigned n = 0; n < i->len; n++)
		c->insn_bytes[n] = off + n < PAGE_SIZE ? b->page->copy[off + n] : b->page2->copy[off + n - PAGE_SIZE];
	c->insn_len = i->len;
}

static _Noreturn void unimplemented(struct cpu *c)
{
	cpu_exit(c, CPU_EXIT_EMULATION);
}

/* The instruction at the end of a page that goes on in the next one: a block of its own. */
static struct block *build_crossing(struct cpu *c, struct block *b, struct code_page *p, unsigned off, gva_t la)
{
	unsigned first = (unsigned)PAGE_SIZE - off;
	struct decoded d;

	u8 *host2 = exec_ptr(c, la + first);
	if (!host2) {
		memcpy(c->insn_bytes, p->copy + off, first);
		c->insn_len = (u8)first;
		unimplemented(c);
	}
	u32 drops = c->interp->drops;
	struct code_page *p2 = page_get(c, (u64)host2);
	if (c->interp->drops != drops) /* p, and where b was to be, are gone: begin again */
		return NULL;
	page_validate(c, p2);
	page_use(p2, 0);
	b->page2 = p2;
	cpu_fpu_put(c);
	enum decode_result r = block_decode_crossing(c, b, &d);
	if (!make_insn(c, r, &d, &b->insn[0], 0))
		unimplemented(c);
	b->n = 1;
	b->bytes = b->insn[0].len;
	b->live2 = p2->live;
	b->hva2 = p2->hva;
	finish(c, b, b->insn[0].ends_block);
	return b;
}

static bool cs_limit_ok(const struct cpu *c, u64 rip, unsigned len)
{
	return cpu_is_64(c) || rip + len - 1 <= c->seg[S_CS].limit;
}

static struct block *build(struct cpu *c, gva_t la, u64 hva, u32 key)
{
	struct interp *in = c->interp;
	unsigned start = (unsigned)(hva & ~PAGE_MASK), off = start, avail;
	unsigned max = c->single ? 1 : BLOCK_MAX_INSNS;
	bool ended = false;
	struct decoded room;
	const struct decoded *d;

	arena_room(c);
	struct code_page *p = page_get(c, hva & PAGE_MASK);
	page_validate(c, p);
	struct block *b = (struct block *)in->arena_pos;
	memset(b, 0, sizeof(*b));
	b->hva = hva;
	b->page = p;
	b->live = p->live;
	b->key = key;
	b->heat = in->heat;
	cpu_fpu_put(c);
	while (b->n < max && off < PAGE_SIZE) {
		enum decode_result r = decode_in_page(c, &room, &d, p, off, &avail);
		if (r == DECODE_MORE) {
			if (!b->n)
				return build_crossing(c, b, p, off, la);
			break;
		}
		struct insn *i = &b->insn[b->n];
		if (!make_insn(c, r, d, i, off - start)) {
			if (!b->n)
				unimplemented(c);
			break;
		}
		b->n++;
		off += i->len;
		if (i->ends_block) {
			ended = true;
			break;
		}
	}
	b->bytes = (u16)(off - start);
	finish(c, b, ended);
	return b;
}

/* ---- look-up ---- */

static bool block_valid(struct cpu *c, struct block *b, gva_t la)
{
	if (b->live != b->page->live)
		return false;
	if (likely(!b->hva2))
		return true;
	if ((u64)exec_ptr(c, (la & PAGE_MASK) + PAGE_SIZE) != b->hva2)
		return false;
	page_validate(c, b->page2);
	return b->live2 == b->page2->live;
}

static struct block *lookup(struct cpu *c, gva_t la, u64 hva, u32 key)
{
	struct interp *in = c->interp;
	struct block **h = hash_slot(in, hva);

	for (struct block *b = *h; b; b = *h) {
		if (b->hva == hva && b->key == key) { /* nothing else of the others is looked at: it would be in no cache */
			page_validate(c, b->page);
			if (block_valid(c, b, la))
				return b;
			if (b->live != b->page->live) {
				*h = b->next;
				continue;
			}
		}
		h = &b->next;
	}
	return NULL;
}

bool block_recheck(struct cpu *c, struct jump *j)
{
	struct code_page *p = j->b->page;

	page_validate(c, p);
	if (j->b->live != p->live)
		return false;
	j->seen = p->seen;
	j->gen = p->gen;
	return true;
}

static _Noreturn void code_not_in_ram(struct cpu *c)
{
	c->insn_len = 0;
	unimplemented(c);
}

struct block *block_find(struct cpu *c)
{
	struct interp *in = c->interp;
	const struct cpu_seg *cs = &c->seg[S_CS];
	bool is64 = cpu_is_64(c), flat = is64 || (cs->base == 0 && cs->limit == 0xffffffff);
	u32 key = c->code_size | (u32)c->single << 4;
	gva_t la = is64 ? c->rip : (cs->base + c->rip) & 0xffffffff;

	c->code_key = key | (u32)(c->cpl == 3) << 8;
	c->cur = NULL;
	struct jump *known = jump_slot(in, c->rip);
	if (known->rip == c->rip && known->epoch_key == *(u64 *)&c->tlb_epoch && known->gen == in->entry_gen && known->seen == load_relaxed(known->version))
		return known->b;
	if (unlikely(!cs_limit_ok(c, c->rip, 1)))
		cpu_gp(c, 0);
	void *host = exec_ptr(c, la);
	if (unlikely(!host))
		code_not_in_ram(c);
	struct block *b = lookup(c, la, (u64)host, key);
	while (unlikely(!b))
		b = build(c, la, (u64)host, key);
	if (unlikely(!flat && !cs_limit_ok(c, c->rip, b->bytes))) {
		if (b->n == 1)
			cpu_gp(c, 0);
		in->want_single = true;
		return NULL;
	}
	if (flat && !c->single && !b->hva2 && !b->page->unstable) {
		struct jump *j = jump_slot(in, c->rip);
		j->rip = c->rip;
		j->epoch_key = *(u64 *)&c->tlb_epoch;
		j->version = b->page->version;
		j->seen = b->page->seen;
		j->gen = b->page->gen;
		j->b = b;
	}
	return b;
}
