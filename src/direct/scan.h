/* SPDX-License-Identifier: MIT */
/*
 * Code that must not run as it is: instructions that user code may execute and that would answer for the host instead of the guest, without
 * a fault that the host's kernel could be asked for. CPUID, RDTSC, RDTSCP, XGETBV, RDPID, RDPKRU and WRPKRU.
 * (The kernel can make RDTSC fault, and does where code changes all the time; each switch of processes then takes longer, on some hosts three times.)
 *
 * A page with such instructions can be run as a copy in which they are UD2, so that they come to the engine. Its data would be another then, if
 * somebody reads these bytes: so only what is an instruction beyond doubt is changed, and a page where there is doubt is not run.
 */
#ifndef USEKVM_DIRECT_SCAN_H
#define USEKVM_DIRECT_SCAN_H

#include "cpu/cpu.h"

#define SCAN_MAX 64u

struct scan {
	bool refused;     /* must not be run at all */
	unsigned n;       /* instructions to be changed */
	u16 at[SCAN_MAX]; /* the place of UD2's two bytes in the page */
};

/* before, behind: the pages at either side, or NULL. */
void direct_scan(struct cpu *c, const u8 *page, const u8 *before, const u8 *behind, struct scan *s) hidden;

#endif
