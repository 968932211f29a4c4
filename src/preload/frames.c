/* SPDX-License-Identifier: MIT */
/*
 * Functions by the unwind tables (LSB, "Exception Frames"; DWARF 4, 6.4): .eh_frame_hdr is a sorted table of function starts, each with its
 * entry in .eh_frame, which has the length. A stripped program has both. Read is the one encoding that linkers write there: 32-bit
 * signed offsets, from the table's start in the header and from the field itself in .eh_frame.
 */
#include "preload/program.h"

#include <link.h>
#include <string.h>

#define ENC_ABSENT 0xff
#define ENC_U32 0x03
#define ENC_S32 0x0b
#define ENC_PCREL_S32 (0x10 | ENC_S32)
#define ENC_DATAREL_S32 (0x30 | ENC_S32)

struct header {
	u8 version, frame_enc, count_enc, table_enc;
	s32 frame;
	u32 count;
	struct {
		s32 function, entry; /* from the header's start */
	} table[];
};

/* n bytes of the program that are mapped and readable. */
static bool readable(const struct program *p, const u8 *at, size_t n)
{
	for (unsigned i = 0; i < p->n; i++) {
		const struct segment *s = &p->seg[i];

		if ((s->flags & PF_R) && at >= s->start && at < s->end && n <= (size_t)(s->end - at))
			return true;
	}
	return false;
}

static u32 word(const u8 *at)
{
	u32 v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static const struct header *header_of(const struct program *p)
{
	const struct header *h = (const struct header *)p->frames;

	if (!h || !readable(p, p->frames, sizeof(*h)) || h->version != 1 || h->count_enc != ENC_U32 || h->table_enc != ENC_DATAREL_S32)
		return NULL;
	return readable(p, p->frames, sizeof(*h) + (u64)h->count * sizeof(h->table[0])) ? h : NULL;
}

/* The entry of the last function that starts at or before `at`, or NULL. */
static const u8 *entry_of(const struct program *p, const u8 *at, const u8 **start)
{
	const struct header *h = header_of(p);
	u32 low = 0, high = h ? h->count : 0;

	while (low < high) {
		u32 mid = low + (high - low) / 2;

		if (p->frames + h->table[mid].function <= at)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return NULL;
	*start = p->frames + h->table[low - 1].function;
	return p->frames + h->table[low - 1].entry;
}

/* A record of .eh_frame: its first word is its length, which 0xffffffff would make a 64-bit one. */
static bool record(const struct program *p, const u8 *at, size_t least)
{
	u32 n;

	if (!readable(p, at, 4))
		return false;
	n = word(at);
	return n >= least && n < 0xfffffff0 && readable(p, at, 4 + (u64)n);
}

static const u8 *skip_leb(const u8 *s, const u8 *end)
{
	while (s < end && *s & 0x80)
		s++;
	return s < end ? s + 1 : end;
}

/* How the common record `cie` says that function addresses are written in its entries: ENC_ABSENT if it does not, or not in a known way. */
static u8 pointer_encoding(const u8 *cie)
{
	const u8 *end = cie + 4 + word(cie), *letters = cie + 9, *s = letters + strnlen((const char *)letters, (size_t)(end - letters));
	u8 version = cie[8];

	if (word(cie + 4) || (version != 1 && version != 3) || s == end || letters[0] != 'z')
		return ENC_ABSENT;
	s = skip_leb(skip_leb(s + 1, end), end);          /* code and data alignment */
	s = version == 1 ? s + 1 : skip_leb(s, end);      /* the return address's column */
	s = skip_leb(s, end);                             /* how long what follows is */
	for (const u8 *l = letters + 1; *l && s + 6 < end; l++) {
		if (*l == 'R')
			return *s;
		if (*l == 'L')
			s++;
		else if (*l == 'P' && (*s & 7) == (ENC_S32 & 7)) /* a personality routine, in four bytes */
			s += 5;
		else if (*l != 'S' && *l != 'B')
			break;
	}
	return ENC_ABSENT;
}

bool program_function(const struct program *p, const u8 *at, const u8 **start, const u8 **end)
{
	const u8 *fde = entry_of(p, at, start), *cie;

	if (!fde || !record(p, fde, 12))
		return false;
	cie = fde + 4 - word(fde + 4);
	if (!record(p, cie, 8) || pointer_encoding(cie) != ENC_PCREL_S32 || fde + 8 + (s32)word(fde + 8) != *start)
		return false;
	*end = *start + word(fde + 12);
	return at < *end && readable(p, *start, (size_t)(*end - *start));
}
