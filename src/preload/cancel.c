/* SPDX-License-Identifier: MIT */
/*
 * pthread_cancel: a thread may be cancelled inside KVM_RUN (asynchronous cancelability), where the C library's handler would unwind it out of
 * the engine. That handler is installed by the first pthread_cancel, unseen; base/sig.c takes it over like a program's own, so that it runs
 * when KVM_RUN has been left. The first call's target may be such a thread: a thread of ours that cannot be cancelled goes first.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <pthread.h>

#include "base/sig.h"
#include "base/sys.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int (*next)(pthread_t);

static void *stay(void *arg)
{
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	while (!load_acquire((u32 *)arg))
		sys_yield();
	return NULL;
}

static void first(void)
{
	u32 done = 0;
	pthread_t t;

	next = (int (*)(pthread_t))dlsym(RTLD_NEXT, "pthread_cancel");
	if (!next || pthread_create(&t, NULL, stay, &done))
		return;
	next(t);
	store_release(&done, 1);
	pthread_join(t, NULL);
	sig_adopt_cancel();
}

EXPORT int pthread_cancel(pthread_t t)
{
	pthread_once(&once, first);
	if (!next)
		return ENOSYS;
	return next(t);
}
