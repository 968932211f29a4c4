/* SPDX-License-Identifier: MIT */
/*
 * Instructions that store and load the FPU's whole state or environment, in C between c->xsave and guest memory: FXSAVE, XSAVE and its
 * kin (SDM 1, chapter 13), FNSTENV, FNSAVE and their counterparts (SDM 1, 8.1.10).
 *
 * Everything is read, or known to be writable, before anything changes. i->rexw: the 64-bit form of the x87 pointers.
 */
#include "interp/stub_int.h"
#include "base/string.h"
#include "cpu/cpuid.h"
#include "interp/fast.h"

#define XCOMP_COMPACT BIT(63)

static u16 *img16(struct cpu *c, unsigned off)
{
	return (u16 *)(c->xsave + off);
}
static u32 *img32(struct cpu *c, unsigned off)
{
	return (u32 *)(c->xsave + off);
}
static u64 *img64(struct cpu *c, unsigned off)
{
	return (u64 *)(c->xsave + off);
}

static unsigned xmm_bytes(const struct cpu *c)
{
	return cpu_is_64(c) ? 256 : 128;
}

/* How much of component n an instruction moves: outside 64-bit mode not what belongs to vector registers from 8 on (SDM 1, 13.5). */
static unsigned comp_bytes(const struct cpu *c, unsigned n)
{
	if (cpu_is_64(c))
		return c->xs_size[n];
	return n == XC_AVX || n == XC_ZMM_HI ? c->xs_size[n] / 2u : n == XC_HI16_ZMM ? 0 : c->xs_size[n];
}

/* Bytes 0..23 of the legacy region: control words and pointers. */
static void x87_head(struct cpu *c, u8 h[24], bool rexw)
{
	memcpy(h, c->xsave, 24);
	h[5] = 0;
	if (!rexw) { /* 32-bit offsets and selectors, which we do not keep */
		*(u32 *)(h + 12) = 0;
		*(u32 *)(h + 20) = 0;
	}
}

static void x87_load(struct cpu *c, const u8 *b, bool rexw)
{
	xs_materialise(c, XC_X87);
	memcpy(c->xsave, b, 24);
	c->xsave[5] = 0;
	*img16(c, 6) &= 0x7ff;
	if (!rexw) {
		*img32(c, 12) = 0;
		*img32(c, 20) = 0;
	}
	for (unsigned n = 0; n < 8; n++)
		memcpy(c->xsave + 32 + 16 * n, b + 32 + 16 * n, 10);
}

static void x87_init(struct cpu *c)
{
	memset(c->xsave, 0, 24);
	memset(c->xsave + 32, 0, 128);
	*img16(c, 0) = 0x37f;
}

/* ---- FXSAVE, FXRSTOR ---- */

static gva_t fx_operand(struct cpu *c, const struct insn *i, enum access acc)
{
	if (c->cr0 & (CR0_EM | CR0_TS))
		cpu_raise(c, EX_NM, false, 0);
	gva_t la = seg_linear_noac(c, i->seg, ea_of(c, i), 512, acc);
	if (acc == ACC_READ)
		seg_linear(c, i->seg, ea_of(c, i), 16, acc); /* FXRSTOR: #AC before #GP */
	if (la & 15)
		cpu_gp(c, 0);
	return la;
}

static bool fast_fx(const struct cpu *c)
{
	return c->efer & EFER_FFXSR && c->cpl == 0 && cpu_is_64(c);
}

static void op_fxsave(struct cpu *c, const struct insn *i)
{
	gva_t la = fx_operand(c, i, ACC_WRITE);
	u8 b[416];

	lin_check_write(c, la, 512, c->mmu_idx);
	cpu_fpu_put(c);
	memset(b, 0, sizeof(b));
	x87_head(c, b, i->rexw);
	*(u32 *)(b + 24) = *img32(c, 24);
	*(u32 *)(b + 28) = c->mxcsr_mask;
	memcpy(b + 32, c->xsave + 32, 128 + 256);
	lin_st_bytes(c, la, b, fast_fx(c) ? 160 : 160 + xmm_bytes(c), c->mmu_idx);
}

