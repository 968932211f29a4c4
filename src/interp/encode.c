/* SPDX-License-Identifier: MIT */
/*
 * Prefixes, VEX and EVEX fields and ModRM of the guest's instruction rewritten, everything else copied.
 */
#include "interp/encode.h"

#include "base/string.h"
#include "decode/memo.h"
#include "interp/stub_int.h"

struct out {
	u8 *p;
};

static void put(struct out *a, unsigned b)
{
	*a->p++ = (u8)b;
}

u8 *rename_field(struct rename *r, const ZydisDecodedOperand *o)
{
	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG: return &r->reg;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM: return &r->rm;
	case ZYDIS_OPERAND_ENCODING_OPCODE: return &r->opreg;
	case ZYDIS_OPERAND_ENCODING_NDSNDD: return &r->vvvv;
	default: return NULL;
	}
}

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
	case ZYDIS_MNEMONIC_VPCMPESTRI: /* the lengths in EAX and EDX */
	case ZYDIS_MNEMONIC_VPCMPESTRM:
	case ZYDIS_MNEMONIC_VCVTSI2SS:
	case ZYDIS_MNEMONIC_VCVTSI2SD:
	case ZYDIS_MNEMONIC_VCVTUSI2SS:
	case ZYDIS_MNEMONIC_VCVTUSI2SD: return true;
	default: break;
	}
	for (unsigned k = 0; k < d->z.operand_count_visible; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER && reg_gpr(d->op[k].reg.value) >= 0)
			return true;
	return false;
}

bool encode_has_high_byte(const struct decoded *d)
{
	for (unsigned k = 0; k < d->z.operand_count; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER && reg_is_high_byte(d->op[k].reg.value))
			return true;
	return false;
}

static bool legacy_head(struct out *a, const struct decoded *d, const struct rename *r, unsigned *at)
{
	const ZydisDecodedInstruction *z = &d->z;
	bool had = z->attributes & ZYDIS_ATTRIB_HAS_REX;
	u8 old = had ? d->bytes[z->raw.rex.offset] : 0x40, rex = old & 0x48;
	bool force = scalable_osz(z->mnemonic);

	if (force && d->op[z->operand_count_visible - 1].size == 16)
		put(a, 0x66);
	for (unsigned k = 0; k < z->raw.prefix_count; k++) {
		u8 b = z->raw.prefixes[k].value;
		if (b == 0xf0 || b == 0xf2 || b == 0xf3 || (b == 0x66 && !force))
			put(a, b);
	}
	rex |= r->reg != REG_NONE ? (r->reg >> 3) << 2 : old & 4;
	if (r->mem)
		rex |= r->mbase >> 3 | (r->sib ? (r->mindex >> 3) << 1 : 0);
	else if (r->rm != REG_NONE || r->opreg != REG_NONE)
		rex |= (r->rm != REG_NONE ? r->rm : r->opreg) >> 3;
	else
		rex |= old & 1;
	rex |= 0x40;
	if (encode_has_high_byte(d) && (had || rex != 0x40))
		return false;
	if (had || rex != 0x40)
		put(a, rex);
	*at = z->raw.prefix_count;
	return true;
}

/* VEX.X and EVEX.X, which are the inverse. */
static unsigned index_bit(const struct rename *r)
{
	return r->sib && r->mindex & 8 ? 0 : 0x40;
}

