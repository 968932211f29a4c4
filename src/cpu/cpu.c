/* SPDX-License-Identifier: MIT */
/*
 * The vCPU's birth, reset and end; what follows from its mode; the TLB.
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

void cpu_xid_flush(struct cpu *c)
{
	u32 *x = c->xid[0];

	for (u32 n = 0; n < c->nxid; n++)
		x[c->xid_used[n]] = 0;
	c->nxid = 0;
}

void cpu_tlb_flush(struct cpu *c)
{
	struct cpu_tlbe *e = &c->tlbs[0][0];

	for (unsigned n = 0; n < MMU_COUNT * CPU_TLB_SIZE; n++)
		e[n].rtag = e[n].wtag = e[n].xtag = cpu_tlb_none(n);
	for (unsigned n = 0; n < MMU_COUNT; n++)
		c->tlb_shift[n] = 0;
	cpu_xid_flush(c);
	c->tlb_epoch++;
}

/* A large page stands in the TLB as many small ones, and INVLPG of any address in it drops them all (SDM 3, 4.10.4.1). */
void cpu_tlb_flush_page(struct cpu *c, gva_t va)
{
	for (unsigned t = 0; t < MMU_COUNT; t++) {
		unsigned shift = c->tlb_shift[t] ? c->tlb_shift[t] : 30;
		struct cpu_tlbe *e = c->tlbs[t];
		u64 tag = va >> shift;

		if (shift == PAGE_SHIFT) {
			u64 none = cpu_tlb_none(tag);
			e += tag & (CPU_TLB_SIZE - 1);
			e->rtag = e->rtag >> shift == tag ? none : e->rtag;
			e->wtag = e->wtag >> shift == tag ? none : e->wtag;
			e->xtag = e->xtag >> shift == tag ? none : e->xtag;
			continue;
		}
		for (unsigned n = 0; n < CPU_TLB_SIZE; n++) {
			if (e[n].rtag >> shift == tag)
				e[n].rtag = cpu_tlb_none(n);
			if (e[n].wtag >> shift == tag)
				e[n].wtag = cpu_tlb_none(n);
			if (e[n].xtag >> shift == tag)
				e[n].xtag = cpu_tlb_none(n);
		}
		cpu_xid_flush(c);
	}
	c->xid[0][(va >> PAGE_SHIFT) & (CPU_XID_SLOTS - 1)] = c->xid[1][(va >> PAGE_SHIFT) & (CPU_XID_SLOTS - 1)] = 0;
	c->tlb_epoch++;
}

void cpu_tlb_flush_write(struct cpu *c)
{
	struct cpu_tlbe *e = &c->tlbs[0][0];

	for (unsigned n = 0; n < MMU_COUNT * CPU_TLB_SIZE; n++)
		e[n].wtag = cpu_tlb_none(n);
	c->tlb_epoch++;
}

void cpu_tlb_flush_exec(struct cpu *c)
{
	struct cpu_tlbe *e = &c->tlbs[0][0];

	for (unsigned n = 0; n < MMU_COUNT * CPU_TLB_SIZE; n++)
		e[n].xtag = cpu_tlb_none(n);
	cpu_xid_flush(c);
	c->tlb_epoch++;
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
	for (unsigned n = 0; n < CPU_TLB_SIZE; n++)
		c->tlbs[MMU_COUNT][n] = (struct cpu_tlbe){ cpu_tlb_none(n), cpu_tlb_none(n), cpu_tlb_none(n), 0 };
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
