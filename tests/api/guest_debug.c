/* SPDX-License-Identifier: MIT */
/* KVM_SET_GUEST_DEBUG: single steps, each of the four hardware breakpoints, a watched write and INT3 end with KVM_EXIT_DEBUG and say where. */
#include "kvmtest.h"

GUEST64(prog, "nop\n nop\n inc %eax\n nop\n out %al, $0x10\n nop\n hlt\n"
	      "mov %eax, 0x9000\n 1: int3\n nop\n hlt\n");

int main(void)
{
	static const unsigned stops[4] = {1, 2, 4, 5};
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

	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	for (unsigned i = 0; i < 4; i++)
		d.arch.debugreg[i] = KT_CODE + stops[i];
	d.arch.debugreg[7] = 0x4aa;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	kt_set_rip(v.vcpu, KT_CODE);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
		CHECK_EQ(v.run->debug.arch.pc, KT_CODE + stops[i]);
		CHECK_EQ(v.run->debug.arch.dr6 & 15, 1u << i);
		d.arch.debugreg[7] &= ~(2ull << 2 * i);
		CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	}
	/* Four bytes at 0x9000, written by the instruction before the INT3, which then is the VMM's too. */
	d.control |= KVM_GUESTDBG_USE_SW_BP;
	d.arch.debugreg[3] = 0x9000;
	d.arch.debugreg[7] = 0xd0000480;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	kt_set_rip(v.vcpu, KT_CODE + 9);
	if (!kt_run(v.vcpu) && v.run->exit_reason == KVM_EXIT_INTERNAL_ERROR && !kt_usekvm()) {
		printf("this /dev/kvm, which emulates everything, watches no data and knows no INT3\n");
		return kt_end();
	}
	CHECK_EQ(v.run->exit_reason, KVM_EXIT_DEBUG);
	CHECK_EQ(v.run->debug.arch.exception, 1);
	CHECK_EQ(v.run->debug.arch.pc, KT_CODE + 16);
	CHECK_EQ(v.run->debug.arch.dr6 & 15, 8);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
	CHECK_EQ(v.run->debug.arch.exception, 3);
	CHECK_EQ(v.run->debug.arch.pc, KT_CODE + 16);
	kt_set_rip(v.vcpu, KT_CODE + 17);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	/* A step over an OUT ends behind it, once the VMM has had the data. */
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	kt_set_rip(v.vcpu, KT_CODE + 5);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
	CHECK_EQ(v.run->debug.arch.pc, KT_CODE + 7);
	CHECK_EQ(v.run->debug.arch.dr6 & 0x4000, 0x4000);
	/* General detect of the VMM's DR7: before the guest's access to a debug register. */
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	d.arch.debugreg[7] = 0x2400;
	memcpy(v.mem + KT_CODE, "\x0f\x21\xc0\xf4", 4); /* mov %dr0, %rax; hlt */
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	kt_set_rip(v.vcpu, KT_CODE);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
	CHECK_EQ(v.run->debug.arch.pc, KT_CODE);
	CHECK_EQ(v.run->debug.arch.dr6, 0xffff2ff0);
	d.control = 0;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	return kt_end();
}
