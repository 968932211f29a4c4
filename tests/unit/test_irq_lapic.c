/* SPDX-License-Identifier: MIT */
/* Local APIC: registers, priorities, IPIs, modes, state, timer. */
#include "irq_machine.h"

static void test_reset(void **state)
{
	struct lapic l = { 0 };

	lapic_init(&l, &m.chip, 0, true);
	assert_int_equal(l.base, 0xfee00900);
	l.base = 0;
	lapic_init(&l, &m.chip, 3, true);
	assert_int_equal(l.base, 0xfee00800);
	u32 v;
	static const u32 want[][2] = { { 0x20, 3u << 24 }, { 0x30, 0x50014 }, { 0x80, 0 }, { 0xe0, 0xffffffff }, { 0xf0, 0xff },
		{ 0x320, 0x10000 }, { 0x350, 0x10000 }, { 0x360, 0x10000 }, { 0x370, 0x10000 }, { 0x380, 0 }, { 0x390, 0 }, { 0x3e0, 0 } };
	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
		lapic_mmio_read(&l, want[i][0], 4, &v);
		assert_int_equal(v, want[i][1]);
	}
}

static void test_priority(void **state)
{
	assert_int_equal(lapic_pending(&m.cpu[1]), -1);
	assert_int_equal(msi(0xfee01000, 0x41), 1);
	assert_int_equal(msi(0xfee01000, 0x52), 1);
	assert_int_equal(m.kicks[1], 2);
	assert_int_equal(take(1), 0x52);
	assert_int_equal(take(1), -1);
	assert_int_equal(apic_r(1, 0xa0), 0x50);
	msi(0xfee01000, 0x5f);
	assert_int_equal(take(1), -1); /* same class */
	msi(0xfee01000, 0x60);
	assert_int_equal(take(1), 0x60);
	apic_w(1, 0xb0, 0);
	assert_int_equal(take(1), -1);
	apic_w(1, 0xb0, 0);
	assert_int_equal(take(1), 0x5f);
	apic_w(1, 0xb0, 0);
	lapic_set_tpr(&m.cpu[1], 4);
	assert_int_equal(apic_r(1, 0x80), 0x40);
	assert_int_equal(take(1), -1);
	u32 k = m.kicks[1];
	apic_w(1, 0x80, 0x3f);
	assert_true(m.kicks[1] > k);
	assert_int_equal(lapic_get_tpr(&m.cpu[1]), 3);
	assert_int_equal(take(1), 0x41);
	apic_w(1, 0xb0, 0);
	apic_w(1, 0xf0, 0xff); /* software disabled: not accepted */
	assert_int_equal(msi(0xfee01000, 0x70), 0);
	assert_int_equal(take(1), -1);
}

static void test_ipi(void **state)
{
	apic_w(0, 0x310, 2u << 24);
	apic_w(0, 0x300, 0x4055);
	assert_int_equal(apic_r(0, 0x300), 0x4055);
	assert_int_equal(take(2), 0x55);
	apic_w(0, 0x300, 0xc4066); /* all but self */
	assert_int_equal(take(0), -1);
	for (unsigned i = 1; i < NCPU; i++)
		assert_int_equal(take(i), 0x66);
	apic_w(0, 0x300, 0x44077); /* self */
	assert_int_equal(take(0), 0x77);
	apic_w(0, 0x310, 1u << 24);
	for (int i = 0; i < 3; i++)
		apic_w(0, 0x300, 0x4400);
	assert_int_equal(m.cpu[1].nmi_pending, 2);
	apic_w(0, 0x300, 0x4500);
	assert_int_equal(m.cpu[1].init_pending, 1);
	apic_w(0, 0x300, 0x8500); /* de-assert */
	apic_w(0, 0x300, 0x469a);
	assert_int_equal(m.cpu[1].init_pending, 3);
	assert_int_equal(m.cpu[1].sipi_vector, 0x9a);
}

