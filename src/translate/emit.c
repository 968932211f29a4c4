/* SPDX-License-Identifier: MIT */
/*
 * What every instruction's code is made with: sites, marks, the code out of line, and where flags and registers are.
 */
#include "interp/stub_int.h"
#include "translate/emit.h"

const u8 x_home[16] = { R_AX, R_CX, R_DX, R_BX, R_15, R_BP, R_SI, R_DI, R_8, R_9, REG_NONE, REG_NONE, R_12, R_13, R_14, REG_NONE };

u32 xl_site(struct xl *x, const struct tinsn *ti, enum site_kind k)
{
	u32 n = x->t->nsites++;
	struct site *s = &x->t->sites[n];

	*s = (struct site){ .rip = ti ? ti->rip : 0, .unit = (u32)(x->u - x->t->units), .off = ti ? ti->off : 0, .kind = (u8)k, .seg = S_DS };
	return n;
}

struct cold *xl_cold(struct xl *x, enum site_kind k, u32 site, u8 *jump)
{
	struct cold *c = &x->cold[x->ncold++];

	*c = (struct cold){ .jump = jump, .site = site, .kind = (u8)k, .in_slot = x->in_slot };
	return c;
}

void xl_mark(struct xl *x, const struct tinsn *ti)
{
	x->t->marks[x->t->nmarks++] = (struct mark){ xl_here(x), ti->off, x->in_slot || !x->in_reg, ti->kind == T_STRING, (ti->d.z.opcode & 0xfe) == 0xa4, false, x->sp_late };
	x->u->nmarks++;
}

/* ---- flags ---- */

void xl_save_flags(struct xl *x)
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

void xl_load_flags(struct xl *x)
{
	struct asmb *a = &x->a;

	asm_mov(a, REG_T2, R_AX);
	asm_load_af(a);
	asm_mov(a, R_AX, REG_T2);
	x->in_reg = true;
}

/* The host's flags are about to be lost; `live` of them are still needed. T2 is lost. */
void xl_give_up_flags(struct xl *x, u16 live)
{
	if (live && !x->in_slot && x->in_reg)
		xl_save_flags(x);
	x->in_reg = false;
}

void xl_want_flags(struct xl *x, u16 needed)
{
	if (needed && !x->in_reg && x->in_slot)
		xl_load_flags(x);
}

void xl_want_slot(struct xl *x, u16 live)
{
	if (live && !x->in_slot && x->in_reg)
		xl_save_flags(x);
}

/* ---- registers ---- */

/* Host register that holds guest register g: its home, or tmp, loaded. */
unsigned xl_in_host(struct xl *x, unsigned g, unsigned tmp)
{
	if (x_home[g] != REG_NONE)
		return x_home[g];
	asm_load(&x->a, tmp, xea_ctx(xl_gpr_slot(g)));
	return tmp;
}

void xl_from_host(struct xl *x, unsigned g, unsigned host)
{
	if (x_home[g] != REG_NONE)
		asm_mov(&x->a, x_home[g], host);
	else
		asm_store(&x->a, host, xea_ctx(xl_gpr_slot(g)));
}

/* RSP, by this much and what it lacks: sp_late. */
void xl_move_sp(struct xl *x, s32 by)
{
	by += x->sp_late;
	x->sp_late = 0;
	if (by)
		asm_rm(&x->a, x->word == 8, 0x8d, HOME_SP, xea_base(HOME_SP, by));
}
