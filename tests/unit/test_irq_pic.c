/* SPDX-License-Identifier: MIT */
/* The 8259 pair and the 8254. */
#include "irq_machine.h"

static void test_basic(void **state)
{
	pic_init_pair(1);
	assert_false(pic_intr(&m.chip));
	assert_int_equal(line(4, 1) >= 1, 1);
	assert_true(pic_intr(&m.chip));
	assert_true(m.kicks[0] > 0); /* the boot CPU's LVT0 is ExtINT */
	assert_int_equal(m.kicks[1], 0);
	line(4, 0);
	assert_int_equal(line(4, 1), 0); /* still requested: coalesced */
	assert_int_equal(pic_inta(&m.chip), 0x24);
	assert_false(pic_intr(&m.chip));
	outb(0x20, 0x0b);
	assert_int_equal(inb(0x20), 0x10);
	line(3, 1); /* higher than 4 */
	assert_true(pic_intr(&m.chip));
	line(7, 1); /* lower */
	assert_int_equal(pic_inta(&m.chip), 0x23);
	assert_false(pic_intr(&m.chip));
	outb(0x20, 0x20);
	outb(0x20, 0x64);
	assert_int_equal(pic_inta(&m.chip), 0x27);
	outb(0x20, 0x20);
	assert_int_equal(inb(0x20), 0);
	assert_int_equal(pic_inta(&m.chip), 0x27); /* spurious */
	assert_int_equal(inb(0x20), 0);
	line(4, 0);
	outb(0x21, 0x10);
	assert_int_equal(line(4, 1), -1); /* masked, and IOAPIC masked too */
	outb(0x21, 0);
	assert_int_equal(pic_inta(&m.chip), 0x24);
}

static void test_slave(void **state)
{
	pic_init_pair(1);
	line(10, 1);
	assert_int_equal(pic_inta(&m.chip), 0x2a);
	line(9, 1); /* nested in the slave: needs special fully nested mode */
	assert_false(pic_intr(&m.chip));
	outb(0xa0, 0x20), outb(0x20, 0x20);
	assert_int_equal(pic_inta(&m.chip), 0x29);
	outb(0xa0, 0x20), outb(0x20, 0x20);
	/* level: a line that falls before INTA gives spurious 15 */
	outb(0x4d1, 0xff);
	assert_int_equal(inb(0x4d1), 0xde);
	line(11, 1);
	line(11, 0);
	assert_int_equal(pic_inta(&m.chip), 0x2f);
	outb(0xa0, 0x0b);
	assert_int_equal(inb(0xa0), 0);
	outb(0x20, 0x20);
	line(11, 1);
	assert_int_equal(pic_inta(&m.chip), 0x2b);
	outb(0xa0, 0x20), outb(0x20, 0x20);
	assert_true(pic_intr(&m.chip)); /* still up */
	line(11, 0);
	assert_int_equal(pic_inta(&m.chip), 0x2f);
}

static void test_modes(void **state)
{
	pic_init_pair(3); /* automatic EOI */
	line(5, 1);
	assert_int_equal(pic_inta(&m.chip), 0x25);
	outb(0x20, 0x0b);
	assert_int_equal(inb(0x20), 0);
	pic_init_pair(1);
	outb(0x20, 0xc3); /* 3 is lowest: 4 highest */
	for (u32 i = 2; i < 8; i++)
		line(i, 0), i != 2 ? line(i, 1) : 0;
	assert_int_equal(pic_inta(&m.chip), 0x24);
	outb(0x20, 0xa0); /* rotate on non-specific EOI: 4 lowest */
	assert_int_equal(pic_inta(&m.chip), 0x25);
	outb(0x21, 0x20);
	assert_false(pic_intr(&m.chip)); /* 6 is below 5 in service */
	outb(0x20, 0x68);
	assert_true(pic_intr(&m.chip)); /* special mask: masked 5 does not hold 6 up */
	outb(0x20, 0x0c);
	assert_int_equal(inb(0x20), 0x86); /* poll */
	outb(0x20, 0x0b);
	assert_int_equal(inb(0x20), 0x60);
	outb(0x20, 0x48);
	struct kvm_irqchip k = { .chip_id = KVM_IRQCHIP_PIC_MASTER };
	assert_int_equal(irqchip_get(&m.chip, &k), 0);
	assert_int_equal(k.chip.pic.isr, 0x60);
	assert_int_equal(k.chip.pic.imr, 0x20);
	assert_int_equal(k.chip.pic.irq_base, 0x20);
	k.chip.pic.isr = 0;
	assert_int_equal(irqchip_set(&m.chip, &k), 0);
	assert_true(pic_intr(&m.chip));
	k.chip_id = 3;
	assert_int_equal(irqchip_get(&m.chip, &k), -EINVAL);
}

