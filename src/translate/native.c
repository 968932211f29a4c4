/* SPDX-License-Identifier: MIT */
/*
 * The host code of a unit: its ways in, an instruction after the other, and what stands out of line. Most instructions are copied with other registers
 * and, for a memory operand, T1; what is neither a copy nor in a file of its own, the interpreter does.
 */
#include "interp/ops.h"
#include "interp/stub_int.h"
#include "translate/emit.h"

#define M(n) ZYDIS_MNEMONIC_##n

/* ---- copies ---- */

const ZydisDecodedOperand *x_memory_operand(const struct decoded *d)
{
	for (unsigned k = 0; k < d->z.operand_count_visible; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return &d->op[k];
	return NULL;
}

static void need_fpu(struct xl *x, const struct tinsn *ti, unsigned need, u16 live)
{
	need &= ~(unsigned)FPU_OK_VEX;
	if (!(need & ~(unsigned)x->fpu_checked))
		return;
	xl_give_up_flags(x, live);
	u32 site = xl_site(x, ti, SITE_FPU);
	x->t->sites[site].hit = xl_here(x);
	x->t->sites[site].size = (u16)need;
	asm_rm(&x->a, false, 0xf6, 0, xea_ctx(CTX(fpu_missing))); /* test byte, need */
	e8(&x->a, need);
	xl_cold(x, SITE_FPU, site, asm_jump(&x->a, CC_NE));
	x->fpu_checked |= (u8)need;
	x->t1 = 0; /* another way comes here */
}

struct temps {
	u8 n, max;
	u8 host[2], guest[2];
	bool load[2], store[2];
};

/* The register of one operand for the new encoding. REG_NONE: no general register. False: cannot be. */
static bool rename_operand(struct temps *t, const ZydisDecodedOperand *o, u8 *out)
{
	int g = reg_gpr(o->reg.value);

	*out = REG_NONE;
	if (g < 0)
		return true;
	if (reg_is_high_byte(o->reg.value))
		return true; /* as it is: encode_copy sees to it that no REX comes before it */
	if (x_home[g] != REG_NONE) {
		*out = x_home[g];
		return true;
	}
	unsigned k = 0;
	while (k < t->n && t->guest[k] != g)
		k++;
	if (k == t->n) {
		if (t->n == t->max)
			return false;
		t->n++;
		t->guest[k] = (u8)g;
	}
	bool read = o->actions & (ZYDIS_OPERAND_ACTION_MASK_READ | ZYDIS_OPERAND_ACTION_CONDWRITE);
	bool write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	t->load[k] |= read || o->size < 32;
	t->store[k] |= write;
	*out = t->host[k];
	return true;
}

static bool rename_all(struct temps *t, const struct decoded *d, struct rename *r)
{
	u8 host;

	for (unsigned k = 0; k < d->z.operand_count; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		if (!rename_operand(t, o, &host))
			return false;
		u8 *field = rename_field(r, o);
		if (field)
			*field = host;
		else if (host != REG_NONE && host != reg_gpr(o->reg.value)) /* an implied register stands where it must */
			return false;
	}
	return true;
}

static bool is_x87_data(const struct tinsn *ti)
{
	const struct stub *s = ti->i.stub;
	return stub_is(&ti->i) && s->need == FPU_OK_X87 && !s->control;
}

static void note_x87(struct xl *x, const struct tinsn *ti)
{
	const struct stub *s = ti->i.stub;
	struct asmb *a = &x->a;

	asm_imm(a, REG_T2, ti->rip);
	asm_store(a, REG_T2, xea_ctx(CTX(x87_fip)));
	if (x_memory_operand(&ti->d)) {
		asm_load(a, REG_T2, xea_ctx(CTX(x_tmp)));
		asm_store(a, REG_T2, xea_ctx(CTX(x87_fdp)));
	}
	e8(a, 0x66); /* mov word [fop], imm16 */
	asm_rm(a, false, 0xc7, 0, xea_ctx(CTX(x87_fop)));
	e8(a, s->fop & 0xff), e8(a, s->fop >> 8);
}

/* The operand's address without the segment's base, which is what FDP holds, from T1. T2 is lost. */
static void keep_offset(struct xl *x, const ZydisDecodedOperand *m)
{
	unsigned s = xl_seg_of(m), r = REG_T1;

	if (s >= S_FS) {
		r = REG_T2;
		asm_mov(&x->a, r, REG_T1);
		asm_rm(&x->a, true, 0x2b, r, xl_seg_base(s));
	}
	asm_store(&x->a, r, xea_ctx(CTX(x_tmp)));
}

static bool is_masked(const struct tinsn *ti)
{
	return stub_is(&ti->i) && ((const struct stub *)ti->i.stub)->lanes;
}

bool x_looked_up_alone(const struct tinsn *ti)
{
	return is_masked(ti) || (stub_is(&ti->i) && stub_waits(&ti->i, ti->i.stub));
}

/* A misaligned operand is #GP before it is #PF: where there is a slow path, the interpreter sees to it. */
static u8 alignment(const struct tinsn *ti)
{
	if (ti->d.z.mnemonic == M(CMPXCHG16B))
		return 15;
	return stub_is(&ti->i) ? ((const struct stub *)ti->i.stub)->align : 0;
}

static bool copy(struct xl *x, const struct tinsn *ti, bool last_x87)
{
	const struct decoded *d = &ti->d;
	const ZydisDecodedOperand *m = x_memory_operand(d);
	struct temps t = { .max = m ? 1 : 2, .host = { REG_T2, REG_T1 } };
	struct rename r = { REG_NONE, REG_NONE, REG_NONE, REG_NONE, m, REG_T1, 0, false, 0, 0 };
	struct xea at = xea_base(REG_T1, 0);
	u16 through = ti->fwrite ? ti->live_after & ~ti->fkill : 0; /* what it may leave as it was */
	u32 site = 0;

	if (m && (m->mem.type != ZYDIS_MEMOP_TYPE_MEM || m->size % 8 || !m->size))
		return false;
	if (!rename_all(&t, d, &r))
		return false;
	if (stub_is(&ti->i))
		need_fpu(x, ti, ((const struct stub *)ti->i.stub)->need, ti->live);
	if (m) {
		bool write = m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		if (is_x87_data(ti)) {
			xl_give_up_flags(x, ti->live);
			xl_linear(x, ti, m);
			if (last_x87)
				keep_offset(x, m);
			site = xl_translate(x, ti, m->size / 8, write, xl_seg_of(m));
			at = xl_on_host(x, ti, m);
		} else {
			site = xl_operand(x, ti, m, m->size / 8, write, ti->live, &at);
		}
		if (site) {
			x->t->sites[site].masked = x_looked_up_alone(ti); /* a pending exception comes before a fault */
			x->t->sites[site].align = alignment(ti);
		}
	}
	xl_want_flags(x, ti->fread | through);
	bool keeps = d->z.mnemonic == M(BSF) || d->z.mnemonic == M(BSR); /* the destination, when the source is 0 */
	for (unsigned k = 0; k < t.n; k++)
		if (t.load[k] || keeps)
			asm_load(&x->a, t.host[k], xea_ctx(xl_gpr_slot(t.guest[k])));
	/* AH and the like cannot be named beside T1. */
	bool by_rsi = m && encode_has_high_byte(d);
	if (by_rsi) {
		asm_store(&x->a, R_SI, xea_ctx(CTX(x_tmp)));
		asm_lea(&x->a, R_SI, at);
		at = xea_base(R_SI, 0);
	}
	r.mbase = at.base;
	r.mdisp = at.disp;
	r.sib = at.index != REG_NONE;
	r.mindex = at.index;
	r.mshift = at.scale;
	xl_mark(x, ti);
	x->t->marks[x->t->nmarks - 1].rsi = by_rsi;
	if (!asm_copy(&x->a, d, &r))
		return false;
	if (by_rsi)
		asm_load(&x->a, R_SI, xea_ctx(CTX(x_tmp)));
	for (unsigned k = 0; k < t.n; k++)
		if (t.store[k])
			asm_store(&x->a, t.host[k], xea_ctx(xl_gpr_slot(t.guest[k])));
	if (ti->fwrite)
		x->in_reg = true, x->in_slot = false;
	if (m)
		xl_next(x, site);
	else if (t.n < 2)
		x->t1_next = x->t1;
	if (is_x87_data(ti) && last_x87)
		note_x87(x, ti);
	return true;
}

/* ---- through the interpreter ---- */

u32 xl_lowered(struct xl *x, const struct tinsn *ti)
{
	struct insn *p = &x->t->insns[2 * x->t->ninsns];

	p[0] = ti->i;
	memset(&p[1], 0, sizeof(p[1]));
	p[1].fn = x_stop;
	return x->t->ninsns++;
}

void xl_interpreted(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;

	xl_move_sp(x, 0);
	if (ti->fread | (ti->live_after & ~ti->fkill))
		xl_want_slot(x, X86_ARITH);
	u32 site = xl_site(x, ti, SITE_OP);
	struct site *s = &x->t->sites[site];
	s->insn = xl_lowered(x, ti);
	s->ends = ti->ends;
	asm_imm(a, REG_T2, site);
	asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_op);
	xl_next(x, site);
	x->in_reg = x->in_slot = true; /* both, as cpu.af was loaded again */
	x->fpu_checked = 0;
}

