/* SPDX-License-Identifier: MIT */
/*
 * The heap as libusekvm.so calls it (the linker's --wrap, see meson.build), with base/inject.h's failures and counts; and, in debug builds, what
 * a test program finds with dlsym() to make use of them (tests/debug/walk.h). Programs that link libusekvm.a have the C library's heap itself.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/inject.h"
#include "preload/preload.h"

extern void *__real_malloc(size_t n);
extern void *__real_calloc(size_t n, size_t size);
extern void *__real_realloc(void *p, size_t n);
extern void *__real_aligned_alloc(size_t align, size_t n);
extern char *__real_strdup(const char *s);
extern void __real_free(void *p);

static bool fails(void)
{
	if (likely(!inject_fault(ENOMEM)))
		return false;
	errno = ENOMEM;
	return true;
}

static void *counted(void *p)
{
	if (p)
		live_add(LIVE_HEAP, 1);
	return p;
}

hidden void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : counted(__real_malloc(n));
}

hidden void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : counted(__real_calloc(n, size));
}

hidden void *__wrap_realloc(void *p, size_t n)
{
	if (fails())
		return NULL;
	return p ? __real_realloc(p, n) : counted(__real_realloc(NULL, n));
}

hidden void *__wrap_aligned_alloc(size_t align, size_t n)
{
	return fails() ? NULL : counted(__real_aligned_alloc(align, n));
}

hidden char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : counted(__real_strdup(s));
}

hidden void __wrap_free(void *p)
{
	if (p)
		live_add(LIVE_HEAP, -1);
	__real_free(p);
}

#ifdef USEKVM_DEBUG
EXPORT int usekvm_inject(unsigned n)
{
	return inject_arm(n);
}

EXPORT int usekvm_live(unsigned kind)
{
	return kind < LIVE_KINDS ? live_count(kind) : -1;
}
#endif
