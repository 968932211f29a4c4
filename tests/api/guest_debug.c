/* SPDX-License-Identifier: MIT */
/* KVM_SET_GUEST_DEBUG: single steps and a hardware breakpoint end with KVM_EXIT_DEBUG and say where. */
#include "kvmtest.h"

GUEST64(prog, "nop\n nop\n inc %eax\n nop\n out %al, $0x10\n nop\n hlt\n");

int main(void)
{
	struct vm v;
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};

	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog);
	kt_long(&v, v.vcpu, KT_CODE);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	for (unsigned i = 1; i <= 2; i++) {
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
		CHECK_EQ(v.run->debug.arch.exception, 1);
		CHECK_EQ(v.run->debug.arch.pc, KT_CODE + i);
		CHECK_EQ(v.run->debug.arch.dr6 & 0x4000, 0x4000);
	}
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	d.arch.debugreg[0] = KT_CODE + 4;
	d.arch.debugreg[7] = 0x402;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
	CHECK_EQ(v.run->debug.arch.pc, KT_CODE + 4);
	CHECK_EQ(v.run->debug.arch.dr6 & 1, 1);
	d.control = 0;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	CHECK_OUT(v.vcpu, v.run, 0x10, 1);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	return kt_end();
}
