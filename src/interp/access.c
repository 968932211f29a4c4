/* SPDX-License-Identifier: MIT */
/*
 * Guest memory as instructions see it: segmentation, the TLB's slow paths, page-crossing operands, MMIO.
 *
 * Invariants:
 *  - Nothing is written before every byte of the operand is known to be writable.
 *  - MMIO, and writes to pages that hold decoded code, happen only while one instruction runs alone (c->single): need_single()
 *    unwinds to the loop, which runs the instruction again that way. So a block never goes on after it may have changed itself, and
 *    an instruction that must wait for the VMM is restarted as a whole, with the accesses it already made answered from c->mmio.
 */
#include "base/process.h"
#include "base/string.h"
#include "cpu/cr.h"
#include "cpu/tlb.h"
#include "interp/debug.h"
#include "interp/event.h"
#include "interp/fast.h"
#include "mem/mem.h"
#include "mmu/mmu.h"

static void sync_rip(struct cpu *c)
{
	if (c->cur)
		c->rip = insn_rip(c, c->cur);
}

static _Noreturn void page_fault(struct cpu *c, gva_t la, u32 error)
{
	sync_rip(c);
	c->cr2 = la;
	cpu_raise(c, EX_PF, true, error);
}

/* ---- translation ---- */

static unsigned kind_idx(const struct cpu *c, int kind, unsigned idx)
{
	return kind == MMU_X && idx == MMU_KERNEL_AC ? MMU_KERNEL : idx;
}

/* An entry may go whenever another comes: for tests all of them go, now and then. */
static void drop_some(struct cpu *c)
{
	if (unlikely(process_tlb_drop) && (u32)(c->stat.tlb_fills * 0x9e3779b97f4a7c15ull >> 32) % process_tlb_drop == 0)
		cpu_tlb_flush(c);
}

/*
 * Translate la for one access and put it into the TLB of idx. Returns the host address of la, or NULL when there is no memory slot that takes this
 * access (then *gpa says where). A write to a page of code is returned but not cached.
 */
static void *fill(struct cpu *c, gva_t la, int kind, unsigned idx, gpa_t *gpa)
{
	struct mmu_result r;

	if (unlikely(mmu_walk(c, la, kind, kind_idx(c, kind, idx), &r)))
		page_fault(c, la, r.error);
	stat_add(&c->stat.tlb_fills, 1);
	drop_some(c);
	cpu_tlb_filled_from(c, idx, la, r.page_shift);
	*gpa = r.gpa;
	gfn_t gfn = r.gpa >> PAGE_SHIFT;
	const struct memslot *s = memslot_find(mem_slots(c->mem), gfn, NULL);
	if (!s || (kind == MMU_W && s->flags & KVM_MEM_READONLY))
		return NULL;
	u64 page = s->hva + ((gfn - s->gfn) << PAGE_SHIFT);
	gva_t va = la & PAGE_MASK;
	unsigned n = (la >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1);
	if (kind == MMU_X) {
		c->tlbx[idx][n] = (struct cpu_tlbx){ va, page };
		cpu_tlb_filled(c, MMU_COUNT + idx, n, r.global);
		return (void *)(page + (la & ~PAGE_MASK));
	}
	struct cpu_tlbe *e = &c->tlbs[idx][n];
	if (e->rtag != va || e->radd != page - va)
		cpu_tlbe_read_only(e, n);
	e->rtag = va; /* a page that may be written may be read */
	e->radd = page - va;
	cpu_tlb_filled(c, idx, n, r.global);
	/* A page that has been written to will be again; unless somebody wants to hear of it. */
	if (kind == MMU_R && r.write && !s->dirty && !(s->flags & KVM_MEM_READONLY) && !mem_is_code(c->mem, page))
		e->wtag = va;
	if (kind == MMU_W) {
		memslot_mark_dirty(s, gfn);
		if (unlikely(mem_is_code(c->mem, page))) {
			cpu_tlbe_read_only(e, n);
			c->fault_gpa = r.gpa;
			need_single(c);
			mem_note_write(c->mem, page);
			interp_note_smc(c, page);
		} else {
			e->wtag = va;
		}
	}
	if (e->wtag == va) {
		e->wadd = page - va;
		cpu_tlb_may_write(c, idx, n, page);
	}
	return (void *)(page + (la & ~PAGE_MASK));
}

