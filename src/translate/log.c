/* SPDX-License-Identifier: MIT */
/*
 * What `--log=translate:...` shows. debug: each new unit, guest instructions beside their host code, and each recycling; info: at a vCPU's
 * end, which instructions the interpreter did for want of a host form.
 *
 * Everything here formats by the C library and Zydis, which use vector registers: the guest's must have been put away.
 */
#include <stdio.h>

#include "base/log.h"
#include "translate/engine.h"
#include "translate/translate.h"

#define TEXT 96

static void text(const ZydisFormatter *f, const struct decoded *d, u64 at, char out[TEXT])
{
	if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(f, &d->z, d->op, d->z.operand_count_visible, out, TEXT, at, NULL)))
		memcpy(out, "?", 2);
}

static bool formatter(ZydisFormatter *f)
{
	return ZYAN_SUCCESS(ZydisFormatterInit(f, ZYDIS_FORMATTER_STYLE_INTEL));
}

/* Lines of host code [from, to); the first has `guest` beside it. */
static void part(const struct cpu *c, const ZydisFormatter *f, const char *guest, u32 from, u32 to)
{
	const struct translate *t = c->tr;
	struct decoded d;
	char host[TEXT];

	if (from == to)
		log_write(LOG_translate, LOG_DEBUG, "  %-56s |", guest);
	for (u32 at = from; at < to; at += d.z.length, guest = "") {
		if (decode(&d, t->rw + at, MIN(to - at, 15u), 8, false) != DECODE_OK) {
			log_write(LOG_translate, LOG_DEBUG, "  %-56s | %6x  ?", guest, at);
			return;
		}
		text(f, &d, (u64)x_rx(t, at), host);
		log_write(LOG_translate, LOG_DEBUG, "  %-56s | %6x  %s", guest, at, host);
	}
}

void x_log_unit(struct cpu *c, const struct unit *u, unsigned n)
{
	static const char *const mode[MMU_COUNT] = { "user", "kernel", "kernel with AC" };
	const struct translate *t = c->tr;
	ZydisFormatter f;
	char insn[TEXT], guest[TEXT + 24];

	if (!formatter(&f))
		return;
	log_write(LOG_translate, LOG_DEBUG, "unit %u: guest %llx, %s, %u bytes; host %p, %u bytes", (unsigned)(u - t->units), (unsigned long long)u->rip,
		  mode[u->mmu_idx], u->bytes, (void *)x_rx(t, u->start), u->end - u->start);
	part(c, &f, "(ways in)", u->start, t->in[0].host);
	for (unsigned k = 0; k < n; k++) {
		text(&f, &t->in[k].d, t->in[k].rip, insn);
		snprintf(guest, sizeof(guest), "%016llx %s", (unsigned long long)t->in[k].rip, insn);
		part(c, &f, guest, t->in[k].host, t->in[k + 1].host);
	}
	part(c, &f, "(ways out)", t->in[n].host, u->end);
}

void x_log_drop(struct cpu *c)
{
	const struct translate *t = c->tr;

	cpu_fpu_put(c);
	log_write(LOG_translate, LOG_DEBUG, "recycling %u: %u units, %u of %u KiB of code, %u ways out, %u pages", t->generation, t->nunits,
		  (t->pos - t->first) >> 10, t->limit >> 10, t->nsites, t->npages);
}

void translate_report(const struct cpu *c)
{
	const struct translate *t = c->tr;
	u32 below = ~0u;

	if (!t || !log_on(translate, LOG_INFO))
		return;
	for (unsigned lines = 0; lines < 32; lines++) {
		u32 best = 0;
		for (unsigned k = 0; k <= ZYDIS_MNEMONIC_MAX_VALUE; k++)
			if (t->op[k] > best && t->op[k] < below)
				best = t->op[k];
		if (!best)
			break;
		for (unsigned k = 0; k <= ZYDIS_MNEMONIC_MAX_VALUE; k++)
			if (t->op[k] == best)
				log_write(LOG_translate, LOG_INFO, "done by the interpreter: %s %u times", ZydisMnemonicGetString((ZydisMnemonic)k), best);
		below = best;
	}
}