static void do_fxrstor(struct cpu *c, const struct insn *i)
{
	gva_t la = fx_operand(c, i, ACC_READ);
	u8 b[512];

	lin_ld_bytes(c, la, b, 512, c->mmu_idx);
	if (*(u32 *)(b + 24) & ~c->mxcsr_mask)
		cpu_gp(c, 0);
	cpu_fpu_put(c);
	x87_load(c, b, i->rexw);
	*img32(c, 24) = *(u32 *)(b + 24);
	if (fast_fx(c))
		return;
	xs_materialise(c, XC_SSE);
	memcpy(c->xsave + 160, b + 160, xmm_bytes(c));
}

/* ---- XSAVE and its kin ---- */

static void xs_check(struct cpu *c)
{
	if (!(c->cr4 & CR4_OSXSAVE))
		cpu_ud(c);
	if (c->cr0 & CR0_TS)
		cpu_raise(c, EX_NM, false, 0);
}

static u64 edx_eax(const struct cpu *c)
{
	return (u32)c->gpr[R_AX] | (u64)(u32)c->gpr[R_DX] << 32;
}

/* Where component n stands in an area; with compact, `bv` is XCOMP_BV. Also the area's size, for n = XC_COUNT. */
static unsigned comp_off(const struct cpu *c, unsigned n, bool compact, u64 bv)
{
	unsigned off = XSAVE_EXT;

	if (!compact) {
		if (n < XC_COUNT)
			return c->xs_off[n];
		for (unsigned k = 2; k < XC_COUNT; k++)
			if (bv & BIT(k))
				off = MAX(off, (unsigned)c->xs_off[k] + c->xs_size[k]);
		return off;
	}
	for (unsigned k = 2; k < XC_COUNT; k++) {
		if (!(bv & BIT(k)))
			continue;
		if (c->xs_align64 & 1u << k)
			off = ALIGN_UP(off, 64u);
		if (k == n)
			return off;
		off += c->xs_size[k];
	}
	return off;
}

static u64 in_use(struct cpu *c)
{
	u64 u = *xs_bv(c) & c->fpu_mask;
	return (c->pkru_soft ? u | BIT(XC_PKRU) : u) & c->xcr0;
}

static gva_t xs_operand(struct cpu *c, const struct insn *i, unsigned size, enum access acc)
{
	u64 ea = ea_of(c, i);

	if (seg_unchecked(c, i->seg, ea) & 63) /* #GP, not #SS, even if it is not canonical too */
		cpu_gp(c, 0);
	gva_t la = seg_linear(c, i->seg, ea, size, acc);
	if (acc == ACC_WRITE)
		lin_check_write(c, la, size, c->mmu_idx);
	return la;
}

static void save_comp(struct cpu *c, gva_t la, unsigned n, unsigned off)
{
	static const u8 zero[64];

	if (n == XC_PKRU) {
		u64 v = c->pkru_soft;
		lin_st_bytes(c, la + off, &v, c->xs_size[n], c->mmu_idx);
	} else if (*xs_bv(c) & BIT(n)) {
		lin_st_bytes(c, la + off, c->xsave + c->xs_off[n], comp_bytes(c, n), c->mmu_idx);
	} else {
		for (unsigned k = 0, len = comp_bytes(c, n); k < len; k += 64)
			lin_st_bytes(c, la + off + k, zero, MIN(64u, len - k), c->mmu_idx);
	}
}

enum { XS_SAVE, XS_OPT, XS_C, XS_S };

