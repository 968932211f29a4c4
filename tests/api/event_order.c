/* SPDX-License-Identifier: MIT */
/*
 * Of two events that wait when KVM_RUN begins, an interrupt that was on its way (KVM_SET_VCPU_EVENTS) and an NMI, the interrupt is delivered first and
 * the NMI before the first instruction of its handler. An NMI held back by the shadow of MOV SS comes so too when the next instruction faults.
 * An exception and an interrupt that are both on their way: the exception is delivered, and the interrupt is gone.
 */
#include "kvmtest.h"

/* 0x1000: handlers; the guest goes on at 0x1040, where it loads SS and then divides by zero. */
GUEST16(code, "irq: out %al, $0x20\n iret\n"
	      ".org code + 0x10\n nmi: out %al, $0x02\n iret\n"
	      ".org code + 0x20\n de: out %al, $0x03\n hlt\n"
	      ".org code + 0x40\n out %al, $0x04\n xor %cx, %cx\n mov %cx, %ss\n div %cx\n hlt\n");

static struct vm v;

static void vector(unsigned n, u16 at)
{
	((u16 *)v.mem)[2 * n] = at;
	((u16 *)v.mem)[2 * n + 1] = 0;
}

/* Only `port` follows. */
static void out_of(u16 port)
{
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, port);
}

int main(void)
{
	struct kvm_vcpu_events ev;

	vm_real(&v, code, code_end);
	vector(0, 0x1020);
	vector(2, 0x1010);
	vector(0x30, 0x1000);
	kt_set_rip(v.vcpu, 0x1040);
	REQUIRE(ioctl(v.vcpu, KVM_GET_VCPU_EVENTS, &ev) == 0);
	ev.interrupt.injected = 1;
	ev.interrupt.nr = 0x30;
	ev.nmi.pending = 1;
	ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	REQUIRE(ioctl(v.vcpu, KVM_SET_VCPU_EVENTS, &ev) == 0);
	out_of(0x02);
	out_of(0x20);
	out_of(0x04);

	/* At the DIV, in the shadow. */
	kt_set_rip(v.vcpu, 0x1046);
	REQUIRE(ioctl(v.vcpu, KVM_GET_VCPU_EVENTS, &ev) == 0);
	ev.interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS;
	ev.nmi.pending = 1;
	ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	REQUIRE(ioctl(v.vcpu, KVM_SET_VCPU_EVENTS, &ev) == 0);
	out_of(0x02);
	out_of(0x03);

	kt_set_rip(v.vcpu, 0x1040);
	memset(&ev, 0, sizeof(ev));
	ev.exception.injected = 1;
	ev.exception.nr = 0;
	ev.interrupt.injected = 1;
	ev.interrupt.nr = 0x30;
	REQUIRE(ioctl(v.vcpu, KVM_SET_VCPU_EVENTS, &ev) == 0);
	out_of(0x03);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	return kt_end();
}
