/* SPDX-License-Identifier: MIT */
/*
 * Cases: an instruction (form.c) and a state in which it does something worth comparing. Registers that form an address are chosen
 * after the instruction, so that the operand lies where we want it: inside, at a page's end, on the read-only page, outside.
 */
#include <string.h>

#include "gen.h"

#define EDGE_RW (DATA_FIRST + PG)      /* both sides writable */
#define PAGE_RO (DATA_FIRST + 2 * PG)
#define DATA_END (DATA_FIRST + DATA_SIZE)

void gen_init(void)
{
	form_init();
}

int gen_groups(void)
{
	return GR_COUNT;
}

const char *gen_group_name(int g)
{
	return group_names[g];
}

int gen_group(const char *name)
{
	for (int g = 0; g < GR_COUNT; g++)
		if (!strcmp(group_names[g], name))
			return g;
	return -1;
}

bool gen_group_here(int g)
{
	return form_has(g);
}

void gen_list(int g)
{
	form_list(g);
}

void gen_data(struct rng *r, u8 *data)
{
	for (unsigned i = 0; i < DATA_SIZE; i += 64)
		edge_bytes(r, data + i, 64);
}

static u64 want_address(struct rng *r, unsigned size, bool write)
{
	u64 two = DATA_FIRST + below(r, 2 * PG - size - 64);

	switch (below(r, 40)) {
	case 0: return PAGE_RO + below(r, PG - size);
	case 1: return PAGE_RO - below(r, size + 1);
	case 2: return PAGE_RO + PG - below(r, size + 1);
	case 3: return DATA_END - below(r, size + 1);
	case 4: return DATA_FIRST - below(r, size + 1);
	case 5: return chance(r, 4) ? 0x8000000000000000ull | rnd(r) >> 20 : DATA_BASE + below(r, PG);
	case 6: case 7: case 8: return EDGE_RW - below(r, size + 1);
	case 9: return write ? two : PAGE_RO + below(r, PG - size);
	case 10: case 11: case 12: case 13: case 14: return two;
	default: return two & ~63ull;
	}
}

/* A register's number in gpr[], or -1. AH..BH count as their wide register's. */
int gpr_no(ZydisRegister reg)
{
	ZydisRegister wide;

	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_GPR8: case ZYDIS_REGCLASS_GPR16: case ZYDIS_REGCLASS_GPR32: case ZYDIS_REGCLASS_GPR64: break;
	default: return -1;
	}
	wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
	return ZydisRegisterGetId(wide);
}

static void vector_set(u8 *xs, unsigned n, const u8 *v)
{
	if (n < 16) {
		memcpy(xs + 160 + n * 16, v, 16);
		memcpy(xs + XS_AVX + n * 16, v + 16, 16);
		if (xs_len[6])
			memcpy(xs + xs_off[6] + n * 32, v + 32, 32);
	} else if (xs_len[7]) {
		memcpy(xs + xs_off[7] + (n - 16) * 64, v, 64);
	}
}

static void random_x87(struct rng *r, u8 *xs, bool mmx)
{
	u16 fcw = 0x37f, fsw = (u16)(rnd(r) & 0x7f7f & ~0x3fu) | (chance(r, 2) ? (u16)(rnd(r) & 0x7f) : 0);

	if (chance(r, 3))
		fcw = (fcw & ~0xf00) | (below(r, 4) << 10) | ((u16[]){0, 2, 3, 3}[below(r, 4)] << 8);
	if (chance(r, 10)) {
		fcw &= ~below(r, 64);
		if (!chance(r, 4))
			fsw &= ~0x3f;
	}
	if (mmx)
		fsw &= 0x4700;
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	memcpy(xs, &fcw, 2);
	memcpy(xs + 2, &fsw, 2);
	xs[4] = chance(r, 3) ? rnd(r) : chance(r, 4) ? 0 : 0xff;
	for (int i = 0; i < 8; i++) {
		u8 *p = xs + 32 + i * 16;
		u16 se;
		edge_bytes(r, p, 8);
		if (mmx)
			se = 0xffff;
		else if (chance(r, 4))
			se = (u16)(rnd(r) & 0x8000) | (chance(r, 2) ? 0x7fff : 0);
		else
			se = (u16)(rnd(r) & 0x8000) | (16383 - 70 + below(r, 140));
		if (!mmx && !chance(r, 6))
			p[7] |= 0x80; /* else a pseudo-denormal or unnormal */
		if (!mmx && chance(r, 6))
			memset(p, 0, 7), p[7] = chance(r, 4) ? 0 : 0x80 | (rnd(r) & 0x40);
		memcpy(p + 8, &se, 2);
	}
}

