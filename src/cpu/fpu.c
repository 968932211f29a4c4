/* SPDX-License-Identifier: MIT */
/*
 * See fpu.h. Getting and putting are the only places where the guest's state meets the host's registers; the host's own state at both
 * is: x87 empty, vector registers dead (we are inside a C call), control words of the VMM's thread.
 */
#include "cpu/fpu.h"
#include "base/string.h"

#include <errno.h>

static void host_cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

static u16 *x16(struct cpu *c, unsigned off)
{
	return (u16 *)(c->xsave + off);
}
static u32 *x32(struct cpu *c, unsigned off)
{
	return (u32 *)(c->xsave + off);
}
static u64 *x64(struct cpu *c, unsigned off)
{
	return (u64 *)(c->xsave + off);
}

void cpu_fpu_init(struct cpu *c)
{
	u32 r[4], lo, hi;
	u8 fx[512] aligned(16);

	/* MXCSR_MASK: FXSAVE writes it; 0 means the default. */
	memset(fx, 0, sizeof(fx));
	__asm__ volatile("fxsave64 %0" : "+m"(fx));
	c->mxcsr_mask = *(u32 *)(fx + 28);
	if (!c->mxcsr_mask)
		c->mxcsr_mask = 0xffbf;
	host_cpuid(1, 0, r);
	c->fpu_mask = 3;
	c->host_xcr0 = 3;
	c->host_xsave = r[2] & (1u << 27); /* OSXSAVE */
	if (!c->host_xsave) {
		cpu_fpu_reset(c);
		return;
	}
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	c->host_xcr0 = (u64)hi << 32 | lo;
	c->xs_align64 = 0;
	for (unsigned n = 2; n < XC_COUNT; n++) {
		if (!(c->host_xcr0 & BIT(n)))
			continue;
		host_cpuid(0xd, n, r);
		if (r[1] + r[0] > CPU_XSAVE_SIZE) {
			c->host_xcr0 &= ~BIT(n); /* AMX tiles */
			continue;
		}
		c->xs_size[n] = (u16)r[0];
		c->xs_off[n] = (u16)r[1];
		if (r[2] & 2)
			c->xs_align64 |= 1u << n;
	}
	if (!(c->host_xcr0 & BIT(18)))
		c->host_xcr0 &= ~BIT(17);
	c->host_xcr0 &= BIT(XC_COUNT) - 1;
	c->fpu_mask = c->host_xcr0 & ~BIT(XC_PKRU);
	cpu_fpu_reset(c);
}

static void init_x87(struct cpu *c)
{
	memset(c->xsave, 0, 24);
	memset(c->xsave + 32, 0, 128);
	*x16(c, 0) = 0x37f;
}

void cpu_fpu_reset(struct cpu *c)
{
	c->fpu_live = false;
	c->fpu_missing = ~0u;
	memset(c->xsave, 0, sizeof(c->xsave));
	init_x87(c);
	*x32(c, 24) = 0x1f80;
	*x32(c, 28) = c->mxcsr_mask;
	c->x87_fip = c->x87_fdp = 0;
	c->x87_fop = 0;
}

void cpu_fpu_update(struct cpu *c)
{
	bool em = c->cr0 & CR0_EM, ts = c->cr0 & CR0_TS, vex = c->cr0 & CR0_PE && !(c->rflags & X86_VM);
	u32 ok = 0;

	if (!em && !ts)
		ok |= FPU_OK_X87 | FPU_OK_MMX | (c->cr4 & CR4_OSFXSR ? FPU_OK_SSE : 0);
	if (!(ts && c->cr0 & CR0_MP))
		ok |= FPU_OK_WAIT;
	if (vex)
		ok |= FPU_OK_VEX;
	if (vex && !ts && c->cr4 & CR4_OSXSAVE && (c->xcr0 & 6) == 6) {
		ok |= FPU_OK_AVX;
		if ((c->xcr0 & XFEATURES_AVX512) == XFEATURES_AVX512)
			ok |= FPU_OK_AVX512;
	}
	c->fpu_ok = ok;
	c->fpu_missing = c->fpu_live ? ~ok : ~0u;
}

/* ---- to and from the host's registers ---- */

void cpu_fpu_get_slow(struct cpu *c)
{
	u64 m = c->fpu_mask;

	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(c->host_mxcsr), "=m"(c->host_fcw));
	c->x87_fip = *x64(c, 8);
	c->x87_fdp = *x64(c, 16);
	c->x87_fop = *x16(c, 6);
	if (likely(c->host_xsave))
		__asm__ volatile("xrstor64 %0" ::"m"(c->xsave), "a"((u32)m), "d"((u32)(m >> 32)));
	else
		__asm__ volatile("fxrstor64 %0" ::"m"(c->xsave));
	c->fpu_live = true;
	c->fpu_missing = ~c->fpu_ok;
}

