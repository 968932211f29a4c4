/* SPDX-License-Identifier: MIT */
/*
 * Encodings. At start every opcode of every map, prefix, W, L and ModRM.reg is decoded once and filed under its group and
 * mnemonic. A random instruction is a random mnemonic of the group, one of its encodings, and random bits for everything that is left:
 * registers, addressing form, displacement, immediate, masks, redundant prefixes.
 */
#include <stdlib.h>
#include <string.h>

#include "gen.h"

enum { LEGACY, VEX, EVEX };

struct form {
	u16 mnem;
	u8 group, enc, map, op, pp, w, l;
	u8 modrm;  /* 0xc0 set: register form; reg; rm counts if fixed_rm */
	u8 fixed_rm, bcast, lockable, has_modrm;
};

static struct form *forms;
static unsigned nforms, cap;
static ZydisDecoder decoder;

/* Per group: mnemonics, and for each its range of `forms` (sorted). */
static struct range {
	u32 first, count;
} * ranges[GR_COUNT];
static unsigned nranges[GR_COUNT];

bool decode(const u8 *b, unsigned len, struct insn *out)
{
	memcpy(out->b, b, len < 15 ? len : 15);
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, b, len, &out->z, out->op));
}

static unsigned opcode_bytes(u8 *p, unsigned map, u8 op)
{
	unsigned n = 0;

	if (map)
		p[n++] = 0x0f;
	if (map == 2)
		p[n++] = 0x38;
	if (map == 3)
		p[n++] = 0x3a;
	p[n++] = op;
	return n;
}

/* bits: R X B inverted sense handled here; v: vvvv with V' as bit 4. */
static unsigned put_vex(u8 *p, const struct form *f, unsigned rxb, unsigned v, bool two)
{
	if (two && f->map == 1 && !f->w && !(rxb & 3)) {
		p[0] = 0xc5;
		p[1] = (rxb & 4 ? 0 : 0x80) | (~v & 15) << 3 | (f->l & 1) << 2 | f->pp;
		p[2] = f->op;
		return 3;
	}
	p[0] = 0xc4;
	p[1] = (~rxb & 7) << 5 | f->map;
	p[2] = f->w << 7 | (~v & 15) << 3 | (f->l & 1) << 2 | f->pp;
	p[3] = f->op;
	return 4;
}

static unsigned put_evex(u8 *p, const struct form *f, unsigned rxb, unsigned r2, unsigned v, unsigned z, unsigned b, unsigned k)
{
	p[0] = 0x62;
	p[1] = (~rxb & 7) << 5 | (r2 ? 0 : 0x10) | f->map;
	p[2] = f->w << 7 | (~v & 15) << 3 | 4 | f->pp;
	p[3] = z << 7 | f->l << 5 | b << 4 | (v & 16 ? 0 : 8) | k;
	p[4] = f->op;
	return 5;
}

static void file_form(struct form *f, const u8 *b)
{
	struct insn i;
	int g;

	if (!decode(b, 15, &i))
		return;
	g = group_of(&i.z, i.op);
	if (g < 0)
		return;
	f->mnem = i.z.mnemonic;
	f->group = g;
	f->has_modrm = i.z.attributes & ZYDIS_ATTRIB_HAS_MODRM ? 1 : 0;
	f->lockable = f->enc == LEGACY && (i.z.attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK) ? 1 : 0;
	if (!f->has_modrm && f->modrm)
		return; /* the same once only */
	for (int lock = 0; lock <= f->lockable; lock++) {
		if (nforms == cap) {
			cap = cap ? cap * 2 : 65536;
			forms = realloc(forms, cap * sizeof(*forms));
			if (!forms)
				exit(2);
		}
		forms[nforms] = *f;
		if (lock)
			forms[nforms].group = GR_LOCK;
		nforms++;
	}
}