static void lea(struct xl *x, const struct tinsn *ti)
{
	const struct decoded *d = &ti->d;
	unsigned g = (unsigned)reg_gpr(d->op[0].reg.value), dst = x_home[g] != REG_NONE ? x_home[g] : REG_T2;
	struct xea ea = xl_operand_ea(x, ti, &d->op[1]);

	if (d->z.address_width == 32 && d->op[0].size == 64) /* the address is cut before it is extended */
		asm_rm(&x->a, false, 0x8d, dst, ea);
	else
		asm_rm(&x->a, d->op[0].size == 64, 0x8d, dst, ea);
	xl_from_host(x, g, dst);
	if (ea.base != REG_T1)
		x->t1_next = x->t1;
}

static bool lea_ok(const struct tinsn *ti)
{
	return ti->d.op[0].size >= 32 && ti->d.z.address_width >= 32;
}

/* ---- the unit ---- */

static void one(struct xl *x, const struct tinsn *ti, bool last_x87)
{
	if (x->sp_late && !xl_sp_may_wait(x, ti))
		xl_move_sp(x, 0);
	switch (ti->kind) {
	case T_NOP: x->t1_next = x->t1; return;
	case T_CLI: xl_cli(x, ti); return;
	case T_STI: xl_sti(x, ti); return;
	case T_CLD: xl_cld(x, ti); return;
	case T_CLAC: xl_set_ac(x, ti, false); return;
	case T_STAC: xl_set_ac(x, ti, true); return;
	case T_PUSHF: xl_pushf(x, ti); return;
	case T_SREG: xl_from_sreg(x, ti); return;
	case T_MOFFS: xl_moffs(x, ti); return;
	case T_STRING: xl_string(x, ti); return;
	case T_BIT:
		if (!xl_bit_string(x, ti))
			xl_interpreted(x, ti);
		return;
	case T_SWAPGS: xl_swapgs(x); return;
	case T_RDTSC: xl_rdtsc(x, ti); return;
	case T_LEA:
		if (lea_ok(ti))
			lea(x, ti);
		else
			xl_interpreted(x, ti);
		return;
	case T_PUSH: xl_push(x, ti); return;
	case T_POP: xl_pop(x, ti); return;
	case T_LEAVE: xl_leave(x, ti); return;
	case T_JCC:
		xl_want_flags(x, ti->fread);
		xl_leave_to(x, ti, asm_jump(&x->a, ti->cc), ti->target, ti->live_target);
		x->t1_next = x->t1;
		return;
	case T_JMP: xl_leave_always(x, ti, ti->target, ti->live_target); return;
	case T_CALL: xl_call(x, ti); return;
	case T_JMP_IND: xl_jmp_indirect(x, ti); return;
	case T_CALL_IND: xl_call_indirect(x, ti); return;
	case T_RET: xl_ret(x, ti); return;
	case T_COPY: {
		u32 nsites = x->t->nsites, nmarks = x->t->nmarks, umarks = x->u->nmarks;
		u8 before[offsetof(struct xl, cold)];
		memcpy(before, x, sizeof(before));
		if (copy(x, ti, last_x87))
			return;
		memcpy(x, before, sizeof(before));
		x->t->nsites = nsites, x->t->nmarks = nmarks, x->u->nmarks = umarks;
		xl_interpreted(x, ti);
		return;
	}
	default: xl_interpreted(x, ti);
	}
}

