/* SPDX-License-Identifier: MIT */
/*
 * Requests that VMMs make once or never, each with its rules: identity map, MMU pages, PIT reinjection, boot CPU, MCE banks and events, the
 * paused flag of kvmclock, XSAVE2, emulated CPUID, TPR reporting, VAPIC address.
 */
#include "kvmtest.h"

GUEST16(exits, "1: out %al, $0x10\n jmp 1b\n");

#define CLOCK_PAGE 0x5000ull
#define MSR_CLOCK 0x4b564d01u
#define VALID (1ull << 63)
#define UNCORRECTED (1ull << 61)
#define SPOILT (1ull << 57)

static void before_vcpus(void)
{
	struct kvm_mp_state mp;
	struct kvm_sregs s;
	u64 at = 0xfeffc000;
	struct vm v;
	int cpu[2];

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_SET_IDENTITY_MAP_ADDR, &at));
	CHECK_ERR(ioctl(v.vm, KVM_SET_IDENTITY_MAP_ADDR, KT_BAD), EFAULT);
	CHECK_ERR(ioctl(v.vm, KVM_SET_NR_MMU_PAGES, 63ul), EINVAL);
	CHECK_OK(ioctl(v.vm, KVM_SET_NR_MMU_PAGES, 64ul));
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	CHECK_OK(ioctl(v.vm, KVM_SET_BOOT_CPU_ID, 1ul));
	for (unsigned long i = 0; i < 2; i++) {
		cpu[i] = ioctl(v.vm, KVM_CREATE_VCPU, i);
		REQUIRE(cpu[i] >= 0);
		CHECK_OK(ioctl(cpu[i], KVM_GET_SREGS, &s));
		CHECK_EQ(s.apic_base >> 8 & 1, i);
		CHECK_OK(ioctl(cpu[i], KVM_GET_MP_STATE, &mp));
		CHECK_EQ(mp.mp_state, i ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
	}
	CHECK_ERR(ioctl(v.vm, KVM_SET_BOOT_CPU_ID, 0ul), EBUSY);
	CHECK_ERR(ioctl(v.vm, KVM_SET_IDENTITY_MAP_ADDR, &at), EINVAL);
}

static void reinject(void)
{
	struct kvm_reinject_control c = {.pit_reinject = 1};
	struct kvm_pit_config pit = {0};
	struct vm v;

	vm_open(&v);
	CHECK_ERR(ioctl(v.vm, KVM_REINJECT_CONTROL, KT_BAD), EFAULT);
	CHECK_ERR(ioctl(v.vm, KVM_REINJECT_CONTROL, &c), ENXIO);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	CHECK_ERR(ioctl(v.vm, KVM_REINJECT_CONTROL, &c), ENXIO);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_PIT2, &pit));
	CHECK_OK(ioctl(v.vm, KVM_REINJECT_CONTROL, &c));
	c.pit_reinject = 0;
	CHECK_OK(ioctl(v.vm, KVM_REINJECT_CONTROL, &c));
}

static void machine_checks(void)
{
	struct kvm_x86_mce m = {.status = VALID | 0x88, .addr = 0x1234000, .misc = 0x55, .bank = 1};
	u64 supported = 0, cap, val;
	struct vm v;

	vm_real(&v, exits, exits_end);
	CHECK_OK(ioctl(v.sys, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported));
	CHECK_EQ(supported & 0xff, 0); /* the number of banks is not in it */
	int banks = kt_cap(v.sys, KVM_CAP_MCE);
	CHECK(banks >= 10);
	cap = 0;
	CHECK_ERR(ioctl(v.vcpu, KVM_X86_SETUP_MCE, &cap), EINVAL); /* no bank */
	cap = (u64)banks + 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_X86_SETUP_MCE, &cap), EINVAL);
	cap = 2 | 1ull << 40;
	CHECK_ERR(ioctl(v.vcpu, KVM_X86_SETUP_MCE, &cap), EINVAL);
	cap = 2;
	CHECK_OK(ioctl(v.vcpu, KVM_X86_SETUP_MCE, &cap));
	CHECK_EQ(kt_get_msr(v.vcpu, 0x179, &val), 1);
	CHECK_EQ(val, cap);
	/* A corrected error is in its bank, and nothing else happens. */
	CHECK_OK(ioctl(v.vcpu, KVM_X86_SET_MCE, &m));
	CHECK_EQ(kt_get_msr(v.vcpu, 0x405, &val), 1);
	CHECK_EQ(val, m.status);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x406, &val), 1);
	CHECK_EQ(val, m.addr);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x407, &val), 1);
	CHECK_EQ(val, m.misc);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x401, &val), 1);
	CHECK_EQ(val, 0);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	m.bank = 2;
	CHECK_ERR(ioctl(v.vcpu, KVM_X86_SET_MCE, &m), EINVAL);
	m.bank = 0;
	m.status = 0x88;
	CHECK_ERR(ioctl(v.vcpu, KVM_X86_SET_MCE, &m), EINVAL);
	/* One that is not corrected, but asks for no action, is kept as well. */
	m.status = VALID | UNCORRECTED | 0x90;
	CHECK_OK(ioctl(v.vcpu, KVM_X86_SET_MCE, &m));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x401, &val), 1);
	CHECK_EQ(val, m.status);
	/* One that spoils the processor's state, where the guest takes no machine checks, shuts it down. */
	m.status |= SPOILT;
	CHECK_OK(ioctl(v.vcpu, KVM_X86_SET_MCE, &m));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_SHUTDOWN);
}

