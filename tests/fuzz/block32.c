/* SPDX-License-Identifier: MIT */
/*
 * Blocks of 32-bit code: random instructions with every form of memory operand, and around them what compilers make: pushes and pops, frames,
 * loops, branches over a few instructions, calls of two routines that stand in front.
 *
 * A block ends at its int3 or in a fault, whatever the registers are. For that, registers that hold addresses, the index and counters
 * are `pinned` while they are needed: nothing writes them. What is on the stack is written by nothing but pushes: the stack has a page of
 * its own, operands there lie above all that was pushed. And nothing reads a flag that is undefined (`taint`).
 */
#include <string.h>

#include "gen.h"

#define ROUTINES 2
#define STACK_TOP (DATA_FIRST + 3 * PG + 2048)
#define ALL_FLAGS 0x8d5u
#define FRAME 128

struct block {
	struct rng *r;
	struct tcase *t;
	int group; /* -1: mixed */
	u8 code[SLOT - 40];
	unsigned len, ninsn, max;
	u32 pinned, written;
	int base[2], index;
	u32 taint, taint_fault; /* at this place; after a fault, wherever it is */
	unsigned depth; /* bytes that were pushed */
	unsigned nest;
	bool in_loop, in_routine, frame;
	struct {
		u32 at, written, taint;
	} routine[ROUTINES];
	unsigned routines;
};

static void statement(struct block *b);

static void put(struct block *b, const void *p, unsigned n)
{
	memcpy(b->code + b->len, p, n);
	b->len += n;
}

static void byte(struct block *b, u8 v)
{
	b->code[b->len++] = v;
}

static void put32(struct block *b, u32 v)
{
	put(b, &v, 4);
}

static bool room(const struct block *b, unsigned n)
{
	return b->len + n <= sizeof(b->code) - 24 && b->ninsn < b->max;
}

static u32 here(const struct block *b)
{
	return CODE_BASE + (b->t->num % BATCH) * SLOT + 20 + b->len;
}

static void wrote(struct block *b, int reg)
{
	b->written |= 1u << reg;
}

/* A register that may be written, or -1. */
static int free_reg(struct block *b)
{
	for (int n = 0; n < 12; n++) {
		int reg = below(b->r, 8);
		if (!(b->pinned >> reg & 1))
			return reg;
	}
	return -1;
}

static u32 operand_address(struct block *b)
{
	u32 a = DATA_FIRST + 256 + below(b->r, 2 * PG - 512);

	return b->t->vec && !chance(b->r, 8) ? a & ~63u : a;
}

static void disp(struct memop *m, u32 v, unsigned bytes)
{
	memcpy(m->b + m->len, &v, bytes);
	m->len += bytes;
}

static void based(struct block *b, struct memop *m, int base, bool index, bool d8)
{
	u32 far = below(b->r, 2048) - 1024, near = below(b->r, 256) - 128;

	if (b->t->vec && !chance(b->r, 8))
		far &= ~63u, near &= ~63u;
	m->b[m->len++] = (d8 ? 0x40 : 0x80) | (index ? 4 : base);
	if (index)
		m->b[m->len++] = below(b->r, 4) << 6 | (chance(b->r, 4) ? G_SP /* none */ : b->index) << 3 | base;
	disp(m, d8 ? near : far, d8 ? 1 : 4);
}

/* FS with a 16-bit address: [disp16], or a register's low half and a displacement. */
static void short_address(struct block *b, struct memop *m)
{
	static const s8 rm_of[8] = {-1, -1, -1, 7, -1, 6, 4, 5};
	int k = below(b->r, 2), rm = rm_of[b->base[k]];
	u32 want = (u32)b->t->fs + below(b->r, PG) - (u32)b->t->fs;

	m->prefix[m->prefixes++] = 0x67;
	m->prefix[m->prefixes++] = 0x64;
	if (rm < 0 || chance(b->r, 3)) {
		m->b[m->len++] = 6;
		disp(m, want, 2);
	} else {
		m->b[m->len++] = 0x80 | rm;
		disp(m, want - (u16)b->t->gpr[b->base[k]], 2);
	}
}

