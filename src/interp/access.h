/* SPDX-License-Identifier: MIT */
/*
 * Guest memory as instructions see it. Segment-relative accesses check the segment (limit, type, canonical) and raise #GP/#SS;
 * linear ones start after segmentation. All raise #PF (CR2 set) or #AC, go to MMIO where there is no RAM, and never change guest
 * memory when any byte of the operand faults: both pages of a crossing are checked first.
 *
 * `c->cur` must be set (h_op does it). In 64-bit mode ES/CS/SS/DS bases count as zero.
 */
#ifndef USEKVM_INTERP_ACCESS_H
#define USEKVM_INTERP_ACCESS_H

#include "interp/insn.h"

enum access { ACC_READ, ACC_WRITE, ACC_EXEC };

/* Effective address of i's memory operand (offset within i->seg, truncated to the address size). */
u64 ea_of(struct cpu *c, const struct insn *i) hidden;

/* Segment and linear address: checks for `size` bytes at seg:off, returns the linear address or raises. */
gva_t seg_linear(struct cpu *c, unsigned seg, u64 off, unsigned size, enum access acc) hidden;

/* The same for operands that #AC does not look at. */
gva_t seg_linear_noac(struct cpu *c, unsigned seg, u64 off, unsigned size, enum access acc) hidden;

/* Linear address with nothing checked: for what is #GP whatever the segment would raise. */
static always_inline gva_t seg_unchecked(const struct cpu *c, unsigned seg, u64 off)
{
	return off + (cpu_is_64(c) && seg < S_FS ? 0 : c->seg[seg].base);
}

/* size: 1, 2, 4, 8. Current privilege. */
u64 ld(struct cpu *c, unsigned seg, u64 off, unsigned size) hidden;
void st(struct cpu *c, unsigned seg, u64 off, unsigned size, u64 val) hidden;

/* Any length up to 4096 (FXSAVE, XSAVE, 16..64-byte operands, far pointers); all or nothing. */
void ld_bytes(struct cpu *c, unsigned seg, u64 off, void *buf, unsigned len) hidden;
void st_bytes(struct cpu *c, unsigned seg, u64 off, const void *buf, unsigned len) hidden;

/* Linear address, with the privilege of idx (enum cpu_mmu_idx): descriptor tables, TSS, stacks of another level: MMU_KERNEL... */
u64 lin_ld(struct cpu *c, gva_t la, unsigned size, unsigned idx) hidden;
void lin_st(struct cpu *c, gva_t la, unsigned size, u64 val, unsigned idx) hidden;
void lin_ld_bytes(struct cpu *c, gva_t la, void *buf, unsigned len, unsigned idx) hidden;
void lin_st_bytes(struct cpu *c, gva_t la, const void *buf, unsigned len, unsigned idx) hidden;
/* Raise what a write of len bytes would raise, without writing. */
void lin_check_write(struct cpu *c, gva_t la, unsigned len, unsigned idx) hidden;

/* Descriptor table accesses are supervisor accesses that SMAP does not forbid unless AC... : implicit supervisor access. */
#define MMU_IMPLICIT MMU_KERNEL

/*
 * Host pointer to `len` bytes at a linear address for reading (or reading and writing), or NULL when the operand crosses a page or is
 * MMIO: then use the byte functions. Raises faults. A write pointer has dirty logging and code tracking done. Valid until the
 * handler ends.
 */
void *lin_ptr(struct cpu *c, gva_t la, unsigned len, bool write, unsigned idx) hidden;

/*
 * Read-modify-write at seg:off, size 1..8 or 16, atomic on guest RAM (host LOCK prefix semantics) if inside one page: calls
 * compare-exchange in a loop for what is not RAM. `old` gets the former value; update computes the new one from it.
 */
u64 rmw(struct cpu *c, unsigned seg, u64 off, unsigned size, u64 (*update)(struct cpu *c, u64 old, u64 arg), u64 arg) hidden;

/* Stack, by SS and its size (64-bit mode: RSP). push moves rSP only after the store has succeeded. size 2, 4, 8. */
void push(struct cpu *c, unsigned size, u64 val) hidden;
u64 pop(struct cpu *c, unsigned size) hidden;
u64 stack_mask(const struct cpu *c) hidden; /* 0xffff, 0xffffffff, ~0 */
void set_sp(struct cpu *c, u64 sp) hidden;  /* writes SP, ESP or RSP by stack size */

#endif