/* The span runs into the next page: on in the plain twin. The jump is patched when there is one. */
static void cold_span(struct xl *x, struct cold *c)
{
	struct asmb *a = &x->a;
	struct site *s = &x->t->sites[c->plain];

	asm_ri(a, true, 7, REG_T1, PAGE_SIZE);
	u8 *miss = asm_jump(a, CC_AE), *jump = asm_jump(a, CC_ALWAYS);
	s->plain = true;
	s->next = (u32)(jump - x->t->rw);
	asm_patch(jump, a->p);
	asm_imm(a, REG_T2, c->plain);
	asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_exit);
	asm_patch(miss, a->p);
	x->t->sites[c->site].next = xl_here(x);
}

static void cold_mem(struct xl *x, struct cold *c)
{
	struct asmb *a = &x->a;
	struct xea tag = { REG_CTX, REG_T2, 3, c->undo };

	if (c->plain)
		cold_span(x, c);
	if (c->undo)
		asm_rm(a, true, 0x33, REG_T1, tag);
	asm_imm(a, REG_T2, c->site);
	asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_mem);
}

static void cold_part(struct xl *x, struct cold *c)
{
	struct asmb *a = &x->a;
	struct site *s = &x->t->sites[c->site];

	asm_patch(c->jump, a->p);
	switch (c->kind) {
	case SITE_MEM: cold_mem(x, c); break;
	case SITE_FPU:
	case SITE_OP:
	case SITE_WINDOW:
		asm_imm(a, REG_T2, c->site);
		asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_op);
		break;
	case SITE_POLL:
		if (!c->in_slot)
			xl_save_flags(x);
		asm_imm(a, REG_T2, c->site);
		asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_exit);
		break;
	case SITE_LINK:
		/* The jump here is patched when the target has been translated. One that is far goes by here for ever. */
		if (!s->dead && !c->in_slot)
			xl_save_flags(x);
		s->hit = xl_here(x);
		asm_imm(a, REG_T2, c->site);
		asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_exit);
		break;
	default:
		asm_imm(a, REG_T2, c->site);
		asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_exit);
	}
}