static void make_pit(void)
{
	struct kvm_pit_config cfg = { .flags = KVM_PIT_SPEAKER_DUMMY };

	assert_int_equal(pit_create(&m.chip, &cfg), 0);
	assert_int_equal(pit_create(&m.chip, &cfg), -EEXIST);
}

static void pit_load(u8 control, u16 count)
{
	unsigned ch = control >> 6;

	outb(0x43, control);
	outb(0x40 + ch, count & 0xff);
	outb(0x40 + ch, count >> 8);
}

static void test_pit_count(void **state)
{
	make_pit();
	pit_load(0xb0, 60000); /* channel 2, mode 0 */
	outb(0x61, 1);
	usleep(10000);
	outb(0x43, 0x80);
	u16 c = inb(0x42);
	c |= inb(0x42) << 8;
	assert_true(c <= 60000 - 11900);
	outb(0x43, 0xe8); /* read back status */
	assert_int_equal(inb(0x42) & 0x3f, 0x30);
	assert_int_equal(inb(0x61) & 0x21, 0x01);
	usleep(50000);
	assert_int_equal(inb(0x61) & 0x21, 0x21);
	pit_load(0xb4, 1000);
	for (int i = 0; i < 100; i++) {
		outb(0x43, 0x80);
		c = inb(0x42);
		c |= inb(0x42) << 8;
		assert_in_range(c, 1, 1000);
	}
}

static void test_pit_ticks(void **state)
{
	struct kvm_pit_state2 s;
	unsigned n = 0;

	make_pit();
	pic_init_pair(1);
	pit_load(0x34, 2386); /* 2 ms */
	usleep(41000);        /* nobody takes them: they are owed */
	u64 t = now();
	while (n < 20 && now() - t < 5 * MS)
		if (pic_intr(&m.chip)) {
			assert_int_equal(pic_inta(&m.chip), 0x20);
			outb(0x20, 0x20);
			n++;
		}
	assert_int_equal(n, 20);
	assert_int_equal(pit_reinject(&m.chip, false), 0);
	usleep(20000);
	for (n = 0; n < 10 && pic_intr(&m.chip); n++) {
		pic_inta(&m.chip);
		outb(0x20, 0x20);
	}
	assert_in_range(n, 1, 3);
	assert_int_equal(pit_get(&m.chip, &s), 0);
	assert_int_equal(s.channels[0].count, 2386);
	assert_int_equal(s.channels[0].mode, 2);
	s.flags = KVM_PIT_FLAGS_HPET_LEGACY;
	assert_int_equal(pit_set(&m.chip, &s), 0);
	while (pic_intr(&m.chip)) {
		pic_inta(&m.chip);
		outb(0x20, 0x20);
	}
	usleep(10000);
	assert_false(pic_intr(&m.chip));
	s.flags = 0;
	assert_int_equal(pit_set(&m.chip, &s), 0);
	usleep(10000);
	assert_true(pic_intr(&m.chip));
}

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_basic), T(test_slave), T(test_modes), T(test_pit_count), T(test_pit_ticks) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
