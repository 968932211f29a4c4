/* SPDX-License-Identifier: MIT */
/*
 * Raw system calls: they return -errno, leave errno alone, and never meet our own interposers. Everything below preload/ that
 * needs the kernel goes through here.
 */
#ifndef USEKVM_BASE_SYS_H
#define USEKVM_BASE_SYS_H

#include <signal.h>
#include <sys/types.h>

#include "base/types.h"

static always_inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}
#define sys3(n, a, b, c) sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)

ssize_t sys_read(int fd, void *buf, size_t n) hidden;
ssize_t sys_write(int fd, const void *buf, size_t n) hidden;
ssize_t sys_pread(int fd, void *buf, size_t n, off_t off) hidden;
int sys_open(const char *path, int flags, int mode) hidden; /* openat(AT_FDCWD) */
int sys_close(int fd) hidden;
int sys_fstat_id(int fd, u64 *dev, u64 *ino) hidden; /* identity of the open file */
int sys_memfd(const char *name, unsigned flags) hidden;
int sys_ftruncate(int fd, u64 size) hidden;
int sys_ioctl(int fd, unsigned long req, void *arg) hidden;
int sys_dup_cloexec(int fd) hidden;
void *sys_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off) hidden; /* -errno as pointer: sys_is_err() */
void *sys_mmap_again(void *shared, size_t len) hidden; /* a second mapping of the same shared memory, elsewhere */
int sys_munmap(void *addr, size_t len) hidden;
int sys_mprotect(void *addr, size_t len, int prot) hidden;
int sys_madvise(void *addr, size_t len, int advice) hidden;
int sys_gettid(void) hidden;
int sys_getpid(void) hidden;
int sys_tgkill(int pid, int tid, int sig) hidden;
int sys_sigprocmask(int how, const u64 *set, u64 *old) hidden; /* 64-bit kernel masks */
u64 sys_clock_ns(int clock) hidden;                           /* clock_gettime */
void sys_yield(void) hidden;
static inline bool sys_is_err(const void *p)
{
	return (unsigned long)p >= -4095ul;
}

/* Copies from and to memory that may not be there (user pointers, guest RAM): 0 or -EFAULT. Implemented with a fault-safe copy that the
 * SIGSEGV/SIGBUS handler knows (fixup table), or process_vm_readv on our own pid where handlers are not installed. */
int copy_from_user(void *dst, const void *src, size_t n) hidden;
int copy_to_user(void *dst, const void *src, size_t n) hidden;
/* Called by the fault handler: if rip stands in a fault-safe copy, returns where to continue, else 0. */
u64 copy_fixup(u64 rip) hidden;

#endif
