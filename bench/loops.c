/* SPDX-License-Identifier: MIT */
/*
 * The init of bench/rate.sh's guest: loops with a known number of instructions. It prints "mark NAME" before and "done NAME COUNT"
 * after each; the host takes the time, since a guest's own clock may run with its instructions (Bochs). Static, so that nothing else is needed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOPS 30000000ul

static unsigned long alu(void)
{
	unsigned long n = LOOPS, a = 1, b = 3;

	__asm__ volatile("1: add %2, %1\n\tlea 5(%1,%1,2), %2\n\txor %1, %2\n\tror $7, %1\n\tdec %0\n\tjnz 1b" : "+r"(n), "+r"(a), "+r"(b) : : "cc");
	return 6 * LOOPS;
}

static unsigned long memory(void)
{
	static unsigned long buf[4096];
	unsigned long n = LOOPS, i = 0, *p = buf, x;

	__asm__ volatile("1: mov (%3,%1,8), %2\n\tadd $1, %2\n\tmov %2, (%3,%1,8)\n\tinc %1\n\tand $4095, %1\n\tdec %0\n\tjnz 1b"
			 : "+r"(n), "+r"(i), "=&r"(x)
			 : "r"(p)
			 : "cc", "memory");
	return 7 * LOOPS;
}

static unsigned long calls(void)
{
	unsigned long n = LOOPS;

	__asm__ volatile("sub $128, %%rsp\n\tjmp 2f\n1: push %0\n\tpop %0\n\tret\n2: call 1b\n\tdec %0\n\tjnz 2b\n\tadd $128, %%rsp" : "+r"(n) : : "cc", "memory");
	return 6 * LOOPS;
}

static unsigned long vector(void)
{
	unsigned long n = LOOPS / 4;

	__asm__ volatile("1: paddd %%xmm1, %%xmm0\n\tpshufd $0x1b, %%xmm0, %%xmm1\n\tmulps %%xmm2, %%xmm3\n\tpxor %%xmm1, %%xmm2\n\tdec %0\n\tjnz 1b"
			 : "+r"(n)
			 :
			 : "cc", "xmm0", "xmm1", "xmm2", "xmm3");
	return 6 * (LOOPS / 4);
}

static unsigned long vector_memory(void)
{
	static float buf[16] __attribute__((aligned(16)));
	unsigned long n = LOOPS / 4;

	__asm__ volatile("1: movups (%1), %%xmm0\n\taddps 16(%1), %%xmm0\n\tmovups %%xmm0, 32(%1)\n\tpaddd 48(%1), %%xmm1\n\tmovaps %%xmm1, 16(%1)\n\tdec %0\n\tjnz 1b"
			 : "+r"(n)
			 : "r"(buf)
			 : "cc", "memory", "xmm0", "xmm1");
	return 7 * (LOOPS / 4);
}

/* The following count operations, not instructions. */
static unsigned long syscalls(void)
{
	for (int i = 0; i < 500000; i++)
		syscall(SYS_getppid);
	return 500000;
}

static unsigned long faults(void)
{
	for (int k = 0; k < 40; k++) {
		char *p = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return 0;
		for (unsigned long i = 0; i < 4 << 20; i += 4096)
			p[i] = 1;
		munmap(p, 4 << 20);
	}
	return 40 * 1024;
}

static unsigned long forks(void)
{
	for (int i = 0; i < 1000; i++) {
		pid_t p = fork();

		if (!p)
			_exit(0);
		if (p < 0 || waitpid(p, NULL, 0) != p)
			return 0;
	}
	return 1000;
}

static void bench(const char *name, unsigned long (*f)(void))
{
	unsigned long n;

	printf("mark %s\n", name);
	n = f();
	printf("done %s %lu\n", name, n);
}

int main(void)
{
	int fd;

	mkdir("/dev", 0755);
	fd = open("/dev/console", O_RDWR);
	if (fd >= 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	bench("alu", alu);
	bench("memory", memory);
	bench("calls", calls);
	bench("vector", vector);
	bench("vecmem", vector_memory);
	bench("syscalls", syscalls);
	bench("faults", faults);
	bench("forks", forks);
	printf("usekvm-guest: done\n");
	reboot(RB_POWER_OFF);
	return 0;
}
