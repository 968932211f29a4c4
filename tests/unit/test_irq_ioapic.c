/* SPDX-License-Identifier: MIT */
/* IOAPIC, GSI routing, MSI, split irqchip, irqfd. */
#include "irq_machine.h"

static void test_regs(void **state)
{
	assert_int_equal(ioapic_rd(1), 0x170011);
	ioapic_wr(0, 0xff000000);
	assert_int_equal(ioapic_rd(0), 0x0f000000);
	assert_int_equal(ioapic_rd(0x10), 0x10000);
	ioapic_wr(0x10, 0xffffffff);
	assert_int_equal(ioapic_rd(0x10), 0xffffffff & ~0x5000);
	ioapic_wr(0x11, 0xa5000000);
	assert_int_equal(ioapic_rd(0x11), 0xa5000000);
	assert_int_equal(ioapic_rd(0x40), 0xffffffff);
	u8 b = 1;
	assert_int_equal(iobus_write(&m.bus, IO_MMIO, NULL, 0xfec00000, 1, &b), 0);
	u64 q;
	assert_int_equal(iobus_read(&m.bus, IO_MMIO, NULL, 0xfec00010, 8, &q), 0);
	assert_true(q == 0x170011);
}

static void test_edge(void **state)
{
	outb(0x21, 0xff), outb(0xa1, 0xff);
	ioapic_pin(4, 0x34, 2);
	assert_int_equal(line(4, 1), 1);
	assert_int_equal(line(4, 1), 0);
	assert_int_equal(take(2), 0x34);
	apic_w(2, 0xb0, 0);
	assert_int_equal(take(2), -1);
	line(4, 0);
	assert_int_equal(line(4, 1), 1);
	assert_int_equal(take(2), 0x34);
	ioapic_pin(4, 0x10034, 2);
	line(4, 0);
	assert_int_equal(line(4, 1), -1);
}

static void test_level(void **state)
{
	ioapic_pin(20, 0x8050, 1);
	assert_int_equal(line(20, 1), 1);
	assert_int_equal(ioapic_rd(0x10 + 40) & 0x4000, 0x4000);
	assert_int_equal(take(1), 0x50);
	assert_int_equal(line(20, 1), -1);
	apic_w(1, 0xb0, 0); /* still up: again */
	assert_int_equal(take(1), 0x50);
	line(20, 0);
	apic_w(1, 0xb0, 0);
	assert_int_equal(take(1), -1);
	assert_int_equal(ioapic_rd(0x10 + 40) & 0x4000, 0);
	/* raised while masked, sent at unmasking */
	ioapic_pin(20, 0x18050, 1);
	assert_int_equal(line(20, 1), -1);
	ioapic_pin(20, 0x8050, 1);
	assert_int_equal(take(1), 0x50);
	/* edge and back resets Remote IRR */
	ioapic_wr(0x10 + 40, 0x10050);
	assert_int_equal(ioapic_rd(0x10 + 40) & 0x4000, 0);
	struct kvm_irqchip k = { .chip_id = KVM_IRQCHIP_IOAPIC };
	assert_int_equal(irqchip_get(&m.chip, &k), 0);
	assert_int_equal(k.chip.ioapic.irr, 1 << 20);
	assert_int_equal(k.chip.ioapic.base_address, 0xfec00000);
	assert_int_equal(k.chip.ioapic.redirtbl[20].fields.dest_id, 1);
	apic_w(1, 0xb0, 0);
	k.chip.ioapic.redirtbl[20].bits = 0x0200000000008051;
	assert_int_equal(irqchip_set(&m.chip, &k), 0);
	assert_int_equal(take(2), 0x51);
}

static void test_rtc_status(void **state)
{
	ioapic_pin(8, 0x38, 0);
	outb(0xa1, 0xff);
	assert_int_equal(line(8, 1), 1);
	line(8, 0);
	assert_int_equal(line(8, 1), 0); /* in IRR */
	line(8, 0);
	assert_int_equal(take(0), 0x38);
	assert_int_equal(line(8, 1), 0); /* in service */
	line(8, 0);
	apic_w(0, 0xb0, 0);
	assert_int_equal(line(8, 1), 1);
}

static struct kvm_irq_routing_entry pin_route(u32 gsi, u32 chip, u32 pin)
{
	return (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { chip, pin } };
}
static struct kvm_irq_routing_entry msi_route(u32 gsi, u32 addr, u32 data)
{
	return (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = addr, .data = data } };
}

