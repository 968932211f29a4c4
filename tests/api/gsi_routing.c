/* SPDX-License-Identifier: MIT */
/* KVM_SET_GSI_ROUTING: limits and errors; a table that takes the default routes away does so. */
#include "irqguest.h"

int main(void)
{
	struct vm v;
	struct {
		struct kvm_irq_routing h;
		struct kvm_irq_routing_entry e[4];
	} r;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	irq_guest(&v, false);
	memset(&r, 0, sizeof(r));
	r.h.nr = 1;
	r.h.flags = 1;
	CHECK_ERR(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.h.flags = 0;
	r.h.nr = 100000;
	CHECK_ERR(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.h.nr = 1;
	r.e[0].gsi = 4;
	r.e[0].type = 77;
	CHECK_ERR(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	r.e[0].u.irqchip.irqchip = 9;
	CHECK_ERR(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].u.irqchip.irqchip = KVM_IRQCHIP_PIC_MASTER;
	r.e[0].u.irqchip.pin = 99;
	CHECK_ERR(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].gsi = 5000;
	r.e[0].u.irqchip.pin = 4;
	CHECK_ERR(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r), EINVAL);
	/* After those errors the default routes still stand. */
	CHECK_OK(irq_line(&v, 4, 1));
	CHECK_IRQ(&v, 8 + 4);
	CHECK_OK(irq_line(&v, 4, 0));
	/* GSI 50 is now line 3, and nothing else is routed. */
	r.e[0].gsi = 50;
	r.e[0].u.irqchip.pin = 3;
	CHECK_OK(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r));
	CHECK_OK(irq_line(&v, 50, 1));
	CHECK_IRQ(&v, 8 + 3);
	CHECK_OK(irq_line(&v, 4, 1));
	CHECK_QUIET(&v);
	r.h.nr = 0;
	CHECK_OK(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r));
	CHECK_OK(irq_line(&v, 50, 0));
	CHECK_OK(irq_line(&v, 50, 1));
	CHECK_QUIET(&v);
	return kt_end();
}