void random_xs(struct rng *r, struct tcase *t, int g)
{
	u64 bv = host_xcr0 & 0xff;
	u32 mxcsr = 0x1f80;

	memset(t->xs, 0, XS_SIZE);
	if (chance(r, 8))
		bv &= rnd(r) | 2;
	random_x87(r, t->xs, g == GR_MMX);
	if (chance(r, 3))
		mxcsr |= below(r, 4) << 13;
	if (chance(r, 6))
		mxcsr |= (chance(r, 2) ? 0x8000 : 0) | (chance(r, 2) ? 0x40 : 0);
	if (chance(r, 6))
		mxcsr |= below(r, 64);
	if (chance(r, 10))
		mxcsr &= ~(below(r, 64) << 7);
	memcpy(t->xs + 24, &mxcsr, 4);
	for (unsigned n = 0; n < 32; n++) {
		u8 v[64];
		edge_bytes(r, v, 64);
		vector_set(t->xs, n, v);
	}
	if (xs_len[5])
		for (int i = 0; i < 8; i++) {
			u64 k = chance(r, 3) ? edge(r) : rnd(r);
			memcpy(t->xs + xs_off[5] + i * 8, &k, 8);
		}
	memcpy(t->xs + XS_BV, &bv, 8);
	/* A component left in its initial state has no contents. */
	xs_normalize(t->xs);
	memcpy(t->xs + XS_BV, &bv, 8);
}

static void random_gprs(struct rng *r, struct tcase *t)
{
	for (int i = 0; i < 16; i++)
		t->gpr[i] = edge(r);
	t->gpr[G_SP] = EDGE_RW + 256 + 8 * below(r, 256);
	t->rflags = 0x202 | (rnd(r) & 0x8d5) | (chance(r, 3) ? 0x400 : 0) | (chance(r, 64) ? 0x40000 : 0);
}

/* Where the code stands in its slot: with room for short branches, or at a page's end if the slot has one. */
static void place(struct rng *r, struct tcase *t, unsigned len)
{
	u32 slot = (t->num % BATCH) * SLOT, at = 140 + below(r, 24);
	u32 end = (slot + SLOT - 1) / PG * PG;

	if (slot + SLOT == CODE_SIZE)
		end = CODE_SIZE;
	if (end > slot + 160 && end < slot + SLOT + 1)
		at = end - slot - 1 - below(r, len + 2);
	t->entry = CODE_BASE + slot + at;
	t->len = len;
	if (t->entry + len > CODE_BASE + slot + SLOT)
		t->len = CODE_BASE + slot + SLOT - t->entry;
}

static struct poke *add_poke(struct tcase *t, u64 addr, const void *p, u32 len)
{
	struct poke *k;

	if (t->npoke == POKES || addr < DATA_FIRST || addr + len > DATA_END)
		return NULL;
	k = &t->poke[t->npoke++];
	k->off = addr - DATA_FIRST;
	k->len = len;
	memcpy(k->data, p, len);
	return k;
}

struct steer {
	u32 pinned;
	u64 ea[4];
	unsigned n;
};

static u64 seg_base(const struct tcase *t, ZydisRegister s)
{
	return s == ZYDIS_REGISTER_FS ? t->fs : s == ZYDIS_REGISTER_GS ? t->gs : 0;
}

