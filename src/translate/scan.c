/* SPDX-License-Identifier: MIT */
/*
 * The guest's instructions of a unit, in the order in which they run: decode, classify, and find out which flags are needed where.
 *
 * A flag is dead where every way on sets it before anything reads it. Ways that leave the page, and indirect ones, count as reading all.
 */
#include "cpu/cpuid.h"
#include "interp/integer.h"
#include "interp/ops.h"
#include "interp/stub_int.h"
#include "translate/translate.h"

#define M(n) ZYDIS_MNEMONIC_##n

static bool plain_gpr(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER && reg_gpr(o->reg.value) >= 0;
}

/* MOV between the accumulator and an address in the instruction. */
static bool is_moffs(const struct decoded *d)
{
	return d->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && d->z.opcode >= 0xa0 && d->z.opcode <= 0xa3;
}

/* MOV of general registers, memory and immediates: not to or from the others, nor with an address in the instruction. */
static bool plain_mov(const struct decoded *d)
{
	for (unsigned k = 0; k < 2; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER && reg_gpr(d->op[k].reg.value) < 0)
			return false;
	return !is_moffs(d);
}

/*
 * 32-bit code: what stands for kind_of() there. Its branches and stack instructions have operands of 32 bits; addresses of 16 bits and segments
 * with a base are left to the interpreter, and so is a write through CS, which faults.
 */
static enum tkind kind_of_64(const struct tinsn *t, unsigned cpl);
static enum tkind kind_of_32(const struct tinsn *t, unsigned cpl)
{
	const struct decoded *d = &t->d;
	const ZydisDecodedOperand *a = &d->op[0], *m = x_memory_operand(d);
	bool wide = d->z.operand_width == 32;

