/* SPDX-License-Identifier: MIT */
/*
 * Calls that take a path: /dev/kvm exists for the program, a character device 10:232 that everybody may read and write, whether or not
 * the host has one. The parameters of KVM's modules are those of modules.c. All other paths go to the kernel untouched.
 *
 * Only a path whose last component is "kvm" costs more than a few compares. It is made absolute and simplified by its letters; a
 * symbolic link to /dev/kvm is not followed.
 */
#include "preload/preload.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/string.h"
#include "vfile/vfile.h"

#define PATH_ROOM 4096
#define KVM_MAJOR 10
#define KVM_MINOR 232
#define KVM_INO 0x6b766d

/* Simplify an absolute path in place: no empty, "." or ".." components. */
static void simplify(char *p)
{
	char *out = p, *s = p;

	while (*s) {
		char *end;
		size_t n;

		while (*s == '/')
			s++;
		for (end = s; *end && *end != '/'; end++)
			;
		n = (size_t)(end - s);
		if (n == 2 && s[0] == '.' && s[1] == '.') {
			while (out > p && *--out != '/')
				;
		} else if (n && !(n == 1 && s[0] == '.')) {
			*out++ = '/';
			memmove(out, s, n);
			out += n;
		}
		s = end;
	}
	*out = 0;
}

static long directory_of(int dirfd, char *buf, size_t room)
{
	char link[32];
	long n;

	if (dirfd == AT_FDCWD) {
		n = sys3(SYS_getcwd, buf, room, 0);
		return n > 0 ? n - 1 : n;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = sys3(SYS_readlink, link, buf, room - 1);
	if (n >= 0)
		buf[n] = 0;
	return n;
}

static noinline bool names_kvm_slow(int dirfd, const char *path, size_t len)
{
	char full[2 * PATH_ROOM];
	long n = 0;

	if (len >= PATH_ROOM)
		return false;
	if (path[0] != '/') {
		n = directory_of(dirfd, full, PATH_ROOM - 1);
		if (n < 0)
			return false;
		full[n++] = '/';
	}
	memcpy(full + n, path, len + 1);
	simplify(full);
	return !strcmp(full, "/dev/kvm");
}

bool names_kvm(int dirfd, const char *path)
{
	size_t len;

	if (!path)
		return false;
	len = strlen(path);
	if (len < 3 || memcmp(path + len - 3, "kvm", 3) || (len > 3 && path[len - 4] != '/'))
		return false;
	return !strcmp(path, "/dev/kvm") || names_kvm_slow(dirfd, path, len);
}

/* ---- open ---- */

long hook_openat(int dirfd, const char *path, int flags, unsigned mode)
{
	if (likely(!names_kvm(dirfd, path))) {
		const char *value = module_parameter(path);

		return value ? module_parameter_open(value, flags) : sys6(SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
	}
	if (flags & O_DIRECTORY)
		return -ENOTDIR;
	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	return open_kvm(flags);
}

#define MODE_OF(flags, last)                                                                                                               \
	({                                                                                                                                 \
		unsigned m_ = 0;                                                                                                           \
		if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) {                                                           \
			va_list ap_;                                                                                                       \
			va_start(ap_, last);                                                                                               \
			m_ = va_arg(ap_, unsigned);                                                                                        \
			va_end(ap_);                                                                                                       \
		}                                                                                                                          \
		m_;                                                                                                                        \
	})

EXPORT int open(const char *path, int flags, ...)
{
	return (int)to_errno(hook_openat(AT_FDCWD, path, flags, MODE_OF(flags, flags)));
}
EXPORT int open64(const char *path, int flags, ...)
{
	return (int)to_errno(hook_openat(AT_FDCWD, path, flags, MODE_OF(flags, flags)));
}
EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
	return (int)to_errno(hook_openat(dirfd, path, flags, MODE_OF(flags, flags)));
}
EXPORT int openat64(int dirfd, const char *path, int flags, ...)
{
	return (int)to_errno(hook_openat(dirfd, path, flags, MODE_OF(flags, flags)));
}
/* What the C library's headers make of open under _FORTIFY_SOURCE; a mode is never needed there. */
EXPORT int __open_2(const char *path, int flags)
{
	return (int)to_errno(hook_openat(AT_FDCWD, path, flags, 0));
}
EXPORT int __open64_2(const char *path, int flags)
{
	return (int)to_errno(hook_openat(AT_FDCWD, path, flags, 0));
}
EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
	return (int)to_errno(hook_openat(dirfd, path, flags, 0));
}
EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
	return (int)to_errno(hook_openat(dirfd, path, flags, 0));
}

