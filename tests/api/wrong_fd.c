/* SPDX-License-Identifier: MIT */
/* Requests on the wrong kind of descriptor, each of them on each kind; on none of ours; and unknown ones. */
#include "kvmtest.h"

/* Who answers what: system, VM, vCPU. A device answers its attributes only (of the VFIO device). */
enum { SYS = 1, VM = 2, VCPU = 4, DEV = 8 };
static const struct {
	const char *name;
	unsigned long request;
	unsigned on;
} requests[] = {
#define R(n, k) {#n, n, k}
	R(KVM_GET_API_VERSION, SYS), R(KVM_CREATE_VM, SYS), R(KVM_CHECK_EXTENSION, SYS | VM), R(KVM_GET_VCPU_MMAP_SIZE, SYS),
	R(KVM_GET_SUPPORTED_CPUID, SYS), R(KVM_GET_EMULATED_CPUID, SYS), R(KVM_GET_MSR_INDEX_LIST, SYS), R(KVM_GET_MSR_FEATURE_INDEX_LIST, SYS),
	R(KVM_X86_GET_MCE_CAP_SUPPORTED, SYS), R(KVM_CREATE_VCPU, VM), R(KVM_SET_USER_MEMORY_REGION, VM), R(KVM_GET_DIRTY_LOG, VM),
	R(KVM_CLEAR_DIRTY_LOG, VM), R(KVM_SET_TSS_ADDR, VM), R(KVM_SET_IDENTITY_MAP_ADDR, VM), R(KVM_SET_NR_MMU_PAGES, VM), R(KVM_CREATE_IRQCHIP, VM),
	R(KVM_GET_IRQCHIP, VM), R(KVM_SET_IRQCHIP, VM), R(KVM_IRQ_LINE, VM), R(KVM_IRQ_LINE_STATUS, VM), R(KVM_SET_GSI_ROUTING, VM),
	R(KVM_SIGNAL_MSI, VM), R(KVM_IRQFD, VM), R(KVM_IOEVENTFD, VM), R(KVM_REGISTER_COALESCED_MMIO, VM), R(KVM_UNREGISTER_COALESCED_MMIO, VM),
	R(KVM_CREATE_PIT2, VM), R(KVM_GET_PIT2, VM), R(KVM_SET_PIT2, VM), R(KVM_REINJECT_CONTROL, VM), R(KVM_SET_BOOT_CPU_ID, VM), R(KVM_GET_CLOCK, VM),
	R(KVM_SET_CLOCK, VM), R(KVM_X86_SET_MSR_FILTER, VM), R(KVM_CREATE_DEVICE, VM), R(KVM_GET_TSC_KHZ, VM | VCPU), R(KVM_SET_TSC_KHZ, VM | VCPU),
	R(KVM_ENABLE_CAP, VM | VCPU), R(KVM_GET_STATS_FD, VM | VCPU), R(KVM_GET_MSRS, SYS | VCPU), R(KVM_RUN, VCPU), R(KVM_GET_REGS, VCPU),
	R(KVM_SET_REGS, VCPU), R(KVM_GET_SREGS, VCPU), R(KVM_SET_SREGS, VCPU), R(KVM_GET_SREGS2, VCPU), R(KVM_SET_SREGS2, VCPU), R(KVM_GET_FPU, VCPU),
	R(KVM_SET_FPU, VCPU), R(KVM_GET_XSAVE, VCPU), R(KVM_SET_XSAVE, VCPU), R(KVM_GET_XSAVE2, VCPU), R(KVM_GET_XCRS, VCPU), R(KVM_SET_XCRS, VCPU),
	R(KVM_SET_MSRS, VCPU), R(KVM_SET_CPUID, VCPU), R(KVM_SET_CPUID2, VCPU), R(KVM_GET_CPUID2, VCPU), R(KVM_GET_LAPIC, VCPU), R(KVM_SET_LAPIC, VCPU),
	R(KVM_GET_MP_STATE, VCPU), R(KVM_SET_MP_STATE, VCPU), R(KVM_GET_VCPU_EVENTS, VCPU), R(KVM_SET_VCPU_EVENTS, VCPU), R(KVM_GET_DEBUGREGS, VCPU),
	R(KVM_SET_DEBUGREGS, VCPU), R(KVM_SET_GUEST_DEBUG, VCPU), R(KVM_TRANSLATE, VCPU), R(KVM_INTERRUPT, VCPU), R(KVM_NMI, VCPU),
	R(KVM_SET_SIGNAL_MASK, VCPU), R(KVM_TPR_ACCESS_REPORTING, VCPU), R(KVM_SET_VAPIC_ADDR, VCPU), R(KVM_X86_SETUP_MCE, VCPU), R(KVM_X86_SET_MCE, VCPU),
	R(KVM_KVMCLOCK_CTRL, VCPU), R(KVM_GET_DEVICE_ATTR, SYS | VCPU | DEV), R(KVM_SET_DEVICE_ATTR, VCPU | DEV), R(KVM_HAS_DEVICE_ATTR, SYS | VCPU | DEV),
#undef R
};

