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

/* The operand in terms of host registers: loads those without a home into T1 and T2. */
struct xea xl_operand_ea(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m)
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
		ea.base = (u8)xl_in_host(x, (unsigned)b, REG_T1);
	if (i >= 0) {
		ea.index = (u8)xl_in_host(x, (unsigned)i, REG_T2);
		ea.scale = m->mem.scale > 1 ? (u8)__builtin_ctz(m->mem.scale) : 0;
	}
	return ea;
}

bool x_segment_base(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	return ti->d.z.address_width == 64 && xl_seg_of(m) >= S_FS && m->mem.base == ZYDIS_REGISTER_NONE && m->mem.index == ZYDIS_REGISTER_NONE &&
	       m->mem.disp.value == (s32)m->mem.disp.value;
}

bool x_simple_base(const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	const ZydisDecodedInstruction *z = &ti->d.z;

	return z->address_width == 64 && xl_seg_of(m) < S_FS && ZydisRegisterGetClass(m->mem.base) == ZYDIS_REGCLASS_GPR64 && m->mem.index == ZYDIS_REGISTER_NONE &&
	       m->mem.disp.value == (s32)m->mem.disp.value;
}

/* T1: linear address, by its own instructions. May change the host's flags when a segment has a base. */
void xl_linear(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m)
{
	struct xea ea = xl_operand_ea(x, ti, m);
	bool w = ti->d.z.address_width == 64;
	unsigned s = xl_seg_of(m);
	int b = stub_gpr(m->mem.base), i = stub_gpr(m->mem.index);

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
	xl_entry_of_t1(a);
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
	s32 table = xl_tlb_at(x, 0);
	struct site *s = &x->t->sites[site];

	if (!guess)
		xl_entry_of_t1(a);
	s->mmu_idx = (u8)x->idx;
	s->entry = xl_here(x);
	s->guess = guess ? (u16)(n + 1) : 0;
	struct cold *c = xl_cold(x, SITE_MEM, site, compare_tag(a, e, table, size, write));
	c->undo = guess ? 0 : table + (s32)TAG(write);
	add_host(a, e, table, write);
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
/* The same for a page that is known, and so is its entry. T1: the page's host address. */
static void translate_page(struct xl *x, u32 site, u64 page, bool write)
{
	struct asmb *a = &x->a;
	struct site *s = &x->t->sites[site];
	s32 entry = (s32)(((page >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1)) * sizeof(struct cpu_tlbe));

	if (page == (u64)(s64)(s32)page) {
		asm_rm(a, true, 0x81, 7, xea_ctx(xl_tlb_at(x, TAG(write)) + entry));
		e32(a, (u32)page);
	} else {
		asm_imm(a, REG_T1, page);
		asm_rm(a, true, 0x3b, REG_T1, xea_ctx(xl_tlb_at(x, TAG(write)) + entry));
	}
	xl_cold(x, SITE_MEM, site, asm_jump(a, CC_NE));
	asm_load(a, REG_T1, xea_ctx(xl_tlb_at(x, HOST(write)) + entry));
	s->hit = xl_here(x);
	s->absolute = true;
}

/* T1 + *disp: host address of an access that shares its look-up. It does it, if it is the first. */
u32 xl_shared(struct xl *x, const struct tinsn *ti, const struct share *sh, unsigned size, bool write, unsigned seg, u16 live, s32 *disp)
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
	xl_give_up_flags(x, live);
	u32 site = span_site(x, ti, sh, size, write);
	s32 from = sp->lo - sh->off;
	if (sh->base == SHARE_PAGE) {
		x->t->sites[site].la = sp->page;
		translate_page(x, site, sp->page, sp->write);
	} else {
		if (sh->base >= SHARE_FS)
			asm_load(a, REG_T1, xl_seg_base(S_FS + sh->base - SHARE_FS));
		asm_lea(a, REG_T1, xea_base(sh->base >= SHARE_FS ? REG_T1 : xl_in_host(x, sh->base, REG_T1), from));
		x->hint = (sh->base >= SHARE_FS ? x->c->seg[S_FS + sh->base - SHARE_FS].base : x->c->gpr[sh->base]) + (u64)(s64)from;
		translate_as(x, site, sp->bytes, sp->write, seg);
		x->cold[x->ncold - 1].plain = xl_site(x, ti, SITE_LINK);
	}
	asm_store(a, REG_T1, kept);
	x->spans_ok |= (u8)BIT(sh->group - 1);
	x->t1_next = sh->group;
	return site;
}

/* T1 + *disp: host address of the operand, `live` of the flags kept. The site, whose `next` is to be filled. */
u32 xl_operand(struct xl *x, const struct tinsn *ti, const ZydisDecodedOperand *m, unsigned size, bool write, u16 live, s32 *disp)
{
	u64 la;

	*disp = 0;
	if (ti->operand.group)
		return xl_shared(x, ti, &ti->operand, size, write, xl_seg_of(m), live, disp);
	xl_give_up_flags(x, live);
	if (x_absolute(ti, m, &la) && (la & ~PAGE_MASK) + size <= PAGE_SIZE) {
		u32 site = xl_site(x, ti, SITE_MEM);
		x->t->sites[site].la = la;
		x->t->sites[site].size = (u16)size;
		x->t->sites[site].write = write;
		translate_page(x, site, la & PAGE_MASK, write);
		*disp = (s32)(la & ~PAGE_MASK);
		return site;
	}
	xl_linear(x, ti, m);
	return xl_translate(x, ti, size, write, xl_seg_of(m));
}

/* site: 0: none, since the access was of a span that had been looked up. */
void xl_next(struct xl *x, u32 site)
{
	if (site && !x->t->sites[site].spans)
		x->t->sites[site].next = xl_here(x);
}
