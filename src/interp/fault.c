/* SPDX-License-Identifier: MIT */
/*
 * Faults of the host CPU while guest code is interpreted: memory behind a slot that is not there, and exceptions that a stub's
 * instruction raised on the guest's behalf.
 *
 * The handler runs in signal context on the vCPU's thread; it makes the thread resume in a landing function that unwinds to the loop.
 */
#include "base/process.h"
#include "cpu/cpuid.h"
#include "interp/fast.h"
#include "interp/stub.h"
#include "mem/mem.h"

static _Noreturn void land_fault(struct cpu *c)
{
	if (c->cur)
		c->rip = insn_rip(c, c->cur);
	cpu_exit(c, CPU_EXIT_FAULT);
}

static _Noreturn void land_exception(struct cpu *c, u64 vector)
{
	c->rip = insn_rip(c, c->cur);
	cpu_raise(c, (unsigned)vector, vector == EX_GP || vector == EX_AC, 0);
}

/* A unit's access to no canonical address, or misaligned: the interpreter knows which fault it is in the guest. */
static _Noreturn void land_alone(struct cpu *c)
{
	need_single(c);
	cpu_raise(c, EX_GP, true, 0); /* it was alone */
}

static void land(ucontext_t *uc, void (*fn)(void), struct cpu *c, u64 arg)
{
	greg_t *g = uc->uc_mcontext.gregs;

	g[REG_RIP] = (greg_t)fn;
	g[REG_RDI] = (greg_t)c;
	g[REG_RSI] = (greg_t)arg;
	/* As after a call: the stack is 8 off a multiple of 16; below the red zone of what was interrupted. */
	g[REG_RSP] = (greg_t)((((u64)g[REG_RSP] - 256) & ~15ull) - 8);
	g[REG_EFL] &= ~(greg_t)(X86_TF | X86_DF | X86_AC);
}

bool interp_fault(struct cpu *c, int sig, siginfo_t *info, ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	bool in_stub = stub_owns(c, (u64)g[REG_RIP]), in_unit = false;

	if (!c->in_engine)
		return false;
	if (c->interp->unit_fault && c->interp->unit_fault(c, uc))
		in_stub = in_unit = true;
	if (sig == SIGSEGV || sig == SIGBUS) {
		gpa_t gpa;
		/* A stub's misaligned or non-canonical operand arrives without an address. */
		if (in_stub && sig == SIGSEGV && info->si_code > 0x7f) {
			if (in_unit && process_engine != ENGINE_CHECK) /* which compares what comes of it */
				land(uc, (void (*)(void))land_alone, c, 0);
			else
				land(uc, (void (*)(void))land_exception, c, EX_GP);
			return true;
		}
		if (info->si_code > 0 && mem_owns_hva(c->mem, (u64)info->si_addr, &gpa)) {
			c->fault_gpa = gpa;
			land(uc, (void (*)(void))land_fault, c, 0);
			return true;
		}
		return false;
	}
	if (!in_stub)
		return false;
	u64 vector = sig == SIGILL ? EX_UD : (u64)g[REG_TRAPNO];
	if (vector == EX_XM && !(c->cr4 & CR4_OSXMMEXCPT))
		vector = EX_UD;
	land(uc, (void (*)(void))land_exception, c, vector);
	return true;
}
