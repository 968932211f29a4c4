/* SPDX-License-Identifier: MIT */
/*
 * Runs the rows of bench/work, on the host or as the init of a guest, and prints for each:
 *
 *   work: start NAME
 *   work: row NAME SECONDS CHECKSUM WHOLE CPU  or "absent", "timeout", "failed REASON" for SECONDS; WHOLE: from the start line on; CPU:
 *                                              seconds that CPUs worked for it
 *
 *   work [--scale=N] [--limit=SECONDS] [--scripts=DIR] [--tmp=DIR] [NAME...]     rows; all of them without a NAME
 *   work --list                    NAME GROUP CPUS of each row
 *   work --check                   each row at scale 1 against its checksum; 0 if all are right
 *
 * As process 1 it takes the same from the kernel's command line (work.scale=N work.rows=NAME,NAME,...), says "work: done" and powers off.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "work.h"

extern const struct work *const __start_works[], *const __stop_works[];

const char *work_self = "/init", *work_scripts = "/work", *work_tmp = "/tmp";
static unsigned long scale = 100;
static int limit = 60;

/* Shared with the row's process. */
static struct report {
	double seconds, cpu;
	uint64_t sum;
	char why[100];
} *report;
static struct timespec begun;
static double cpu_begun;

/* What this process and its children that have ended have used. */
static double cpu_time(void)
{
	static const int who[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
	double sum = 0;

	for (int i = 0; i < 2; i++) {
		struct rusage u;

		if (!getrusage(who[i], &u))
			sum += (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
	}
	return sum;
}

void work_begin(void)
{
	cpu_begun = cpu_time();
	clock_gettime(CLOCK_MONOTONIC, &begun);
}

void work_fail(const char *what)
{
	snprintf(report->why, sizeof(report->why), "%s", what);
	_exit(1);
}

void *work_alloc(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		work_fail("no memory");
	return p;
}

uint64_t work_hash(uint64_t h, const void *p, size_t size)
{
	const unsigned char *b = p;

	for (size_t i = 0; i < size; i++)
		h = (h ^ b[i]) * 0x100000001b3u;
	return h;
}

static double between(const struct timespec *a, const struct timespec *b)
{
	return (double)(b->tv_sec - a->tv_sec) + (double)(b->tv_nsec - a->tv_nsec) / 1e9;
}

static void pin(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return;
	for (int i = CPU_SETSIZE - 1; i >= 0; i--) {
		if (CPU_ISSET(i, &set)) {
			CPU_ZERO(&set);
			CPU_SET(i, &set);
			sched_setaffinity(0, sizeof(set), &set);
			return;
		}
	}
}

static void run_here(const struct work *w)
{
	unsigned long rounds = w->rounds * scale / 100;
	struct timespec end;

	if (w->flags & WORK_ONE_CPU)
		pin();
	work_begin();
	report->sum = w->run(rounds ? rounds : 1);
	clock_gettime(CLOCK_MONOTONIC, &end);
	report->seconds = between(&begun, &end);
	report->cpu = cpu_time() - cpu_begun;
	_exit(0);
}

/* One row in a process of its own: 0, or why there is no result. */
static const char *run_apart(const struct work *w)
{
	struct timespec left = {limit, 0};
	sigset_t child;
	int status;
	pid_t pid;

	if (w->present && !w->present())
		return "absent";
	if ((w->flags & WORK_TWO_CPUS) && sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return "absent";
	memset(report, 0, sizeof(*report));
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	pid = fork();
	if (pid < 0)
		return "failed fork";
	if (!pid) {
		setpgid(0, 0);
		sigprocmask(SIG_UNBLOCK, &child, NULL);
		run_here(w);
	}
	setpgid(pid, pid);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (sigtimedwait(&child, NULL, &left) < 0 && errno == EAGAIN) {
			kill(-pid, SIGKILL);
			waitpid(pid, &status, 0);
			return "timeout";
		}
	}
	kill(-pid, SIGKILL);
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return NULL;
	if (!report->why[0])
		snprintf(report->why, sizeof(report->why), "status %x", status);
	return "failed";
}

static int print_row(const struct work *w)
{
	struct timespec start, end;
	const char *bad;

	printf("work: start %s\n", w->name);
	clock_gettime(CLOCK_MONOTONIC, &start);
	bad = run_apart(w);
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (bad)
		printf("work: row %s %s %s\n", w->name, bad, strcmp(bad, "failed") ? "" : report->why);
	else
		printf("work: row %s %.6f %016lx %.6f %.6f\n", w->name, report->seconds, report->sum, between(&start, &end), report->cpu);
	return bad && strcmp(bad, "absent");
}

static const struct work *find(const char *name, size_t length)
{
	for (const struct work *const *w = __start_works; w < __stop_works; w++) {
		if (strlen((*w)->name) == length && !memcmp((*w)->name, name, length))
			return *w;
	}
	return NULL;
}

/* NAME,NAME,...: how many of them failed */
static int print_rows(const char *names)
{
	int bad = 0;

	while (*names) {
		size_t length = strcspn(names, ",");
		const struct work *w = find(names, length);

		if (w)
			bad += print_row(w);
		else if (length)
			printf("work: row %.*s failed no such row\n", (int)length, names);
		bad += !w;
		names += length;
		names += *names == ',';
	}
	return bad;
}

static int check(void)
{
	int bad = 0, n = 0;

	scale = 1;
	for (const struct work *const *w = __start_works; w < __stop_works; w++) {
		const char *why = run_apart(*w);

		if (why && strcmp(why, "absent")) {
			printf("%s: %s %s\n", (*w)->name, why, report->why);
			bad++;
		} else if (!why && !((*w)->flags & WORK_VARIES) && report->sum != (*w)->check) {
			printf("%s: checksum 0x%016lx, not 0x%016lx\n", (*w)->name, report->sum, (*w)->check);
			bad++;
		}
		n += !why;
	}
	printf("%d rows right\n", n - bad);
	return bad || n < 10;
}

static void be_init(void)
{
	static char line[4096], rows[4096];
	int fd;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/tmp", 01777);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("tmp", "/tmp", "tmpfs", 0, NULL);
	fd = open("/dev/console", O_RDWR);
	if (fd >= 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
	}
	printf("work: init\n");
	klogctl(8, NULL, 1); /* the kernel's lines are not to stand inside ours */
	fd = open("/proc/cmdline", O_RDONLY);
	if (fd >= 0) {
		if (read(fd, line, sizeof(line) - 1) < 0)
			line[0] = 0;
		close(fd);
	}
	for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
		sscanf(word, "work.scale=%lu", &scale);
		sscanf(word, "work.limit=%d", &limit);
		sscanf(word, "work.rows=%4095s", rows);
	}
	print_rows(rows);
	printf("work: done\n");
	usleep(300000); /* who reads the lines asks for QEMU's CPU time while it still runs */
	sync();
	reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
	int bad = 0, named = 0;

	if (argc == 2 && !strcmp(argv[1], "--nothing"))
		return 0; /* what fork+exec runs */
	setvbuf(stdout, NULL, _IOLBF, 0);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED)
		return 1;
	if (getpid() == 1) {
		be_init();
		return 1;
	}
	work_self = argv[0];
	for (int i = 1; i < argc; i++) {
		char *a = argv[i];

		if (!strcmp(a, "--list")) {
			for (const struct work *const *w = __start_works; w < __stop_works; w++)
				printf("%s %s %d\n", (*w)->name, (*w)->group, (*w)->flags & WORK_TWO_CPUS ? 2 : 1);
			return 0;
		} else if (!strcmp(a, "--check")) {
			return check();
		} else if (sscanf(a, "--scale=%lu", &scale) == 1 || sscanf(a, "--limit=%d", &limit) == 1) {
			continue;
		} else if (!strncmp(a, "--scripts=", 10)) {
			work_scripts = a + 10;
		} else if (!strncmp(a, "--tmp=", 6)) {
			work_tmp = a + 6;
		} else {
			named = 1;
			bad += print_rows(a);
		}
	}
	if (!named) {
		for (const struct work *const *w = __start_works; w < __stop_works; w++)
			bad += print_row(*w);
	}
	return bad != 0;
}