static void do_xsave(struct cpu *c, const struct insn *i, int kind)
{
	bool compact = kind >= XS_C;
	u64 rfbm, use, write, bv;
	u8 head[24];

	xs_check(c);
	if (kind == XS_S && c->cpl)
		cpu_gp(c, 0);
	rfbm = edx_eax(c) & (kind == XS_S ? c->xcr0 | c->msr.xss : c->xcr0);
	gva_t la = xs_operand(c, i, comp_off(c, XC_COUNT, compact, rfbm), ACC_WRITE);
	cpu_fpu_put(c);
	use = in_use(c);
	if (compact && *img32(c, 24) != 0x1f80)
		use |= 2 & c->xcr0;
	write = kind == XS_SAVE ? rfbm : rfbm & use;
	bv = compact ? write : (lin_ld(c, la + XSAVE_HDR, 8, c->mmu_idx) & ~rfbm) | (rfbm & use);
	if (write & 1) {
		x87_head(c, head, i->rexw);
		lin_st_bytes(c, la, head, 24, c->mmu_idx);
		lin_st_bytes(c, la + 32, c->xsave + 32, 128, c->mmu_idx);
	}
	if (write & 2)
		lin_st_bytes(c, la + 160, c->xsave + 160, xmm_bytes(c), c->mmu_idx);
	if (compact ? write & 2 : rfbm & 6) {
		u64 m = *img32(c, 24) | (u64)c->mxcsr_mask << 32;
		lin_st(c, la + 24, 8, m, c->mmu_idx);
	}
	for (unsigned n = 2; n < XC_COUNT; n++)
		if (write & BIT(n))
			save_comp(c, la, n, comp_off(c, n, compact, rfbm));
	lin_st(c, la + XSAVE_HDR, 8, bv, c->mmu_idx);
	if (compact)
		lin_st(c, la + XSAVE_HDR + 8, 8, rfbm | XCOMP_COMPACT, c->mmu_idx);
}

static void op_xsave(struct cpu *c, const struct insn *i)
{
	do_xsave(c, i, XS_SAVE);
}
static void op_xsaveopt(struct cpu *c, const struct insn *i)
{
	if (!cpu_has(c, CPUID_XSAVEOPT))
		cpu_ud(c);
	do_xsave(c, i, XS_OPT);
}
static void op_xsavec(struct cpu *c, const struct insn *i)
{
	if (!cpu_has(c, CPUID_XSAVEC))
		cpu_ud(c);
	do_xsave(c, i, XS_C);
}
static void op_xsaves(struct cpu *c, const struct insn *i)
{
	if (!cpu_has(c, CPUID_XSAVES))
		cpu_ud(c);
	do_xsave(c, i, XS_S);
}

static bool all_zero(const u8 *p, unsigned n)
{
	u8 v = 0;
	while (n--)
		v |= *p++;
	return !v;
}

/* Header rules, SDM 1, 13.8 and 13.12. */
static void check_header(struct cpu *c, const u8 *h, bool super)
{
	u64 bv = *(const u64 *)h, xcomp = *(const u64 *)(h + 8), valid = super ? c->xcr0 | c->msr.xss : c->xcr0;
	bool compact = xcomp & XCOMP_COMPACT;

	if (compact) {
		if (!cpu_has(c, CPUID_XSAVEC) || (xcomp & ~XCOMP_COMPACT & ~valid) || bv & ~xcomp || bv & XCOMP_COMPACT || !all_zero(h + 16, 48))
			cpu_gp(c, 0);
	} else if (super || bv & ~valid || !all_zero(h + 8, 16)) {
		cpu_gp(c, 0);
	}
}

static void load_comp(struct cpu *c, const u8 *src, unsigned n)
{
	if (n == XC_PKRU) {
		c->pkru_soft = src ? *(const u32 *)src : 0;
		cpu_tlb_flush(c);
	} else if (!src && comp_bytes(c, n) == c->xs_size[n]) {
		*xs_bv(c) &= ~BIT(n);
	} else {
		xs_materialise(c, n);
		if (src)
			memcpy(c->xsave + c->xs_off[n], src, comp_bytes(c, n));
		else
			memset(c->xsave + c->xs_off[n], 0, comp_bytes(c, n));
	}
}

