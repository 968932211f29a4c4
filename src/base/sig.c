/* SPDX-License-Identifier: MIT */
/*
 * Owns: the table of what the VMM believes its signal dispositions are, the two real handlers (wrapper and fault_handler), and each
 * thread's stack of runs.
 *
 * Invariants
 *  - A signal for which the VMM has a handler really has wrapper() (the four fault signals: fault_handler()), with the VMM's flags and
 *    mask, except that the four are never blocked, and SA_NODEFER and SA_RESETHAND are played by us: the kernel's would act when the
 *    signal is only being put off.
 *  - Writers of the table hold `lock` with all signals blocked, so a handler of the same thread never meets a half-written entry, nor a
 *    lock that its own thread holds. Handlers of other threads read by sequence counter.
 *  - A vfork child shares the table but has dispositions of its own: calls from a process that is not `pid` go to the kernel only.
 *
 * Putting a signal off costs system calls; entering and leaving a run without one costs none: the thread's mask is taken from the
 * interrupted context at the moment it is first changed.
 */
#include "base/sig.h"

#include <errno.h>
#include <sys/syscall.h>

#include "base/cache.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/string.h"
#include "base/sys.h"

#define NSIG_KERNEL 64
#define SIG_CANCEL 32 /* the C library's own: thread cancellation, and setuid in all threads */
#define SIG_SETXID 33
#define KSA_RESTORER 0x04000000
#define sig_bit(s) BIT((s)-1)
#define FAULTS (sig_bit(SIGSEGV) | sig_bit(SIGBUS) | sig_bit(SIGFPE) | sig_bit(SIGILL))
#define DEFAULT_IGNORED (sig_bit(SIGCHLD) | sig_bit(SIGCONT) | sig_bit(SIGURG) | sig_bit(SIGWINCH))

struct ksigaction { /* the kernel's layout */
	void *handler;
	unsigned long flags;
	void *restorer;
	u64 mask;
};

struct slot {
	u32 seq; /* odd: being written */
	bool wrapped; /* SIG_DFL, but sig_prepare_mask wants to see it */
	struct ksigaction act;
};

static struct {
	struct mutex lock;
	bool installed;
	int pid;
	struct slot slot[NSIG_KERNEL + 1];
} table = { .lock = MUTEX_INIT("signals") };

static bool (*answer_ill)(ucontext_t *uc);

#define thread_local_ie __thread __attribute__((tls_model("initial-exec")))
static thread_local_ie struct sig_run *current_run;
static thread_local_ie bool thread_ready;
/* The fault signals cannot be blocked while a run lasts, so an asynchronous one (kill, memory failure) is kept here. */
static thread_local_ie u64 kept;
static thread_local_ie siginfo_t kept_info[4];
static thread_local_ie siginfo_t held_info; /* of the outermost run's held */

/* The bytes are those that unwinders and debuggers look for; the nop keeps the address before it out of another function's unwind entry. */
extern void usekvm_sigreturn(void) hidden;
__asm__(".pushsection .text\n"
	".p2align 4\n"
	"	nop\n"
	".hidden usekvm_sigreturn\n.globl usekvm_sigreturn\n.type usekvm_sigreturn, @function\n"
	"usekvm_sigreturn:\n"
	"	mov $15, %rax\n" /* rt_sigreturn */
	"	syscall\n"
	".size usekvm_sigreturn, . - usekvm_sigreturn\n"
	".popsection\n");

static signal_safe void wrapper(int sig, siginfo_t *info, void *ctx);
static signal_safe void fault_handler(int sig, siginfo_t *info, void *ctx);

static int real_action(int sig, const struct ksigaction *act, struct ksigaction *old)
{
	return (int)sys6(SYS_rt_sigaction, sig, (long)act, (long)old, sizeof(u64), 0, 0);
}

static bool is_function(const void *handler)
{
	return handler != (void *)SIG_DFL && handler != (void *)SIG_IGN;
}