static struct memop operand(struct block *b)
{
	struct memop m = {.len = 0};
	int base = b->base[below(b->r, 2)];
	u32 address;

	switch (below(b->r, 14)) {
	case 0:
		if (base == G_BP)
			goto any;
		m.b[m.len++] = base;
		break;
	case 1: case 2: based(b, &m, base, false, true); break;
	case 3: based(b, &m, base, false, false); break;
	case 4: case 5: based(b, &m, base, true, true); break;
	case 6: based(b, &m, base, true, false); break;
	case 7: /* scaled index and an address */
		m.b[m.len++] = 4;
		m.b[m.len++] = below(b->r, 4) << 6 | b->index << 3 | 5;
		disp(&m, operand_address(b), 4);
		break;
	case 8: /* the address alone, as ModRM or as SIB has it */
		m.b[m.len++] = chance(b->r, 3) ? 4 : 5;
		if (m.b[0] == 4)
			m.b[m.len++] = below(b->r, 4) << 6 | G_SP << 3 | 5;
		disp(&m, operand_address(b), 4);
		break;
	case 9: /* the stack, above what was pushed */
		if (b->in_routine)
			goto any;
		m.b[m.len++] = 0x84;
		m.b[m.len++] = 0x24;
		disp(&m, b->depth + below(b->r, 256), 4);
		if (m.b[2] < 128 && !m.b[3] && chance(b->r, 2)) {
			m.b[0] = 0x44;
			m.len = 3;
		}
		break;
	case 10: case 11: /* locals */
		if (!b->frame)
			goto any;
		m.b[m.len++] = 0x45;
		disp(&m, -FRAME + below(b->r, 64), 1);
		break;
	case 12:
		m.prefix[m.prefixes++] = 0x64;
		m.b[m.len++] = 5;
		address = operand_address(b) - (u32)b->t->fs;
		if (address > -128u) /* whether pieces of an operand may wrap at 4 GiB is up to the CPU */
			address += 128;
		disp(&m, address, 4);
		break;
	case 13: short_address(b, &m); break;
	any:
	default: based(b, &m, base, chance(b->r, 2), true); break;
	}
	return m;
}

static bool fits(struct block *b, const struct insn *i)
{
	const ZydisAccessedFlags *f = i->z.cpu_flags;
	u32 writes = 0;

	if (i->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE) /* statements have their own */
		return false;
	switch (i->z.mnemonic) {
	/* Environments hold addresses and selectors on which the two sides cannot agree. */
	case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FNSAVE: return false;
	case ZYDIS_MNEMONIC_DIV: case ZYDIS_MNEMONIC_IDIV: case ZYDIS_MNEMONIC_BOUND: case ZYDIS_MNEMONIC_INTO: /* these end most blocks */
		if (!chance(b->r, 8))
			return false;
		break;
	default: break;
	}
	for (int k = 0; k < i->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &i->op[k];
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
			int n = gpr_no(o->reg.value);
			if (n >= 0)
				writes |= 1u << n;
		}
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
			if (!(i->z.attributes & ZYDIS_ATTRIB_HAS_MODRM) || o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
				return false;
			if (i->z.meta.category == ZYDIS_CATEGORY_BITBYTE && i->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
				return false;
		}
	}
	if (writes & b->pinned)
		return false;
	if (f && f->tested & b->taint)
		return false;
	b->taint = taint_after(b->taint, i);
	b->taint_fault |= undefined_flags(i);
	b->written |= writes;
	return true;
}

