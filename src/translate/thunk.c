/* SPDX-License-Identifier: MIT */
/*
 * The ways into translated code and out of it: written once, at the start of the code memory, but for each unit's own way in.
 *
 * A way out puts every guest register into cpu.gpr, so that C code finds the state where the interpreter has it, and goes back to the
 * C stack. Ways on that are for a helper's sake (t_mem, t_op) come back with the registers as the helper has left them in cpu.gpr, and
 * flags in the host's and in cpu.af.
 */
#include "translate/translate.h"

static const u8 saved[] = { R_BX, R_BP, R_12, R_13, R_14, R_15 };

static void push_reg(struct asmb *a, unsigned r)
{
	if (r >= 8)
		e8(a, 0x41);
	e8(a, 0x50 | (r & 7));
}

static void pop_reg(struct asmb *a, unsigned r)
{
	if (r >= 8)
		e8(a, 0x41);
	e8(a, 0x58 | (r & 7));
}

static void store_guest(struct asmb *a)
{
	for (unsigned g = 0; g < 16; g++)
		if (x_home[g] != REG_NONE)
			asm_store(a, x_home[g], xea_ctx((s32)(8 * g)));
}

/* And the flags. T1, T2 stay. */
static void load_guest(struct asmb *a)
{
	asm_load_af(a);
	for (unsigned g = 0; g < 16; g++)
		if (x_home[g] != REG_NONE)
			asm_load(a, x_home[g], xea_ctx((s32)(8 * g)));
}

static void jump_reg(struct asmb *a, unsigned r)
{
	e8(a, 0x41), e8(a, 0xff), e8(a, 0xe0 | (r & 7));
}

/* u64 enter(struct cpu *c, void *code): the number of the site that it came back from. */
static void make_enter(struct asmb *a)
{
	for (unsigned k = 0; k < sizeof(saved); k++)
		push_reg(a, saved[k]);
	asm_ri(a, true, 5, R_SP, 8);
	asm_store(a, R_SP, xea_base(R_DI, (s32)offsetof(struct cpu, x_sp)));
	asm_mov(a, REG_T2, R_SI);
	asm_lea(a, R_SP, xea_base(R_DI, (s32)offsetof(struct cpu, gpr)));
	load_guest(a);
	jump_reg(a, REG_T2);
}

static void back_to_c(struct asmb *a)
{
	asm_load(a, R_SP, xea_ctx(CTX(x_sp)));
	asm_ri(a, true, 0, R_SP, 8);
	for (unsigned k = sizeof(saved); k-- > 0;)
		pop_reg(a, saved[k]);
	e8(a, 0xc3);
}

static void make_exit(struct asmb *a)
{
	store_guest(a);
	asm_rr(a, false, 0x8b, R_AX, REG_T2);
	back_to_c(a);
}

/* The state is in struct cpu already, what to return in x_ret. */
static void make_leave(struct asmb *a)
{
	asm_load(a, R_AX, xea_ctx(CTX(x_ret)));
	back_to_c(a);
}

/* helper(c, T1, site) or helper(c, site): where to go on. */
static void make_call(struct asmb *a, const void *helper, bool with_t1)
{
	store_guest(a);
	asm_lea(a, R_DI, xea_ctx(-(s32)offsetof(struct cpu, gpr)));
	if (with_t1)
		asm_mov(a, R_SI, REG_T1);
	asm_mov(a, with_t1 ? R_DX : R_SI, REG_T2);
	asm_mov(a, R_BX, R_SP);
	asm_load(a, R_SP, xea_ctx(CTX(x_sp)));
	asm_imm(a, R_AX, (u64)helper);
	e8(a, 0xff), e8(a, 0xd0);
	asm_mov(a, R_SP, R_BX);
	asm_mov(a, REG_T2, R_AX);
	asm_load(a, REG_T1, xea_ctx(CTX(x_ret)));
	load_guest(a);
	jump_reg(a, REG_T2);
}

