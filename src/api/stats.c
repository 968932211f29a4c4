/* SPDX-License-Identifier: MIT */
/*
 * `--stats`: exits by reason, instructions, TLB fills, decodes, time in the guest and in the VMM, for all VMs of the process.
 */
#include "api/stats.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/string.h"
#include "base/sys.h"
#include "kvm/kvm.h"

static const struct {
	u8 reason;
	const char *name;
} exits[] = {
	{ KVM_EXIT_UNKNOWN, "unknown" }, { KVM_EXIT_HYPERCALL, "hypercall" }, { KVM_EXIT_IO, "io" }, { KVM_EXIT_DEBUG, "debug" },
	{ KVM_EXIT_HLT, "hlt" }, { KVM_EXIT_MMIO, "mmio" }, { KVM_EXIT_IRQ_WINDOW_OPEN, "irq_window_open" }, { KVM_EXIT_SHUTDOWN, "shutdown" },
	{ KVM_EXIT_INTERNAL_ERROR, "internal_error" }, { KVM_EXIT_IOAPIC_EOI, "ioapic_eoi" },
	{ KVM_EXIT_X86_RDMSR, "x86_rdmsr" }, { KVM_EXIT_X86_WRMSR, "x86_wrmsr" },
};

static const struct {
	u8 index;
	const char *name;
} counters[] = {
	{ KSTAT_RUNS, "kvm_run_calls" }, { KSTAT_INTR, "interrupted" }, { KSTAT_HALTS, "halts" }, { KSTAT_CPU0 + 0, "instructions" },
	{ KSTAT_CPU0 + 1, "blocks" }, { KSTAT_CPU0 + 2, "decodes" }, { KSTAT_CPU0 + 3, "tlb_fills" }, { KSTAT_CPU0 + 4, "code_flushes" },
	{ KSTAT_CPU0 + 5, "mmio_accesses" }, { KSTAT_CPU0 + 6, "pio_accesses" }, { KSTAT_CPU0 + 7, "exceptions" },
	{ KSTAT_CPU0 + 8, "interrupts" }, { KSTAT_CPU0 + 9, "stubs" },
};

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

static void put_all(struct out *o, const u64 *sum, unsigned vms, unsigned vcpus, bool json)
{
	const char *fmt = json ? "  \"%s\": %llu,\n" : "%-20s %llu\n";
	u64 khz = sum[KSTAT_GUEST_TSC] ? process_tsc_khz() : 1;

	if (json)
		put(o, "%s\n", "{", 0);
	put(o, fmt, "vms", vms);
	put(o, fmt, "vcpus", vcpus);
	for (unsigned i = 0; i < ARRAY_SIZE(counters); i++)
		put(o, fmt, counters[i].name, sum[counters[i].index]);
	put(o, fmt, "guest_us", (u64)((u128)sum[KSTAT_GUEST_TSC] * 1000 / khz));
	put(o, fmt, "vmm_us", (u64)((u128)sum[KSTAT_VMM_TSC] * 1000 / khz));
	if (json)
		put(o, "%s", "  \"exits\": {\n", 0);
	for (unsigned i = 0; i < ARRAY_SIZE(exits); i++) {
		bool last = i + 1 == ARRAY_SIZE(exits);

		put(o, !json ? "exit %-15s %llu\n" : last ? "    \"%s\": %llu\n" : "    \"%s\": %llu,\n", exits[i].name,
		    sum[KSTAT_EXIT0 + exits[i].reason]);
	}
	if (json)
		put(o, "%s", "  }\n}\n", 0);
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
