/* SPDX-License-Identifier: MIT */
/*
 * Delivery of exceptions and interrupts through the IDT (or the real-mode vector table), and what happens when delivery faults.
 *
 * Protocol with the engine's loop:
 *  - What is to be delivered stands in c->ev: exc_injected, nmi_injected or intr_injected. While guest instructions run none is set.
 *  - At its start, and after every catch, the loop does `if (event_injected(c)) event_run(c);`. event_run delivers the one event that
 *    goes first, sets c->rip, and clears it; nothing of it is left when it returns. It may raise like an instruction.
 *  - cpu_raise() calls event_raise(): first exception, or one that came up during a delivery (then the two are combined as SDM 3,
 *    table 6-5 says). False: triple fault; c->ev has nothing injected any more and the engine returns CPU_EXIT_SHUTDOWN. CR2 (#PF) and
 *    DR6 (#DB, see debug_raise) are set by who raises.
 *  - Interrupts and NMIs are set injected by the caller of the engine, when event_can_intr()/event_can_nmi() allow.
 *
 * While event_run works, c->cur is NULL: c->rip, the interrupted instruction's, stays where it is when a memory function raises. INT n,
 * INT3, INTO and INT1 do not pass through c->ev: their op functions call
 * event_deliver() directly, and a fault in it is an ordinary fault of that instruction.
 */
#ifndef USEKVM_INTERP_EVENT_H
#define USEKVM_INTERP_EVENT_H

#include "cpu/cpu.h"

enum event_type {
	EVENT_INTR,     /* external interrupt */
	EVENT_NMI,
	EVENT_EXC,      /* exception that the CPU found: error codes, RF, EXT */
	EVENT_SOFT_INT, /* INT n: DPL check, IOPL and VME rules in virtual-8086 mode */
	EVENT_SOFT_EXC, /* INT3, INTO: DPL check only */
	EVENT_ICEBP,    /* INT1: no DPL check */
};

static inline bool event_injected(const struct cpu *c)
{
	return c->ev.exc_injected | c->ev.nmi_injected | c->ev.intr_injected;
}
bool event_raise(struct cpu *c, unsigned vector, bool has_error, u32 error) hidden;
void event_run(struct cpu *c) hidden;

/*
 * Deliver one event that returns to ret_rip: everything is checked and pushed, then committed, with c->next_rip = the handler (c->rip
 * is left alone). Raises with nothing changed (a task gate's task switch excepted, as on hardware).
 */
void event_deliver(struct cpu *c, u8 vector, enum event_type type, bool has_error, u32 error, u64 ret_rip) hidden;

/* May an external interrupt / NMI be injected now? (IF, shadow, nothing else injected; NMI: not masked, no shadow.) */
static inline bool event_can_intr(const struct cpu *c)
{
	return (c->rflags & X86_IF) && !c->ev.shadow && !event_injected(c);
}
static inline bool event_can_nmi(const struct cpu *c)
{
	return !c->ev.nmi_masked && !c->ev.shadow && !event_injected(c);
}

/* For instructions that may have set IF: tells the outside if it waits for that. */
static inline void event_if_changed(struct cpu *c, u32 old_rflags)
{
	if ((c->rflags & ~old_rflags) & X86_IF && c->ev.want_irq_window)
		cpu_request(c, CPU_REQ_EVENT);
}

#endif
