/* SPDX-License-Identifier: MIT */
/*
 * An INT3 that came to the VMM and is none of its breakpoints is handed back, by KVM_SET_GUEST_DEBUG or KVM_SET_VCPU_EVENTS: the guest's
 * handler returns behind the instruction, whose length counts, as if nobody had debugged.
 */
#include "kvmtest.h"

#define HANDLER 0x2000u

GUEST16(prog, "int3\n .byte 0x2e, 0xcc\n nop\n hlt\n"); /* the second one has a prefix */
GUEST16(handler, "mov %sp, %bp\n mov (%bp), %ax\n out %ax, $0x10\n iret\n");

static void hand_back(struct vm *v, struct kvm_guest_debug *d, bool events)
{
	struct kvm_vcpu_events e;

	if (!events) {
		d->control |= KVM_GUESTDBG_INJECT_BP;
		CHECK_OK(ioctl(v->vcpu, KVM_SET_GUEST_DEBUG, d));
		d->control &= ~(u32)KVM_GUESTDBG_INJECT_BP;
		return;
	}
	CHECK_OK(ioctl(v->vcpu, KVM_GET_VCPU_EVENTS, &e));
	CHECK_EQ(e.exception.injected, 0);
	e.exception.injected = 1;
	e.exception.nr = 3;
	CHECK_OK(ioctl(v->vcpu, KVM_SET_VCPU_EVENTS, &e));
}

int main(void)
{
	struct vm v;
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP };

	vm_open(&v);
	vm_vcpu(&v);
	memcpy(v.mem + HANDLER, handler, (size_t)(handler_end - handler));
	for (int events = 0; events < 2; events++) {
		kt_load(&v, prog);
		kt_real(v.vcpu, KT_CODE);
		v.mem[12] = HANDLER & 0xff;
		v.mem[13] = HANDLER >> 8;
		CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &d));
		for (unsigned at = 0, len = 1; at < 3; at += len++) {
			CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
			CHECK_EQ(v.run->debug.arch.exception, 3);
			CHECK_EQ(v.run->debug.arch.pc, KT_CODE + at);
			hand_back(&v, &d, events);
			CHECK_OUT(v.vcpu, v.run, 0x10, KT_CODE + at + len);
		}
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	}
	return kt_end();
}