void cpu_fpu_put_slow(struct cpu *c)
{
	u64 m = c->fpu_mask;

	if (likely(c->host_xsave)) {
		__asm__ volatile("xsave64 %0" : "+m"(c->xsave) : "a"((u32)m), "d"((u32)(m >> 32)));
	} else {
		__asm__ volatile("fxsave64 %0" : "+m"(c->xsave));
		*xs_bv(c) = 3;
	}
	u64 bv = *xs_bv(c);
	/* Hardware may leave the bytes of an initial component as they were. */
	if (!(bv & 1))
		init_x87(c);
	if (!(bv & 2))
		memset(c->xsave + 160, 0, 256);
	*x64(c, 8) = c->x87_fip;
	*x64(c, 16) = c->x87_fdp;
	*x16(c, 6) = c->x87_fop;
	if (c->x87_fip | c->x87_fdp | c->x87_fop)
		*xs_bv(c) |= 1;
	__asm__ volatile("fninit; fldcw %1; ldmxcsr %0" ::"m"(c->host_mxcsr), "m"(c->host_fcw));
	if (m & 4)
		__asm__ volatile("vzeroupper");
	c->fpu_live = false;
	c->fpu_missing = ~0u;
}

/* ---- the spilled state ---- */

static bool in_use(struct cpu *c, unsigned comp)
{
	return *xs_bv(c) & BIT(comp);
}

void xs_materialise(struct cpu *c, unsigned comp)
{
	if (in_use(c, comp))
		return;
	if (comp == XC_X87)
		init_x87(c);
	else if (comp == XC_SSE)
		memset(c->xsave + 160, 0, 256);
	else
		memset(c->xsave + c->xs_off[comp], 0, c->xs_size[comp]);
	*xs_bv(c) |= BIT(comp);
}

/* The pieces of vector register n: component, place in it, bytes of the register it holds. */
struct vec_piece {
	u8 comp;
	u16 at, lo, hi;
};

static unsigned vec_pieces(struct cpu *c, unsigned n, struct vec_piece p[3])
{
	if (n >= 16) {
		p[0] = (struct vec_piece){ XC_HI16_ZMM, (u16)(c->xs_off[XC_HI16_ZMM] + 64 * (n - 16)), 0, 64 };
		return 1;
	}
	p[0] = (struct vec_piece){ XC_SSE, (u16)(160 + 16 * n), 0, 16 };
	p[1] = (struct vec_piece){ XC_AVX, (u16)(c->xs_off[XC_AVX] + 16 * n), 16, 32 };
	p[2] = (struct vec_piece){ XC_ZMM_HI, (u16)(c->xs_off[XC_ZMM_HI] + 32 * n), 32, 64 };
	return 3;
}

void xs_vec_read(struct cpu *c, unsigned n, void *buf, unsigned bytes)
{
	struct vec_piece p[3];
	unsigned np = vec_pieces(c, n, p);

	memset(buf, 0, bytes);
	for (unsigned k = 0; k < np; k++)
		if (bytes > p[k].lo && c->fpu_mask & BIT(p[k].comp) && in_use(c, p[k].comp))
			memcpy((u8 *)buf + p[k].lo, c->xsave + p[k].at, MIN(bytes, p[k].hi) - p[k].lo);
}

void xs_vec_write(struct cpu *c, unsigned n, const void *buf, unsigned bytes)
{
	struct vec_piece p[3];
	unsigned np = vec_pieces(c, n, p);

	for (unsigned k = 0; k < np; k++) {
		if (!(c->fpu_mask & BIT(p[k].comp)) || (bytes <= p[k].lo && !in_use(c, p[k].comp)))
			continue;
		xs_materialise(c, p[k].comp);
		memset(c->xsave + p[k].at, 0, p[k].hi - p[k].lo);
		if (bytes > p[k].lo)
			memcpy(c->xsave + p[k].at, (const u8 *)buf + p[k].lo, MIN(bytes, p[k].hi) - p[k].lo);
	}
}

u64 xs_kreg_read(struct cpu *c, unsigned n)
{
	if (!(c->fpu_mask & BIT(XC_OPMASK)) || !in_use(c, XC_OPMASK))
		return 0;
	return *x64(c, c->xs_off[XC_OPMASK] + 8 * n);
}