/* ---- access ---- */

long hook_access(int dirfd, const char *path, int mode, int flags)
{
	if (likely(!names_kvm(dirfd, path))) {
		const char *value = module_parameter(path);
		long r;

		if (value)
			return module_parameter_access(value, mode);
		if (!flags)
			return sys3(SYS_faccessat, dirfd, path, mode);
		r = sys6(SYS_faccessat2, dirfd, (long)path, mode, flags, 0, 0);
		/* Before Linux 5.8: nearly always the two pairs of ids are equal. */
		if (r == -ENOSYS && !(flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW)))
			r = sys3(SYS_faccessat, dirfd, path, mode);
		return r;
	}
	if (mode & ~(R_OK | W_OK | X_OK))
		return -EINVAL;
	return mode & X_OK ? -EACCES : 0;
}

EXPORT int access(const char *path, int mode)
{
	return (int)to_errno(hook_access(AT_FDCWD, path, mode, 0));
}
EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	return (int)to_errno(hook_access(dirfd, path, mode, flags));
}
EXPORT int euidaccess(const char *path, int mode)
{
	return (int)to_errno(hook_access(AT_FDCWD, path, mode, AT_EACCESS));
}
EXPORT int eaccess(const char *path, int mode)
{
	return euidaccess(path, mode);
}

/* ---- stat ---- */

/* What usekvm answers for: /dev/kvm, or a parameter of KVM's modules. */
enum named { NAMED_NOT, NAMED_KVM, NAMED_PARAMETER, NAMED_NOTHING };

static void fill_stat(struct stat *st, enum named what)
{
	struct stat dev;

	memset(&dev, 0, sizeof(dev));
	sys6(SYS_newfstatat, AT_FDCWD, (long)(what == NAMED_KVM ? "/dev" : "/sys"), (long)&dev, 0, 0, 0);
	dev.st_ino = KVM_INO;
	dev.st_mode = what == NAMED_KVM ? S_IFCHR | 0666 : S_IFREG | 0444;
	dev.st_nlink = 1;
	dev.st_uid = 0;
	dev.st_gid = 0;
	dev.st_rdev = what == NAMED_KVM ? makedev(KVM_MAJOR, KVM_MINOR) : 0;
	dev.st_size = what == NAMED_KVM ? 0 : 4096;
	dev.st_blocks = 0;
	memcpy(st, &dev, sizeof(dev));
}

static bool is_system_fd(int fd)
{
	struct vfile *vf;
	bool yes;

	if (likely(!vfile_is_ours(fd)))
		return false;
	vf = vfile_get_fast(fd);
	if (!vf)
		return false;
	yes = vf->ops->kind == VFILE_SYSTEM;
	vfile_put(vf);
	return yes;
}

static enum named named(int dirfd, const char *path, int flags)
{
	const char *value;

	if (path && !path[0] && (flags & AT_EMPTY_PATH))
		return is_system_fd(dirfd) ? NAMED_KVM : NAMED_NOT;
	if (unlikely(names_kvm(dirfd, path)))
		return NAMED_KVM;
	value = module_parameter(path);
	return likely(!value) ? NAMED_NOT : *value ? NAMED_PARAMETER : NAMED_NOTHING;
}

long hook_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	enum named what = named(dirfd, path, flags);

	if (likely(what == NAMED_NOT))
		return sys6(SYS_newfstatat, dirfd, (long)path, (long)st, flags, 0, 0);
	if (what == NAMED_NOTHING)
		return -ENOENT;
	fill_stat(st, what);
	return 0;
}

