/* SPDX-License-Identifier: MIT */
/*
 * Programs of the host's Debian, in the guest the same files: scripting languages and a database. A row runs SCRIPTS/bench.* with a count
 * and sums what it prints. The time is that of the whole process, with its start.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "work.h"

/* The hash of what a command prints. */
static uint64_t hash_of(char *const *argv, const char *input)
{
	char buf[4096];
	uint64_t sum = 1;
	int p[2], status, total = 0;
	ssize_t n;
	pid_t pid;

	if (pipe(p) || (pid = fork()) < 0)
		work_fail("no process");
	if (!pid) {
		char *const none[] = {(char *)"PATH=/usr/bin:/bin", NULL};
		int fd = open(input ? input : "/dev/null", O_RDONLY);

		if (fd < 0)
			_exit(126);
		dup2(fd, 0);
		dup2(p[1], 1);
		close(p[0]);
		execve(argv[0], argv, none);
		_exit(127);
	}
	close(p[1]);
	while ((n = read(p[0], buf, sizeof(buf))) > 0) {
		sum = work_hash(sum, buf, (size_t)n);
		total += (int)n;
	}
	if (waitpid(pid, &status, 0) != pid || status || !total)
		work_fail("the program failed");
	return sum;
}

static char *script(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", work_scripts, name);
	return path;
}

static char *number(unsigned long n)
{
	static char text[32];

	snprintf(text, sizeof(text), "%lu", n);
	return text;
}

static int has_perl(void)
{
	return !access("/usr/bin/perl", X_OK) && !access(script("bench.pl"), R_OK);
}

static uint64_t perl(unsigned long rounds)
{
	return hash_of((char *[]){(char *)"/usr/bin/perl", script("bench.pl"), number(rounds), NULL}, NULL);
}
WORK(perl_row, "perl", APP, perl, 100, 0, WORK_VARIES, has_perl);

static int has_python(void)
{
	return !access("/usr/bin/python3", X_OK) && !access(script("bench.py"), R_OK);
}

static uint64_t python(unsigned long rounds)
{
	return hash_of((char *[]){(char *)"/usr/bin/python3", (char *)"-ISB", script("bench.py"), number(rounds), NULL}, NULL);
}
WORK(python_row, "python", APP, python, 240, 0, WORK_VARIES, has_python);

static int has_awk(void)
{
	return !access("/usr/bin/busybox", X_OK) && !access(script("bench.awk"), R_OK);
}

static uint64_t awk(unsigned long rounds)
{
	char set[40];

	snprintf(set, sizeof(set), "n=%lu", rounds);
	return hash_of(
		(char *[]){(char *)"/usr/bin/busybox", (char *)"awk", (char *)"-v", set, (char *)"-f", script("bench.awk"), NULL}, NULL);
}
WORK(awk_row, "awk", APP, awk, 500, 0, WORK_VARIES, has_awk);

static int has_sqlite(void)
{
	return !access("/usr/bin/sqlite3", X_OK) && !access(script("bench.sql"), R_OK);
}

static uint64_t sqlite(unsigned long rounds)
{
	char db[512], set[100];
	uint64_t sum;

	snprintf(db, sizeof(db), "%s/bench-%d.db", work_tmp, (int)getpid());
	snprintf(set, sizeof(set), "create table scale as select %lu as n", rounds);
	unlink(db);
	sum = hash_of((char *[]){(char *)"/usr/bin/sqlite3", (char *)"-batch", (char *)"-cmd", set, db, NULL}, script("bench.sql"));
	unlink(db);
	return sum;
}
WORK(sqlite_row, "sqlite", APP, sqlite, 200, 0, WORK_VARIES, has_sqlite);
