/* SPDX-License-Identifier: MIT */
/*
 * syscall(2), for programs that bypass the wrappers. It is assembly so that a call we do not care for is exactly the C library's:
 * nothing is left on the stack, and a child that shares it (clone, vfork) returns safely. The calls of `wanted` go on in
 * syscall_hook, which has the same arguments at the same places.
 */
#include "preload/preload.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

#define NUMBERS 512
const u8 syscall_wanted[NUMBERS] hidden = {
	[SYS_ioctl] = 1, [SYS_mmap] = 1, [SYS_open] = 1, [SYS_openat] = 1, [SYS_openat2] = 1, [SYS_close] = 1, [SYS_close_range] = 1,
	[SYS_dup] = 1, [SYS_read] = 1, [SYS_pread64] = 1, [SYS_dup2] = 1, [SYS_dup3] = 1, [SYS_fcntl] = 1, [SYS_rt_sigaction] = 1, [SYS_rt_sigprocmask] = 1,
	[SYS_access] = 1, [SYS_faccessat] = 1, [SYS_faccessat2] = 1, [SYS_stat] = 1, [SYS_lstat] = 1, [SYS_newfstatat] = 1, [SYS_statx] = 1,
	[SYS_munmap] = 1, [SYS_mremap] = 1, [SYS_mprotect] = 1, [SYS_madvise] = 1,
};

long syscall_error(long r) hidden;
long syscall_hook(long n, long a, long b, long c, long d, long e, long f) hidden;

__asm__(".pushsection .text\n"
	".p2align 4\n"
	".globl syscall\n.type syscall, @function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	cmp $512, %rdi\n"
	"	jae 1f\n"
	"	lea syscall_wanted(%rip), %rax\n"
	"	cmpb $0, (%rax,%rdi)\n"
	"	jne syscall_hook\n"
	"1:	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"	cmp $-4095, %rax\n"
	"	jae 2f\n"
	"	ret\n"
	"2:	mov %rax, %rdi\n"
	"	jmp syscall_error\n"
	"	.cfi_endproc\n"
	".size syscall, . - syscall\n"
	".popsection\n");

long syscall_error(long r)
{
	return to_errno(r);
}

static long hook_openat2(int dirfd, const char *path, const struct open_how *how, size_t size)
{
	if (how && size >= sizeof(*how) && !how->resolve && names_kvm(dirfd, path))
		return hook_openat(dirfd, path, (int)how->flags, (unsigned)how->mode);
	return sys6(SYS_openat2, dirfd, (long)path, (long)how, (long)size, 0, 0);
}

static long dispatch_path(long n, long a, long b, long c, long d, long e)
{
	switch (n) {
	case SYS_open: return hook_openat(AT_FDCWD, (const char *)a, (int)b, (unsigned)c);
	case SYS_openat: return hook_openat((int)a, (const char *)b, (int)c, (unsigned)d);
	case SYS_openat2: return hook_openat2((int)a, (const char *)b, (const struct open_how *)c, (size_t)d);
	case SYS_access: return hook_access(AT_FDCWD, (const char *)a, (int)b, 0);
	case SYS_faccessat: return hook_access((int)a, (const char *)b, (int)c, 0);
	case SYS_faccessat2: return hook_access((int)a, (const char *)b, (int)c, (int)d);
	case SYS_stat: return hook_fstatat(AT_FDCWD, (const char *)a, (struct stat *)b, 0);
	case SYS_lstat: return hook_fstatat(AT_FDCWD, (const char *)a, (struct stat *)b, AT_SYMLINK_NOFOLLOW);
	case SYS_newfstatat: return hook_fstatat((int)a, (const char *)b, (struct stat *)c, (int)d);
	case SYS_statx: return hook_statx((int)a, (const char *)b, (int)c, (unsigned)d, (void *)e);
	default: return -ENOSYS;
	}
}

long syscall_hook(long n, long a, long b, long c, long d, long e, long f)
{
	switch (n) {
	case SYS_ioctl: return to_errno(hook_ioctl((int)a, (unsigned long)b, (unsigned long)c));
	case SYS_mmap: return to_errno(hook_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f));
	case SYS_munmap: return to_errno(hook_munmap((void *)a, (size_t)b));
	case SYS_mremap: return to_errno(hook_mremap((void *)a, (size_t)b, (size_t)c, (int)d, (void *)e));
	case SYS_mprotect: return to_errno(hook_mprotect((void *)a, (size_t)b, (int)c));
	case SYS_madvise: return to_errno(hook_madvise((void *)a, (size_t)b, (int)c));
	case SYS_close: return to_errno(hook_close((int)a));
	case SYS_close_range: return to_errno(hook_close_range((unsigned)a, (unsigned)b, (int)c));
	case SYS_read:
	case SYS_pread64: return to_errno(hook_read(n, (int)a, (void *)b, (size_t)c, d));
	case SYS_dup: return to_errno(hook_dup((int)a));
	case SYS_dup2: return to_errno(hook_dup3((int)a, (int)b, 0, true));
	case SYS_dup3: return to_errno(hook_dup3((int)a, (int)b, (int)c, false));
	case SYS_fcntl: return to_errno(hook_fcntl((int)a, (int)b, (unsigned long)c));
	case SYS_rt_sigaction: return to_errno(hook_rt_sigaction((int)a, (const void *)b, (void *)c, (size_t)d));
	case SYS_rt_sigprocmask: return to_errno(hook_rt_sigprocmask((int)a, (const void *)b, (void *)c, (size_t)d));
	default: return to_errno(dispatch_path(n, a, b, c, d, e));
	}
}
