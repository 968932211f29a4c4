/* SPDX-License-Identifier: MIT */
/*
 * What an instruction is follows from the bytes up to ModRM and SIB; displacement and immediates are numbers in it. That is not so where an immediate is a
 * part of the opcode or names a register (3DNow!, VEX with a fourth operand), or scales by something (EVEX), or is a far pointer: such opcodes are not
 * remembered, nor are 16-bit code and addresses of another size than the code's.
 */
#include "decode/memo.h"

#include "base/string.h"

/* One-byte opcodes and those behind 0F that have a ModRM byte, a bit each (SDM 2, appendix A). What is remembered has been checked against Zydis. */
static const u16 modrm1[16] = { 0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0, 0, 0x0a0c, 0, 0xffff, 0, 0, 0, 0x00f3, 0xff0f, 0, 0xc0c0 };
static const u16 modrm2[16] = { 0x200f, 0xffff, 0xff0f, 0, 0xffff, 0xffff, 0xffff, 0xf37f, 0, 0xffff, 0xf8f8, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff };

/* How many of the 8 bytes at b, n of which are the instruction's, say what the instruction is; 0: it is not for the memory. */
static unsigned key_length(const u8 *b, unsigned n, unsigned code_size)
{
	unsigned k = 0;
	bool modrm;

	if (code_size == 2)
		return 0;
	while (k < 3 && decode_is_prefix(b[k]) && b[k] != 0x67)
		k++;
	if (code_size == 8 && (b[k] & 0xf0) == 0x40)
		k++;
	u8 op = b[k++];
	if (op == 0x0f) {
		op = b[k++];
		if (op == 0x0f)
			return 0;
		modrm = modrm2[op >> 4] >> (op & 15) & 1;
		if (op == 0x38 || op == 0x3a) {
			k++;
			modrm = true;
		}
	} else {
		switch (op) {
		case 0x62: case 0x67: case 0x8f: case 0x9a: case 0xc4: case 0xc5: case 0xea: return 0;
		default: modrm = modrm1[op >> 4] >> (op & 15) & 1;
		}
	}
	if (modrm) {
		u8 m = b[k++];
		if (m < 0xc0 && (m & 7) == 4)
			k++;
	}
	return k <= MIN(n, 7u) ? k : 0;
}

static s64 number(const u8 *b, unsigned bits)
{
	u64 v = 0;

	switch (bits) {
	case 8: return (s8)b[0];
	case 16: memcpy(&v, b, 2); return (s16)v;
	case 32: memcpy(&v, b, 4); return (s32)v;
	default: memcpy(&v, b, 8); return (s64)v;
	}
}

static u64 immediate(const ZydisDecodedInstruction *z, unsigned k, const u8 *b)
{
	s64 v = number(b + z->raw.imm[k].offset, z->raw.imm[k].size);
	unsigned bits = z->raw.imm[k].size;

	return z->raw.imm[k].is_signed || bits == 64 ? (u64)v : (u64)v & (BIT(bits) - 1);
}

/* e is of an instruction like this one. */
static void put_numbers(struct memo_entry *e, const u8 *b)
{
	struct decoded *d = &e->d;
	ZydisDecodedInstruction *z = &d->z;

	if (z->raw.disp.size) {
		z->raw.disp.value = number(b + z->raw.disp.offset, z->raw.disp.size);
		if (e->at.disp_op < MEMO_OPS)
			d->op[e->at.disp_op].mem.disp.value = z->raw.disp.value;
	}
	for (unsigned k = 0; k < 2 && z->raw.imm[k].size; k++) {
		z->raw.imm[k].value.u = immediate(z, k, b);
		if (e->at.imm_op[k] < MEMO_OPS)
			d->op[e->at.imm_op[k]].imm.value.u = z->raw.imm[k].value.u;
	}
	memcpy(d->bytes, b, z->length); /* behind them are zeroes */
}

