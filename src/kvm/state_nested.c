/* SPDX-License-Identifier: MIT */
/*
 * The state of nested virtualization, of which there is none: GET gives the header that says so, in the form of the host CPU's vendor, and SET takes
 * that header and nothing else. Cloud Hypervisor saves and restores it with every vCPU, without asking for KVM_CAP_NESTED_STATE.
 */
#include "kvm/kvm.h"

#include <errno.h>

#include "base/string.h"
#include "cpu/cpuid.h"

void vcpu_get_nested(const struct kvm_vcpu *v, struct kvm_nested_state *n)
{
	memset(n, 0, sizeof(*n));
	n->size = sizeof(*n);
	if (cpuid_host_is_amd()) {
		n->format = KVM_STATE_NESTED_FORMAT_SVM;
		n->flags = KVM_STATE_NESTED_GIF_SET;
	} else {
		n->format = KVM_STATE_NESTED_FORMAT_VMX;
		n->hdr.vmx.vmxon_pa = n->hdr.vmx.vmcs12_pa = ~0ull;
	}
}

int vcpu_set_nested(const struct kvm_vcpu *v, const struct kvm_nested_state *n)
{
	struct kvm_nested_state have;

	vcpu_get_nested(v, &have);
	if (n->size < have.size || n->format != have.format || n->flags != have.flags)
		return -EINVAL;
	if (n->format == KVM_STATE_NESTED_FORMAT_SVM)
		return 0;
	return n->hdr.vmx.vmxon_pa != ~0ull || n->hdr.vmx.vmcs12_pa != ~0ull || n->hdr.vmx.smm.flags ? -EINVAL : 0;
}
