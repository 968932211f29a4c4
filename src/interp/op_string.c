/* SPDX-License-Identifier: MIT */
/*
 * MOVS, STOS, LODS, SCAS, CMPS, with and without REP.
 *
 * Registers move after each piece, so that a fault or an interrupt in the middle leaves the instruction restartable. A piece is as
 * many elements as lie in one page of every operand, done by the host's own string instruction on the host pages; or one element
 * through the general memory functions (page crossing, MMIO, DF=1, segment limits near).
 */
#include "interp/alu.h"
#include "interp/debug.h"
#include "interp/fast.h"
#include "interp/integer.h"

static u64 mask_of(const struct insn *i)
{
	return i->asz == 8 ? ~0ull : i->asz == 4 ? 0xffffffffull : 0xffffull;
}

static void reg_add(struct cpu *c, const struct insn *i, unsigned r, s64 delta)
{
	u64 v = c->gpr[r] + (u64)delta;
	if (i->asz == 2)
		GPR16(c, r * 8) = (u16)v;
	else
		c->gpr[r] = i->asz == 4 ? (u32)v : v;
}

static u64 count_of(struct cpu *c, const struct insn *i)
{
	return i->rep ? c->gpr[R_CX] & mask_of(i) : 1;
}

/* How many elements may be done at once from this linear address and offset; at least 1 is tried by the general path. */
static u64 room(struct cpu *c, const struct insn *i, unsigned seg, u64 off, gva_t la)
{
	u64 n = (PAGE_SIZE - (la & ~PAGE_MASK)) / i->osz;
	u64 wrap = (mask_of(i) - off) / i->osz;
	n = MIN(n, wrap);
	if (!cpu_is_64(c)) {
		const struct cpu_seg *s = &c->seg[seg];
		if ((s->ar & (AR_CODE | AR_DC)) == AR_DC || off > s->limit)
			return 0;
		u64 lim = ((u64)s->limit - off + 1) / i->osz;
		n = MIN(n, lim);
	}
	return n;
}

/*
 * After n elements: registers, the log of MMIO accesses, and whether to go on. False: leave the instruction, at its start if it has
 * more to do.
 */
static bool step(struct cpu *c, const struct insn *i, u64 n, bool src, bool dst)
{
	s64 d = (s64)(n * i->osz);
	if (c->rflags & X86_DF)
		d = -d;
	if (src)
		reg_add(c, i, R_SI, d);
	if (dst)
		reg_add(c, i, R_DI, d);
	c->mmio.n = c->mmio.replay = 0;
	if (!i->rep)
		return false;
	reg_add(c, i, R_CX, -(s64)n);
	return true;
}

static bool more(struct cpu *c, const struct insn *i)
{
	if (!(c->gpr[R_CX] & mask_of(i)))
		return false;
	if (load_relaxed(&c->requests) || c->single) {
		c->next_rip = c->rip;
		return false;
	}
	return true;
}

/* Single step and breakpoints come between two iterations. */
static u64 at_once(const struct cpu *c, u64 k)
{
	return unlikely(c->rflags & X86_TF || debug_active(c) || c->gdbg.flags) ? MIN(k, 1u) : k;
}

#define HOST_STRING(insn, ...)                                                                                                             \
	switch (i->osz) {                                                                                                                  \
	case 1: __asm__ volatile("rep " insn "b" __VA_ARGS__); break;                                                                      \
	case 2: __asm__ volatile("rep " insn "w" __VA_ARGS__); break;                                                                      \
	case 4: __asm__ volatile("rep " insn "l" __VA_ARGS__); break;                                                                      \
	default: __asm__ volatile("rep " insn "q" __VA_ARGS__); break;                                                                     \
	}

/*
 * What nearly all are: 64-bit addresses without a base, upwards, within a page that the TLB has. The bytes to do; 0: not so.
 */
static u64 simple_bytes(const struct cpu *c, const struct insn *i)
{
	u64 n = i->rep ? c->gpr[R_CX] : 1;

	if (!cpu_is_64(c) || i->asz != 8 || c->rflags & (X86_DF | X86_TF) || debug_active(c) || c->gdbg.flags || n > PAGE_SIZE)
		return 0;
	return n * i->osz;
}

static void *simple_ptr(struct cpu *c, gva_t la, u64 bytes, bool write)
{
	const struct cpu_tlbe *e = tlbe(c, la);
	bool hit = (write ? e->wtag : e->rtag) == (la & PAGE_MASK) && (la & ~PAGE_MASK) + bytes <= PAGE_SIZE;

	return hit ? cpu_tlbe_ptr(e, la) : NULL;
}

static void simple_done(struct cpu *c, const struct insn *i, u64 bytes, bool src)
{
	if (src)
		c->gpr[R_SI] += bytes;
	c->gpr[R_DI] += bytes;
	if (i->rep)
		c->gpr[R_CX] = 0;
}

static bool simple_movs(struct cpu *c, const struct insn *i)
{
	u64 bytes = simple_bytes(c, i), cnt = bytes / i->osz;

	if (!bytes || i->seg >= S_FS)
		return false;
	void *s = simple_ptr(c, c->gpr[R_SI], bytes, false), *d = simple_ptr(c, c->gpr[R_DI], bytes, true);
	if (!s || !d)
		return false;
	HOST_STRING("movs", : "+S"(s), "+D"(d), "+c"(cnt) : : "memory");
	simple_done(c, i, bytes, true);
	return true;
}

