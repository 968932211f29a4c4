/* SPDX-License-Identifier: MIT */
/*
 * Comparing two outcomes and showing where they differ.
 *
 * Not compared: flags that the manual leaves undefined for the instruction (t->undef); x87 FOP, FIP, FDP (AMD's XSAVE stores them only
 * with an exception pending, and an instruction that runs elsewhere has another address); XSTATE_BV itself (a component that is in
 * its initial state may be marked either way: the contents are what counts); bytes that no component owns.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "fuzz.h"

void changed(const u8 *pattern, const u8 *now, struct outcome *o)
{
	u32 lo = 0, hi = DATA_SIZE;

	while (lo < hi && *(const u64 *)(pattern + lo) == *(const u64 *)(now + lo))
		lo += 8;
	while (hi > lo && *(const u64 *)(pattern + hi - 8) == *(const u64 *)(now + hi - 8))
		hi -= 8;
	o->lo = lo;
	o->hi = hi;
	for (u32 i = lo; i < hi && i - lo < CHANGES; i += 8)
		*(u64 *)(o->mem + (i - lo)) = *(const u64 *)(now + i);
}

/* Standard format, every component present with its value, nothing else. */
void xs_normalize(u8 *xs)
{
	u64 bv;
	u32 mxcsr;

	memcpy(&bv, xs + XS_BV, 8);
	memcpy(&mxcsr, xs + 24, 4);
	if (!(bv & 1)) {
		memset(xs, 0, 24);
		xs[0] = 0x7f;
		xs[1] = 3;
		memset(xs + 32, 0, 128);
	}
	if (!(bv & 2))
		memset(xs + 160, 0, 256);
	memset(xs + 6, 0, 18); /* FOP, FIP, FDP */
	for (int i = 0; i < 8; i++)
		memset(xs + 32 + i * 16 + 10, 0, 6);
	memset(xs + 28, 0, 4); /* MXCSR_MASK */
	memset(xs + 416, 0, 160);
	if (!host_xcr0 || host_xcr0 <= 3) {
		memset(xs + 576, 0, XS_SIZE - 576);
		return;
	}
	u32 at = 576;
	for (int i = 2; i < 32; i++) {
		if (!xs_len[i])
			continue;
		if (!(bv >> i & 1))
			memset(xs + xs_off[i], 0, xs_len[i]);
		if (xs_off[i] > at)
			memset(xs + at, 0, xs_off[i] - at);
		at = xs_off[i] + xs_len[i];
	}
	if (at < XS_SIZE)
		memset(xs + at, 0, XS_SIZE - at);
}

static void skip(const struct share *sh, const struct tcase *t, struct outcome *o)
{
	for (u32 i = t->skip_off; i < t->skip_off + t->skip_len; i++)
		if (i >= o->lo && i < o->hi && i - o->lo < CHANGES)
			o->mem[i - o->lo] = sh->data[i];
}

static u8 byte_after(const struct share *sh, const struct outcome *o, u32 i)
{
	return i >= o->lo && i < o->hi && i - o->lo < CHANGES ? o->mem[i - o->lo] : sh->data[i];
}

static bool memory_differs(const struct share *sh, const struct outcome *a, const struct outcome *b)
{
	u32 lo = a->lo < b->lo ? a->lo : b->lo, hi = a->hi > b->hi ? a->hi : b->hi;

	if (a->lo == b->lo && a->hi == b->hi && a->hi - a->lo <= CHANGES)
		return a->lo < a->hi && memcmp(a->mem, b->mem, a->hi - a->lo);
	for (u32 i = lo; i < hi; i++)
		if (byte_after(sh, a, i) != byte_after(sh, b, i))
			return true;
	return false;
}

static void clear_above(u8 *xs, unsigned reg, unsigned vl)
{
	if (reg >= 16) {
		memset(xs + xs_off[7] + 64 * (reg - 16) + vl, 0, 64 - vl);
		return;
	}
	if (vl <= 16 && xs_off[2])
		memset(xs + xs_off[2] + 16 * reg, 0, 16);
	if (vl <= 32 && xs_off[6])
		memset(xs + xs_off[6] + 32 * reg, 0, 32);
}

/*
 * Page faults. In the upper half the host has its kernel mapped, and below it this program; the guest has nothing there: P of the error code tells that apart. Stores
 * of a whole state are made of many accesses, and which of those in a page faults first is the CPU's own affair.
 */
