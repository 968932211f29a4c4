/* SPDX-License-Identifier: MIT */
/*
 * Changing control registers with every check the architecture makes. 0, or -EINVAL with nothing changed (an instruction raises #GP(0)).
 */
#ifndef USEKVM_CPU_CR_H
#define USEKVM_CPU_CR_H

#include "cpu/cpu.h"

int cpu_set_cr0(struct cpu *c, u64 val) hidden;
int cpu_set_cr3(struct cpu *c, u64 val) hidden; /* bit 63 (no flush) allowed with CR4.PCIDE */
int cpu_set_cr4(struct cpu *c, u64 val) hidden;
int cpu_set_efer(struct cpu *c, u64 val) hidden;   /* WRMSR's rules: LMA is kept, LME fixed while paging */
int cpu_set_xcr0(struct cpu *c, u64 val) hidden;   /* XSETBV(0) */
u64 cpu_xcr0_supported(const struct cpu *c) hidden; /* bits that CPUID leaf 0xd of this vCPU allows */
u64 cpu_cr4_valid(const struct cpu *c) hidden;      /* bits that may be 1 */
u64 cpu_efer_valid(const struct cpu *c) hidden;

/*
 * KVM_SET_SREGS: are these values possible together? 0 or -EINVAL. Storing them (and cpu_update_mode(), cpu_tlb_flush()) is the
 * caller's.
 */
int cpu_check_sregs(const struct cpu *c, u64 cr0, u64 cr3, u64 cr4, u64 efer, bool cs_l, bool cs_db) hidden;

static inline bool cpu_canonical(const struct cpu *c, u64 va)
{
	unsigned shift = c->cr4 & CR4_LA57 ? 7 : 16;

	return (u64)((s64)(va << shift) >> shift) == va;
}

#endif
