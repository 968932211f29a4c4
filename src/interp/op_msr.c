/* SPDX-License-Identifier: MIT */
/*
 * CPUID, model-specific and extended control registers, the time stamp counter.
 */
#include <errno.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/msr.h"
#include "interp/access.h"
#include "interp/ops.h"

static void put64(struct cpu *c, u64 v)
{
	c->gpr[R_AX] = (u32)v;
	c->gpr[R_DX] = v >> 32;
}

static u64 get64(const struct cpu *c)
{
	return (u32)c->gpr[R_AX] | c->gpr[R_DX] << 32;
}

void op_cpuid(struct cpu *c, const struct insn *i)
{
	u32 r[4];

	/* CPUID faulting, which MSR_PLATFORM_INFO offers. */
	if (c->msr.misc_features_enables & 1 && c->cpl)
		cpu_gp(c, 0);
	cpuid_query(c, (u32)c->gpr[R_AX], (u32)c->gpr[R_CX], r);
	c->gpr[R_AX] = r[0];
	c->gpr[R_BX] = r[1];
	c->gpr[R_CX] = r[2];
	c->gpr[R_DX] = r[3];
}

static bool allowed(struct cpu *c, u32 index, bool write)
{
	return !c->ops->msr_allowed || c->ops->msr_allowed(c, index, write);
}

static int failed(struct cpu *c, const struct insn *i, bool write, u64 value, int error)
{
	cpu_fpu_put(c);
	c->insn_len = i->len;
	return c->ops->msr_failed ? c->ops->msr_failed(c, (u32)c->gpr[R_CX], write, value, error) : error;
}

/* An ops call that leaves (1) finds rip on the instruction and its length in insn_len: the VMM's answer completes or faults it. */
void op_rdmsr(struct cpu *c, const struct insn *i)
{
	u64 v = 0;
	int r;

	if (c->cpl)
		cpu_gp(c, 0);
	r = allowed(c, (u32)c->gpr[R_CX], false) ? cpu_msr_get(c, (u32)c->gpr[R_CX], &v, false) : -EPERM;
	if (r == -ENOENT) {
		cpu_fpu_put(c);
		c->insn_len = i->len;
		r = c->ops->rdmsr(c, (u32)c->gpr[R_CX], &v);
	}
	if (unlikely(r < 0))
		r = failed(c, i, false, 0, r);
	if (r > 0)
		cpu_exit(c, CPU_EXIT_USER);
	if (r)
		cpu_gp(c, 0);
	put64(c, v);
}

void op_wrmsr(struct cpu *c, const struct insn *i)
{
	u32 index = (u32)c->gpr[R_CX];
	int r;

	if (c->cpl)
		cpu_gp(c, 0);
	r = allowed(c, index, true) ? cpu_msr_set(c, index, get64(c), false) : -EPERM;
	if (r == -ENOENT) {
		cpu_fpu_put(c);
		c->insn_len = i->len;
		r = c->ops->wrmsr(c, index, get64(c));
	}
	if (unlikely(r < 0))
		r = failed(c, i, true, get64(c), r);
	if (r > 0)
		cpu_exit(c, CPU_EXIT_USER);
	if (r)
		cpu_gp(c, 0);
	if (index == MSR_EFER && c->ops->mode_changed) {
		cpu_fpu_put(c);
		c->ops->mode_changed(c);
	}
}

static void need_tsc(struct cpu *c)
{
	if (c->cr4 & CR4_TSD && c->cpl)
		cpu_gp(c, 0);
}

void op_rdtsc(struct cpu *c, const struct insn *i)
{
	need_tsc(c);
	put64(c, cpu_guest_tsc(c));
}

void op_rdtscp(struct cpu *c, const struct insn *i)
{
	if (!cpu_has(c, CPUID_RDTSCP))
		cpu_ud(c);
	need_tsc(c);
	put64(c, cpu_guest_tsc(c));
	c->gpr[R_CX] = (u32)c->msr.tsc_aux;
}

/* No performance counters: every index is invalid. */
void op_rdpmc(struct cpu *c, const struct insn *i)
{
	cpu_gp(c, 0);
}

void op_rdpid(struct cpu *c, const struct insn *i)
{
	if (!cpu_has(c, CPUID_RDPID))
		cpu_ud(c);
	gpr_write(c, i->rm, cpu_is_64(c) ? 8 : 4, c->msr.tsc_aux);
}

/* XCR1 reads as XINUSE: the components of XCR0 that are not in their initial state. The put state's XSTATE_BV says so. */
static u64 xinuse(struct cpu *c)
{
	u64 bv = 0;

	cpu_fpu_put(c);
	for (unsigned n = 0; n < 8; n++)
		bv |= (u64)c->xsave[512 + n] << (8 * n);
	return bv & c->xcr0;
}

void op_xgetbv(struct cpu *c, const struct insn *i)
{
	u32 index = (u32)c->gpr[R_CX];

	if (!(c->cr4 & CR4_OSXSAVE))
		cpu_ud(c);
	if (index == 0)
		put64(c, c->xcr0);
	else if (index == 1 && cpu_has(c, CPUID_XGETBV1))
		put64(c, xinuse(c));
	else
		cpu_gp(c, 0);
}

void op_xsetbv(struct cpu *c, const struct insn *i)
{
	if (!(c->cr4 & CR4_OSXSAVE))
		cpu_ud(c);
	if (c->cpl || (u32)c->gpr[R_CX] || cpu_set_xcr0(c, get64(c)))
		cpu_gp(c, 0);
}
