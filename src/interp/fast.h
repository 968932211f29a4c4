/* SPDX-License-Identifier: MIT */
/*
 * The fast path to guest memory for handlers: a TLB hit is a compare and an add; everything else is in access.c.
 */
#ifndef USEKVM_INTERP_FAST_H
#define USEKVM_INTERP_FAST_H

#include "interp/access.h"
#include "interp/interp.h"

/* One access to guest memory, which other vCPUs and the VMM write to as they like: x86 order, one instruction. */
#ifdef __SANITIZE_THREAD__
#define GUEST_LD(p) load_relaxed(p)
#define GUEST_ST(p, v) store_relaxed(p, v)
#else
#define GUEST_LD(p) (*(volatile __typeof__(*(p)) *)(p))
#define GUEST_ST(p, v) (*(volatile __typeof__(*(p)) *)(p) = (v))
#endif

/* Slow halves: fill the TLB, raise, or do the access piecewise (page crossing, MMIO). */
u64 slow_ld(struct cpu *c, gva_t la, unsigned size) hidden;
void slow_st(struct cpu *c, gva_t la, unsigned size, u64 val) hidden;
void *slow_wptr(struct cpu *c, gva_t la, unsigned size) hidden; /* NULL: crossing or MMIO */
void *slow_rptr(struct cpu *c, gva_t la, unsigned size) hidden;
gva_t lin_general(struct cpu *c, const struct insn *i, unsigned size, enum access acc) hidden;

static always_inline struct cpu_tlbe *tlbe(struct cpu *c, gva_t la)
{
	return &c->tlb[(la >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1)];
}

/* A crossing access compares the second page's tag with the first page's entry, which can never hold it. */
#define TLB_HIT(e, tag, la, size) likely((e)->tag == (((la) + (size)-1) & PAGE_MASK))

static always_inline gva_t fast_ea(struct cpu *c, const struct insn *i)
{
	return c->gpr[i->base] + (c->gpr[i->index] << i->scale) + (s64)i->disp;
}

static always_inline gva_t fast_la(struct cpu *c, const struct insn *i, unsigned size, enum access acc)
{
	c->cur = i;
	if (likely(i->flat))
		return fast_ea(c, i);
	return lin_general(c, i, size, acc);
}

#define DEFINE_LD(bits)                                                                                                                    \
	static always_inline u##bits lin_ld##bits(struct cpu *c, gva_t la)                                                                 \
	{                                                                                                                                  \
		struct cpu_tlbe *e = tlbe(c, la);                                                                                          \
		if (TLB_HIT(e, rtag, la, bits / 8))                                                                                        \
			return GUEST_LD((u##bits *)cpu_tlbe_ptr(e, la));                                                                         \
		return (u##bits)slow_ld(c, la, bits / 8);                                                                                  \
	}                                                                                                                                  \
	static always_inline void lin_st##bits(struct cpu *c, gva_t la, u##bits v)                                                         \
	{                                                                                                                                  \
		struct cpu_tlbe *e = tlbe(c, la);                                                                                          \
		if (TLB_HIT(e, wtag, la, bits / 8))                                                                                        \
			GUEST_ST((u##bits *)cpu_tlbe_ptr(e, la), v);                                                                             \
		else                                                                                                                       \
			slow_st(c, la, bits / 8, v);                                                                                       \
	}                                                                                                                                  \
	static always_inline u##bits mem_ld##bits(struct cpu *c, const struct insn *i)                                                     \
	{                                                                                                                                  \
		return lin_ld##bits(c, fast_la(c, i, bits / 8, ACC_READ));                                                                 \
	}                                                                                                                                  \
	static always_inline void mem_st##bits(struct cpu *c, const struct insn *i, u##bits v)                                             \
	{                                                                                                                                  \
		lin_st##bits(c, fast_la(c, i, bits / 8, ACC_WRITE), v);                                                                    \
	}
DEFINE_LD(8)
DEFINE_LD(16)
DEFINE_LD(32)
DEFINE_LD(64)

/* Stack references of 64-bit mode: a bad address is #SS. */
u64 slow_stack_ld(struct cpu *c, gva_t la) hidden;
void slow_stack_st(struct cpu *c, gva_t la, u64 val) hidden;
void stack_check_write(struct cpu *c, gva_t la) hidden;
static always_inline u64 stack_ld64(struct cpu *c, gva_t la)
{
	struct cpu_tlbe *e = tlbe(c, la);
	if (TLB_HIT(e, rtag, la, 8))
		return GUEST_LD((u64 *)cpu_tlbe_ptr(e, la));
	return slow_stack_ld(c, la);
}
static always_inline void stack_st64(struct cpu *c, gva_t la, u64 v)
{
	struct cpu_tlbe *e = tlbe(c, la);
	if (TLB_HIT(e, wtag, la, 8))
		GUEST_ST((u64 *)cpu_tlbe_ptr(e, la), v);
	else
		slow_stack_st(c, la, v);
}

static always_inline void *lin_wptr(struct cpu *c, gva_t la, unsigned size)
{
	struct cpu_tlbe *e = tlbe(c, la);
	if (TLB_HIT(e, wtag, la, size))
		return cpu_tlbe_ptr(e, la);
	return slow_wptr(c, la, size);
}

static always_inline u64 rip_mask(const struct cpu *c)
{
	return c->code_size == 8 ? ~0ull : c->code_size == 4 ? 0xffffffffull : 0xffffull;
}

static always_inline u64 insn_rip(const struct cpu *c, const struct insn *i)
{
	return (c->gpr[SLOT_BLOCK_RIP] + i->off) & rip_mask(c);
}

/* #GP if t is not canonical under the paging mode (57 bits with LA57). */
void branch_check(struct cpu *c, const struct insn *i, u64 t) hidden;
/* One instruction must run alone: go back and do that (MMIO, a write to a page of code). Does not return in a normal block. */
void need_single(struct cpu *c) hidden;

#endif