static void test_routing(void **state)
{
	struct kvm_irq_routing_entry e[3];

	e[0] = pin_route(0, 0, 0), e[1] = pin_route(0, 2, 2), e[2] = msi_route(4095, 0xfee03000, 0x99);
	assert_int_equal(irqchip_set_routing(&m.chip, e, 3), 0);
	assert_int_equal(line(4095, 1), 1);
	assert_int_equal(take(3), 0x99);
	assert_int_equal(line(4095, 0), -1);
	assert_int_equal(line(4, 1), -1);
	assert_int_equal(line(0xffffffff, 1), -1);
	ioapic_pin(2, 0x33, 0);
	line(0, 1);
	assert_int_equal(take(0), 0x33);
	assert_true(pic_intr(&m.chip));
	e[2].gsi = 4096;
	assert_int_equal(irqchip_set_routing(&m.chip, e, 3), -EINVAL);
	e[2] = msi_route(0, 0xfee00000, 1); /* a GSI with pins takes no MSI */
	assert_int_equal(irqchip_set_routing(&m.chip, e, 3), -EINVAL);
	e[1] = pin_route(0, 0, 1);
	assert_int_equal(irqchip_set_routing(&m.chip, e, 2), -EINVAL);
	e[1] = pin_route(1, 1, 8);
	assert_int_equal(irqchip_set_routing(&m.chip, e, 2), -EINVAL);
	e[1] = pin_route(1, 2, 24);
	assert_int_equal(irqchip_set_routing(&m.chip, e, 2), -EINVAL);
	e[1] = pin_route(1, 3, 0);
	assert_int_equal(irqchip_set_routing(&m.chip, e, 2), -EINVAL);
	e[1] = pin_route(1, 2, 1), e[1].flags = 1;
	assert_int_equal(irqchip_set_routing(&m.chip, e, 2), -EINVAL);
	e[1].flags = 0, e[1].type = 4;
	assert_int_equal(irqchip_set_routing(&m.chip, e, 2), -EINVAL);
	assert_int_equal(line(4095, 1), 1); /* the old table stands */
	assert_int_equal(irqchip_set_routing(&m.chip, e, 0), 0);
	assert_int_equal(line(4095, 1), -1);
	assert_int_equal(irqchip_create(&m.chip), -EEXIST);
	struct kvm_msi k = { .flags = 1 };
	assert_int_equal(irqchip_signal_msi(&m.chip, &k), -EINVAL);
}

static void test_split(void **state)
{
	struct kvm_irq_routing_entry e[3];

	assert_int_equal(apic_r(0, 0x30), 0x1050014);
	e[0] = msi_route(0, 0xfee01000, 0x8061), e[1] = msi_route(1, 0xfee01000, 0x62), e[2] = msi_route(30, 0xfee01000, 0x8063);
	assert_int_equal(irqchip_set_routing(&m.chip, e, 3), 0);
	for (int v = 0x61; v <= 0x63; v++) {
		m.eoi_exit = -1;
		line(v == 0x63 ? 30 : (u32)v - 0x61, 1);
		assert_int_equal(take(1), v);
		apic_w(1, 0xb0, 0);
		assert_int_equal(m.eoi_exit, v == 0x61 ? v : -1);
	}
	line(0, 1);
	assert_int_equal(take(1), 0x61);
	e[0] = msi_route(0, 0xfee02000, 0x8061);
	assert_int_equal(irqchip_set_routing(&m.chip, e, 1), 0); /* in service when the route went elsewhere: still owed */
	apic_w(1, 0xb0, 0);
	assert_int_equal(m.eoi_exit, 0x61);
	e[0] = pin_route(0, 2, 0);
	assert_int_equal(irqchip_set_routing(&m.chip, e, 1), -EINVAL);
	struct kvm_irqchip k = { .chip_id = 0 };
	assert_int_equal(irqchip_get(&m.chip, &k), -ENXIO);
	struct kvm_pit_config c = { 0 };
	assert_int_equal(pit_create(&m.chip, &c), -ENOENT);
	struct kvm_irqfd a = { .fd = 0, .flags = KVM_IRQFD_FLAG_RESAMPLE };
	assert_int_equal(irqchip_irqfd(&m.chip, &a), -EINVAL);
}

static int irqfd(int fd, u32 gsi, u32 flags, int resample)
{
	struct kvm_irqfd a = { .fd = (u32)fd, .gsi = gsi, .flags = flags, .resamplefd = (u32)resample };
	return irqchip_irqfd(&m.chip, &a);
}
static void signal_fd(int fd)
{
	u64 one = 1;
	assert_int_equal(write(fd, &one, 8), 8);
}
static int wait_take(unsigned cpu)
{
	u64 end = now() + 1000 * MS;
	while (lapic_pending(&m.cpu[cpu]) < 0 && now() < end)
		usleep(200);
	return take(cpu);
}

