/* SPDX-License-Identifier: MIT */
/* A signal inside a run is put off until its end; masks, faults, and what sigaction tells the VMM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sig.h"
#include "base/sys.h"

static volatile int handled, kicked, value, faulted;
static volatile bool in_run;
static char *page;
static char *volatile nowhere = (char *)8;

static void handler(int sig, siginfo_t *info, void *ctx)
{
	handled++;
	in_run = sig_in_run();
	value = info->si_value.sival_int;
}

static void kick(struct sig_run *r)
{
	kicked++;
}

static bool fault(struct sig_run *r, int sig, siginfo_t *info, ucontext_t *uc)
{
	faulted++;
	return sig == SIGSEGV && !mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static struct sig_run run = { .kick = kick, .fault = fault };

static void use(int sig, int flags)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	assert_int_equal(sig_vmm_action(sig, &sa, NULL), 0);
	handled = kicked = faulted = 0;
}

static void test_put_off(void **state)
{
	union sigval v = { .sival_int = 42 };
	sigset_t before, after;

	assert_int_equal(sig_install(), 0);
	for (int flags = 0; flags < 2; flags++) {
		use(SIGUSR1, flags ? SA_NODEFER | SA_RESTART : 0);
		pthread_sigmask(SIG_SETMASK, NULL, &before);
		sig_enter(&run, NULL);
		sigqueue(getpid(), SIGUSR1, v);
		assert_int_equal(handled, 0);
		assert_int_equal(kicked, 1);
		sig_leave(&run);
		assert_int_equal(handled, 1);
		assert_int_equal(value, 42);
		assert_false(in_run);
		pthread_sigmask(SIG_SETMASK, NULL, &after);
		assert_memory_equal(&before, &after, 8);
	}
	raise(SIGUSR1);
	assert_int_equal(handled, 2);
}

static void test_kvm_mask(void **state)
{
	u64 mask = ~(1ull << (SIGUSR2 - 1));
	sigset_t set, pending;
	struct timespec now = { 0, 0 };

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	assert_int_equal(sig_prepare_mask(mask), 0);
	handled = kicked = 0;
	raise(SIGUSR2);
	sig_enter(&run, &mask); /* default action would be death */
	assert_int_equal(kicked, 1);
	sig_leave(&run);
	sigpending(&pending);
	assert_true(sigismember(&pending, SIGUSR2));
	assert_int_equal(sigtimedwait(&set, NULL, &now), SIGUSR2);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void test_default_still_kills(void **state)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		sig_forked();
		raise(SIGUSR2);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGUSR2);
	pid = fork();
	if (!pid) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		sig_forked();
		sig_vmm_action(SIGSEGV, &dfl, NULL);
		*nowhere = 1;
		_exit(1);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void test_fault(void **state)
{
	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	use(SIGSEGV, 0);
	sig_enter(&run, NULL);
	*(volatile char *)page = 1;
	assert_int_equal(faulted, 1);
	assert_int_equal(handled, 0);
	kill(getpid(), SIGSEGV); /* not a fault: put off */
	assert_int_equal(handled, 0);
	assert_int_equal(kicked, 1);
	sig_leave(&run);
	assert_int_equal(handled, 1);
	munmap(page, 4096);
}

static void test_view(void **state)
{
	struct sigaction old, dfl = { .sa_handler = SIG_DFL };

	use(SIGUSR1, SA_ONSTACK | SA_RESETHAND | SA_NODEFER);
	assert_int_equal(sig_vmm_action(SIGUSR1, NULL, &old), 0);
	assert_ptr_equal(old.sa_sigaction, handler);
	assert_int_equal(old.sa_flags & ~0x04000000, (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND | SA_NODEFER));
	raise(SIGUSR1);
	assert_int_equal(handled, 1);
	assert_int_equal(sig_vmm_action(SIGUSR1, NULL, &old), 0);
	assert_ptr_equal(old.sa_handler, SIG_DFL);
	use(SIGSEGV, 0); /* cmocka has taken it for the test, past us */
	assert_int_equal(sig_vmm_action(SIGSEGV, &dfl, &old), 0);
	assert_ptr_equal(old.sa_sigaction, handler);
	assert_int_equal(sig_vmm_action(SIGKILL, &dfl, NULL), -EINVAL);
	assert_int_equal(sig_vmm_action(0, NULL, NULL), -EINVAL);
	assert_int_equal(sig_vmm_action(65, NULL, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_off),
		cmocka_unit_test(test_kvm_mask),
		cmocka_unit_test(test_default_still_kills),
		cmocka_unit_test(test_fault),
		cmocka_unit_test(test_view),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
