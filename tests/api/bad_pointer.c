/* SPDX-License-Identifier: MIT */
/* A bad pointer is EFAULT for every call that takes one, and changes nothing. */
#include "kvmtest.h"

int main(void)
{
	struct vm v;
	struct kvm_regs a, b;
	struct kvm_pit_config pit = {0};
	static const struct {
		const char *name;
		unsigned long req;
	} vcpu[] = {
#define R(n) {#n, n}
		R(KVM_GET_REGS), R(KVM_SET_REGS), R(KVM_GET_SREGS), R(KVM_SET_SREGS), R(KVM_GET_FPU), R(KVM_SET_FPU), R(KVM_GET_MSRS),
		R(KVM_SET_MSRS), R(KVM_GET_MP_STATE), R(KVM_SET_MP_STATE), R(KVM_TRANSLATE), R(KVM_INTERRUPT), R(KVM_SET_GUEST_DEBUG),
		R(KVM_GET_VCPU_EVENTS), R(KVM_SET_VCPU_EVENTS), R(KVM_GET_DEBUGREGS), R(KVM_SET_DEBUGREGS), R(KVM_GET_XSAVE), R(KVM_SET_XSAVE),
		R(KVM_GET_XCRS), R(KVM_SET_XCRS), R(KVM_SET_CPUID2), R(KVM_GET_CPUID2), R(KVM_SET_SIGNAL_MASK),
		R(KVM_X86_SETUP_MCE), R(KVM_GET_SREGS2), R(KVM_SET_SREGS2), R(KVM_GET_XSAVE2), R(KVM_SET_CPUID), R(KVM_GET_LAPIC), R(KVM_SET_LAPIC),
		R(KVM_TPR_ACCESS_REPORTING), R(KVM_SET_VAPIC_ADDR), R(KVM_X86_SET_MCE), R(KVM_ENABLE_CAP), R(KVM_GET_DEVICE_ATTR), R(KVM_SET_DEVICE_ATTR),
		R(KVM_HAS_DEVICE_ATTR)},
	  vm[] = {R(KVM_SET_USER_MEMORY_REGION), R(KVM_GET_DIRTY_LOG), R(KVM_GET_CLOCK), R(KVM_SET_CLOCK), R(KVM_ENABLE_CAP), R(KVM_IOEVENTFD),
		  R(KVM_IRQFD), R(KVM_SIGNAL_MSI), R(KVM_CREATE_DEVICE), R(KVM_SET_GSI_ROUTING),
		  R(KVM_REGISTER_COALESCED_MMIO), R(KVM_UNREGISTER_COALESCED_MMIO), R(KVM_CREATE_PIT2), R(KVM_CLEAR_DIRTY_LOG),
		  R(KVM_GET_IRQCHIP), R(KVM_SET_IRQCHIP), R(KVM_IRQ_LINE), R(KVM_IRQ_LINE_STATUS), R(KVM_GET_PIT2),
		  R(KVM_SET_PIT2), R(KVM_REINJECT_CONTROL), R(KVM_X86_SET_MSR_FILTER)},
	  sys[] = {R(KVM_GET_MSR_INDEX_LIST), R(KVM_GET_MSR_FEATURE_INDEX_LIST), R(KVM_GET_SUPPORTED_CPUID), R(KVM_GET_EMULATED_CPUID),
		  R(KVM_GET_MSRS), R(KVM_X86_GET_MCE_CAP_SUPPORTED)};
#undef R

	vm_open(&v);
	/* With chips: without, some say so before they look at the pointer. */
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	CHECK_OK(ioctl(v.vm, KVM_CREATE_PIT2, &pit));
	vm_vcpu(&v);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_REGS, &a));
	for (size_t i = 0; i < sizeof(vcpu) / sizeof(vcpu[0]); i++) {
		errno = 0;
		if (ioctl(v.vcpu, vcpu[i].req, KT_BAD) != -1 || errno != EFAULT) {
			printf("%s with a bad pointer: errno %d\n", vcpu[i].name, errno);
			kt_failures++;
		}
	}
	for (size_t i = 0; i < sizeof(vm) / sizeof(vm[0]); i++) {
		errno = 0;
		if (ioctl(v.vm, vm[i].req, KT_BAD) != -1 || errno != EFAULT) {
			printf("%s with a bad pointer: errno %d\n", vm[i].name, errno);
			kt_failures++;
		}
	}
	for (size_t i = 0; i < sizeof(sys) / sizeof(sys[0]); i++) {
		errno = 0;
		if (ioctl(v.sys, sys[i].req, KT_BAD) != -1 || errno != EFAULT) {
			printf("%s with a bad pointer: errno %d\n", sys[i].name, errno);
			kt_failures++;
		}
	}
	CHECK_OK(ioctl(v.vcpu, KVM_GET_REGS, &b));
	CHECK(!memcmp(&a, &b, sizeof(a)));
	/* The kernel's half of the address space, and a structure that ends in an unmapped page. */
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_REGS, 0xffffffff80000000ul), EFAULT);
	{
		u8 *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		munmap(p + 4096, 4096);
		CHECK_ERR(ioctl(v.vcpu, KVM_GET_SREGS, p + 4096 - 64), EFAULT);
		CHECK_ERR(ioctl(v.vcpu, KVM_SET_SREGS, p + 4096 - 64), EFAULT);
		mprotect(p, 4096, PROT_READ);
		CHECK_ERR(ioctl(v.vcpu, KVM_GET_REGS, p), EFAULT);
	}
	return kt_end();
}
