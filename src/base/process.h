/* SPDX-License-Identifier: MIT */
/*
 * What exists once for each process and not for each VM: the host's TSC frequency, the list of VMs, and whether times are to be counted. With the
 * log levels, the signal table and the perf map it is all the state at file scope below preload/.
 */
#ifndef USEKVM_BASE_PROCESS_H
#define USEKVM_BASE_PROCESS_H

#include "base/lock.h"
#include "base/types.h"

/* Measured against CLOCK_MONOTONIC_RAW over 20 ms the first time it is asked for. */
u32 process_tsc_khz(void) hidden;

struct process_node {
	struct process_node *prev, *next;
};
void process_add(struct process_node *n) hidden;
/* fold(n, totals) is called under the list's lock: what the leaving object counted goes into the totals. */
#define PROCESS_TOTALS 96
void process_del(struct process_node *n, void (*fold)(struct process_node *n, u64 *totals)) hidden;
/* Copies the totals, then calls fn for each object on the list, under its lock. */
void process_sum(u64 *totals, void (*fn)(struct process_node *n, u64 *totals)) hidden;

/* Names by number that are added to and never removed from (device types). -EEXIST, -ENOSPC. */
#define PROCESS_NAMES 64
int process_register(u32 key, const void *val) hidden;
const void *process_lookup(u32 key) hidden;

/*
 * A vfork child runs in our memory but has descriptors and signal dispositions of its own. Is this thread one of process pid? A thread that
 * process_thread_is_ours() was called on is known by its thread id alone, since seccomp filters more often lack getpid than gettid.
 */
void process_thread_is_ours(void) hidden;
bool process_is(int pid) hidden;

/* The library's own threads, by their ids; they enter and leave themselves. More than there is room for are only not known. */
#define PROCESS_HELPERS 256
void process_helper_begins(u32 tid) hidden;
void process_helper_ends(u32 tid) hidden;
bool process_is_helper(u32 tid) hidden; /* false for 0 */

/* In the child of a fork: the VMs are the parent's, nothing has been counted. */
void process_forked(void) hidden;

/* ns that a thread of the process has waited for a CPU. -errno: the kernel does not say, and *ns is left alone. */
int process_run_delay(int tid, u64 *ns) hidden;
bool process_has_run_delay(void) hidden;
/*
 * Has the caller's thread more filters of system calls than there were when process_note_filters() was called, the first time, before /dev/kvm is open? Those
 * are a container's, which allow what programs need; a monitor's own for its threads do not. True also if nobody knows.
 */
void process_note_filters(void) hidden;
bool process_confined(void) hidden;
int process_tid(void) hidden; /* of the caller, without a system call: if process_has_run_delay() */

extern bool process_timing hidden; /* count time in the guest and in the VMM: set before the first KVM_RUN */
/* Which engine new vCPUs get; set once at start (usekvm --engine). */
enum process_engine { ENGINE_AUTO, ENGINE_INTERP, ENGINE_TRANSLATE, ENGINE_CHECK };
extern enum process_engine process_engine hidden;
enum process_direct { DIRECT_OFF, DIRECT_AUTO, DIRECT_ALWAYS };
extern enum process_direct process_direct hidden; /* may ENGINE_AUTO run user code as it is (direct/); always: wherever it can (USEKVM_DIRECT: for tests) */
extern u32 process_code_cache hidden; /* if not 0: bytes of translated code that a vCPU keeps, and few blocks and pages of code (USEKVM_CODE_CACHE: for tests) */
extern u32 process_tlb_drop hidden; /* if not 0: one of so many fills of a TLB drops all that it has (USEKVM_TLB_DROP: for tests) */
extern u32 process_check_first hidden; /* if not 0: how many runs of an instruction ENGINE_CHECK compares before it only samples (USEKVM_CHECK_FIRST) */

#endif
