/* SPDX-License-Identifier: MIT */
/*
 * Calls on descriptors: ioctl goes to the library for ours and to the kernel for all others; calls that make or destroy descriptor
 * numbers tell vfile/.
 */
#include <linux/userfaultfd.h>
#include <linux/vfio.h> /* before our macro aligned() */

#include "preload/preload.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/api.h"
#include "base/vfiogroups.h"
#include "devices/device.h"
#include "usekvm/usekvm.h"
#include "vfile/vfile.h"

static long our_ioctl(int fd, unsigned long request, unsigned long arg)
{
	long r = vfile_is_stale(fd) ? -EIO : api_ioctl(fd, (u32)request, arg);

	/* Only a system descriptor knows the request. */
	if ((u32)request == (u32)KVM_CREATE_VM && r >= 0)
		r = plugins_vm_made((int)r);
	return r;
}

static bool inherit(int fd)
{
	int saved = errno;
	bool ok = api_inherit(fd);

	errno = saved;
	return ok;
}

/* Whoever fills memory when it is missed must see every access: in this process only. */
static void userfault_registers(unsigned long arg)
{
	struct uffdio_register reg;

	if (!copy_from_user(&reg, (const void *)arg, sizeof(reg)))
		memory_changes((const void *)(unsigned long)reg.range.start, reg.range.len);
}

long hook_ioctl(int fd, unsigned long request, unsigned long arg)
{
	long r;

	if (vfile_is_ours(fd)) {
		r = our_ioctl(fd, request, arg);
		/* The number was closed behind our back and is another file's now: that was found out on the way. */
		if (likely(r != -EBADF) || vfile_is_ours(fd))
			return r;
	}
	if (unlikely((u32)request == UFFDIO_REGISTER))
		userfault_registers(arg);
	r = sys3(SYS_ioctl, fd, request, arg);
	if (unlikely(_IOC_TYPE((u32)request) == VFIO_TYPE && r >= 0))
		vfio_ioctl_done(fd, (u32)request, arg, r);
	/* One of our files under a number we have not heard of: it came by SCM_RIGHTS, from /proc/self/fd, or over exec. */
	if (unlikely(r == -ENOTTY && _IOC_TYPE((u32)request) == KVMIO && (vfile_adopt(fd) || inherit(fd))))
		return our_ioctl(fd, request, arg);
	return r;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	return (int)to_errno(hook_ioctl(fd, request, arg));
}

EXPORT int usekvm_open(int flags)
{
	return (int)to_errno(open_kvm(flags));
}

EXPORT int usekvm_ioctl(int fd, unsigned long request, unsigned long arg)
{
	return (int)to_errno(vfile_is_ours(fd) || vfile_adopt(fd) || inherit(fd) ? our_ioctl(fd, request, arg) : -EBADF);
}

/* ---- mmap: a vCPU's mapping shows the ring of its VM ---- */

long hook_mmap(void *addr, size_t len, int prot, int flags, int fd, s64 offset)
{
	if (flags & MAP_FIXED)
		memory_changes(addr, len);
	long r = sys6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, offset);

	if (likely(fd < 0 || flags & MAP_ANONYMOUS || !vfile_is_ours(fd)) || (r < 0 && r >= -4095))
		return r;
	long e = vfile_is_stale(fd) ? 0 : api_mapped(fd, (void *)r, len, prot, flags, offset);
	if (!e)
		return r;
	sys3(SYS_munmap, r, len, 0);
	return e;
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)to_errno(hook_mmap(addr, len, prot, flags, fd, offset));
}
EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)to_errno(hook_mmap(addr, len, prot, flags, fd, offset));
}
EXPORT void *usekvm_mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t offset)
{
	return (void *)to_errno(hook_mmap(addr, len, prot, flags, fd, offset));
}

/* ---- numbers come and go ---- */

long hook_close(int fd)
{
	vfio_closing((unsigned)fd, (unsigned)fd);
	vfile_closing(fd);
	return sys3(SYS_close, fd, 0, 0);
}

