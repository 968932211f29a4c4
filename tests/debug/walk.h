/* SPDX-License-Identifier: MIT */
/*
 * Each allocation, mapping, descriptor and thread that a call takes fails once. For the 1st, 2nd, 3rd, ... step until none is left: the call
 * must fail with that step's error and leave the descriptors and all that is alive in the library as they were; made again at once, it must
 * succeed. Needs the debug build of the library (base/inject.h) and cannot pass without.
 */
#ifndef DEBUG_WALK_H
#define DEBUG_WALK_H

#include <dlfcn.h>

#include "kvmtest.h"

#define LIVE_KINDS 7 /* enum live_kind of base/inject.h */

struct walk {
	const char *name;
	void (*before)(void); /* what the call needs; NULL: nothing */
	int (*call)(void);    /* -1 and errno, or whatever it gives */
	void (*after)(void);  /* all of it undone, whether the call was made, failed, or succeeded; NULL: nothing */
	int steps;            /* that there are at least */
	int spare;            /* steps that the call can do without */
};

static int (*inject)(unsigned n);
static int (*live)(unsigned kind);

static void walk_init(void)
{
	inject = (int (*)(unsigned))dlsym(RTLD_DEFAULT, "usekvm_inject");
	live = (int (*)(unsigned))dlsym(RTLD_DEFAULT, "usekvm_live");
	if (!inject || !live)
		printf("no debug build of libusekvm.so is loaded: nothing would fail\n"), exit(1);
}

struct census {
	int fds, alive[LIVE_KINDS];
};

static struct census census(void)
{
	struct census c = {0};

	for (int i = 0; i < 1024; i++)
		c.fds += fcntl(i, F_GETFD) >= 0;
	for (unsigned i = 0; i < LIVE_KINDS; i++)
		c.alive[i] = live(i);
	return c;
}

static void same(const char *name, int n, const char *when, const struct census *want)
{
	static const char *const kind[LIVE_KINDS] = {"VM", "vCPU", "device", "statistics file", "VFIO file", "heap block", "mapping"};
	struct census got = census();

	if (got.fds != want->fds)
		printf("%s, step %d: %d descriptors %s, want %d\n", name, n, got.fds, when, want->fds), kt_failures++;
	for (unsigned i = 0; i < LIVE_KINDS; i++)
		if (got.alive[i] != want->alive[i])
			printf("%s, step %d: %d of kind %s %s, want %d\n", name, n, got.alive[i], kind[i], when, want->alive[i]), kt_failures++;
}

/* True: none of the call's steps failed, n is beyond the last. */
static bool walk_step(const struct walk *w, int n, int *spare)
{
	struct census empty = census(), ready;
	int r, err, failed;

	if (w->before)
		w->before();
	ready = census();
	inject((unsigned)n);
	errno = 0;
	r = w->call();
	err = errno;
	failed = inject(0);
	if (r < 0) {
		if (err != failed)
			printf("%s, step %d: fails with %d (%s), want %d (%s)\n", w->name, n, err, strerror(err), failed, strerror(failed)), kt_failures++;
		same(w->name, n, "after the failure", &ready);
		r = w->call();
		if (r < 0)
			printf("%s, step %d: fails again, with %d (%s)\n", w->name, n, errno, strerror(errno)), kt_failures++;
	} else if (failed) {
		(*spare)++;
	}
	if (w->after)
		w->after();
	same(w->name, n, "at the end", &empty);
	return !failed;
}

static void walk(const struct walk *w)
{
	int n = 1, spare = 0;

	/* What is made once in a process, or once for a number, is made now. */
	if (w->before)
		w->before();
	REQUIRE(w->call() >= 0);
	if (w->after)
		w->after();
	while (n < 200 && !walk_step(w, n, &spare))
		n++;
	printf("%s: %d steps\n", w->name, n - 1);
	CHECK(n < 200);
	CHECK(n - 1 >= w->steps);
	CHECK_EQ(spare, w->spare);
}

#endif
