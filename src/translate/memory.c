/* SPDX-License-Identifier: MIT */
/*
 * Where a unit's operands in guest memory are on the host: look-ups in the TLB, by guess, by page, and those that several accesses share.
 */
#include "interp/ops.h"
#include "interp/stub_int.h"
#include "translate/emit.h"

unsigned xl_seg_of(const ZydisDecodedOperand *m)
{
	return m->mem.segment == ZYDIS_REGISTER_FS ? S_FS : m->mem.segment == ZYDIS_REGISTER_GS ? S_GS : m->mem.segment == ZYDIS_REGISTER_SS ? S_SS : S_DS;
}

struct xea xl_seg_base(unsigned s)
{
	return xea_ctx(CTX(seg) + (s32)(s * sizeof(struct cpu_seg) + offsetof(struct cpu_seg, base)));
}

bool x_absolute(const struct tinsn *ti, const ZydisDecodedOperand *m, u64 *la)
{
	if (xl_seg_of(m) >= S_FS)
		return false;
	if (ti->d.z.address_width == 64 && m->mem.base == ZYDIS_REGISTER_RIP)
		*la = ti->rip + ti->len + (u64)m->mem.disp.value;
	else if (ti->d.z.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 && m->mem.base == ZYDIS_REGISTER_NONE && m->mem.index == ZYDIS_REGISTER_NONE)
		*la = (u32)m->mem.disp.value;
	else
		return false;
	return true;
}

/* An operand's guest registers, or -1. */
struct parts {
	int base, index;
	u8 shift;
	s32 disp;
};

static struct parts parts_of(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	const ZydisDecodedInstruction *z = &ti->d.z;
	bool no_base = z->raw.modrm.mod == 0 && z->raw.modrm.rm == 4 && z->raw.sib.base == 5 && z->raw.sib.offset; /* lower.c knows why */

	return (struct parts){ no_base ? -1 : reg_gpr(m->mem.base), reg_gpr(m->mem.index), m->mem.scale > 1 ? (u8)__builtin_ctz(m->mem.scale) : 0,
			       no_base ? (s32)z->raw.disp.value : (s32)m->mem.disp.value };
}

static bool by_rip(const ZydisDecodedOperand *m)
{
	return m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP;
}

static bool homeless(int g)
{
	return g >= 0 && x_home[g] == REG_NONE;
}

/* The operand in terms of host registers: loads those without a home into T1 and T2. */
struct xea xl_operand_ea(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	struct parts p = parts_of(ti, m);
	struct xea ea = { REG_NONE, REG_NONE, 0, p.disp };

	if (by_rip(m)) {
		asm_imm(&x->a, REG_T1, ti->rip + ti->len + (u64)m->mem.disp.value);
		return xea_base(REG_T1, 0);
	}
	if (p.base >= 0)
		ea.base = (u8)xl_in_host(x, (unsigned)p.base, REG_T1);
	if (p.index >= 0) {
		ea.index = (u8)xl_in_host(x, (unsigned)p.index, REG_T2);
		ea.scale = p.shift;
	}
	return ea;
}

/* T1 += guest register g. */
static void add_gpr(struct xl *x, unsigned g)
{
	if (x_home[g] != REG_NONE)
		asm_rr(&x->a, true, 0x03, REG_T1, x_home[g]);
	else
		asm_rm(&x->a, true, 0x03, REG_T1, xea_ctx(xl_gpr_slot(g)));
}

/* T1 += an address that is not simply the sum of its parts: it is cut to 32 bits, or has RIP in it. */
static struct xea whole_on_host(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	struct asmb *a = &x->a;
	struct parts p = parts_of(ti, m);
	bool w = ti->d.z.address_width == 64;

	if (by_rip(m)) {
		u64 la = ti->rip + ti->len + (u64)m->mem.disp.value;
		asm_imm(a, REG_T2, w ? la : (u32)la);
	} else if (homeless(p.base) && homeless(p.index)) {
		asm_load(a, REG_T2, xea_ctx(xl_gpr_slot((unsigned)p.index)));
		asm_rr(a, true, 0xc1, 4, REG_T2), e8(a, p.shift); /* shl */
		asm_rm(a, true, 0x03, REG_T2, xea_ctx(xl_gpr_slot((unsigned)p.base)));
		asm_rm(a, w, 0x8d, REG_T2, xea_base(REG_T2, p.disp));
	} else {
		struct xea ea = { p.base < 0 ? REG_NONE : (u8)xl_in_host(x, (unsigned)p.base, REG_T2),
				  p.index < 0 ? REG_NONE : (u8)xl_in_host(x, (unsigned)p.index, REG_T2), p.shift, p.disp };
		asm_rm(a, w, 0x8d, REG_T2, ea);
	}
	asm_rr(a, true, 0x03, REG_T1, REG_T2);
	return xea_base(REG_T1, 0);
}

