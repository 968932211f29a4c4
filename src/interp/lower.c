/* SPDX-License-Identifier: MIT */
/*
 * From Zydis's view of an instruction to a handler.
 *
 * lower() fills the operand fields that all handlers share, then tries in turn: the fast integer handlers, the op functions
 * (one row a mnemonic in ops_table), and the stubs for vector and other user-mode instructions. What none takes is not implemented.
 *
 * To add an instruction: a row in ops_table, and the op function.
 */
#include "base/string.h"
#include "cpu/cpuid.h"
#include "decode/decode.h"
#include "decode/feature.h"
#include "decode/reg.h"
#include "interp/fast.h"
#include "interp/integer.h"
#include "interp/ops.h"
#include "interp/stub.h"

#define M(n) ZYDIS_MNEMONIC_##n

/* ---- operands ---- */

static bool gpr_offset(ZydisRegister r, u8 *off)
{
	int n = reg_gpr(r);

	if (n < 0)
		return false;
	*off = (u8)(n * 8 + reg_is_high_byte(r));
	return true;
}

static u8 slot_of(ZydisRegister r)
{
	u8 off;
	return gpr_offset(r, &off) ? off / 8 : SLOT_ZERO;
}

static u8 seg_of(ZydisRegister r)
{
	switch (r) {
	case ZYDIS_REGISTER_ES: return S_ES;
	case ZYDIS_REGISTER_CS: return S_CS;
	case ZYDIS_REGISTER_SS: return S_SS;
	case ZYDIS_REGISTER_FS: return S_FS;
	case ZYDIS_REGISTER_GS: return S_GS;
	default: return S_DS;
	}
}

static const ZydisDecodedOperand *mem_operand(const struct decoded *d)
{
	for (unsigned k = 0; k < d->z.operand_count; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY && d->op[k].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			return &d->op[k];
	return NULL;
}

/* False: a RIP-relative displacement that does not fit beside the block offset (never emitted by anything). */
static bool fill_mem(const struct decoded *d, const ZydisDecodedOperand *o, struct insn *i, bool is64)
{
	s64 disp = o->mem.disp.value;

	i->has_mem = true;
	i->seg = seg_of(o->mem.segment);
	i->base = slot_of(o->mem.base);
	i->index = slot_of(o->mem.index);
	i->scale = o->mem.scale > 1 ? (u8)__builtin_ctz(o->mem.scale) : 0;
	if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) {
		i->base = SLOT_BLOCK_RIP;
		disp += i->off + i->len;
	}
	if (d->z.raw.modrm.mod == 0 && d->z.raw.modrm.rm == 4 && d->z.raw.sib.base == 5 && d->z.raw.sib.offset) {
		/* No base but a displacement, with REX.B too: the decoder takes it for r13. */
		i->base = SLOT_ZERO;
		disp = d->z.raw.disp.value;
	}
	if (disp != (s32)disp && i->asz == 8)
		return false;
	i->disp = (s32)disp;
	i->flat = is64 && i->asz == 8 && i->seg != S_FS && i->seg != S_GS;
	return true;
}

static bool near_branch(const ZydisDecodedInstruction *z)
{
	return z->meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT || z->meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR;
}

/* MOV between the accumulator and a full-width absolute address. */
static bool is_moffs(const struct decoded *d)
{
	return d->z.mnemonic == M(MOV) && d->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && d->z.opcode >= 0xa0 && d->z.opcode <= 0xa3;
}

static bool fill(struct cpu *c, const struct decoded *d, struct insn *i)
{
	const ZydisDecodedInstruction *z = &d->z;

	i->mnem = (u16)z->mnemonic;
	i->asz = z->address_width / 8;
	i->osz = z->operand_width / 8;
	i->opcode = z->opcode;
	i->modrm = (u8)(z->raw.modrm.mod << 6 | z->raw.modrm.reg << 3 | z->raw.modrm.rm);
	i->base = i->index = SLOT_ZERO;
	i->seg = S_DS;
	if (c->code_size == 8 && cpu_is_amd(c) && near_branch(z) && z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE && !z->raw.rex.W)
		i->osz = 2; /* Intel ignores 66h here */
	i->lock = !!(z->attributes & ZYDIS_ATTRIB_HAS_LOCK);
	i->rexw = z->raw.rex.W;
	i->has_rex = !!(z->attributes & ZYDIS_ATTRIB_HAS_REX);
	i->opsize_prefix = !!(z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE);
	for (unsigned k = 0; k < z->raw.prefix_count; k++) /* the last one counts; F2 repeats MOVS, STOS, LODS, INS and OUTS like F3 */
		if (z->raw.prefixes[k].value == 0xf3 || z->raw.prefixes[k].value == 0xf2)
			i->rep = z->raw.prefixes[k].value == 0xf3 ? REP_E : REP_NE;
	const ZydisDecodedOperand *m = is_moffs(d) ? NULL : mem_operand(d);
	return !m || fill_mem(d, m, i, c->code_size == 8);
}

