/* SPDX-License-Identifier: MIT */
/*
 * Handlers of stubs: check that the instruction may run, find its operand in host memory, call the stub. Operands that are not in one
 * page of RAM, and masked ones that would fault as a whole, go through a buffer.
 *
 * A stub may fault (FPU exception, host memory gone): interp/fault.c raises for c->cur then.
 */
#include "interp/stub_int.h"
#include "base/string.h"
#include "interp/fast.h"

_Noreturn void stub_unavailable(struct cpu *c, const struct insn *i, u32 need)
{
	bool ud = false;

	c->cur = i;
	c->rip = insn_rip(c, i);
	if (need & (FPU_OK_SSE | FPU_OK_MMX))
		ud = c->cr0 & CR0_EM || (need & FPU_OK_SSE && !(c->cr4 & CR4_OSFXSR));
	if (need & FPU_OK_VEX)
		ud = !(c->cr0 & CR0_PE) || c->rflags & X86_VM;
	if (need & FPU_OK_AVX)
		ud |= !(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6;
	if (need & FPU_OK_AVX512)
		ud |= (c->xcr0 & XFEATURES_AVX512) != XFEATURES_AVX512;
	cpu_raise(c, ud ? EX_UD : EX_NM, false, 0);
}

static _Noreturn void misaligned(struct cpu *c, const struct insn *i)
{
	c->rip = insn_rip(c, i);
	cpu_gp(c, 0);
}

/* AMD: MXCSR.MM (bit 17) permits misaligned operands of legacy SSE instructions, except the aligned moves. */
static void check_align(struct cpu *c, const struct insn *i, const struct stub *s, gva_t la)
{
	u32 mxcsr;

	if (likely(!(la & s->align)))
		return;
	switch (i->mnem) {
	case ZYDIS_MNEMONIC_MOVAPS: case ZYDIS_MNEMONIC_MOVAPD: case ZYDIS_MNEMONIC_MOVDQA: case ZYDIS_MNEMONIC_MOVNTDQ:
	case ZYDIS_MNEMONIC_MOVNTPS: case ZYDIS_MNEMONIC_MOVNTPD: case ZYDIS_MNEMONIC_MOVNTDQA: misaligned(c, i);
	default: break;
	}
	cpu_fpu_get(c);
	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	if (s->need != FPU_OK_SSE || !(mxcsr & BIT(17)))
		misaligned(c, i);
}

#define CHECK(c, i, s)                                                                                                                     \
	do {                                                                                                                               \
		if (unlikely((s)->need & ~(c)->fpu_ok))                                                                                    \
			stub_unavailable(c, i, (s)->need);                                                                                 \
		(c)->cur = (i);                                                                                                            \
	} while (0)

static always_inline void note_x87(struct cpu *c, const struct insn *i, const struct stub *s)
{
	if (!s->control) {
		c->x87_fip = insn_rip(c, i);
		c->x87_fop = s->fop;
	}
}

/* ---- registers only ---- */

static const struct insn *h_gpr(struct cpu *c, const struct insn *i)
{
	const struct stub *s = i->stub;
	CHECK(c, i, s);
	s->code(c, NULL);
	NEXT(c, i);
}

static const struct insn *h_vec(struct cpu *c, const struct insn *i)
{
	const struct stub *s = i->stub;
	CHECK(c, i, s);
	cpu_fpu_get(c);
	s->code(c, NULL);
	stub_done(c);
	NEXT(c, i);
}

static const struct insn *h_x87(struct cpu *c, const struct insn *i)
{
	const struct stub *s = i->stub;
	CHECK(c, i, s);
	cpu_fpu_get(c);
	s->code(c, NULL);
	note_x87(c, i, s);
	stub_done(c);
	NEXT(c, i);
}

const struct insn *h_stub_fninit(struct cpu *c, const struct insn *i)
{
	const struct stub *s = i->stub;
	CHECK(c, i, s);
	cpu_fpu_get(c);
	s->code(c, NULL);
	c->x87_fip = c->x87_fdp = 0;
	c->x87_fop = 0;
	stub_done(c);
	NEXT(c, i);
}

/* ---- memory ---- */

/* Through a buffer. An x87 store pops: the state from before it is what a restart must find if the store has to wait for the VMM. */
static noinline void store_slow(struct cpu *c, const struct stub *s, gva_t la)
{
	u8 buf[64] aligned(64), before[XSAVE_EXT], after[XSAVE_EXT];
	bool x87 = s->need == FPU_OK_X87;

	lin_check_write(c, la, s->size, c->mmu_idx);
	memset(buf, 0, sizeof(buf));
	if (s->kreg || x87) /* masked-off lanes, or all of it if an x87 exception is pending, stay as they are */
		lin_ld_bytes(c, la, buf, s->size, c->mmu_idx);
	if (x87) {
		cpu_fpu_put(c);
		memcpy(before, c->xsave, sizeof(before));
	}
	if (s->need & ~FPU_OK_VEX)
		cpu_fpu_get(c);
	s->code(c, buf);
	stub_done(c);
	if (x87) {
		cpu_fpu_put(c);
		memcpy(after, c->xsave, sizeof(after));
		memcpy(c->xsave, before, sizeof(before));
	}
	lin_st_bytes(c, la, buf, s->size, c->mmu_idx);
	if (x87)
		memcpy(c->xsave, after, sizeof(after));
}

static noinline void load_slow(struct cpu *c, const struct stub *s, gva_t la)
{
	u8 buf[64] aligned(64);

	memset(buf, 0, sizeof(buf));
	lin_ld_bytes(c, la, buf, s->size, c->mmu_idx);
	if (s->need & ~FPU_OK_VEX)
		cpu_fpu_get(c);
	s->code(c, buf);
}

void x87_pending(struct cpu *c, const struct insn *i)
{
	u16 sw, cw;

	cpu_fpu_get(c);
	__asm__ volatile("fnstsw %0; fnstcw %1" : "=m"(sw), "=m"(cw));
	c->rip = insn_rip(c, i);
	if (sw & ~cw & 0x3f)
		cpu_raise(c, EX_MF, false, 0);
}

static always_inline void run_on(struct cpu *c, const struct stub *s, void *p, bool fpu)
{
	if (fpu)
		cpu_fpu_get(c);
	s->code(c, p);
}

/* What a TLB hit does not settle, in the order in which the faults go: misaligned operands of the aligned kind are #GP before anything else. */
static noinline void mem_slow(struct cpu *c, const struct insn *i, const struct stub *s, u64 ea)
{
	if (unlikely(c->tlb == c->tlbs[MMU_COUNT] || (ea & s->align) || (ea + BIT(47)) >> 48 || !cpu_is_64(c)) && stub_waits(i, s))
		x87_pending(c, i);
	if (s->align && cpu_is_64(c))
		check_align(c, i, s, seg_unchecked(c, i->seg, ea));
	gva_t la = (s->align ? seg_linear_noac : seg_linear)(c, i->seg, ea, s->size, s->write ? ACC_WRITE : ACC_READ);
	check_align(c, i, s, la);
	struct cpu_tlbe *e = tlbe(c, la);
	void *p;
	if (TLB_HIT(e, wtag, la, s->size) || (!s->write && TLB_HIT(e, rtag, la, s->size))) {
		p = cpu_tlbe_ptr(e, la);
	} else {
		if (stub_waits(i, s))
			x87_pending(c, i);
		p = lin_ptr(c, la, s->size, s->write, c->mmu_idx);
	}
	if (likely(p))
		run_on(c, s, p, s->need & ~FPU_OK_VEX);
	else if (s->write)
		store_slow(c, s, la);
	else
		load_slow(c, s, la);
}

/* Returns the effective address. A hit means that the operand may be accessed, is canonical, and that neither #AC nor DR7 looks at it. */
static always_inline u64 mem_access(struct cpu *c, const struct insn *i, const struct stub *s, bool fpu, bool write)
{
	u64 ea;

	if (likely(i->flat)) {
		ea = fast_ea(c, i);
		struct cpu_tlbe *e = tlbe(c, ea);
		if (likely(!(ea & s->align)) && (write ? TLB_HIT(e, wtag, ea, s->size) : TLB_HIT(e, rtag, ea, s->size))) {
			run_on(c, s, cpu_tlbe_ptr(e, ea), fpu);
			return ea;
		}
	} else {
		ea = ea_of(c, i);
	}
	mem_slow(c, i, s, ea);
	return ea;
}

#define MEM_HANDLER(name, fpu, wr, x87)                                                                                                    \
	static const struct insn *name(struct cpu *c, const struct insn *i)                                                                \
	{                                                                                                                                  \
		const struct stub *s = i->stub;                                                                                            \
		CHECK(c, i, s);                                                                                                            \
		u64 ea = mem_access(c, i, s, fpu, wr);                                                                                     \
		if (x87 && !s->control) {                                                                                                  \
			cpu_fpu_get(c);                                                                                                    \
			note_x87(c, i, s);                                                                                                 \
			c->x87_fdp = ea;                                                                                                   \
		}                                                                                                                          \
		if (fpu)                                                                                                                   \
			stub_done(c);                                                                                                      \
		NEXT(c, i);                                                                                                                \
	}
MEM_HANDLER(h_gpr_load, false, false, false)
MEM_HANDLER(h_gpr_store, false, true, false)
MEM_HANDLER(h_vec_load, true, false, false)
MEM_HANDLER(h_vec_store, true, true, false)
MEM_HANDLER(h_x87_load, true, false, true)
MEM_HANDLER(h_x87_store, true, true, true)

const struct insn *h_ldmxcsr(struct cpu *c, const struct insn *i)
{
	const struct stub *s = i->stub;
	u8 buf[64] aligned(64);

	CHECK(c, i, s);
	u32 v = (u32)ld(c, i->seg, ea_of(c, i), 4);
	if (v & ~c->mxcsr_mask)
		misaligned(c, i);
	*(u32 *)buf = v;
	cpu_fpu_get(c);
	s->code(c, buf);
	stub_done(c);
	NEXT(c, i);
}

/* ---- masked memory ---- */

/* Bit n: lane n of memory is accessed. */
static u64 active_lanes(struct cpu *c, const struct stub *s)
{
	u64 m = 0, out = 0;

	cpu_fpu_put(c);
	if (s->kreg) {
		m = xs_kreg_read(c, s->kreg);
	} else {
		u8 v[64];
		xs_vec_read(c, s->vreg, v, s->size);
		for (unsigned n = 0; n < s->nmask; n++)
			m |= (u64)(v[(n + 1) * s->lane_size - 1] >> 7) << n;
	}
	if (s->nmask < 64)
		m &= BIT(s->nmask) - 1;
	if (s->lanes == LANES_ANY)
		return m ? 1 : 0;
	if (s->lanes == LANES_PACKED) {
		unsigned n = 0;
		for (; m; m &= m - 1)
			n++;
		return n == 64 ? ~0ull : BIT(n) - 1;
	}
	for (unsigned n = 0; n < s->nmask; n++)
		if (m >> n & 1)
			out |= BIT(s->masked_fold ? n / s->masked_fold : n % s->nlanes);
	return out;
}

static unsigned run_of_lanes(u64 act, unsigned n, unsigned max)
{
	unsigned k = n;
	while (k < max && act >> k & 1)
		k++;
	return k - n;
}

/* Only the active lanes are touched; lanes that lie together go as one access. The address size bounds where an operand begins, not its lanes. */
static noinline void masked_slow(struct cpu *c, const struct insn *i, const struct stub *s, u64 ea)
{
	u8 buf[64] aligned(64);
	u64 act = active_lanes(c, s);
	unsigned n, r, w = s->lane_size;

	memset(buf, 0, sizeof(buf));
	for (n = 0; n < s->nlanes; n += r ? r : 1) {
		r = run_of_lanes(act, n, s->nlanes);
		if (!r)
			continue;
		gva_t la = seg_linear_noac(c, i->seg, ea + n * w, r * w, s->write ? ACC_WRITE : ACC_READ);
		check_align(c, i, s, seg_unchecked(c, i->seg, ea)); /* the segment's limit goes first */
		if (s->write)
			lin_check_write(c, la, r * w, c->mmu_idx);
		else
			lin_ld_bytes(c, la, buf + n * w, r * w, c->mmu_idx);
	}
	cpu_fpu_get(c);
	s->code(c, buf);
	stub_done(c);
	if (!s->write)
		return;
	for (n = 0; n < s->nlanes; n += r ? r : 1) {
		r = run_of_lanes(act, n, s->nlanes);
		if (r)
			lin_st_bytes(c, seg_linear_noac(c, i->seg, ea + n * w, r * w, ACC_WRITE), buf + n * w, r * w, c->mmu_idx);
	}
}

static bool seg_flat(const struct cpu *c, unsigned seg)
{
	return cpu_is_64(c) || (!c->seg[seg].base && c->seg[seg].limit == 0xffffffff && (c->seg[seg].ar & (AR_CODE | AR_RW | AR_P)) == (AR_RW | AR_P));
}

static const struct insn *h_masked(struct cpu *c, const struct insn *i)
{
	const struct stub *s = i->stub;

	CHECK(c, i, s);
	u64 ea = ea_of(c, i);
	gva_t la = seg_unchecked(c, i->seg, ea);
	struct cpu_tlbe *e = tlbe(c, la);
	if (unlikely(la & s->align) && seg_flat(c, i->seg) && active_lanes(c, s))
		check_align(c, i, s, la);
	if (seg_flat(c, i->seg) && (s->write ? TLB_HIT(e, wtag, la, s->size) : TLB_HIT(e, rtag, la, s->size))) {
		cpu_fpu_get(c);
		s->code(c, cpu_tlbe_ptr(e, la));
	} else {
		masked_slow(c, i, s, ea);
	}
	stub_done(c);
	NEXT(c, i);
}

insn_fn stub_handler(const struct stub *s, bool has_mem)
{
	bool x87 = s->need == FPU_OK_X87, fpu = s->need & ~FPU_OK_VEX;

	if (!has_mem)
		return x87 ? h_x87 : fpu ? h_vec : h_gpr;
	if (s->lanes)
		return h_masked;
	if (x87)
		return s->write ? h_x87_store : h_x87_load;
	if (fpu)
		return s->write ? h_vec_store : h_vec_load;
	return s->write ? h_gpr_store : h_gpr_load;
}

bool stub_is(const struct insn *i)
{
	insn_fn f = i->fn;
	return f == h_gpr || f == h_vec || f == h_x87 || f == h_gpr_load || f == h_gpr_store || f == h_vec_load || f == h_vec_store ||
	       f == h_x87_load || f == h_x87_store || f == h_masked;
}