/* Are the flags that come in lost to the look-up of an address before anything reads or changes them in the host's register? */
static bool saved_first(const struct tinsn *in, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		const struct tinsn *t = &in[k];
		if (t->kind == T_JCC || t->kind == T_JMP)
			return false;
		if (t->kind != T_COPY && t->kind != T_LEA && t->kind != T_NOP)
			return true;
		if (t->kind == T_COPY && x_memory_operand(&t->d))
			return true;
		if (t->fread || t->fwrite)
			return false;
	}
	return false;
}

/* The ways in. */
static void head(struct xl *x, u16 live_in, bool by_slot)
{
	struct unit *u = x->u;

	struct asmb *a = &x->a;
	u32 site = xl_site(x, NULL, SITE_POLL);

	x->t->sites[site].rip = u->rip;
	u->start = u->slot = xl_here(x);
	u->by_slot = by_slot;
	x->in_reg = true;
	x->in_slot = false;
	if (by_slot) {
		u->flags = xl_here(x);
		xl_save_flags(x);
		x->in_reg = false;
		u->poll = xl_here(x);
		asm_rm(a, false, 0x83, 7, xea_ctx(CTX(requests))), e8(a, 0);
		xl_cold(x, SITE_POLL, site, asm_jump(a, CC_NE));
		u->slot = xl_here(x);
		return;
	}
	if (live_in) { /* JRCXZ leaves them alone */
		xl_load_flags(x);
		u8 *over = asm_short(a, 0xeb);
		u->poll = xl_here(x);
		x->in_slot = false;
		asm_mov(a, REG_T2, R_CX);
		asm_rm(a, false, 0x8b, R_CX, xea_ctx(CTX(requests)));
		u8 *none = asm_short(a, 0xe3);
		asm_mov(a, R_CX, REG_T2);
		xl_cold(x, SITE_POLL, site, asm_jump(a, CC_ALWAYS));
		asm_patch_short(none, a->p);
		asm_mov(a, R_CX, REG_T2);
		asm_patch_short(over, a->p);
	} else {
		u->poll = xl_here(x);
		asm_rm(a, false, 0x83, 7, xea_ctx(CTX(requests))), e8(a, 0);
		xl_cold(x, SITE_POLL, site, asm_jump(a, CC_NE))->in_slot = true; /* nobody needs them */
		u->slot = xl_here(x);
	}
	u->flags = xl_here(x);
	x->in_slot = false;
}

