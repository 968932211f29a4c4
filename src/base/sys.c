/* SPDX-License-Identifier: MIT */
/*
 * Raw system calls, and copies that survive bad pointers.
 *
 * The fault-safe copy is one stretch of assembly without stack use: a fault anywhere between copy_begin and copy_fault continues at
 * copy_fault, which returns -EFAULT. It counts on sig.c's handler and on SIGSEGV and SIGBUS not being blocked on this thread;
 * sig_thread_ready() sees to that once a thread. Before sig_install() the kernel copies for us.
 */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/inject.h"
#include "base/sig.h"

ssize_t sys_read(int fd, void *buf, size_t n)
{
	return sys3(SYS_read, fd, buf, n);
}

ssize_t sys_write(int fd, const void *buf, size_t n)
{
	return sys3(SYS_write, fd, buf, n);
}

ssize_t sys_pread(int fd, void *buf, size_t n, off_t off)
{
	return sys6(SYS_pread64, fd, (long)buf, (long)n, off, 0, 0);
}

int sys_open(const char *path, int flags, int mode)
{
	if (inject_fault(EMFILE))
		return -EMFILE;
	return (int)sys6(SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0);
}

int sys_close(int fd)
{
	return (int)sys3(SYS_close, fd, 0, 0);
}

int sys_fstat_id(int fd, u64 *dev, u64 *ino)
{
	struct stat st;
	int r = (int)sys3(SYS_fstat, fd, &st, 0);

	if (r < 0)
		return r;
	*dev = st.st_dev;
	*ino = st.st_ino;
	return 0;
}

int sys_memfd(const char *name, unsigned flags)
{
	if (inject_fault(EMFILE))
		return -EMFILE;
	return (int)sys3(SYS_memfd_create, name, flags, 0);
}

int sys_ftruncate(int fd, u64 size)
{
	if (inject_fault(ENOMEM))
		return -ENOMEM;
	return (int)sys3(SYS_ftruncate, fd, size, 0);
}

int sys_ioctl(int fd, unsigned long req, void *arg)
{
	return (int)sys3(SYS_ioctl, fd, req, arg);
}

int sys_dup_cloexec(int fd)
{
	if (inject_fault(EMFILE))
		return -EMFILE;
	return (int)sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
}

void *sys_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	if (inject_fault(ENOMEM))
		return (void *)-ENOMEM;
	void *p = (void *)sys6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, off);
	if (!sys_is_err(p))
		live_add(LIVE_MAPPING, 1);
	return p;
}

void *sys_mmap_again(void *shared, size_t len)
{
	if (inject_fault(ENOMEM))
		return (void *)-ENOMEM;
	void *p = (void *)sys6(SYS_mremap, (long)shared, 0, (long)len, 1 /* MREMAP_MAYMOVE */, 0, 0);
	if (!sys_is_err(p))
		live_add(LIVE_MAPPING, 1);
	return p;
}

int sys_munmap(void *addr, size_t len)
{
	live_add(LIVE_MAPPING, -1);
	return (int)sys3(SYS_munmap, addr, len, 0);
}

int sys_mprotect(void *addr, size_t len, int prot)
{
	return (int)sys3(SYS_mprotect, addr, len, prot);
}

int sys_madvise(void *addr, size_t len, int advice)
{
	return (int)sys3(SYS_madvise, addr, len, advice);
}

int sys_gettid(void)
{
	return (int)sys3(SYS_gettid, 0, 0, 0);
}

int sys_getpid(void)
{
	return (int)sys3(SYS_getpid, 0, 0, 0);
}

int sys_tgkill(int pid, int tid, int sig)
{
	return (int)sys3(SYS_tgkill, pid, tid, sig);
}

int sys_sigprocmask(int how, const u64 *set, u64 *old)
{
	return (int)sys6(SYS_rt_sigprocmask, how, (long)set, (long)old, sizeof(u64), 0, 0);
}

u64 sys_clock_ns(int clock)
{
	struct timespec ts;

	/* The C library's version goes through the vDSO (no system call) and touches no vector register on its way. */
	if (clock_gettime(clock, &ts))
		sys3(SYS_clock_gettime, clock, &ts, 0);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

void sys_yield(void)
{
	sys3(SYS_sched_yield, 0, 0, 0);
}

/* int copy_raw(void *dst, const void *src, size_t n) */
extern int copy_raw(void *dst, const void *src, size_t n) hidden;
extern const char copy_begin[] hidden, copy_fault[] hidden;
__asm__(".pushsection .text\n"
	".p2align 4\n"
	".hidden copy_raw\n.hidden copy_begin\n.hidden copy_fault\n"
	".globl copy_raw\n.globl copy_begin\n.globl copy_fault\n"
	".type copy_raw, @function\n"
	"copy_raw:\n"
	"	.cfi_startproc\n"
	"copy_begin:\n"
	"	cmp $8, %rdx\n"
	"	jne 1f\n"
	"	mov (%rsi), %rcx\n"
	"	mov %rcx, (%rdi)\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	"1:	mov %rdx, %rcx\n"
	"	cmp $4, %rdx\n"
	"	jne 2f\n"
	"	mov (%rsi), %ecx\n"
	"	mov %ecx, (%rdi)\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	"2:	rep movsb\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	"copy_fault:\n"
	"	mov $-14, %eax\n" /* -EFAULT */
	"	ret\n"
	"	.cfi_endproc\n"
	".size copy_raw, . - copy_raw\n"
	".popsection\n");

u64 copy_fixup(u64 rip)
{
	return rip >= (u64)copy_begin && rip < (u64)copy_fault ? (u64)copy_fault : 0;
}

static int copy_by_kernel(bool read, void *dst, const void *src, size_t n)
{
	struct iovec local = { read ? dst : (void *)(uintptr_t)src, n };
	struct iovec remote = { read ? (void *)(uintptr_t)src : dst, n };
	long r = sys6(read ? SYS_process_vm_readv : SYS_process_vm_writev, sys_getpid(), (long)&local, 1, (long)&remote, 1, 0);

	return r == (long)n ? 0 : -EFAULT;
}

int copy_from_user(void *dst, const void *src, size_t n)
{
	if (unlikely(!sig_thread_ready()))
		return n ? copy_by_kernel(true, dst, src, n) : 0;
	return copy_raw(dst, src, n);
}

int copy_to_user(void *dst, const void *src, size_t n)
{
	if (unlikely(!sig_thread_ready()))
		return n ? copy_by_kernel(false, dst, src, n) : 0;
	return copy_raw(dst, src, n);
}
