/* SPDX-License-Identifier: MIT */
/*
 * Host code for the instructions of a unit.
 *
 * T1 and T2 are scratch between guest instructions. Within one, a memory operand's host address is made in T1 first; then guest registers
 * without a home stand in T2 (or in both, when there is no memory operand); the last host instruction that can fault is the first that
 * changes guest state.
 *
 * Flags are in the host's (in_reg), in cpu.af (in_slot), in both, or, when nothing needs them, in neither.
 */
#include "interp/ops.h"
#include "interp/stub_int.h"
#include "translate/translate.h"

#define M(n) ZYDIS_MNEMONIC_##n

const u8 x_home[16] = { R_AX, R_CX, R_DX, R_BX, R_15, R_BP, R_SI, R_DI, R_8, R_9, REG_NONE, REG_NONE, R_12, R_13, R_14, REG_NONE };
#define HOME_SP R_15

struct cold { /* code out of line: at the unit's end */
	u8 *jump;  /* of the hot part, to patch */
	u32 site;
	u8 kind;
	bool in_slot;
	s32 undo;  /* MEM: displacement of the TLB tag that T1 was XORed with; 0: nothing to undo */
	u32 plain; /* MEM: the site of the jump to the plain twin, if this is a span */
};

struct xl {
	struct cpu *c;
	struct translate *t;
	struct asmb a;
	struct unit *u;
	unsigned idx;     /* cpu_mmu_idx of data accesses */
	unsigned word;    /* 8, or 4: bytes that the stack moves by, and that addresses of code have */
	bool in_reg, in_slot;
	u8 fpu_checked;   /* needs that were found fulfilled */
	u8 spans_ok;      /* those that were looked up: their addresses are in cpu.x_span */
	s16 sp_late;      /* what is yet to be added to RSP: see move_sp_late() */
	u64 hint;         /* where the access may be that is being looked up: for a guess */
	u8 t1, t1_next;   /* index + 1 of the span whose address is in T1: before this instruction, after it */
	unsigned ncold;
	struct cold cold[UNIT_MAX_INSNS * 4];
};

static u32 here(const struct xl *x)
{
	return (u32)(x->a.p - x->t->rw);
}

static u32 new_site(struct xl *x, const struct tinsn *ti, enum site_kind k)
{
	u32 n = x->t->nsites++;
	struct site *s = &x->t->sites[n];

	*s = (struct site){ .rip = ti ? ti->rip : 0, .unit = (u32)(x->u - x->t->units), .off = ti ? ti->off : 0, .kind = (u8)k, .seg = S_DS };
	return n;
}

static struct cold *add_cold(struct xl *x, enum site_kind k, u32 site, u8 *jump)
{
	struct cold *c = &x->cold[x->ncold++];

	*c = (struct cold){ .jump = jump, .site = site, .kind = (u8)k, .in_slot = x->in_slot };
	return c;
}

static void mark(struct xl *x, const struct tinsn *ti)
{
	x->t->marks[x->t->nmarks++] = (struct mark){ here(x), ti->off, x->in_slot || !x->in_reg, ti->kind == T_STRING, (ti->d.z.opcode & 0xfe) == 0xa4, false, x->sp_late };
	x->u->nmarks++;
}

/* ---- flags ---- */

static void save_flags(struct xl *x)
{
	struct asmb *a = &x->a;

	asm_mov(a, REG_T2, R_AX);
	e8(a, 0x9f);                              /* lahf */
	e8(a, 0x0f), e8(a, 0x90), e8(a, 0xc0);    /* seto al */
	e8(a, 0x66);                              /* the upper half of af is always 0 */
	asm_rm(a, false, 0x89, R_AX, xea_ctx(CTX(af)));
	asm_mov(a, R_AX, REG_T2);
	x->in_slot = true;
}

static void load_flags(struct xl *x)
{
	struct asmb *a = &x->a;

	asm_mov(a, REG_T2, R_AX);
	asm_load_af(a);
	asm_mov(a, R_AX, REG_T2);
	x->in_reg = true;
}

/* The host's flags are about to be lost; `live` of them are still needed. T2 is lost. */
static void give_up_flags(struct xl *x, u16 live)
{
	if (live && !x->in_slot && x->in_reg)
		save_flags(x);
	x->in_reg = false;
}

static void want_flags(struct xl *x, u16 needed)
{
	if (needed && !x->in_reg && x->in_slot)
		load_flags(x);
}

static void want_slot(struct xl *x, u16 live)
{
	if (live && !x->in_slot && x->in_reg)
		save_flags(x);
}

/* ---- registers ---- */

static s32 gpr_slot(unsigned g)
{
	return (s32)(8 * g);
}

/* Host register that holds guest register g: its home, or tmp, loaded. */
static unsigned in_host(struct xl *x, unsigned g, unsigned tmp)
{
	if (x_home[g] != REG_NONE)
		return x_home[g];
	asm_load(&x->a, tmp, xea_ctx(gpr_slot(g)));
	return tmp;
}

static void from_host(struct xl *x, unsigned g, unsigned host)
{
	if (x_home[g] != REG_NONE)
		asm_mov(&x->a, x_home[g], host);
	else
		asm_store(&x->a, host, xea_ctx(gpr_slot(g)));
}

/* RSP, by this much and what it lacks: sp_late. */
static void move_sp(struct xl *x, s32 by)
{
	by += x->sp_late;
	x->sp_late = 0;
	if (by)
		asm_rm(&x->a, x->word == 8, 0x8d, HOME_SP, xea_base(HOME_SP, by));
}

/* ---- guest memory ---- */

static unsigned seg_of(const ZydisDecodedOperand *m)
{
	return m->mem.segment == ZYDIS_REGISTER_FS ? S_FS : m->mem.segment == ZYDIS_REGISTER_GS ? S_GS : m->mem.segment == ZYDIS_REGISTER_SS ? S_SS : S_DS;
}

static struct xea seg_base(unsigned s)
{
	return xea_ctx(CTX(seg) + (s32)(s * sizeof(struct cpu_seg) + offsetof(struct cpu_seg, base)));
}

bool x_absolute(const struct tinsn *ti, const ZydisDecodedOperand *m, u64 *la)
{
	if (seg_of(m) >= S_FS)
		return false;
	if (ti->d.z.address_width == 64 && m->mem.base == ZYDIS_REGISTER_RIP)
		*la = ti->rip + ti->len + (u64)m->mem.disp.value;
	else if (ti->d.z.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 && m->mem.base == ZYDIS_REGISTER_NONE && m->mem.index == ZYDIS_REGISTER_NONE)
		*la = (u32)m->mem.disp.value;
	else
		return false;
	return true;
}

