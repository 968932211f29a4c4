/* SPDX-License-Identifier: MIT */
#include "translate/asm.h"

#include "decode/decode.h"
#include "interp/stub_int.h"

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

/* ---- the guest's own instructions ---- */

static bool high_byte(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
}

static bool uses_high_byte(const struct decoded *d)
{
	for (unsigned k = 0; k < d->z.operand_count; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER && high_byte(d->op[k].reg.value))
			return true;
	return false;
}

static bool legacy_head(struct asmb *a, const struct decoded *d, const struct rename *r, unsigned *at)
{
	const ZydisDecodedInstruction *z = &d->z;
	bool had = z->attributes & ZYDIS_ATTRIB_HAS_REX;
	u8 old = had ? d->bytes[z->raw.rex.offset] : 0x40, rex = old & 0x48;

	for (unsigned k = 0; k < z->raw.prefix_count; k++) {
		u8 b = z->raw.prefixes[k].value;
		if (b == 0xf0 || b == 0xf2 || b == 0xf3 || b == 0x66)
			e8(a, b);
	}
	rex |= r->reg != REG_NONE ? (r->reg >> 3) << 2 : old & 4;
	if (r->mem)
		rex |= r->mbase >> 3;
	else if (r->rm != REG_NONE || r->opreg != REG_NONE)
		rex |= (r->rm != REG_NONE ? r->rm : r->opreg) >> 3;
	else
		rex |= old & 1;
	rex |= 0x40;
	if (uses_high_byte(d) && (had || rex != 0x40))
		return false;
	if (had || rex != 0x40)
		e8(a, rex);
	*at = z->raw.prefix_count;
	return true;
}

static void vex_head(struct asmb *a, const struct decoded *d, const struct rename *r, unsigned *at)
{
	const ZydisDecodedInstruction *z = &d->z;
	unsigned off = z->raw.vex.offset;
	u8 b1, b2;

	if (z->raw.vex.size == 2) {
		b1 = (d->bytes[off + 1] & 0x80) | 0x61;
		b2 = d->bytes[off + 1] & 0x7f;
	} else {
		b1 = d->bytes[off + 1];
		b2 = d->bytes[off + 2];
	}
	*at = off + z->raw.vex.size;
	if (r->reg != REG_NONE)
		b1 = (u8)((b1 & 0x7f) | (~r->reg >> 3 & 1) << 7);
	if (r->mem)
		b1 = (u8)((b1 & 0x9f) | 0x40 | (~r->mbase >> 3 & 1) << 5);
	else if (r->rm != REG_NONE)
		b1 = (u8)((b1 & 0xdf) | (~r->rm >> 3 & 1) << 5);
	if (r->vvvv != REG_NONE)
		b2 = (u8)((b2 & 0x87) | (~r->vvvv & 15) << 3);
	if ((b1 & 0x7f) == 0x61 && !(b2 & 0x80)) {
		e8(a, 0xc5);
		e8(a, (b1 & 0x80) | b2);
		return;
	}
	e8(a, 0xc4);
	e8(a, b1);
	e8(a, b2);
}

static void evex_head(struct asmb *a, const struct decoded *d, const struct rename *r, unsigned *at)
{
	const ZydisDecodedInstruction *z = &d->z;
	u8 b[4];

	memcpy(b, d->bytes + z->raw.evex.offset, 4);
	*at = z->raw.evex.offset + 4;
	if (r->reg != REG_NONE)
		b[1] = (u8)((b[1] & 0x7f) | (~r->reg >> 3 & 1) << 7);
	if (r->mem)
		b[1] = (u8)((b[1] & 0x9f) | 0x40 | (~r->mbase >> 3 & 1) << 5);
	else if (r->rm != REG_NONE)
		b[1] = (u8)((b[1] & 0xdf) | (~r->rm >> 3 & 1) << 5);
	if (r->vvvv != REG_NONE)
		b[2] = (u8)((b[2] & 0x87) | (~r->vvvv & 15) << 3);
	for (unsigned k = 0; k < 4; k++)
		e8(a, b[k]);
}

