/* SPDX-License-Identifier: MIT */
/*
 * See scan.h. The bytes are searched for. Whether they are an instruction is found by decoding towards them from several places before, which
 * soon agree where instructions begin: if none of these come by, they are part of another instruction, or data. If they do, and what stands
 * around reads like a program, they are an instruction.
 */
#include "direct/scan.h"

#include "base/string.h"
#include "cpu/cpuid.h"
#include "decode/decode.h"
#include "interp/interp.h"

#define REACH 160u /* bytes before, to begin from */
#define BEHIND 64u
#define STARTS 16u
#define LOOK 14u   /* instructions before and behind that must be such as programs have */

/* Bytes of two pages at most, as one. */
struct window {
	u8 b[REACH + BEHIND];
	unsigned n, at; /* the place in question */
};

static bool forbidden(const struct window *w)
{
	const u8 *b = w->b + w->at;
	unsigned n = w->n - w->at;

	if (n >= 2 && b[0] == 0x0f && (b[1] == 0xa2 || b[1] == 0x31))
		return true; /* CPUID, RDTSC */
	if (n >= 3 && b[0] == 0x0f && b[1] == 0x01)
		return b[2] == 0xd0 || b[2] == 0xee || b[2] == 0xef || b[2] == 0xf9; /* XGETBV, RDPKRU, WRPKRU, RDTSCP */
	/* RDPID; without the prefix it is RDSEED */
	return n >= 3 && b[0] == 0x0f && b[1] == 0xc7 && b[2] >= 0xf8 && w->at &&
	       (b[-1] == 0xf3 || (w->at > 1 && (b[-1] & 0xf0) == 0x40 && b[-2] == 0xf3));
}

static bool decode_at(struct cpu *c, const struct window *w, unsigned at, struct decoded *d)
{
	return at < w->n && decode(d, w->b + at, MIN(w->n - at, 15u), 8, cpu_is_amd(c)) == DECODE_OK;
}

/* The start of the instruction at the place: its prefixes belong to it. */
static unsigned begin(const struct window *w)
{
	unsigned at = w->at;

	while (at && w->at - at < 3 && (w->b[at - 1] == 0xf3 || (w->b[at - 1] & 0xf0) == 0x40))
		at--;
	return at;
}

/* From `at` on: does an instruction begin at the place, or at a prefix of it? trail: where those before began, the last ones, if not NULL. */
static bool comes(struct cpu *c, const struct window *w, unsigned at, unsigned *trail, unsigned *n)
{
	unsigned first = begin(w);
	struct decoded d;

	while (at < first) {
		if (trail)
			trail[(*n)++ % LOOK] = at;
		at += decode_at(c, w, at, &d) ? d.z.length : 1u;
	}
	return at <= w->at;
}

/* Of how many starts? In sixteenths. Once two have met they go on together. */
static unsigned reached(struct cpu *c, const struct window *w)
{
	unsigned come = 0, starts = MIN(w->at + 1, STARTS), first = begin(w);
	u8 next[REACH + BEHIND] = { 0 }; /* the length of what begins there, once decoded */
	struct decoded d;

	for (unsigned s = 0; s < starts; s++) {
		unsigned at = s;

		while (at < first) {
			if (!next[at])
				next[at] = decode_at(c, w, at, &d) ? d.z.length : 1;
			at += next[at];
		}
		come += at <= w->at;
	}
	return come * 16 / starts;
}

/* Nothing that compilers and libraries do not write, and no two zero bytes for an instruction. */
static bool plausible(const struct decoded *d)
{
	static const u8 categories[] = {
		ZYDIS_CATEGORY_BINARY, ZYDIS_CATEGORY_BITBYTE, ZYDIS_CATEGORY_CALL, ZYDIS_CATEGORY_CMOV, ZYDIS_CATEGORY_COND_BR, ZYDIS_CATEGORY_CONVERT,
		ZYDIS_CATEGORY_DATAXFER, ZYDIS_CATEGORY_LOGICAL, ZYDIS_CATEGORY_MISC, ZYDIS_CATEGORY_NOP, ZYDIS_CATEGORY_POP, ZYDIS_CATEGORY_PUSH,
		ZYDIS_CATEGORY_RET, ZYDIS_CATEGORY_ROTATE, ZYDIS_CATEGORY_SETCC, ZYDIS_CATEGORY_SHIFT, ZYDIS_CATEGORY_UNCOND_BR, ZYDIS_CATEGORY_WIDENOP,
		ZYDIS_CATEGORY_SYSCALL, ZYDIS_CATEGORY_XSAVE, ZYDIS_CATEGORY_CET, ZYDIS_CATEGORY_RDPID, ZYDIS_CATEGORY_PKU, ZYDIS_CATEGORY_SSE, ZYDIS_CATEGORY_AVX, ZYDIS_CATEGORY_LOGICAL_FP,
	};

	if (d->z.mnemonic == ZYDIS_MNEMONIC_RDTSC || d->z.mnemonic == ZYDIS_MNEMONIC_RDTSCP)
		return true;
	if (d->bytes[0] == 0 && d->bytes[1] == 0)
		return false;
	if (d->z.mnemonic == ZYDIS_MNEMONIC_XCHG || d->z.mnemonic == ZYDIS_MNEMONIC_ENTER || d->z.mnemonic == ZYDIS_MNEMONIC_XLAT ||
	    d->z.mnemonic == ZYDIS_MNEMONIC_CMC || d->z.mnemonic == ZYDIS_MNEMONIC_RCL || d->z.mnemonic == ZYDIS_MNEMONIC_RCR)
		return false;
	if (d->z.attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_CS | ZYDIS_ATTRIB_HAS_SEGMENT_SS | ZYDIS_ATTRIB_HAS_SEGMENT_DS | ZYDIS_ATTRIB_HAS_SEGMENT_ES | ZYDIS_ATTRIB_HAS_SEGMENT_GS))
		return d->z.meta.category == ZYDIS_CATEGORY_WIDENOP;
	for (unsigned k = 0; k < ARRAY_SIZE(categories); k++)
		if (d->z.meta.category == categories[k])
			return true;
	return false;
}

