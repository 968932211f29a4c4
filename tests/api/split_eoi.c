/* SPDX-License-Identifier: MIT */
/*
 * Split irqchip: EOI of a level-triggered vector that a route of the VMM's IOAPIC names ends with KVM_EXIT_IOAPIC_EOI, others do not.
 * KVM_INTERRUPT is the VMM's PIC: taken only when LINT0 lets ExtINT through.
 */
#include "kvmtest.h"

/* FS is based at the LAPIC. Handlers of 0x41 and 0x42 write their vector to port 0x12 and end the interrupt; 0x43 (ExtINT) does not. */
GUEST16(prog, "1: sti\n mov $1000, %cx\n2: loop 2b\n cli\n out %al, $0x10\n jmp 1b\n");
GUEST16(h41, "push %ax\n mov $0x41, %al\n out %al, $0x12\n movl $0, %fs:0xb0\n pop %ax\n iret\n");
GUEST16(h42, "push %ax\n mov $0x42, %al\n out %al, $0x12\n movl $0, %fs:0xb0\n pop %ax\n iret\n");
GUEST16(h43, "push %ax\n mov $0x43, %al\n out %al, $0x12\n pop %ax\n iret\n");

static void handler(struct vm *v, unsigned vector, const u8 *from, const u8 *to)
{
	const u16 iv[2] = {(u16)(0x2000 + (vector & 15) * 0x40), 0};

	memcpy(v->mem + vector * 4, iv, sizeof(iv));
	memcpy(v->mem + iv[0], from, (size_t)(to - from));
}

static void routes(struct vm *v)
{
	struct {
		struct kvm_irq_routing h;
		struct kvm_irq_routing_entry e[2];
	} r = {.h = {.nr = 2}};

	for (u32 i = 0; i < 2; i++)
		r.e[i] = (struct kvm_irq_routing_entry){.gsi = 4 + i, .type = KVM_IRQ_ROUTING_MSI};
	r.e[0].u.msi.address_lo = r.e[1].u.msi.address_lo = 0xfee00000;
	r.e[0].u.msi.data = 0xc041; /* level, asserted */
	r.e[1].u.msi.data = 0x42;   /* edge */
	CHECK_OK(ioctl(v->vm, KVM_SET_GSI_ROUTING, &r));
}

static void pulse(struct vm *v, u32 gsi)
{
	struct kvm_irq_level l = {.irq = gsi, .level = 1};

	CHECK_OK(ioctl(v->vm, KVM_IRQ_LINE, &l));
	l.level = 0;
	CHECK_OK(ioctl(v->vm, KVM_IRQ_LINE, &l));
}

/* Go on to the next exit that is not the guest's round mark; a slow backend may take some rounds. */
static u32 next(struct vm *v)
{
	for (int i = 0; i < 50; i++) {
		if (kt_run(v->vcpu) < 0)
			break;
		if (v->run->exit_reason != KVM_EXIT_IO || v->run->io.port != 0x10)
			return v->run->exit_reason;
	}
	return 0xffff;
}

static void set_lint0(struct vm *v, u32 lvt)
{
	struct kvm_lapic_state l;

	CHECK_OK(ioctl(v->vcpu, KVM_GET_LAPIC, &l));
	*(u32 *)(l.regs + 0xf0) = 0x1ff;
	*(u32 *)(l.regs + 0x350) = lvt;
	CHECK_OK(ioctl(v->vcpu, KVM_SET_LAPIC, &l));
}

static void expect(struct vm *v, u8 vector)
{
	CHECK_EQ(next(v), KVM_EXIT_IO);
	CHECK_EQ(v->run->io.port, 0x12);
	CHECK_EQ(*kt_io_data(v->run), vector);
}

int main(void)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_interrupt ext = {.irq = 0x43};
	struct kvm_sregs s;
	struct vm v;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_ENABLE_CAP, &cap));
	vm_vcpu(&v);
	routes(&v);
	kt_load(&v, prog);
	handler(&v, 0x41, h41, h41_end);
	handler(&v, 0x42, h42, h42_end);
	handler(&v, 0x43, h43, h43_end);
	kt_real(v.vcpu, KT_CODE);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_SREGS, &s));
	s.fs.base = 0xfee00000;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_SREGS, &s));
	set_lint0(&v, 0x10700); /* masked */
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);

	pulse(&v, 4);
	expect(&v, 0x41);
	CHECK_EQ(next(&v), KVM_EXIT_IOAPIC_EOI);
	CHECK_EQ(v.run->eoi.vector, 0x41);
	pulse(&v, 5);
	expect(&v, 0x42);
	CHECK_EQ(next(&v), 0xffff); /* no exit for it */

	/* LINT0 masked: not ready, and what is queued waits. */
	CHECK_EQ(v.run->ready_for_interrupt_injection, 0);
	CHECK_OK(ioctl(v.vcpu, KVM_INTERRUPT, &ext));
	CHECK_ERR(ioctl(v.vcpu, KVM_INTERRUPT, &ext), EEXIST);
	CHECK_EQ(next(&v), 0xffff);
	set_lint0(&v, 0x700); /* ExtINT, open */
	expect(&v, 0x43);
	CHECK_EQ(next(&v), 0xffff);
	/* A window is asked for: the guest has interrupts on in its inner loop only. */
	v.run->request_interrupt_window = 1;
	CHECK_EQ(next(&v), KVM_EXIT_IRQ_WINDOW_OPEN);
	CHECK_EQ(v.run->ready_for_interrupt_injection, 1);
	CHECK_EQ(v.run->if_flag, 1);
	v.run->request_interrupt_window = 0;
	ext.irq = 256;
	CHECK_ERR(ioctl(v.vcpu, KVM_INTERRUPT, &ext), EINVAL);
	return kt_end();
}
