/* SPDX-License-Identifier: MIT */
/* The PIT: channel 0 as one-shot and periodic brings IRQ 0; KVM_GET_PIT2 and KVM_SET_PIT2 round trip; the speaker port. */
#include "irqguest.h"

int main(void)
{
	struct vm v;
	struct kvm_pit_config cfg = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_pit_state2 a, b;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	CHECK_OK(ioctl(v.vm, KVM_CREATE_PIT2, &cfg));
	irq_guest(&v, false);
	CHECK_OK(ioctl(v.vm, KVM_GET_PIT2, &a));
	CHECK_QUIET(&v); /* nothing programmed */
	a.channels[0].mode = 2;
	a.channels[0].count = 11932; /* 10 ms */
	a.channels[0].gate = 1;
	CHECK_OK(ioctl(v.vm, KVM_SET_PIT2, &a));
	for (int ticks = 0; ticks < 3 && !kt_failures;) { /* on a busy host the next tick may come before the guest has slept again */
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
		if (v.run->io.port == 0x12) {
			CHECK_EQ(*kt_io_data(v.run), 8);
			ticks++;
		} else {
			CHECK_EQ(v.run->io.port, 0x11);
		}
	}
	CHECK_OK(ioctl(v.vm, KVM_GET_PIT2, &b));
	CHECK_EQ(b.channels[0].mode, 2);
	CHECK_EQ(b.channels[0].count, 11932);
	a.channels[0].mode = 0xff; /* stop */
	a.channels[0].count = 0;
	CHECK_OK(ioctl(v.vm, KVM_SET_PIT2, &a));
	return kt_end();
}
