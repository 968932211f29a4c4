/* SPDX-License-Identifier: MIT */
/*
 * Host code for one guest instruction: void stub(struct cpu *c, void *mem).
 *
 * The instruction keeps its own register numbers. The memory operand becomes [M] for a host register M below 8 that it does not use,
 * so no prefix bit has to be set; RSP as an operand is replaced by another register T. C holds the struct cpu pointer. Before a stub
 * is used the emitted instruction is decoded again and compared with what was meant: the bytes come from the guest.
 */
#include "interp/stub_int.h"
#include "base/string.h"

struct emit {
	u8 *p;
	const struct decoded *d;
	const ZydisDecodedOperand *mem; /* explicit memory operand, or NULL */
	u32 used, written;              /* general registers of the guest, without those of the address */
	bool flags_in, flags_out;
	unsigned creg, mreg, treg;      /* host registers */
};

#define REG_NONE 16u
#define CALLEE_SAVED (1u << R_BX | 1u << R_BP | 0xfu << R_12)

int stub_gpr(ZydisRegister r)
{
	ZydisRegisterClass k = ZydisRegisterGetClass(r);

	if (k != ZYDIS_REGCLASS_GPR8 && k != ZYDIS_REGCLASS_GPR16 && k != ZYDIS_REGCLASS_GPR32 && k != ZYDIS_REGCLASS_GPR64)
		return -1;
	ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r);
	return full ? ZydisRegisterGetId(full) : -1;
}

static void put(struct emit *e, u8 b)
{
	*e->p++ = b;
}

static void put32(struct emit *e, u32 v)
{
	memcpy(e->p, &v, 4);
	e->p += 4;
}

/* mov between a 64-bit register and [C + off] */
static void mov_cpu(struct emit *e, unsigned reg, unsigned off, bool store)
{
	put(e, (u8)(0x48 | (reg >= 8 ? 4 : 0) | (e->creg >= 8 ? 1 : 0)));
	put(e, store ? 0x89 : 0x8b);
	put(e, (u8)(0x80 | (reg & 7) << 3 | (e->creg & 7)));
	put32(e, off);
}

static void mov_reg(struct emit *e, unsigned dst, unsigned src)
{
	if (dst == src)
		return;
	put(e, (u8)(0x48 | (src >= 8 ? 4 : 0) | (dst >= 8 ? 1 : 0)));
	put(e, 0x89);
	put(e, (u8)(0xc0 | (src & 7) << 3 | (dst & 7)));
}

static void pushpop(struct emit *e, unsigned reg, bool push)
{
	if (reg >= 8)
		put(e, 0x41);
	put(e, (u8)((push ? 0x50 : 0x58) + (reg & 7)));
}

/* c->af into the flags, through eax: OF by 0x7f + 1, the rest by SAHF. */
static void load_flags(struct emit *e)
{
	if (e->creg >= 8)
		put(e, 0x41);
	put(e, 0x8b); /* mov eax, [C + af] */
	put(e, (u8)(0x80 | (e->creg & 7)));
	put32(e, offsetof(struct cpu, af));
	put(e, 0x04); /* add al, 0x7f */
	put(e, 0x7f);
	put(e, 0x9e);
}

static void store_flags(struct emit *e)
{
	put(e, 0x9f); /* lahf */
	put(e, 0x0f); /* seto al */
	put(e, 0x90);
	put(e, 0xc0);
	put(e, 0x0f); /* movzx eax, ax */
	put(e, 0xb7);
	put(e, 0xc0);
	if (e->creg >= 8)
		put(e, 0x41);
	put(e, 0x89);
	put(e, (u8)(0x80 | (e->creg & 7)));
	put32(e, offsetof(struct cpu, af));
}

/* ---- what it uses ---- */

static bool analyse(struct emit *e)
{
	const struct decoded *d = e->d;

	for (unsigned k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			if (o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT || o->mem.type != ZYDIS_MEMOP_TYPE_MEM || e->mem)
				return false;
			e->mem = o;
			continue;
		}
		if (o->type == ZYDIS_OPERAND_TYPE_POINTER)
			return false;
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		ZydisRegisterClass k2 = ZydisRegisterGetClass(o->reg.value);
		if (k2 == ZYDIS_REGCLASS_SEGMENT || k2 == ZYDIS_REGCLASS_CONTROL || k2 == ZYDIS_REGCLASS_DEBUG || k2 == ZYDIS_REGCLASS_IP)
			return false;
		int r = stub_gpr(o->reg.value);
		if (r < 0)
			continue;
		e->used |= 1u << r;
		if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
			e->written |= 1u << r;
	}
	if (d->z.cpu_flags) {
		const ZydisAccessedFlags *f = d->z.cpu_flags;
		u32 out = f->modified | f->set_0 | f->set_1 | f->undefined;
		if ((out | f->tested) & ~X86_ARITH)
			return false;
		e->flags_out = out;
		/* An undefined flag may keep its value. */
		e->flags_in = f->tested || (out && ((out & ~f->undefined) & X86_ARITH) != X86_ARITH);
	}
	return true;
}

