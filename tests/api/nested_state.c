/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET_NESTED_STATE and KVM_SET_NESTED_STATE of a vCPU whose guest uses no nested virtualization: a header alone, which may be set again.
 * Monitors do so without looking at KVM_CAP_NESTED_STATE.
 */
#include "kvmtest.h"

GUEST16(prog, "hlt\n");

int main(void)
{
	struct vm v;
	struct {
		struct kvm_nested_state s;
		u8 data[16384];
	} n = {.s = {.size = sizeof(n)}}, again;

	vm_real(&v, prog, prog_end);
	n.s.size = sizeof(n.s) - 1;
	if (!kt_usekvm() && ioctl(v.vcpu, KVM_GET_NESTED_STATE, &n) < 0 && errno == EINVAL)
		SKIP("this kernel's backend keeps no nested state");
	n.s.size = sizeof(n.s) - 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_NESTED_STATE, &n), E2BIG);
	CHECK_EQ(n.s.size, sizeof(n.s));
	n.s.size = sizeof(n);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_NESTED_STATE, &n));
	CHECK_EQ(n.s.size, sizeof(n.s));
	CHECK_EQ(n.s.flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING), 0);
	if (n.s.format == KVM_STATE_NESTED_FORMAT_SVM) {
		CHECK_EQ(n.s.flags, KVM_STATE_NESTED_GIF_SET);
	} else {
		CHECK_EQ(n.s.format, KVM_STATE_NESTED_FORMAT_VMX);
		CHECK_EQ(n.s.hdr.vmx.vmxon_pa, ~0ull);
		CHECK_EQ(n.s.hdr.vmx.vmcs12_pa, ~0ull);
	}
	CHECK_OK(ioctl(v.vcpu, KVM_SET_NESTED_STATE, &n));
	again = n;
	again.s.format ^= 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_NESTED_STATE, &again), EINVAL);
	again = n;
	again.s.size = sizeof(n.s) - 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_NESTED_STATE, &again), EINVAL);
	again = n;
	again.s.flags |= KVM_STATE_NESTED_GUEST_MODE;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_NESTED_STATE, &again), EINVAL);
	again = n;
	again.s.flags |= 0x8000;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_NESTED_STATE, &again), EINVAL);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_NESTED_STATE, 8), EFAULT);
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_NESTED_STATE, 8), EFAULT);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	return kt_end();
}