static void scan_legacy(void)
{
	static const u8 pre[4] = {0, 0x66, 0xf3, 0xf2};
	u8 b[16] = {0};

	for (unsigned n = 0; n < 4 * 256 * 4 * 2; n++) {
		struct form f = {.enc = LEGACY, .w = n & 1, .pp = n >> 1 & 3, .op = n >> 3, .map = n >> 11};
		unsigned at = 0;
		bool rm = (!f.map && f.op >= 0xd8 && f.op < 0xe0) || (f.map == 1 && (f.op == 1 || f.op == 0xae || f.op == 0xc7 || f.op == 0x1e));

		if (f.w && code_bits == 32)
			continue;
		if (f.pp)
			b[at++] = pre[f.pp];
		if (f.w)
			b[at++] = 0x48;
		at += opcode_bytes(b + at, f.map, f.op);
		for (unsigned m = 0; m < 8 + 64; m++) {
			if (m >= 8 && !rm && (m & 7))
				continue;
			f.modrm = m < 8 ? m << 3 : 0xc0 | (m - 8);
			f.fixed_rm = m >= 8 && rm;
			memset(b + at, 0, sizeof(b) - at);
			b[at] = f.modrm;
			file_form(&f, b);
		}
	}
}

static void scan_vex(int enc)
{
	u8 b[16] = {0};
	unsigned nl = enc == VEX ? 2 : 4, maps = enc == VEX ? 4 : 7;

	for (unsigned map = 1; map < maps; map++)
		for (unsigned n = 0; n < 256 * 4 * 2 * nl; n++) {
			struct form f = {.enc = enc, .map = map, .op = n & 255, .pp = n >> 8 & 3, .w = n >> 10 & 1, .l = n >> 11};
			bool ext = (map == 1 && ((f.op >= 0x71 && f.op <= 0x73) || f.op == 0xae)) || (map == 2 && (f.op == 0xf3 || (f.op & 0xfe) == 0xc6));
			if (map == 4)
				break;
			for (unsigned m = 0; m < 32; m++) {
				unsigned at;
				if ((m & 7) && !ext)
					continue;
				if (m >= 16 && enc == VEX)
					break;
				f.modrm = (m & 7) << 3 | (m & 8 ? 0xc0 : 0);
				f.bcast = m >> 4;
				memset(b, 0, sizeof(b));
				for (unsigned v = 0; v < 2; v++) { /* with and without vvvv; gathers need SIB and a mask */
					unsigned k = f.op >= 0x90 && f.op <= 0xa3 && map == 2 ? 1 : 0;
					at = enc == VEX ? put_vex(b, &f, 0, v * 3, false) : put_evex(b, &f, 0, 0, v * 3, 0, f.bcast, k);
					b[at] = f.modrm;
					if (k && !(m & 8)) {
						b[at] |= 4;
						b[at + 1] = 0x08;
					}
					unsigned was = nforms;
					file_form(&f, b);
					if (nforms != was)
						break;
				}
			}
		}
}

static int by_group(const void *a, const void *b)
{
	const struct form *x = a, *y = b;

	if (x->group != y->group)
		return x->group - y->group;
	if (x->mnem != y->mnem)
		return x->mnem - y->mnem;
	return memcmp(x, y, sizeof(*x));
}

void form_init(void)
{
	if (code_bits == 32)
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	scan_legacy();
	scan_vex(VEX);
	scan_vex(EVEX);
	qsort(forms, nforms, sizeof(*forms), by_group);
	for (unsigned i = 0, j; i < nforms; i = j) {
		unsigned g = forms[i].group;
		for (j = i + 1; j < nforms && forms[j].group == g && forms[j].mnem == forms[i].mnem; j++)
			;
		if (!(nranges[g] & (nranges[g] - 1)))
			ranges[g] = realloc(ranges[g], (nranges[g] ? nranges[g] * 2 : 1) * sizeof(struct range));
		ranges[g][nranges[g]++] = (struct range){i, j - i};
	}
}

