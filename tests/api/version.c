/* SPDX-License-Identifier: MIT */
/* API version, the size of a vCPU's mapping, capabilities that clients cannot do without, and that an unknown one is 0. */
#include "kvmtest.h"

static const struct {
	int cap, least;
	const char *name;
} wanted[] = {
#define C(n, l) {KVM_CAP_##n, l, #n}
	C(IRQCHIP, 1), C(HLT, 1), C(USER_MEMORY, 1), C(SET_TSS_ADDR, 1), C(EXT_CPUID, 1), C(NR_VCPUS, 1), C(NR_MEMSLOTS, 32), C(MP_STATE, 1),
	C(COALESCED_MMIO, 1), C(SYNC_MMU, 1), C(DESTROY_MEMORY_REGION_WORKS, 1), C(USER_NMI, 1), C(SET_GUEST_DEBUG, 1), C(IRQ_ROUTING, 24),
	C(IRQ_INJECT_STATUS, 1), C(JOIN_MEMORY_REGIONS_WORKS, 1), C(MCE, 10), C(IRQFD, 1), C(PIT2, 1), C(PIT_STATE2, 1), C(IOEVENTFD, 1),
	C(SET_IDENTITY_MAP_ADDR, 1), C(ADJUST_CLOCK, 1), C(VCPU_EVENTS, 1), C(DEBUGREGS, 1), C(XSAVE, 1), C(XCRS, 1), C(MAX_VCPUS, 1),
	C(GET_TSC_KHZ, 1), C(SIGNAL_MSI, 1), C(READONLY_MEM, 1), C(IRQFD_RESAMPLE, 1), C(SPLIT_IRQCHIP, 1), C(IOEVENTFD_ANY_LENGTH, 1),
	C(IMMEDIATE_EXIT, 1), C(SYNC_REGS, 1), C(TSC_DEADLINE_TIMER, 1), C(MAX_VCPU_ID, 1), C(COALESCED_PIO, 1), C(INTERNAL_ERROR_DATA, 1),
	C(X86_ROBUST_SINGLESTEP, 1), C(KVMCLOCK_CTRL, 1), C(ENABLE_CAP_VM, 1), C(DEVICE_CTRL, 1), C(CHECK_EXTENSION_VM, 1), C(SREGS2, 1),
#undef C
};

int main(void)
{
	int sys = kt_open(), vm;

	CHECK_EQ(ioctl(sys, KVM_GET_API_VERSION, 0ul), 12);
	CHECK_EQ(ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, 0ul), 12288);
	vm = ioctl(sys, KVM_CREATE_VM, 0ul);
	REQUIRE(vm >= 0);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		int v = kt_cap(sys, wanted[i].cap);

		if (v < wanted[i].least) {
			printf("KVM_CAP_%s is %d, want at least %d\n", wanted[i].name, v, wanted[i].least);
			kt_failures++;
		}
		CHECK_EQ(kt_cap(vm, wanted[i].cap), v);
	}
	CHECK_EQ(kt_cap(sys, KVM_CAP_IMMEDIATE_EXIT), 1); /* a client compares with exactly 1 */
	CHECK_EQ(kt_cap(sys, KVM_CAP_COALESCED_MMIO), 2);
	CHECK_EQ(kt_cap(sys, KVM_CAP_NR_MEMSLOTS), 32764);
	CHECK_EQ(kt_cap(sys, KVM_CAP_IRQ_ROUTING), 4096);
	CHECK_EQ(kt_cap(sys, KVM_CAP_MSI_DEVID), 0);
	CHECK_EQ(kt_cap(sys, 100000), 0);
	CHECK_EQ(kt_cap(vm, 100000), 0);
	CHECK_EQ(kt_cap(sys, -1), 0);
	CHECK_ERR(ioctl(sys, KVM_GET_API_VERSION, 1ul), EINVAL);
	CHECK_ERR(ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, 1ul), EINVAL);
	/* A request passed as int comes sign-extended; only 32 bits count. */
	{
		struct kvm_msr_list l = {.nmsrs = 0};

		CHECK_ERR(ioctl(sys, 0xffffffff00000000ul | KVM_GET_MSR_INDEX_LIST, &l), E2BIG);
		CHECK(l.nmsrs > 10);
	}
	return kt_end();
}