static bool encode(struct asmb *a, const struct decoded *d, const struct rename *r)
{
	const ZydisDecodedInstruction *z = &d->z;
	unsigned at;

	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
		if (!legacy_head(a, d, r, &at))
			return false;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_VEX: vex_head(a, d, r, &at); break;
	case ZYDIS_INSTRUCTION_ENCODING_EVEX: evex_head(a, d, r, &at); break;
	default: return false;
	}
	if (!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
		unsigned tail = at;
		if (r->opreg != REG_NONE) { /* in the low bits of the last opcode byte */
			tail = z->raw.imm[0].size ? z->raw.imm[0].offset : z->length;
			memcpy(a->p, d->bytes + at, tail - at);
			a->p += tail - at;
			a->p[-1] = (u8)((a->p[-1] & 0xf8) | (r->opreg & 7));
		}
		memcpy(a->p, d->bytes + tail, z->length - tail);
		a->p += z->length - tail;
		return true;
	}
	unsigned m = z->raw.modrm.offset, tail = m + 1;
	memcpy(a->p, d->bytes + at, m - at);
	a->p += m - at;
	u8 modrm = d->bytes[m];
	if (r->reg != REG_NONE)
		modrm = (u8)((modrm & 0xc7) | (r->reg & 7) << 3);
	if (!r->mem) {
		if (r->rm != REG_NONE)
			modrm = (u8)((modrm & 0xf8) | (r->rm & 7));
		e8(a, modrm);
	} else {
		tail += (z->attributes & ZYDIS_ATTRIB_HAS_SIB ? 1 : 0) + z->raw.disp.size / 8;
		/* EVEX scales an 8-bit displacement: never one here. */
		e8(a, (modrm & 0x38) | (r->mbase & 7) | (r->mdisp ? 0x80 : 0));
		if (r->mdisp)
			e32(a, (u32)r->mdisp);
	}
	memcpy(a->p, d->bytes + tail, z->length - tail);
	a->p += z->length - tail;
	return true;
}

static bool same_operand(const struct decoded *g, const struct rename *r, const ZydisDecodedOperand *o, const ZydisDecodedOperand *h)
{
	if (o->type != h->type || o->size != h->size)
		return false;
	switch (o->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER: {
		int n = stub_gpr(o->reg.value), want;
		if (n < 0 || high_byte(o->reg.value))
			return o->reg.value == h->reg.value;
		switch (o->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG: want = r->reg; break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM: want = r->rm; break;
		case ZYDIS_OPERAND_ENCODING_OPCODE: want = r->opreg; break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD: want = r->vvvv; break;
		default: want = n;
		}
		return stub_gpr(h->reg.value) == want && !high_byte(h->reg.value) &&
		       ZydisRegisterGetClass(o->reg.value) == ZydisRegisterGetClass(h->reg.value);
	}
	case ZYDIS_OPERAND_TYPE_IMMEDIATE: return o->imm.value.u == h->imm.value.u;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return r->mem && h->mem.base == (ZydisRegister)(ZYDIS_REGISTER_RAX + r->mbase) && !h->mem.index && h->mem.disp.value == r->mdisp &&
		       (h->mem.segment == ZYDIS_REGISTER_DS || h->mem.segment == ZYDIS_REGISTER_SS);
	default: return false;
	}
}

/* The bytes come from the guest, and what we write will run on the host: decode it again and look. */
static bool proven(const u8 *code, unsigned n, const struct decoded *g, const struct rename *r)
{
	struct decoded h;
	u8 bytes[15];

	if (n > 15)
		return false;
	memset(bytes, 0x90, sizeof(bytes));
	memcpy(bytes, code, n);
	if (decode(&h, bytes, 15, 8, false) != DECODE_OK || h.z.length != n || h.z.mnemonic != g->z.mnemonic)
		return false;
	if (h.z.operand_count_visible != g->z.operand_count_visible || h.z.avx.mask.reg != g->z.avx.mask.reg)
		return false;
	if ((h.z.attributes ^ g->z.attributes) & (ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		return false;
	for (unsigned k = 0; k < g->z.operand_count_visible; k++)
		if (!same_operand(g, r, &g->op[k], &h.op[k]))
			return false;
	return true;
}

bool asm_copy(struct asmb *a, const struct decoded *d, const struct rename *r)
{
	u8 *start = a->p;

	if (encode(a, d, r) && proven(start, (unsigned)(a->p - start), d, r))
		return true;
	a->p = start;
	return false;
}
