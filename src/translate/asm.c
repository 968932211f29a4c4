/* SPDX-License-Identifier: MIT */
#include "translate/asm.h"

void asm_rm(struct asmb *a, bool w, unsigned opc, unsigned reg, struct xea m)
{
	unsigned x = m.index == REG_NONE ? 0 : m.index, b = m.base == REG_NONE ? 0 : m.base;
	unsigned rex = 0x40 | (unsigned)w << 3 | (reg >> 3) << 2 | (x >> 3) << 1 | b >> 3;
	bool sib = m.index != REG_NONE || m.base == REG_NONE || (m.base & 7) == 4;
	unsigned mod = m.base == REG_NONE ? 0 : m.disp == 0 && (m.base & 7) != 5 ? 0 : m.disp == (s8)m.disp ? 1 : 2;

	if (rex != 0x40)
		e8(a, rex);
	asm_opcode(a, opc);
	e8(a, mod << 6 | (reg & 7) << 3 | (sib ? 4 : b & 7));
	if (sib)
		e8(a, (unsigned)m.scale << 6 | (m.index == REG_NONE ? 4 : x & 7) << 3 | (m.base == REG_NONE ? 5 : b & 7));
	if (m.base == REG_NONE || mod == 2)
		e32(a, (u32)m.disp);
	else if (mod == 1)
		e8(a, (u8)m.disp);
}

void asm_imm(struct asmb *a, unsigned reg, u64 v)
{
	if (v == (u32)v) {
		if (reg >= 8)
			e8(a, 0x41);
		e8(a, 0xb8 | (reg & 7));
		e32(a, (u32)v);
	} else if (v == (u64)(s64)(s32)v) {
		e8(a, reg >= 8 ? 0x49 : 0x48);
		e8(a, 0xc7);
		e8(a, 0xc0 | (reg & 7));
		e32(a, (u32)v);
	} else {
		e8(a, reg >= 8 ? 0x49 : 0x48);
		e8(a, 0xb8 | (reg & 7));
		e64(a, v);
	}
}

void asm_ri(struct asmb *a, bool w, unsigned ext, unsigned rm, s32 imm)
{
	bool small = imm == (s8)imm;

	asm_rr(a, w, small ? 0x83 : 0x81, ext, rm);
	if (small)
		e8(a, (u8)imm);
	else
		e32(a, (u32)imm);
}

void asm_mi(struct asmb *a, bool w, unsigned ext, struct xea m, s32 imm)
{
	bool small = imm == (s8)imm;

	asm_rm(a, w, small ? 0x83 : 0x81, ext, m);
	if (small)
		e8(a, (u8)imm);
	else
		e32(a, (u32)imm);
}
