/* SPDX-License-Identifier: MIT */
/* KVM_DEBUG_GUEST (0x87), the first form of guest debugging: four breakpoints and single step. Today's kernel has dropped it. */
#include "kvmtest.h"

GUEST64(prog, "1: nop\n nop\n inc %eax\n nop\n out %al, $0x10\n jmp 1b\n");

int main(void)
{
	static const unsigned stops[4] = {1, 2, 4, 5};
	struct kvm_debug_guest d = {.enabled = 1};
	struct vm v;

	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog);
	kt_long(&v, v.vcpu, KT_CODE);
	d.breakpoints[2].enabled = 1;
	d.breakpoints[2].address = KT_CODE + 2;
	if (ioctl(v.vcpu, KVM_DEBUG_GUEST, &d) < 0 && !kt_usekvm()) {
		CHECK(errno == EINVAL || errno == ENOTTY);
		if (kt_failures)
			return kt_end();
		SKIP("no KVM_DEBUG_GUEST here");
	}
	for (int i = 0; i < 2; i++) {
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
		CHECK_EQ(v.run->debug.arch.pc, KT_CODE + 2);
		/* As with hardware: it goes on when the breakpoint is out of the way. */
		d.breakpoints[2].enabled = 0;
		d.singlestep = 1;
		CHECK_OK(ioctl(v.vcpu, KVM_DEBUG_GUEST, &d));
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
		CHECK_EQ(v.run->debug.arch.pc, KT_CODE + 4);
		d.breakpoints[2].enabled = 1;
		d.singlestep = 0;
		CHECK_OK(ioctl(v.vcpu, KVM_DEBUG_GUEST, &d));
		CHECK_OUT(v.vcpu, v.run, 0x10, i + 1);
	}
	/* All four at once, on the four instructions behind the first. */
	d.singlestep = 0;
	for (unsigned i = 0; i < 4; i++) {
		d.breakpoints[i].enabled = 1;
		d.breakpoints[i].address = KT_CODE + stops[i];
	}
	CHECK_OK(ioctl(v.vcpu, KVM_DEBUG_GUEST, &d));
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
		CHECK_EQ(v.run->debug.arch.pc, KT_CODE + stops[i]);
		CHECK_EQ(v.run->debug.arch.dr6 & 15, 1u << i);
		d.breakpoints[i].enabled = 0;
		CHECK_OK(ioctl(v.vcpu, KVM_DEBUG_GUEST, &d));
	}
	d.enabled = 0;
	CHECK_OK(ioctl(v.vcpu, KVM_DEBUG_GUEST, &d));
	CHECK_OUT(v.vcpu, v.run, 0x10, 3);
	return kt_end();
}
