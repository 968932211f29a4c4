/* SPDX-License-Identifier: MIT */
/*
 * `usekvm doctor`: what this machine has of what usekvm needs or profits from. A line is "ok", "missing" (needed: the exit status
 * is 1) or "note" (not needed, with what it would give).
 */
#include "cli/cli.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

static bool all_there = true;

static void line(bool ok, bool needed, const char *what, const char *value, const char *advice)
{
	if (!ok && needed)
		all_there = false;
	printf("%-8s %-28s %s\n", ok ? "ok" : needed ? "missing" : "note", what, value);
	if (!ok && advice)
		printf("         %-28s -> %s\n", "", advice);
}

static void cpu_name(char out[64])
{
	unsigned r[12], vendor[3], max;

	memset(out, 0, 64);
	if (__get_cpuid(0x80000000, &max, &r[1], &r[2], &r[3]) && max >= 0x80000004) {
		for (unsigned i = 0; i < 3; i++)
			__get_cpuid(0x80000002 + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
		memcpy(out, r, sizeof(r));
	}
	if (!out[0] && __get_cpuid(0, &max, &vendor[0], &vendor[2], &vendor[1]))
		memcpy(out, vendor, sizeof(vendor));
}

static void feature(const char *name, bool have, const char *gives)
{
	line(have, false, name, have ? "yes" : "no", gives);
}

static void cpu_lines(void)
{
	unsigned a, b = 0, c = 0, d = 0, b7 = 0, d8 = 0, lo = 0, hi = 0;
	const char *missing = cpu_missing();
	char name[64];

	cpu_name(name);
	line(!missing, true, "CPU", name, missing);
	if (missing)
		printf("         %-28s    is what this CPU (or its hypervisor) does not show; use another machine\n", "");
	__get_cpuid(1, &a, &b, &c, &d);
	if (c & bit_OSXSAVE)
		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	__get_cpuid_count(7, 0, &a, &b7, &c, &d);
	feature("xsave", lo & 2, "needed for the guest's vector state");
	feature("avx", (lo & 6) == 6, "guests see no AVX");
	feature("avx2", (lo & 6) == 6 && (b7 & bit_AVX2), "guests see no AVX2");
	feature("avx512", (lo & 0xe6) == 0xe6 && (b7 & bit_AVX512F), "guests see no AVX-512");
	feature("bmi2", b7 & bit_BMI2, "guests see no BMI2");
	feature("fsgsbase", b7 & bit_FSGSBASE, "guests see no FSGSBASE");
	__get_cpuid(0x80000007, &a, &b, &c, &d8);
	feature("invariant TSC", d8 & 0x100, "guest clocks may drift when the CPU's frequency changes");
}

static bool read_number(const char *path, long *value)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fscanf(f, "%ld", value) == 1;

	if (f)
		fclose(f);
	return ok;
}

static void kernel_lines(void)
{
	struct utsname u;
	struct rlimit rl;
	char text[256];
	long n;
	int fd;

	uname(&u);
	snprintf(text, sizeof(text), "%.100s %.100s %.40s", u.sysname, u.release, u.machine);
	line(!strcmp(u.machine, "x86_64"), true, "kernel", text, "usekvm runs on x86-64 Linux only");
	fd = memfd_create("usekvm-doctor", MFD_CLOEXEC);
	line(fd >= 0, true, "memfd_create", fd >= 0 ? "works" : strerror(errno), "allow memfd_create in this container's seccomp profile");
	if (fd >= 0)
		close(fd);
	n = prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
	snprintf(text, sizeof(text), "%s", n == 0 ? "no filter" : n == 2 ? "a filter is in force" : "not available");
	line(n == 0, false, "seccomp", text, "if something is refused, look at the container's profile");
	if (read_number("/proc/sys/kernel/perf_event_paranoid", &n)) {
		snprintf(text, sizeof(text), "perf_event_paranoid = %ld", n);
		line(n <= 2 || geteuid() == 0, false, "perf events", text, "only measurements need them");
	} else {
		line(false, false, "perf events", "not available", "only measurements need them");
	}
	if (read_number("/proc/sys/vm/max_map_count", &n)) {
		snprintf(text, sizeof(text), "%ld", n);
		line(n >= 65530, false, "vm.max_map_count", text, "sysctl -w vm.max_map_count=65530 for VMMs with many mappings");
	}
	if (!getrlimit(RLIMIT_NOFILE, &rl)) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)rl.rlim_cur);
		line(rl.rlim_cur >= 256, false, "open files (ulimit -n)", text, "ulimit -n 1024");
	}
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	line(fd >= 0, false, "/dev/kvm of this host", fd >= 0 ? "usable" : strerror(errno),
	     "not needed: under usekvm its own is used, with or without this one");
	if (fd >= 0)
		close(fd);
}

static void qemu_line(void)
{
	char text[256] = "";
	FILE *p = popen("qemu-system-x86_64 --version 2>/dev/null", "re");
	bool ok = p && fgets(text, sizeof(text), p);

	if (p)
		pclose(p);
	text[strcspn(text, "\n")] = 0;
	line(ok, false, "qemu-system-x86_64", ok ? text : "not found", "apt-get install qemu-system-x86 (or use another VMM)");
}

int doctor(void)
{
	char lib[CLI_PATH];
	bool found = !find_library(lib, sizeof(lib));

	cpu_lines();
	kernel_lines();
	line(found, true, "libusekvm.so", found ? lib : "not found", "keep it beside usekvm or in ../lib, or set USEKVM_LIB to its path");
	qemu_line();
	printf("%s\n", all_there ? "Everything that usekvm needs is there." : "Something that usekvm needs is missing.");
	return all_there ? 0 : 1;
}
