/* SPDX-License-Identifier: MIT */
/*
 * `--engine=check`: each instruction is run by the interpreter, undone, and run as translated code; the first difference ends the run with
 * KVM_EXIT_INTERNAL_ERROR and log lines that say where and what.
 *
 * Units are made of one instruction and never linked. Compared are general registers, flags (but those that the architecture leaves
 * undefined), rip, the vector and x87 state of instructions that need it, what is written to memory, the bases that SWAPGS exchanges, and
 * faults: vector, error code, CR2, RSP. The TLB's entry of the operand is dropped now and then in between, so that both ways to memory are looked at.
 *
 * Not compared, but run by the interpreter alone: instructions that translated code leaves to it anyway, RDTSC, whatever must run alone
 * (MMIO, writes to pages of code), an operand to write that the TLB does not know yet, and everything while there is more than one vCPU.
 * With USEKVM_CHECK_FIRST=N each instruction is compared N times, and then now and then only.
 * Memory that someone else changes between the two runs could look like a difference: so a difference must come three times. What someone else
 * writes between them to the bytes that the instruction writes is lost.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/process.h"
#include "base/sys.h"
#include "interp/event.h"
#include "interp/fast.h"
#include "interp/ops.h"
#include "interp/stub.h"
#include "interp/unwind.h"
#include "mem/mem.h"
#include "translate/translate.h"

#define M(n) ZYDIS_MNEMONIC_##n
#define WRITE_MAX 512u
#define TRIES 3

/* What is known of a unit's only instruction. */
struct checked {
	struct insn insn[2]; /* as the interpreter runs it, and an end */
	u8 bytes[15], len;
	u16 size;            /* of the memory operand in bytes, 0: none */
	bool write;
	bool push;           /* writes 8 bytes below RSP */
	bool fpu;
	bool skip;
	u32 undefined;       /* flags */
	u32 runs;            /* that were compared */
};

struct state {
	u64 gpr[16], rip, cr2, gs, kernel_gs, dr6;
	u32 af, rflags;
	int how;
	struct cpu_events ev;
	u8 mem[2][WRITE_MAX];
	u8 fpu[CPU_XSAVE_SIZE] aligned(64);
};

struct piece {
	u8 *p;
	u32 n;
};

struct checker {
	struct checked *of; /* by unit */
	size_t bytes;
	u64 steps;
	bool told;
	struct piece piece[4]; /* what the instruction may write: two for the operand, two for a push */
	struct state before, interp, native;
};

enum how { RAN, RAISED, OTHER };

/* ---- what a unit's instruction does ---- */

void x_check_made(struct cpu *c, const struct unit *u)
{
	const struct translate *t = c->tr;
	const struct tinsn *ti = &t->in[0];
	struct checked *k = &t->check->of[u - t->units];
	bool access = ti->kind != T_LEA && ti->d.z.mnemonic != M(NOP);
	const ZydisDecodedOperand *m = access ? x_memory_operand(&ti->d) : NULL;

	memset(k, 0, sizeof(*k));
	k->insn[0] = ti->i;
	k->insn[1].fn = h_block_end;
	k->insn[1].off = ti->len;
	k->len = ti->len;
	memcpy(k->bytes, ti->d.bytes, ti->len);
	k->skip = ti->kind == T_OP || ti->kind == T_RDTSC || ti->kind == T_CLAC || ti->kind == T_STAC || ti->kind == T_BIT || ti->i.rep || ti->d.z.mnemonic == M(RDRAND) || ti->d.z.mnemonic == M(RDSEED);
	k->fpu = stub_is(&ti->i);
	k->push = ti->kind == T_PUSH || ti->kind == T_PUSHF || ti->kind == T_CALL || ti->kind == T_CALL_IND;
	if (m) {
		k->size = m->size / 8;
		k->write = m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		k->skip |= m->mem.type != ZYDIS_MEMOP_TYPE_MEM || m->size % 8 || k->size > WRITE_MAX || ti->kind == T_NOP;
	}
	k->undefined = ti->d.z.cpu_flags ? ti->d.z.cpu_flags->undefined & X86_ARITH : 0;
}