struct xea xl_on_host(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	struct asmb *a = &x->a;
	struct parts p = parts_of(ti, m);

	if (xl_seg_of(m) >= S_FS)
		asm_rm(a, true, 0x03, REG_T1, xl_seg_base(xl_seg_of(m)));
	if (ti->d.z.address_width != 64 || by_rip(m))
		return whole_on_host(x, ti, m);
	if (homeless(p.index)) {
		asm_load(a, REG_T2, xea_ctx(xl_gpr_slot((unsigned)p.index)));
		asm_lea(a, REG_T1, (struct xea){ REG_T1, REG_T2, p.shift, 0 });
		p.index = -1;
	}
	if (homeless(p.base) || (p.base >= 0 && p.index >= 0)) {
		add_gpr(x, (unsigned)p.base);
		p.base = -1;
	}
	if (p.base >= 0)
		return (struct xea){ REG_T1, x_home[p.base], 0, p.disp };
	return (struct xea){ REG_T1, p.index >= 0 ? x_home[p.index] : REG_NONE, p.shift, p.disp };
}

struct xea xl_word_on_host(struct xl *x, unsigned g, s32 disp)
{
	if (x->word == 8)
		return (struct xea){ REG_T1, x_home[g], 0, disp };
	asm_rm(&x->a, false, 0x8d, REG_T2, xea_base(x_home[g], disp));
	asm_rr(&x->a, true, 0x03, REG_T1, REG_T2);
	return xea_base(REG_T1, 0);
}

bool x_segment_base(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	return ti->d.z.address_width == 64 && xl_seg_of(m) >= S_FS && m->mem.base == ZYDIS_REGISTER_NONE && m->mem.index == ZYDIS_REGISTER_NONE &&
	       m->mem.disp.value == (s32)m->mem.disp.value;
}

bool x_simple_base(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	const ZydisDecodedInstruction *z = &ti->d.z;

	return z->address_width == 64 && xl_seg_of(m) < S_FS && reg_is_gpr64(m->mem.base) && m->mem.index == ZYDIS_REGISTER_NONE &&
	       m->mem.disp.value == (s32)m->mem.disp.value;
}

bool x_indexed(const struct tinsn *ti, const ZydisDecodedOperand *m, struct share *s, s32 *disp)
{
	struct parts p = parts_of(ti, m);

	if (ti->d.z.address_width != 64 || xl_seg_of(m) >= S_FS || p.index < 0)
		return false;
	s->base = p.base < 0 ? REG_NONE : (u8)p.base;
	s->index = (u8)p.index;
	s->shift = p.shift;
	*disp = p.disp;
	return true;
}

/* T1: linear address, by its own instructions. May change the host's flags when a segment has a base. */
void xl_linear(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	struct xea ea = xl_operand_ea(x, ti, m);
	bool w = ti->d.z.address_width == 64;
	unsigned s = xl_seg_of(m);
	int b = reg_gpr(m->mem.base), i = reg_gpr(m->mem.index);

	if (w && ea.index == REG_NONE && ea.base != REG_NONE && !ea.disp)
		asm_mov(&x->a, REG_T1, ea.base); /* takes no time */
	else
		asm_rm(&x->a, w, 0x8d, REG_T1, ea);
	if (s >= S_FS)
		asm_rm(&x->a, true, 0x03, REG_T1, xl_seg_base(s));
	x->hint = (b < 0 ? 0 : x->c->gpr[b]) + (i < 0 ? 0 : x->c->gpr[i] * m->mem.scale) + (u64)m->mem.disp.value + (s >= S_FS ? x->c->seg[s].base : 0);
}

s32 xl_tlb_at(const struct xl *x, unsigned field)
{
	return CTX(tlbs) + (s32)(x->idx * CPU_TLB_SIZE * sizeof(struct cpu_tlbe) + field);
}