EXPORT int close(int fd)
{
	return (int)to_errno(hook_close(fd));
}

static void forget(unsigned first, unsigned last)
{
	vfio_closing(first, last);
	vfile_closing_range(first, last);
}

long hook_close_range(unsigned first, unsigned last, int flags)
{
	if (first <= last && !(flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) && !(flags & CLOSE_RANGE_CLOEXEC))
		forget(first, last);
	return sys3(SYS_close_range, first, last, flags);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	return (int)to_errno(hook_close_range(first, last, flags));
}

EXPORT void closefrom(int lowfd)
{
	unsigned low = lowfd < 0 ? 0 : (unsigned)lowfd;

	if (hook_close_range(low, ~0u, 0) < 0) { /* before Linux 5.9 */
		long max = sysconf(_SC_OPEN_MAX);

		for (long fd = low; fd < max; fd++)
			hook_close((int)fd);
	}
}

long hook_dup(int fd)
{
	long r = sys3(SYS_dup, fd, 0, 0);

	if (r >= 0)
		vfile_duped(fd, (int)r);
	return r;
}

static long dup3_told(int oldfd, int newfd, int flags, bool dup2)
{
	long r;

	if (oldfd == newfd || (!vfile_is_ours(oldfd) && !vfile_is_ours(newfd)))
		return dup2 ? sys3(SYS_dup2, oldfd, newfd, 0) : sys3(SYS_dup3, oldfd, newfd, flags);
	/* Forget newfd's object only when the call is going to succeed. */
	r = sys3(SYS_fcntl, oldfd, F_GETFD, 0);
	if (r < 0)
		return r;
	if (!(flags & ~O_CLOEXEC))
		vfile_closing(newfd);
	r = sys3(SYS_dup3, oldfd, newfd, flags);
	if (r >= 0)
		vfile_duped(oldfd, newfd);
	return r;
}

long hook_dup3(int oldfd, int newfd, int flags, bool dup2)
{
	long r = dup3_told(oldfd, newfd, flags, dup2);

	if (r >= 0 && oldfd != newfd)
		vfio_closing((unsigned)newfd, (unsigned)newfd);
	return r;
}

EXPORT int dup(int fd)
{
	return (int)to_errno(hook_dup(fd));
}
EXPORT int dup2(int oldfd, int newfd)
{
	return (int)to_errno(hook_dup3(oldfd, newfd, 0, true));
}
EXPORT int dup3(int oldfd, int newfd, int flags)
{
	return (int)to_errno(hook_dup3(oldfd, newfd, flags, false));
}

long hook_fcntl(int fd, int cmd, unsigned long arg)
{
	long r = sys3(SYS_fcntl, fd, cmd, arg);

	if ((cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && r >= 0)
		vfile_duped(fd, (int)r);
	return r;
}

/* F_GETOWN may rightly answer a small negative number (a process group); the C library asks in another way, and so do we. */
static long fcntl_getown(int fd)
{
	struct f_owner_ex ex;
	long r = sys3(SYS_fcntl, fd, F_GETOWN_EX, &ex);

	if (r < 0)
		return to_errno(r);
	return ex.type == F_OWNER_PGRP ? -ex.pid : ex.pid;
}

#define FCNTL_BODY(last)                                                                                                                   \
	va_list ap;                                                                                                                        \
	unsigned long arg;                                                                                                                 \
	va_start(ap, last);                                                                                                                \
	arg = va_arg(ap, unsigned long);                                                                                                   \
	va_end(ap);                                                                                                                        \
	return (int)(cmd == F_GETOWN ? fcntl_getown(fd) : to_errno(hook_fcntl(fd, cmd, arg)))

EXPORT int fcntl(int fd, int cmd, ...)
{
	FCNTL_BODY(cmd);
}
EXPORT int fcntl64(int fd, int cmd, ...)
{
	FCNTL_BODY(cmd);
}
EXPORT int __fcntl(int fd, int cmd, ...)
{
	FCNTL_BODY(cmd);
}