/* ---- state ---- */

static void save(struct cpu *c, const struct checked *k, struct state *s)
{
	const struct piece *p = c->tr->check->piece;

	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	s->rip = c->rip;
	s->cr2 = c->cr2;
	s->dr6 = c->dr6;
	s->gs = c->seg[S_GS].base;
	s->kernel_gs = c->msr.kernel_gs_base;
	s->af = c->af;
	s->rflags = c->rflags;
	s->ev = c->ev;
	for (unsigned n = 0; n < 4; n++)
		if (p[n].n)
			memcpy(s->mem[n / 2] + (n & 1 ? p[n - 1].n : 0), p[n].p, p[n].n);
	if (!k->fpu)
		return;
	cpu_fpu_put(c);
	memcpy(s->fpu, c->xsave, sizeof(s->fpu));
}

static void restore(struct cpu *c, const struct checked *k, const struct state *s)
{
	const struct piece *p = c->tr->check->piece;

	memcpy(c->gpr, s->gpr, sizeof(s->gpr));
	c->rip = s->rip;
	c->cr2 = s->cr2;
	c->dr6 = s->dr6;
	c->seg[S_GS].base = s->gs;
	c->msr.kernel_gs_base = s->kernel_gs;
	c->af = s->af;
	c->rflags = s->rflags;
	c->ev = s->ev;
	c->stop = 0;
	for (unsigned n = 0; n < 4; n++)
		if (p[n].n)
			memcpy(p[n].p, s->mem[n / 2] + (n & 1 ? p[n - 1].n : 0), p[n].n);
	if (!k->fpu)
		return;
	cpu_fpu_put(c);
	memcpy(c->xsave, s->fpu, sizeof(s->fpu));
}

/* An initial component may have any bytes, and it may be marked as initial or not: the same afterwards. */
static void plain_fpu(const struct cpu *c, u8 *x)
{
	u64 bv = *(const u64 *)(x + 512);

	for (unsigned n = 2; n < ARRAY_SIZE(c->xs_off); n++)
		if (c->xs_size[n] && !(bv & BIT(n)))
			memset(x + c->xs_off[n], 0, c->xs_size[n]);
	memset(x + 464, 0, 48); /* the program's own */
	memset(x + 512, 0, 64);
	if (c->fpu_mask != c->host_xcr0 && c->xs_size[9])
		memset(x + c->xs_off[9], 0, c->xs_size[9]); /* PKRU is not the FPU's */
}

/* ---- where it writes ---- */

static bool writable(struct cpu *c, u64 la, u32 n, struct piece *p)
{
	u32 first = MIN(n, (u32)(PAGE_SIZE - (la & ~PAGE_MASK)));
	u32 len[2] = { first, n - first };

	for (unsigned k = 0; k < 2; la += len[k++]) {
		const struct cpu_tlbe *e = &c->tlb[(la >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1)];
		if (len[k] && e->wtag != (la & PAGE_MASK))
			return false;
		p[k] = (struct piece){ len[k] ? cpu_tlbe_ptr(e, la) : NULL, len[k] };
	}
	return true;
}

static u64 operand(struct cpu *c, const struct insn *i)
{
	c->gpr[SLOT_BLOCK_RIP] = c->rip;
	return ea_of(c, i) + (i->seg >= S_FS ? c->seg[i->seg].base : 0);
}

static bool find_writes(struct cpu *c, const struct checked *k, u64 la)
{
	struct piece *p = c->tr->check->piece;

	memset(p, 0, sizeof(c->tr->check->piece));
	if (k->size && k->write && !writable(c, la, k->size, p))
		return false;
	return !k->push || writable(c, c->gpr[R_SP] - 8, 8, p + 2);
}

static void forget(struct cpu *c, u64 la)
{
	size_t n = (la >> PAGE_SHIFT) & (CPU_TLB_SIZE - 1);

	c->tlb[n] = cpu_tlbe_none(n);
}

