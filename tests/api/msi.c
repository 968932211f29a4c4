/* SPDX-License-Identifier: MIT */
/* KVM_SIGNAL_MSI and MSI routes into a guest; what it returns; 8-bit destinations and broadcast. */
#include "irqguest.h"

int main(void)
{
	struct vm v;
	struct kvm_msi m = {.address_lo = 0xfee00000, .data = 0x51};
	struct {
		struct kvm_irq_routing h;
		struct kvm_irq_routing_entry e[1];
	} r = {.h = {.nr = 1}};
	int e = eventfd(0, 0);
	struct kvm_irqfd fd = {.fd = (u32)e, .gsi = 30};
	u64 one = 1;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	irq_guest(&v, true);
	CHECK_EQ(ioctl(v.vm, KVM_SIGNAL_MSI, &m), 1);
	CHECK_IRQ(&v, 0x51);
	m.address_lo = 0xfeeff000; /* all */
	m.data = 0x52;
	CHECK_EQ(ioctl(v.vm, KVM_SIGNAL_MSI, &m), 1);
	CHECK_IRQ(&v, 0x52);
	m.address_lo = 0xfee07000; /* APIC id 7 does not exist */
	CHECK(ioctl(v.vm, KVM_SIGNAL_MSI, &m) <= 0);
	m.flags = 0x80;
	CHECK_ERR(ioctl(v.vm, KVM_SIGNAL_MSI, &m), EINVAL);
	/* A route of type MSI on a GSI above the pins, raised by irqfd. */
	r.e[0].gsi = 30;
	r.e[0].type = KVM_IRQ_ROUTING_MSI;
	r.e[0].u.msi.address_lo = 0xfee00000;
	r.e[0].u.msi.data = 0x53;
	CHECK_OK(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r));
	CHECK_OK(ioctl(v.vm, KVM_IRQFD, &fd));
	REQUIRE(write(e, &one, 8) == 8);
	CHECK_IRQ(&v, 0x53);
	/* The route changes under a live irqfd. */
	r.e[0].u.msi.data = 0x54;
	CHECK_OK(ioctl(v.vm, KVM_SET_GSI_ROUTING, &r));
	REQUIRE(write(e, &one, 8) == 8);
	CHECK_IRQ(&v, 0x54);
	CHECK_QUIET(&v);
	return kt_end();
}
