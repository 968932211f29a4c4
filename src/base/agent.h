/* SPDX-License-Identifier: MIT */
/*
 * System calls that a seccomp filter of the VMM may forbid. Monitors give each of their threads a filter, some of them before they make a VM. A thread
 * inherits the filter of the one that makes it, so ours are made by one that began when /dev/kvm was opened, before any filter: the agent. It also makes single
 * system calls for others. (A filter for all threads at once, SECCOMP_FILTER_FLAG_TSYNC, reaches the agent too.)
 *
 * What may be used directly on a thread of the VMM: futex on private words, write, close, ioctl, rt_sigprocmask, rt_sigreturn, clock_gettime, munmap,
 * mmap of anonymous private memory, madvise(MADV_DONTNEED). tests/api/seccomp.c kills for anything else.
 */
#ifndef USEKVM_BASE_AGENT_H
#define USEKVM_BASE_AGENT_H

#include "base/types.h"

/* Idempotent. 0 or -errno. */
int agent_start(void) hidden;
/* A thread of ours, detached, with a small stack and every signal blocked. 0 or -errno. It is the caller that makes it: see agent_call(). */
int agent_thread(void *(*fn)(void *arg), void *arg) hidden;
/* As sys6 and sys3. The call must not sleep: others wait behind it. Without an agent it is made here. */
long agent_sys(long n, long a, long b, long c, long d, long e, long f) hidden;
#define agent_sys3(n, a, b, c) agent_sys(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
/* Run fn(arg) on the agent and wait. It takes no lock that the caller may hold. */
void agent_call(void (*fn)(void *arg), void *arg) hidden;
/* In the child of a fork: there is none. */
void agent_forked(void) hidden;

#endif
