/* SPDX-License-Identifier: MIT */
/* With an in-kernel LAPIC the second vCPU waits for INIT and SIPI: uninitialized, then runnable by KVM_SET_MP_STATE; halted ones sleep. */
#include "kvmtest.h"

GUEST16(prog, "mov $9, %al\n out %al, $0x10\n hlt\n");

int main(void)
{
	struct vm v;
	struct kvm_mp_state mp;
	struct kvm_run *run;
	int b;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	b = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(b >= 0);
	run = kt_map_run(&v, b);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	CHECK_OK(ioctl(b, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_UNINITIALIZED);
	run->immediate_exit = 1;
	CHECK_ERR(ioctl(b, KVM_RUN, 0ul), EINTR);
	run->immediate_exit = 0;
	mp.mp_state = KVM_MP_STATE_RUNNABLE;
	CHECK_OK(ioctl(b, KVM_SET_MP_STATE, &mp));
	kt_load(&v, prog);
	kt_real(b, KT_CODE);
	CHECK_OUT(b, run, 0x10, 9);
	return kt_end();
}