/* The operand in terms of host registers: loads those without a home into T1 and T2. */
static struct xea operand_ea(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	struct xea ea = { REG_NONE, REG_NONE, 0, (s32)m->mem.disp.value };
	const ZydisDecodedInstruction *z = &ti->d.z;
	bool no_base = z->raw.modrm.mod == 0 && z->raw.modrm.rm == 4 && z->raw.sib.base == 5 && z->raw.sib.offset; /* lower.c knows why */
	int b = no_base ? -1 : stub_gpr(m->mem.base), i = stub_gpr(m->mem.index);

	if (m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP) {
		asm_imm(&x->a, REG_T1, ti->rip + ti->len + (u64)m->mem.disp.value);
		return xea_base(REG_T1, 0);
	}
	if (no_base)
		ea.disp = (s32)z->raw.disp.value;
	if (b >= 0)
		ea.base = (u8)in_host(x, (unsigned)b, REG_T1);
	if (i >= 0) {
		ea.index = (u8)in_host(x, (unsigned)i, REG_T2);
		ea.scale = m->mem.scale > 1 ? (u8)__builtin_ctz(m->mem.scale) : 0;
	}
	return ea;
}

bool x_segment_base(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	return ti->d.z.address_width == 64 && seg_of(m) >= S_FS && m->mem.base == ZYDIS_REGISTER_NONE && m->mem.index == ZYDIS_REGISTER_NONE &&
	       m->mem.disp.value == (s32)m->mem.disp.value;
}

bool x_simple_base(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	const ZydisDecodedInstruction *z = &ti->d.z;

	return z->address_width == 64 && seg_of(m) < S_FS && ZydisRegisterGetClass(m->mem.base) == ZYDIS_REGCLASS_GPR64 && m->mem.index == ZYDIS_REGISTER_NONE &&
	       m->mem.disp.value == (s32)m->mem.disp.value;
}

/* T1: linear address, by its own instructions. May change the host's flags when a segment has a base. */
static void linear(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	struct xea ea = operand_ea(x, ti, m);
	bool w = ti->d.z.address_width == 64;
	unsigned s = seg_of(m);
	int b = stub_gpr(m->mem.base), i = stub_gpr(m->mem.index);

	asm_rm(&x->a, w, 0x8d, REG_T1, ea);
	if (s >= S_FS)
		asm_rm(&x->a, true, 0x03, REG_T1, seg_base(s));
	x->hint = (b < 0 ? 0 : x->c->gpr[b]) + (i < 0 ? 0 : x->c->gpr[i] * m->mem.scale) + (u64)m->mem.disp.value + (s >= S_FS ? x->c->seg[s].base : 0);
}

static s32 tlb_at(const struct xl *x, unsigned field)
{
	return CTX(tlbs) + (s32)(x->idx * CPU_TLB_SIZE * sizeof(struct cpu_tlbe) + field);
}
#define TAG(write) ((write) ? offsetof(struct cpu_tlbe, wtag) : offsetof(struct cpu_tlbe, rtag))
#define HOST(write) ((write) ? offsetof(struct cpu_tlbe, whost) : offsetof(struct cpu_tlbe, host))

static u32 span_site(struct xl *x, const struct tinsn *ti, const struct share *sh, unsigned size, bool write)
{
	const struct span *sp = &x->t->span[sh->group - 1];
	u32 site = new_site(x, ti, SITE_MEM);
	struct site *s = &x->t->sites[site];

	s->spans = true;
	s->at = (s16)sh->at;
	s->asize = (u8)size;
	s->awrite = write;
	s->size = sp->bytes;
	s->write = sp->write;
	return site;
}

/* T2: the place of T1's entry in the TLB, in 8 bytes. */
static void entry_of_t1(struct asmb *a)
{
	asm_mov(a, REG_T2, REG_T1);
	asm_rr(a, true, 0xc1, 5, REG_T2), e8(a, PAGE_SHIFT - 2); /* shr */
	asm_ri(a, false, 4, REG_T2, (CPU_TLB_SIZE - 1) << 2);
}
_Static_assert(sizeof(struct cpu_tlbe) == 32, "in 8 bytes, by shifts");

/* From T1, linear, to the offset in the page if e's tag is this one; the jump if not, or if the access runs out of the page. */
static u8 *compare_tag(struct asmb *a, struct xea e, s32 table, unsigned size, bool write)
{
	e.disp += table + (s32)TAG(write);
	asm_rm(a, true, 0x33, REG_T1, e);
	asm_ri(a, true, 7, REG_T1, (s32)(PAGE_SIZE - size));
	return asm_jump(a, CC_A);
}

static void add_host(struct asmb *a, struct xea e, s32 table, bool write)
{
	e.disp += table + (s32)HOST(write);
	asm_rm(a, true, 0x03, REG_T1, e);
}

static const struct xea indexed = { REG_CTX, REG_T2, 3, 0 };

/*
 * Guesses. In user code, which loops more than the kernel's, the entry is in the instructions: that which the access used last. What depends on it
 * then waits for two instructions instead of ten cycles, and the code is shorter by a third. Both tags and host pages of an entry that is
 * not there are proof against addresses that are not its own (cpu_tlb_none()).
 */
static struct xea guessed(u32 n)
{
	return xea_ctx((s32)(n * sizeof(struct cpu_tlbe)));
}
_Static_assert(CTX(tlbs) > 127, "the two displacements have 32 bits");

static s32 table_of(const struct site *s)
{
	return CTX(tlbs) + (s32)(s->mmu_idx * CPU_TLB_SIZE * sizeof(struct cpu_tlbe));
}

void x_guess(struct translate *t, struct site *s, u32 n)
{
	s32 e = table_of(s) + guessed(n).disp, tag = e + (s32)TAG(s->write), host = e + (s32)HOST(s->write);

	memcpy(t->rw + s->entry + 4, &tag, 4); /* behind REX, opcode, ModRM and SIB */
	memcpy(t->rw + s->hit - 4, &host, 4);
	s->guess = (u16)(n + 1);
}

