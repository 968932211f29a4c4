/* SPDX-License-Identifier: MIT */
/*
 * Dropping translations from the engines' TLB (struct cpu.tlbs). Every function also makes stale what was derived from them (tlb_epoch,
 * xid). The vCPU's own thread only.
 */
#ifndef USEKVM_CPU_TLB_H
#define USEKVM_CPU_TLB_H

#include "cpu/cpu.h"

/* Once, on zeroed memory: all entries empty, and the table that always is. */
void cpu_tlb_reset(struct cpu *c) hidden;
/* All but global pages, of the present context; of every context. */
void cpu_tlb_flush_local(struct cpu *c) hidden;
void cpu_tlb_flush_locals(struct cpu *c) hidden;
/* Of a context that is not the present one. */
void cpu_tlb_flush_pcid(struct cpu *c, u16 pcid) hidden;
/* MOV to CR3 with CR4.PCIDE. keep: what is known of `to` is still good. */
void cpu_tlb_switch(struct cpu *c, u16 from, u16 to, bool keep) hidden;
/* Every write translation to this host page: it has become a page of code. */
void cpu_tlb_protect(struct cpu *c, u64 host_page) hidden;
/* For cpu_tlb_may_write() below: two other entries are known already. */
void cpu_tlb_third_writer(struct cpu *c, u64 host_page, u16 me) hidden;
/* Entry n of table t was filled. */
static always_inline void cpu_tlb_filled(struct cpu *c, unsigned t, unsigned n, bool global)
{
	u64 bit = BIT(n % 64);

	c->tlb_used[t][n / 64] |= bit;
	if (global)
		c->tlb_global[t][n / 64] |= bit;
	else
		c->tlb_global[t][n / 64] &= ~bit;
}
/* Which bit of tlb_large stands for va's gigabyte. */
static always_inline unsigned cpu_tlb_large_bit(gva_t va)
{
	u64 g = va >> 30;

	return (g ^ g >> 8) & (CPU_TLB_LARGE - 1);
}
/* What is filled at va is part of a page of 1 << shift bytes. */
static always_inline void cpu_tlb_filled_from(struct cpu *c, unsigned t, gva_t va, unsigned shift)
{
	if (shift > c->tlb_shift[t])
		c->tlb_shift[t] = (u8)shift;
	if (shift > PAGE_SHIFT)
		c->tlb_large[t][cpu_tlb_large_bit(va) / 64] |= BIT(cpu_tlb_large_bit(va) % 64);
}
/* It got a write tag. */
#define CPU_TLB_WRITER_MANY 0xffffu
static always_inline u16 *cpu_tlb_writers(struct cpu *c, u64 host_page)
{
	return c->tlb_writer[(host_page >> PAGE_SHIFT ^ host_page >> (PAGE_SHIFT + 12)) & (CPU_TLB_WRITERS - 1)];
}
static always_inline void cpu_tlb_may_write(struct cpu *c, unsigned t, unsigned n, u64 host_page)
{
	u16 *w = cpu_tlb_writers(c, host_page), me = (u16)(t * CPU_TLB_SIZE + n + 1);

	if (w[0] == me || w[1] == me)
		return;
	if (!w[0])
		w[0] = me;
	else if (!w[1])
		w[1] = me;
	else
		cpu_tlb_third_writer(c, host_page, me);
}
/* The code that stands at this page is the translator's number id. Only right after the page was looked up for fetching. */
void cpu_xid_set(struct cpu *c, gva_t page, unsigned space, u32 id) hidden;

#endif
