/* SPDX-License-Identifier: MIT */
/*
 * Control registers: what may be written, and what a write entails (long mode activation, PDPTEs, TLB).
 *
 * PCIDs are checked and kept in CR3, but the TLB has no tags for them: every write of CR3 drops everything, also with bit 63. That is
 * allowed: a CPU may forget a translation at any time.
 */
#include "cpu/cr.h"
#include "cpu/tlb.h"

#include <errno.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"

#define EFER_AUTOIBRS BIT(21)

/* mmu/: the page walk's four PDPTEs. The one call upwards of this folder; a pointer in an ops table would always point there. */
int mmu_load_pdptrs(struct cpu *c, u64 cr3) hidden;

static bool pae_paging(const struct cpu *c)
{
	return c->cr0 & CR0_PG && c->cr4 & CR4_PAE && !(c->efer & EFER_LMA);
}

static bool cr3_valid(const struct cpu *c, u64 val)
{
	return !(val & ~(BIT(c->maxphyaddr) - 1));
}

int cpu_set_cr0(struct cpu *c, u64 val)
{
	u64 old = c->cr0, efer = c->efer;

	if (val >> 32)
		return -EINVAL;
	val &= CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
	val |= CR0_ET;
	if ((val & (CR0_NW | CR0_CD)) == CR0_NW)
		return -EINVAL;
	if ((val & (CR0_PG | CR0_PE)) == CR0_PG)
		return -EINVAL;
	if (val & ~old & CR0_PG) {
		if (efer & EFER_LME) {
			if (!(c->cr4 & CR4_PAE) || c->seg[S_CS].ar & AR_L)
				return -EINVAL;
			efer |= EFER_LMA;
		}
	}
	if (old & ~val & CR0_PG) {
		if (c->cr4 & CR4_PCIDE || cpu_is_64(c))
			return -EINVAL;
		efer &= ~EFER_LMA;
	}
	if (val & CR0_PG && c->cr4 & CR4_PAE && !(efer & EFER_LMA) && (old ^ val) & (CR0_PG | CR0_CD | CR0_NW)) {
		if (mmu_load_pdptrs(c, c->cr3))
			return -EINVAL;
	}
	c->cr0 = val;
	c->efer = efer;
	if ((old ^ val) & (CR0_PG | CR0_WP | CR0_PE))
		cpu_tlb_flush(c);
	cpu_update_mode(c);
	return 0;
}

int cpu_set_cr3(struct cpu *c, u64 val)
{
	bool keep = c->cr4 & CR4_PCIDE && val & BIT(63);

	if (c->cr4 & CR4_PCIDE)
		val &= ~BIT(63);
	if (c->efer & EFER_LMA) {
		if (!cr3_valid(c, val))
			return -EINVAL;
	} else {
		if (val >> 32)
			return -EINVAL;
		if (pae_paging(c) && mmu_load_pdptrs(c, val))
			return -EINVAL;
	}
	u64 old = c->cr3;
	c->cr3 = val;
	if (c->cr4 & CR4_PCIDE)
		cpu_tlb_switch(c, old & 0xfff, val & 0xfff, keep);
	else
		cpu_tlb_flush_local(c);
	return 0;
}

/* Before the VMM has said what CPU it is, it may set up whatever it could say. */
static bool may_have(const struct cpu *c, enum cpuid_feature f)
{
	return cpu_has(c, f) || (!c->cpuid_set && cpuid_shows(f));
}

u64 cpu_cr4_valid(const struct cpu *c)
{
	u64 v = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;

	if (may_have(c, CPUID_UMIP))
		v |= CR4_UMIP;
	if (may_have(c, CPUID_LA57))
		v |= CR4_LA57;
	if (may_have(c, CPUID_FSGSBASE))
		v |= CR4_FSGSBASE;
	if (may_have(c, CPUID_PCID))
		v |= CR4_PCIDE;
	if (may_have(c, CPUID_XSAVE))
		v |= CR4_OSXSAVE;
	if (may_have(c, CPUID_SMEP))
		v |= CR4_SMEP;
	if (may_have(c, CPUID_SMAP))
		v |= CR4_SMAP;
	return v;
}

int cpu_set_cr4(struct cpu *c, u64 val)
{
	u64 diff = c->cr4 ^ val;

	if (val & ~cpu_cr4_valid(c))
		return -EINVAL;
	if (c->efer & EFER_LMA) {
		if (!(val & CR4_PAE) || diff & CR4_LA57)
			return -EINVAL;
	}
	if (val & diff & CR4_PCIDE) {
		if (!(c->efer & EFER_LMA) || c->cr3 & 0xfff)
			return -EINVAL;
	}
	if (c->cr0 & CR0_PG && !(c->efer & EFER_LMA) && val & CR4_PAE && diff & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) {
		if (mmu_load_pdptrs(c, c->cr3))
			return -EINVAL;
	}
	c->cr4 = val;
	if (diff & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_LA57))
		cpu_tlb_flush(c);
	cpu_update_mode(c);
	return 0;
}

u64 cpu_efer_valid(const struct cpu *c)
{
	u64 v = EFER_SCE;

	if (cpu_has(c, CPUID_LM))
		v |= EFER_LME | EFER_LMA;
	if (cpu_has(c, CPUID_NX))
		v |= EFER_NXE;
	if (cpu_has(c, CPUID_FXSR_OPT))
		v |= EFER_FFXSR;
	if (cpu_has(c, CPUID_AUTO_IBRS))
		v |= EFER_AUTOIBRS;
	return v;
}

int cpu_set_efer(struct cpu *c, u64 val)
{
	u64 diff;

	if (val & ~cpu_efer_valid(c))
		return -EINVAL;
	val = (val & ~EFER_LMA) | (c->efer & EFER_LMA);
	diff = val ^ c->efer;
	if (diff & EFER_LME && c->cr0 & CR0_PG)
		return -EINVAL;
	c->efer = val;
	if (diff & EFER_NXE)
		cpu_tlb_flush(c);
	return 0;
}

u64 cpu_xcr0_supported(const struct cpu *c)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(c, 0xd, 0);

	return e ? (e->eax | (u64)e->edx << 32) & cpuid_xcr0_mask() : 0;
}

int cpu_set_xcr0(struct cpu *c, u64 val)
{
	if (!(val & 1) || (val & 6) == 4)
		return -EINVAL;
	if (val & 0xe0 && ((val & 0xe0) != 0xe0 || !(val & 4)))
		return -EINVAL;
	if (val & ~(cpu_xcr0_supported(c) | 1))
		return -EINVAL;
	c->xcr0 = val;
	cpu_fpu_update(c);
	return 0;
}

int cpu_check_sregs(const struct cpu *c, u64 cr0, u64 cr3, u64 cr4, u64 efer, bool cs_l, bool cs_db)
{
	if (efer & EFER_LME && cr0 & CR0_PG) {
		if (!(cr4 & CR4_PAE) || !(efer & EFER_LMA))
			return -EINVAL;
		if (!cr3_valid(c, cr4 & CR4_PCIDE ? cr3 & ~BIT(63) : cr3))
			return -EINVAL;
	} else if (efer & EFER_LMA || cs_l) {
		return -EINVAL;
	}
	if (cr4 & ~cpu_cr4_valid(c))
		return -EINVAL;
	if (cr0 >> 32 || (cr0 & (CR0_NW | CR0_CD)) == CR0_NW || (cr0 & (CR0_PG | CR0_PE)) == CR0_PG)
		return -EINVAL;
	return 0;
}