/* ---- running ---- */

static noinline enum how attempt(struct cpu *c, const struct checked *k, const struct unit *u)
{
	void *outer[ARRAY_SIZE(c->jmp)];
	volatile enum how how;

	memcpy(outer, c->jmp, sizeof(outer));
	if (CATCH_JUMP(c)) {
		how = c->unwind == UNWIND_RAISE ? RAISED : OTHER;
	} else {
		how = RAN;
		if (u)
			x_run_alone(c, u);
		else
			x_run_insn(c, k->insn, c->rip);
	}
	memcpy(c->jmp, outer, sizeof(outer));
	c->stop = 0;
	return how;
}

static _Noreturn void again(struct cpu *c)
{
	JUMP(c);
}

static bool same_events(const struct cpu_events *a, const struct cpu_events *b)
{
	return a->exc_pending == b->exc_pending && a->exc_injected == b->exc_injected && a->exc_has_error == b->exc_has_error &&
	       a->exc_vector == b->exc_vector && a->exc_error == b->exc_error && a->shadow == b->shadow;
}

static bool same(const struct cpu *c, const struct checked *k)
{
	struct checker *h = c->tr->check;
	const struct state *a = &h->interp, *b = &h->native;
	u32 undefined = a->how == RAN ? k->undefined : 0;

	if (a->how != b->how || memcmp(a->gpr, b->gpr, sizeof(a->gpr)) || a->rip != b->rip || a->cr2 != b->cr2 || a->gs != b->gs ||
	    a->kernel_gs != b->kernel_gs || a->rflags != b->rflags || !same_events(&a->ev, &b->ev))
		return false;
	if ((cpu_af_to_flags(a->af) ^ cpu_af_to_flags(b->af)) & ~undefined)
		return false;
	for (unsigned n = 0; n < 2; n++)
		if (memcmp(a->mem[n], b->mem[n], h->piece[2 * n].n + h->piece[2 * n + 1].n))
			return false;
	if (!k->fpu)
		return true;
	plain_fpu(c, h->interp.fpu);
	plain_fpu(c, h->native.fpu);
	return !memcmp(a->fpu, b->fpu, sizeof(a->fpu));
}

/* ---- the report ---- */

static void line(const char *what, u64 before, u64 interp, u64 native)
{
	if (interp != native)
		log_write(LOG_translate, LOG_ERROR, "check: %-12s before %016llx, interpreter %016llx, translator %016llx", what, (unsigned long long)before,
			  (unsigned long long)interp, (unsigned long long)native);
}

static void bytes(const char *what, const u8 *before, const u8 *interp, const u8 *native, u32 n)
{
	char name[32];

	for (u32 k = 0; k < n; k += 8) {
		u64 v[3] = { 0 };
		u32 len = MIN(n - k, 8u);
		memcpy(&v[0], before + k, len), memcpy(&v[1], interp + k, len), memcpy(&v[2], native + k, len);
		snprintf(name, sizeof(name), "%s+%u", what, k);
		line(name, v[0], v[1], v[2]);
	}
}

