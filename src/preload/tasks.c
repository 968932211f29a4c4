/* SPDX-License-Identifier: MIT */
/*
 * readdir of /proc/PID/task: the library's own threads are left out, as those of the kernel's KVM are not the program's. Programs count their threads
 * there before they fork; crosvm does so for each device.
 */
#include "preload/preload.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/process.h"

static bool is_task_folder(int fd)
{
	char link[32], path[64];
	long n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = sys3(SYS_readlink, link, path, sizeof(path));
	return n > 11 && n < (long)sizeof(path) && !memcmp(path, "/proc/", 6) && !memcmp(path + n - 5, "/task", 5);
}

static u32 number(const char *s)
{
	u32 n = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		n = n * 10 + (u32)(*s - '0');
	return *s ? 0 : n;
}

static struct dirent *next_entry(DIR *d)
{
	static struct dirent *(*next)(DIR *);
	struct dirent *e;

	if (!load_relaxed(&next))
		store_relaxed(&next, (struct dirent * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir"));
	do
		e = next(d);
	while (e && process_is_helper(number(e->d_name)) && is_task_folder(dirfd(d)));
	return e;
}

EXPORT struct dirent *readdir(DIR *d)
{
	return next_entry(d);
}

_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64) && offsetof(struct dirent, d_name) == offsetof(struct dirent64, d_name), "one layout");
EXPORT struct dirent64 *readdir64(DIR *d)
{
	return (struct dirent64 *)next_entry(d);
}