enum okind { K_NONE, K_REG, K_MEM, K_IMM };

static enum okind kind(const struct decoded *d, unsigned k)
{
	u8 off;
	if (k >= d->z.operand_count_visible)
		return K_NONE;
	switch (d->op[k].type) {
	case ZYDIS_OPERAND_TYPE_REGISTER: return gpr_offset(d->op[k].reg.value, &off) ? K_REG : K_NONE;
	case ZYDIS_OPERAND_TYPE_MEMORY: return K_MEM;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE: return K_IMM;
	default: return K_NONE;
	}
}

static unsigned size_index(unsigned bits)
{
	return bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3;
}

static u64 imm_of(const ZydisDecodedOperand *o)
{
	return o->imm.is_signed ? (u64)o->imm.value.s : o->imm.value.u;
}

/* ---- fast integer handlers ---- */

/* Fill rm/reg/imm and give the form of a two-operand instruction, or -1. */
static int form_of(const struct decoded *d, struct insn *i)
{
	enum okind a = kind(d, 0), b = kind(d, 1);

	if (a == K_REG && b == K_REG) {
		gpr_offset(d->op[0].reg.value, &i->rm);
		gpr_offset(d->op[1].reg.value, &i->reg);
		return F_RR;
	}
	if (a == K_REG && b == K_IMM) {
		gpr_offset(d->op[0].reg.value, &i->rm);
		i->imm = imm_of(&d->op[1]);
		return F_RI;
	}
	if (a == K_REG && b == K_MEM) {
		gpr_offset(d->op[0].reg.value, &i->reg);
		return F_RM;
	}
	if (a == K_MEM && b == K_REG) {
		gpr_offset(d->op[1].reg.value, &i->reg);
		return i->lock ? F_MRL : F_MR;
	}
	if (a == K_MEM && b == K_IMM) {
		i->imm = imm_of(&d->op[1]);
		return i->lock ? F_MIL : F_MI;
	}
	return -1;
}

static int alu_row(ZydisMnemonic m)
{
	switch (m) {
	case M(ADD): return ALU_ADD;
	case M(OR): return ALU_OR;
	case M(ADC): return ALU_ADC;
	case M(SBB): return ALU_SBB;
	case M(AND): return ALU_AND;
	case M(SUB): return ALU_SUB;
	case M(XOR): return ALU_XOR;
	case M(CMP): return ALU_CMP_;
	case M(TEST): return ALU_TEST_;
	case M(MOV): return ALU_MOV_;
	case M(XADD): return ALU_XADD_;
	default: return -1;
	}
}

static bool lower_alu(const struct decoded *d, struct insn *i)
{
	int row = alu_row(d->z.mnemonic);
	if (row < 0)
		return false;
	if (is_moffs(d))
		return false;
	int f = form_of(d, i);
	unsigned bits = d->op[0].size;
	if (f < 0 || (bits != 8 && bits != 16 && bits != 32 && bits != 64))
		return false;
	i->osz = (u8)(bits / 8);
	i->fn = alu_table[row][size_index(bits)][f];
	return i->fn;
}

static bool lower_unary(const struct decoded *d, struct insn *i)
{
	int row = d->z.mnemonic == M(INC) ? UN_INC : d->z.mnemonic == M(DEC) ? UN_DEC : d->z.mnemonic == M(NEG) ? UN_NEG
		: d->z.mnemonic == M(NOT) ? UN_NOT : -1;
	if (row < 0)
		return false;
	unsigned bits = d->op[0].size;
	i->osz = (u8)(bits / 8);
	if (kind(d, 0) == K_REG) {
		gpr_offset(d->op[0].reg.value, &i->rm);
		i->fn = un_table[row][size_index(bits)][0];
	} else {
		i->fn = un_table[row][size_index(bits)][i->lock ? 2 : 1];
	}
	return true;
}

static bool lower_shift(const struct decoded *d, struct insn *i)
{
	int row;
	switch (d->z.mnemonic) {
	case M(ROL): row = SH_ROL; break;
	case M(ROR): row = SH_ROR; break;
	case M(RCL): row = SH_RCL; break;
	case M(RCR): row = SH_RCR; break;
	case M(SHL): row = SH_SHL; break;
	case M(SHR): row = SH_SHR; break;
	case M(SAR): row = SH_SAR; break;
	default: return false;
	}
	unsigned bits = d->op[0].size;
	bool by_cl = d->z.opcode == 0xd2 || d->z.opcode == 0xd3;
	i->osz = (u8)(bits / 8);
	if (!by_cl) /* D0, D1: by 1, whether the decoder shows the operand or not */
		i->imm = d->z.opcode >= 0xd0 ? 1 : imm_of(&d->op[1]);
	if (kind(d, 0) == K_REG)
		gpr_offset(d->op[0].reg.value, &i->rm);
	i->fn = shift_table[row][size_index(bits)][(i->has_mem ? 2 : 0) + by_cl];
	return true;
}

