/* SPDX-License-Identifier: MIT */
/*
 * Gathers and scatters, and MASKMOVQ/MASKMOVDQU, in C on the spilled vector state: element by element, so that a fault leaves what the
 * architecture says, the elements done so far and their mask cleared.
 *
 * Progress is written back only while the instruction has no MMIO access in its log (c->mmio): a restart answers those from the log
 * in the order they were made, so it must make the same ones again.
 */
#include "interp/stub_int.h"
#include "base/string.h"
#include "interp/fast.h"

/* insn.imm of a gather or scatter */
union vsib {
	struct {
		u8 reg;    /* destination, or source of a scatter */
		u8 index, mask;
		u8 isz, dsz; /* bytes of an index and of an element: 4, 8 */
		u8 n;      /* elements */
		u8 vl;     /* bytes of the register that the destination's upper part is cleared from */
		u8 flags;
	};
	u64 imm;
};
enum { VS_EVEX = 1, VS_SCATTER = 2 };

static u64 asz_mask(const struct insn *i)
{
	return i->asz == 8 ? ~0ull : i->asz == 4 ? 0xffffffffull : 0xffffull;
}

static u64 mask_bits(struct cpu *c, union vsib v)
{
	u8 b[64];
	u64 m = 0;

	if (v.flags & VS_EVEX)
		return xs_kreg_read(c, v.mask) & (BIT(v.n) - 1);
	xs_vec_read(c, v.mask, b, 64);
	for (unsigned k = 0; k < v.n; k++)
		m |= (u64)(b[(k + 1) * v.dsz - 1] >> 7) << k;
	return m;
}

/* Elements below `done` are finished: their mask is clear; all else is as it was (EVEX forms with 32-bit indices clear what lies above
 * the vector with the first element, the others at the end: up to the CPU, and this is what one does). */
static void write_progress(struct cpu *c, union vsib v, const u8 *data, unsigned done, bool any)
{
	u8 b[64];

	if (any && !(v.flags & VS_SCATTER))
		xs_vec_write(c, v.reg, data, v.flags & VS_EVEX && v.isz == 4 ? v.vl : 64);
	if (v.flags & VS_EVEX) {
		xs_kreg_write(c, v.mask, done < 64 ? xs_kreg_read(c, v.mask) & ~(BIT(done) - 1) : 0);
		return;
	}
	xs_vec_read(c, v.mask, b, 64);
	memset(b, 0, done * v.dsz);
	xs_vec_write(c, v.mask, b, 64);
}

static void write_end(struct cpu *c, union vsib v, u8 *data)
{
	static const u8 zero[64];

	if (!(v.flags & VS_SCATTER))
		xs_vec_write(c, v.reg, data, v.vl);
	if (v.flags & VS_EVEX)
		xs_kreg_write(c, v.mask, 0);
	else
		xs_vec_write(c, v.mask, zero, 32);
}

static void op_vsib(struct cpu *c, const struct insn *i)
{
	union vsib v = { .imm = i->imm };
	u32 need = FPU_OK_VEX | FPU_OK_AVX | (v.flags & VS_EVEX ? FPU_OK_AVX512 : 0);
	u8 index[64], data[64];

	if (unlikely(need & ~c->fpu_ok))
		stub_unavailable(c, i, need);
	cpu_fpu_put(c);
	xs_vec_read(c, v.index, index, 64);
	xs_vec_read(c, v.reg, data, 64);
	u64 mask = mask_bits(c, v), base = ea_of(c, i);
	bool any = false;
	for (unsigned k = 0; k < v.n; k++) {
		u64 val = 0;
		s64 x;
		if (!(mask >> k & 1))
			continue;
		if (v.isz == 4)
			x = *(s32 *)(index + 4 * k);
		else
			x = *(s64 *)(index + 8 * k);
		u64 ea = (base + ((u64)x << i->scale)) & asz_mask(i);
		if (k && !c->mmio.n)
			write_progress(c, v, data, k, any);
		gva_t la = seg_linear_noac(c, i->seg, ea, v.dsz, v.flags & VS_SCATTER ? ACC_WRITE : ACC_READ);
		if (v.flags & VS_SCATTER) {
			memcpy(&val, data + k * v.dsz, v.dsz);
			lin_st(c, la, v.dsz, val, c->mmu_idx);
		} else {
			val = lin_ld(c, la, v.dsz, c->mmu_idx);
			memcpy(data + k * v.dsz, &val, v.dsz);
		}
		any = true;
	}
	if (v.n * v.dsz < 64)
		memset(data + v.n * v.dsz, 0, 64 - v.n * v.dsz);
	write_end(c, v, data);
}