static void do_xrstor(struct cpu *c, const struct insn *i, bool super)
{
	u8 area[CPU_XSAVE_SIZE] aligned(64);
	u64 rfbm, bv, xcomp;
	bool compact;
	u32 mxcsr;

	xs_check(c);
	if (super && c->cpl)
		cpu_gp(c, 0);
	rfbm = edx_eax(c) & (super ? c->xcr0 | c->msr.xss : c->xcr0);
	gva_t la = xs_operand(c, i, XSAVE_EXT, ACC_READ);
	lin_ld_bytes(c, la, area, XSAVE_EXT, c->mmu_idx);
	check_header(c, area + XSAVE_HDR, super);
	bv = *(u64 *)(area + XSAVE_HDR);
	xcomp = *(u64 *)(area + XSAVE_HDR + 8);
	compact = xcomp & XCOMP_COMPACT;
	for (unsigned n = 2; n < XC_COUNT; n++)
		if (rfbm & bv & BIT(n)) {
			unsigned off = comp_off(c, n, compact, xcomp);
			if (off + c->xs_size[n] > sizeof(area))
				cpu_gp(c, 0);
			ld_bytes(c, i->seg, ea_of(c, i) + off, area + off, c->xs_size[n]);
		}
	mxcsr = *(u32 *)(area + 24);
	bool want_mxcsr = compact ? rfbm & bv & 2 : rfbm & 6;
	if (want_mxcsr && mxcsr & ~c->mxcsr_mask)
		cpu_gp(c, 0);
	cpu_fpu_put(c);
	if (rfbm & 1) {
		if (bv & 1) {
			x87_load(c, area, i->rexw);
		} else {
			x87_init(c);
			*xs_bv(c) &= ~1ull;
		}
	}
	if (rfbm & 2) {
		xs_materialise(c, XC_SSE);
		if (bv & 2)
			memcpy(c->xsave + 160, area + 160, xmm_bytes(c));
		else
			memset(c->xsave + 160, 0, xmm_bytes(c));
		if (!(bv & 2) && cpu_is_64(c))
			*xs_bv(c) &= ~2ull;
	}
	if (want_mxcsr)
		*img32(c, 24) = mxcsr;
	else if (compact && rfbm & 2)
		*img32(c, 24) = 0x1f80;
	for (unsigned n = 2; n < XC_COUNT; n++)
		if (rfbm & BIT(n))
			load_comp(c, bv & BIT(n) ? area + comp_off(c, n, compact, xcomp) : NULL, n);
}

static void op_xrstor(struct cpu *c, const struct insn *i)
{
	do_xrstor(c, i, false);
	cpu_fpu_get(c);
	stub_done(c);
}
static void op_xrstors(struct cpu *c, const struct insn *i)
{
	if (!cpu_has(c, CPUID_XSAVES))
		cpu_ud(c);
	do_xrstor(c, i, true);
	cpu_fpu_get(c);
	stub_done(c);
}

/* ---- x87 environment ---- */

/* The full tag word of the image: TOP-relative registers, physical tags. */
static u16 full_tags(struct cpu *c)
{
	unsigned top = *img16(c, 2) >> 11 & 7;
	u16 tags = 0;

	for (unsigned p = 0; p < 8; p++) {
		const u8 *r = c->xsave + 32 + 16 * ((p - top) & 7);
		u64 m = *(const u64 *)r;
		unsigned e = *(const u16 *)(r + 8) & 0x7fff, t = 0;
		if (!(c->xsave[4] >> p & 1))
			t = 3;
		else if (!e && !m)
			t = 1;
		else if (!e || e == 0x7fff || !(m >> 63))
			t = 2;
		tags |= (u16)(t << 2 * p);
	}
	return tags;
}

static unsigned env_size(const struct insn *i)
{
	return i->osz == 2 ? 14 : 28;
}

static bool real_format(const struct cpu *c)
{
	return !(c->cr0 & CR0_PE) || c->rflags & X86_VM;
}