static void make_ind(struct asmb *a, const u8 *exit)
{
	asm_store(a, REG_T1, xea_ctx(CTX(rip)));
	asm_rm(a, false, 0x8b, REG_T2, xea_ctx(CTX(x_site)));
	asm_jump_to(a, CC_ALWAYS, exit);
}

void x_thunks(struct cpu *c)
{
	struct translate *t = c->tr;
	struct asmb a = { t->rw + 64 };

#define MAKE(field, call)                                                                                                                  \
	do {                                                                                                                               \
		a.p = t->rw + ALIGN_UP((u64)(a.p - t->rw), 16);                                                                            \
		t->field = (u32)(a.p - t->rw);                                                                                             \
		call;                                                                                                                      \
	} while (0)
	MAKE(t_enter, make_enter(&a));
	MAKE(t_exit, make_exit(&a));
	MAKE(t_leave, make_leave(&a));
	MAKE(t_mem, make_call(&a, (void *)x_slow_mem, true));
	MAKE(t_op, make_call(&a, (void *)x_slow_op, false));
	MAKE(t_ind, make_ind(&a, t->rw + t->t_exit));
#undef MAKE
	t->first = t->pos = (u32)ALIGN_UP((u64)(a.p - t->rw), 64);
}

static u8 *check_page(struct asmb *a, const struct unit *u, u64 rip, u32 id)
{
	u32 slot = u->space * CPU_XID_SLOTS + ((rip >> PAGE_SHIFT) & (CPU_XID_SLOTS - 1));

	asm_rm(a, false, 0x81, 7, xea_ctx(CTX(xid) + (s32)(slot * 4)));
	e32(a, id);
	return asm_jump(a, CC_NE);
}

void x_thunk_chain(struct cpu *c, struct unit *u, u32 next)
{
	struct translate *t = c->tr;

	u->chain = next;
	asm_patch(t->rw + u->other, t->rw + (next ? t->units[next - 1].thunk : t->t_ind));
}

/* From afar: is the page at this address still the one that the unit was made from? Flags are in cpu.af. Room: THUNK_MAX. */
void x_unit_thunk(struct cpu *c, struct unit *u, u32 at)
{
	struct translate *t = c->tr;
	u8 *start = t->rw + (at ? at : t->pos);
	struct asmb asmb = { start }, *a = &asmb;
	u8 *other, *no1, *no2, *no3 = NULL;

	u->thunk = (u32)(start - t->rw);
	if (u->rip == (u64)(s64)(s32)u->rip) {
		asm_ri(a, true, 7, REG_T1, (s32)u->rip);
	} else {
		asm_imm(a, REG_T2, u->rip);
		asm_rr(a, true, 0x3b, REG_T1, REG_T2);
	}
	other = asm_jump(a, CC_NE);
	u->far_poll = (u32)(a->p - t->rw);
	asm_rm(a, false, 0x83, 7, xea_ctx(CTX(requests))), e8(a, 0);
	no1 = asm_jump(a, CC_NE);
	u->far = (u32)(a->p - t->rw);
	u8 *check = a->p;
	no2 = check_page(a, u, u->rip, u->id);
	size_t check_size = (size_t)(a->p - check);
	if (u->id2)
		no3 = check_page(a, u, u->rip + PAGE_SIZE, u->id2);
	asm_jump_to(a, CC_ALWAYS, t->rw + u->slot);
	asm_patch(no2, a->p);
	if (no3)
		asm_patch(no3, a->p);
	asm_imm(a, REG_T1, u->rip); /* the next may be of the same address in another process */
	asm_patch(other, a->p);
	u->other = (u32)(asm_jump(a, CC_ALWAYS) - t->rw);
	x_thunk_chain(c, u, u->chain);
	asm_patch(no1, a->p);
	asm_imm(a, REG_T1, u->rip);
	asm_jump_to(a, CC_ALWAYS, t->rw + t->t_ind);
	if (!at) /* with room for a unit in two pages that may take it over */
		t->pos = (u32)ALIGN_UP((u64)(a->p - t->rw) + (u->id2 ? 0 : check_size), 16);
}
