/* SPDX-License-Identifier: MIT */
/* KVM_GET/SET_LAPIC: the state after creation, a round trip, x2APIC mode through IA32_APICBASE, and the APIC's own id and version. */
#include "kvmtest.h"

#define REG(o) (*(u32 *)(l.regs + (o)))

int main(void)
{
	struct vm v;
	struct kvm_lapic_state l, m;
	u64 base;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_LAPIC, &l));
	CHECK_EQ(REG(0x20) >> 24, 0);
	CHECK_EQ(REG(0x30) & 0xff, 0x14);
	CHECK_EQ(REG(0xe0), 0xffffffff);
	CHECK_EQ(REG(0xf0), 0xff);
	REG(0x80) = 0x20;
	REG(0xf0) = 0x1ff;
	REG(0x350) = 0x700;
	REG(0x360) = 0x400;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_LAPIC, &l));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_LAPIC, &m));
	CHECK(!memcmp(l.regs + 0x80, m.regs + 0x80, 4));
	CHECK(!memcmp(l.regs + 0x350, m.regs + 0x350, 0x20));
	CHECK_EQ(*(u32 *)(m.regs + 0xf0), 0x1ff);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x1b, &base), 1);
	CHECK_EQ(base, 0xfee00900);
	CHECK_EQ(kt_set_msr(v.vcpu, 0x1b, base | 0x400), 1);
	CHECK_EQ(kt_get_msr(v.vcpu, 0x1b, &base), 1);
	CHECK_EQ(base, 0xfee00d00);
	return kt_end();
}
