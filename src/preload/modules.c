/* SPDX-License-Identifier: MIT */
/*
 * /sys/module/kvm and its fellows, parameters: what programs read there to learn of KVM, as the files of a kernel would say it that has what usekvm has. The
 * module named after the host CPU's maker is there; of the other one, whatever the kernel says. All are read-only.
 */
#include "preload/preload.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/cpuid.h"

struct parameter {
	const char *name, *value;
};

static const struct parameter common[] = {
	{ "enable_pmu", "N" },
	{ "enable_vmware_backdoor", "N" },
	{ "eager_page_split", "N" },
	{ "force_emulation_prefix", "0" },
	{ "halt_poll_ns", "0" },
	{ "ignore_msrs", "N" },
	{ "kvmclock_periodic_sync", "N" },
	{ "min_timer_period_us", "0" },
	{ "mmio_caching", "N" },
	{ "nx_huge_pages", "N" },
	{ "report_ignored_msrs", "N" },
	{ "tdp_mmu", "N" },
	{ "vector_hashing", "Y" },
};
static const struct parameter amd[] = {
	{ "avic", "N" }, { "lbrv", "0" }, { "nested", "0" }, { "npt", "Y" }, { "nrips", "1" },
	{ "sev", "N" }, { "sev_es", "N" }, { "sev_snp", "N" }, { "vgif", "0" }, { "vls", "0" }, { "vnmi", "N" },
};
static const struct parameter intel[] = {
	{ "allow_smaller_maxphyaddr", "N" }, { "enable_apicv", "N" }, { "enable_ipiv", "N" }, { "ept", "Y" }, { "eptad", "Y" },
	{ "flexpriority", "N" }, { "nested", "N" }, { "pml", "N" }, { "sgx", "N" }, { "unrestricted_guest", "Y" }, { "vnmi", "Y" }, { "vpid", "Y" },
};

static const char *find(const struct parameter *p, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(p[i].name, name))
			return p[i].value;
	return "";
}

static const char *after(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(s, prefix, n) ? NULL : s + n;
}

const char *module_parameter_slow(const char *path)
{
	bool host_amd = cpuid_host_is_amd();
	const char *name;

	name = after(path, "/sys/module/kvm/parameters/");
	if (name)
		return find(common, ARRAY_SIZE(common), name);
	name = host_amd ? after(path, "/sys/module/kvm_amd/parameters/") : after(path, "/sys/module/kvm_intel/parameters/");
	if (!name)
		return NULL;
	return host_amd ? find(amd, ARRAY_SIZE(amd), name) : find(intel, ARRAY_SIZE(intel), name);
}

/* A file with the value in it that cannot be written to. */
long module_parameter_open(const char *value, int flags)
{
	char text[32], self[32];
	long fd, r;
	int n = snprintf(text, sizeof(text), "%s\n", value);

	if (!*value)
		return -ENOENT;
	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	if (flags & O_DIRECTORY)
		return -ENOTDIR;
	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	fd = sys_memfd("kvm-parameter", 0);
	if (fd < 0)
		return fd;
	r = sys_write((int)fd, text, (size_t)n);
	if (r == n) {
		snprintf(self, sizeof(self), "/proc/self/fd/%ld", fd);
		r = sys_open(self, O_RDONLY | (flags & (O_CLOEXEC | O_NONBLOCK)), 0);
	}
	sys_close((int)fd);
	return r;
}

long module_parameter_access(const char *value, int mode)
{
	if (!*value)
		return -ENOENT;
	return mode & (W_OK | X_OK) ? -EACCES : 0;
}