static bool lower_extend(const struct decoded *d, struct insn *i)
{
	ZydisMnemonic m = d->z.mnemonic;
	if (m != M(MOVZX) && m != M(MOVSX) && m != M(MOVSXD))
		return false;
	unsigned to = size_index(d->op[0].size), from = size_index(d->op[1].size);
	if (from > 2 || (from == 2 && m != M(MOVSXD)))
		return false;
	gpr_offset(d->op[0].reg.value, &i->reg);
	if (!i->has_mem)
		gpr_offset(d->op[1].reg.value, &i->rm);
	i->osz = (u8)(d->op[0].size / 8);
	i->fn = (m == M(MOVZX) ? movzx_table : movsx_table)[to][from][i->has_mem];
	return i->fn;
}

/* Jcc, SETcc and CMOVcc carry the condition in the low four bits of their opcode. */
static bool lower_cc(const struct decoded *d, struct insn *i, bool is64)
{
	unsigned cc = d->z.opcode & 15;

	switch (d->z.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		if (d->z.mnemonic == M(JCXZ) || d->z.mnemonic == M(JECXZ) || d->z.mnemonic == M(JRCXZ) || d->z.mnemonic == M(LOOP) ||
		    d->z.mnemonic == M(LOOPE) || d->z.mnemonic == M(LOOPNE) || d->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
			return false;
		i->imm = imm_of(&d->op[0]);
		i->ends_block = true;
		if (is64 && i->osz == 8) {
			i->fn = jcc64_table[cc];
		} else {
			i->fn = h_op_end;
			i->op = op_jcc;
		}
		return true;
	case ZYDIS_CATEGORY_SETCC:
		if (!i->has_mem)
			gpr_offset(d->op[0].reg.value, &i->rm);
		i->osz = 1;
		i->fn = setcc_table[cc][i->has_mem];
		return true;
	case ZYDIS_CATEGORY_CMOV:
		gpr_offset(d->op[0].reg.value, &i->reg);
		if (!i->has_mem)
			gpr_offset(d->op[1].reg.value, &i->rm);
		i->osz = (u8)(d->op[0].size / 8);
		i->fn = cmov_table[cc][size_index(d->op[0].size) - 1][i->has_mem];
		return true;
	default: return false;
	}
}

static bool ends(struct insn *i, insn_fn fn)
{
	i->fn = fn;
	i->ends_block = true;
	return true;
}

static bool lower_branch64(const struct decoded *d, struct insn *i)
{
	enum okind k = kind(d, 0);

	if (!near_branch(&d->z) || i->osz != 8)
		return false;
	if (k == K_IMM)
		i->imm = imm_of(&d->op[0]);
	if (k == K_REG)
		gpr_offset(d->op[0].reg.value, &i->rm);
	switch (d->z.mnemonic) {
	case M(JMP): return ends(i, k == K_IMM ? h_jmp64 : k == K_REG ? h_jmp_r64 : h_jmp_m64);
	case M(CALL): return ends(i, k == K_IMM ? h_call64 : k == K_REG ? h_call_r64 : h_call_m64);
	case M(RET): return ends(i, h_ret64);
	default: return false;
	}
}

static bool lower_stack64(const struct decoded *d, struct insn *i)
{
	if (i->osz != 8)
		return false;
	enum okind k = kind(d, 0);
	switch (d->z.mnemonic) {
	case M(PUSH):
		if (k == K_REG)
			i->fn = h_push_r64, gpr_offset(d->op[0].reg.value, &i->rm);
		else if (k == K_IMM)
			i->fn = h_push_i64, i->imm = imm_of(&d->op[0]);
		else if (k == K_MEM)
			i->fn = h_push_m64;
		return i->fn;
	case M(POP):
		if (k != K_REG)
			return false;
		gpr_offset(d->op[0].reg.value, &i->rm);
		i->fn = h_pop_r64;
		return true;
	case M(LEAVE): i->fn = h_leave64; return true;
	default: return false;
	}
}

static bool set_op(struct insn *i, op_fn op, bool end)
{
	i->op = op;
	i->ends_block = end;
	i->fn = end ? h_op_end : h_op;
	return true;
}

static bool lower_misc(struct cpu *c, const struct decoded *d, struct insn *i)
{
	switch (d->z.mnemonic) {
	case M(NOP):
	case M(ENDBR32):
	case M(ENDBR64):
		/* 0F 0D is PREFETCHW's; AMD has no register form of it. */
		if (d->z.opcode_map == ZYDIS_OPCODE_MAP_0F && d->z.opcode == 0x0d && !i->has_mem && cpu_is_amd(c))
			return set_op(i, op_ud, true);
		i->fn = h_nop;
		return true;
	case M(LEA):
		gpr_offset(d->op[0].reg.value, &i->reg);
		i->osz = (u8)(d->op[0].size / 8);
		if (i->asz != 8 || i->osz == 2)
			return false;
		i->fn = i->osz == 8 ? h_lea64 : h_lea32;
		return true;
	case M(IMUL):
		if (i->has_mem || d->z.operand_count_visible < 2 || d->op[0].size == 16)
			return false;
		gpr_offset(d->op[0].reg.value, &i->reg);
		gpr_offset(d->op[1].reg.value, &i->rm);
		if (d->z.operand_count_visible == 3) {
			i->imm = imm_of(&d->op[2]);
			i->fn = d->op[0].size == 64 ? h_imul3_64 : h_imul3_32;
		} else {
			i->fn = d->op[0].size == 64 ? h_imul2_64 : h_imul2_32;
		}
		return true;
	case M(BSWAP):
		if (d->op[0].size == 16)
			return false;
		gpr_offset(d->op[0].reg.value, &i->rm);
		i->fn = d->op[0].size == 64 ? h_bswap64 : h_bswap32;
		return true;
	case M(CDQE): i->fn = h_cdqe; return true;
	case M(CDQ): i->fn = h_cdq; return true;
	case M(CQO): i->fn = h_cqo; return true;
	default: return false;
	}
}

/* ---- op functions ---- */

enum {
	E = 1,      /* ends the block */
	S0 = 2,     /* osz is the size of operand 0 */
	S1 = 4,     /* osz is the size of operand 1 */
	RM0 = 8,    /* rm is operand 0 (if a register) */
	RM1 = 16,   /* rm is operand 1 */
	RG0 = 32,   /* reg is operand 0 */
	RG1 = 64,   /* reg is operand 1 */
	IM = 128,   /* imm is the last visible immediate */
	ST = 256,   /* osz: string element; memory operand's segment is the source's */
	RGN = 512,  /* reg is ModRM.reg as a number (CR, DR: with REX.R) */
	ONLY_M = 1024,
	W = 2048,   /* osz 8 with REX.W, else 4 */
};

struct op_row {
	u16 mnem, flags;
	op_fn op;
};

static const struct op_row ops_table[] = {
	/* integer */
	{ M(XCHG), S0 | RM0 | RG1, op_xchg_rr }, { M(CMPXCHG), S0 | RM0 | RG1, op_cmpxchg }, { M(CMPXCHG8B), 0, op_cmpxchg8b },
	{ M(CMPXCHG16B), 0, op_cmpxchg16b }, { M(MUL), S0 | RM0, op_mul }, { M(DIV), S0 | RM0, op_div }, { M(IDIV), S0 | RM0, op_idiv },
	{ M(BSF), S0 | RG0 | RM1, op_bit_src }, { M(BSR), S0 | RG0 | RM1, op_bit_src }, { M(POPCNT), S0 | RG0 | RM1, op_bit_src },
	{ M(LZCNT), S0 | RG0 | RM1, op_bit_src }, { M(TZCNT), S0 | RG0 | RM1, op_bit_src }, { M(BSWAP), S0 | RM0, op_bswap },
	{ M(SHLD), S0 | RM0 | RG1 | IM, op_shd }, { M(SHRD), S0 | RM0 | RG1 | IM, op_shd }, { M(CRC32), S1 | RG0 | RM1, op_crc32 },
	{ M(LEA), S0 | RG0, op_lea }, { M(XLAT), 0, op_xlat }, { M(MOVNTI), S0 | RG1, op_movnti },
	{ M(CBW), S0, op_convert_a }, { M(CWDE), S0, op_convert_a }, { M(CWD), S0, op_convert_d },
	{ M(CLC), 0, op_flag }, { M(STC), 0, op_flag }, { M(CMC), 0, op_flag }, { M(CLD), 0, op_flag }, { M(STD), 0, op_flag },
	{ M(AAA), 0, op_aaa }, { M(AAS), 0, op_aas }, { M(AAM), IM, op_aam }, { M(AAD), IM, op_aad }, { M(DAA), 0, op_daa }, { M(DAS), 0, op_das },
	{ M(SALC), 0, op_salc }, { M(MFENCE), 0, op_fence }, { M(LFENCE), 0, op_lfence }, { M(SFENCE), 0, op_fence },
	{ M(PREFETCH), 0, op_prefetch }, { M(PREFETCHNTA), 0, op_prefetch }, { M(PREFETCHT0), 0, op_prefetch }, { M(PREFETCHT1), 0, op_prefetch },
	{ M(PREFETCHT2), 0, op_prefetch }, { M(PREFETCHW), 0, op_prefetch }, { M(PREFETCHWT1), 0, op_prefetch },
	{ M(PAUSE), E, op_pause_op }, { M(RDRAND), S0 | RM0, op_rdrand }, { M(RDSEED), S0 | RM0, op_rdrand },
	{ M(PUSH), RM0, op_push }, { M(POP), RM0, op_pop }, { M(PUSHA), 0, op_pusha }, { M(PUSHAD), 0, op_pusha }, { M(POPA), 0, op_popa },
	{ M(POPAD), 0, op_popa }, { M(ENTER), 0, op_enter }, { M(LEAVE), 0, op_leave }, { M(BOUND), RG0, op_bound },
	{ M(LOOP), E | IM, op_loop }, { M(LOOPE), E | IM, op_loop }, { M(LOOPNE), E | IM, op_loop }, { M(JCXZ), E | IM, op_jcxz },
	{ M(JECXZ), E | IM, op_jcxz }, { M(JRCXZ), E | IM, op_jcxz },
	/* strings */
	{ M(MOVSB), ST, op_movs }, { M(MOVSW), ST, op_movs }, { M(MOVSQ), ST, op_movs }, { M(STOSB), ST, op_stos }, { M(STOSW), ST, op_stos },
	{ M(STOSD), ST, op_stos }, { M(STOSQ), ST, op_stos }, { M(LODSB), ST, op_lods }, { M(LODSW), ST, op_lods }, { M(LODSD), ST, op_lods },
	{ M(LODSQ), ST, op_lods }, { M(SCASB), ST, op_scas }, { M(SCASW), ST, op_scas }, { M(SCASD), ST, op_scas }, { M(SCASQ), ST, op_scas },
	{ M(CMPSB), ST, op_cmps }, { M(CMPSW), ST, op_cmps }, { M(CMPSQ), ST, op_cmps },
	{ M(INSB), E | ST, op_ins }, { M(INSW), E | ST, op_ins }, { M(INSD), E | ST, op_ins }, { M(OUTSB), E | ST, op_outs },
	{ M(OUTSW), E | ST, op_outs }, { M(OUTSD), E | ST, op_outs },
	/* far transfers and interrupts */
	{ M(IRET), E, op_iret }, { M(IRETD), E, op_iret }, { M(IRETQ), E, op_iret }, { M(INT), E | IM, op_int_n }, { M(INT3), E, op_int3 },
	{ M(INTO), E, op_into }, { M(INT1), E, op_int1 }, { M(SYSCALL), E, op_syscall }, { M(SYSRET), E | W, op_sysret },
	{ M(SYSENTER), E, op_sysenter }, { M(SYSEXIT), E | W, op_sysexit },
	/* segments */
	{ M(LAR), S0 | RG0 | RM1, op_lar }, { M(LSL), S0 | RG0 | RM1, op_lsl }, { M(VERR), RM0, op_verr }, { M(VERW), RM0, op_verw },
	{ M(ARPL), RM0 | RG1, op_arpl }, { M(LLDT), RM0, op_lldt }, { M(LTR), RM0, op_ltr }, { M(SLDT), S0 | RM0, op_sldt }, { M(STR), S0 | RM0, op_str },
	{ M(SWAPGS), 0, op_swapgs }, { M(RDFSBASE), S0 | RM0, op_rdfsbase }, { M(RDGSBASE), S0 | RM0, op_rdgsbase },
	{ M(WRFSBASE), S0 | RM0, op_wrfsbase }, { M(WRGSBASE), S0 | RM0, op_wrgsbase },
	/* system */
	{ M(LMSW), E | RM0, op_lmsw }, { M(SMSW), S0 | RM0, op_smsw }, { M(CLTS), E, op_clts }, { M(LGDT), E, op_lgdt }, { M(LIDT), E, op_lidt },
	{ M(SGDT), 0, op_sgdt }, { M(SIDT), 0, op_sidt }, { M(INVLPG), E, op_invlpg }, { M(INVLPGA), E, op_invlpga }, { M(INVPCID), E | RG0, op_invpcid },
	{ M(INVD), 0, op_invd }, { M(WBINVD), 0, op_invd }, { M(HLT), E, op_hlt }, { M(MONITOR), 0, op_mwait },
	{ M(MWAIT), 0, op_mwait }, { M(VMCALL), E, op_hypercall }, { M(VMMCALL), E, op_hypercall }, { M(RSM), E, op_ud }, { M(UD0), E, op_ud },
	{ M(UD1), E, op_ud }, { M(UD2), E, op_ud }, { M(VMXOFF), E, op_ud }, { M(VMXON), E, op_ud }, { M(VMLAUNCH), E, op_ud }, { M(VMRESUME), E, op_ud },
	{ M(VMPTRLD), E, op_ud }, { M(VMPTRST), E, op_ud }, { M(VMCLEAR), E, op_ud }, { M(VMREAD), E, op_ud }, { M(VMWRITE), E, op_ud },
	{ M(VMFUNC), E, op_ud }, { M(VMRUN), E, op_ud }, { M(VMLOAD), E, op_ud }, { M(VMSAVE), E, op_ud }, { M(STGI), E, op_ud }, { M(CLGI), E, op_ud },
	{ M(GETSEC), E, op_ud },
	{ M(SKINIT), E, op_ud }, { M(INVEPT), E, op_ud }, { M(INVVPID), E, op_ud }, { M(MONITORX), E, op_ud }, { M(MWAITX), E, op_ud },
	{ M(CLI), 0, op_cli }, { M(STI), E, op_sti }, { M(CLAC), E, op_clac }, { M(STAC), E, op_stac },
	{ M(PUSHF), 0, op_pushf }, { M(PUSHFD), 0, op_pushf }, { M(PUSHFQ), 0, op_pushf }, { M(POPF), E, op_popf }, { M(POPFD), E, op_popf },
	{ M(POPFQ), E, op_popf }, { M(LAHF), 0, op_lahf }, { M(SAHF), 0, op_sahf }, { M(CLFLUSH), 0, op_clflush }, { M(CLFLUSHOPT), 0, op_clflush },
	{ M(CLWB), 0, op_clflush }, { M(CLDEMOTE), 0, op_prefetch }, { M(CLZERO), 0, op_clzero }, { M(RDPKRU), 0, op_rdpkru }, { M(WRPKRU), E, op_wrpkru },
	/* MSRs and the like */
	{ M(CPUID), 0, op_cpuid }, { M(RDMSR), 0, op_rdmsr }, { M(WRMSR), E, op_wrmsr }, { M(RDTSC), 0, op_rdtsc }, { M(RDTSCP), 0, op_rdtscp },
	{ M(RDPMC), 0, op_rdpmc }, { M(RDPID), RM0, op_rdpid }, { M(XGETBV), 0, op_xgetbv }, { M(XSETBV), E, op_xsetbv },
};

static void fill_op(const struct decoded *d, struct insn *i, unsigned flags)
{
	if (flags & S0 && d->z.operand_count)
		i->osz = (u8)(d->op[0].size / 8);
	if (flags & S1)
		i->osz = (u8)(d->op[1].size / 8);
	if (flags & W)
		i->osz = i->rexw ? 8 : 4;
	if (flags & RM0 && kind(d, 0) == K_REG)
		gpr_offset(d->op[0].reg.value, &i->rm);
	if (flags & RM1 && kind(d, 1) == K_REG)
		gpr_offset(d->op[1].reg.value, &i->rm);
	if (flags & RG0 && kind(d, 0) == K_REG)
		gpr_offset(d->op[0].reg.value, &i->reg);
	if (flags & RG1 && kind(d, 1) == K_REG)
		gpr_offset(d->op[1].reg.value, &i->reg);
	if (flags & IM)
		for (unsigned k = 0; k < d->z.operand_count; k++)
			if (d->op[k].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
				i->imm = imm_of(&d->op[k]);
}


static bool set_string(struct insn *i, op_fn op)
{
	i->op = op;
	i->fn = h_op_rep;
	return true;
}

/* The element size from the opcode's low bit; the source's segment from the prefix. */
static void fill_string(const struct decoded *d, struct insn *i)
{
	i->osz = d->z.opcode & 1 ? d->z.operand_width / 8 : 1;
	if ((d->z.opcode & 0xfc) == 0x6c)
		i->osz = MIN(i->osz, 4); /* ports have no 64 bits: REX.W changes nothing */
	i->has_mem = false;
	i->seg = S_DS;
	for (unsigned k = 0; k < d->z.operand_count; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY && d->op[k].mem.base != ZYDIS_REGISTER_DI && d->op[k].mem.base != ZYDIS_REGISTER_EDI &&
		    d->op[k].mem.base != ZYDIS_REGISTER_RDI)
			i->seg = seg_of(d->op[k].mem.segment);
}

static unsigned stack_osz(const struct decoded *d, const struct cpu *c)
{
	return c->code_size == 8 ? (d->z.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE && !d->z.raw.rex.W ? 2 : 8) : d->z.operand_width / 8;
}

static u8 prefix_segment(const struct decoded *d)
{
	bool is64 = d->z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
	u8 seg = S_DS;

	for (unsigned k = 0; k < d->z.raw.prefix_count; k++)
		switch (d->z.raw.prefixes[k].value) {
		case 0x64: seg = S_FS; break;
		case 0x65: seg = S_GS; break;
		case 0x26: seg = is64 ? seg : S_ES; break;
		case 0x2e: seg = is64 ? seg : S_CS; break;
		case 0x36: seg = is64 ? seg : S_SS; break;
		case 0x3e: seg = is64 ? seg : S_DS; break;
		default: break;
		}
	return seg;
}

/* Mnemonics whose forms differ too much for the table. */
static bool lower_special(struct cpu *c, const struct decoded *d, struct insn *i)
{
	const ZydisDecodedOperand *a = &d->op[0], *b = &d->op[1];
	bool far = d->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;

	switch (d->z.mnemonic) {
	case M(MOV):
		if (is_moffs(d)) {
			bool load = d->z.opcode < 0xa2;
			const ZydisDecodedOperand *m = load ? b : a;
			i->seg = seg_of(m->mem.segment);
			i->has_mem = false;
			i->imm = (u64)m->mem.disp.value;
			i->osz = (u8)((load ? a : b)->size / 8);
			return set_op(i, load ? op_mov_moffs_ld : op_mov_moffs_st, false);
		}
		if (d->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (d->z.opcode == 0x8c || d->z.opcode == 0x8e)) {
			bool to = d->z.opcode == 0x8e;
			i->reg = seg_of((to ? a : b)->reg.value);
			if (!i->has_mem)
				gpr_offset((to ? b : a)->reg.value, &i->rm);
			i->osz = d->z.operand_width / 8;
			return set_op(i, to ? op_mov_to_sreg : op_mov_from_sreg, to);
		}
		if (d->z.opcode_map == ZYDIS_OPCODE_MAP_0F && d->z.opcode >= 0x20 && d->z.opcode <= 0x23) {
			bool to = d->z.opcode & 2, dr = d->z.opcode & 1;
			i->reg = (u8)ZydisRegisterGetId((to ? a : b)->reg.value);
			gpr_offset((to ? b : a)->reg.value, &i->rm);
			i->osz = c->code_size == 8 ? 8 : 4;
			return set_op(i, dr ? (to ? op_mov_to_dr : op_mov_from_dr) : to ? op_mov_to_cr : op_mov_from_cr, to);
		}
		return false;
	case M(PUSH):
	case M(POP):
		if (a->type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(a->reg.value) == ZYDIS_REGCLASS_SEGMENT) {
			bool is_pop = d->z.mnemonic == M(POP);
			i->reg = seg_of(a->reg.value);
			i->osz = (u8)stack_osz(d, c);
			return set_op(i, is_pop ? op_pop_sreg : op_push_sreg, is_pop);
		}
		if (a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			i->imm = imm_of(a);
			return set_op(i, op_push_imm, false);
		}
		return false;
	case M(LES): case M(LDS): case M(LSS): case M(LFS): case M(LGS):
		gpr_offset(a->reg.value, &i->reg);
		i->osz = (u8)(a->size / 8);
		i->imm = d->z.mnemonic == M(LES) ? S_ES : d->z.mnemonic == M(LDS) ? S_DS : d->z.mnemonic == M(LSS) ? S_SS
			 : d->z.mnemonic == M(LFS) ? S_FS : S_GS;
		return set_op(i, op_load_far_ptr, true);
	case M(CALL):
	case M(JMP): {
		bool is_call = d->z.mnemonic == M(CALL);
		if (a->type == ZYDIS_OPERAND_TYPE_POINTER) {
			i->imm = a->ptr.offset | (u64)a->ptr.segment << 32;
			return set_op(i, is_call ? op_call_far_imm : op_jmp_far_imm, true);
		}
		if (far) {
			i->osz = d->z.raw.rex.W ? 8 : d->z.operand_width == 16 ? 2 : 4;
			return set_op(i, is_call ? op_call_far_mem : op_jmp_far_mem, true);
		}
		if (a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			i->imm = imm_of(a);
			return set_op(i, is_call ? op_call_rel : op_jmp_rel, true);
		}
		if (!i->has_mem)
			gpr_offset(a->reg.value, &i->rm);
		return set_op(i, is_call ? op_call_ind : op_jmp_ind, true);
	}
	case M(RET):
		i->imm = a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && d->z.operand_count_visible ? a->imm.value.u & 0xffff : 0;
		if (d->z.opcode == 0xca || d->z.opcode == 0xcb) {
			i->osz = c->code_size == 8 && !d->z.raw.rex.W ? (i->opsize_prefix ? 2 : 4) : d->z.operand_width / 8;
			return set_op(i, op_ret_far, true);
		}
		return set_op(i, op_ret_near, true);
	case M(IMUL):
		if (d->z.operand_count_visible == 1) {
			i->osz = (u8)(a->size / 8);
			if (!i->has_mem)
				gpr_offset(a->reg.value, &i->rm);
			return set_op(i, op_imul1, false);
		}
		i->osz = (u8)(a->size / 8);
		gpr_offset(a->reg.value, &i->reg);
		if (!i->has_mem)
			gpr_offset(b->reg.value, &i->rm);
		if (d->z.operand_count_visible == 3)
			i->imm = imm_of(&d->op[2]);
		return set_op(i, op_imul, false);
	case M(BT): case M(BTS): case M(BTR): case M(BTC):
		i->osz = (u8)(a->size / 8);
		if (!i->has_mem)
			gpr_offset(a->reg.value, &i->rm);
		if (kind(d, 1) == K_REG)
			gpr_offset(b->reg.value, &i->reg);
		else
			i->reg = 0xff, i->imm = imm_of(b);
		return set_op(i, op_bt, false);
	case M(MOVBE):
		i->osz = (u8)(a->size / 8);
		gpr_offset((i->opcode == 0xf0 ? a : b)->reg.value, &i->reg);
		return set_op(i, op_movbe, false);
	case M(XCHG):
		i->osz = (u8)(a->size / 8);
		if (!i->has_mem)
			return false;
		gpr_offset((a->type == ZYDIS_OPERAND_TYPE_REGISTER ? a : b)->reg.value, &i->reg);
		return set_op(i, op_xchg_m, false);
	case M(ENTER):
		i->imm = (a->imm.value.u & 0xffff) | (b->imm.value.u & 0xff) << 16;
		i->osz = (u8)stack_osz(d, c);
		return set_op(i, op_enter, false);
	case M(IN):
		i->osz = (u8)MIN(a->size / 8, 4); /* REX.W changes nothing */
		i->imm = b->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? b->imm.value.u & 0xff : 0;
		return set_op(i, b->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? op_in_imm : op_in_dx, true);
	case M(OUT):
		i->osz = (u8)MIN(b->size / 8, 4);
		i->imm = a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? a->imm.value.u & 0xff : 0;
		return set_op(i, a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? op_out_imm : op_out_dx, true);
	case M(MOVSD): /* two instructions share these names */
	case M(CMPSD):
		if (d->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || d->z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
			return false;
		fill_string(d, i);
		return set_string(i, d->z.mnemonic == M(MOVSD) ? op_movs : op_cmps);
	case M(SLDT): case M(STR): case M(SMSW):
		i->osz = d->z.operand_width / 8;
		if (!i->has_mem)
			gpr_offset(a->reg.value, &i->rm);
		return set_op(i, d->z.mnemonic == M(SLDT) ? op_sldt : d->z.mnemonic == M(STR) ? op_str : op_smsw, false);
	case M(XLAT):
	case M(CLZERO): /* their memory operand is implied: only a segment prefix tells */
		i->seg = prefix_segment(d);
		return set_op(i, d->z.mnemonic == M(XLAT) ? op_xlat : op_clzero, false);
	case M(PAUSE):
		if (!d->z.raw.rex.B)
			return false;
		/* F3 with REX.B: still XCHG r8, rAX. */
		i->osz = d->z.raw.rex.W ? 8 : i->opsize_prefix ? 2 : 4;
		i->rm = R_8 * 8;
		i->reg = R_AX * 8;
		return set_op(i, op_xchg_rr, false);
	default: return false;
	}
}

static bool lower_table(struct cpu *c, const struct decoded *d, struct insn *i)
{
	for (unsigned k = 0; k < ARRAY_SIZE(ops_table); k++) {
		const struct op_row *r = &ops_table[k];
		if (r->mnem != d->z.mnemonic)
			continue;
		if (r->flags & ST) {
			fill_string(d, i);
			if (!(r->flags & E))
				return set_string(i, r->op);
		} else {
			fill_op(d, i, r->flags);
		}
		return set_op(i, r->op, r->flags & E);
	}
	return false;
}

bool lower(struct cpu *c, const struct decoded *d, struct insn *i)
{
	bool is64 = c->code_size == 8;

	if (!fill(c, d, i))
		return false;
	if (!insn_allowed(c, &d->z))
		return set_op(i, op_ud, true);
	if (d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
		if (lower_alu(d, i) || lower_unary(d, i) || lower_shift(d, i) || lower_extend(d, i) || lower_cc(d, i, is64) ||
		    lower_misc(c, d, i))
			return true;
		if (is64 && (lower_branch64(d, i) || lower_stack64(d, i)))
			return true;
		if (lower_special(c, d, i) || lower_table(c, d, i))
			return true;
	}
	return stub_lower(c, d, i);
}