static bool is_ours(const struct ksigaction *a)
{
	return a->handler == (void *)wrapper || a->handler == (void *)fault_handler;
}

static bool is_fault_sig(int sig)
{
	return sig_bit(sig) & FAULTS;
}

static bool is_manageable(int sig)
{
	return sig != SIGKILL && sig != SIGSTOP && sig != SIG_CANCEL && sig != SIG_SETXID;
}

static void table_lock(u64 *mask)
{
	u64 all = ~0ull;

	sys_sigprocmask(SIG_SETMASK, &all, mask);
	mutex_lock(&table.lock);
}

static void table_unlock(const u64 *mask)
{
	mutex_unlock(&table.lock);
	sys_sigprocmask(SIG_SETMASK, mask, NULL);
}

static struct ksigaction slot_read(const struct slot *s)
{
	struct ksigaction a;
	u32 seq;
	int tries = 0;

	do {
		seq = load_acquire(&s->seq);
		a.handler = load_relaxed(&s->act.handler);
		a.flags = load_relaxed(&s->act.flags);
		a.mask = load_relaxed(&s->act.mask);
		a.restorer = NULL;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (((seq & 1) || load_relaxed(&s->seq) != seq) && ++tries < 10000); /* a forked child may never see it even */
	return a;
}

static void slot_write(struct slot *s, const struct ksigaction *a)
{
	store_relaxed(&s->seq, s->seq + 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	store_relaxed(&s->act.handler, a->handler);
	store_relaxed(&s->act.flags, a->flags);
	store_relaxed(&s->act.mask, a->mask);
	store_release(&s->seq, s->seq + 1);
}

/* Give the kernel what belongs to the table's entry. Lock held. */
static int slot_install(int sig)
{
	const struct slot *s = &table.slot[sig];
	struct ksigaction k = s->act;

	k.restorer = (void *)usekvm_sigreturn;
	if (is_fault_sig(sig)) {
		k.flags = is_function(k.handler) ? k.flags & (SA_ONSTACK | SA_RESTART) : SA_ONSTACK | SA_RESTART;
		k.flags |= SA_SIGINFO | SA_NODEFER;
		k.handler = (void *)fault_handler;
	} else if (is_function(k.handler)) {
		k.flags = (k.flags & ~(unsigned long)(SA_NODEFER | SA_RESETHAND)) | SA_SIGINFO;
		k.handler = (void *)wrapper;
	} else if (k.handler == (void *)SIG_DFL && s->wrapped) {
		k.flags = (k.flags & (SA_NOCLDSTOP | SA_NOCLDWAIT)) | SA_SIGINFO | SA_RESTART;
		k.handler = (void *)wrapper;
		k.mask = 0;
	}
	k.flags |= KSA_RESTORER;
	k.mask &= ~FAULTS;
	return real_action(sig, &k, NULL);
}

/* Lock held. The table goes first when a handler appears, the kernel when it goes: wrapper() then always finds one. */
static int slot_set(int sig, const struct ksigaction *a)
{
	struct slot *s = &table.slot[sig];
	struct ksigaction old = s->act;
	int r;

	slot_write(s, a);
	r = slot_install(sig);
	if (r < 0)
		slot_write(s, &old);
	return r;
}

/* Lock held. */
static void adopt_cancel(void)
{
	struct ksigaction k;

	if (real_action(SIG_CANCEL, NULL, &k) < 0 || !is_function(k.handler) || is_ours(&k))
		return;
	slot_write(&table.slot[SIG_CANCEL], &k);
	slot_install(SIG_CANCEL);
}

void sig_adopt_cancel(void)
{
	u64 mask;

	table_lock(&mask);
	if (table.installed && table.pid == sys_getpid())
		adopt_cancel();
	table_unlock(&mask);
}

int sig_install(void)
{
	u64 mask;
	int r = 0;

	if (load_acquire(&table.installed) && table.pid == sys_getpid())
		return 0;
	table_lock(&mask);
	for (int sig = 1; sig <= NSIG_KERNEL && !r; sig++) {
		struct ksigaction k;

		if (!is_manageable(sig))
			continue;
		r = real_action(sig, NULL, &k);
		if (r < 0 || is_ours(&k))
			continue;
		slot_write(&table.slot[sig], &k);
		if (is_fault_sig(sig) || is_function(k.handler))
			r = slot_install(sig);
	}
	if (!r) {
		adopt_cancel();
		table.pid = sys_getpid();
		store_release(&table.installed, true);
	}
	table_unlock(&mask);
	return r;
}

void sig_forked(void)
{
	mutex_init(&table.lock, "signals");
	for (int sig = 1; sig <= NSIG_KERNEL; sig++)
		table.slot[sig].seq &= ~1u;
	if (table.installed)
		table.pid = sys_getpid();
}

void sig_answer_ill(bool (*fn)(ucontext_t *uc))
{
	store_relaxed(&answer_ill, fn);
}

bool sig_thread_ready(void)
{
	const u64 faults = FAULTS;

	if (likely(thread_ready))
		return true;
	if (!load_acquire(&table.installed))
		return false;
	sys_sigprocmask(SIG_UNBLOCK, &faults, NULL);
	process_thread_is_ours();
	thread_ready = true;
	return true;
}

u64 sig_filter_mask(u64 mask)
{
	return load_relaxed(&table.installed) ? mask & ~FAULTS : mask;
}

/* ---- runs ---- */

struct sig_run *sig_current(void)
{
	return current_run;
}

bool sig_in_run(void)
{
	return current_run != NULL;
}

void sig_enter(struct sig_run *r, const u64 *kvm_mask)
{
	r->outer = current_run;
	r->saved_mask = 0;
	r->deferred = 0;
	r->held = 0;
	r->interrupted = false;
	r->mask_changed = kvm_mask != NULL;
	sig_thread_ready();
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	current_run = r;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (kvm_mask) {
		u64 mask = sig_filter_mask(*kvm_mask);

		/* The kernel stores the old mask before it delivers what the new one lets through. */
		sys_sigprocmask(SIG_SETMASK, &mask, &r->saved_mask);
	}
}

static signal_safe long queue_to_self(int sig, const siginfo_t *info)
{
	int pid = sys_getpid(), tid = sys_gettid();
	long r = sys6(SYS_rt_tgsigqueueinfo, pid, tid, sig, (long)info, 0, 0);

	/* The queue of pending signals is limited; a standard signal without its siginfo always finds room. */
	return r < 0 ? sys_tgkill(pid, tid, sig) : r;
}

static signal_safe int kept_index(int sig)
{
	return sig == SIGSEGV ? 0 : sig == SIGBUS ? 1 : sig == SIGFPE ? 2 : 3;
}

/* No call: the compiler's memcpy would be one, into code that ThreadSanitizer watches. */
static always_inline void copy_info(siginfo_t *to, const siginfo_t *from)
{
	size_t n = sizeof(*to);

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/*
 * Keep sig for sig_leave to deliver: only one, so that none is lost when its handler jumps away, and only where restoring the mask would
 * deliver it.
 */
static signal_safe bool hold(struct sig_run *r, int sig, const siginfo_t *info)
{
	if (r->held || r->mask_changed || r->outer)
		return false;
	copy_info(&held_info, info);
	r->held = sig;
	return true;
}

static void call_handler(int sig, const struct ksigaction *a, siginfo_t *info, void *ctx);

/* With the mask that a handler has, and a context like the one of a signal that came just now. */
static void deliver_held(struct sig_run *r)
{
	struct ksigaction a = slot_read(&table.slot[r->held]);
	siginfo_t info = held_info;
	ucontext_t uc;
	u64 mask;

	if (!is_function(a.handler)) { /* changed meanwhile */
		if (a.handler == (void *)SIG_DFL)
			queue_to_self(r->held, &info);
		return;
	}
	getcontext(&uc);
	memcpy(&uc.uc_sigmask, &r->saved_mask, sizeof(r->saved_mask));
	mask = sig_filter_mask(r->saved_mask | a.mask | sig_bit(r->held));
	sys_sigprocmask(SIG_SETMASK, &mask, NULL);
	call_handler(r->held, &a, &info, &uc);
	memcpy(&r->saved_mask, &uc.uc_sigmask, sizeof(r->saved_mask));
}

static noinline void leave_slow(struct sig_run *r)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };

	if (r->held)
		deliver_held(r);
	if (r->mask_changed || r->deferred)
		sys_sigprocmask(SIG_SETMASK, &r->saved_mask, NULL); /* handlers run here */
	if (current_run)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
		if (kept & sig_bit(faults[i])) {
			kept &= ~sig_bit(faults[i]);
			queue_to_self(faults[i], &kept_info[kept_index(faults[i])]);
		}
	}
}

