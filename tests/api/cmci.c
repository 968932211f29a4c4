/* SPDX-License-Identifier: MIT */
/*
 * Errors that need no action now (UCNA): KVM_X86_SET_MCE records them in the bank, and raises the LVT's CMCI if the guest has asked the bank for that;
 * MCi_CTL2 is there with MCG_CMCI_P only.
 */
#include "kvmtest.h"

#define CMCI_P (1ull << 10)
#define BANK 7
#define CTL2 (0x280 + BANK)
#define VECTOR 0xa9

static int msr(int vcpu, u32 index, u64 *data, bool set)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry e; } m = {{.nmsrs = 1}, {.index = index, .data = *data}};
	int r = ioctl(vcpu, set ? KVM_SET_MSRS : KVM_GET_MSRS, &m);

	*data = m.e.data;
	return r;
}

static bool waiting(int vcpu)
{
	struct kvm_lapic_state s;

	CHECK_OK(ioctl(vcpu, KVM_GET_LAPIC, &s));
	return *(u32 *)(s.regs + 0x200 + VECTOR / 32 * 16) >> VECTOR % 32 & 1;
}

int main(void)
{
	struct kvm_x86_mce e = {.status = 0xbc00000000010090ull, .addr = 0xdead000, .misc = 0x8c, .bank = BANK};
	struct kvm_lapic_state s;
	u64 cap, val;
	struct vm v;

	vm_open(&v);
	CHECK_OK(ioctl(v.sys, KVM_X86_GET_MCE_CAP_SUPPORTED, &cap));
	if (!(cap & CMCI_P))
		SKIP("this KVM has no CMCI");
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	val = 0;
	CHECK_EQ(msr(v.vcpu, CTL2, &val, true), 1); /* the VMM may write zeros */
	val = 1 << 30;
	CHECK_EQ(msr(v.vcpu, CTL2, &val, true), 0);
	cap = CMCI_P | 1 << 24 | 32;
	CHECK_OK(ioctl(v.vcpu, KVM_X86_SETUP_MCE, &cap));
	val = 1 << 29;
	CHECK_EQ(msr(v.vcpu, CTL2, &val, true), 0);
	val = 1 << 30;
	CHECK_EQ(msr(v.vcpu, CTL2, &val, true), 1);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_LAPIC, &s));
	CHECK_EQ(*(u32 *)(s.regs + 0x30) >> 16 & 0xff, 6); /* seven LVT entries */
	*(u32 *)(s.regs + 0xf0) = 0x1ff;
	*(u32 *)(s.regs + 0x2f0) = VECTOR;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_LAPIC, &s));
	CHECK_OK(ioctl(v.vcpu, KVM_X86_SET_MCE, &e));
	CHECK(waiting(v.vcpu));
	val = 0;
	CHECK_EQ(msr(v.vcpu, 0x400 + BANK * 4 + 2, &val, false), 1);
	CHECK_EQ(val, e.addr);
	/* Without the enable bit the error is only recorded. */
	CHECK_OK(ioctl(v.vcpu, KVM_SET_LAPIC, &s));
	CHECK(!waiting(v.vcpu));
	val = 0;
	CHECK_EQ(msr(v.vcpu, CTL2, &val, true), 1);
	e.addr = 0xcafe000;
	CHECK_OK(ioctl(v.vcpu, KVM_X86_SET_MCE, &e));
	CHECK(!waiting(v.vcpu));
	CHECK_EQ(msr(v.vcpu, 0x400 + BANK * 4 + 2, &val, false), 1);
	CHECK_EQ(val, e.addr);
	return kt_end();
}
