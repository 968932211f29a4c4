/* SPDX-License-Identifier: MIT */
/*
 * Breakpoint matching (SDM 3, 17.2.5) and debug exceptions, the guest's own and those that the VMM asked for.
 */
#include "interp/debug.h"

#include "interp/event.h"

static u64 debug_addr(const struct cpu *c, unsigned n)
{
	return c->gdbg.flags & KVM_GUESTDBG_USE_HW_BP ? c->gdbg.dr[n] : c->dr[n];
}

static u64 mask_addr(const struct cpu *c, u64 a)
{
	return cpu_is_long(c) ? a : (u32)a;
}

u32 debug_match_code(const struct cpu *c, gva_t linear)
{
	u64 dr7 = debug_dr7(c);
	u32 hit = 0;

	for (unsigned n = 0; n < 4; n++) {
		if ((dr7 >> (n * 2) & 3) && !(dr7 >> (16 + n * 4) & 3) && mask_addr(c, debug_addr(c, n)) == linear)
			hit |= 1u << n;
	}
	return hit;
}

u32 debug_match_data(const struct cpu *c, u64 addr, unsigned len, unsigned kind)
{
	static const u8 len_of[4] = { 1, 2, 8, 4 };
	u64 dr7 = debug_dr7(c);
	u32 hit = 0;

	for (unsigned n = 0; n < 4; n++) {
		unsigned rw = dr7 >> (16 + n * 4) & 3, size = len_of[dr7 >> (18 + n * 4) & 3];
		u64 a = mask_addr(c, debug_addr(c, n)) & ~(u64)(size - 1);
		bool wanted = (rw == 1 && kind & DEBUG_WRITE) || (rw == 3 && kind & (DEBUG_READ | DEBUG_WRITE)) ||
			      (rw == 2 && kind & DEBUG_IO && c->cr4 & CR4_DE);

		if ((dr7 >> (n * 2) & 3) && wanted && addr < a + size && a < addr + len)
			hit |= 1u << n;
	}
	return hit;
}

void debug_exit(struct cpu *c, unsigned vector, u64 dr6)
{
	c->dbg_exit.vector = vector;
	c->dbg_exit.pc = (cpu_is_64(c) ? 0 : c->seg[S_CS].base) + c->rip;
	c->dbg_exit.dr6 = dr6;
	c->dbg_exit.dr7 = debug_dr7(c);
	cpu_exit(c, CPU_EXIT_DEBUG);
}

void debug_raise(struct cpu *c, u32 bits)
{
	u32 vmm = 0;

	if (c->gdbg.flags & KVM_GUESTDBG_ENABLE) {
		if (c->gdbg.flags & KVM_GUESTDBG_USE_HW_BP)
			vmm |= 0xf | DR6_BD; /* the guest's own DR7 is out of force */
		if (c->gdbg.flags & KVM_GUESTDBG_SINGLESTEP)
			vmm |= DR6_BS;
	}
	if (bits & vmm)
		debug_exit(c, EX_DB, DR6_FIXED | bits);
	/* B0..B3 are cleared by a new debug exception, BD, BS and BT only by software. */
	c->dr6 = (c->dr6 & ~0xfull) | DR6_FIXED | bits;
	c->dr7 &= ~(u64)DR7_GD;
	cpu_raise(c, EX_DB, false, 0);
}