static unsigned pick(u32 candidates)
{
	return candidates ? (unsigned)__builtin_ctz(candidates) : REG_NONE;
}

static bool choose(struct emit *e)
{
	u32 used = e->used;

	e->creg = e->mreg = e->treg = REG_NONE;
	e->creg = used & 1u << R_DI ? pick((0xfu << R_8) & ~used) : R_DI;
	if (e->creg == REG_NONE)
		return false;
	used |= 1u << e->creg;
	if (e->mem) {
		e->mreg = used & 1u << R_SI ? pick((1u << R_AX | 1u << R_CX | 1u << R_DX | 1u << R_BX) & ~used) : R_SI;
		if (e->mreg == REG_NONE)
			return false;
		used |= 1u << e->mreg;
	}
	if (e->used & 1u << R_SP) {
		e->treg = pick((1u << R_AX | 1u << R_CX | 1u << R_DX | 1u << R_BX | 1u << R_SI) & ~used);
		if (e->treg == REG_NONE)
			return false;
	}
	return true;
}

/* ---- the instruction ---- */

static bool scalable_osz(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_LZCNT:
	case ZYDIS_MNEMONIC_TZCNT:
	case ZYDIS_MNEMONIC_MOVBE:
	case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED: return true;
	default: return false;
	}
}

/* Outside 64-bit mode W of VEX and EVEX is ignored where it would only widen a general register or its memory form. */
static bool w_is_width(const struct decoded *d)
{
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_VMOVD:
	case ZYDIS_MNEMONIC_VPINSRD:
	case ZYDIS_MNEMONIC_VPEXTRD:
	case ZYDIS_MNEMONIC_VCVTSI2SS:
	case ZYDIS_MNEMONIC_VCVTSI2SD:
	case ZYDIS_MNEMONIC_VCVTUSI2SS:
	case ZYDIS_MNEMONIC_VCVTUSI2SD: return true;
	default: break;
	}
	for (unsigned k = 0; k < d->z.operand_count_visible; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER && stub_gpr(d->op[k].reg.value) >= 0)
			return true;
	return false;
}

static bool emit_legacy_prefixes(struct emit *e, unsigned *opcode_at)
{
	const struct decoded *d = e->d;
	const ZydisDecodedInstruction *z = &d->z;
	bool osz16 = false, force = scalable_osz(z->mnemonic);

	if (force) {
		osz16 = d->op[z->operand_count_visible - 1].size == 16;
		if (osz16)
			put(e, 0x66);
	}
	for (unsigned k = 0; k < z->raw.prefix_count; k++) {
		u8 b = z->raw.prefixes[k].value;
		if (b == 0xf2 || b == 0xf3 || (b == 0x66 && !force))
			put(e, b);
	}
	if (z->attributes & ZYDIS_ATTRIB_HAS_REX) {
		u8 rex = d->bytes[z->raw.rex.offset];
		put(e, e->mem ? rex & ~3 : rex);
	}
	*opcode_at = z->raw.prefix_count;
	return true;
}

static u8 vvvv_byte(const struct emit *e, u8 b, bool long64, bool sp_in_vvvv)
{
	if (!long64)
		b |= 0x40;
	if (sp_in_vvvv)
		b = (u8)((b & ~0x78) | ((~e->treg & 15) << 3));
	return b;
}

static bool emit_vex_prefix(struct emit *e, unsigned *opcode_at, bool sp_in_vvvv)
{
	const struct decoded *d = e->d;
	const ZydisDecodedInstruction *z = &d->z;
	bool long64 = z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
	bool evex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
	unsigned at = evex ? z->raw.evex.offset : z->raw.vex.offset, n = evex ? 4 : z->raw.vex.size;
	u8 b[4];

	memcpy(b, d->bytes + at, n);
	*opcode_at = at + n;
	if (n == 2) {
		b[1] = vvvv_byte(e, b[1], long64, sp_in_vvvv);
	} else {
		b[2] = vvvv_byte(e, b[2], long64, sp_in_vvvv);
		if (!long64) {
			b[1] |= evex ? 0xf0 : 0xe0;
			if (w_is_width(d))
				b[2] &= 0x7f;
			if (evex)
				b[3] |= 8;
		}
		if (e->mem)
			b[1] |= 0x60; /* no X, no B */
	}
	memcpy(e->p, b, n);
	e->p += n;
	return true;
}