static void vex_head(struct out *a, const struct decoded *d, const struct rename *r, unsigned *at)
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
	if (z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64) {
		b1 |= 0xe0;
		b2 = (u8)((b2 | 0x40) & (w_is_width(d) ? 0x7f : 0xff));
	}
	if (r->reg != REG_NONE)
		b1 = (u8)((b1 & 0x7f) | (~r->reg >> 3 & 1) << 7);
	if (r->mem)
		b1 = (u8)((b1 & 0x9f) | index_bit(r) | (~r->mbase >> 3 & 1) << 5);
	else if (r->rm != REG_NONE)
		b1 = (u8)((b1 & 0xdf) | (~r->rm >> 3 & 1) << 5);
	if (r->vvvv != REG_NONE)
		b2 = (u8)((b2 & 0x87) | (~r->vvvv & 15) << 3);
	if ((b1 & 0x7f) == 0x61 && !(b2 & 0x80)) {
		put(a, 0xc5);
		put(a, (b1 & 0x80) | b2);
		return;
	}
	put(a, 0xc4);
	put(a, b1);
	put(a, b2);
}

static void evex_head(struct out *a, const struct decoded *d, const struct rename *r, unsigned *at)
{
	const ZydisDecodedInstruction *z = &d->z;
	u8 b[4];

	memcpy(b, d->bytes + z->raw.evex.offset, 4);
	*at = z->raw.evex.offset + 4;
	if (z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64) {
		b[1] |= 0xf0;
		b[2] = (u8)((b[2] | 0x40) & (w_is_width(d) ? 0x7f : 0xff));
		b[3] |= 8;
	}
	if (r->reg != REG_NONE)
		b[1] = (u8)((b[1] & 0x7f) | (~r->reg >> 3 & 1) << 7);
	if (r->mem)
		b[1] = (u8)((b[1] & 0x9f) | index_bit(r) | (~r->mbase >> 3 & 1) << 5);
	else if (r->rm != REG_NONE)
		b[1] = (u8)((b[1] & 0xdf) | (~r->rm >> 3 & 1) << 5);
	if (r->vvvv != REG_NONE)
		b[2] = (u8)((b[2] & 0x87) | (~r->vvvv & 15) << 3);
	for (unsigned k = 0; k < 4; k++)
		put(a, b[k]);
}

/* One-byte INC and DEC, which are REX prefixes in 64-bit mode. */
static bool encode_inc(struct out *a, const struct decoded *d, const struct rename *r)
{
	unsigned reg = r->opreg;

	if (reg == REG_NONE)
		return false;
	if (d->op[0].size == 16)
		put(a, 0x66);
	if (reg >= 8)
		put(a, 0x41);
	put(a, 0xff);
	put(a, (u8)(0xc0 | (d->z.opcode & 8) | (reg & 7)));
	return true;
}

/* A register in the immediate's high half, of which only eight exist outside 64-bit mode: bit 7 is ignored there. */
static bool has_is4(const struct decoded *d)
{
	for (unsigned k = 0; k < d->z.operand_count_visible; k++)
		if (d->op[k].encoding == ZYDIS_OPERAND_ENCODING_IS4)
			return true;
	return false;
}

/*
 * VZEROUPPER and VZEROALL outside 64-bit mode leave registers 8 to 15 alone (SDM 2). Each of the others is copied onto itself, or cleared, by
 * an instruction of 128 bits, which clears what lies above.
 */
