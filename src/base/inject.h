/* SPDX-License-Identifier: MIT */
/*
 * For tests, in debug builds only (elsewhere all of it is nothing): failures on demand, and a count of what is alive.
 *
 * inject_fault() stands at each step that takes memory, a descriptor or a mapping while an object is made. With USEKVM_INJECT=N in the environment
 * the Nth of them reached in the process is true, and the caller does as if that step had failed.
 *
 * live_add() counts objects by kind. With USEKVM_LEAK_CHECK=1 the process ends with exit code 86 when any is left though no descriptor of ours is.
 */
#ifndef USEKVM_BASE_INJECT_H
#define USEKVM_BASE_INJECT_H

#include "base/types.h"

enum live_kind { LIVE_VM, LIVE_VCPU, LIVE_DEVICE, LIVE_STATS, LIVE_VFIO_FILE, LIVE_KINDS };

#ifdef USEKVM_DEBUG
bool inject_fault(void) hidden;
void live_add(enum live_kind kind, int n) hidden;
int live_count(enum live_kind kind) hidden;
void live_forked(void) hidden;
#else
static inline bool inject_fault(void)
{
	return false;
}
static inline void live_add(enum live_kind kind, int n)
{
}
static inline int live_count(enum live_kind kind)
{
	return 0;
}
static inline void live_forked(void)
{
}
#endif

#endif
