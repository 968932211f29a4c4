/* SPDX-License-Identifier: MIT */
/* System calls: one that does nothing, and reads and writes of one byte. */
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "work.h"

static uint64_t getppids(unsigned long rounds)
{
	long before = syscall(SYS_getppid);

	for (unsigned long i = rounds * 1000; i; i--) {
		if (syscall(SYS_getppid) != before)
			work_fail("another parent");
	}
	return rounds;
}
WORK(getppid_row, "getppid", KERNEL, getppids, 2400, 0x0000000000000018);

static uint64_t read_write(unsigned long rounds)
{
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	char c = 1;

	if (zero < 0 || null < 0)
		work_fail("no /dev/zero or /dev/null");
	for (unsigned long i = rounds * 1000; i; i--) {
		if (read(zero, &c, 1) != 1 || c || write(null, &c, 1) != 1)
			work_fail("read or write");
	}
	return rounds;
}
WORK(read_write_row, "read-write", KERNEL, read_write, 600, 0x0000000000000006);

static volatile sig_atomic_t caught;

static void caught_one(int sig)
{
	(void)sig;
	caught++;
}

static uint64_t signals(unsigned long rounds)
{
	struct sigaction sa = {.sa_handler = caught_one};

	sigaction(SIGUSR1, &sa, NULL);
	for (unsigned long i = rounds * 1000; i; i--)
		raise(SIGUSR1);
	return (uint64_t)caught;
}
WORK(signals_row, "signals", KERNEL, signals, 70, 0x00000000000003e8);