void sig_leave(struct sig_run *r)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	current_run = r->outer;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (unlikely(load_relaxed(&r->interrupted) || r->mask_changed))
		leave_slow(r);
}

static signal_safe u64 *context_mask(void *ctx)
{
	return (u64 *)&((ucontext_t *)ctx)->uc_sigmask; /* the kernel's mask is the first 64 bits */
}

static signal_safe void put_off(struct sig_run *r, int sig, siginfo_t *info, void *ctx)
{
	u64 *mask = context_mask(ctx);

	if (is_fault_sig(sig)) {
		if (!(kept & sig_bit(sig)))
			copy_info(&kept_info[kept_index(sig)], info);
		kept |= sig_bit(sig);
	} else {
		if (!r->deferred && !r->mask_changed)
			r->saved_mask = *mask;
		r->deferred |= sig_bit(sig);
		*mask |= sig_bit(sig);
		if (!hold(r, sig, info))
			queue_to_self(sig, info); /* stays pending: blocked now, and in the context we return to */
	}
	store_relaxed(&r->interrupted, true);
	if (r->kick)
		r->kick(r);
}

/* ---- delivery to the VMM ---- */

/* The default action of a signal that is only wrapped: let the kernel do it. We come back from a stop. */
static void default_action(int sig, siginfo_t *info)
{
	const struct ksigaction dfl = { (void *)SIG_DFL, KSA_RESTORER, (void *)usekvm_sigreturn, 0 };
	u64 bit = sig_bit(sig), mask;

	if (bit & DEFAULT_IGNORED)
		return;
	table_lock(&mask);
	if (table.slot[sig].act.handler == (void *)SIG_DFL) {
		queue_to_self(sig, info);
		real_action(sig, &dfl, NULL);
		sys_sigprocmask(SIG_UNBLOCK, &bit, NULL);
		slot_install(sig);
	}
	table_unlock(&mask);
}

