/* SPDX-License-Identifier: MIT */
/*
 * The counters of a vCPU and a VM by name: one list for the statistics device, KVM_GET_STATS_FD and `usekvm --stats`. New ones go at the
 * end: the statistics device's readers may keep an index.
 *
 * Where the kernel has a counter of the same meaning, the name is its (exits, io_exits, ...); `exit_*` are returns of KVM_RUN by reason.
 */
#include "base/process.h"
#include "devices/device.h"

#define COUNT(name, index) { name, index, KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10, 0, false }
#define TIME(name, index) { name, index, KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS | KVM_STATS_BASE_POW10, -9, true }

const struct counter counters[] = {
	COUNT("kvm_run_calls", KSTAT_RUNS),
	COUNT("signal_exits", KSTAT_INTR),
	COUNT("halt_exits", KSTAT_HALTS),
	COUNT("instructions", KSTAT_CPU0 + 0),
	COUNT("blocks", KSTAT_CPU0 + 1),
	COUNT("decodes", KSTAT_CPU0 + 2),
	COUNT("tlb_fills", KSTAT_CPU0 + 3),
	COUNT("code_flushes", KSTAT_CPU0 + 4),
	COUNT("mmio_accesses", KSTAT_CPU0 + 5),
	COUNT("pio_accesses", KSTAT_CPU0 + 6),
	COUNT("exceptions", KSTAT_CPU0 + 7),
	COUNT("irq_injections", KSTAT_CPU0 + 8),
	COUNT("stubs", KSTAT_CPU0 + 9),
	COUNT("wbinvd", KSTAT_WBINVD),
	COUNT("wbinvd_flushes", KSTAT_FLUSHES),
	COUNT("wbinvd_lines", KSTAT_LINES),
	TIME("guest_time", KSTAT_GUEST_TSC),
	TIME("vmm_time", KSTAT_VMM_TSC),
	COUNT("exit_unknown", KSTAT_EXIT0 + KVM_EXIT_UNKNOWN),
	COUNT("exit_hypercall", KSTAT_EXIT0 + KVM_EXIT_HYPERCALL),
	COUNT("exit_io", KSTAT_EXIT0 + KVM_EXIT_IO),
	COUNT("exit_debug", KSTAT_EXIT0 + KVM_EXIT_DEBUG),
	COUNT("exit_hlt", KSTAT_EXIT0 + KVM_EXIT_HLT),
	COUNT("exit_mmio", KSTAT_EXIT0 + KVM_EXIT_MMIO),
	COUNT("exit_irq_window_open", KSTAT_EXIT0 + KVM_EXIT_IRQ_WINDOW_OPEN),
	COUNT("exit_shutdown", KSTAT_EXIT0 + KVM_EXIT_SHUTDOWN),
	COUNT("exit_internal_error", KSTAT_EXIT0 + KVM_EXIT_INTERNAL_ERROR),
	COUNT("exit_ioapic_eoi", KSTAT_EXIT0 + KVM_EXIT_IOAPIC_EOI),
	COUNT("exit_rdmsr", KSTAT_EXIT0 + KVM_EXIT_X86_RDMSR),
	COUNT("exit_wrmsr", KSTAT_EXIT0 + KVM_EXIT_X86_WRMSR),
	COUNT("exit_memory_fault", KSTAT_EXIT0 + KVM_EXIT_MEMORY_FAULT),
	COUNT("units", KSTAT_X0 + XS_UNITS),
	COUNT("unit_bytes", KSTAT_X0 + XS_BYTES),
	TIME("unit_making_time", KSTAT_X0 + XS_MAKE_TSC),
	COUNT("unit_recyclings", KSTAT_X0 + XS_RECYCLINGS),
	TIME("unit_running_time", KSTAT_X0 + XS_RUN_TSC),
	COUNT("unit_entries", KSTAT_X0 + XS_ENTRIES),
	COUNT("unit_links", KSTAT_X0 + XS_LINKS),
	COUNT("unit_indirect_misses", KSTAT_X0 + XS_INDIRECT),
	COUNT("unit_polls", KSTAT_X0 + XS_POLLS),
	COUNT("unit_slow_accesses", KSTAT_X0 + XS_SLOW),
	COUNT("unit_plain_ways", KSTAT_X0 + XS_PLAIN),
	COUNT("unit_fpu_loads", KSTAT_X0 + XS_FPU),
	COUNT("fallback_instruction", KSTAT_X0 + XS_FALL_INSN),
	COUNT("fallback_access", KSTAT_X0 + XS_FALL_ACCESS),
	COUNT("fallback_fpu", KSTAT_X0 + XS_FALL_FPU),
	COUNT("fallback_mode", KSTAT_X0 + XS_FALL_MODE),
	COUNT("fallback_crossing", KSTAT_X0 + XS_FALL_CROSSING),
	COUNT("fallback_alone", KSTAT_X0 + XS_FALL_ALONE),
	COUNT("fallback_debug", KSTAT_X0 + XS_FALL_DEBUG),
	COUNT("direct_entries", KSTAT_X0 + XS_DIRECT),
	TIME("direct_time", KSTAT_X0 + XS_DIRECT_TSC),
	COUNT("direct_pages", KSTAT_X0 + XS_DIRECT_PAGES),
};
_Static_assert(ARRAY_SIZE(counters) <= COUNTERS_MAX, "COUNTERS_MAX");
const unsigned ncounters = ARRAY_SIZE(counters);

u64 counter_value(const struct counter *c, const u64 sum[KSTAT_COUNT])
{
	u64 val = sum[c->index];

	return c->tsc && val ? (u64)((u128)val * 1000000 / process_tsc_khz()) : val;
}

void counters_read(struct kvm *kvm, const struct kvm_vcpu *v, u64 val[COUNTERS_MAX])
{
	u64 sum[KSTAT_COUNT] = { 0 };

	if (v)
		vcpu_stats_add(v, sum);
	else
		kvm_stats_add(kvm, sum);
	for (unsigned i = 0; i < ncounters; i++)
		val[i] = counter_value(&counters[i], sum);
}
