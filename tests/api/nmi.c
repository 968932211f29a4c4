/* SPDX-License-Identifier: MIT */
/* KVM_NMI: delivered through vector 2 whatever IF is; a second one waits for IRET; shown by KVM_GET_VCPU_EVENTS. */
#include "kvmtest.h"

GUEST16(prog,
	"movw $isr - prog + 0x1000, 2*4\n movw $0, 2*4+2\n"
	"cli\n out %al, $0x10\n mov $2000, %cx\n1: loop 1b\n out %al, $0x11\n hlt\n"
	"isr: incb 0x3000\n mov 0x3000, %al\n out %al, $0x12\n iret\n");

int main(void)
{
	struct vm v;
	struct kvm_vcpu_events e;

	vm_real(&v, prog, prog_end);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x10);
	CHECK_OK(ioctl(v.vcpu, KVM_NMI, 0ul));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_VCPU_EVENTS, &e));
	CHECK_EQ(e.nmi.pending, 1);
	CHECK_EQ(e.nmi.masked, 0);
	CHECK_OUT(v.vcpu, v.run, 0x12, 1);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_VCPU_EVENTS, &e));
	CHECK_EQ(e.nmi.masked, 1);
	CHECK_EQ(e.nmi.pending, 0);
	CHECK_OK(ioctl(v.vcpu, KVM_NMI, 0ul)); /* in the handler: after IRET */
	CHECK_OUT(v.vcpu, v.run, 0x12, 2);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x11);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_VCPU_EVENTS, &e));
	CHECK_EQ(e.nmi.masked, 0);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	return kt_end();
}
