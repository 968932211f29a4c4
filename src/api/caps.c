/* SPDX-License-Identifier: MIT */
/*
 * KVM_CHECK_EXTENSION: only what works is shown. One list; a capability that is not in it is 0. Those that a VMM may enable, and how, are in
 * vm_calls.c.
 */
#include "api/call.h"
#include "base/sys.h"
#include "cpu/cpuid.h"

#define CAPS(X)                                                                                                                            \
	X(KVM_CAP_IRQCHIP, 1)                                                                                                              \
	X(KVM_CAP_HLT, 1)                                                                                                                  \
	X(KVM_CAP_USER_MEMORY, 1)                                                                                                          \
	X(KVM_CAP_SET_TSS_ADDR, 1)                                                                                                         \
	X(KVM_CAP_EXT_CPUID, 1)                                                                                                            \
	X(KVM_CAP_EXT_EMUL_CPUID, 1)                                                                                                       \
	X(KVM_CAP_CLOCKSOURCE, 1)                                                                                                          \
	X(KVM_CAP_NR_MEMSLOTS, MEM_MAX_SLOTS)                                                                                              \
	X(KVM_CAP_PIT, 1)                                                                                                                  \
	X(KVM_CAP_NOP_IO_DELAY, 1)                                                                                                         \
	X(KVM_CAP_MP_STATE, 1)                                                                                                             \
	X(KVM_CAP_COALESCED_MMIO, KVM_RING_PAGE)                                                                                           \
	X(KVM_CAP_COALESCED_PIO, 1)                                                                                                        \
	X(KVM_CAP_SYNC_MMU, 1)                                                                                                             \
	X(KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1)                                                                                          \
	X(KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1)                                                                                            \
	X(KVM_CAP_USER_NMI, 1)                                                                                                             \
	X(KVM_CAP_SET_GUEST_DEBUG, 1)                                                                                                      \
	X(KVM_CAP_REINJECT_CONTROL, 1)                                                                                                     \
	X(KVM_CAP_IRQ_ROUTING, IRQ_MAX_ROUTES)                                                                                             \
	X(KVM_CAP_IRQ_INJECT_STATUS, 1)                                                                                                    \
	X(KVM_CAP_MCE, CPU_MCE_BANKS)                                                                                                      \
	X(KVM_CAP_IRQFD, 1)                                                                                                                \
	X(KVM_CAP_IRQFD_RESAMPLE, 1)                                                                                                       \
	X(KVM_CAP_PIT2, 1)                                                                                                                 \
	X(KVM_CAP_SET_BOOT_CPU_ID, 1)                                                                                                      \
	X(KVM_CAP_PIT_STATE2, 1)                                                                                                           \
	X(KVM_CAP_IOEVENTFD, 1)                                                                                                            \
	X(KVM_CAP_IOEVENTFD_ANY_LENGTH, 1)                                                                                                 \
	X(KVM_CAP_SET_IDENTITY_MAP_ADDR, 1)                                                                                                \
	X(KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)                                            \
	X(KVM_CAP_INTERNAL_ERROR_DATA, 1)                                                                                                  \
	X(KVM_CAP_VCPU_EVENTS, 1)                                                                                                          \
	X(KVM_CAP_DEBUGREGS, 1)                                                                                                            \
	X(KVM_CAP_X86_ROBUST_SINGLESTEP, 1)                                                                                                \
	X(KVM_CAP_ENABLE_CAP, 1)                                                                                                           \
	X(KVM_CAP_ENABLE_CAP_VM, 1)                                                                                                        \
	X(KVM_CAP_CHECK_EXTENSION_VM, 1)                                                                                                   \
	X(KVM_CAP_XSAVE, 1)                                                                                                                \
	X(KVM_CAP_XSAVE2, CPU_XSAVE_SIZE)                                                                                                  \
	X(KVM_CAP_XCRS, 1)                                                                                                                 \
	X(KVM_CAP_GET_TSC_KHZ, 1)                                                                                                          \
	X(KVM_CAP_MAX_VCPUS, KVM_VCPUS_MAX)                                                                                                \
	X(KVM_CAP_MAX_VCPU_ID, KVM_VCPU_IDS_MAX)                                                                                           \
	X(KVM_CAP_TSC_DEADLINE_TIMER, 1)                                                                                                   \
	X(KVM_CAP_SYNC_REGS, KVM_SYNC_X86_VALID_FIELDS)                                                                                    \
	X(KVM_CAP_KVMCLOCK_CTRL, 1)                                                                                                        \
	X(KVM_CAP_SIGNAL_MSI, 1)                                                                                                           \
	X(KVM_CAP_READONLY_MEM, 1)                                                                                                         \
	X(KVM_CAP_SPLIT_IRQCHIP, 1)                                                                                                        \
	X(KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)                                       \
	X(KVM_CAP_IMMEDIATE_EXIT, 1)                                                                                                       \
	X(KVM_CAP_GET_MSR_FEATURES, 1)                                                                                                     \
	X(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)                            \
	X(KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP |      \
		  KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ)                                                 \
	X(KVM_CAP_X86_USER_SPACE_MSR, 1)                                                                                                   \
	X(KVM_CAP_X86_MSR_FILTER, 1)                                                                                                       \
	X(KVM_CAP_VCPU_ATTRIBUTES, 1)                                                                                                      \
	X(KVM_CAP_SYS_ATTRIBUTES, 1)                                                                                                       \
	X(KVM_CAP_TSC_CONTROL, 1)                                                                                                          \
	X(KVM_CAP_VM_TSC_CONTROL, 1)                                                                                                       \
	X(KVM_CAP_PRE_FAULT_MEMORY, 1)                                                                                                     \
	X(KVM_CAP_DISABLE_QUIRKS, 1)                                                                                                       \
	X(KVM_CAP_DISABLE_QUIRKS2, KVM_QUIRKS)                                                                                             \
	X(KVM_CAP_X86_DISABLE_EXITS, KVM_DISABLE_EXITS)                                                                                    \
	X(KVM_CAP_MSR_PLATFORM_INFO, 1)                                                                                                    \
	X(KVM_CAP_X86_APIC_BUS_CYCLES_NS, 1)                                                                                               \
	X(KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1)                                                                                             \
	X(KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1)                                                                                            \
	X(KVM_CAP_USER_MEMORY2, 1)                                                                                                         \
	X(KVM_CAP_MEMORY_FAULT_INFO, 1)                                                                                                    \
	X(KVM_CAP_DEVICE_CTRL, 1)                                                                                                          \
	X(KVM_CAP_BINARY_STATS_FD, 1)                                                                                                      \
	X(KVM_CAP_SREGS2, 1)

static long online_cpus(void)
{
	u64 mask[128];
	long bytes = sys3(204 /* sched_getaffinity */, 0, sizeof(mask), mask), n = 0;

	for (long i = 0; i < bytes / 8; i++)
		for (u64 m = mask[i]; m; m &= m - 1)
			n++;
	return n > 0 ? n : 1;
}

long api_check_extension(u64 cap)
{
	switch (cap) {
	case KVM_CAP_NR_VCPUS: /* the number that is advised */
		return MIN(MAX(online_cpus(), 4), KVM_VCPUS_MAX);
#define X(name, value)                                                                                                                     \
	case name:                                                                                                                         \
		return value;
	CAPS(X)
#undef X
	}
	return 0;
}