bool vsib_lower(const struct decoded *d, struct insn *i)
{
	const ZydisDecodedInstruction *z = &d->z;
	const ZydisDecodedOperand *mem = NULL, *reg = NULL;
	union vsib v = { .imm = 0 };
	bool evex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX, mask_seen = false;

	for (unsigned k = 0; k < z->operand_count_visible; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			mem = o;
		} else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			ZydisRegisterClass rc = ZydisRegisterGetClass(o->reg.value);
			bool last_vec = !evex && reg;
			if (rc == ZYDIS_REGCLASS_MASK || last_vec) {
				v.mask = (u8)ZydisRegisterGetId(o->reg.value);
				mask_seen = true;
			} else {
				reg = o;
				v.reg = (u8)ZydisRegisterGetId(o->reg.value);
			}
		}
	}
	if (!mem || mem->mem.type != ZYDIS_MEMOP_TYPE_VSIB || !reg || !mask_seen)
		return false;
	if (z->meta.isa_set == ZYDIS_ISA_SET_AVX512PF_512)
		return false;
	/* The mnemonic's last letters: index size, element size. */
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_VPGATHERDD: case ZYDIS_MNEMONIC_VGATHERDPS: v.isz = 4, v.dsz = 4; break;
	case ZYDIS_MNEMONIC_VPGATHERDQ: case ZYDIS_MNEMONIC_VGATHERDPD: v.isz = 4, v.dsz = 8; break;
	case ZYDIS_MNEMONIC_VPGATHERQD: case ZYDIS_MNEMONIC_VGATHERQPS: v.isz = 8, v.dsz = 4; break;
	case ZYDIS_MNEMONIC_VPGATHERQQ: case ZYDIS_MNEMONIC_VGATHERQPD: v.isz = 8, v.dsz = 8; break;
	case ZYDIS_MNEMONIC_VPSCATTERDD: case ZYDIS_MNEMONIC_VSCATTERDPS: v.isz = 4, v.dsz = 4, v.flags = VS_SCATTER; break;
	case ZYDIS_MNEMONIC_VPSCATTERDQ: case ZYDIS_MNEMONIC_VSCATTERDPD: v.isz = 4, v.dsz = 8, v.flags = VS_SCATTER; break;
	case ZYDIS_MNEMONIC_VPSCATTERQD: case ZYDIS_MNEMONIC_VSCATTERQPS: v.isz = 8, v.dsz = 4, v.flags = VS_SCATTER; break;
	case ZYDIS_MNEMONIC_VPSCATTERQQ: case ZYDIS_MNEMONIC_VSCATTERQPD: v.isz = 8, v.dsz = 8, v.flags = VS_SCATTER; break;
	default: return false;
	}
	v.index = (u8)ZydisRegisterGetId(mem->mem.index);
	/* VL is that of the wider of index and data. */
	unsigned L = evex ? z->raw.evex.L | z->raw.evex.L2 << 1 : z->raw.vex.L;
	unsigned vl = 16u << L;
	v.n = (u8)(vl / MAX(v.isz, v.dsz));
	v.vl = (u8)MAX(v.n * v.dsz, 16);
	v.flags |= evex ? VS_EVEX : 0;
	if (evex && !v.mask)
		return false;
	i->imm = v.imm;
	i->index = SLOT_ZERO;
	i->scale = (u8)__builtin_ctz(mem->mem.scale ? mem->mem.scale : 1);
	i->op = op_vsib;
	i->fn = h_op;
	return true;
}

/* ---- MASKMOVQ, MASKMOVDQU: bytes of the first register whose mask byte has its top bit set, to seg:rDI ---- */

union maskmov {
	struct {
		u8 src, mask, size, need;
	};
	u64 imm;
};

static void op_maskmov(struct cpu *c, const struct insn *i)
{
	union maskmov v = { .imm = i->imm };
	u8 src[16], mask[16];
	u64 ea = ea_of(c, i);

	if (unlikely(v.need & ~c->fpu_ok))
		stub_unavailable(c, i, v.need);
	if (v.size == 8) { /* MMX: as every such instruction, x87 to MMX mode first */
		x87_pending(c, i); /* else the host would fault here, outside of any stub */
		u32 t;
		__asm__ volatile("movd %%mm0, %0" : "=r"(t)); /* reads only: the exponents stay */
		cpu_fpu_put(c);
		memcpy(src, c->xsave + 32 + 16 * v.src, 8); /* TOP is 0 now: ST(n) is MMn */
		memcpy(mask, c->xsave + 32 + 16 * v.mask, 8);
	} else {
		cpu_fpu_put(c);
		xs_vec_read(c, v.src, src, 16);
		xs_vec_read(c, v.mask, mask, 16);
	}
	/* All bytes count for faults, masked or not, as the CPUs do it. */
	gva_t la = seg_linear_noac(c, i->seg, ea, v.size, ACC_WRITE);
	lin_check_write(c, la, v.size, c->mmu_idx);
	for (unsigned n = 0; n < v.size; n++)
		if (mask[n] & 0x80)
			lin_st(c, la + n, 1, src[n], c->mmu_idx);
}

bool maskmov_lower(const struct decoded *d, struct insn *i)
{
	const ZydisDecodedInstruction *z = &d->z;
	union maskmov v = { .imm = 0 };
	unsigned regs = 0;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ: v.size = 8, v.need = FPU_OK_MMX; break;
	case ZYDIS_MNEMONIC_MASKMOVDQU: v.size = 16, v.need = FPU_OK_SSE; break;
	case ZYDIS_MNEMONIC_VMASKMOVDQU: v.size = 16, v.need = FPU_OK_AVX | FPU_OK_VEX; break;
	default: return false;
	}
	i->seg = S_DS;
	for (unsigned k = 0; k < z->operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.segment)
			i->seg = (u8)(o->mem.segment - ZYDIS_REGISTER_ES);
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			continue;
		if (regs++)
			v.mask = (u8)ZydisRegisterGetId(o->reg.value);
		else
			v.src = (u8)ZydisRegisterGetId(o->reg.value);
	}
	i->base = R_DI;
	i->index = SLOT_ZERO;
	i->scale = 0;
	i->disp = 0;
	i->asz = z->address_width / 8;
	i->imm = v.imm;
	i->op = op_maskmov;
	i->fn = h_op;
	return true;
}
