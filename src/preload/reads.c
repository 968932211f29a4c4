/* SPDX-License-Identifier: MIT */
/*
 * read and pread: the numbers in a statistics file (KVM_GET_STATS_FD) are brought up to date first. For any other descriptor that is one look into
 * the descriptor table. Unlike the other interposers these go on to the C library, by its second names for them: a read can be
 * where a thread is cancelled. readv, preadv and stdio are not seen: they give the numbers of the last read.
 */
#include "preload/preload.h"

#include <sys/syscall.h>
#include <sys/types.h>

#include "devices/device.h"
#include "vfile/vfile.h"

extern ssize_t __read(int fd, void *buf, size_t len);
extern ssize_t __pread64(int fd, void *buf, size_t len, off_t at);

static always_inline void before_read(int fd)
{
	if (unlikely(vfile_is_ours(fd)))
		stats_fd_refresh(fd);
}

/* By syscall(2). */
long hook_read(long n, int fd, void *buf, size_t len, off_t at)
{
	before_read(fd);
	return sys6(n, fd, (long)buf, (long)len, at, 0, 0);
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	before_read(fd);
	return __read(fd, buf, len);
}
EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t at)
{
	before_read(fd);
	return __pread64(fd, buf, len, at);
}
EXPORT ssize_t pread64(int fd, void *buf, size_t len, off_t at)
{
	before_read(fd);
	return __pread64(fd, buf, len, at);
}

/* What _FORTIFY_SOURCE makes of them. */
extern void __chk_fail(void) __attribute__((noreturn));

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t room)
{
	if (len > room)
		__chk_fail();
	return read(fd, buf, len);
}
EXPORT ssize_t __pread_chk(int fd, void *buf, size_t len, off_t at, size_t room)
{
	if (len > room)
		__chk_fail();
	return pread(fd, buf, len, at);
}
EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off_t at, size_t room)
{
	if (len > room)
		__chk_fail();
	return pread(fd, buf, len, at);
}