void form_list(int g)
{
	for (unsigned i = 0; i < nranges[g]; i++)
		printf("%s%s", ZydisMnemonicGetString(forms[ranges[g][i].first].mnem), i + 1 < nranges[g] ? " " : "\n");
}

static unsigned extra_prefixes(struct rng *r, u8 *b, const struct form *f, bool block, const struct memop *mem)
{
	static const u8 segs[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x64, 0x65};
	unsigned n = 0;

	if (f->group == GR_LOCK)
		b[n++] = 0xf0;
	if (mem)
		for (unsigned i = 0; i < mem->prefixes; i++)
			b[n++] = mem->prefix[i];
	if (block)
		return n;
	if (code_bits == 32 && chance(r, 8)) { /* only FS reaches mapped pages with 16 bits */
		b[n++] = 0x67;
		if (!chance(r, 4))
			b[n++] = 0x64;
	} else if (chance(r, 8))
		b[n++] = segs[below(r, 8)];
	if (chance(r, 10) && code_bits == 64)
		b[n++] = 0x67;
	if (f->enc != LEGACY)
		return n;
	if (chance(r, 12) || (f->group == GR_STRING && chance(r, 4)) || ((f->mnem == ZYDIS_MNEMONIC_CRC32 || f->mnem == ZYDIS_MNEMONIC_MOVBE) && chance(r, 3)))
		b[n++] = 0x66;
	if (chance(r, 24) && f->group != GR_LOCK)
		b[n++] = chance(r, 2) ? 0xf2 : 0xf3;
	if (code_bits == 64 && chance(r, 40)) /* a REX that another prefix makes void */
		b[n++] = 0x40 | below(r, 16);
	if (chance(r, 40))
		b[n++] = chance(r, 2) ? 0x3e : 0x66;
	return n;
}

static u8 random_modrm(struct rng *r, const struct form *f, bool block)
{
	u8 m = f->modrm & 0x38;

	if (f->enc != LEGACY && !(f->map == 1 && ((f->op >= 0x71 && f->op <= 0x73) || f->op == 0xae)) && !(f->map == 2 && (f->op == 0xf3 || (f->op & 0xfe) == 0xc6)))
		m = below(r, 8) << 3;
	if ((f->modrm & 0xc0) == 0xc0)
		return 0xc0 | m | (f->fixed_rm ? f->modrm & 7 : below(r, 8));
	if (block)
		return 0x40 | m | (chance(r, 2) ? 6 : 7);
	return below(r, 3) << 6 | m | (f->map == 2 && f->op >= 0x90 && f->op <= 0xa3 && f->enc != LEGACY ? 4 : below(r, 8));
}

