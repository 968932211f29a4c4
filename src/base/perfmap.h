/* SPDX-License-Identifier: MIT */
/*
 * /tmp/perf-PID.map: what stands where in memory that the process has filled with code itself, for `perf report` (`usekvm --perf-map`). A
 * guest's System.map gives the names.
 */
#ifndef USEKVM_BASE_PERFMAP_H
#define USEKVM_BASE_PERFMAP_H

#include "base/types.h"

/* At start, once: the map is wanted; guest addresses get names from this System.map ("": none). 0 or -errno: goes on without names. */
int perf_map_start(const char *system_map) hidden;
/* In the child of a fork: its map is another file. */
void perf_map_forked(void) hidden;
bool perf_map_wanted(void) hidden;
/* [host, host + size) is code for guest address rip; name: instead of a guest's. Any thread; uses the C library: put the guest's FPU first. */
void perf_map_add(const void *host, u64 size, u64 rip, const char *name) hidden;

#endif