/* The site is wrong too often: from now on it looks up, out of line. Room: GUESS_MAX. */
void x_guess_no_more(struct translate *t, struct site *s)
{
	struct asmb asmb = { t->rw + t->pos }, *a = &asmb;
	u8 *start = a->p, *away, *jump = t->rw + s->hit - 12, *cold;
	s32 rel, table = table_of(s);

	memcpy(&rel, jump, 4);
	cold = jump + 4 + rel;
	entry_of_t1(a);
	away = compare_tag(a, indexed, table, s->size, s->write);
	add_host(a, indexed, table, s->write);
	asm_jump_to(a, CC_ALWAYS, t->rw + s->hit);
	asm_patch(away, a->p);
	if (s->spans) { /* cold_span() looks at T1 first */
		asm_ri(a, true, 7, REG_T1, PAGE_SIZE);
		asm_jump_to(a, 2, cold); /* jb */
		cold = t->rw + s->next;
	}
	asm_rm(a, true, 0x33, REG_T1, (struct xea){ REG_CTX, REG_T2, 3, table + (s32)TAG(s->write) });
	asm_jump_to(a, CC_ALWAYS, cold);
	t->pos = (u32)ALIGN_UP((u64)(a->p - t->rw), 16);
	t->rw[s->entry] = 0xe9;
	asm_patch(t->rw + s->entry + 1, start);
	s->guess = 0;
}

/* T1: from linear to host address, or away to the slow path. The host's flags and T2 are lost. */
static u32 translate_as(struct xl *x, u32 site, unsigned size, bool write, unsigned seg)
{
	struct asmb *a = &x->a;
	bool guess = x->u->user && !x->t->check;
	u32 n = (u32)(x->hint >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1);
	struct xea e = guess ? guessed(n) : indexed;
	s32 table = tlb_at(x, 0);
	struct site *s = &x->t->sites[site];

	if (!guess)
		entry_of_t1(a);
	s->mmu_idx = (u8)x->idx;
	s->entry = here(x);
	s->guess = guess ? (u16)(n + 1) : 0;
	struct cold *c = add_cold(x, SITE_MEM, site, compare_tag(a, e, table, size, write));
	c->undo = guess ? 0 : table + (s32)TAG(write);
	add_host(a, e, table, write);
	s->hit = here(x);
	s->size = (u16)size;
	s->write = write;
	s->seg = (u8)seg;
	return site;
}

static u32 translate_t1(struct xl *x, const struct tinsn *ti, unsigned size, bool write, unsigned seg)
{
	return translate_as(x, new_site(x, ti, SITE_MEM), size, write, seg);
}
/* The same for a page that is known, and so is its entry. T1: the page's host address. */
static void translate_page(struct xl *x, u32 site, u64 page, bool write)
{
	struct asmb *a = &x->a;
	struct site *s = &x->t->sites[site];
	s32 entry = (s32)(((page >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1)) * sizeof(struct cpu_tlbe));

	if (page == (u64)(s64)(s32)page) {
		asm_rm(a, true, 0x81, 7, xea_ctx(tlb_at(x, TAG(write)) + entry));
		e32(a, (u32)page);
	} else {
		asm_imm(a, REG_T1, page);
		asm_rm(a, true, 0x3b, REG_T1, xea_ctx(tlb_at(x, TAG(write)) + entry));
	}
	add_cold(x, SITE_MEM, site, asm_jump(a, CC_NE));
	asm_load(a, REG_T1, xea_ctx(tlb_at(x, HOST(write)) + entry));
	s->hit = here(x);
	s->absolute = true;
}

/* T1 + *disp: host address of an access that shares its look-up. It does it, if it is the first. */
static u32 shared(struct xl *x, const struct tinsn *ti, const struct share *sh, unsigned size, bool write, unsigned seg, u16 live, s32 *disp)
{
	struct asmb *a = &x->a;
	const struct span *sp = &x->t->span[sh->group - 1];
	struct xea kept = xea_ctx(CTX(x_span) + 8 * (s32)(sh->group - 1));

	*disp = sh->at;
	if (x->spans_ok & BIT(sh->group - 1)) {
		if (x->t1 != sh->group)
			asm_load(a, REG_T1, kept);
		x->t1_next = sh->group;
		return 0;
	}
	give_up_flags(x, live);
	u32 site = span_site(x, ti, sh, size, write);
	s32 from = sp->lo - sh->off;
	if (sh->base == SHARE_PAGE) {
		x->t->sites[site].la = sp->page;
		translate_page(x, site, sp->page, sp->write);
	} else {
		if (sh->base >= SHARE_FS)
			asm_load(a, REG_T1, seg_base(S_FS + sh->base - SHARE_FS));
		asm_lea(a, REG_T1, xea_base(sh->base >= SHARE_FS ? REG_T1 : in_host(x, sh->base, REG_T1), from));
		x->hint = (sh->base >= SHARE_FS ? x->c->seg[S_FS + sh->base - SHARE_FS].base : x->c->gpr[sh->base]) + (u64)(s64)from;
		translate_as(x, site, sp->bytes, sp->write, seg);
		x->cold[x->ncold - 1].plain = new_site(x, ti, SITE_LINK);
	}
	asm_store(a, REG_T1, kept);
	x->spans_ok |= (u8)BIT(sh->group - 1);
	x->t1_next = sh->group;
	return site;
}

/* T1 + *disp: host address of the operand, `live` of the flags kept. The site, whose `next` is to be filled. */
static u32 operand_host(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m, unsigned size, bool write, u16 live, s32 *disp)
{
	u64 la;

	*disp = 0;
	if (ti->operand.group)
		return shared(x, ti, &ti->operand, size, write, seg_of(m), live, disp);
	give_up_flags(x, live);
	if (x_absolute(ti, m, &la) && (la & ~PAGE_MASK) + size <= PAGE_SIZE) {
		u32 site = new_site(x, ti, SITE_MEM);
		x->t->sites[site].la = la;
		x->t->sites[site].size = (u16)size;
		x->t->sites[site].write = write;
		translate_page(x, site, la & PAGE_MASK, write);
		*disp = (s32)(la & ~PAGE_MASK);
		return site;
	}
	linear(x, ti, m);
	return translate_t1(x, ti, size, write, seg_of(m));
}