struct unit *x_emit(struct cpu *c, const struct block *b, u64 rip, unsigned n, bool fall, bool plain)
{
	struct translate *t = c->tr;
	struct tinsn *in = t->in;
	struct xl room, *x = &room;

	x->c = c;
	x->t = t;
	x->a = (struct asmb){ t->rw + t->pos };
	x->u = &t->units[t->nunits];
	x->idx = c->mmu_idx;
	x->word = c->code_size;
	x->fpu_checked = 0;
	x->ncold = 0;
	if (plain || c->code_size != 8)
		for (unsigned k = 0; k < n; k++)
			in[k].operand = in[k].stack = (struct share){ 0 };
	else
		x_share(t, n);
	*x->u = (struct unit){ .rip = rip, .b = b, .mark = t->nmarks, .live_in = in[0].live, .mmu_idx = c->mmu_idx, .space = (u8)x_space(c), .user = c->cpl == 3, .plain = plain };
	head(x, in[0].live, in[0].live && !t->check && saved_first(in, n));
	/* The last x87 instruction's address, and the last one's operand's, are what can be seen afterwards. */
	unsigned last_x87 = n, last_x87_mem = n;
	for (unsigned k = 0; k < n; k++)
		if (in[k].kind == T_COPY && is_x87_data(&in[k])) {
			last_x87 = k;
			last_x87_mem = x_memory_operand(&in[k].d) ? k : last_x87_mem;
		}
	x->spans_ok = x->t1_next = 0;
	x->sp_late = 0;
	for (unsigned k = 0; k < n; k++) {
		in[k].host = xl_here(x);
		x->u->bytes = (u16)(x->u->bytes + in[k].len);
		x->t1 = x->t1_next;
		x->t1_next = 0;
		one(x, &in[k], k == last_x87 || k == last_x87_mem);
		if (k && in[k - 1].kind == T_STI)
			xl_sti_after(x, &in[k]);
	}
	xl_move_sp(x, 0);
	if (fall)
		xl_leave_always(x, &in[n - 1], in[n - 1].next, X86_ARITH);
	in[n].host = xl_here(x);
	for (unsigned k = 0; k < x->ncold; k++)
		cold_part(x, &x->cold[k]);
	x->u->end = xl_here(x);
	t->pos = ALIGN_UP(xl_here(x), 16);
	t->nunits++;
	return x->u;
}
