/* SPDX-License-Identifier: MIT */
/*
 * `--stats`: the counters of devices/counters.c, for all VMs of the process.
 */
#include "api/stats.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/inject.h"
#include "base/string.h"
#include "base/sys.h"
#include "devices/device.h"

struct out {
	char buf[4096];
	size_t len;
};

static void put(struct out *o, const char *fmt, const char *name, unsigned long long val)
{
	int n = snprintf(o->buf + o->len, sizeof(o->buf) - o->len, fmt, name, val);

	if (n > 0 && (size_t)n < sizeof(o->buf) - o->len)
		o->len += (size_t)n;
}

#define EXIT "exit_"

static bool is_exit(const char *name)
{
	return !memcmp(name, EXIT, sizeof(EXIT) - 1);
}

/* Times in us, as they were before the counters had names of their own. */
static void put_counter(struct out *o, const char *fmt, const struct counter *c, const u64 *sum)
{
	u64 val = counter_value(c, sum);

	if (c->index == KSTAT_GUEST_TSC)
		put(o, fmt, "guest_us", val / 1000);
	else if (c->index == KSTAT_VMM_TSC)
		put(o, fmt, "vmm_us", val / 1000);
	else if (c->index == KSTAT_X0 + XS_MAKE_TSC)
		put(o, fmt, "unit_making_us", val / 1000);
	else if (c->index == KSTAT_X0 + XS_RUN_TSC)
		put(o, fmt, "unit_running_us", val / 1000);
	else
		put(o, fmt, c->name, val);
}

static void put_all(struct out *o, const u64 *sum, unsigned vms, unsigned vcpus, bool json)
{
	const char *fmt = json ? "  \"%s\": %llu,\n" : "%-22s %llu\n", *comma = "";

	if (json)
		put(o, "%s\n", "{", 0);
	put(o, fmt, "vms", vms);
	put(o, fmt, "vcpus", vcpus);
	for (unsigned i = 0; i < ncounters; i++)
		if (!is_exit(counters[i].name))
			put_counter(o, fmt, &counters[i], sum);
	for (unsigned i = 0; inject_on && i < INJECT_KINDS; i++)
		put(o, json ? "  \"injected_%s\": %llu,\n" : "injected_%-13s %llu\n", inject_name[i], inject_count(i));
	if (json)
		put(o, "%s", "  \"exits\": {", 0);
	for (unsigned i = 0; i < ncounters; i++) {
		const char *name = counters[i].name;

		if (!is_exit(name))
			continue;
		if (json)
			put(o, "%s", comma, 0);
		put(o, json ? "\n    \"%s\": %llu" : "exit %-17s %llu\n", name + sizeof(EXIT) - 1, counter_value(&counters[i], sum));
		comma = ",";
	}
	if (json)
		put(o, "%s", "\n  }\n}\n", 0);
}

void api_stats_dump(const char *dest)
{
	u64 sum[KSTAT_COUNT];
	unsigned vms, vcpus;
	struct out o = { .len = 0 };
	size_t n = strlen(dest);
	int fd = 2;

	kvm_stats_sum(sum, &vms, &vcpus);
	put_all(&o, sum, vms, vcpus, n >= 5 && !memcmp(dest + n - 5, ".json", 5));
	if (n && !(n == 1 && dest[0] == '-'))
		fd = sys_open(dest, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	for (size_t done = 0; done < o.len;) {
		ssize_t w = sys_write(fd, o.buf + done, o.len - done);

		if (w <= 0)
			break;
		done += (size_t)w;
	}
	if (fd != 2)
		sys_close(fd);
}