static void instruction(struct block *b)
{
	static const u8 mixed[] = {GR_ALU, GR_ALU, GR_ALU, GR_SHIFT, GR_MULDIV, GR_BIT, GR_CMOV, GR_MOV, GR_MOV, GR_FLAGS, GR_BMI, GR_LOCK, GR_XCHG,
		GR_ONLY32, GR_ONLY32};
	static const u8 vector[] = {GR_SSE, GR_SSE3, GR_SSE4, GR_CRYPTO, GR_AVX, GR_AVX2, GR_FMA, GR_AVX512, GR_KMASK, GR_MOV, GR_ALU, GR_X87,
		GR_MMX};

	for (int tries = 0; tries < 8; tries++) {
		struct memop m = operand(b);
		struct insn i;
		int g = b->group >= 0 ? b->group : b->t->vec ? vector[below(b->r, sizeof(vector))] : mixed[below(b->r, sizeof(mixed))];
		if (!room(b, 15) || !form_random(b->r, g, true, &m, &i) || !fits(b, &i))
			continue;
		put(b, i.b, i.z.length);
		b->ninsn++;
		return;
	}
}

static void statements(struct block *b, unsigned n)
{
	b->nest++;
	for (unsigned i = 0; i < n; i++)
		statement(b);
	b->nest--;
}

/* CMP EAX, imm32: all flags are defined from here. */
static void define_flags(struct block *b)
{
	if (!b->taint)
		return;
	byte(b, 0x3d);
	put32(b, edge(b->r));
	b->taint = 0;
}

static void push_pop(struct block *b)
{
	struct memop m = operand(b);
	int to = free_reg(b);

	if (m.prefixes == 2 || (m.b[0] & 7) == 4) /* ESP counts differently before and after */
		m = (struct memop){.b = {5}, .len = 1}, disp(&m, operand_address(b), 4);
	switch (below(b->r, 6)) {
	case 0: byte(b, 0x6a); byte(b, rnd(b->r)); break;
	case 1: byte(b, 0x68); put32(b, edge(b->r)); break;
	case 2:
		put(b, m.prefix, m.prefixes);
		byte(b, 0xff);
		m.b[0] |= 0x30;
		put(b, m.b, m.len);
		break;
	case 3: byte(b, 0x06 | below(b->r, 4) << 3); break;
	default: byte(b, 0x50 | below(b->r, 8)); break;
	}
	b->depth += 4;
	statements(b, below(b->r, 3));
	b->depth -= 4;
	if (to < 0 || chance(b->r, 4)) { /* POP to memory */
		u8 p[6] = {0x8f, 5};
		u32 a = operand_address(b);
		memcpy(p + 2, &a, 4);
		put(b, p, 6);
	} else {
		byte(b, 0x58 | to);
		wrote(b, to);
	}
}

static void keep_flags(struct block *b)
{
	define_flags(b);
	byte(b, 0x9c);
	b->depth += 4;
	statements(b, 1);
	b->depth -= 4;
	byte(b, 0x9d);
	b->taint = 0;
}

static void keep_all(struct block *b)
{
	byte(b, 0x60);
	b->depth += 32;
	statements(b, 1 + below(b->r, 2));
	b->depth -= 32;
	byte(b, 0x61);
	b->written = 0xff; /* with what the nested statements left on the stack: nothing but what was there */
}

static void loop(struct block *b)
{
	int counter = free_reg(b);
	bool insn = counter == G_CX && chance(b->r, 2);
	u32 n = chance(b->r, 10) ? 40 : 2 + below(b->r, 4), top;

	if (counter < 0 || b->in_loop)
		return;
	byte(b, 0xb8 | counter);
	put32(b, n);
	wrote(b, counter);
	b->pinned |= 1u << counter;
	b->in_loop = true;
	top = b->len;
	b->taint = ALL_FLAGS; /* of the round before */
	define_flags(b);
	statements(b, 1 + below(b->r, 3));
	b->in_loop = false;
	b->pinned &= ~(1u << counter);
	if (!insn) {
		if (chance(b->r, 2)) {
			byte(b, 0x48 | counter);
			b->taint &= 1;
		} else {
			byte(b, 0x83);
			byte(b, 0xe8 | counter);
			byte(b, 1);
			b->taint = 0;
		}
	}
	if (b->len + 2 - top <= 128) {
		byte(b, insn ? 0xe2 : 0x75);
		byte(b, top - (b->len + 1));
	} else if (!insn) {
		byte(b, 0x0f);
		byte(b, 0x85);
		put32(b, top - (b->len + 4));
	}
}