static unsigned build(struct rng *r, const struct form *f, bool block, const struct memop *mo, unsigned attempt, u8 *b)
{
	static const u8 pre[4] = {0, 0x66, 0xf3, 0xf2};
	unsigned n, rxb = below(r, 8), v = attempt & 1 ? 0 : below(r, f->enc == EVEX ? 32 : 16);
	bool mem = (f->modrm & 0xc0) != 0xc0;

	if (block && mem)
		rxb = (rxb & 4) | 1; /* R14, R15 */
	if (f->enc == EVEX && attempt & 2)
		rxb = 0;
	if (code_bits == 32) {
		rxb = 0;
		v &= 7;
	}
	n = extra_prefixes(r, b, f, block, mem ? mo : NULL);
	switch (f->enc) {
	case LEGACY:
		if (f->pp)
			b[n++] = pre[f->pp];
		if (code_bits == 64 && (f->w || (rxb && chance(r, 2)) || (block && mem)))
			b[n++] = 0x40 | f->w << 3 | rxb;
		n += opcode_bytes(b + n, f->map, f->op);
		break;
	case VEX: n += put_vex(b + n, f, rxb, v, chance(r, 2)); break;
	default: {
		unsigned k = attempt & 4 ? 0 : below(r, 8), bc = mem ? f->bcast : chance(r, 3);
		struct form g = *f;
		if (f->map == 2 && f->op >= 0x90 && f->op <= 0xa3 && mem)
			k = 1 + below(r, 7), v &= 16;
		if (bc && !mem)
			g.l = below(r, 4);
		n += put_evex(b + n, &g, rxb, attempt & 8 || code_bits == 32 ? 0 : chance(r, 2), v, k && chance(r, 3), bc, k);
	}
	}
	if (f->has_modrm || f->enc != LEGACY)
		b[n++] = random_modrm(r, f, block);
	if (mo && mem && f->has_modrm) {
		b[n - 1] = (b[n - 1] & 0x38) | mo->b[0];
		memcpy(b + n, mo->b + 1, mo->len - 1u);
		n += mo->len - 1u;
		if (f->enc == EVEX && (mo->b[0] & 0xc0) == 0x40) /* it is scaled by the operand's size */
			b[n - 1] = (s8)b[n - 1] >> 4;
	}
	for (unsigned i = n; i < 16; i++)
		b[i] = rnd(r);
	if (chance(r, 3)) { /* small immediates and displacements */
		u64 e = edge(r);
		for (unsigned i = n; i < 16 && i < n + 8; i++)
			b[i] = e >> (8 * (i - n));
	}
	return n;
}

static bool invalid_random(struct rng *r, struct insn *out)
{
	for (int t = 0; t < 200; t++) {
		u8 b[16];
		unsigned n = 0;
		for (int i = 0; i < 16; i++)
			b[i] = rnd(r);
		switch (below(r, 5)) {
		case 0: b[n++] = 0x0f; break;
		case 1: b[n++] = 0x0f; b[n++] = chance(r, 2) ? 0x38 : 0x3a; break;
		case 2: b[0] = 0xc4; b[1] = (b[1] & 0xe0) | (1 + below(r, 3)); break;
		case 3: b[0] = 0x62; b[1] = (b[1] & 0xf0) | (1 + below(r, 3)); b[2] |= 4; break;
		default: break;
		}
		if (decode(b, 15, out))
			continue;
		/* What Zydis does not know and a CPU may: 3DNow!, UD-reserved NOPs, and prefixes up to the end. */
		if (b[0] == 0x0f && (b[1] == 0x0f || b[1] == 0x01 || b[1] == 0x05))
			continue;
		out->bad = true;
		out->z.length = 15;
		memcpy(out->b, b, 15);
		return true;
	}
	return false;
}

bool form_has(int g)
{
	return g == GR_INVALID || nranges[g];
}

bool form_random(struct rng *r, int g, bool block, const struct memop *mem, struct insn *out)
{
	out->bad = false;
	if (g == GR_INVALID)
		return invalid_random(r, out);
	if (!nranges[g])
		return false;
	for (int tries = 0; tries < 8; tries++) {
		const struct range *a = &ranges[g][below(r, nranges[g])];
		const struct form *f = &forms[a->first + below(r, a->count)];
		for (unsigned attempt = 0; attempt < 16; attempt++) {
			u8 b[16];
			build(r, f, block, mem, attempt, b);
			if (!decode(b, 15, out) || out->z.mnemonic != f->mnem)
				continue;
			if (group_of(&out->z, out->op) != (g == GR_LOCK ? group_of(&out->z, out->op) : g))
				continue;
			/* AMD: 66h shortens the displacement of near branches, which this decoder does not know: what follows would run. */
			if (code_bits == 64 && out->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && out->z.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE && !out->z.raw.rex.W &&
			    out->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && out->op[0].size > 8)
				continue;
			if (g == GR_LOCK && !(out->z.attributes & ZYDIS_ATTRIB_HAS_LOCK))
				continue;
			return true;
		}
	}
	return false;
}
