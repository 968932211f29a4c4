/* SPDX-License-Identifier: MIT */
/*
 * Conditions, and going from block to block without the loop.
 */
#ifndef USEKVM_INTERP_BRANCH_H
#define USEKVM_INTERP_BRANCH_H

#include "interp/fast.h"

/* Condition codes as Jcc encodes them (SDM 1, appendix B), on cpu.af. */
static always_inline bool cond(u32 af, unsigned cc)
{
	bool r;
	switch (cc >> 1) {
	case 0: r = af & 1; break;
	case 1: r = af & 0x100; break;
	case 2: r = af & 0x4000; break;
	case 3: r = af & 0x4100; break;
	case 4: r = af & 0x8000; break;
	case 5: r = af & 0x400; break;
	case 6: r = ((af >> 15) ^ af) & 1; break;
	default: r = (af & 0x4000) || (((af >> 15) ^ af) & 1); break;
	}
	return r ^ (cc & 1);
}

/* The block has ended and c->rip is set: run the next one if it is at hand and nothing wants the loop. */
static always_inline const struct insn *chain(struct cpu *c)
{
	if (unlikely(load_relaxed((u64 *)&c->requests))) /* and c->stop */
		return NULL;
	struct interp *in = c->interp;
	struct jump *j = jump_slot(in, c->rip);
	if (unlikely(j->rip != c->rip || j->epoch_key != *(u64 *)&c->tlb_epoch))
		return NULL;
	if (unlikely((load_relaxed(j->version) ^ j->seen) | (j->gen ^ in->entry_gen)) && !block_recheck(c, j))
		return NULL;
	struct block *b = j->b;
	if (unlikely(!--b->heat))
		return NULL;
	in->current = b;
	c->gpr[SLOT_BLOCK_RIP] = c->rip;
	stat_add(&c->stat.insns, b->n);
	stat_add(&c->stat.blocks, 1);
#ifdef USEKVM_LOOP_DISPATCH
	return b->insn;
#else
	return b->insn[0].fn(c, b->insn);
#endif
}

#endif