static _Noreturn void report(struct cpu *c, const struct checked *k)
{
	static const char *const reg[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	static const char *const how[] = { "goes on", "faults", "leaves" };
	struct checker *h = c->tr->check;
	const struct state *a = &h->before, *b = &h->interp, *d = &h->native;
	char hex[3 * 15 + 1] = "";

	for (unsigned n = 0; n < k->len; n++)
		snprintf(hex + 3 * n, 4, " %02x", k->bytes[n]);
	log_write(LOG_translate, LOG_ERROR, "check: rip %llx, bytes%s, cpl %u, after %llu instructions: the interpreter %s (vector %u), the translator %s (vector %u)",
		  (unsigned long long)a->rip, hex, c->cpl, (unsigned long long)h->steps, how[b->how], b->ev.exc_vector, how[d->how], d->ev.exc_vector);
	for (unsigned n = 0; n < 16; n++)
		line(reg[n], a->gpr[n], b->gpr[n], d->gpr[n]);
	line("rip", a->rip, b->rip, d->rip);
	line("rflags", a->rflags | cpu_af_to_flags(a->af), b->rflags | cpu_af_to_flags(b->af), d->rflags | cpu_af_to_flags(d->af));
	line("cr2", a->cr2, b->cr2, d->cr2);
	line("error code", a->ev.exc_error, b->ev.exc_error, d->ev.exc_error);
	line("gs base", a->gs, b->gs, d->gs);
	line("kernel gs", a->kernel_gs, b->kernel_gs, d->kernel_gs);
	bytes("operand", a->mem[0], b->mem[0], d->mem[0], h->piece[0].n + h->piece[1].n);
	bytes("pushed", a->mem[1], b->mem[1], d->mem[1], h->piece[2].n + h->piece[3].n);
	if (k->fpu)
		bytes("xsave", a->fpu, b->fpu, d->fpu, CPU_XSAVE_SIZE);
	c->insn_len = k->len;
	memcpy(c->insn_bytes, k->bytes, k->len);
	cpu_exit(c, CPU_EXIT_EMULATION);
}

/* ---- a step ---- */

static void compare(struct cpu *c, const struct checked *k, const struct unit *u, u64 la)
{
	struct checker *h = c->tr->check;

	save(c, k, &h->before);
	for (unsigned tries = 0; tries < TRIES; tries++) {
		h->interp.how = (int)attempt(c, k, NULL);
		if (h->interp.how == OTHER)
			again(c); /* nothing is done yet: the loop runs it in another way */
		save(c, k, &h->interp);
		restore(c, k, &h->before);
		if (k->size && h->steps % 8 == 0)
			forget(c, la);
		h->native.how = (int)attempt(c, k, u);
		save(c, k, &h->native);
		if (h->native.how == OTHER) {
			restore(c, k, &h->before);
			again(c);
		}
		if (same(c, k)) {
			if (h->native.how == RAISED) {
				c->unwind = UNWIND_RAISE;
				again(c);
			}
			return;
		}
		restore(c, k, &h->before);
	}
	cpu_fpu_put(c);
	report(c, k);
}

bool x_check_run(struct cpu *c, struct block *b)
{
	struct translate *t = c->tr;
	struct checker *h = t->check;
	u64 la = 0;

	if (b->heat > 1) {
		b->heat--;
		return false;
	}
	b->heat = 1; /* here again each time */
	if (load_relaxed(&c->mem->engines) > 1 && !h->told) {
		h->told = true;
		cpu_fpu_put(c);
		log_warn(translate, "check: more than one vCPU, nothing is compared");
	}
	if (h->told || b->hva2)
		return false;
	struct unit *u = x_unit_of(c, b);
	if (!u)
		return false;
	struct checked *k = &h->of[u - t->units];
	h->steps++;
	if (process_check_first && ++k->runs > process_check_first)
		b->heat = 1 + (u32)(h->steps * 0x9e3779b97f4a7c15ull >> 59); /* up to 32, so that no loop is always looked at in the same turn */
	if (!k->skip && k->size)
		la = operand(c, &k->insn[0]);
	if (k->skip || !find_writes(c, k, la))
		x_run_insn(c, k->insn, c->rip);
	else
		compare(c, k, u, la);
	return true;
}

int x_check_init(struct translate *t)
{
	size_t at = ALIGN_UP(sizeof(struct checker), PAGE_SIZE), bytes = at + ALIGN_UP(XUNITS * sizeof(struct checked), PAGE_SIZE);
	struct checker *h = sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (sys_is_err(h))
		return -ENOMEM;
	h->of = (struct checked *)((u8 *)h + at);
	h->bytes = bytes;
	t->check = h;
	return 0;
}

void x_check_destroy(struct translate *t)
{
	if (t->check)
		sys_munmap(t->check, t->check->bytes);
}