/* site: 0: none, since the access was of a span that had been looked up. */
static void site_next(struct xl *x, u32 site)
{
	if (site && !x->t->sites[site].spans)
		x->t->sites[site].next = here(x);
}

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
	give_up_flags(x, live);
	u32 site = new_site(x, ti, SITE_FPU);
	x->t->sites[site].hit = here(x);
	x->t->sites[site].size = (u16)need;
	asm_rm(&x->a, false, 0xf6, 0, xea_ctx(CTX(fpu_missing))); /* test byte, need */
	e8(&x->a, need);
	add_cold(x, SITE_FPU, site, asm_jump(&x->a, CC_NE));
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
	int g = stub_gpr(o->reg.value);

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
		else if (host != REG_NONE && host != stub_gpr(o->reg.value)) /* an implied register stands where it must */
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
	unsigned s = seg_of(m), r = REG_T1;

	if (s >= S_FS) {
		r = REG_T2;
		asm_mov(&x->a, r, REG_T1);
		asm_rm(&x->a, true, 0x2b, r, seg_base(s));
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
	struct rename r = { REG_NONE, REG_NONE, REG_NONE, REG_NONE, m, REG_T1, 0 };
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
			give_up_flags(x, ti->live);
			linear(x, ti, m);
			if (last_x87)
				keep_offset(x, m);
			site = translate_t1(x, ti, m->size / 8, write, seg_of(m));
		} else {
			site = operand_host(x, ti, m, m->size / 8, write, ti->live, &r.mdisp);
		}
		if (site) {
			x->t->sites[site].masked = x_looked_up_alone(ti); /* a pending exception comes before a fault */
			x->t->sites[site].align = alignment(ti);
		}
	}
	want_flags(x, ti->fread | through);
	bool keeps = d->z.mnemonic == M(BSF) || d->z.mnemonic == M(BSR); /* the destination, when the source is 0 */
	for (unsigned k = 0; k < t.n; k++)
		if (t.load[k] || keeps)
			asm_load(&x->a, t.host[k], xea_ctx(gpr_slot(t.guest[k])));
	/* AH and the like cannot be named beside T1. */
	bool by_rsi = m && encode_has_high_byte(d);
	if (by_rsi) {
		asm_store(&x->a, R_SI, xea_ctx(CTX(x_tmp)));
		asm_mov(&x->a, R_SI, REG_T1);
		r.mbase = R_SI;
	}
	mark(x, ti);
	x->t->marks[x->t->nmarks - 1].rsi = by_rsi;
	if (!asm_copy(&x->a, d, &r))
		return false;
	if (by_rsi)
		asm_load(&x->a, R_SI, xea_ctx(CTX(x_tmp)));
	for (unsigned k = 0; k < t.n; k++)
		if (t.store[k])
			asm_store(&x->a, t.host[k], xea_ctx(gpr_slot(t.guest[k])));
	if (ti->fwrite)
		x->in_reg = true, x->in_slot = false;
	if (m)
		site_next(x, site);
	else if (t.n < 2)
		x->t1_next = x->t1;
	if (is_x87_data(ti) && last_x87)
		note_x87(x, ti);
	return true;
}

/* ---- through the interpreter ---- */

static u32 lowered(struct xl *x, const struct tinsn *ti)
{
	struct insn *p = &x->t->insns[2 * x->t->ninsns];

	p[0] = ti->i;
	memset(&p[1], 0, sizeof(p[1]));
	p[1].fn = x_stop;
	return x->t->ninsns++;
}

static void interpreted(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;

	move_sp(x, 0);
	if (ti->fread | (ti->live_after & ~ti->fkill))
		want_slot(x, X86_ARITH);
	u32 site = new_site(x, ti, SITE_OP);
	struct site *s = &x->t->sites[site];
	s->insn = lowered(x, ti);
	s->ends = ti->ends;
	asm_imm(a, REG_T2, site);
	asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_op);
	site_next(x, site);
	x->in_reg = x->in_slot = true; /* both, as cpu.af was loaded again */
	x->fpu_checked = 0;
}

/* ---- ways out ---- */

static void leave_to(struct xl *x, const struct tinsn *ti, u8 *jump, u64 target, u16 live)
{
	u32 site = new_site(x, NULL, SITE_LINK);
	struct site *s = &x->t->sites[site];

	s->rip = target;
	s->backward = target <= ti->rip;
	s->mmu_idx = (u8)x->idx;
	s->in_reg = x->in_reg;
	s->in_slot = x->in_slot;
	s->dead = !live;
	s->next = (u32)(jump - x->t->rw);
	struct cold *c = add_cold(x, SITE_LINK, site, jump);
	c->in_slot = x->in_slot;
}

static void leave_always(struct xl *x, const struct tinsn *ti, u64 target, u16 live)
{
	leave_to(x, ti, asm_jump(&x->a, CC_ALWAYS), target, live);
}

/* T1 holds the target; adjust: what RSP was changed by, to be undone if the target is not canonical. */
static void leave_indirect(struct xl *x, const struct tinsn *ti, s64 adjust)
{
	struct asmb *a = &x->a;
	u32 site = new_site(x, ti, SITE_IND);

	x->t->sites[site].la = (u64)adjust;
	x->t->sites[site].insn = lowered(x, ti);
	asm_rm(a, false, 0xc7, 0, xea_ctx(CTX(x_site)));
	e32(a, site);
	if (x->idx == MMU_KERNEL_AC) { /* the table is of those that run without AC */
		asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_ind);
		return;
	}
	asm_rr(a, false, 0x8b, REG_T2, REG_T1);
	asm_ri(a, false, 4, REG_T2, ((1 << CPU_JC_BITS) - 1) << XJC_SHIFT); /* x_jc_slot() */
	struct xea e = { REG_CTX, REG_T2, 3 - XJC_SHIFT, CTX(jc) + (s32)(x->u->space * sizeof(x->c->jc[0])) };
	asm_rm(a, false, 0xff, 4, e);
}

/* ---- stack and jumps ---- */

/* T1 + *disp: room for a word below RSP. */
static u32 push_room(struct xl *x, const struct tinsn *ti, u16 live, s32 *disp)
{
	*disp = 0;
	if (ti->stack.group)
		return shared(x, ti, &ti->stack, 8, true, S_SS, live, disp);
	give_up_flags(x, live);
	asm_rm(&x->a, x->word == 8, 0x8d, REG_T1, xea_base(HOME_SP, -(s32)x->word));
	x->hint = x->c->gpr[R_SP] - x->word;
	return translate_t1(x, ti, x->word, true, S_SS);
}

