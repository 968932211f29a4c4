/* SPDX-License-Identifier: MIT */
/*
 * Signal dispositions and masks as the program sees them. base/sig.c owns the truth; before /dev/kvm is opened it passes everything to
 * the kernel unchanged.
 *
 * SIGSEGV, SIGBUS, SIGFPE and SIGILL are left out of what pthread_sigmask and sigprocmask block once /dev/kvm has been opened: a host fault
 * while they are blocked would kill the process, and the program cannot tell by its own faults. Masks that arrive otherwise (of
 * ppoll, sigsuspend, setjmp) are not looked at: nothing of ours runs under them.
 */
#include "preload/preload.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/sig.h"
#include "base/string.h"

static u64 interrupts; /* signals for which siginterrupt(sig, 1) was called */

EXPORT int sigaction(int sig, const struct sigaction *restrict act, struct sigaction *restrict old)
{
	return (int)to_errno(sig_vmm_action(sig, act, old));
}
EXPORT int __sigaction(int sig, const struct sigaction *restrict act, struct sigaction *restrict old)
{
	return (int)to_errno(sig_vmm_action(sig, act, old));
}

struct kernel_sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	u64 mask;
};

long hook_rt_sigaction(int sig, const void *act, void *old, size_t size)
{
	const struct kernel_sigaction *ka = act;
	struct kernel_sigaction *ko = old;
	struct sigaction ua, uo;
	int r;

	if (size != sizeof(u64) || sig < 1 || sig > 64 || sig == 32 || sig == 33)
		return sys6(SYS_rt_sigaction, sig, (long)act, (long)old, (long)size, 0, 0);
	if (ka) {
		memset(&ua, 0, sizeof(ua));
		ua.sa_sigaction = (void (*)(int, siginfo_t *, void *))ka->handler;
		ua.sa_flags = (int)ka->flags;
		memcpy(&ua.sa_mask, &ka->mask, sizeof(ka->mask));
	}
	r = sig_vmm_action(sig, ka ? &ua : NULL, &uo);
	if (!r && ko) {
		ko->handler = (void *)uo.sa_sigaction;
		ko->flags = (unsigned)uo.sa_flags;
		ko->restorer = (void *)uo.sa_restorer;
		memcpy(&ko->mask, &uo.sa_mask, sizeof(ko->mask));
	}
	return r;
}

static sighandler_t set_handler(int sig, sighandler_t handler, int flags, bool mask_itself)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = flags }, old;
	long r = handler == SIG_ERR ? -EINVAL : 0;

	sigemptyset(&act.sa_mask);
	if (mask_itself && sig >= 1 && sig <= 64)
		sigaddset(&act.sa_mask, sig);
	if (!r)
		r = sig_vmm_action(sig, &act, &old);
	return to_errno(r) < 0 ? SIG_ERR : old.sa_handler;
}

static sighandler_t bsd_semantics(int sig, sighandler_t handler)
{
	bool interrupt = sig >= 1 && sig <= 64 && (load_relaxed(&interrupts) & BIT(sig - 1));

	return set_handler(sig, handler, interrupt ? 0 : SA_RESTART, true);
}

EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
	return bsd_semantics(sig, handler);
}
EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler)
{
	return bsd_semantics(sig, handler);
}
EXPORT sighandler_t ssignal(int sig, sighandler_t handler)
{
	return bsd_semantics(sig, handler);
}
EXPORT sighandler_t sysv_signal(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, (int)(SA_RESETHAND | SA_NODEFER), false);
}
EXPORT sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, (int)(SA_RESETHAND | SA_NODEFER), false);
}

EXPORT int siginterrupt(int sig, int interrupt)
{
	struct sigaction act;
	long r = sig_vmm_action(sig, NULL, &act);

	if (r < 0)
		return (int)to_errno(r);
	if (interrupt) {
		__atomic_fetch_or(&interrupts, BIT(sig - 1), __ATOMIC_RELAXED);
		act.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_fetch_and(&interrupts, ~BIT(sig - 1), __ATOMIC_RELAXED);
		act.sa_flags |= SA_RESTART;
	}
	return (int)to_errno(sig_vmm_action(sig, &act, NULL));
}

EXPORT int sigignore(int sig)
{
	return set_handler(sig, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
}

EXPORT sighandler_t sigset(int sig, sighandler_t disp)
{
	u64 bit, was = 0;
	sighandler_t old;

	if (sig < 1 || sig > 64) {
		errno = EINVAL;
		return SIG_ERR;
	}
	bit = BIT(sig - 1);
	if (disp == SIG_HOLD) {
		struct sigaction act;
		long r = sig_vmm_action(sig, NULL, &act);

		if (!r)
			r = hook_rt_sigprocmask(SIG_BLOCK, &bit, &was, sizeof(bit));
		if (to_errno(r) < 0)
			return SIG_ERR;
		return was & bit ? SIG_HOLD : act.sa_handler;
	}
	old = set_handler(sig, disp, 0, false);
	if (old == SIG_ERR)
		return SIG_ERR;
	hook_rt_sigprocmask(SIG_UNBLOCK, &bit, &was, sizeof(bit));
	return was & bit ? SIG_HOLD : old;
}

/* ---- masks ---- */

long hook_rt_sigprocmask(int how, const void *set, void *old, size_t size)
{
	u64 mask;

	if (set && size == sizeof(mask) && how != SIG_UNBLOCK) {
		memcpy(&mask, set, sizeof(mask));
		if (sig_filter_mask(mask) != mask) {
			mask = sig_filter_mask(mask);
			set = &mask;
		}
	}
	return sys6(SYS_rt_sigprocmask, how, (long)set, (long)old, (long)size, 0, 0);
}

/* The C library keeps its own two signals (cancellation, setuid of all threads) out of reach. */
static long set_mask(int how, const sigset_t *set, sigset_t *old)
{
	u64 mask;

	if (set) {
		memcpy(&mask, set, sizeof(mask));
		if (how != SIG_UNBLOCK)
			mask &= ~(BIT(31) | BIT(32));
	}
	return hook_rt_sigprocmask(how, set ? &mask : NULL, old, sizeof(mask));
}

EXPORT int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	return (int)to_errno(set_mask(how, set, old));
}
EXPORT int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	return (int)-set_mask(how, set, old);
}
