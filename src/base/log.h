/* SPDX-License-Identifier: MIT */
/*
 * Log lines: `--log=SUBSYSTEM:LEVEL[,...]` or USEKVM_LOG. They go to stderr, or the file of USEKVM_LOG_FILE, by one raw write a line;
 * errno is kept. A level that is off costs one load. Formatting uses the C library: put the guest's FPU first.
 */
#ifndef USEKVM_BASE_LOG_H
#define USEKVM_BASE_LOG_H

#include "base/types.h"

#define LOG_SUBSYSTEMS(X) X(api) X(kvm) X(mem) X(mmu) X(cpu) X(interp) X(irq) X(timer) X(io) X(dev) X(preload) X(translate) X(direct)
enum log_subsystem {
#define X(n) LOG_##n,
	LOG_SUBSYSTEMS(X)
#undef X
	LOG_COUNT
};
enum log_level { LOG_NONE, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

extern u8 log_levels[LOG_COUNT] hidden; /* default LOG_WARN */
/* Parse "irq:debug,mmu:trace", "all:info" or just "info" (all). 0, or -EINVAL with the offending word's start in *bad. */
int log_configure(const char *spec, const char **bad) hidden;
/* Lines go to this file (appended; opened again if the VMM closes it), NULL or "": stderr. 0 or -errno. */
int log_set_file(const char *path) hidden;
void log_write(enum log_subsystem s, enum log_level l, const char *fmt, ...) hidden printf_like(3, 4);

#define log_on(sub, lvl) unlikely(log_levels[LOG_##sub] >= (lvl))
#define log_at(sub, lvl, ...)                                                                                                              \
	do {                                                                                                                               \
		if (log_on(sub, lvl))                                                                                                      \
			log_write(LOG_##sub, lvl, __VA_ARGS__);                                                                            \
	} while (0)
#define log_error(sub, ...) log_at(sub, LOG_ERROR, __VA_ARGS__)
#define log_warn(sub, ...) log_at(sub, LOG_WARN, __VA_ARGS__)
#define log_info(sub, ...) log_at(sub, LOG_INFO, __VA_ARGS__)
#define log_debug(sub, ...) log_at(sub, LOG_DEBUG, __VA_ARGS__)
#define log_trace(sub, ...) log_at(sub, LOG_TRACE, __VA_ARGS__)

#endif
