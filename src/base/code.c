/* SPDX-License-Identifier: MIT */
#include "base/code.h"

#include <sys/mman.h>

#include "base/sys.h"

static int map_shared(u8 **p, size_t size, int prot, int flags, int fd)
{
	*p = sys_mmap(NULL, size, prot, MAP_SHARED | flags, fd, 0);
	return sys_is_err(*p) ? (int)(long)*p : 0;
}

static int map_named(int fd, size_t size, u8 **rw, u8 **rx)
{
	int r = sys_ftruncate(fd, size);

	r = r ? r : map_shared(rw, size, PROT_READ | PROT_WRITE, 0, fd);
	if (r)
		return r;
	r = map_shared(rx, size, PROT_READ | PROT_EXEC, 0, fd);
	if (r)
		sys_munmap(*rw, size);
	return r;
}

static int map_nameless(size_t size, u8 **rw, u8 **rx)
{
	int r = map_shared(rw, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS, -1);

	if (r)
		return r;
	*rx = sys_mmap_again(*rw, size);
	if (sys_is_err(*rx)) {
		sys_munmap(*rw, size);
		return (int)(long)*rx;
	}
	r = sys_mprotect(*rx, size, PROT_READ | PROT_EXEC);
	if (r)
		code_unmap(*rw, *rx, size);
	return r;
}

int code_map(const char *name, size_t size, u8 **rw, u8 **rx)
{
	if (!name)
		return map_nameless(size, rw, rx);
	int fd = sys_memfd(name, MFD_CLOEXEC);
	if (fd < 0)
		return fd;
	int r = map_named(fd, size, rw, rx);
	sys_close(fd);
	return r;
}

void code_unmap(u8 *rw, u8 *rx, size_t size)
{
	sys_munmap(rw, size);
	sys_munmap(rx, size);
}

/*
 * Code was written through one address and will be run through another: the processor promises to notice only after a serializing
 * instruction (SDM 3, 9.1.3; APM 2, 7.6.1). IRET to here is the one that a hypervisor below us does not trap.
 */
void code_serialize(void)
{
	u64 t;

	__asm__ volatile("movq %%rsp, %0\n\t"
			 "subq $128, %%rsp\n\t" /* the red zone */
			 "movl %%ss, %%eax\n\t"
			 "pushq %%rax\n\t"
			 "pushq %0\n\t"
			 "pushfq\n\t"
			 "movl %%cs, %%eax\n\t"
			 "pushq %%rax\n\t"
			 "leaq 1f(%%rip), %%rax\n\t"
			 "pushq %%rax\n\t"
			 "iretq\n"
			 "1:"
			 : "=&r"(t)
			 :
			 : "rax", "cc", "memory");
}