static void make_env(struct cpu *c, const struct insn *i, u8 *b)
{
	u64 ip = *img64(c, 8), dp = *img64(c, 16);
	u16 op = *img16(c, 6) & 0x7ff;

	memset(b, 0, 28);
	if (i->osz == 2) {
		u16 *w = (u16 *)b;
		w[0] = *img16(c, 0), w[1] = *img16(c, 2), w[2] = full_tags(c);
		w[3] = (u16)ip;
		w[5] = (u16)dp;
		if (real_format(c)) {
			w[4] = (u16)((ip >> 16 & 0xf) << 12 | op);
			w[6] = (u16)((dp >> 16 & 0xf) << 12);
		}
		return;
	}
	u32 *w = (u32 *)b;
	w[0] = 0xffff0000u | *img16(c, 0), w[1] = 0xffff0000u | *img16(c, 2), w[2] = 0xffff0000u | full_tags(c);
	if (real_format(c)) {
		w[3] = 0xffff0000u | (u16)ip;
		w[4] = (u32)(ip >> 16 & 0xffff) << 12 | op;
		w[5] = 0xffff0000u | (u16)dp;
		w[6] = (u32)(dp >> 16 & 0xffff) << 12;
	} else {
		w[3] = (u32)ip;
		w[4] = (u32)op << 16;
		w[5] = (u32)dp;
		w[6] = 0xffff0000u;
	}
}

/* Control words, tags, pointers; the registers keep their physical places. */
static void load_env(struct cpu *c, const struct insn *i, const u8 *b)
{
	u8 regs[128];
	u16 cw, sw, tags, op;
	u64 ip, dp;

	xs_materialise(c, XC_X87);
	if (i->osz == 2) {
		const u16 *w = (const u16 *)b;
		cw = w[0], sw = w[1], tags = w[2], op = real_format(c) ? w[4] & 0x7ff : 0;
		ip = w[3] | (real_format(c) ? (u64)(w[4] >> 12) << 16 : 0);
		dp = w[5] | (real_format(c) ? (u64)(w[6] >> 12) << 16 : 0);
	} else {
		const u32 *w = (const u32 *)b;
		cw = (u16)w[0], sw = (u16)w[1], tags = (u16)w[2];
		op = (real_format(c) ? w[4] : w[4] >> 16) & 0x7ff;
		ip = real_format(c) ? (w[3] & 0xffff) | (u64)(w[4] >> 12 & 0xffff) << 16 : w[3];
		dp = real_format(c) ? (w[5] & 0xffff) | (u64)(w[6] >> 12 & 0xffff) << 16 : w[5];
	}
	unsigned old = *img16(c, 2) >> 11 & 7, new = sw >> 11 & 7;
	memcpy(regs, c->xsave + 32, 128);
	for (unsigned n = 0; n < 8; n++)
		memcpy(c->xsave + 32 + 16 * n, regs + 16 * ((new + n - old) & 7), 16);
	sw &= (u16)~0x8080;
	if (sw & ~cw & 0x3f)
		sw |= 0x8080;
	*img16(c, 0) = (u16)((cw & 0x1f3f) | 0x40);
	*img16(c, 2) = sw;
	c->xsave[4] = 0;
	for (unsigned p = 0; p < 8; p++)
		if ((tags >> 2 * p & 3) != 3)
			c->xsave[4] |= (u8)(1u << p);
	*img16(c, 6) = op;
	*img64(c, 8) = ip;
	*img64(c, 16) = dp;
}

static void x87_check(struct cpu *c)
{
	if (!(c->fpu_ok & FPU_OK_X87))
		cpu_raise(c, EX_NM, false, 0);
}

static void op_fnstenv(struct cpu *c, const struct insn *i)
{
	u8 b[28];

	x87_check(c);
	cpu_fpu_put(c);
	make_env(c, i, b);
	seg_linear(c, i->seg, ea_of(c, i), i->osz, ACC_WRITE);
	st_bytes(c, i->seg, ea_of(c, i), b, env_size(i));
	xs_materialise(c, XC_X87);
	*img16(c, 0) |= 0x3f;
	*img16(c, 2) &= (u16)~0x8080;
}

