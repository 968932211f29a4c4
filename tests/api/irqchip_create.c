/* SPDX-License-Identifier: MIT */
/* Interrupt chips: what may be made when and how often, and what fails without them. */
#include "kvmtest.h"

int main(void)
{
	struct vm v;
	struct kvm_irq_level l = {.irq = 4, .level = 1};
	struct kvm_irqchip c = {.chip_id = 0};
	struct kvm_lapic_state lapic;
	struct kvm_pit_config pit = {0};
	struct kvm_pit_state2 ps;
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x30};
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_HALTED};
	int e = eventfd(0, 0);
	struct kvm_irqfd fd = {.fd = (u32)e, .gsi = 4};

	vm_open(&v);
	CHECK_ERR(ioctl(v.vm, KVM_IRQ_LINE, &l), ENXIO);
	CHECK_ERR(ioctl(v.vm, KVM_GET_IRQCHIP, &c), ENXIO);
	CHECK_ERR(ioctl(v.vm, KVM_SET_IRQCHIP, &c), ENXIO);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_PIT2, &pit), ENOENT);
	CHECK_ERR(ioctl(v.vm, KVM_GET_PIT2, &ps), ENXIO);
	CHECK_ERR(ioctl(v.vm, KVM_IRQFD, &fd), EINVAL);
	CHECK_ERR(ioctl(v.vm, KVM_SIGNAL_MSI, &msi), EINVAL);
	vm_vcpu(&v);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_LAPIC, &lapic), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_LAPIC, &lapic), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_MP_STATE, &mp), EINVAL);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul), EINVAL); /* after a vCPU */
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EEXIST);

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul), EEXIST);
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EEXIST);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_PIT2, &pit));
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_PIT2, &pit), EEXIST);
	c.chip_id = 9;
	CHECK_ERR(ioctl(v.vm, KVM_GET_IRQCHIP, &c), EINVAL);
	for (u32 i = 0; i < 3; i++) {
		c.chip_id = i;
		CHECK_OK(ioctl(v.vm, KVM_GET_IRQCHIP, &c));
		CHECK_OK(ioctl(v.vm, KVM_SET_IRQCHIP, &c));
	}

	vm_open(&v);
	cap.args[0] = 5000;
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 24;
	CHECK_OK(ioctl(v.vm, KVM_ENABLE_CAP, &cap));
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EEXIST);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul), EEXIST);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_PIT2, &pit), ENOENT);
	CHECK_ERR(ioctl(v.vm, KVM_GET_IRQCHIP, &c), ENXIO);
	vm_vcpu(&v);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_LAPIC, &lapic));
	/* Capabilities that cannot be enabled. */
	cap.cap = KVM_CAP_IRQFD;
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.cap = KVM_CAP_TSC_DEADLINE_TIMER;
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.cap = 100000;
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	return kt_end();
}
