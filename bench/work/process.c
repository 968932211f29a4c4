/* SPDX-License-Identifier: MIT */
/* Processes: fork alone, and fork with exec of a static program that does nothing. */
#include <sys/wait.h>
#include <unistd.h>
#include "work.h"

static uint64_t spawn(unsigned long rounds, int exec)
{
	for (unsigned long i = 0; i < rounds; i++) {
		int status = 1;
		pid_t pid = fork();

		if (!pid) {
			if (exec)
				execl(work_self, work_self, "--nothing", (char *)NULL);
			_exit(exec);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			work_fail("a process failed");
	}
	return rounds;
}

static uint64_t forks(unsigned long rounds)
{
	return spawn(rounds, 0);
}
WORK(fork_row, "fork", KERNEL, forks, 1000, 0x000000000000000a, WORK_ONE_CPU);

static uint64_t execs(unsigned long rounds)
{
	return spawn(rounds, 1);
}
WORK(exec_row, "fork-exec", KERNEL, execs, 300, 0x0000000000000003, WORK_ONE_CPU);