static bool encode_vzero(struct out *a, const struct decoded *d)
{
	bool all = d->z.mnemonic == ZYDIS_MNEMONIC_VZEROALL;

	if ((!all && d->z.mnemonic != ZYDIS_MNEMONIC_VZEROUPPER) || d->z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
		return false;
	for (unsigned n = 0; n < 8; n++) {
		put(a, 0xc5);
		put(a, all ? 0xf8 ^ n << 3 : 0xf8);
		put(a, all ? 0x57 : 0x28); /* vxorps xmmN, xmmN, xmmN; vmovaps xmmN, xmmN */
		put(a, 0xc0 | n * 9);
	}
	return true;
}

static bool encode(struct out *a, const struct decoded *d, const struct rename *r)
{
	const ZydisDecodedInstruction *z = &d->z;
	unsigned at;

	if (z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && (z->opcode & 0xf0) == 0x40)
		return encode_inc(a, d, r);
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
		put(a, modrm);
	} else {
		tail += (z->attributes & ZYDIS_ATTRIB_HAS_SIB ? 1 : 0) + z->raw.disp.size / 8;
		/* EVEX scales an 8-bit displacement: never one here. */
		bool d8 = r->mdisp == (s8)r->mdisp && d->z.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX; /* there it is scaled */
		put(a, (modrm & 0x38) | (r->sib ? 4 : r->mbase & 7) | (!r->mdisp ? 0 : d8 ? 0x40 : 0x80));
		if (r->sib)
			put(a, r->mshift << 6 | (r->mindex & 7) << 3 | (r->mbase & 7));
		if (r->mdisp && d8)
			put(a, (u8)r->mdisp);
		else if (r->mdisp)
			memcpy(a->p, &r->mdisp, 4), a->p += 4;
	}
	memcpy(a->p, d->bytes + tail, z->length - tail);
	a->p += z->length - tail;
	if (z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64 && has_is4(d))
		a->p[-1] &= 0x7f;
	return true;
}

static bool same_operand(const struct decoded *g, const struct rename *r, const ZydisDecodedOperand *o, const ZydisDecodedOperand *h)
{
	if (o->type != h->type || o->size != h->size)
		return false;
	switch (o->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER: {
		int n = reg_gpr(o->reg.value);
		if (n < 0 || reg_is_high_byte(o->reg.value))
			return o->reg.value == h->reg.value;
		struct rename f = *r;
		const u8 *field = rename_field(&f, o);
		int want = field ? *field : n;
		return reg_gpr(h->reg.value) == want && !reg_is_high_byte(h->reg.value) &&
		       reg_gpr_size(o->reg.value) == reg_gpr_size(h->reg.value);
	}
	case ZYDIS_OPERAND_TYPE_IMMEDIATE: return o->imm.value.u == h->imm.value.u;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return r->mem && h->mem.base == (ZydisRegister)(ZYDIS_REGISTER_RAX + r->mbase) && h->mem.disp.value == r->mdisp &&
		       (r->sib ? h->mem.index == (ZydisRegister)(ZYDIS_REGISTER_RAX + r->mindex) && h->mem.scale == 1u << r->mshift : !h->mem.index) &&
		       (h->mem.segment == ZYDIS_REGISTER_DS || h->mem.segment == ZYDIS_REGISTER_SS);
	default: return false;
	}
}

/* The bytes come from the guest, and what we write will run on the host: decode it again and look. The guest's own bytes have been. g is not lent: it would be compared with itself. */
static bool proven(const u8 *code, unsigned n, const struct decoded *g, const struct rename *r)
{
	const struct decoded *h = g;
	struct decoded again;
	u8 bytes[15];

	if (n > 15)
		return false;
	if (n != g->z.length || g->z.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 || memcmp(code, g->bytes, n)) {
		memset(bytes, 0x90, sizeof(bytes));
		memcpy(bytes, code, n);
		if (decode_lent(g->memo, &again, &h, bytes, 15, 8, false) != DECODE_OK)
			return false;
	}
	if (h->z.length != n || h->z.mnemonic != g->z.mnemonic)
		return false;
	if (h->z.operand_count_visible != g->z.operand_count_visible || h->z.avx.mask.reg != g->z.avx.mask.reg)
		return false;
	if ((h->z.attributes ^ g->z.attributes) & (ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		return false;
	for (unsigned k = 0; k < g->z.operand_count_visible; k++)
		if (!same_operand(g, r, &g->op[k], &h->op[k]))
			return false;
	return true;
}

unsigned encode_copy(u8 *code, const struct decoded *d, const struct rename *r)
{
	struct out a = { code };

	if (encode_vzero(&a, d))
		return (unsigned)(a.p - code);
	if (!encode(&a, d, r) || !proven(code, (unsigned)(a.p - code), d, r))
		return 0;
	return (unsigned)(a.p - code);
}
