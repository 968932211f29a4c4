/* SPDX-License-Identifier: MIT */
/*
 * Signals of the VMM's threads while they are inside KVM_RUN, and faults that are ours.
 *
 * The kernel runs a signal's handler when KVM_RUN has returned to user space, never in its middle. We do the same: the handlers that the
 * VMM installs (the interposed sigaction and signal) are installed for real behind a wrapper. When a signal arrives on a thread between sig_enter and sig_leave, the
 * wrapper blocks that signal in the interrupted context, keeps it with its siginfo, and calls run->kick(); sig_leave calls the VMM's handler and
 * restores the thread's mask, as if KVM_RUN had just returned -EINTR. One signal is kept so, with no system call but rt_sigprocmask, which every seccomp filter of
 * a VMM allows; a second one, or one inside KVM_SET_SIGNAL_MASK's mask, is queued to the thread again, and its handler runs when the mask is restored.
 * A signal unblocked only by KVM_SET_SIGNAL_MASK stays pending after sig_leave, as with the kernel; signals that this mask unblocks and
 * that have the default action get the wrapper too, for as long as the mask is used.
 *
 * SIGSEGV, SIGBUS, SIGFPE and SIGILL of the host CPU: first the fault-safe copies (copy_fixup), then run->fault of the thread's
 * current KVM_RUN, then whatever the VMM had installed (or the default action, exactly as without us).
 */
#ifndef USEKVM_BASE_SIG_H
#define USEKVM_BASE_SIG_H

#include <signal.h>
#include <ucontext.h>

#include "base/types.h"

struct sig_run {
	/* Async-signal context; may be NULL: any ioctl that must not be torn by a handler can stand between sig_enter and sig_leave. */
	void (*kick)(struct sig_run *r);
	/* A synchronous fault at uc's rip. True: handled, resume with uc as (possibly) changed. */
	bool (*fault)(struct sig_run *r, int sig, siginfo_t *info, ucontext_t *uc);
	struct sig_run *outer; /* KVM_RUN called inside a handler that interrupted another thread state: sig.c's own */
	u64 saved_mask;
	u64 deferred;
	int held; /* the signal that is kept, or 0 */
	bool mask_changed;
	bool interrupted; /* some signal arrived since sig_enter */
};

/* Before /dev/kvm is first used: take the four fault signals. Idempotent, 0 or -errno. */
int sig_install(void) hidden;
/* The C library has installed its handler for thread cancellation: treat it as one of the program's. Nothing happens before sig_install(). */
void sig_adopt_cancel(void) hidden;
/* No system call happens in these two unless kvm_mask is given or a signal did arrive. After sig_leave the VMM's handlers may have run, and
 * may have jumped away: hold no lock and own nothing by then.
 * kvm_mask: kernel signal mask of KVM_SET_SIGNAL_MASK, or NULL: keep the thread's mask. */
void sig_enter(struct sig_run *r, const u64 *kvm_mask) hidden;
void sig_leave(struct sig_run *r) hidden;
/* SIGILL of an instruction that is not ours: fn (async-signal context) is asked first. It changes uc and says true, or false. */
void sig_answer_ill(bool (*fn)(ucontext_t *uc)) hidden;
/* True if this thread is between the two. */
bool sig_in_run(void) hidden;
/* The innermost run of this thread, or NULL; go on by ->outer. */
struct sig_run *sig_current(void) hidden;
/* KVM_SET_SIGNAL_MASK: make sure every signal it unblocks reaches the wrapper. */
int sig_prepare_mask(u64 kvm_mask) hidden;

/*
 * Once for each thread before it depends on faults: SIGSEGV, SIGBUS, SIGFPE and SIGILL are unblocked (a fault while they are blocked kills
 * the process). False while sig_install has not been called. The mask interposers keep the four unblocked from then on (sig_filter_mask);
 * a program cannot tell, except that a kill()ed one is not held back.
 */
bool sig_thread_ready(void) hidden;
/* The part of a mask that may really be blocked: without the four, once sig_install was called. */
u64 sig_filter_mask(u64 mask) hidden;
/* In the child of a fork: locks are free again, the table is the child's. */
void sig_forked(void) hidden;

/* For the interposers (preload/): sigaction and friends as the VMM sees them. Return -errno. */
int sig_vmm_action(int sig, const struct sigaction *act, struct sigaction *old) hidden;

#endif
