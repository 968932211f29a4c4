/* SPDX-License-Identifier: MIT */
/*
 * What the interposers share. Every function that is named like one of the C library's has default visibility and goes to the kernel
 * by raw system calls, never through the C library's own version. Inner functions (hook_*) return -errno; only the outermost
 * turns that into -1 and errno. errno is not touched on success.
 */
#ifndef USEKVM_PRELOAD_PRELOAD_H
#define USEKVM_PRELOAD_PRELOAD_H

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "base/types.h"

#define EXPORT __attribute__((visibility("default")))

static inline long to_errno(long r)
{
	if (r < 0 && r >= -4095) {
		errno = (int)-r;
		return -1;
	}
	return r;
}

/* paths.c: does (dirfd, path) name /dev/kvm? */
/* The value of a parameter of a KVM module, "" if the module has no such one, NULL if the path means something else. */
const char *module_parameter_slow(const char *path) hidden;
static inline const char *module_parameter(const char *path)
{
	return path && unlikely(!strncmp(path, "/sys/module/kvm", 15)) ? module_parameter_slow(path) : NULL;
}
long module_parameter_open(const char *value, int flags) hidden;
long module_parameter_access(const char *value, int mode) hidden;
bool names_kvm(int dirfd, const char *path) hidden;
long hook_openat(int dirfd, const char *path, int flags, unsigned mode) hidden;
long hook_access(int dirfd, const char *path, int mode, int flags) hidden;
long hook_fstatat(int dirfd, const char *path, struct stat *st, int flags) hidden;
long hook_statx(int dirfd, const char *path, int flags, unsigned mask, void *stx) hidden;

/* fds.c */
long hook_ioctl(int fd, unsigned long request, unsigned long arg) hidden;
long hook_mmap(void *addr, size_t len, int prot, int flags, int fd, s64 offset) hidden;
long hook_close(int fd) hidden;
long hook_close_range(unsigned first, unsigned last, int flags) hidden;
long hook_dup(int fd) hidden;
long hook_dup3(int oldfd, int newfd, int flags, bool dup2) hidden;
/* reads.c: system call n, read or pread64 */
long hook_read(long n, int fd, void *buf, size_t len, off_t at) hidden;
long hook_fcntl(int fd, int cmd, unsigned long arg) hidden;

/* memory.c */
void memory_changes(const void *addr, size_t len) hidden;
long hook_munmap(void *addr, size_t len) hidden;
long hook_mremap(void *old, size_t old_len, size_t new_len, int flags, void *new) hidden;
long hook_mprotect(void *addr, size_t len, int prot) hidden;
long hook_madvise(void *addr, size_t len, int advice) hidden;

/* signals.c */
long hook_rt_sigaction(int sig, const void *act, void *old, size_t size) hidden;
long hook_rt_sigprocmask(int how, const void *set, void *old, size_t size) hidden;

/* plugin.c: a VM was made. Its fd, or -errno when it is closed again because a plug-in cannot be loaded. */
long plugins_vm_made(int fd) hidden;

/* cpuid.c: before the program starts. */
void cpuid_start(void) hidden;

/* init.c */
long open_kvm(int flags) hidden;

#endif