/* SA_RESETHAND: this delivery was the last one. */
static void reset_handler(int sig)
{
	struct ksigaction dfl = { (void *)SIG_DFL, KSA_RESTORER, NULL, 0 };
	u64 mask;

	table_lock(&mask);
	if (table.slot[sig].act.flags & SA_RESETHAND)
		slot_set(sig, &dfl);
	table_unlock(&mask);
}

static void call_handler(int sig, const struct ksigaction *a, siginfo_t *info, void *ctx)
{
	u64 bit = sig_bit(sig);

	if (a->flags & SA_RESETHAND)
		reset_handler(sig);
	if ((a->flags & SA_NODEFER) && !is_fault_sig(sig) && !((a->mask | *context_mask(ctx)) & bit))
		sys_sigprocmask(SIG_UNBLOCK, &bit, NULL);
	((void (*)(int, siginfo_t *, void *))a->handler)(sig, info, ctx);
	if (thread_ready)
		*context_mask(ctx) &= ~FAULTS;
}

static void wrapper(int sig, siginfo_t *info, void *ctx)
{
	struct sig_run *r = current_run;
	struct ksigaction a;

	if (r) {
		put_off(r, sig, info, ctx);
		return;
	}
	a = slot_read(&table.slot[sig]);
	if (is_function(a.handler))
		call_handler(sig, &a, info, ctx);
	else if (a.handler == (void *)SIG_DFL)
		default_action(sig, info);
}