static void test_logical(void **state)
{
	for (unsigned i = 0; i < NCPU; i++)
		apic_w(i, 0xd0, (1u << i) << 24);
	assert_int_equal(msi(0xfee0a004, 0x80), 2);
	assert_int_equal(take(1), 0x80);
	assert_int_equal(take(3), 0x80);
	assert_int_equal(take(0), -1);
	assert_int_equal(msi(0xfee0f004, 0x191), 1); /* lowest priority: one of four, the same each time */
	int who = -1;
	for (unsigned i = 0; i < NCPU; i++)
		if (take(i) == 0x91)
			who = (int)i;
	assert_int_equal(who, 0x91 % 4);
	assert_int_equal(msi(0xfeeff000, 0xa0), 4); /* broadcast */
	for (unsigned i = 0; i < NCPU; i++) {
		apic_w(i, 0xe0, 0x0fffffff); /* cluster */
		apic_w(i, 0xd0, (0x10u << (i / 2 * 4) | 1u << (i & 1)) << 24);
	}
	m.kicks[0] = m.kicks[1] = 0;
	assert_int_equal(msi(0xfee13004, 0xb0), 2);
	assert_true(m.kicks[0] && m.kicks[1]);
}

/* Two LAPICs that the guest has given one id both take what is sent to it. */
static void test_same_id(void **state)
{
	assert_int_equal(msi(0xfee00000, 0x61), 1);
	assert_int_equal(take(0), 0x61);
	apic_w(1, 0x20, 0);
	assert_int_equal(msi(0xfee00000, 0x72), 2);
	assert_int_equal(take(0), 0x72);
	assert_int_equal(take(1), 0x72);
	apic_w(1, 0x20, 1u << 24);
	assert_int_equal(msi(0xfee00000, 0x83), 1);
	assert_int_equal(msi(0xfee01000, 0x94), 1);
	assert_int_equal(take(1), 0x94);
}

static void test_x2apic(void **state)
{
	struct lapic *l = &m.cpu[1];
	struct kvm_lapic_state s;
	u64 v;

	assert_int_equal(lapic_rdmsr(l, 0x802, &v), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x1b, 0xfee00400, false), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x1b, 0xfee00c01, false), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x1b, 0xfee00c00, false), 0);
	assert_int_equal(lapic_wrmsr(l, 0x1b, 0xfee00800, false), -EINVAL);
	assert_int_equal(lapic_rdmsr(l, 0x802, &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(lapic_rdmsr(l, 0x80d, &v), 0);
	assert_int_equal(v, 2);
	assert_int_equal(lapic_rdmsr(l, 0x80e, &v), -EINVAL);
	assert_int_equal(lapic_rdmsr(l, 0x831, &v), -EINVAL);
	assert_int_equal(lapic_rdmsr(l, 0x80b, &v), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x808, 1ull << 32, false), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x802, 1, false), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x83f, 0x123, false), -EINVAL);
	assert_int_equal(lapic_wrmsr(l, 0x83f, 0x77, false), 0);
	assert_int_equal(take(1), 0x77);
	assert_int_equal(lapic_wrmsr(l, 0x830, 0x200004055, false), 0);
	assert_int_equal(take(2), 0x55);
	assert_int_equal(lapic_wrmsr(l, 0x830, 0x2055, false), -EINVAL);
	assert_int_equal(lapic_rdmsr(l, 0x830, &v), 0);
	assert_int_equal(v, 0x200004055);
	assert_int_equal(lapic_get_state(l, &s), 0);
	memcpy(&v, s.regs + 0x20, 4);
	assert_int_equal((u32)v, 1u << 24);
	m.chip.x2apic_32bit = true;
	assert_int_equal(lapic_set_state(l, &s), -EINVAL);
	assert_int_equal(lapic_get_state(l, &s), 0);
	memcpy(&v, s.regs + 0x20, 4);
	assert_int_equal((u32)v, 1);
	assert_int_equal(lapic_set_state(l, &s), 0);
	assert_int_equal(lapic_set_base(l, 0xfee00800, true), 0);
	assert_int_equal(apic_r(1, 0x20), 1u << 24);
	lapic_set_features(l, false, false, true, 40);
	assert_int_equal(apic_r(1, 0x30), 0x60014);
	assert_int_equal(lapic_set_base(l, 0xfee00c00, true), -EINVAL);
	assert_int_equal(lapic_rdmsr(l, 0x1234, &v), -ENOENT);
}

static void test_mmio_forms(void **state)
{
	u8 b[8];
	u32 v = 0x1ff;

	lapic_mmio_read(&m.cpu[2], 0x23, 1, b);
	assert_int_equal(b[0], 2);
	lapic_mmio_write(&m.cpu[2], 0xf1, 4, &v);
	lapic_mmio_write(&m.cpu[2], 0xf0, 2, &v);
	for (u32 off = 0; off < 0x1000; off++)
		for (unsigned len = 1; len <= 8; len *= 2)
			lapic_mmio_read(&m.cpu[2], off, len, b);
	for (u32 off = 0; off < 0x1000; off += 4)
		if (off != 0x300)
			lapic_mmio_write(&m.cpu[2], off, 4, &v);
}