/* Host pointer for one access inside a page, or NULL: MMIO at *gpa. */
static void *translate(struct cpu *c, gva_t la, int kind, unsigned idx, gpa_t *gpa)
{
	unsigned n = (la >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1);
	const struct cpu_tlbe *e = &c->tlbs[idx][n];
	if (kind == MMU_X) {
		if (c->tlbx[idx][n].tag == (la & PAGE_MASK))
			return (void *)(c->tlbx[idx][n].host | (la & ~PAGE_MASK));
	} else if ((kind == MMU_R ? e->rtag : e->wtag) == (la & PAGE_MASK)) {
		return cpu_tlbe_ptr(e, la);
	}
	if (unlikely(!cpu_canonical(c, la))) {
		sync_rip(c);
		cpu_gp(c, 0); /* stack references are caught by seg_linear; flat ones by the callers below */
	}
	return fill(c, la, kind, idx, gpa);
}

void *exec_ptr(struct cpu *c, gva_t la)
{
	gpa_t gpa;
	return translate(c, la, MMU_X, c->cpl == 3 ? MMU_USER : MMU_KERNEL, &gpa);
}

/* ---- MMIO ---- */

static _Noreturn void emulation_failure(struct cpu *c)
{
	block_insn_bytes(c, c->cur);
	cpu_exit(c, CPU_EXIT_EMULATION);
}

static void mmio_one(struct cpu *c, gpa_t gpa, unsigned len, void *data, bool write)
{
	struct cpu_mmio *m = &c->mmio;

	if (m->replay < m->n) {
		struct cpu_mmio_frag *f = &m->frag[m->replay++];
		if (f->gpa != gpa || f->len != len || f->write != write) {
			/* The VMM or another vCPU changed what this instruction does: forget the log, start over. */
			m->n = m->replay = 0;
			mmio_one(c, gpa, len, data, write);
			return;
		}
		if (f->done) {
			if (!write)
				memcpy(data, f->data, len);
			return;
		}
		m->replay--, m->n--;
	}
	if (m->n == CPU_MMIO_FRAGS)
		emulation_failure(c);
	struct cpu_mmio_frag *f = &m->frag[m->n++];
	m->replay = m->n;
	m->rip = c->rip;
	f->gpa = gpa;
	f->len = (u8)len;
	f->write = write;
	f->done = true;
	if (write)
		memcpy(f->data, data, len);
	stat_add(&c->stat.mmio, 1);
	cpu_fpu_put(c);
	if (c->ops->mmio(c, gpa, len, f->data, write)) {
		f->done = false;
		cpu_exit(c, CPU_EXIT_MMIO);
	}
	if (!write)
		memcpy(data, f->data, len);
}

static void mmio(struct cpu *c, gpa_t gpa, unsigned len, void *data, bool write)
{
	sync_rip(c);
	need_single(c);
	if (unlikely(load_relaxed(&c->policy) & CPU_POLICY_STRICT && c->cur && c->cur->kvm_lacks))
		emulation_failure(c);
	while (len) {
		unsigned n = MIN(len, 8u); /* as KVM: pieces of up to 8 bytes from the start, aligned or not */
		mmio_one(c, gpa, n, data, write);
		gpa += n, data = (char *)data + n, len -= n;
	}
}

/* ---- data breakpoints: while any is set (look_all), every access comes by here ---- */

static void watch(struct cpu *c, gva_t la, unsigned len, bool write)
{
	struct interp *in = c->interp;

	if (likely(!c->look_all) || !c->single || !c->cur)
		return;
	in->watch_hits |= debug_match_data(c, la, len, write ? DEBUG_WRITE : DEBUG_READ);
}

