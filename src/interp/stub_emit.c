/* SPDX-License-Identifier: MIT */
/*
 * Host code for one guest instruction: void stub(struct cpu *c, void *mem).
 *
 * The instruction keeps its own register numbers. The memory operand becomes [M] for a host register M below 8 that it does not use,
 * so no prefix bit has to be set; RSP as an operand is replaced by another register T. C holds the struct cpu pointer. How an
 * instruction is encoded anew is in encode.c.
 */
#include "interp/stub_int.h"
#include "base/string.h"
#include "interp/encode.h"

struct emit {
	u8 *p;
	const struct decoded *d;
	const ZydisDecodedOperand *mem; /* explicit memory operand, or NULL */
	u32 used, written;              /* general registers of the guest, without those of the address */
	bool flags_in, flags_out;
	unsigned creg, mreg, treg;      /* host registers */
};

#define NO_REG 16u
#define CALLEE_SAVED (1u << R_BX | 1u << R_BP | 0xfu << R_12)

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
		int r = reg_gpr(o->reg.value);
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
	return candidates ? (unsigned)__builtin_ctz(candidates) : NO_REG;
}

static bool choose(struct emit *e)
{
	u32 used = e->used;

	e->creg = e->mreg = e->treg = NO_REG;
	e->creg = used & 1u << R_DI ? pick((0xfu << R_8) & ~used) : R_DI;
	if (e->creg == NO_REG)
		return false;
	used |= 1u << e->creg;
	if (e->mem) {
		e->mreg = used & 1u << R_SI ? pick((1u << R_AX | 1u << R_CX | 1u << R_DX | 1u << R_BX) & ~used) : R_SI;
		if (e->mreg == NO_REG)
			return false;
		used |= 1u << e->mreg;
	}
	if (e->used & 1u << R_SP) {
		e->treg = pick((1u << R_AX | 1u << R_CX | 1u << R_DX | 1u << R_BX | 1u << R_SI) & ~used);
		if (e->treg == NO_REG)
			return false;
	}
	return true;
}

/* ---- the instruction ---- */

/* Each register keeps its number but RSP, for which T stands. */
static bool copy(struct emit *e)
{
	const struct decoded *d = e->d;
	struct rename r = { REG_NONE, REG_NONE, REG_NONE, REG_NONE, e->mem, (u8)e->mreg, 0, false, 0, 0 };

	for (unsigned k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		int g = o->type == ZYDIS_OPERAND_TYPE_REGISTER ? reg_gpr(o->reg.value) : -1;
		u8 *field = rename_field(&r, o);
		if (g < 0 || reg_is_high_byte(o->reg.value))
			continue;
		if (g == R_SP && !field)
			return false;
		if (field)
			*field = (u8)(g == R_SP ? e->treg : (unsigned)g);
	}
	unsigned n = encode_copy(e->p, d, &r);
	e->p += n;
	return n;
}

unsigned stub_emit(const struct decoded *d, u8 *code)
{
	struct emit e = { .p = code, .d = d };
	u32 saved;

	if (!analyse(&e) || !choose(&e))
		return 0;
	saved = e.used & ~(1u << R_SP);
	saved |= e.mem ? 1u << e.mreg : 0;
	saved |= e.treg != NO_REG ? 1u << e.treg : 0;
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
	if (!copy(&e))
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