/* What the kernel's files say to what they do not know. */
static void every_pair(const struct vm *v)
{
	struct kvm_create_device cd = {.type = KVM_DEV_TYPE_VFIO};
	int fd[5] = {v->sys, v->vm, v->vcpu}, want[5] = {EINVAL, ENOTTY, EINVAL, ENOTTY, ENOTTY};
	static const char *const kind[5] = {"the system", "a VM", "a vCPU", "a device", "a statistics file"};

	REQUIRE(ioctl(v->vm, KVM_CREATE_DEVICE, &cd) == 0);
	fd[3] = (int)cd.fd;
	fd[4] = ioctl(v->vm, KVM_GET_STATS_FD, 0ul);
	REQUIRE(fd[4] >= 0);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		for (int k = 0; k < 5; k++) {
			if (requests[i].on >> k & 1)
				continue;
			errno = 0;
			if (ioctl(fd[k], requests[i].request, 0ul) != -1 || errno != want[k]) {
				printf("%s on %s: errno %d (%s), want %d\n", requests[i].name, kind[k], errno, strerror(errno), want[k]);
				kt_failures++;
			}
		}
	close(fd[3]);
	close(fd[4]);
}

int main(void)
{
	struct vm v;
	struct kvm_regs r;
	struct kvm_msr_list l = {0};
	int null = open("/dev/null", O_RDWR);

	vm_open(&v);
	vm_vcpu(&v);
	every_pair(&v);
	CHECK_ERR(ioctl(v.vm, KVM_GET_REGS, &r), ENOTTY);
	CHECK_ERR(ioctl(v.vm, KVM_RUN, 0ul), ENOTTY);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_VM, 0ul), ENOTTY);
	CHECK_ERR(ioctl(v.vm, KVM_KVMCLOCK_CTRL, 0ul), ENOTTY);
	CHECK_ERR(ioctl(v.vm, 0xae7e, 0ul), ENOTTY);
	/* The system descriptor and vCPUs answer EINVAL to what nobody knows there. */
	CHECK_ERR(ioctl(v.sys, KVM_CREATE_VCPU, 0ul), EINVAL);
	CHECK_ERR(ioctl(v.sys, KVM_RUN, 0ul), EINVAL);
	CHECK_ERR(ioctl(v.sys, KVM_GET_REGS, &r), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_CREATE_VCPU, 1ul), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_CREATE_VM, 0ul), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_MSR_INDEX_LIST, &l), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_CREATE_IRQCHIP, 0ul), EINVAL);
	/* Not a KVM request at all. */
	CHECK_ERR(ioctl(v.vcpu, 0x5401, &r), EINVAL);
	CHECK_ERR(ioctl(v.sys, 0x5401, &r), EINVAL);
	CHECK_ERR(ioctl(v.vm, 0x5401, &r), ENOTTY);
	CHECK_ERR(ioctl(null, KVM_GET_API_VERSION, 0ul), ENOTTY);
	CHECK_ERR(ioctl(-2, KVM_GET_API_VERSION, 0ul), EBADF);
	CHECK_ERR(ioctl(1000, KVM_GET_API_VERSION, 0ul), EBADF);
	/* Same low byte, other request: dispatch is on the whole number. */
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN | 0x40040000, 0ul), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 1ul), EINVAL);
	return kt_end();
}