static void test_timer(void **state)
{
	struct lapic *l = &m.cpu[0];
	struct kvm_lapic_state s;
	u32 v;

	apic_w(0, 0x3e0, 0xb); /* divide by 1 */
	apic_w(0, 0x320, 0x40);
	apic_w(0, 0x380, 20000000);
	assert_in_range(apic_r(0, 0x390), 5000000, 20000000);
	assert_true(lapic_next_expiry(l) > now());
	__atomic_store_n(&m.kicks[0], 0, __ATOMIC_SEQ_CST);
	lapic_run_timer(l);
	assert_int_equal(take(0), -1);
	assert_true(wait_nonzero(&m.kicks[0], 1));
	assert_true(now() >= lapic_next_expiry(l));
	lapic_run_timer(l);
	assert_int_equal(take(0), 0x40);
	assert_int_equal(apic_r(0, 0x390), 0);
	assert_true(lapic_next_expiry(l) == ~0ull);
	apic_w(0, 0xb0, 0);
	/* periodic, with periods missed */
	apic_w(0, 0x320, 0x20041);
	apic_w(0, 0x380, 2000000);
	usleep(11000);
	lapic_run_timer(l);
	assert_int_equal(take(0), 0x41);
	assert_true(lapic_next_expiry(l) > now() - MS && lapic_next_expiry(l) <= now() + 2 * MS);
	apic_w(0, 0xb0, 0);
	assert_int_equal(lapic_get_state(l, &s), 0);
	memcpy(&v, s.regs + 0x390, 4);
	assert_in_range(v, 0, 2000000);
	apic_w(0, 0x380, 0);
	assert_true(lapic_next_expiry(l) == ~0ull);
	assert_int_equal(lapic_set_state(l, &s), 0);
	assert_true(lapic_next_expiry(l) != ~0ull);
	apic_w(0, 0x320, 0x30041); /* masked */
	usleep(5000);
	lapic_run_timer(l);
	assert_int_equal(take(0), -1);
	apic_w(0, 0x380, 0);
	/* divider change scales what is left */
	apic_w(0, 0x320, 0x40);
	apic_w(0, 0x380, 1000000000);
	apic_w(0, 0x3e0, 0x0); /* by 2 */
	assert_true(lapic_next_expiry(l) > now() + 1800 * MS);
	assert_in_range(apic_r(0, 0x390), 900000000, 1000000000);
}

static void test_deadline(void **state)
{
	struct lapic *l = &m.cpu[0];
	u64 v;

	assert_int_equal(lapic_wrmsr(l, 0x6e0, 1, false), 0); /* not in the mode: ignored */
	assert_int_equal(take(0), -1);
	apic_w(0, 0x320, 0x40042);
	apic_w(0, 0x380, 1000); /* ignored */
	assert_true(lapic_next_expiry(l) == ~0ull);
	assert_int_equal(lapic_wrmsr(l, 0x6e0, 1, false), 0);
	assert_int_equal(take(0), 0x42); /* the past: at once */
	apic_w(0, 0xb0, 0);
	assert_int_equal(lapic_rdmsr(l, 0x6e0, &v), 0);
	assert_int_equal(v, 0);
	u64 t = now() + 10 * MS;
	assert_int_equal(lapic_wrmsr(l, 0x6e0, t, false), 0);
	assert_int_equal(lapic_rdmsr(l, 0x6e0, &v), 0);
	assert_true(v == t);
	__atomic_store_n(&m.kicks[0], 0, __ATOMIC_SEQ_CST);
	assert_true(wait_nonzero(&m.kicks[0], 1));
	assert_true(now() >= t);
	lapic_run_timer(l);
	assert_int_equal(take(0), 0x42);
	lapic_wrmsr(l, 0x6e0, ~0ull, false);
	assert_true(lapic_next_expiry(l) > now());
	lapic_wrmsr(l, 0x6e0, 0, false);
	assert_true(lapic_next_expiry(l) == ~0ull);
	lapic_wrmsr(l, 0x6e0, now() + 1000 * MS, false);
	apic_w(0, 0x320, 0x42); /* leaving the mode disarms */
	assert_true(lapic_next_expiry(l) == ~0ull);
}

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_reset), T(test_priority), T(test_ipi), T(test_logical), T(test_same_id), T(test_x2apic), T(test_mmio_forms),
		T(test_timer), T(test_deadline) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
