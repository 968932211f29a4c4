/* SPDX-License-Identifier: MIT */
/*
 * Vector, x87, and other user-mode instructions run as themselves: a stub is the guest's own instruction, with its memory operand
 * rewritten to a host pointer and its general registers loaded from and stored to struct cpu, executed on the guest's FPU state in
 * the host's registers. Stubs are shared by identical code.
 */
#ifndef USEKVM_INTERP_STUB_H
#define USEKVM_INTERP_STUB_H

#include <Zydis/Zydis.h>

#include "decode/decode.h"
#include "interp/insn.h"

int stub_init(struct cpu *c) hidden;
void stub_destroy(struct cpu *c) hidden;
/* All stubs are dropped (the code cache was recycled). */
void stub_reset(struct cpu *c) hidden;
/* There may not be room for the stubs of a whole block: drop all decoded code, then stub_reset(). */
bool stub_full(const struct cpu *c) hidden;

/*
 * Lower an instruction that the integer and op tables do not know. Fills i->fn and what it needs (osz, stub, ...; memory operand fields
 * are already set). True if done; false: not implemented.
 */
bool stub_lower(struct cpu *c, const struct decoded *d, struct insn *i) hidden;

/* i runs as a stub and does nothing beside: the instruction itself may run wherever its memory operand is a host pointer and the FPU is ready. */
bool stub_is(const struct insn *i) hidden;

/* Fault handler's question: does this host address lie in stub code? If so *cur is not needed: c->cur is the instruction. */
bool stub_owns(const struct cpu *c, u64 host_rip) hidden;

#endif
