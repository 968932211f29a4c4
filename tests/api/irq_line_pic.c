/* SPDX-License-Identifier: MIT */
/* KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS through the PIC pair into a guest that sleeps in HLT: edge, priority, slave lines, status. */
#include "irqguest.h"

int main(void)
{
	struct vm v;
	struct kvm_irq_level l = {.irq = 5, .level = 1};

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	irq_guest(&v, false);
	CHECK_OK(irq_line(&v, 4, 1));
	CHECK_IRQ(&v, 8 + 4);
	CHECK_QUIET(&v); /* edge: still high, no second one */
	CHECK_OK(irq_line(&v, 4, 0));
	CHECK_OK(irq_line(&v, 4, 1));
	CHECK_IRQ(&v, 8 + 4);
	CHECK_OK(irq_line(&v, 4, 0));
	/* The slave. */
	CHECK_OK(irq_line(&v, 12, 1));
	CHECK_IRQ(&v, 0x70 + 4);
	CHECK_OK(irq_line(&v, 12, 0));
	/* Two at once: the lower line first (both are acknowledged inside the first CHECK_IRQ's handler). */
	CHECK_OK(irq_line(&v, 7, 1));
	CHECK_OK(irq_line(&v, 3, 1));
	CHECK_OUT(v.vcpu, v.run, 0x12, 8 + 3);
	CHECK_OUT(v.vcpu, v.run, 0x12, 8 + 7);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x11);
	CHECK_OK(irq_line(&v, 7, 0));
	CHECK_OK(irq_line(&v, 3, 0));
	CHECK_OK(ioctl(v.vm, KVM_IRQ_LINE_STATUS, &l));
	CHECK((int)l.status > 0);
	CHECK_IRQ(&v, 8 + 5);
	l.level = 0;
	CHECK_OK(ioctl(v.vm, KVM_IRQ_LINE_STATUS, &l));
	/* A GSI nobody routes. */
	CHECK_OK(irq_line(&v, 1000, 1));
	CHECK_QUIET(&v);
	return kt_end();
}