static void paused_clock(void)
{
	struct vm v;

	vm_real(&v, exits, exits_end);
	CHECK_ERR(ioctl(v.vcpu, KVM_KVMCLOCK_CTRL, 0ul), EINVAL); /* no clock page */
	CHECK_EQ(kt_set_msr(v.vcpu, MSR_CLOCK, CLOCK_PAGE | 1), 1);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.mem[CLOCK_PAGE + 29] & 2, 0); /* flags: PVCLOCK_GUEST_STOPPED */
	CHECK_OK(ioctl(v.vcpu, KVM_KVMCLOCK_CTRL, 0ul));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.mem[CLOCK_PAGE + 29] & 2, 2);
}

static void xsave2(void)
{
	struct kvm_xsave *a = calloc(1, 1 << 20), *b = calloc(1, sizeof(*b));
	struct vm v;

	vm_real(&v, exits, exits_end);
	int size = kt_cap(v.vm, KVM_CAP_XSAVE2);
	CHECK(size >= 4096 && size < 1 << 20);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_XSAVE, b));
	((u8 *)b)[160 + 3 * 16 + 5] = 0x77;
	((u8 *)b)[512] |= 3;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_XSAVE, b));
	memset((u8 *)a + size, 0xa5, 4096);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_XSAVE2, a));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_XSAVE, b));
	CHECK(!memcmp(a, b, 4096));
	CHECK_EQ(((u8 *)a)[160 + 3 * 16 + 5], 0x77);
	for (int i = 0; i < 4096; i++)
		if (((u8 *)a)[size + i] != 0xa5) {
			CHECK(!"no more than KVM_CAP_XSAVE2 bytes are written");
			break;
		}
	free(a);
	free(b);
}

static void emulated_cpuid(void)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 100 * sizeof(c->entries[0]));
	int sys = kt_open();
	bool movbe = false;

	CHECK_ERR(ioctl(sys, KVM_GET_EMULATED_CPUID, c), E2BIG);
	c->nent = 100;
	CHECK_OK(ioctl(sys, KVM_GET_EMULATED_CPUID, c));
	CHECK(c->nent >= 2 && c->nent < 100);
	for (u32 i = 0; i < c->nent && i < 100; i++)
		movbe |= c->entries[i].function == 1 && c->entries[i].ecx & 1u << 22;
	CHECK(movbe);
	free(c);
	close(sys);
}

static void lapic_helpers(void)
{
	struct kvm_tpr_access_ctl t = {.enabled = 1};
	struct kvm_vapic_addr a = {.vapic_addr = 0x6000};
	struct vm v;

	vm_open(&v);
	vm_vcpu(&v);
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_VAPIC_ADDR, &a), EINVAL);
	close(v.vcpu);
	close(v.vm);
	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_VAPIC_ADDR, &a));
	CHECK_OK(ioctl(v.vcpu, KVM_TPR_ACCESS_REPORTING, &t));
	t.flags = 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_TPR_ACCESS_REPORTING, &t), EINVAL);
}

int main(void)
{
	before_vcpus();
	reinject();
	machine_checks();
	paused_clock();
	xsave2();
	emulated_cpuid();
	lapic_helpers();
	return kt_end();
}