void xs_kreg_write(struct cpu *c, unsigned n, u64 v)
{
	if (!(c->fpu_mask & BIT(XC_OPMASK)))
		return;
	xs_materialise(c, XC_OPMASK);
	*x64(c, c->xs_off[XC_OPMASK] + 8 * n) = v;
}

/* ---- layouts for the VMM ---- */

void cpu_get_fpu(struct cpu *c, struct kvm_fpu *f)
{
	cpu_fpu_put(c);
	memset(f, 0, sizeof(*f));
	memcpy(f->fpr, c->xsave + 32, sizeof(f->fpr));
	f->fcw = *x16(c, 0);
	f->fsw = *x16(c, 2);
	f->ftwx = c->xsave[4];
	f->last_opcode = *x16(c, 6);
	f->last_ip = *x64(c, 8);
	f->last_dp = *x64(c, 16);
	memcpy(f->xmm, c->xsave + 160, sizeof(f->xmm));
	f->mxcsr = *x32(c, 24);
}

int cpu_set_fpu(struct cpu *c, const struct kvm_fpu *f)
{
	cpu_fpu_put(c);
	memcpy(c->xsave + 32, f->fpr, sizeof(f->fpr));
	*x16(c, 0) = f->fcw;
	*x16(c, 2) = f->fsw;
	c->xsave[4] = f->ftwx;
	c->xsave[5] = 0;
	*x16(c, 6) = f->last_opcode & 0x7ff;
	*x64(c, 8) = f->last_ip;
	*x64(c, 16) = f->last_dp;
	memcpy(c->xsave + 160, f->xmm, sizeof(f->xmm));
	*x32(c, 24) = f->mxcsr & c->mxcsr_mask; /* KVM takes any value; the reserved bits cannot be loaded */
	*xs_bv(c) |= 3;
	return 0;
}

void cpu_get_xsave(struct cpu *c, void *buf)
{
	u8 *b = buf;
	u64 bv;

	cpu_fpu_put(c);
	bv = *xs_bv(c);
	memset(b, 0, CPU_XSAVE_SIZE);
	memcpy(b, c->xsave, 416);
	*(u64 *)(b + XSAVE_HDR) = bv;
	for (unsigned n = 2; n < XC_COUNT; n++)
		if (bv & c->fpu_mask & BIT(n))
			memcpy(b + c->xs_off[n], c->xsave + c->xs_off[n], c->xs_size[n]);
	if (c->host_xcr0 & BIT(XC_PKRU)) {
		*(u32 *)(b + c->xs_off[XC_PKRU]) = c->pkru_soft;
		*(u64 *)(b + XSAVE_HDR) = (bv & ~BIT(XC_PKRU)) | (c->pkru_soft ? BIT(XC_PKRU) : 0);
	}
}

int cpu_set_xsave(struct cpu *c, const void *buf)
{
	const u8 *b = buf;
	u64 bv = *(const u64 *)(b + XSAVE_HDR), xcomp = *(const u64 *)(b + XSAVE_HDR + 8);
	u32 mxcsr = *(const u32 *)(b + 24);

	if (bv & ~c->host_xcr0)
		return -EINVAL;
	if (xcomp) /* the compacted format is not what KVM_GET_XSAVE gives */
		return -EINVAL;
	for (unsigned n = 16; n < 64; n++)
		if (b[XSAVE_HDR + n])
			return -EINVAL;
	if (bv & (BIT(XC_SSE) | BIT(XC_AVX)) && mxcsr & ~c->mxcsr_mask)
		return -EINVAL;
	cpu_fpu_put(c);
	memset(c->xsave, 0, sizeof(c->xsave));
	init_x87(c);
	*x32(c, 24) = bv & (BIT(XC_SSE) | BIT(XC_AVX)) ? mxcsr : 0x1f80;
	*x32(c, 28) = c->mxcsr_mask;
	if (bv & 1) {
		memcpy(c->xsave, b, 24);
		memcpy(c->xsave + 32, b + 32, 128);
	}
	if (bv & 2)
		memcpy(c->xsave + 160, b + 160, 256);
	for (unsigned n = 2; n < XC_COUNT; n++)
		if (bv & c->fpu_mask & BIT(n))
			memcpy(c->xsave + c->xs_off[n], b + c->xs_off[n], c->xs_size[n]);
	*xs_bv(c) = bv & c->fpu_mask;
	if (c->host_xcr0 & BIT(XC_PKRU))
		c->pkru_soft = bv & BIT(XC_PKRU) ? *(const u32 *)(b + c->xs_off[XC_PKRU]) : 0;
	return 0;
}
