/* SPDX-License-Identifier: MIT */
/*
 * Faults on purpose, of two kinds.
 *
 * By chance (usekvm --inject, USEKVM_INJECT; any build): what a kernel may do at any time and seldom does. inject_draw(KIND) stands where it may
 * happen and says whether it does; injectspec.c has the grammar. The Nth draw of a kind depends on the seed and N alone, not on time or thread.
 * Without the option inject_draw() is one test of a flag.
 *
 *   eintr  KVM_RUN returns -EINTR without a signal, as it does after SIGSTOP and SIGCONT or when a debugger attaches (kvm/run.c)
 *   wake   a futex sleep ends early and for no reason (lock.c); the service thread wakes for nothing and calls watches whose descriptor has
 *          nothing to read (service.c); KVM_RUN of a processor that waits for INIT returns EAGAIN (kvm/run.c)
 *   kick   time passes between a kick and its being seen: before the flag is set, between flag and wake-up (kvm/requests.c), and before a vCPU that
 *          has seen it looks what for (kvm/run.c)
 *   nomem  an allocation made for an ioctl other than KVM_RUN fails: inject_fault(), below
 *
 * In turn, for tests (debug builds): after inject_arm(N) the Nth inject_fault() reached, by any thread, is true.
 *
 * inject_fault() stands in each function that takes memory, a descriptor or a thread: those of base/sys.h, service_start(), and the C library's
 * heap as our shared library calls it (preload/inject.c). So no caller can be forgotten. If true, it does as if the kernel had answered with that error.
 *
 * live_add() counts by kind, in debug builds. With USEKVM_LEAK_CHECK=1 the library closes its descriptors when the process exits, and makes 86 its exit
 * code when anything is left then.
 */
#ifndef USEKVM_BASE_INJECT_H
#define USEKVM_BASE_INJECT_H

#include "base/types.h"

enum inject_kind { INJECT_EINTR, INJECT_WAKE, INJECT_KICK, INJECT_NOMEM, INJECT_KINDS };

struct inject_spec {
	u32 one_in[INJECT_KINDS]; /* 0: never */
	u32 delay_us;             /* the longest delay of a slow kick */
	u64 seed;
};

/* injectspec.c, without state: the launcher has it too. 0, or -1 and what is wrong begins at *bad. */
extern const char *const inject_name[INJECT_KINDS] hidden;
int inject_parse(const char *text, struct inject_spec *out, const char **bad) hidden;

extern bool inject_on hidden; /* set once, before the program starts */
void inject_start(const struct inject_spec *spec) hidden;
bool inject_hit(enum inject_kind kind) hidden;
static inline bool inject_draw(enum inject_kind kind)
{
	return unlikely(inject_on) && inject_hit(kind);
}
/* How often it happened. */
u64 inject_count(enum inject_kind kind) hidden;
/* Sleep, if a draw of INJECT_KICK says so. Any context. */
void inject_sleep(void) hidden;
static inline void inject_slow_kick(void)
{
	if (unlikely(inject_on))
		inject_sleep();
}
/* This thread is inside an ioctl whose allocations may fail. */
void inject_allow(bool on) hidden;

#ifdef USEKVM_DEBUG
bool inject_fault(int err) hidden;
int inject_arm(u32 n) hidden; /* 0: no more. The error number of the step that failed since the last call; 0: none did */
#else
bool inject_nomem(void) hidden;
static inline bool inject_fault(int err)
{
	return unlikely(inject_on) && inject_nomem();
}
#endif

enum live_kind { LIVE_VM, LIVE_VCPU, LIVE_DEVICE, LIVE_STATS, LIVE_VFIO_FILE, LIVE_HEAP, LIVE_MAPPING, LIVE_KINDS };

#ifdef USEKVM_DEBUG
void live_add(enum live_kind kind, int n) hidden;
int live_count(enum live_kind kind) hidden;
void live_forked(void) hidden;
#else
static inline void live_add(enum live_kind kind, int n)
{
}
static inline void live_forked(void)
{
}
#endif

#endif
