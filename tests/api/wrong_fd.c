/* SPDX-License-Identifier: MIT */
/* Requests on the wrong kind of descriptor, on none of ours, and unknown ones. */
#include "kvmtest.h"

int main(void)
{
	struct vm v;
	struct kvm_regs r;
	struct kvm_msr_list l = {0};
	int null = open("/dev/null", O_RDWR);

	vm_open(&v);
	vm_vcpu(&v);
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