/* Nobody wants it: what would have happened without us. A synchronous fault happens again as soon as we return. */
static void die_by(int sig, siginfo_t *info, bool sync)
{
	const struct ksigaction dfl = { (void *)SIG_DFL, KSA_RESTORER, (void *)usekvm_sigreturn, 0 };

	real_action(sig, &dfl, NULL);
	if (!sync)
		queue_to_self(sig, info);
}

static void fault_handler(int sig, siginfo_t *info, void *ctx)
{
	bool sync = info->si_code > 0 && !(sig == SIGBUS && info->si_code == BUS_MCEERR_AO);
	ucontext_t *uc = ctx;
	struct sig_run *r = current_run;
	struct ksigaction a;

	if (sync) {
		u64 rip = (u64)uc->uc_mcontext.gregs[REG_RIP], go_on = copy_fixup(rip);

		if (!go_on)
			go_on = cache_fixup(rip);
		if (go_on) {
			uc->uc_mcontext.gregs[REG_RIP] = (greg_t)go_on;
			return;
		}
		if (r && r->fault && r->fault(r, sig, info, uc))
			return;
		if (sig == SIGILL && load_relaxed(&answer_ill) && answer_ill(uc))
			return;
	} else if (r) {
		put_off(r, sig, info, ctx);
		return;
	}
	a = slot_read(&table.slot[sig]);
	if (is_function(a.handler))
		call_handler(sig, &a, info, ctx);
	else if (sync || a.handler == (void *)SIG_DFL)
		die_by(sig, info, sync);
}

/* ---- sigaction as the VMM sees it ---- */

int sig_prepare_mask(u64 kvm_mask)
{
	u64 mask;
	int r = 0;

	table_lock(&mask);
	for (int sig = 1; sig <= NSIG_KERNEL && table.installed; sig++) {
		struct slot *s = &table.slot[sig];

		if ((kvm_mask & sig_bit(sig)) || !is_manageable(sig) || is_fault_sig(sig) || s->wrapped)
			continue;
		s->wrapped = true;
		if (s->act.handler == (void *)SIG_DFL)
			r = slot_install(sig) ?: r;
	}
	table_unlock(&mask);
	return r;
}

static void to_user(struct sigaction *u, const struct ksigaction *k)
{
	memset(u, 0, sizeof(*u));
	u->sa_sigaction = (void (*)(int, siginfo_t *, void *))k->handler;
	u->sa_flags = (int)k->flags;
	u->sa_restorer = (void (*)(void))k->restorer;
	memcpy(&u->sa_mask, &k->mask, sizeof(k->mask));
}

/* Lock held. */
static int action_locked(int sig, const struct ksigaction *act, struct ksigaction *old)
{
	int r = real_action(sig, NULL, old);

	if (r < 0)
		return r;
	if (is_ours(old))
		*old = table.slot[sig].act;
	if (!act)
		return 0;
	if (!table.installed || !process_is(table.pid))
		return real_action(sig, act, NULL);
	return slot_set(sig, act);
}

int sig_vmm_action(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct ksigaction k = { 0 }, was;
	u64 mask;
	int r;

	if (sig < 1 || sig > NSIG_KERNEL || sig == SIG_CANCEL || sig == SIG_SETXID)
		return -EINVAL;
	if (!is_manageable(sig) && act)
		return -EINVAL;
	if (act) {
		k.handler = (void *)act->sa_sigaction;
		k.flags = (unsigned)act->sa_flags | KSA_RESTORER;
		k.restorer = (void *)usekvm_sigreturn;
		memcpy(&k.mask, &act->sa_mask, sizeof(k.mask));
	}
	table_lock(&mask);
	r = action_locked(sig, act ? &k : NULL, &was);
	table_unlock(&mask);
	if (!r && old)
		to_user(old, &was);
	return r;
}