static void set_addr_reg(struct rng *r, struct tcase *t, struct steer *s, int n, u64 v, unsigned asz)
{
	if (s->pinned >> n & 1)
		return;
	if (asz == 4) /* what lies above is ignored */
		v = (u32)v | (chance(r, 2) ? rnd(r) << 32 : 0);
	if (asz == 2)
		v = (u16)v | (chance(r, 2) ? rnd(r) << 16 : 0);
	t->gpr[n] = v;
	s->pinned |= 1u << n;
}

static void set_disp(struct insn *i, s64 v)
{
	for (unsigned b = 0; b < i->z.raw.disp.size / 8u; b++)
		i->b[i->z.raw.disp.offset + b] = v >> (8 * b);
}

static void vsib_index(struct rng *r, struct tcase *t, const struct insn *i, ZydisRegister index)
{
	bool q = i->z.opcode & 1;
	bool wild = chance(r, 12);
	u8 v[64];

	for (unsigned e = 0; e < 64; e += q ? 8 : 4) {
		s64 x = (s64)below(r, 256) - 128;
		if (wild && chance(r, 3))
			x = (s64)below(r, 8 * PG) - 4 * PG;
		memcpy(v + e, &x, q ? 8 : 4);
	}
	vector_set(t->xs, ZydisRegisterGetId(index), v);
}

static void steer_one(struct rng *r, struct tcase *t, struct insn *i, const ZydisDecodedOperand *o, struct steer *s)
{
	unsigned size = o->size / 8 ? o->size / 8 : 8, asz = i->z.address_width / 8;
	bool write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE, vsib = o->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
	int base = gpr_no(o->mem.base), index = gpr_no(o->mem.index);
	u64 want, off, scale = o->mem.scale ? o->mem.scale : 1;
	s64 disp = o->mem.disp.value;

	if (size > 4096)
		size = 512;
	if (code_bits == 32 && base == G_SP) /* a stack has the width of SS */
		asz = 4;
	want = want_address(r, size < 1024 ? size : 1024, write);
	if (i->z.meta.category == ZYDIS_CATEGORY_XSAVE || i->z.meta.category == ZYDIS_CATEGORY_XSAVEOPT)
		want = chance(r, 12) ? want : (DATA_FIRST + below(r, 4 * 1024)) & ~63ull;
	/* Whether what is moved in pieces may wrap at the end of a segment of 4 GiB is up to the CPU. */
	off = seg_base(t, o->mem.segment);
	if (code_bits == 32 && want < off && want + (size > 512 ? 4096 : size) > off)
		want = (off + 63 + below(r, 1024)) & ~63ull;
	if (vsib && chance(r, 2))
		want = EDGE_RW - 512 + below(r, 1024);
	if (index == G_SP)
		index = -1;
	off = want - seg_base(t, o->mem.segment);
	if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) {
		disp = (s64)(off - (t->entry + i->z.length));
		if (disp != (s32)disp)
			disp = (s32)(want - (t->entry + i->z.length));
		set_disp(i, disp);
		want = t->entry + i->z.length + disp + seg_base(t, o->mem.segment);
	} else if (base < 0 && index < 0 && !vsib) {
		set_disp(i, off);
	} else {
		if (index >= 0 && index != base && base >= 0 && !(s->pinned >> index & 1))
			set_addr_reg(r, t, s, index, chance(r, 2) ? edge(r) : (u64)below(r, 64), asz);
		if (base >= 0 && index == base)
			set_addr_reg(r, t, s, base, (off - disp) / (scale + 1), asz);
		else if (base >= 0)
			set_addr_reg(r, t, s, base, off - disp - (index >= 0 ? t->gpr[index] * scale : 0), asz);
		else if (index >= 0) {
			if (i->z.raw.disp.size == 32) {
				s32 d = (s32)below(r, 4096);
				set_disp(i, d);
				disp = d;
				set_addr_reg(r, t, s, index, (off - disp) / scale, asz);
				want = t->gpr[index] * scale + disp + seg_base(t, o->mem.segment);
			}
		} else if (vsib) {
			set_disp(i, (s32)off);
		}
		if (base >= 0) {
			want = t->gpr[base] + (index >= 0 ? t->gpr[index] * scale : 0) + disp;
			want = (asz == 4 ? (u32)want : asz == 2 ? (u16)want : want) + seg_base(t, o->mem.segment);
			if (code_bits == 32)
				want = (u32)want;
		}
	}
	if (vsib)
		vsib_index(r, t, i, o->mem.index);
	if (s->n < 4)
		s->ea[s->n++] = want;
}

