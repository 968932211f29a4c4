/* SPDX-License-Identifier: MIT */
/*
 * Writing back and invalidating the host's cache lines, for DMA that does not see the caches.
 */
#ifndef USEKVM_BASE_CACHE_H
#define USEKVM_BASE_CACHE_H

#include "base/types.h"

/*
 * Every line of [addr, addr + len), by the best instruction that this CPU has; done when it returns. Memory that is not there, or
 * vanishes meanwhile, is left out; what is not resident has no lines and is not made resident. Returns the number of lines flushed. Safe inside an engine.
 */
u64 cache_flush(u64 addr, u64 len) hidden;
/* One line: 0, or -EFAULT. */
int cache_flush_line(u64 addr) hidden;
/* As copy_fixup(), for these functions. */
u64 cache_fixup(u64 rip) hidden;

#endif