static void branch_over(struct block *b)
{
	unsigned kind = below(b->r, 8), from;
	u32 taint;

	define_flags(b);
	taint = b->taint;
	if (kind < 4)
		byte(b, 0x70 | below(b->r, 16));
	else if (kind < 6)
		byte(b, 0x0f), byte(b, 0x80 | below(b->r, 16));
	else
		byte(b, kind == 6 ? 0xe3 : 0xeb);
	from = b->len;
	if (kind == 4 || kind == 5)
		put32(b, 0);
	else
		byte(b, 0);
	if (kind == 7) /* over what is no code at all */
		for (unsigned n = below(b->r, 6); n; n--)
			byte(b, rnd(b->r));
	else
		statements(b, 1 + below(b->r, 2));
	if (kind == 4 || kind == 5) {
		u32 d = b->len - from - 4;
		memcpy(b->code + from, &d, 4);
	} else if (b->len - from - 1 < 128) {
		b->code[from] = b->len - from - 1;
	} else {
		b->code[from] = 0;
	}
	b->taint |= taint;
}

static void call(struct block *b)
{
	unsigned n = b->routines ? below(b->r, b->routines) : 0;
	int reg = free_reg(b);
	u32 to;

	if (!b->routines || b->routine[n].written & b->pinned)
		return;
	to = b->routine[n].at;
	switch (below(b->r, 3)) {
	case 0:
		if (reg >= 0) {
			byte(b, 0xb8 | reg);
			put32(b, to);
			wrote(b, reg);
			byte(b, 0xff);
			byte(b, 0xd0 | reg);
			break;
		}
		/* fall through */
	case 1: {
		u32 a = operand_address(b);
		byte(b, 0xc7);
		byte(b, 0x05);
		put32(b, a);
		put32(b, to);
		byte(b, 0xff);
		byte(b, 0x15);
		put32(b, a);
		break;
	}
	default:
		byte(b, 0xe8);
		put32(b, to - (here(b) + 4));
	}
	b->written |= b->routine[n].written;
	b->taint = b->routine[n].taint;
}

