/* SPDX-License-Identifier: MIT */
/*
 * The launcher of a ThreadSanitizer build: COMMAND needs the sanitizer's runtime before the library, whose instrumented functions the
 * runtime's own start would call, and needs it to leave the fault signals to the library. Nothing in other builds.
 */
#include "cli/cli.h"

#ifdef __SANITIZE_THREAD__
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>

static int is_runtime(struct dl_phdr_info *info, size_t size, void *path)
{
	if (!strstr(info->dlpi_name, "/libtsan."))
		return 0;
	*(const char **)path = info->dlpi_name;
	return 1;
}

static int put_first(const char *name, const char *value)
{
	const char *old = getenv(name);
	char *all;
	int r;

	if (asprintf(&all, "%s%s%s", value, old && *old ? ":" : "", old ? old : "") < 0)
		return -1;
	r = setenv(name, all, 1);
	free(all);
	return r;
}

int sanitizer_prepare(void)
{
	const char *path = NULL;

	dl_iterate_phdr(is_runtime, &path);
	if (!path || put_first("LD_PRELOAD", path) ||
	    put_first("TSAN_OPTIONS", "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:use_sigaltstack=0"))
		return -1;
	return personality(ADDR_NO_RANDOMIZE) < 0 ? -1 : 0; /* its shadow has fixed places */
}
#else
int sanitizer_prepare(void)
{
	return 0;
}
#endif