static bool same_fault(const struct tcase *t, const struct outcome *a, const struct outcome *b)
{
	u32 err = a->error ^ b->error;
	u64 cr2 = a->cr2 ^ b->cr2;

	if (a->vector == 14 && a->cr2 >= 0x7f0000000000)
		err &= ~1u;
	if (a->vector == 14 && t->big_operand)
		cr2 = a->cr2 - b->cr2 + 4096 < 8192 ? 0 : cr2;
	if (a->vector == 14 && t->two_operands)
		cr2 = 0;
	return !err && !cr2;
}

/* Translated code keeps only those arithmetic flags that something may yet read: after a fault in the middle of a block the others are not compared. */
static bool flags_may_be_dead(const struct tcase *t, const struct outcome *o)
{
	const char *engine = getenv("USEKVM_ENGINE");
	return t->ninsn > 1 && o->vector != 3 && !(engine && !strcmp(engine, "interp"));
}

/* What 32-bit code leaves in the upper halves of its eight registers nobody can see (KMOVD with W set writes there). */
static bool gprs_differ(const struct outcome *a, const struct outcome *b)
{
	for (int i = 0; i < 16; i++) {
		u64 d = a->gpr[i] ^ b->gpr[i];
		if (code_bits == 32 && i < 8 ? (u32)d : d)
			return true;
	}
	return false;
}

bool same(const struct share *sh, const struct tcase *t, struct outcome *a, struct outcome *b)
{
	u64 fl = ~(u64)(a->vector == 3 ? t->undef : t->undef_fault);

	if (flags_may_be_dead(t, a))
		fl &= ~0x8d5ull;
	/* XSAVEOPT, XSAVEC: which components count as in their initial state is up to the CPU. Told by XSTATE_BV in what was stored. */
	if (t->opt_state && a->vector == 3 && b->vector == 3 && a->rip == b->rip &&
	    byte_after(sh, a, t->opt_state) != byte_after(sh, b, t->opt_state))
		return !memcmp(a->gpr, b->gpr, sizeof(a->gpr));
	if (t->two_operands && (a->vector == 13 || a->vector == 14) && (b->vector == 13 || b->vector == 14) && a->rip == b->rip)
		return true;
	if (t->vague_ac && t->rflags & 0x40000 && (a->vector == 17 || b->vector == 17) && !b->kvm_exit)
		return true;
	if (b->kvm_exit || a->vector != b->vector || a->rip != b->rip || !same_fault(t, a, b))
		return false;
	if (t->many && a->vector != 3)
		return true;
	if (gprs_differ(a, b) || ((a->rflags ^ b->rflags) & fl) || a->fs != b->fs || a->gs != b->gs)
		return false;
	if (t->skip_len) {
		skip(sh, t, a);
		skip(sh, t, b);
	}
	if (memory_differs(sh, a, b))
		return false;
	if (t->vec) {
		xs_normalize(a->xs);
		xs_normalize(b->xs);
		if (t->gather_vl && a->vector == 14) {
			clear_above(a->xs, t->gather_reg, t->gather_vl);
			clear_above(b->xs, t->gather_reg, t->gather_vl);
		}
		return !memcmp(a->xs, b->xs, XS_SIZE);
	}
	return true;
}

void disassemble(FILE *f, const struct tcase *t)
{
	ZydisDisassembledInstruction d;
	ZydisMachineMode mode = code_bits == 32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64;
	u32 at = 0;

	for (int n = 0; at < t->len && n < 100; n++) {
		if (!ZYAN_SUCCESS(ZydisDisassembleIntel(mode, t->entry + at, t->code + at, t->len - at, &d))) {
			fprintf(f, "    %#llx:", (unsigned long long)t->entry + at);
			for (u32 i = at; i < t->len; i++)
				fprintf(f, " %02x", t->code[i]);
			fprintf(f, "  (not decoded)\n");
			return;
		}
		fprintf(f, "    %#llx: ", (unsigned long long)t->entry + at);
		for (u32 i = 0; i < d.info.length; i++)
			fprintf(f, "%02x", t->code[at + i]);
		fprintf(f, "  %s\n", d.text);
		at += d.info.length;
	}
}

static const char *const reg_name[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
	"r14", "r15"};

static void line(FILE *f, const char *name, u64 in, u64 a, u64 b, bool verbose)
{
	if (a != b || (verbose && in != a))
		fprintf(f, "    %-8s in %016llx  host %016llx  vcpu %016llx%s\n", name, (unsigned long long)in, (unsigned long long)a,
			(unsigned long long)b, a != b ? "  <<<" : "");
}