static void string(struct block *b)
{
	static const u8 op[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
	u8 o = op[below(b->r, sizeof(op))];
	u32 need = 1u << G_SI | 1u << G_DI | 1u << G_CX | ((o & ~1) == 0xac ? 1u << G_AX : 0);
	static const u8 regs[] = {G_SI, G_DI, G_CX};

	if (b->pinned & need)
		return;
	for (int i = 0; i < 3; i++) {
		byte(b, 0xb8 | regs[i]);
		put32(b, regs[i] == G_CX ? below(b->r, 40) : DATA_FIRST + 512 + below(b->r, 2 * PG - 1024));
	}
	if (chance(b->r, 8))
		byte(b, 0x66);
	if (!chance(b->r, 3))
		byte(b, 0xf2 | below(b->r, 2));
	byte(b, o);
	b->written |= need;
}

static void frame(struct block *b)
{
	if (b->pinned >> G_BP & 1 || b->frame)
		return;
	if (chance(b->r, 3)) {
		static const u8 enter[] = {0xc8, FRAME, 0, 0};
		put(b, enter, 4);
	} else {
		static const u8 usual[] = {0x55, 0x8b, 0xec, 0x81, 0xec, FRAME, 0, 0, 0};
		put(b, usual, sizeof(usual));
		b->taint = 0;
	}
	wrote(b, G_BP);
	b->pinned |= 1u << G_BP;
	b->depth += 4 + FRAME;
	b->frame = true;
	statements(b, 1 + below(b->r, 3));
	b->frame = false;
	b->depth -= 4 + FRAME;
	b->pinned &= ~(1u << G_BP);
	byte(b, 0xc9);
}

static void absolute(struct block *b)
{
	u8 o = 0xa0 | below(b->r, 4);

	if (o < 0xa2 && b->pinned >> G_AX & 1)
		return;
	if (chance(b->r, 8))
		byte(b, 0x66);
	byte(b, o);
	put32(b, operand_address(b));
	if (o < 0xa2)
		wrote(b, G_AX);
}

static void statement(struct block *b)
{
	if (!room(b, 60))
		return;
	b->ninsn++;
	switch (b->nest < 3 ? below(b->r, 28) : 28) {
	case 0: case 1: push_pop(b); break;
	case 2: keep_flags(b); break;
	case 3: keep_all(b); break;
	case 4: case 5: loop(b); break;
	case 6: case 7: branch_over(b); break;
	case 8: case 9: call(b); break;
	case 10: string(b); break;
	case 11: frame(b); break;
	case 12: absolute(b); break;
	default:
		b->ninsn--;
		instruction(b);
		break;
	}
}

/* Routines stand in front and are jumped over. */
static void make_routines(struct block *b)
{
	unsigned n = below(b->r, ROUTINES + 1), from, most = b->max;
	u32 d;

	if (!n || most < 4)
		return;
	byte(b, 0xe9);
	put32(b, 0);
	from = b->len;
	b->in_routine = true;
	for (unsigned i = 0; i < n; i++) {
		b->max = b->ninsn + 4;
		b->written = 0;
		b->taint = ALL_FLAGS;
		b->routine[i].at = here(b);
		if (chance(b->r, 3))
			frame(b);
		statements(b, 1 + below(b->r, 3));
		byte(b, 0xc3);
		b->routine[i].written = b->written;
		b->routine[i].taint = b->taint;
		b->routines = i + 1;
	}
	b->in_routine = false;
	b->max = most;
	b->taint = 0;
	d = b->len - from;
	memcpy(b->code + from - 4, &d, 4);
}

static void choose_registers(struct block *b)
{
	static const u8 usual[] = {G_BX, G_BP, G_SI, G_DI, G_BX, G_BP, G_SI, G_DI, G_AX, G_DX, G_CX};
	struct tcase *t = b->t;

	for (int i = 0; i < 8; i++)
		t->gpr[i] = (u32)t->gpr[i];
	b->pinned = 1u << G_SP;
	for (int i = 0; i < 3; i++) {
		int reg;
		do
			reg = usual[below(b->r, sizeof(usual))];
		while (b->pinned >> reg & 1);
		b->pinned |= 1u << reg;
		if (i == 2)
			b->index = reg;
		else
			b->base[i] = reg;
	}
	t->gpr[b->base[0]] = (DATA_FIRST + PG / 2 + below(b->r, PG)) & ~63u;
	t->gpr[b->base[1]] = DATA_FIRST + PG / 2 + below(b->r, PG);
	if (chance(b->r, 24)) /* outside, read-only, at an end */
		t->gpr[b->base[1]] = chance(b->r, 3) ? (u32)rnd(b->r) : DATA_BASE + below(b->r, DATA_SIZE + 2 * PG);
	if (t->vec && !chance(b->r, 4))
		t->gpr[b->base[1]] &= ~63u;
	t->gpr[b->index] = t->vec ? below(b->r, 4) * 16 : below(b->r, 17);
	t->gpr[G_SP] = STACK_TOP + 4 * below(b->r, 64);
}

bool gen_block32(int g, u64 seed, u64 num, struct tcase *t, unsigned max)
{
	struct rng r;
	struct block b = {.r = &r, .t = t, .group = g};

	case_start(&r, seed, num, t);
	b.max = 1 + below(&r, max);
	t->vec = g >= 0 ? group_is_vector(g) : num & 1;
	t->rflags &= ~0x40000ull; /* #AC: see vague_ac */
	choose_registers(&b);
	make_routines(&b);
	b.max += b.ninsn;
	for (unsigned tries = 0; b.ninsn < b.max && tries < max * 4; tries++)
		statement(&b);
	if (!b.len)
		return false;
	t->entry = CODE_BASE + (num % BATCH) * SLOT + 20;
	t->len = b.len;
	t->ninsn = b.ninsn < 2 ? 2 : b.ninsn; /* a block, even of one */
	t->undef = b.taint;
	t->undef_fault = b.taint_fault;
	if (t->vec)
		random_xs(&r, t, GR_AVX);
	memcpy(t->code, b.code, b.len);
	return true;
}