static long hook_fstat(int fd, struct stat *st)
{
	if (likely(!is_system_fd(fd)))
		return sys3(SYS_fstat, fd, st, 0);
	fill_stat(st, NAMED_KVM);
	return 0;
}

static struct statx_timestamp stamp(struct timespec t)
{
	return (struct statx_timestamp){ .tv_sec = t.tv_sec, .tv_nsec = (u32)t.tv_nsec };
}

long hook_statx(int dirfd, const char *path, int flags, unsigned mask, void *buf)
{
	struct statx *x = buf;
	enum named what = named(dirfd, path, flags);
	struct stat st;

	if (likely(what == NAMED_NOT))
		return sys6(SYS_statx, dirfd, (long)path, flags, mask, (long)buf, 0);
	if (what == NAMED_NOTHING)
		return -ENOENT;
	fill_stat(&st, what);
	memset(x, 0, sizeof(*x));
	x->stx_mask = STATX_BASIC_STATS;
	x->stx_blksize = (u32)st.st_blksize;
	x->stx_nlink = 1;
	x->stx_mode = (u16)st.st_mode;
	x->stx_ino = st.st_ino;
	x->stx_size = (u64)st.st_size;
	x->stx_rdev_major = major(st.st_rdev);
	x->stx_rdev_minor = minor(st.st_rdev);
	x->stx_dev_major = major(st.st_dev);
	x->stx_dev_minor = minor(st.st_dev);
	x->stx_atime = stamp(st.st_atim);
	x->stx_mtime = stamp(st.st_mtim);
	x->stx_ctime = stamp(st.st_ctim);
	return 0;
}

#define STAT_FAMILY(suffix, type)                                                                                                          \
	EXPORT int stat##suffix(const char *path, struct type *st)                                                                         \
	{                                                                                                                                  \
		return (int)to_errno(hook_fstatat(AT_FDCWD, path, (struct stat *)st, 0));                                                  \
	}                                                                                                                                  \
	EXPORT int lstat##suffix(const char *path, struct type *st)                                                                        \
	{                                                                                                                                  \
		return (int)to_errno(hook_fstatat(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW));                                \
	}                                                                                                                                  \
	EXPORT int fstat##suffix(int fd, struct type *st)                                                                                  \
	{                                                                                                                                  \
		return (int)to_errno(hook_fstat(fd, (struct stat *)st));                                                                   \
	}                                                                                                                                  \
	EXPORT int fstatat##suffix(int fd, const char *path, struct type *st, int flags)                                                   \
	{                                                                                                                                  \
		return (int)to_errno(hook_fstatat(fd, path, (struct stat *)st, flags));                                                    \
	}                                                                                                                                  \
	EXPORT int __xstat##suffix(int ver, const char *path, struct type *st)                                                             \
	{                                                                                                                                  \
		return (int)to_errno(hook_fstatat(AT_FDCWD, path, (struct stat *)st, 0));                                                  \
	}                                                                                                                                  \
	EXPORT int __lxstat##suffix(int ver, const char *path, struct type *st)                                                            \
	{                                                                                                                                  \
		return (int)to_errno(hook_fstatat(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW));                                \
	}                                                                                                                                  \
	EXPORT int __fxstat##suffix(int ver, int fd, struct type *st)                                                                      \
	{                                                                                                                                  \
		return (int)to_errno(hook_fstat(fd, (struct stat *)st));                                                                   \
	}                                                                                                                                  \
	EXPORT int __fxstatat##suffix(int ver, int fd, const char *path, struct type *st, int flags)                                       \
	{                                                                                                                                  \
		return (int)to_errno(hook_fstatat(fd, path, (struct stat *)st, flags));                                                    \
	}

/* The two structures are one on x86-64. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
STAT_FAMILY(, stat)
STAT_FAMILY(64, stat64)

EXPORT int statx(int dirfd, const char *restrict path, int flags, unsigned mask, struct statx *restrict buf)
{
	return (int)to_errno(hook_statx(dirfd, path, flags, mask, buf));
}