static bool sets_eax(const struct decoded *d)
{
	for (unsigned k = 0; k < d->z.operand_count; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER && d->op[k].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
		    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, d->op[k].reg.value) == ZYDIS_REGISTER_RAX)
			return true;
	return false;
}

/* Right behind a fence or another of its kind, as clocks are read: too long a pattern for chance. (The vDSO has some that are never run, among data.) */
static bool behind_fence(const struct window *w)
{
	unsigned at = begin(w);
	const u8 *b = w->b + at;

	if (w->b[w->at + 1] == 0xa2 || at < 3)
		return false;
	return (b[-2] == 0x0f && b[-1] == 0x31) || (b[-3] == 0x0f && b[-2] == 0xae && (b[-1] == 0xe8 || b[-1] == 0xf0)) || (b[-3] == 0x0f && b[-2] == 0x01 && b[-1] == 0xf9);
}

/* Beyond doubt an instruction: everything before and behind reads like a program, and EAX or ECX, which say what is asked for, are set before. */
static bool certain(struct cpu *c, const struct window *w)
{
	unsigned trail[LOOK], n = 0, at = w->at;
	bool asks = w->b[w->at + 1] != 0xa2, longer = asks && w->b[w->at + 1] != 0x31; /* the others are longer: they are found by chance 256 times less often */
	unsigned look = longer ? 2 : LOOK;
	struct decoded d;

	if (w->at < 32 || !comes(c, w, MIN(w->at / 3, STARTS), trail, &n) || n < look)
		return false;
	for (unsigned k = n - look; k < n; k++) {
		if (!decode_at(c, w, trail[k % LOOK], &d) || !plausible(&d))
			return false;
		asks |= sets_eax(&d);
	}
	if (!asks)
		return false;
	at = begin(w);
	for (unsigned k = 0; k < LOOK / 2; k++) {
		if (!decode_at(c, w, at, &d))
			return k > 6 && w->n - at < 15; /* the end of what there is to see */
		if (!plausible(&d))
			return false;
		if (d.z.meta.category == ZYDIS_CATEGORY_RET || d.z.meta.category == ZYDIS_CATEGORY_UNCOND_BR)
			break; /* anything may follow */
		at += d.z.length;
	}
	return true;
}

enum verdict { NONE, CHANGE, REFUSE };

/* What begins at off; before and behind may be NULL. */
static enum verdict check(struct cpu *c, const u8 *page, unsigned off, const u8 *before, const u8 *behind)
{
	struct window w;
	unsigned first = off > REACH ? off - REACH : 0, end = MIN(off + BEHIND, (unsigned)PAGE_SIZE), votes;

	w.n = 0;
	if (before && off < REACH) {
		w.n = REACH - off;
		memcpy(w.b, before + PAGE_SIZE - w.n, w.n);
	}
	w.at = w.n + off - first;
	memcpy(w.b + w.n, page + first, end - first);
	w.n += end - first;
	if (behind && end == PAGE_SIZE) {
		unsigned more = off + BEHIND - (unsigned)PAGE_SIZE;

		memcpy(w.b + w.n, behind, more);
		w.n += more;
	}
	if (!forbidden(&w))
		return NONE;
	votes = reached(c, &w);
	if (votes < 4)
		return NONE;
	/* UD2's bytes must both be in this page. */
	return votes >= 14 && off + 1 < PAGE_SIZE && (behind_fence(&w) || certain(c, &w)) ? CHANGE : REFUSE;
}

void direct_scan(struct cpu *c, const u8 *page, const u8 *before, const u8 *behind, struct scan *s)
{
	s->refused = false;
	s->n = 0;
	for (unsigned off = 0; off < PAGE_SIZE; off++) {
		if (likely(page[off] != 0x0f))
			continue;
		u8 next = off + 1 < PAGE_SIZE ? page[off + 1] : behind ? behind[0] : 0;
		if (next != 0xa2 && next != 0x31 && next != 0x01 && next != 0xc7)
			continue;
		enum verdict v = check(c, page, off, before, behind);
		if (v == REFUSE || (v == CHANGE && s->n == SCAN_MAX))
			s->refused = true;
		else if (v == CHANGE)
			s->at[s->n++] = (u16)off;
		if (s->refused)
			return;
	}
	/* One that begins in the page before; that page is looked at only now that this one is there. */
	for (unsigned off = PAGE_SIZE - 2; before && off < PAGE_SIZE; off++)
		if (before[off] == 0x0f && check(c, before, off, NULL, page) == REFUSE)
			s->refused = true;
}