static void report_xs(FILE *f, const struct tcase *t, const struct outcome *a, const struct outcome *b)
{
	static u8 in[XS_SIZE];
	char name[24];

	memcpy(in, t->xs, XS_SIZE);
	xs_normalize(in);
	for (u32 i = 0; i < XS_SIZE; i += 8) {
		u64 x, y, z;
		memcpy(&x, a->xs + i, 8);
		memcpy(&y, b->xs + i, 8);
		memcpy(&z, in + i, 8);
		if (x == y)
			continue;
		if (i < 8)
			snprintf(name, sizeof(name), "fcw/fsw");
		else if (i == 24)
			snprintf(name, sizeof(name), "mxcsr");
		else if (i >= 32 && i < 160)
			snprintf(name, sizeof(name), "st%u+%u", (i - 32) / 16, i % 16);
		else if (i >= 160 && i < 416)
			snprintf(name, sizeof(name), "xmm%u+%u", (i - 160) / 16, i % 16);
		else if (i >= 576 && i < 832)
			snprintf(name, sizeof(name), "ymmh%u+%u", (i - 576) / 16, i % 16);
		else if (xs_len[5] && i >= xs_off[5] && i < xs_off[5] + 64)
			snprintf(name, sizeof(name), "k%u", (i - xs_off[5]) / 8);
		else if (xs_len[6] && i >= xs_off[6] && i < xs_off[6] + 512)
			snprintf(name, sizeof(name), "zmmh%u+%u", (i - xs_off[6]) / 32, (i - xs_off[6]) % 32);
		else if (xs_len[7] && i >= xs_off[7] && i < xs_off[7] + 1024)
			snprintf(name, sizeof(name), "zmm%u+%u", 16 + (i - xs_off[7]) / 64, (i - xs_off[7]) % 64);
		else
			snprintf(name, sizeof(name), "xs+%u", i);
		line(f, name, z, x, y, false);
	}
}

static void report_mem(FILE *f, const struct share *sh, const struct tcase *t, const struct outcome *a, const struct outcome *b, bool verbose)
{
	char name[24];

	for (u32 i = 0; i < DATA_SIZE; i += 8) {
		u64 in, x, y;
		memcpy(&in, sh->data + i, 8);
		x = y = in;
		if (i >= a->lo && i < a->hi && i - a->lo < CHANGES)
			memcpy(&x, a->mem + (i - a->lo), 8);
		if (i >= b->lo && i < b->hi && i - b->lo < CHANGES)
			memcpy(&y, b->mem + (i - b->lo), 8);
		snprintf(name, sizeof(name), "%x", (u32)DATA_FIRST + i);
		line(f, name, in, x, y, verbose);
	}
	for (unsigned p = 0; verbose && p < t->npoke; p++) {
		fprintf(f, "    %x:", (u32)DATA_FIRST + t->poke[p].off);
		for (u32 i = 0; i < t->poke[p].len; i++)
			fprintf(f, " %02x", t->poke[p].data[i]);
		fprintf(f, " before\n");
	}
}

void report(FILE *f, const struct share *sh, const struct tcase *t, const struct outcome *a, const struct outcome *b, bool verbose)
{
	disassemble(f, t);
	if (b->kvm_exit) {
		fprintf(f, "    vcpu left with exit reason %u (%u) at %#llx; host: vector %u rip %#llx\n", b->kvm_exit, b->sub,
			(unsigned long long)b->rip, a->vector, (unsigned long long)a->rip);
		if (!verbose)
			return;
	}
	if (verbose)
		for (int i = 0; i < 16; i++)
			fprintf(f, "    %s=%016llx%s", reg_name[i], (unsigned long long)t->gpr[i], i % 3 == 2 || i == 15 ? "\n" : "");
	line(f, "vector", 3, a->vector, b->vector, verbose);
	line(f, "error", 0, a->error, b->error, verbose);
	line(f, "cr2", 0, a->cr2, b->cr2, verbose);
	line(f, "rip", t->entry, a->rip, b->rip, verbose);
	for (int i = 0; i < 16; i++)
		line(f, reg_name[i], t->gpr[i], a->gpr[i], b->gpr[i], verbose);
	line(f, "rflags", t->rflags, a->rflags & ~(u64)t->undef, b->rflags & ~(u64)t->undef, verbose);
	line(f, "fs", t->fs, a->fs, b->fs, verbose);
	line(f, "gs", t->gs, a->gs, b->gs, verbose);
	report_mem(f, sh, t, a, b, verbose);
	if (t->vec)
		report_xs(f, t, a, b);
}
