/* SPDX-License-Identifier: MIT */
/*
 * The vCPU's birth, reset and end; what follows from its mode.
 *
 * Invariants: after every change of CS, SS, CR0.PE, EFER.LMA, RFLAGS.VM or RFLAGS.AC cpu_update_mode() has run, so that cpl, code_size,
 * mmu_idx and tlb agree with them. TLB tags hold permissions, so everything a permission depends on (CR0.WP, CR4.SMEP, ...) flushes.
 */
#include "cpu/cpu.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/msr.h"
#include "cpu/tlb.h"

void cpu_update_mode(struct cpu *c)
{
	u8 cpl, code_size, idx;

	if (!(c->cr0 & CR0_PE)) {
		cpl = 0;
		code_size = c->seg[S_CS].ar & AR_DB ? 4 : 2;
	} else if (c->rflags & X86_VM) {
		cpl = 3;
		code_size = 2;
	} else {
		cpl = (c->seg[S_SS].ar & AR_DPL) >> AR_DPL_SHIFT;
		if (c->efer & EFER_LMA && c->seg[S_CS].ar & AR_L)
			code_size = 8;
		else
			code_size = c->seg[S_CS].ar & AR_DB ? 4 : 2;
	}
	idx = cpl == 3 ? MMU_USER : c->rflags & X86_AC ? MMU_KERNEL_AC : MMU_KERNEL;
	/* Outside 64-bit mode the same rip means another linear address when CS.base has changed, which is not remembered here. */
	if (code_size != c->code_size || code_size != 8)
		c->tlb_epoch++;
	c->cpl = cpl;
	c->code_size = code_size;
	c->mmu_idx = idx;
	bool align = cpl == 3 && c->rflags & X86_AC && c->cr0 & CR0_AM;
	c->tlb = c->tlbs[align || c->look_all ? MMU_COUNT : idx];
	cpu_fpu_update(c);
}

void cpu_set_rflags(struct cpu *c, u64 rflags)
{
	u32 old = c->rflags;

	c->af = cpu_flags_to_af((u32)rflags);
	c->rflags = ((u32)rflags & ~X86_ARITH) | 2;
	if ((old ^ c->rflags) & (X86_AC | X86_VM))
		cpu_update_mode(c);
}

static void reset_segs(struct cpu *c)
{
	for (unsigned n = 0; n < S_COUNT; n++)
		c->seg[n] = (struct cpu_seg){ .limit = 0xffff, .ar = AR_P | AR_S | AR_RW | AR_ACCESSED };
	c->seg[S_CS].sel = 0xf000;
	c->seg[S_CS].base = 0xffff0000;
	c->seg[S_CS].ar |= AR_CODE;
	c->seg[S_LDTR] = (struct cpu_seg){ .limit = 0xffff, .ar = AR_P | 2 };
	c->seg[S_TR] = (struct cpu_seg){ .limit = 0xffff, .ar = AR_P | 11 };
	c->gdtr = c->idtr = (struct cpu_dtable){ .limit = 0xffff };
}

void cpu_reset(struct cpu *c, bool init)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(c, 1, 0);
	bool want_irq = c->ev.want_irq_window, want_nmi = c->ev.want_nmi_window;

	for (unsigned n = 0; n < CPU_GPR_SLOTS; n++)
		c->gpr[n] = 0;
	c->gpr[R_DX] = e ? e->eax : 0x600;
	c->rip = c->next_rip = 0xfff0;
	reset_segs(c);
	c->cr0 = CR0_ET | (init ? c->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW);
	c->cr2 = c->cr3 = c->cr4 = c->efer = 0;
	for (unsigned n = 0; n < 4; n++)
		c->dr[n] = c->pdptr[n] = 0;
	c->dr6 = 0xffff0ff0;
	c->dr7 = 0x400;
	c->ev = (struct cpu_events){ .want_irq_window = want_irq, .want_nmi_window = want_nmi };
	c->io.state = IO_NONE;
	c->mmio.n = c->mmio.replay = 0;
	c->single = false;
	if (!init) {
		c->xcr0 = 1;
		c->pkru_soft = 0;
		cpu_msr_reset(c);
		cpu_fpu_reset(c);
	}
	c->rflags = ~0u; /* so that cpu_set_rflags sees AC and VM change */
	cpu_set_rflags(c, 2);
	cpu_update_mode(c);
	cpu_tlb_flush(c);
}

int cpu_init(struct cpu *c, const struct cpu_ops *ops, struct guest_mem *mem)
{
	c->ops = ops;
	c->mem = mem;
	c->maxphyaddr = 36;
	c->rsvd_pa = (BIT(52) - 1) & ~(BIT(36) - 1);
	c->tsc_offset = 0 - host_rdtsc();
	cpu_tlb_reset(c);
	cpu_fpu_init(c);
	cpu_reset(c, false);
	return 0;
}

void cpu_destroy(struct cpu *c)
{
	free(c->cpuid);
	c->cpuid = NULL;
	c->ncpuid = 0;
}