static bool emit_insn(struct emit *e)
{
	const struct decoded *d = e->d;
	const ZydisDecodedInstruction *z = &d->z;
	bool sp_reg = false, sp_rm = false, sp_vvvv = false;
	unsigned at;

	for (unsigned k = 0; k < z->operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || stub_gpr(o->reg.value) != R_SP)
			continue;
		switch (o->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG: sp_reg = true; break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM: sp_rm = true; break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD: sp_vvvv = true; break;
		default: return false;
		}
	}
	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
		if (!emit_legacy_prefixes(e, &at))
			return false;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		if (!emit_vex_prefix(e, &at, sp_vvvv))
			return false;
		break;
	default: return false;
	}
	if (!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
		memcpy(e->p, d->bytes + at, z->length - at);
		e->p += z->length - at;
		return true;
	}
	unsigned m = z->raw.modrm.offset;
	memcpy(e->p, d->bytes + at, m - at);
	e->p += m - at;
	u8 modrm = d->bytes[m];
	unsigned tail = m + 1;
	if (sp_reg)
		modrm = (u8)((modrm & 0xc7) | e->treg << 3);
	if (e->mem) {
		modrm = (u8)((modrm & 0x38) | e->mreg);
		tail += (z->attributes & ZYDIS_ATTRIB_HAS_SIB ? 1 : 0) + z->raw.disp.size / 8;
	} else if (sp_rm) {
		modrm = (u8)((modrm & 0xf8) | e->treg);
	}
	put(e, modrm);
	memcpy(e->p, d->bytes + tail, z->length - tail);
	e->p += z->length - tail;
	return true;
}

/* ---- proof ---- */

static bool same_reg(const struct emit *e, ZydisRegister guest, ZydisRegister host)
{
	int g = stub_gpr(guest), h = stub_gpr(host);

	if (g != R_SP)
		return guest == host;
	return h == (int)e->treg && ZydisRegisterGetClass(guest) == ZydisRegisterGetClass(host);
}

static bool proven(const struct emit *e, const u8 *code, unsigned n)
{
	const struct decoded *g = e->d;
	struct decoded h;
	u8 bytes[16];

	memset(bytes, 0x90, sizeof(bytes));
	memcpy(bytes, code, n);
	if (decode(&h, bytes, 15, 8, false) != DECODE_OK || h.z.length != n || h.z.mnemonic != g->z.mnemonic)
		return false;
	if (h.z.operand_count_visible != g->z.operand_count_visible || h.z.avx.mask.reg != g->z.avx.mask.reg)
		return false;
	for (unsigned k = 0; k < g->z.operand_count_visible; k++) {
		const ZydisDecodedOperand *a = &g->op[k], *b = &h.op[k];
		if (a->type != b->type || a->size != b->size)
			return false;
		if (a->type == ZYDIS_OPERAND_TYPE_REGISTER && !same_reg(e, a->reg.value, b->reg.value))
			return false;
		if (a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && a->imm.value.u != b->imm.value.u)
			return false;
		if (a->type == ZYDIS_OPERAND_TYPE_MEMORY && (b->mem.base != (ZydisRegister)(ZYDIS_REGISTER_RAX + e->mreg) || b->mem.index || b->mem.disp.value))
			return false;
	}
	return true;
}

unsigned stub_emit(const struct decoded *d, u8 *code)
{
	struct emit e = { .p = code, .d = d };
	u32 saved;

	if (!analyse(&e) || !choose(&e))
		return 0;
	saved = e.used & ~(1u << R_SP);
	saved |= e.mem ? 1u << e.mreg : 0;
	saved |= e.treg != REG_NONE ? 1u << e.treg : 0;
	saved &= CALLEE_SAVED;
	for (unsigned r = 0; r < 16; r++)
		if (saved & 1u << r)
			pushpop(&e, r, true);
	mov_reg(&e, e.creg, R_DI);
	if (e.flags_in)
		load_flags(&e);
	if (e.mem)
		mov_reg(&e, e.mreg, R_SI);
	for (unsigned r = 0; r < 16; r++)
		if (e.used & 1u << r)
			mov_cpu(&e, r == R_SP ? e.treg : r, (unsigned)offsetof(struct cpu, gpr) + 8 * r, false);
	u8 *insn = e.p;
	if (!emit_insn(&e) || !proven(&e, insn, (unsigned)(e.p - insn)))
		return 0;
	for (unsigned r = 0; r < 16; r++)
		if (e.written & 1u << r)
			mov_cpu(&e, r == R_SP ? e.treg : r, (unsigned)offsetof(struct cpu, gpr) + 8 * r, true);
	if (e.flags_out)
		store_flags(&e);
	for (unsigned r = 16; r-- > 0;)
		if (saved & 1u << r)
			pushpop(&e, r, false);
	put(&e, 0xc3);
	return (unsigned)(e.p - code);
}