/* ---- bytes ---- */

/* To or from guest memory: operands of a power of two in one access, as the CPU would. */
static void guest_copy(void *dst, const void *src, unsigned len)
{
	switch (len) {
	case 1: store_relaxed((u8 *)dst, load_relaxed((const u8 *)src)); return;
	case 2: store_relaxed((u16 *)dst, load_relaxed((const u16 *)src)); return;
	case 4: store_relaxed((u32 *)dst, load_relaxed((const u32 *)src)); return;
	case 8: store_relaxed((u64 *)dst, load_relaxed((const u64 *)src)); return;
	default: break;
	}
#ifdef __SANITIZE_THREAD__
	for (unsigned k = 0; k < len; k++)
		store_relaxed((u8 *)dst + k, load_relaxed((const u8 *)src + k));
#else
	memcpy(dst, src, len);
#endif
}

static void copy_in_page(struct cpu *c, void *p, gpa_t gpa, void *buf, unsigned len, bool write)
{
	if (!p)
		mmio(c, gpa, len, buf, write);
	else if (write)
		guest_copy(p, buf, len);
	else
		guest_copy(buf, p, len);
}

static void lin_bytes(struct cpu *c, gva_t la, void *buf, unsigned len, bool write, unsigned idx)
{
	int kind = write ? MMU_W : MMU_R;
	unsigned first = (unsigned)(PAGE_SIZE - (la & ~PAGE_MASK));
	gpa_t gpa = 0, gpa2 = 0;

	watch(c, la, len, write);
	if (len <= first) {
		void *p = translate(c, la, kind, idx, &gpa);
		copy_in_page(c, p, gpa, buf, len, write);
		return;
	}
	gva_t la2 = la + first;
	if (!cpu_is_64(c))
		la2 &= 0xffffffff;
	void *p = translate(c, la, kind, idx, &gpa);
	void *p2 = translate(c, la2, kind, idx, &gpa2);
	copy_in_page(c, p, gpa, buf, first, write);
	copy_in_page(c, p2, gpa2, (char *)buf + first, len - first, write);
}

void lin_ld_bytes(struct cpu *c, gva_t la, void *buf, unsigned len, unsigned idx)
{
	lin_bytes(c, la, buf, len, false, idx);
}

void lin_st_bytes(struct cpu *c, gva_t la, const void *buf, unsigned len, unsigned idx)
{
	lin_bytes(c, la, (void *)buf, len, true, idx);
}

void lin_check_write(struct cpu *c, gva_t la, unsigned len, unsigned idx)
{
	gpa_t gpa;
	translate(c, la, MMU_W, idx, &gpa);
	if ((la & ~PAGE_MASK) + len > PAGE_SIZE)
		translate(c, (la & PAGE_MASK) + PAGE_SIZE, MMU_W, idx, &gpa);
}

u64 lin_ld(struct cpu *c, gva_t la, unsigned size, unsigned idx)
{
	u64 v = 0;
	lin_bytes(c, la, &v, size, false, idx);
	return v;
}

void lin_st(struct cpu *c, gva_t la, unsigned size, u64 val, unsigned idx)
{
	lin_bytes(c, la, &val, size, true, idx);
}

void *lin_ptr(struct cpu *c, gva_t la, unsigned len, bool write, unsigned idx)
{
	gpa_t gpa;
	if ((la & ~PAGE_MASK) + len > PAGE_SIZE)
		return NULL;
	watch(c, la, len, write);
	return translate(c, la, write ? MMU_W : MMU_R, idx, &gpa);
}

/* ---- the handlers' slow paths ---- */

static void check_align(struct cpu *c, gva_t la, unsigned size)
{
	if (unlikely(c->cpl == 3 && c->rflags & X86_AC && c->cr0 & CR0_AM && la & (size - 1))) {
		sync_rip(c);
		cpu_raise(c, EX_AC, true, 0);
	}
}

