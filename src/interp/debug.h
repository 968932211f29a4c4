/* SPDX-License-Identifier: MIT */
/*
 * Debug registers: which breakpoints match, and how a debug exception is reported. The loop and the memory functions ask only when
 * debug_active().
 */
#ifndef USEKVM_INTERP_DEBUG_H
#define USEKVM_INTERP_DEBUG_H

#include "cpu/cpu.h"

#define DR6_FIXED 0xffff0ff0ull /* bits that read as 1 (RTM and bus-lock traps are not there) */
#define DR6_BD (1u << 13)
#define DR6_BS (1u << 14)
#define DR6_BT (1u << 15)
#define DR7_FIXED 0x400ull
#define DR7_ENABLE 0xffull
#define DR7_GD (1u << 13)

enum debug_kind { DEBUG_READ = 1, DEBUG_WRITE = 2, DEBUG_IO = 4 };

/* DR7 in force: the VMM's breakpoints replace the guest's. */
static inline u64 debug_dr7(const struct cpu *c)
{
	return c->gdbg.flags & KVM_GUESTDBG_USE_HW_BP ? c->gdbg.dr7 : c->dr7;
}
static inline bool debug_active(const struct cpu *c)
{
	return debug_dr7(c) & DR7_ENABLE;
}

/* DR6 bits B0..B3 of the enabled breakpoints that match; 0: none. The caller checks RF for code. */
u32 debug_match_code(const struct cpu *c, gva_t linear) hidden;
u32 debug_match_data(const struct cpu *c, u64 addr, unsigned len, unsigned kind) hidden; /* enum debug_kind; IO: a port, CR4.DE */

/*
 * A debug exception with these DR6 bits (B0..3, BD, BS, BT): an exit to the VMM if it asked for that kind, otherwise DR6 and DR7.GD are
 * updated and #DB is raised. c->rip must already be where #DB points: on the instruction (code breakpoint, BD) or past it (traps).
 */
_Noreturn void debug_raise(struct cpu *c, u32 dr6_bits) hidden;
/* Leave with CPU_EXIT_DEBUG for `vector` (EX_BP: KVM_GUESTDBG_USE_SW_BP), c->rip on the instruction. */
_Noreturn void debug_exit(struct cpu *c, unsigned vector, u64 dr6) hidden;

#endif