static u32 span_site(struct xl *x, const struct tinsn *ti, const struct share *sh, unsigned size, bool write)
{
	const struct span *sp = &x->t->span[sh->group - 1];
	u32 site = xl_site(x, ti, SITE_MEM);
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
void xl_entry_of_t1(struct asmb *a)
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

static void load_add(struct asmb *a, struct xea e, s32 table, bool write)
{
	e.disp += table + (s32)ADD(write);
	asm_load(a, REG_T1, e);
}

static const struct xea indexed = { REG_CTX, REG_T2, 3, 0 };

/*
 * Guesses. In user code, which loops more than the kernel's, the entry is in the instructions: that which the access used last. What depends on it
 * then waits for nothing, instead of ten cycles, and the code is shorter by a third. An entry that is not there is proof against addresses that are
 * not its own (cpu_tlb_none()).
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
	s32 e = table_of(s) + guessed(n).disp, tag = e + (s32)TAG(s->write), add = e + (s32)ADD(s->write);

	memcpy(t->rw + s->entry + 4, &tag, 4); /* behind REX, opcode, ModRM and SIB */
	memcpy(t->rw + s->hit - 4, &add, 4);
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
	xl_entry_of_t1(a);
	away = compare_tag(a, indexed, table, s->size, s->write);
	load_add(a, indexed, table, s->write);
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

/* As xl_translate(), for a site that is there. The host's flags are lost. */
static u32 translate_as(struct xl *x, u32 site, unsigned size, bool write, unsigned seg)
{
	struct asmb *a = &x->a;
	bool guess = x->u->user && !x->t->check;
	u32 n = (u32)(x->hint >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1);
	struct xea e = guess ? guessed(n) : indexed;
	s32 table = xl_tlb_at(x, 0);
	struct site *s = &x->t->sites[site];

	if (!guess)
		xl_entry_of_t1(a);
	s->mmu_idx = (u8)x->idx;
	s->entry = xl_here(x);
	s->guess = guess ? (u16)(n + 1) : 0;
	struct cold *c = xl_cold(x, SITE_MEM, site, compare_tag(a, e, table, size, write));
	c->undo = guess ? 0 : table + (s32)TAG(write);
	load_add(a, e, table, write);
	s->hit = xl_here(x);
	s->size = (u16)size;
	s->write = write;
	s->seg = (u8)seg;
	return site;
}

u32 xl_translate(struct xl *x, const struct tinsn *ti, unsigned size, bool write, unsigned seg)
{
	return translate_as(x, xl_site(x, ti, SITE_MEM), size, write, seg);
}

/* Can an address in this page be a displacement? */
static bool is_near(u64 page)
{
	return page == (u64)(s64)(s32)page;
}

/* The same for a page that is known, and so is its entry. T1: as above if the page is near; else its host address. */
static void translate_page(struct xl *x, u32 site, u64 page, bool write)
{
	struct asmb *a = &x->a;
	struct site *s = &x->t->sites[site];
	s32 entry = (s32)(((page >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1)) * sizeof(struct cpu_tlbe));

	if (is_near(page)) {
		asm_rm(a, true, 0x81, 7, xea_ctx(xl_tlb_at(x, TAG(write)) + entry));
		e32(a, (u32)page);
	} else {
		asm_imm(a, REG_T1, page);
		asm_rm(a, true, 0x3b, REG_T1, xea_ctx(xl_tlb_at(x, TAG(write)) + entry));
	}
	xl_cold(x, SITE_MEM, site, asm_jump(a, CC_NE));
	asm_rm(a, true, is_near(page) ? 0x8b : 0x03, REG_T1, xea_ctx(xl_tlb_at(x, ADD(write)) + entry));
	s->hit = xl_here(x);
	s->absolute = true;
	s->far_page = !is_near(page);
}

static struct xea page_on_host(u64 page, s32 off)
{
	return xea_base(REG_T1, off + (is_near(page) ? (s32)page : 0));
}

/* T1 is cpu.x_span's value. Flags stay. */
static struct xea shared_on_host(struct xl *x, const struct share *sh)
{
	const struct span *sp = &x->t->span[sh->group - 1];
	s32 disp = sp->lo + sh->at - sh->off; /* from the base */

	x->t1_next = sh->group;
	if (sh->index != REG_NONE) {
		if (x_home[sh->index] != REG_NONE)
			return (struct xea){ REG_T1, x_home[sh->index], sh->shift, disp };
		asm_load(&x->a, REG_T2, xea_ctx(xl_gpr_slot(sh->index)));
		asm_lea(&x->a, REG_T1, (struct xea){ REG_T1, REG_T2, sh->shift, 0 });
		x->t1_next = 0;
		return xea_base(REG_T1, disp);
	}
	if (sh->base == SHARE_PAGE)
		return page_on_host(sp->page, sh->at);
	if (sh->base >= SHARE_FS)
		return xea_base(REG_T1, disp);
	if (sh->base == R_SP)
		disp += x->sp_late;
	if (x_home[sh->base] != REG_NONE)
		return (struct xea){ REG_T1, x_home[sh->base], 0, disp };
	asm_load(&x->a, REG_T2, xea_ctx(xl_gpr_slot(sh->base)));
	asm_lea(&x->a, REG_T1, (struct xea){ REG_T1, REG_T2, 0, 0 });
	x->t1_next = 0;
	return xea_base(REG_T1, disp);
}

/* The look-up of a span, from `from` off its base. T1 is what to add to the base, or to the index. */
static void look_up_span(struct xl *x, const struct tinsn *ti, const struct share *sh, u32 site, s32 from, unsigned seg)
{
	const struct span *sp = &x->t->span[sh->group - 1];
	struct asmb *a = &x->a;
	bool by_seg = sh->base >= SHARE_FS && sh->base < SHARE_PAGE;
	unsigned s = S_FS + sh->base - SHARE_FS;

	x->hint = (u64)(s64)from;
	if (sh->index != REG_NONE) {
		struct xea ea = { sh->base == REG_NONE ? REG_NONE : (u8)xl_in_host(x, sh->base, REG_T1), (u8)xl_in_host(x, sh->index, REG_T2), sh->shift, from };
		asm_lea(a, REG_T1, ea);
		x->hint += (sh->base == REG_NONE ? 0 : x->c->gpr[sh->base]) + (x->c->gpr[sh->index] << sh->shift);
	} else {
		if (by_seg)
			asm_load(a, REG_T1, xl_seg_base(s));
		unsigned base = by_seg ? REG_T1 : xl_in_host(x, sh->base, REG_T1);
		if (from)
			asm_lea(a, REG_T1, xea_base(base, from));
		else
			asm_mov(a, REG_T1, base);
		x->hint += by_seg ? x->c->seg[s].base : x->c->gpr[sh->base];
	}
	translate_as(x, site, sp->bytes, sp->write, seg);
	x->cold[x->ncold - 1].plain = xl_site(x, ti, SITE_LINK);
	if (by_seg)
		asm_rm(a, true, 0x03, REG_T1, xl_seg_base(s));
	else if (sh->index != REG_NONE && sh->base != REG_NONE)
		add_gpr(x, sh->base);
}

/* An access that shares its look-up. It does it, if it is the first. */
u32 xl_shared(struct xl *x, const struct tinsn *ti, const struct share *sh, unsigned size, bool write, unsigned seg, u16 live, struct xea *at)
{
	struct asmb *a = &x->a;
	const struct span *sp = &x->t->span[sh->group - 1];
	struct xea kept = xea_ctx(CTX(x_span) + 8 * (s32)(sh->group - 1));

	if (x->spans_ok & BIT(sh->group - 1)) {
		if (x->t1 != sh->group)
			asm_load(a, REG_T1, kept);
		*at = shared_on_host(x, sh);
		return 0;
	}
	xl_give_up_flags(x, live);
	u32 site = span_site(x, ti, sh, size, write);
	if (sh->base == SHARE_PAGE) {
		x->t->sites[site].la = sp->page;
		translate_page(x, site, sp->page, sp->write);
	} else {
		look_up_span(x, ti, sh, site, sp->lo - sh->off, seg);
	}
	asm_store(a, REG_T1, kept);
	x->spans_ok |= (u8)BIT(sh->group - 1);
	*at = shared_on_host(x, sh);
	return site;
}

/* `live` of the flags are kept. The site, whose `next` is to be filled. */
u32 xl_operand(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m, unsigned size, bool write, u16 live, struct xea *at)
{
	u64 la;

	if (ti->operand.group)
		return xl_shared(x, ti, &ti->operand, size, write, xl_seg_of(m), live, at);
	xl_give_up_flags(x, live);
	if (x_absolute(ti, m, &la) && (la & ~PAGE_MASK) + size <= PAGE_SIZE) {
		u32 site = xl_site(x, ti, SITE_MEM);
		x->t->sites[site].la = la;
		x->t->sites[site].size = (u16)size;
		x->t->sites[site].write = write;
		translate_page(x, site, la & PAGE_MASK, write);
		*at = page_on_host(la & PAGE_MASK, (s32)(la & ~PAGE_MASK));
		return site;
	}
	xl_linear(x, ti, m);
	u32 site = xl_translate(x, ti, size, write, xl_seg_of(m));
	*at = xl_on_host(x, ti, m);
	return site;
}

/* site: 0: none, since the access was of a span that had been looked up. */
void xl_next(struct xl *x, u32 site)
{
	if (site && !x->t->sites[site].spans)
		x->t->sites[site].next = xl_here(x);
}