/* T1 + *disp: the word at register base, which is to be popped. */
static u32 popped(struct xl *x, const struct tinsn *ti, unsigned base, u16 live, s32 *disp)
{
	*disp = 0;
	if (ti->stack.group)
		return shared(x, ti, &ti->stack, 8, false, S_SS, live, disp);
	give_up_flags(x, live);
	asm_rr(&x->a, x->word == 8, 0x8b, REG_T1, base);
	x->hint = x->c->gpr[base == HOME_SP ? R_SP : R_BP];
	return translate_t1(x, ti, x->word, false, S_SS);
}

/* A row of PUSHes or POPs whose span has been looked up moves RSP at its end. Nothing of it but vanished memory can fault: marks know how much is missing. */
static void move_sp_late(struct xl *x, const struct tinsn *ti, s32 by)
{
	if (ti->stack.group)
		x->sp_late = (s16)(x->sp_late + by);
	else
		move_sp(x, by);
}

static bool names_only_gprs(const struct decoded *d)
{
	for (unsigned k = 0; k < d->z.operand_count_visible; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		int g = o->type == ZYDIS_OPERAND_TYPE_REGISTER ? stub_gpr(o->reg.value) : R_AX;
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY || g < 0 || g == R_SP)
			return false;
	}
	return true;
}

/* Does host code for ti do with an RSP that is not up to date? */
static bool sp_may_wait(const struct xl *x, const struct tinsn *ti)
{
	switch (ti->kind) {
	case T_NOP: return true;
	case T_COPY: return names_only_gprs(&ti->d);
	case T_PUSH:
	case T_POP:
		if (!names_only_gprs(&ti->d))
			return false;
		break;
	case T_CALL:
	case T_RET: break;
	default: return false;
	}
	return ti->stack.group && x->spans_ok & BIT(ti->stack.group - 1);
}

static void load_word(struct xl *x, unsigned reg, struct xea m)
{
	asm_rm(&x->a, x->word == 8, 0x8b, reg, m);
}

static void store_word(struct xl *x, unsigned reg, struct xea m)
{
	asm_rm(&x->a, x->word == 8, 0x89, reg, m);
}

static void store_imm(struct xl *x, s32 disp, u64 v)
{
	if (v == (u64)(s64)(s32)v || x->word == 4) {
		asm_rm(&x->a, x->word == 8, 0xc7, 0, xea_base(REG_T1, disp));
		e32(&x->a, (u32)v);
	} else {
		asm_imm(&x->a, REG_T2, v);
		asm_store(&x->a, REG_T2, xea_base(REG_T1, disp));
	}
}

/* Read first: if the push faults, the whole is done again. */
static void push_memory(struct xl *x, const struct tinsn *ti)
{
	s32 disp;
	u32 from = operand_host(x, ti, &ti->d.op[0], x->word, false, ti->live, &disp);

	mark(x, ti);
	load_word(x, REG_T2, xea_base(REG_T1, disp));
	asm_store(&x->a, REG_T2, xea_ctx(CTX(x_tmp)));
	x->t1 = x->t1_next;
	u32 to = push_room(x, ti, ti->live, &disp);
	mark(x, ti);
	asm_load(&x->a, REG_T2, xea_ctx(CTX(x_tmp)));
	store_word(x, REG_T2, xea_base(REG_T1, disp));
	move_sp(x, -(s32)x->word);
	site_next(x, from);
	site_next(x, to);
	if (from || !ti->stack.group)
		x->t1_next = 0; /* another way comes here */
}

static void push(struct xl *x, const struct tinsn *ti)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];
	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		push_memory(x, ti);
		return;
	}
	s32 disp;
	u32 site = push_room(x, ti, ti->live, &disp);
	if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		mark(x, ti);
		store_imm(x, disp, ti->i.imm);
	} else {
		unsigned r = in_host(x, (unsigned)stub_gpr(o->reg.value), REG_T2);
		mark(x, ti);
		store_word(x, r, xea_base(REG_T1, disp));
	}
	move_sp_late(x, ti, -(s32)x->word);
	site_next(x, site);
}

static void pop(struct xl *x, const struct tinsn *ti)
{
	unsigned g = (unsigned)stub_gpr(ti->d.op[0].reg.value);
	s32 disp;
	u32 site = popped(x, ti, HOME_SP, ti->live, &disp);

	mark(x, ti);
	if (x_home[g] != REG_NONE && g != R_SP) {
		load_word(x, x_home[g], xea_base(REG_T1, disp));
		move_sp_late(x, ti, (s32)x->word);
	} else if (g != R_SP) {
		load_word(x, REG_T2, xea_base(REG_T1, disp));
		move_sp_late(x, ti, (s32)x->word);
		from_host(x, g, REG_T2);
	} else {
		load_word(x, REG_T2, xea_base(REG_T1, disp));
		from_host(x, g, REG_T2);
	}
	site_next(x, site);
}

static void leave(struct xl *x, const struct tinsn *ti)
{
	s32 disp;
	u32 site = popped(x, ti, R_BP, ti->live, &disp);

	mark(x, ti);
	load_word(x, REG_T2, xea_base(REG_T1, disp));
	asm_rm(&x->a, x->word == 8, 0x8d, HOME_SP, xea_base(R_BP, (s32)x->word));
	asm_mov(&x->a, R_BP, REG_T2);
	site_next(x, site);
}

static void ret(struct xl *x, const struct tinsn *ti)
{
	s32 adjust = (s32)x->word + (s32)(ti->d.z.operand_count_visible ? ti->d.op[0].imm.value.u & 0xffff : 0), disp;

	want_slot(x, X86_ARITH);
	x->in_reg = false;
	popped(x, ti, HOME_SP, X86_ARITH, &disp);
	mark(x, ti);
	load_word(x, REG_T1, xea_base(REG_T1, disp));
	move_sp(x, adjust);
	leave_indirect(x, ti, adjust);
}

/* T1: the target of an indirect jump or call. */
static u32 target(struct xl *x, const struct tinsn *ti)
{
	const ZydisDecodedOperand *o = &ti->d.op[0];

	want_slot(x, X86_ARITH);
	x->in_reg = false;
	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		s32 disp;
		u32 site = operand_host(x, ti, o, x->word, false, X86_ARITH, &disp);
		mark(x, ti);
		load_word(x, REG_T1, xea_base(REG_T1, disp));
		return site;
	}
	asm_rr(&x->a, x->word == 8, 0x8b, REG_T1, in_host(x, (unsigned)stub_gpr(o->reg.value), REG_T1));
	return 0;
}