/* A flat operand with a non-canonical address: #SS when its base is a stack register, else #GP (SDM 1, 3.3.7.1). */
static void check_flat_canonical(struct cpu *c, gva_t la, unsigned size)
{
	if (likely(cpu_canonical(c, la) && cpu_canonical(c, la + size - 1)))
		return;
	sync_rip(c);
	cpu_raise(c, c->cur && c->cur->seg == S_SS ? EX_SS : EX_GP, true, 0);
}

u64 slow_stack_ld(struct cpu *c, gva_t la)
{
	return lin_ld(c, seg_linear(c, S_SS, la, 8, ACC_READ), 8, c->mmu_idx);
}

void slow_stack_st(struct cpu *c, gva_t la, u64 val)
{
	lin_st(c, seg_linear(c, S_SS, la, 8, ACC_WRITE), 8, val, c->mmu_idx);
}

void stack_check_write(struct cpu *c, gva_t la)
{
	lin_check_write(c, seg_linear(c, S_SS, la, 8, ACC_WRITE), 8, c->mmu_idx);
}

u64 slow_ld(struct cpu *c, gva_t la, unsigned size)
{
	u64 v = 0;
	check_flat_canonical(c, la, size);
	check_align(c, la, size);
	lin_bytes(c, la, &v, size, false, c->mmu_idx);
	return v;
}

void slow_st(struct cpu *c, gva_t la, unsigned size, u64 val)
{
	check_flat_canonical(c, la, size);
	check_align(c, la, size);
	lin_bytes(c, la, &val, size, true, c->mmu_idx);
}

void *slow_wptr(struct cpu *c, gva_t la, unsigned size)
{
	check_flat_canonical(c, la, size);
	check_align(c, la, size);
	return lin_ptr(c, la, size, true, c->mmu_idx);
}

void *slow_rptr(struct cpu *c, gva_t la, unsigned size)
{
	check_flat_canonical(c, la, size);
	check_align(c, la, size);
	return lin_ptr(c, la, size, false, c->mmu_idx);
}

void branch_check(struct cpu *c, const struct insn *i, u64 t)
{
	if (cpu_canonical(c, t))
		return;
	c->rip = insn_rip(c, i);
	cpu_gp(c, 0);
}

/* ---- segmentation ---- */

static _Noreturn void seg_fault(struct cpu *c, unsigned seg)
{
	sync_rip(c);
	cpu_raise(c, seg == S_SS ? EX_SS : EX_GP, true, 0);
}

static bool limit_ok(const struct cpu_seg *s, u64 off, unsigned size)
{
	u64 last = off + size - 1;
	if ((s->ar & (AR_CODE | AR_DC)) == AR_DC && s->ar & AR_S) { /* expand-down data */
		u64 max = s->ar & AR_DB ? 0xffffffff : 0xffff;
		return off > s->limit && last <= max;
	}
	return last <= s->limit;
}

/* What #AC looks at: operands of a power of two bytes, wide ones as 16 (SDM 3, table 6-7; AMD does the same for 32 and 64). */
static unsigned align_size(unsigned size)
{
	return size & (size - 1) ? 1 : MIN(size, 16u);
}

gva_t seg_linear_noac(struct cpu *c, unsigned seg, u64 off, unsigned size, enum access acc)
{
	const struct cpu_seg *s = &c->seg[seg];

	if (cpu_is_64(c)) {
		gva_t la = off + (seg >= S_FS ? s->base : 0);
		if (unlikely(!cpu_canonical(c, la) || !cpu_canonical(c, la + size - 1)))
			seg_fault(c, seg);
		return la;
	}
	if (c->cr0 & CR0_PE && !(c->rflags & X86_VM)) {
		if (unlikely(s->ar & AR_UNUSABLE || !(s->ar & AR_P)))
			seg_fault(c, seg);
		if (acc == ACC_WRITE && unlikely(s->ar & AR_CODE || !(s->ar & AR_RW)))
			seg_fault(c, seg);
		if (acc == ACC_READ && unlikely((s->ar & (AR_CODE | AR_RW)) == AR_CODE))
			seg_fault(c, seg);
	}
	if (unlikely(!limit_ok(s, off, size)))
		seg_fault(c, seg);
	return (s->base + off) & 0xffffffff;
}

