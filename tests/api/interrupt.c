/* SPDX-License-Identifier: MIT */
/*
 * KVM_INTERRUPT without an interrupt chip: taken when IF allows; the window exit tells when; kvm_run shows if_flag and readiness.
 * Vectors above 255 are EINVAL, with an interrupt chip it is ENXIO.
 */
#include "kvmtest.h"

GUEST16(prog,
	"movw $isr - prog + 0x1000, 0x20*4\n movw $0, 0x20*4+2\n"
	"out %al, $0x10\n"          /* IF clear */
	"sti\n mov $2000, %cx\n1: loop 1b\n out %al, $0x11\n" /* time for a backend that looks only now and then */
	"hlt\n"
	"isr: mov $0x77, %al\n out %al, $0x12\n iret\n");

static int inject(int vcpu, u32 n)
{
	struct kvm_interrupt i = {.irq = n};

	return ioctl(vcpu, KVM_INTERRUPT, &i);
}

int main(void)
{
	struct vm v;

	vm_real(&v, prog, prog_end);
	CHECK_ERR(inject(v.vcpu, 256), EINVAL);
	CHECK_ERR(inject(v.vcpu, 0xffffffff), EINVAL);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x10);
	CHECK_EQ(v.run->if_flag, 0);
	CHECK_EQ(v.run->ready_for_interrupt_injection, 0);
	v.run->request_interrupt_window = 1;
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IRQ_WINDOW_OPEN);
	CHECK_EQ(v.run->if_flag, 1);
	CHECK_EQ(v.run->ready_for_interrupt_injection, 1);
	v.run->request_interrupt_window = 0;
	CHECK_OK(inject(v.vcpu, 0));
	CHECK_OK(inject(v.vcpu, 255));
	CHECK_OK(inject(v.vcpu, 0x20)); /* replaces the others: they do not add up */
	CHECK_OUT(v.vcpu, v.run, 0x12, 0x77);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x11);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	/* An interrupt ends HLT. */
	CHECK_OK(inject(v.vcpu, 0x20));
	CHECK_OUT(v.vcpu, v.run, 0x12, 0x77);
	{
		struct vm w;

		vm_open(&w);
		CHECK_OK(ioctl(w.vm, KVM_CREATE_IRQCHIP, 0ul));
		vm_vcpu(&w);
		CHECK_ERR(inject(w.vcpu, 0x20), ENXIO);
	}
	return kt_end();
}