static void call(struct xl *x, const struct tinsn *ti)
{
	s32 disp;

	push_room(x, ti, ti->live, &disp);
	mark(x, ti);
	store_imm(x, disp, ti->rip + ti->len);
	move_sp(x, -(s32)x->word);
	leave_always(x, ti, ti->target, ti->live_target);
}

static void call_indirect(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	s32 disp;

	target(x, ti);
	/* A target that is not canonical faults before anything is pushed: the interpreter knows how. With LA57 it sees more of them than need be. */
	if (x->word == 8) {
		asm_mov(a, REG_T2, REG_T1);
		asm_rr(a, true, 0xc1, 4, REG_T2), e8(a, 16); /* shl */
		asm_rr(a, true, 0xc1, 7, REG_T2), e8(a, 16); /* sar */
		asm_rr(a, true, 0x3b, REG_T2, REG_T1);
		u32 op = new_site(x, ti, SITE_OP);
		x->t->sites[op].insn = lowered(x, ti);
		x->t->sites[op].ends = true;
		add_cold(x, SITE_OP, op, asm_jump(a, CC_NE));
	}
	asm_store(a, REG_T1, xea_ctx(CTX(x_tmp)));
	x->t1 = 0;
	push_room(x, ti, X86_ARITH, &disp);
	mark(x, ti);
	store_imm(x, disp, ti->rip + ti->len);
	move_sp(x, -(s32)x->word);
	asm_load(a, REG_T1, xea_ctx(CTX(x_tmp)));
	leave_indirect(x, ti, -(s64)x->word);
}

static void lea(struct xl *x, const struct tinsn *ti)
{
	const struct decoded *d = &ti->d;
	unsigned g = (unsigned)stub_gpr(d->op[0].reg.value), dst = x_home[g] != REG_NONE ? x_home[g] : REG_T2;
	struct xea ea = operand_ea(x, ti, &d->op[1]);

	if (d->z.address_width == 32 && d->op[0].size == 64) /* the address is cut before it is extended */
		asm_rm(&x->a, false, 0x8d, dst, ea);
	else
		asm_rm(&x->a, d->op[0].size == 64, 0x8d, dst, ea);
	from_host(x, g, dst);
	if (ea.base != REG_T1)
		x->t1_next = x->t1;
}

static bool lea_ok(const struct tinsn *ti)
{
	return ti->d.op[0].size >= 32 && ti->d.z.address_width >= 32;
}

/* ---- a few of the kernel's own ---- */

static void cli(struct xl *x, const struct tinsn *ti)
{
	give_up_flags(x, ti->live);
	asm_mi(&x->a, false, 4, xea_ctx(CTX(rflags)), (s32)~X86_IF);
}

/* The shadow lasts for one more instruction; sti_after() comes behind that. */
static void sti(struct xl *x, const struct tinsn *ti)
{
	give_up_flags(x, ti->live);
	asm_mi(&x->a, false, 1, xea_ctx(CTX(rflags)), X86_IF);
}

static void sti_after(struct xl *x, const struct tinsn *last)
{
	u32 site = new_site(x, last, SITE_WINDOW);

	move_sp(x, 0);
	give_up_flags(x, last->live_after);
	x->t->sites[site].rip = last->rip + last->len;
	asm_rm(&x->a, false, 0x80, 7, xea_ctx(CTX(ev.want_irq_window))), e8(&x->a, 0);
	add_cold(x, SITE_WINDOW, site, asm_jump(&x->a, CC_NE));
}

static void cld(struct xl *x, const struct tinsn *ti)
{
	give_up_flags(x, ti->live);
	asm_mi(&x->a, false, 4, xea_ctx(CTX(rflags)), (s32)~X86_DF);
}

/* CLAC and STAC: what cpu_update_mode() would do. */
static void set_ac(struct xl *x, const struct tinsn *ti, bool ac)
{
	struct asmb *a = &x->a;

	give_up_flags(x, ti->live);
	x->idx = ac ? MMU_KERNEL_AC : MMU_KERNEL;
	if (ac)
		asm_mi(a, false, 1, xea_ctx(CTX(rflags)), X86_AC);
	else
		asm_mi(a, false, 4, xea_ctx(CTX(rflags)), (s32)~X86_AC);
	asm_rm(a, false, 0xc6, 0, xea_ctx(CTX(mmu_idx))), e8(a, x->idx);
	asm_lea(a, REG_T1, xea_ctx(tlb_at(x, 0)));
	asm_store(a, REG_T1, xea_ctx(CTX(tlb)));
}

/* RSP is the context's: what the host's PUSHF puts below it is cpu.rip, which nobody needs while a unit runs. */
static void pushf(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	s32 disp;

	want_flags(x, X86_ARITH);
	want_slot(x, X86_ARITH);
	e8(a, 0x9c);           /* pushfq */
	e8(a, 0x41), e8(a, 0x5b); /* pop T2 */
	x->in_reg = false;
	asm_ri(a, false, 4, REG_T2, X86_ARITH);
	asm_rm(a, false, 0x0b, REG_T2, xea_ctx(CTX(rflags)));
	asm_ri(a, false, 4, REG_T2, (s32)~(X86_VM | X86_RF));
	asm_store(a, REG_T2, xea_ctx(CTX(x_tmp)));
	u32 site = push_room(x, ti, X86_ARITH, &disp);
	mark(x, ti);
	asm_load(a, REG_T2, xea_ctx(CTX(x_tmp)));
	asm_store(a, REG_T2, xea_base(REG_T1, disp));
	move_sp(x, -8);
	site_next(x, site);
}
_Static_assert(offsetof(struct cpu, rip) + 8 == offsetof(struct cpu, gpr), "pushf() writes there");

/* MOV of a segment register to a general one. */
static void from_sreg(struct xl *x, const struct tinsn *ti)
{
	unsigned g = (unsigned)stub_gpr(ti->d.op[0].reg.value), dst = x_home[g] != REG_NONE ? x_home[g] : REG_T2, s = ti->i.reg;

	asm_rm(&x->a, false, 0x1b7, dst, xea_ctx(CTX(seg) + (s32)(s * sizeof(struct cpu_seg) + offsetof(struct cpu_seg, sel))));
	from_host(x, g, dst);
	x->t1_next = x->t1;
}