static void do_fldenv(struct cpu *c, const struct insn *i)
{
	u8 b[28];

	x87_check(c);
	x87_pending(c, i);
	cpu_fpu_put(c);
	seg_linear(c, i->seg, ea_of(c, i), i->osz, ACC_READ);
	ld_bytes(c, i->seg, ea_of(c, i), b, env_size(i));
	load_env(c, i, b);
}

static void op_fnsave(struct cpu *c, const struct insn *i)
{
	unsigned n = env_size(i);
	u8 b[108];

	x87_check(c);
	cpu_fpu_put(c);
	make_env(c, i, b);
	for (unsigned k = 0; k < 8; k++)
		memcpy(b + n + 10 * k, c->xsave + 32 + 16 * k, 10);
	seg_linear(c, i->seg, ea_of(c, i), i->osz, ACC_WRITE);
	st_bytes(c, i->seg, ea_of(c, i), b, n + 80);
	cpu_fpu_get(c);
	__asm__ volatile("fninit"); /* leaves the registers' contents, and they move to their places for TOP = 0 */
	c->x87_fip = c->x87_fdp = 0;
	c->x87_fop = 0;
}

static void do_frstor(struct cpu *c, const struct insn *i)
{
	unsigned n = env_size(i);
	u8 b[108];

	x87_check(c);
	x87_pending(c, i);
	cpu_fpu_put(c);
	seg_linear(c, i->seg, ea_of(c, i), i->osz, ACC_READ); /* #AC looks at its words */
	ld_bytes(c, i->seg, ea_of(c, i), b, n + 80);
	load_env(c, i, b);
	for (unsigned k = 0; k < 8; k++)
		memcpy(c->xsave + 32 + 16 * k, b + n + 10 * k, 10);
}

/* Into the registers at once: the hardware sets what follows from the image (ES and B of the status word, fixed bits). */
#define LOADER(name)                                                                                                                       \
	static void op_##name(struct cpu *c, const struct insn *i)                                                                         \
	{                                                                                                                                  \
		do_##name(c, i);                                                                                                           \
		cpu_fpu_get(c);                                                                                                            \
		stub_done(c);                                                                                                              \
	}
LOADER(fxrstor)
LOADER(fldenv)
LOADER(frstor)

bool xsave_lower(const struct decoded *d, struct insn *i)
{
	op_fn op;

	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_FXSAVE: case ZYDIS_MNEMONIC_FXSAVE64: op = op_fxsave; break;
	case ZYDIS_MNEMONIC_FXRSTOR: case ZYDIS_MNEMONIC_FXRSTOR64: op = op_fxrstor; break;
	case ZYDIS_MNEMONIC_XSAVE: case ZYDIS_MNEMONIC_XSAVE64: op = op_xsave; break;
	case ZYDIS_MNEMONIC_XSAVEOPT: case ZYDIS_MNEMONIC_XSAVEOPT64: op = op_xsaveopt; break;
	case ZYDIS_MNEMONIC_XSAVEC: case ZYDIS_MNEMONIC_XSAVEC64: op = op_xsavec; break;
	case ZYDIS_MNEMONIC_XSAVES: case ZYDIS_MNEMONIC_XSAVES64: op = op_xsaves; break;
	case ZYDIS_MNEMONIC_XRSTOR: case ZYDIS_MNEMONIC_XRSTOR64: op = op_xrstor; break;
	case ZYDIS_MNEMONIC_XRSTORS: case ZYDIS_MNEMONIC_XRSTORS64: op = op_xrstors; break;
	case ZYDIS_MNEMONIC_FNSTENV: op = op_fnstenv; break;
	case ZYDIS_MNEMONIC_FLDENV: op = op_fldenv; break;
	case ZYDIS_MNEMONIC_FNSAVE: op = op_fnsave; break;
	case ZYDIS_MNEMONIC_FRSTOR: op = op_frstor; break;
	default: return false;
	}
	i->rexw = d->z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && d->z.attributes & ZYDIS_ATTRIB_HAS_REX && d->z.raw.rex.W;
	i->osz = d->z.operand_width == 16 ? 2 : 4;
	i->op = op;
	i->fn = h_op;
	return true;
}
