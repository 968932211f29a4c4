/* SPDX-License-Identifier: MIT */
/*
 * Some monitors ask the CPUID instruction for VMX or SVM before they open /dev/kvm, and give up without. Where the host's CPU shows neither,
 * a program that names /dev/kvm has the CPUID instructions of its own file turned into UD2, which is as long; the fault is answered by
 * executing CPUID and adding that one bit. All else that CPUID says stays as it is.
 *
 * Only what is sure to be an instruction is changed: the program's unwind table gives the function, flow.c decodes it. The change is one byte
 * (0F A2 becomes 0F 0B), so that a thread that runs there sees the old or the new instruction. Shared libraries are left alone. A program
 * without /dev/kvm in its constants, or with USEKVM_HOST_CPUID set, or that links this library, is not touched.
 */
#include "preload/preload.h"

#include <cpuid.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/sig.h"
#include "preload/program.h"

#define SITES 1024
#define OPCODE "\x0f\xa2"
#define UD2_SECOND 0x0b
#define HYGON_EBX 0x6f677948 /* "Hygo" */
#define KVM_NAME "/dev/kvm"

static const u8 *site[SITES]; /* ascending; written only before the program starts */
static unsigned sites;
static struct {
	u32 leaf, bit; /* of ECX */
} virtualization;

/* Which bit says it depends on whose CPU it is. Hygon's is AMD's. */
static void choose_bit(void)
{
	u32 a, b, c, d;

	__cpuid(0, a, b, c, d);
	if (b == signature_AMD_ebx || b == HYGON_EBX) {
		virtualization.leaf = 0x80000001;
		virtualization.bit = 1u << 2;
	} else {
		virtualization.leaf = 1;
		virtualization.bit = 1u << 5;
	}
}

static bool host_has_it(void)
{
	u32 a, b, c = 0, d;

	__get_cpuid(virtualization.leaf, &a, &b, &c, &d);
	return c & virtualization.bit;
}

static int by_address(const void *key, const void *entry)
{
	const u8 *a = key, *b = *(const u8 *const *)entry;

	return a < b ? -1 : a > b;
}

/* Async-signal context. */
static bool answer(ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	u32 leaf = (u32)g[REG_RAX], a, b, c, d;

	if (!bsearch((void *)g[REG_RIP], site, sites, sizeof(site[0]), by_address))
		return false;
	__cpuid_count(leaf, (u32)g[REG_RCX], a, b, c, d);
	if (leaf == virtualization.leaf)
		c |= virtualization.bit;
	g[REG_RAX] = a;
	g[REG_RBX] = b;
	g[REG_RCX] = c;
	g[REG_RDX] = d;
	g[REG_RIP] += 2;
	return true;
}

static bool names_kvm_itself(const struct program *p)
{
	for (unsigned i = 0; i < p->n; i++) {
		const struct segment *s = &p->seg[i];

		if ((s->flags & PF_R) && memmem(s->start, (size_t)(s->end - s->start), KVM_NAME, strlen(KVM_NAME)))
			return true;
	}
	return false;
}

static bool holds(const struct program *p, const void *at)
{
	for (unsigned i = 0; i < p->n; i++)
		if ((const u8 *)at >= p->seg[i].start && (const u8 *)at < p->seg[i].end)
			return true;
	return false;
}

static void find_sites(const struct program *p, const struct segment *s)
{
	const u8 *at = s->start, *start, *end;
	struct flow f = { .code = NULL };

	while (sites < SITES && (at = memmem(at, (size_t)(s->end - at), OPCODE, 2))) {
		if (program_function(p, at, &start, &end) && start != f.code) {
			flow_end(&f);
			flow_begin(&f, start, end);
		}
		if (flow_reaches(&f, at))
			site[sites++] = at;
		else
			log_info(preload, "the bytes of a CPUID at %p are left alone: not sure to be an instruction", (const void *)at);
		at += 2;
	}
	flow_end(&f);
}

/* ThreadSanitizer keeps no account of a program's text. */
static signal_safe bool change(const u8 *at)
{
	u8 *page = (u8 *)((u64)at & ~(u64)(PAGE_SIZE - 1)), *second = (u8 *)at + 1;
	size_t size = (size_t)(second + 1 - page) > PAGE_SIZE ? 2 * PAGE_SIZE : PAGE_SIZE;

	/* Executable all the while, for a thread that another library may have started. */
	if (sys_mprotect(page, size, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
		return false;
	store_relaxed(second, (u8)UD2_SECOND);
	sys_mprotect(page, size, PROT_READ | PROT_EXEC);
	return true;
}

void cpuid_start(void)
{
	const char *off = getenv("USEKVM_HOST_CPUID");
	struct program p;

	choose_bit();
	if ((off && *off) || host_has_it() || !program_find(&p) || holds(&p, (const void *)cpuid_start) || !names_kvm_itself(&p))
		return;
	for (unsigned i = 0; i < p.n; i++)
		if ((p.seg[i].flags & (PF_R | PF_W | PF_X)) == (PF_R | PF_X))
			find_sites(&p, &p.seg[i]);
	if (!sites || sig_install() < 0)
		return;
	sig_thread_ready();
	sig_answer_ill(answer);
	for (unsigned i = 0; i < sites; i++) {
		if (!change(site[i])) {
			log_warn(preload, "CPUID instructions cannot be changed here: a program that asks them for VMX or SVM finds none");
			return;
		}
	}
}