/* MOV between the accumulator and an address in the instruction: 32-bit code has many. */
static void moffs(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	bool load = !(ti->d.z.opcode & 2);
	const ZydisDecodedOperand *m = &ti->d.op[load ? 1 : 0];
	s32 disp;
	u32 site = operand_host(x, ti, m, m->size / 8, !load, ti->live, &disp);

	mark(x, ti);
	if (m->size == 16)
		e8(a, 0x66);
	asm_rm(a, m->size == 64, (load ? 0x8a : 0x88) | (m->size > 8), R_AX, xea_base(REG_T1, disp));
	site_next(x, site);
}

/*
 * T1: host address of what RSI or RDI (reg) points to, for RCX elements of 1 << shift bytes; reg is lost. The two jumps to where that cannot be:
 * the page is not in the TLB, or it ends before.
 */
static void string_operand(struct xl *x, unsigned reg, unsigned shift, bool write, u8 **bad)
{
	struct asmb *a = &x->a;
	struct xea e = { REG_CTX, REG_T2, 3, tlb_at(x, TAG(write)) };

	asm_mov(a, REG_T1, reg);
	entry_of_t1(a);
	asm_rm(a, true, 0x33, REG_T1, e);
	asm_ri(a, true, 7, REG_T1, PAGE_SIZE - 1);
	bad[0] = asm_jump(a, CC_A);
	asm_lea(a, reg, (struct xea){ REG_T1, R_CX, (u8)shift, 0 });
	asm_ri(a, true, 7, reg, PAGE_SIZE);
	bad[1] = asm_jump(a, CC_A);
	e.disp = tlb_at(x, offsetof(struct cpu_tlbe, host));
	asm_rm(a, true, 0x03, REG_T1, e);
	asm_mov(a, reg, REG_T1);
}

/* REP STOS and MOVS inside a page, upwards, by the host's own; else by the interpreter. The guest's RDI and RSI are in x_tmp and x_tmp2 meanwhile. */
static void string(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	unsigned shift = (unsigned)__builtin_ctz(ti->i.osz);
	bool movs = (ti->d.z.opcode & 0xfe) == 0xa4;
	u8 *bad[4];

	give_up_flags(x, ti->live);
	u32 site = new_site(x, ti, SITE_OP);
	x->t->sites[site].insn = lowered(x, ti);
	if (x->word == 4) {
		asm_rr(a, false, 0x8b, R_CX, R_CX);
		asm_rr(a, false, 0x8b, R_DI, R_DI);
		asm_rr(a, false, 0x8b, R_SI, R_SI);
	}
	asm_rm(a, false, 0xf7, 0, xea_ctx(CTX(rflags))), e32(a, X86_DF);
	add_cold(x, SITE_OP, site, asm_jump(a, CC_NE));
	asm_ri(a, true, 7, R_CX, (s32)(PAGE_SIZE >> shift));
	add_cold(x, SITE_OP, site, asm_jump(a, CC_A));
	asm_store(a, R_DI, xea_ctx(CTX(x_tmp)));
	asm_store(a, R_SI, xea_ctx(CTX(x_tmp2)));
	if (movs)
		string_operand(x, R_SI, shift, false, bad + 2);
	string_operand(x, R_DI, shift, true, bad);
	mark(x, ti);
	e8(a, 0xf3);
	if (ti->i.osz == 2)
		e8(a, 0x66);
	if (ti->i.osz == 8)
		e8(a, 0x48);
	e8(a, (movs ? 0xa4 : 0xaa) | (ti->i.osz > 1));
	asm_rr(a, true, 0x2b, R_DI, REG_T1);
	if (movs) {
		asm_load(a, R_SI, xea_ctx(CTX(x_tmp2)));
		asm_rr(a, true, 0x03, R_SI, R_DI);
	}
	asm_rm(a, true, 0x03, R_DI, xea_ctx(CTX(x_tmp)));
	u8 *over = asm_short(a, 0xeb);
	for (unsigned k = 0; k < (movs ? 4 : 2); k++)
		asm_patch(bad[k], a->p);
	asm_load(a, R_DI, xea_ctx(CTX(x_tmp)));
	asm_load(a, R_SI, xea_ctx(CTX(x_tmp2)));
	add_cold(x, SITE_OP, site, asm_jump(a, CC_ALWAYS));
	asm_patch_short(over, a->p);
	x->t->sites[site].next = here(x);
}

/* BT and the like with the number of the bit in a register, which reaches beyond the operand. False: flags that it leaves are needed. */
static bool bit_string(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	const ZydisDecodedOperand *m = &ti->d.op[0], *o = &ti->d.op[1];
	unsigned size = m->size / 8, g = (unsigned)stub_gpr(o->reg.value), shift = size == 8 ? 3 : 2;
	bool w = size == 8;

	if (ti->live_after & ~ti->fkill)
		return false;
	give_up_flags(x, ti->live);
	linear(x, ti, m);
	asm_rr(a, true, w ? 0x8b : 0x63, REG_T2, in_host(x, g, REG_T2)); /* movsxd */
	asm_rr(a, true, 0xc1, 7, REG_T2), e8(a, shift + 3);             /* sar */
	asm_lea(a, REG_T1, (struct xea){ REG_T1, REG_T2, (u8)shift, 0 });
	u32 site = translate_t1(x, ti, size, ti->d.z.mnemonic != M(BT), seg_of(m));
	asm_rr(a, true, 0x8b, REG_T2, in_host(x, g, REG_T2));
	asm_ri(a, false, 4, REG_T2, (s32)(8 * size - 1));
	mark(x, ti);
	if (ti->i.lock)
		e8(a, 0xf0);
	asm_rm(a, w, ti->d.z.mnemonic == M(BT) ? 0x1a3 : ti->d.z.mnemonic == M(BTS) ? 0x1ab : ti->d.z.mnemonic == M(BTR) ? 0x1b3 : 0x1bb, REG_T2, xea_base(REG_T1, 0));
	x->in_reg = true;
	x->in_slot = false;
	site_next(x, site);
	return true;
}

static void swapgs(struct xl *x)
{
	struct asmb *a = &x->a;
	struct xea gs = seg_base(S_GS);

	asm_load(a, REG_T1, gs);
	asm_load(a, REG_T2, xea_ctx(CTX(msr.kernel_gs_base)));
	asm_store(a, REG_T2, gs);
	asm_store(a, REG_T1, xea_ctx(CTX(msr.kernel_gs_base)));
}