gva_t seg_linear(struct cpu *c, unsigned seg, u64 off, unsigned size, enum access acc)
{
	gva_t la = seg_linear_noac(c, seg, off, size, acc);

	check_align(c, la, align_size(size));
	return la;
}

u64 ea_of(struct cpu *c, const struct insn *i)
{
	u64 ea = fast_ea(c, i);
	return i->asz == 8 ? ea : i->asz == 4 ? (u32)ea : (u16)ea;
}

gva_t lin_general(struct cpu *c, const struct insn *i, unsigned size, enum access acc)
{
	return seg_linear(c, i->seg, ea_of(c, i), size, acc);
}

u64 ld(struct cpu *c, unsigned seg, u64 off, unsigned size)
{
	u64 v = 0;
	gva_t la = seg_linear(c, seg, off, size, ACC_READ);
	lin_bytes(c, la, &v, size, false, c->mmu_idx);
	return v;
}

void st(struct cpu *c, unsigned seg, u64 off, unsigned size, u64 val)
{
	gva_t la = seg_linear(c, seg, off, size, ACC_WRITE);
	lin_bytes(c, la, &val, size, true, c->mmu_idx);
}

void ld_bytes(struct cpu *c, unsigned seg, u64 off, void *buf, unsigned len)
{
	lin_bytes(c, seg_linear(c, seg, off, len, ACC_READ), buf, len, false, c->mmu_idx);
}

void st_bytes(struct cpu *c, unsigned seg, u64 off, const void *buf, unsigned len)
{
	lin_bytes(c, seg_linear(c, seg, off, len, ACC_WRITE), (void *)buf, len, true, c->mmu_idx);
}

/* ---- atomic read-modify-write ---- */

u64 rmw(struct cpu *c, unsigned seg, u64 off, unsigned size, u64 (*update)(struct cpu *c, u64 old, u64 arg), u64 arg)
{
	gva_t la = seg_linear(c, seg, off, size, ACC_WRITE);
	void *p = lin_ptr(c, la, size, true, c->mmu_idx);
	u64 old = 0, new;

	if (!p) {
		lin_bytes(c, la, &old, size, false, c->mmu_idx);
		new = update(c, old, arg);
		lin_bytes(c, la, &new, size, true, c->mmu_idx);
		return old;
	}
#define LOOP(T)                                                                                                                            \
	do {                                                                                                                               \
		T o = load_relaxed((T *)p), n;                                                                                             \
		do                                                                                                                         \
			n = (T)update(c, o, arg);                                                                                          \
		while (!__atomic_compare_exchange_n((T *)p, &o, n, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));                           \
		return o;                                                                                                                  \
	} while (0)
	switch (size) {
	case 1: LOOP(u8);
	case 2: LOOP(u16);
	case 4: LOOP(u32);
	default: LOOP(u64);
	}
#undef LOOP
}

/* ---- stack ---- */

u64 stack_mask(const struct cpu *c)
{
	if (cpu_is_64(c))
		return ~0ull;
	return c->seg[S_SS].ar & AR_DB ? 0xffffffff : 0xffff;
}

void set_sp(struct cpu *c, u64 sp)
{
	u64 m = stack_mask(c);
	if (m == 0xffff)
		c->gpr[R_SP] = (c->gpr[R_SP] & ~0xffffull) | (sp & 0xffff);
	else
		c->gpr[R_SP] = sp & m;
}

void push(struct cpu *c, unsigned size, u64 val)
{
	u64 sp = (c->gpr[R_SP] - size) & stack_mask(c);
	st(c, S_SS, sp, size, val);
	set_sp(c, sp);
}

u64 pop(struct cpu *c, unsigned size)
{
	u64 sp = c->gpr[R_SP] & stack_mask(c);
	u64 v = ld(c, S_SS, sp, size);
	set_sp(c, sp + size);
	return v;
}
