/* SPDX-License-Identifier: MIT */
/*
 * For tests, in debug builds only (elsewhere all of it is nothing): failures on demand, and a count of what is alive.
 *
 * inject_fault() stands in each function that takes memory, a descriptor or a thread: those of base/sys.h, service_start(), and the C library's
 * heap as our shared library calls it (preload/inject.c). So no caller can be forgotten. After inject_arm(N) the Nth of them reached, by any
 * thread, is true: it does as if the kernel had answered with that error.
 *
 * live_add() counts by kind. With USEKVM_LEAK_CHECK=1 the library closes its descriptors when the process exits, and makes 86 its exit code when
 * anything is left then.
 */
#ifndef USEKVM_BASE_INJECT_H
#define USEKVM_BASE_INJECT_H

#include "base/types.h"

enum live_kind { LIVE_VM, LIVE_VCPU, LIVE_DEVICE, LIVE_STATS, LIVE_VFIO_FILE, LIVE_HEAP, LIVE_MAPPING, LIVE_KINDS };

#ifdef USEKVM_DEBUG
bool inject_fault(int err) hidden;
int inject_arm(u32 n) hidden; /* 0: no more. The error number of the step that failed since the last call; 0: none did */
void live_add(enum live_kind kind, int n) hidden;
int live_count(enum live_kind kind) hidden;
void live_forked(void) hidden;
#else
static inline bool inject_fault(int err)
{
	return false;
}
static inline void live_add(enum live_kind kind, int n)
{
}
static inline void live_forked(void)
{
}
#endif

#endif