static void rdtsc(struct xl *x, const struct tinsn *ti)
{
	struct asmb *a = &x->a;
	u32 site = 0;

	give_up_flags(x, ti->live);
	if (x->u->user) { /* CR4.TSD forbids it there */
		site = new_site(x, ti, SITE_OP);
		x->t->sites[site].insn = lowered(x, ti);
		asm_rm(a, false, 0xf6, 0, xea_ctx(CTX(cr4))), e8(a, CR4_TSD);
		add_cold(x, SITE_OP, site, asm_jump(a, CC_NE));
	}
	e8(a, 0x0f), e8(a, 0x31);
	asm_rr(a, true, 0xc1, 4, R_DX), e8(a, 32);    /* shl rdx, 32 */
	asm_rr(a, true, 0x0b, R_AX, R_DX);            /* or rax, rdx */
	asm_rm(a, true, 0x03, R_AX, xea_ctx(CTX(tsc_offset)));
	asm_mov(a, R_DX, R_AX);
	asm_rr(a, true, 0xc1, 5, R_DX), e8(a, 32);    /* shr rdx, 32 */
	asm_rr(a, false, 0x8b, R_AX, R_AX);
	if (site)
		site_next(x, site);
}

/* ---- the unit ---- */

static void one(struct xl *x, const struct tinsn *ti, bool last_x87)
{
	if (x->sp_late && !sp_may_wait(x, ti))
		move_sp(x, 0);
	switch (ti->kind) {
	case T_NOP: x->t1_next = x->t1; return;
	case T_CLI: cli(x, ti); return;
	case T_STI: sti(x, ti); return;
	case T_CLD: cld(x, ti); return;
	case T_CLAC: set_ac(x, ti, false); return;
	case T_STAC: set_ac(x, ti, true); return;
	case T_PUSHF: pushf(x, ti); return;
	case T_SREG: from_sreg(x, ti); return;
	case T_MOFFS: moffs(x, ti); return;
	case T_STRING: string(x, ti); return;
	case T_BIT:
		if (!bit_string(x, ti))
			interpreted(x, ti);
		return;
	case T_SWAPGS: swapgs(x); return;
	case T_RDTSC: rdtsc(x, ti); return;
	case T_LEA:
		if (lea_ok(ti))
			lea(x, ti);
		else
			interpreted(x, ti);
		return;
	case T_PUSH: push(x, ti); return;
	case T_POP: pop(x, ti); return;
	case T_LEAVE: leave(x, ti); return;
	case T_JCC:
		want_flags(x, ti->fread);
		leave_to(x, ti, asm_jump(&x->a, ti->cc), ti->target, ti->live_target);
		x->t1_next = x->t1;
		return;
	case T_JMP: leave_always(x, ti, ti->target, ti->live_target); return;
	case T_CALL: call(x, ti); return;
	case T_JMP_IND:
		target(x, ti);
		leave_indirect(x, ti, 0);
		return;
	case T_CALL_IND: call_indirect(x, ti); return;
	case T_RET: ret(x, ti); return;
	case T_COPY: {
		u32 nsites = x->t->nsites, nmarks = x->t->nmarks, umarks = x->u->nmarks;
		u8 before[offsetof(struct xl, cold)];
		memcpy(before, x, sizeof(before));
		if (copy(x, ti, last_x87))
			return;
		memcpy(x, before, sizeof(before));
		x->t->nsites = nsites, x->t->nmarks = nmarks, x->u->nmarks = umarks;
		interpreted(x, ti);
		return;
	}
	default: interpreted(x, ti);
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
	x->t->sites[c->site].next = here(x);
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
			save_flags(x);
		asm_imm(a, REG_T2, c->site);
		asm_jump_to(a, CC_ALWAYS, x->t->rw + x->t->t_exit);
		break;
	case SITE_LINK:
		/* The jump here is patched when the target has been translated. One that is far goes by here for ever. */
		if (!s->dead && !c->in_slot)
			save_flags(x);
		s->hit = here(x);
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
	u32 site = new_site(x, NULL, SITE_POLL);

	x->t->sites[site].rip = u->rip;
	u->start = u->slot = here(x);
	u->by_slot = by_slot;
	x->in_reg = true;
	x->in_slot = false;
	if (by_slot) {
		u->flags = here(x);
		save_flags(x);
		x->in_reg = false;
		u->poll = here(x);
		asm_rm(a, false, 0x83, 7, xea_ctx(CTX(requests))), e8(a, 0);
		add_cold(x, SITE_POLL, site, asm_jump(a, CC_NE));
		u->slot = here(x);
		return;
	}
	if (live_in) { /* JRCXZ leaves them alone */
		load_flags(x);
		u8 *over = asm_short(a, 0xeb);
		u->poll = here(x);
		x->in_slot = false;
		asm_mov(a, REG_T2, R_CX);
		asm_rm(a, false, 0x8b, R_CX, xea_ctx(CTX(requests)));
		u8 *none = asm_short(a, 0xe3);
		asm_mov(a, R_CX, REG_T2);
		add_cold(x, SITE_POLL, site, asm_jump(a, CC_ALWAYS));
		asm_patch_short(none, a->p);
		asm_mov(a, R_CX, REG_T2);
		asm_patch_short(over, a->p);
	} else {
		u->poll = here(x);
		asm_rm(a, false, 0x83, 7, xea_ctx(CTX(requests))), e8(a, 0);
		add_cold(x, SITE_POLL, site, asm_jump(a, CC_NE))->in_slot = true; /* nobody needs them */
		u->slot = here(x);
	}
	u->flags = here(x);
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
		in[k].host = here(x);
		x->t1 = x->t1_next;
		x->t1_next = 0;
		one(x, &in[k], k == last_x87 || k == last_x87_mem);
		if (k && in[k - 1].kind == T_STI)
			sti_after(x, &in[k]);
	}
	move_sp(x, 0);
	if (fall)
		leave_always(x, &in[n - 1], (in[n - 1].rip + in[n - 1].len) & (c->code_size == 4 ? 0xffffffff : ~0ull), X86_ARITH);
	in[n].host = here(x);
	for (unsigned k = 0; k < x->ncold; k++)
		cold_part(x, &x->cold[k]);
	x->u->end = here(x);
	x->u->bytes = (u16)(in[n - 1].off + in[n - 1].len - in[0].off);
	t->pos = ALIGN_UP(here(x), 16);
	t->nunits++;
	return x->u;
}