	if (m && (d->z.address_width != 32 || m->mem.segment == ZYDIS_REGISTER_FS || m->mem.segment == ZYDIS_REGISTER_GS ||
		  (m->mem.segment == ZYDIS_REGISTER_CS && m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)))
		return T_OP;
	switch (d->z.mnemonic) {
	case M(PUSH): return wide && (a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE || a->type == ZYDIS_OPERAND_TYPE_MEMORY || plain_gpr(a)) ? T_PUSH : T_OP;
	case M(POP): return wide && plain_gpr(a) ? T_POP : T_OP;
	case M(LEAVE): return wide ? T_LEAVE : T_OP;
	case M(JB): case M(JBE): case M(JL): case M(JLE): case M(JNB): case M(JNBE): case M(JNL): case M(JNLE): case M(JNO): case M(JNP):
	case M(JNS): case M(JNZ): case M(JO): case M(JP): case M(JS): case M(JZ): return wide ? T_JCC : T_OP;
	case M(JMP): case M(CALL):
		if (!wide || d->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
			return T_OP;
		if (a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return d->z.mnemonic == M(JMP) ? T_JMP : T_CALL;
		return d->z.mnemonic == M(JMP) ? T_JMP_IND : T_CALL_IND;
	case M(RET): return wide && d->z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR ? T_RET : T_OP;
	case M(MOV):
		if (is_moffs(d))
			return T_MOFFS;
		return kind_of_64(t, cpl);
	case M(BT): case M(BTS): case M(BTR): case M(BTC):
		return m && d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER ? T_OP : T_COPY;
	default: return kind_of_64(t, cpl);
	}
}

/* REP STOS or MOVS whose addresses are as wide as the code's and have no base. */
static bool is_rep_string(const struct tinsn *t)
{
	const ZydisDecodedInstruction *z = &t->d.z;

	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && t->i.rep && t->i.seg < S_FS &&
	       z->address_width == (z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 ? 64 : 32);
}

static enum tkind kind_of_64(const struct tinsn *t, unsigned cpl)
{
	const struct decoded *d = &t->d;
	const ZydisDecodedOperand *a = &d->op[0];

	switch (d->z.mnemonic) {
	case M(ADD): case M(ADC): case M(SUB): case M(SBB): case M(AND): case M(OR): case M(XOR): case M(CMP): case M(TEST): case M(INC):
	case M(DEC): case M(NEG): case M(NOT): case M(MOVZX): case M(MOVSX): case M(MOVSXD): case M(SHL): case M(SHR): case M(SAR): case M(ROL):
	case M(ROR): case M(RCL): case M(RCR): case M(SHLD): case M(SHRD): case M(IMUL): case M(MUL): case M(DIV): case M(IDIV): case M(BSF):
	case M(BSR): case M(TZCNT): case M(LZCNT): case M(POPCNT): case M(BSWAP): case M(XADD): case M(CMPXCHG): case M(CMPXCHG8B):
	case M(CMPXCHG16B): case M(CBW): case M(CWDE): case M(CDQE): case M(CWD): case M(CDQ): case M(CQO): case M(MOVBE): case M(CRC32):
	case M(MOVNTI): case M(LFENCE): case M(MFENCE): case M(SFENCE): case M(CLC): case M(STC): case M(CMC): case M(LAHF): case M(SAHF):
	case M(XCHG): case M(CMOVB): case M(CMOVBE): case M(CMOVL): case M(CMOVLE): case M(CMOVNB): case M(CMOVNBE): case M(CMOVNL):
	case M(CMOVNLE): case M(CMOVNO): case M(CMOVNP): case M(CMOVNS): case M(CMOVNZ): case M(CMOVO): case M(CMOVP): case M(CMOVS): case M(CMOVZ):
	case M(SETB): case M(SETBE): case M(SETL): case M(SETLE): case M(SETNB): case M(SETNBE): case M(SETNL): case M(SETNLE): case M(SETNO):
	case M(SETNP): case M(SETNS): case M(SETNZ): case M(SETO): case M(SETP): case M(SETS): case M(SETZ): return T_COPY;
	case M(MOV):
		if (d->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && d->z.opcode == 0x8c && plain_gpr(a) && a->size >= 32)
			return T_SREG;
		return plain_mov(d) ? T_COPY : T_OP;
	case M(BT): case M(BTS): case M(BTR): case M(BTC): /* a register offset reaches beyond the operand */
		if (a->type == ZYDIS_OPERAND_TYPE_MEMORY && d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
			return a->size >= 32 && d->z.address_width == 64 ? T_BIT : T_OP;
		return T_COPY;
	case M(NOP): case M(PREFETCH): case M(PREFETCHNTA): case M(PREFETCHT0): case M(PREFETCHT1): case M(PREFETCHT2): case M(PREFETCHW):
	case M(PREFETCHWT1): return T_NOP;
	case M(STOSB): case M(STOSW): case M(STOSD): case M(STOSQ): case M(MOVSB): case M(MOVSW): case M(MOVSD): case M(MOVSQ):
		return is_rep_string(t) ? T_STRING : stub_is(&t->i) ? T_COPY : T_OP; /* MOVSD of a vector register too */
	case M(LEA): return T_LEA;
	case M(PUSH):
		return t->i.osz == 8 && (a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE || a->type == ZYDIS_OPERAND_TYPE_MEMORY || plain_gpr(a)) ? T_PUSH : T_OP;
	case M(CLI): return cpl ? T_OP : T_CLI;
	case M(STI): return cpl ? T_OP : T_STI;
	case M(CLAC): return cpl ? T_OP : T_CLAC;
	case M(STAC): return cpl ? T_OP : T_STAC;
	case M(CLD): return T_CLD;
	case M(PUSHFQ): return t->i.osz == 8 ? T_PUSHF : T_OP;
	case M(SWAPGS): return cpl ? T_OP : T_SWAPGS;
	case M(RDTSC): return T_RDTSC;
	case M(POP): return t->i.osz == 8 && plain_gpr(a) ? T_POP : T_OP;
	case M(LEAVE): return t->i.osz == 8 ? T_LEAVE : T_OP;
	case M(JB): case M(JBE): case M(JL): case M(JLE): case M(JNB): case M(JNBE): case M(JNL): case M(JNLE): case M(JNO): case M(JNP):
	case M(JNS): case M(JNZ): case M(JO): case M(JP): case M(JS): case M(JZ): return t->i.osz == 8 && t->i.fn != h_op_end ? T_JCC : T_OP;
	case M(JMP): case M(CALL):
		if (t->i.fn == h_op_end || d->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
			return T_OP;
		if (a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return d->z.mnemonic == M(JMP) ? T_JMP : T_CALL;
		return d->z.mnemonic == M(JMP) ? T_JMP_IND : T_CALL_IND;
	case M(RET): return t->i.fn == h_op_end ? T_OP : T_RET;
	default: return stub_is(&t->i) ? T_COPY : T_OP;
	}
}

static bool shift_may_be_none(const struct decoded *d)
{
	switch (d->z.mnemonic) {
	case M(SHL): case M(SHR): case M(SAR): case M(ROL): case M(ROR): case M(RCL): case M(RCR): case M(SHLD): case M(SHRD): {
		const ZydisDecodedOperand *o = &d->op[d->z.mnemonic == M(SHLD) || d->z.mnemonic == M(SHRD) ? 2 : 1];
		return o->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !(o->imm.value.u & (d->op[0].size == 64 ? 63 : 31));
	}
	default: return false;
	}
}

static void flags_of(struct tinsn *t)
{
	const ZydisAccessedFlags *f = t->d.z.cpu_flags;
	u32 read = 0, set = 0, undef = 0;

	if (f) {
		read = f->tested;
		set = f->modified | f->set_0 | f->set_1;
		undef = f->undefined;
	}
	switch (t->d.z.mnemonic) {
	case M(AND): case M(OR): case M(XOR): case M(TEST): set = X86_ARITH, undef = 0; break; /* AF is cleared */
	default: break;
	}
	t->fread = (u16)(read & X86_ARITH);
	t->fwrite = (u16)((set | undef) & X86_ARITH);
	t->fkill = (u16)(set & ~undef & X86_ARITH); /* one that is undefined may keep its value */
	if (shift_may_be_none(&t->d) || t->i.rep)
		t->fkill = 0;
	if (t->kind == T_OP && (t->i.fn == h_op_end || t->i.fn == h_op))
		t->fread = X86_ARITH; /* whoever looks at the state from there must see it whole */
}

static bool decode_at(struct cpu *c, const struct block *b, unsigned off, struct tinsn *t, u64 page_rip)
{
	if (off >= PAGE_SIZE)
		return false;
	bool crossing = b->hva2 && off == (b->hva & ~PAGE_MASK);
	if ((crossing ? block_decode_crossing(c, b, &t->d) : block_decode(c, b->page, off, &t->d)) != DECODE_OK)
		return false;
	t->off = (u16)off;
	t->rip = page_rip + off;
	t->len = t->d.z.length;
	return true;
}

static void classify(struct tinsn *t, const struct cpu *c)
{
	u64 mask = c->code_size == 4 ? 0xffffffff : ~0ull;

	t->next = (t->rip + t->len) & mask;
	if (t->i.op == op_ud && t->i.fn == h_op_end)
		t->kind = T_OP;
	else
		t->kind = (u8)(c->code_size == 4 ? kind_of_32(t, c->cpl) : kind_of_64(t, c->cpl));
	if (t->kind == T_RDTSC && c->tsc_ratio) /* scaled: the interpreter's */
		t->kind = T_OP;
	t->ends = t->i.ends_block || t->kind >= T_JMP;
	t->live_target = X86_ARITH;
	t->cc = t->d.z.opcode & 15;
	if (t->kind == T_JCC || t->kind == T_JMP || t->kind == T_CALL)
		t->target = (t->rip + t->len + t->d.op[0].imm.value.u) & mask;
	if (t->kind == T_JCC || t->kind == T_STI || t->kind == T_CLAC || t->kind == T_STAC)
		t->ends = false;
	flags_of(t);
	if (t->kind >= T_JMP_IND || t->kind == T_PUSHF)
		t->fread |= X86_ARITH;
}

/* What the code at off needs, looking at a few instructions of straight code. */
static u16 needed_at(struct cpu *c, const struct block *b, unsigned off, u64 page_rip)
{
	u16 need = 0, known = 0;
	struct tinsn *t = &c->tr->in[UNIT_MAX_INSNS]; /* the spare one */

	for (unsigned k = 0; k < 6; k++) {
		if (!decode_at(c, b, off, t, page_rip))
			break;
		ZydisMnemonic m = t->d.z.mnemonic;
		if (t->d.z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || t->d.z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
			break;
		switch (m) {
		case M(PUSHF): case M(PUSHFQ): case M(POPF): case M(POPFQ): case M(SYSCALL): case M(SYSENTER): case M(INT3): case M(INT): case M(INT1):
		case M(IRET): case M(IRETQ): case M(UD2): case M(CLAC): case M(STAC): case M(STI): case M(CLI): case M(LAHF):
			return need | (X86_ARITH & ~known);
		default: break;
		}
		memset(&t->i, 0, sizeof(t->i));
		t->i.rep = !!(t->d.z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE));
		t->kind = T_COPY;
		flags_of(t);
		need |= t->fread & ~known;
		known |= t->fkill;
		if (known == X86_ARITH)
			return need;
		off += t->len;
	}
	return need | (X86_ARITH & ~known);
}

static void liveness(struct cpu *c, const struct block *b, unsigned n, u64 page_rip)
{
	struct tinsn *in = c->tr->in;
	u16 live = X86_ARITH;

	for (unsigned k = n; k-- > 0;) {
		struct tinsn *t = &in[k];
		if ((t->kind == T_JCC || t->kind == T_JMP || t->kind == T_CALL) && (t->target & PAGE_MASK) == page_rip && !c->tr->check)
			t->live_target = needed_at(c, b, (unsigned)(t->target & ~PAGE_MASK), page_rip);
		if (t->kind == T_JMP || t->kind == T_CALL)
			live = t->live_target;
		else if (t->kind == T_JCC)
			live |= t->live_target;
		t->live_after = live;
		live = (u16)((live & ~t->fkill) | t->fread);
		t->live = live;
	}
}

/* No interrupt comes between STI and the instruction after it: here because none is looked for inside a unit. */
static bool may_follow_sti(const struct tinsn *t)
{
	return t->kind == T_COPY || t->kind == T_LEA || t->kind == T_NOP || t->kind == T_PUSH || t->kind == T_POP;
}

/*
 * The unit goes on at the target of its instruction t, the last of n, if that is a jump forward in the page, or once more round a loop that goes back to
 * where the unit begins and has room in it as a whole: round is where the last turn began. The condition then is the opposite one.
 */
static void follow(struct tinsn *t, unsigned n, u64 rip, unsigned *round)
{
	u64 target = t->target;

	if ((t->kind != T_JMP && t->kind != T_JCC) || (target & PAGE_MASK) != (rip & PAGE_MASK))
		return;
	if (target != rip) {
		if (t->kind == T_JCC || target < t->next)
			return;
	} else {
		if (n + (n - *round) > UNIT_MAX_INSNS)
			return;
		*round = n;
	}
	if (t->kind == T_JCC) {
		t->cc ^= 1;
		t->target = t->next;
	} else {
		t->kind = T_NOP;
		t->ends = false;
	}
	t->next = target;
}

unsigned x_scan(struct cpu *c, const struct block *b, u64 rip, bool *fall)
{
	struct translate *tr = c->tr;
	u64 page_rip = rip & PAGE_MASK;
	unsigned off = (unsigned)(rip & ~PAGE_MASK), n = 0, round = 0;

	*fall = true;
	while (n < (tr->check ? 1 : UNIT_MAX_INSNS)) {
		struct tinsn *t = &tr->in[n];
		if (!decode_at(c, b, off, t, page_rip))
			break;
		memset(&t->i, 0, sizeof(t->i));
		t->i.len = t->len;
		if (!lower(c, &t->d, &t->i))
			break;
		classify(t, c);
		if (n && tr->in[n - 1].kind == T_STI && !may_follow_sti(t))
			break;
		n++;
		if (!tr->check && !b->hva2)
			follow(t, n, rip, &round);
		off = (unsigned)(t->next - page_rip);
		if (t->ends) {
			*fall = false;
			break;
		}
	}
	if (n && tr->in[n - 1].kind == T_STI) { /* nothing that may come after it: the interpreter's */
		tr->in[n - 1].kind = T_OP;
		tr->in[n - 1].fread = X86_ARITH;
		tr->in[n - 1].ends = true;
		*fall = false;
	}
	if (n)
		liveness(c, b, n, page_rip);
	return n;
}