void decode_keep(struct decoded *to, const struct decoded *from)
{
	if (to == from)
		return;
	to->z = from->z;
	memcpy(to->op, from->op, from->z.operand_count * sizeof(from->op[0]));
	for (unsigned n = to->z.operand_count; n < ZYDIS_MAX_OPERAND_COUNT_VISIBLE; n++)
		memset(&to->op[n], 0, sizeof(to->op[n]));
	memcpy(to->bytes, from->bytes, sizeof(to->bytes));
	to->memo = from->memo;
}

/* Is d, whose key has k bytes, understood well enough to be changed in its numbers? */
static bool understood(struct memo_numbers *e, const struct decoded *d, unsigned k)
{
	const ZydisDecodedInstruction *z = &d->z;
	unsigned numbers = z->raw.disp.size / 8, imms = 0;

	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || z->operand_count > MEMO_OPS)
		return false;
	e->disp_op = e->imm_op[0] = e->imm_op[1] = MEMO_OPS;
	for (unsigned n = 0; n < 2 && z->raw.imm[n].size; n++) {
		numbers += z->raw.imm[n].size / 8;
		if (immediate(z, n, d->bytes) != z->raw.imm[n].value.u)
			return false;
	}
	if (k + numbers != z->length || (z->raw.disp.size && (z->raw.disp.offset != k || number(d->bytes + k, z->raw.disp.size) != z->raw.disp.value)))
		return false;
	for (unsigned n = 0; n < z->operand_count; n++) {
		const ZydisDecodedOperand *o = &d->op[n];
		if (o->type == ZYDIS_OPERAND_TYPE_POINTER)
			return false;
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.disp.has_displacement) {
			if (e->disp_op < MEMO_OPS || !z->raw.disp.size || o->mem.disp.value != z->raw.disp.value)
				return false;
			e->disp_op = (u8)n;
		}
		if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && o->encoding != ZYDIS_OPERAND_ENCODING_NONE) {
			if (imms == 2 || !z->raw.imm[imms].size || o->imm.value.u != z->raw.imm[imms].value.u)
				return false;
			e->imm_op[imms++] = (u8)n;
		}
	}
	return true;
}

/* In place of the oldest of its set. k: bytes of the key. */
static void remember(struct decode_memo *m, unsigned set, u64 key, const struct decoded *d, unsigned k)
{
	unsigned w = m->next[set];
	struct memo_entry *e = &m->entry[set][w];
	struct memo_numbers at;

	if (!understood(&at, d, k))
		return;
	m->key[set][w] = key;
	m->next[set] = (u8)((w + 1) % MEMO_WAYS);
	decode_keep(&e->d, d);
	e->at = at;
}

enum decode_result decode_lent(struct decode_memo *m, struct decoded *room, const struct decoded **d, const u8 *bytes, unsigned n, unsigned code_size,
			       bool amd)
{
	unsigned k = 0, set = 0;
	u64 key = 0;

	memcpy(&key, bytes, MIN(n, 8u));
	if (m)
		k = key_length((const u8 *)&key, n, code_size);
	if (k) {
		key = (key & (BIT(8 * k) - 1)) | (u64)(k | (code_size == 8) << 4 | (unsigned)amd << 5) << 56;
		set = (unsigned)((key * 0x9e3779b97f4a7c15ull) >> 56) % MEMO_SETS;
		for (unsigned w = 0; w < MEMO_WAYS; w++)
			if (m->key[set][w] == key && m->entry[set][w].d.z.length <= n) {
				put_numbers(&m->entry[set][w], bytes);
				*d = &m->entry[set][w].d;
				return DECODE_OK;
			}
	}
	enum decode_result r = decode(room, bytes, n, code_size, amd);
	room->memo = m;
	*d = room;
	if (k && r == DECODE_OK)
		remember(m, set, key, room, k);
	return r;
}

enum decode_result decode_by_memo(struct decode_memo *m, struct decoded *d, const u8 *bytes, unsigned n, unsigned code_size, bool amd)
{
	const struct decoded *lent;
	enum decode_result r = decode_lent(m, d, &lent, bytes, n, code_size, amd);

	decode_keep(d, lent);
	return r;
}