static bool simple_stos(struct cpu *c, const struct insn *i)
{
	u64 bytes = simple_bytes(c, i), cnt = bytes / i->osz;
	void *d = bytes ? simple_ptr(c, c->gpr[R_DI], bytes, true) : NULL;

	if (!d)
		return false;
	HOST_STRING("stos", : "+D"(d), "+c"(cnt) : "a"(c->gpr[R_AX]) : "memory");
	simple_done(c, i, bytes, false);
	return true;
}

void op_movs(struct cpu *c, const struct insn *i)
{
	u64 n;

	if (simple_movs(c, i))
		return;

	while ((n = count_of(c, i))) {
		u64 so = c->gpr[R_SI] & mask_of(i), doff = c->gpr[R_DI] & mask_of(i), k;
		gva_t sl = seg_linear(c, i->seg, so, i->osz, ACC_READ);
		if (unlikely(doff >> 47 || c->tlb == c->tlbs[MMU_COUNT])) /* the destination may be bad: a fault of the source goes first */
			ld(c, i->seg, so, i->osz);
		gva_t dl = seg_linear(c, S_ES, doff, i->osz, ACC_WRITE);
		void *s = NULL, *d = NULL;
		k = MIN(room(c, i, i->seg, so, sl), room(c, i, S_ES, doff, dl));
		k = at_once(c, MIN(k, n));
		if (k && !(c->rflags & X86_DF)) {
			s = lin_ptr(c, sl, (unsigned)(k * i->osz), false, c->mmu_idx);
			d = lin_ptr(c, dl, (unsigned)(k * i->osz), true, c->mmu_idx);
		}
		if (s && d) {
			u64 cnt = k;
			HOST_STRING("movs", : "+S"(s), "+D"(d), "+c"(cnt) : : "memory");
		} else {
			k = 1;
			u64 v = ld(c, i->seg, so, i->osz);
			st(c, S_ES, doff, i->osz, v);
		}
		if (!step(c, i, k, true, true) || !more(c, i))
			return;
	}
}

void op_stos(struct cpu *c, const struct insn *i)
{
	u64 n;

	if (simple_stos(c, i))
		return;

	while ((n = count_of(c, i))) {
		u64 doff = c->gpr[R_DI] & mask_of(i), k;
		gva_t dl = seg_linear(c, S_ES, doff, i->osz, ACC_WRITE);
		void *d = NULL;
		k = at_once(c, MIN(room(c, i, S_ES, doff, dl), n));
		if (k && !(c->rflags & X86_DF))
			d = lin_ptr(c, dl, (unsigned)(k * i->osz), true, c->mmu_idx);
		if (d) {
			u64 cnt = k;
			HOST_STRING("stos", : "+D"(d), "+c"(cnt) : "a"(c->gpr[R_AX]) : "memory");
		} else {
			k = 1;
			st(c, S_ES, doff, i->osz, c->gpr[R_AX]);
		}
		if (!step(c, i, k, false, true) || !more(c, i))
			return;
	}
}

void op_lods(struct cpu *c, const struct insn *i)
{
	while (count_of(c, i)) {
		u64 v = ld(c, i->seg, c->gpr[R_SI] & mask_of(i), i->osz);
		gpr_write(c, R_AX * 8, i->osz, v);
		if (!step(c, i, 1, true, false) || !more(c, i))
			return;
	}
}

static void compare(struct cpu *c, unsigned size, u64 a, u64 b)
{
	switch (size) {
	case 1: alu_cmp8(c, (u8)a, (u8)b); break;
	case 2: alu_cmp16(c, (u16)a, (u16)b); break;
	case 4: alu_cmp32(c, (u32)a, (u32)b); break;
	default: alu_cmp64(c, a, b);
	}
}

static bool rep_ends(struct cpu *c, const struct insn *i)
{
	bool zf = c->af & 0x4000;
	return i->rep == REP_E ? !zf : zf;
}

void op_scas(struct cpu *c, const struct insn *i)
{
	while (count_of(c, i)) {
		u64 v = ld(c, S_ES, c->gpr[R_DI] & mask_of(i), i->osz);
		compare(c, i->osz, gpr_read(c, R_AX * 8, i->osz), v);
		if (!step(c, i, 1, false, true) || rep_ends(c, i) || !more(c, i))
			return;
	}
}

void op_cmps(struct cpu *c, const struct insn *i)
{
	while (count_of(c, i)) {
		/* If both operands fault, which is told of? Zen: the second, but for REPE CMPSB. */
		bool first = i->rep == REP_E && i->osz == 1;
		u64 a = 0, b;
		if (first)
			a = ld(c, i->seg, c->gpr[R_SI] & mask_of(i), 1);
		b = ld(c, S_ES, c->gpr[R_DI] & mask_of(i), i->osz);
		if (!first)
			a = ld(c, i->seg, c->gpr[R_SI] & mask_of(i), i->osz);
		compare(c, i->osz, a, b);
		if (!step(c, i, 1, true, true) || rep_ends(c, i) || !more(c, i))
			return;
	}
}
