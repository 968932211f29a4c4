/* SPDX-License-Identifier: MIT */
/*
 * Is this byte the start of an instruction? The function is decoded along its control flow from its first byte: every branch both ways,
 * past every call. What is reached so is code. Where a jump through a register or a table hides further blocks, the bytes not
 * reached are taken for code too, but then all of them must be. One byte that would belong to two instructions, or that is no instruction,
 * and the answer is no.
 */
#include "preload/program.h"

#include <stdlib.h>

#include "decode/decode.h"

#define LARGEST (1u << 20) /* bytes of a function */

enum mark { NEW, START, INSIDE };

static void later(struct flow *f, s64 at)
{
	if (at < 0 || at >= f->size || f->queued[at])
		return; /* another function's: not our affair */
	f->queued[at] = 1;
	f->todo[f->n++] = (u32)at;
}

/* What follows an instruction besides the next one. False: the next one does not. */
static bool goes_on(struct flow *f, const struct decoded *d, u32 next)
{
	const ZydisDecodedOperand *o = &d->op[0];
	bool known = o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && o->imm.is_relative;

	switch (d->z.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		if (known)
			later(f, (s64)next + o->imm.value.s);
		return true;
	case ZYDIS_CATEGORY_UNCOND_BR:
		if (known)
			later(f, (s64)next + o->imm.value.s);
		else
			f->indirect = true;
		return false;
	case ZYDIS_CATEGORY_RET: return false;
	default: break;
	}
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_HLT: return false;
	default: return true;
	}
}

/* From a block's first byte to its end. False: what is there contradicts what was found before, or is not code. */
static bool block(struct flow *f, u32 at)
{
	struct decoded d;
	bool on = true;

	while (on && at < f->size && f->mark[at] == NEW) {
		u32 left = f->size - at;

		if (decode(&d, f->code + at, MIN(left, 15u), 8, false) != DECODE_OK)
			return false;
		f->mark[at] = START;
		for (u32 i = 1; i < d.z.length; i++) {
			if (f->mark[at + i] != NEW)
				return false;
			f->mark[at + i] = INSIDE;
		}
		at += d.z.length;
		on = goes_on(f, &d, at);
	}
	return !on || at >= f->size || f->mark[at] == START;
}

static bool blocks(struct flow *f)
{
	while (f->n)
		if (!block(f, f->todo[--f->n]))
			return false;
	return true;
}

static bool all(struct flow *f)
{
	later(f, 0);
	if (!blocks(f))
		return false;
	for (u32 i = 0; f->indirect && i < f->size; i++) {
		if (f->mark[i] != NEW)
			continue;
		later(f, i);
		if (!blocks(f))
			return false;
	}
	return true;
}

void flow_begin(struct flow *f, const u8 *start, const u8 *end)
{
	*f = (struct flow){ .code = start, .size = (u32)(end - start) };
	if (end - start > LARGEST)
		return;
	f->mark = calloc(f->size, 1);
	f->queued = calloc(f->size, 1);
	f->todo = calloc(f->size, sizeof(*f->todo));
	f->sound = f->mark && f->queued && f->todo && all(f);
}

bool flow_reaches(const struct flow *f, const u8 *at)
{
	return f->sound && at >= f->code && at < f->code + f->size && f->mark[at - f->code] == START;
}

void flow_end(struct flow *f)
{
	free(f->mark);
	free(f->queued);
	free(f->todo);
	*f = (struct flow){ .code = NULL };
}