/* BT and its like with a register offset reach far from their operand. */
static void tame_bit_offset(struct rng *r, struct tcase *t, struct insn *i, const struct steer *s)
{
	int n;

	if (i->op[0].type != ZYDIS_OPERAND_TYPE_MEMORY || i->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return;
	n = gpr_no(i->op[1].reg.value);
	if (n >= 0 && !(s->pinned >> n & 1))
		t->gpr[n] = chance(r, 16) ? edge(r) : (u64)((s64)below(r, 4096) - 2048);
}

static u64 code_target(struct rng *r, const struct tcase *t)
{
	u64 slot = CODE_BASE + (t->num % BATCH) * SLOT;

	if (chance(r, 10))
		return chance(r, 2) ? DATA_FIRST + below(r, PG) : 0x30000000 + below(r, 0x10000000);
	return slot + below(r, 100);
}

static void steer_branch(struct rng *r, struct tcase *t, struct insn *i, const struct steer *s)
{
	u64 target, slot = CODE_BASE + (t->num % BATCH) * SLOT;

	if (i->z.raw.imm[0].is_relative) {
		s64 d = i->z.raw.imm[0].value.s;
		u64 next = t->entry + i->z.length;
		target = next + d;
		if (i->z.raw.imm[0].size > 8 && !chance(r, 4))
			target = code_target(r, t);
		if (target >= CODE_BASE - 64 && target < CODE_BASE + CODE_SIZE + 64 &&
			(target < slot || target >= slot + SLOT - 1 || (target >= t->entry && target < next)))
			target = next < slot + SLOT ? next : slot;
		d = target - next;
		if (i->z.raw.imm[0].size == 8 && d != (s8)d)
			d = 0;
		if (i->z.raw.imm[0].size == 16 && d != (int16_t)d)
			d = 0x1000; /* RIP is cut to 16 bits: outside */
		for (unsigned b = 0; b < i->z.raw.imm[0].size / 8u; b++)
			i->b[i->z.raw.imm[0].offset + b] = d >> (8 * b);
		return;
	}
	target = code_target(r, t);
	if (i->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && i->z.meta.category != ZYDIS_CATEGORY_RET) {
		int n = gpr_no(i->op[0].reg.value);
		if (n >= 0 && n != G_SP)
			t->gpr[n] = target;
		else if (n == G_SP)
			t->gpr[n] = DATA_FIRST + PG;
		return;
	}
	for (unsigned k = 0; k < s->n; k++)
		add_poke(t, s->ea[k], &target, 8);
}

static void special_pokes(struct rng *r, struct tcase *t, struct insn *i, struct steer *s)
{
	u8 b[64];

	if (!s->n)
		return;
	if (i->z.meta.category == ZYDIS_CATEGORY_XSAVE || i->z.meta.category == ZYDIS_CATEGORY_XSAVEOPT ||
		i->z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE || i->z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE64 ||
		i->z.meta.isa_set == ZYDIS_ISA_SET_SSEMXCSR) {
		u64 h[8] = {0};
		u32 mx = 0x1f80 | below(r, 64) | below(r, 4) << 13;
		memset(b, 0, 64);
		edge_bytes(r, b + 32, 32);
		b[0] = 0x7f;
		b[1] = 3;
		b[4] = rnd(r);
		memcpy(b + 24, &mx, 4);
		if (i->z.meta.isa_set == ZYDIS_ISA_SET_SSEMXCSR)
			memcpy(b, &mx, 4);
		if (!chance(r, 10))
			add_poke(t, s->ea[0], b, i->z.meta.isa_set == ZYDIS_ISA_SET_SSEMXCSR ? 4 : 64);
		if (i->z.meta.category == ZYDIS_CATEGORY_XSAVE) {
			h[0] = host_xcr0 & 0xff & rnd(r);
			if (chance(r, 3))
				h[1] = 1ull << 63 | (host_xcr0 & 0xff);
			if (!chance(r, 12))
				add_poke(t, s->ea[0] + 512, h, 64);
			if (!(s->pinned & 5)) {
				t->gpr[G_AX] = chance(r, 3) ? edge(r) : 0xe7;
				t->gpr[G_DX] = chance(r, 3) ? edge(r) : 0;
				if (i->z.mnemonic == ZYDIS_MNEMONIC_XGETBV)
					t->gpr[G_CX] = 0;
			}
		}
		return;
	}
	if (t->npoke < POKES && !chance(r, 3)) {
		unsigned n = i->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && i->op[0].size ? i->op[0].size / 8 : 16;
		edge_bytes(r, b, 64);
		add_poke(t, s->ea[0], b, n && n <= 64 ? n : 64);
	}
}

static bool is_gather(const struct insn *i)
{
	for (unsigned k = 0; k < i->z.operand_count_visible; k++)
		if (i->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY && i->op[k].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
			return true;
	return false;
}

/* x87 environments hold the addresses of the last instruction and operand: the two sides cannot agree on them. */
static void skip_pointers(struct tcase *t, const struct insn *i, const struct steer *s)
{
	u64 ea = s->n ? s->ea[0] : 0;

	switch (i->z.mnemonic) {
	case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FNSAVE: case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FXSAVE: case ZYDIS_MNEMONIC_FXSAVE64: case ZYDIS_MNEMONIC_FXRSTOR: case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_XSAVE: case ZYDIS_MNEMONIC_XSAVE64: case ZYDIS_MNEMONIC_XSAVEC: case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVEOPT: case ZYDIS_MNEMONIC_XSAVEOPT64: case ZYDIS_MNEMONIC_XRSTOR: case ZYDIS_MNEMONIC_XRSTOR64:
		t->big_operand = t->vague_ac = true;
		break;
	case ZYDIS_MNEMONIC_VMASKMOVPS: case ZYDIS_MNEMONIC_VMASKMOVPD: case ZYDIS_MNEMONIC_VPMASKMOVD: case ZYDIS_MNEMONIC_VPMASKMOVQ:
		t->big_operand = true;
		break;
	case ZYDIS_MNEMONIC_CMPSB: case ZYDIS_MNEMONIC_CMPSW: case ZYDIS_MNEMONIC_CMPSQ: case ZYDIS_MNEMONIC_CMPSD:
		t->two_operands = true;
		break;
	case ZYDIS_MNEMONIC_PUSHA: case ZYDIS_MNEMONIC_PUSHAD: case ZYDIS_MNEMONIC_POPA: case ZYDIS_MNEMONIC_POPAD:
		t->many = true;
		break;
	case ZYDIS_MNEMONIC_FBLD: case ZYDIS_MNEMONIC_FBSTP: case ZYDIS_MNEMONIC_MASKMOVQ: case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		t->vague_ac = true;
		break;
	default:
		for (unsigned k = 0; k < i->z.operand_count_visible; k++)
			if (i->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY && i->op[k].size == 80)
				t->vague_ac = true;
		if (i->z.meta.category == ZYDIS_CATEGORY_COMPRESS || i->z.meta.category == ZYDIS_CATEGORY_EXPAND)
			t->vague_ac = true;
		if (i->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && i->z.raw.evex.aaa)
			t->big_operand = t->vague_ac = true;
		if (i->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && i->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && is_gather(i)) {
			t->gather_vl = i->op[0].size / 8 < 16 ? 16 : i->op[0].size / 8;
			t->gather_reg = ZydisRegisterGetId(i->op[0].reg.value);
		}
		break;
	}
	if (ea < DATA_FIRST || ea >= DATA_END)
		return;
	switch (i->z.mnemonic) {
	case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FNSAVE:
		t->skip_off = ea - DATA_FIRST + (i->z.operand_width == 16 ? 6 : 12);
		t->skip_len = i->z.operand_width == 16 ? 8 : 16;
		break;
	case ZYDIS_MNEMONIC_FXSAVE: case ZYDIS_MNEMONIC_FXSAVE64: case ZYDIS_MNEMONIC_XSAVE: case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEC: case ZYDIS_MNEMONIC_XSAVEC64: case ZYDIS_MNEMONIC_XSAVEOPT: case ZYDIS_MNEMONIC_XSAVEOPT64:
		t->skip_off = ea - DATA_FIRST + 6;
		t->skip_len = 18;
		if (i->z.mnemonic != ZYDIS_MNEMONIC_FXSAVE && i->z.mnemonic != ZYDIS_MNEMONIC_FXSAVE64 && ea + 520 < DATA_END)
			t->opt_state = ea - DATA_FIRST + 512;
		break;
	default: break;
	}
}

u32 undefined_flags(const struct insn *i)
{
	u32 u = i->z.cpu_flags ? i->z.cpu_flags->undefined : 0;

	/* Shifts by a constant 1: OF is defined. A rotate's AF, PF, SF, ZF are untouched in any case. */
	if (i->z.meta.category == ZYDIS_CATEGORY_ROTATE)
		u &= 0x800;
	if ((i->z.opcode == 0xd0 || i->z.opcode == 0xd1) && i->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
		u &= ~0x800u;
	return u & 0x8d5;
}

/* Flags that are undefined after i, if `taint` were before it. A shift by zero leaves all as they were. */
u32 taint_after(u32 taint, const struct insn *i)
{
	const ZydisAccessedFlags *f = i->z.cpu_flags;

	if (!f)
		return taint;
	if (group_of(&i->z, i->op) != GR_SHIFT)
		taint &= ~(f->modified | f->set_0 | f->set_1);
	return taint | undefined_flags(i);
}

static void state_for(struct rng *r, struct tcase *t, struct insn *i, int g)
{
	struct steer s = {0};

	for (int k = 0; k < i->z.operand_count; k++)
		if (i->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY)
			steer_one(r, t, i, &i->op[k], &s);
	if (i->z.meta.category == ZYDIS_CATEGORY_BITBYTE)
		tame_bit_offset(r, t, i, &s);
	if (g == GR_BRANCH)
		steer_branch(r, t, i, &s);
	if (i->z.meta.category == ZYDIS_CATEGORY_STRINGOP || i->z.meta.category == ZYDIS_CATEGORY_IOSTRINGOP) {
		u64 n = chance(r, 12) ? below(r, 20000) : below(r, 40);
		if (!(s.pinned & 2))
			t->gpr[G_CX] = i->z.address_width < 64 && chance(r, 2) ? n | rnd(r) << i->z.address_width : n;
	}
	if (i->z.mnemonic == ZYDIS_MNEMONIC_XGETBV)
		t->gpr[G_CX] = 0;
	if (g == GR_MULDIV && !chance(r, 3)) { /* quotients that fit */
		t->gpr[G_DX] = chance(r, 2) ? 0 : chance(r, 2) ? ~0ull : below(r, 100);
		if (chance(r, 2))
			t->gpr[G_AX] = (s64)rnd(r) >> below(r, 64);
	}
	special_pokes(r, t, i, &s);
	skip_pointers(t, i, &s);
}

void case_start(struct rng *r, u64 seed, u64 num, struct tcase *t)
{
	struct rng b = {mix(seed ^ 0xba5e, num / BATCH)};

	r->s = mix(seed, num);
	memset(t, 0, offsetof(struct tcase, xs));
	t->num = num;
	memset(t->code, 0xcc, sizeof(t->code));
	t->fs = DATA_FIRST + below(&b, 2 * PG);
	t->gs = chance(&b, 2) ? rnd(&b) >> 18 : 0xfffffffffffff000ull - below(&b, 1 << 20);
	if (code_bits == 32)
		t->gs = 0;
	random_gprs(r, t);
}

static void finish(struct rng *r, struct tcase *t, struct insn *i, int g)
{
	t->ninsn = 1;
	t->mnem = i->bad ? 0 : i->z.mnemonic;
	t->isa_set = i->bad ? 0 : i->z.meta.isa_set;
	t->vec = group_is_vector(g);
	t->bases = g == GR_FSGS;
	if (t->vec)
		random_xs(r, t, g);
	else
		memset(t->xs, 0, 576);
	place(r, t, i->z.length);
	if (!i->bad) {
		state_for(r, t, i, g);
		t->undef = t->undef_fault = undefined_flags(i);
	}
	for (int n = 0; code_bits == 32 && n < 8; n++)
		t->gpr[n] = (u32)t->gpr[n];
	memcpy(t->code, i->b, i->z.length);
}

bool gen_case(int g, u64 seed, u64 num, struct tcase *t)
{
	struct rng r;
	struct insn i;

	case_start(&r, seed, num, t);
	if (!form_random(&r, g, false, NULL, &i))
		return false;
	finish(&r, t, &i, g);
	return true;
}

bool gen_bytes(const u8 *code, unsigned len, u64 seed, u64 num, struct tcase *t)
{
	struct rng r;
	struct insn i;
	int g;

	case_start(&r, seed, num, t);
	i.bad = !decode(code, len, &i);
	if (i.bad)
		i.z.length = len;
	g = i.bad ? GR_INVALID : group_of(&i.z, i.op);
	if (g < 0) {
		fprintf(stderr, "fuzz: this instruction is not run (see group.c)\n");
		return false;
	}
	finish(&r, t, &i, g);
	return true;
}

/*
 * In a block R14, R15 and RSP stay what they are, as its addresses come from them, and so do RBX and RBP if it is a loop, but for the instructions
 * that go on to the next turn: RBX is the index, RBP counts.
 */
static bool block_takes(const struct insn *i, u32 *taint, bool loop)
{
	const ZydisAccessedFlags *f = i->z.cpu_flags;

	/* Environments hold addresses and selectors on which the two sides cannot agree. */
	if (i->z.mnemonic == ZYDIS_MNEMONIC_FNSTENV || i->z.mnemonic == ZYDIS_MNEMONIC_FNSAVE)
		return false;
	for (int k = 0; k < i->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &i->op[k];
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
			int n = gpr_no(o->reg.value);
			if (n == 14 || n == 15 || n == G_SP || (loop && (n == G_BX || n == G_BP)))
				return false;
		}
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
			int n = gpr_no(o->mem.base);
			if ((n != 14 && n != 15) || (o->mem.index != ZYDIS_REGISTER_NONE && !(loop && o->mem.index == ZYDIS_REGISTER_RBX)))
				return false;
			if (i->z.meta.category == ZYDIS_CATEGORY_BITBYTE && i->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
				return false;
		}
	}
	if (!f)
		return true;
	if (f->tested & *taint)
		return false;
	*taint = taint_after(*taint, i);
	return true;
}

/* [R14 or R15 + RBX * scale (+ disp8)] */
static struct memop indexed(struct rng *r)
{
	bool disp = chance(r, 2);
	struct memop m = {.b = {disp ? 0x44 : 0x04, below(r, 4) << 6 | G_BX << 3 | (disp && chance(r, 2) ? 7 : 6), rnd(r) & 0x78}, .len = disp ? 3 : 2};

	return m;
}

/* What moves the addresses of a loop, and a jump over a few bytes. */
static unsigned between(struct rng *r, u8 *b, u32 *taint)
{
	static const struct {
		u8 len, b[4];
		u32 keeps; /* flags */
	} forms[] = {
		{4, {0x48, 0x83, 0xc3, 0x08}, 0},      /* add rbx, 8 */
		{4, {0x48, 0x83, 0xeb, 0x01}, 0},      /* sub rbx, 1 */
		{4, {0x48, 0x8d, 0x5b, 0x04}, 0x8d5},  /* lea rbx, [rbx + 4] */
		{3, {0x48, 0xff, 0xc3}, 1},            /* inc rbx */
		{4, {0x49, 0x83, 0xc6, 0x10}, 0},      /* add r14, 16 */
		{4, {0x49, 0x83, 0xef, 0x08}, 0},      /* sub r15, 8 */
		{4, {0xeb, 0x02, 0xcc, 0xcc}, 0x8d5},  /* jmp */
	};
	unsigned k = below(r, sizeof(forms) / sizeof(forms[0]));

	memcpy(b, forms[k].b, forms[k].len);
	*taint &= forms[k].keeps;
	return forms[k].len;
}

/* Once more, up to 12 times. */
static unsigned go_back(struct rng *r, u8 *b, int to, u32 *taint)
{
	unsigned n = 0;

	if (chance(r, 2) && !(*taint & 1)) {
		b[n++] = 0xff, b[n++] = 0xcd; /* dec ebp */
	} else {
		b[n++] = 0x83, b[n++] = 0xed, b[n++] = 1; /* sub ebp, 1 */
	}
	*taint = 0;
	s32 rel = -to - (s32)n - 6;
	b[n++] = 0x0f, b[n++] = 0x85; /* jnz */
	memcpy(b + n, &rel, 4);
	return n + 4;
}

bool gen_block(int g, u64 seed, u64 num, struct tcase *t, unsigned max)
{
	static const u8 mixed[] = {GR_ALU, GR_ALU, GR_SHIFT, GR_MULDIV, GR_BIT, GR_CMOV, GR_MOV, GR_MOV, GR_FLAGS, GR_BMI, GR_LOCK, GR_XCHG};
	static const u8 vector[] = {GR_SSE, GR_SSE3, GR_SSE4, GR_CRYPTO, GR_AVX, GR_AVX2, GR_FMA, GR_AVX512, GR_KMASK, GR_MOV, GR_ALU, GR_X87};
	u8 all[SLOT - 40];
	unsigned n, len = 0, start = 0;
	u32 taint = 0;
	struct rng r;

	if (code_bits == 32)
		return gen_block32(g, seed, num, t, max);
	case_start(&r, seed, num, t);
	n = 1 + below(&r, max);
	bool loop = chance(&r, 2);
	t->vec = g >= 0 ? group_is_vector(g) : num & 1;
	t->rflags &= ~0x40000ull; /* #AC: see vague_ac */
	if (loop && chance(&r, 3)) /* what comes before it */
		len = start = between(&r, all, &taint);
	for (unsigned tries = 0; t->ninsn < n && tries < n * 8; tries++) {
		struct insn i;
		struct memop m = indexed(&r);
		int k = g >= 0 ? g : t->vec ? vector[below(&r, sizeof(vector))] : mixed[below(&r, sizeof(mixed))];
		if (loop && chance(&r, 4) && len + 24 < sizeof(all)) {
			len += between(&r, all + len, &taint);
			continue;
		}
		if (!form_random(&r, k, true, loop && chance(&r, 2) ? &m : NULL, &i) || len + i.z.length + 16 > sizeof(all) || !block_takes(&i, &taint, loop))
			continue;
		memcpy(all + len, i.b, i.z.length);
		len += i.z.length;
		t->ninsn++;
		t->undef_fault |= taint;
	}
	if (!t->ninsn)
		return false;
	if (loop) {
		len += go_back(&r, all + len, (int)(len - start), &taint);
		t->gpr[G_BX] = below(&r, 64);
		t->gpr[G_BP] = 1 + below(&r, 12);
		t->ninsn++;
	}
	t->entry = CODE_BASE + (num % BATCH) * SLOT + 20;
	t->len = len;
	t->undef = taint;
	t->undef_fault |= taint;
	if (t->vec)
		random_xs(&r, t, GR_AVX);
	t->gpr[14] = DATA_FIRST + 128 + (below(&r, PG) & ~63u);
	t->gpr[15] = EDGE_RW - 128 + below(&r, 256);
	memcpy(t->code, all, len);
	return true;
}
