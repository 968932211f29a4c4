/* SPDX-License-Identifier: MIT */
/*
 * The IOAPIC: a pin set up through KVM_SET_IRQCHIP delivers its vector; level-triggered pins come again until the line falls; a
 * resample irqfd lowers its line at EOI and says so on the second eventfd.
 */
#include "irqguest.h"

static void set_pin(struct vm *v, unsigned pin, u64 entry)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_IOAPIC};

	REQUIRE(ioctl(v->vm, KVM_GET_IRQCHIP, &c) == 0);
	c.chip.ioapic.redirtbl[pin].bits = entry;
	REQUIRE(ioctl(v->vm, KVM_SET_IRQCHIP, &c) == 0);
}

int main(void)
{
	struct vm v;
	int e = eventfd(0, EFD_NONBLOCK), again = eventfd(0, EFD_NONBLOCK);
	struct kvm_irqfd fd = {.fd = (u32)e, .gsi = 20, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = (u32)again};
	u64 n = 1;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	irq_guest(&v, true);
	set_pin(&v, 18, 0x61);           /* edge */
	set_pin(&v, 19, 0x62 | 0x8000);  /* level */
	set_pin(&v, 20, 0x63 | 0x8000);
	CHECK_OK(irq_line(&v, 18, 1));
	CHECK_IRQ(&v, 0x61);
	CHECK_QUIET(&v);
	CHECK_OK(irq_line(&v, 18, 0));
	CHECK_OK(irq_line(&v, 19, 1));
	CHECK_OUT(v.vcpu, v.run, 0x12, 0x62);
	CHECK_OUT(v.vcpu, v.run, 0x12, 0x62); /* the line is still up: again at once */
	CHECK_OK(irq_line(&v, 19, 0));
	/* One more may have been latched in the LAPIC. */
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	if (v.run->io.port == 0x12)
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x11);
	CHECK_QUIET(&v);
	CHECK_OK(ioctl(v.vm, KVM_IRQFD, &fd));
	REQUIRE(write(e, &n, 8) == 8);
	CHECK_OUT(v.vcpu, v.run, 0x12, 0x63);
	/* Not before the EOI. (A backend that acknowledges at delivery is early: docs/status.md.) */
	if (kt_usekvm())
		CHECK_ERR(read(again, &n, 8), EAGAIN);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x11);
	CHECK_EQ(read(again, &n, 8), 8);
	CHECK_QUIET(&v);
	/* Masked pin. */
	set_pin(&v, 18, 0x61 | 0x10000);
	CHECK_OK(irq_line(&v, 18, 1));
	CHECK_QUIET(&v);
	return kt_end();
}