static void test_irqfd(void **state)
{
	int fd = eventfd(0, 0), fd2 = eventfd(1, EFD_NONBLOCK), d;

	ioapic_pin(20, 0x60, 1);
	ioapic_pin(21, 0x71, 1);
	assert_int_equal(irqfd(fd, 4096, 0, 0), -EINVAL);
	assert_int_equal(irqfd(fd, 20, 4, 0), -EINVAL);
	assert_int_equal(irqfd(9999, 20, 0, 0), -EBADF);
	assert_int_equal(irqfd(-1, 20, 0, 0), -EBADF);
	int p[2];
	assert_int_equal(pipe(p), 0);
	assert_int_equal(irqfd(p[0], 20, 0, 0), -EINVAL);
	assert_int_equal(irqfd(fd, 20, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	assert_int_equal(irqfd(fd, 20, 0, 0), 0);
	assert_int_equal(irqfd(fd, 20, 0, 0), -EBUSY);
	d = dup(fd);
	assert_int_equal(irqfd(d, 21, 0, 0), -EBUSY);
	assert_int_equal(irqfd(fd2, 21, 0, 0), 0); /* signalled before */
	assert_int_equal(wait_take(1), 0x71);
	for (int i = 0; i < 20; i++) {
		signal_fd(fd);
		assert_int_equal(i ? wait_take(1) : -1, i ? 0x60 : -1);
		apic_w(1, 0xb0, 0);
		if (!i) {
			assert_int_equal(wait_take(1), 0x60);
			apic_w(1, 0xb0, 0);
		}
	}
	close(fd); /* our duplicate keeps it */
	signal_fd(d);
	assert_int_equal(wait_take(1), 0x60);
	apic_w(1, 0xb0, 0);
	assert_int_equal(irqfd(d, 21, KVM_IRQFD_FLAG_DEASSIGN, 0), 0); /* another GSI: stays */
	signal_fd(d);
	assert_int_equal(wait_take(1), 0x60);
	apic_w(1, 0xb0, 0);
	assert_int_equal(irqfd(d, 20, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	signal_fd(d);
	usleep(5000);
	assert_int_equal(take(1), -1);
	assert_int_equal(irqfd(d, 20, 0, 0), 0); /* and again: a count is waiting */
	assert_int_equal(wait_take(1), 0x60);
	close(d), close(fd2), close(p[0]), close(p[1]);
}

static void test_resample(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK), rs = eventfd(0, EFD_NONBLOCK);
	u64 v;

	ioapic_pin(20, 0x8060, 1);
	assert_int_equal(irqfd(fd, 20, KVM_IRQFD_FLAG_RESAMPLE, 9999), -EBADF);
	assert_int_equal(irqfd(fd, 20, KVM_IRQFD_FLAG_RESAMPLE, rs), 0);
	for (int i = 0; i < 3; i++) {
		signal_fd(fd);
		assert_int_equal(wait_take(1), 0x60);
		assert_int_equal(read(rs, &v, 8), -1);
		apic_w(1, 0xb0, 0);
		assert_int_equal(take(1), -1); /* lowered by the EOI */
		assert_int_equal(read(rs, &v, 8), 8);
	}
	/* The device's own line beside it. */
	signal_fd(fd);
	line(20, 1);
	assert_int_equal(wait_take(1), 0x60);
	apic_w(1, 0xb0, 0);
	assert_int_equal(take(1), 0x60);
	line(20, 0);
	apic_w(1, 0xb0, 0);
	assert_int_equal(take(1), -1);
	signal_fd(fd);
	assert_int_equal(wait_take(1), 0x60);
	assert_int_equal(irqfd(fd, 20, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	apic_w(1, 0xb0, 0);
	assert_int_equal(take(1), -1);
	close(fd), close(rs);
}

static void test_none(void **state)
{
	struct irqchip c;
	struct kvm_pit_state2 s;
	struct kvm_irqfd a = { .fd = 0 };

	assert_int_equal(irqchip_init(&c, &m_ops, &m.bus, m.svc), 0);
	assert_int_equal(irqchip_set_line(&c, 1, 1, NULL), -ENXIO);
	assert_int_equal(pit_get(&c, &s), -ENXIO);
	assert_int_equal(irqchip_irqfd(&c, &a), -EINVAL);
	assert_int_equal(irqchip_set_routing(&c, NULL, 0), -EINVAL);
	assert_false(pic_intr(&c));
	irqchip_destroy(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_regs), T(test_edge), T(test_level), T(test_rtc_status), T(test_routing), TS(test_split),
		T(test_irqfd), T(test_resample), T(test_none) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
