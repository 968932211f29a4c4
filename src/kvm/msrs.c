/* SPDX-License-Identifier: MIT */
/*
 * MSRs as the VMM gets and sets them: those of cpu/msr.c, the LAPIC's, kvmclock's; and the list of what a VMM should save.
 */
#include "kvm/kvm.h"

#include <errno.h>

#include "cpu/msr.h"

int vcpu_get_msr(struct kvm_vcpu *v, u32 index, u64 *val)
{
	int r = cpu_msr_get(&v->cpu, index, val, true);

	if (r == -ENOENT)
		r = lapic_rdmsr(&v->lapic, index, val);
	if (r == -ENOENT)
		r = vcpu_clock_rdmsr(v, index, val, true);
	return r;
}

int vcpu_set_msr(struct kvm_vcpu *v, u32 index, u64 val)
{
	if (index == MSR_TSC) {
		vcpu_sync_tsc(v, val);
		return 0;
	}
	int r = cpu_msr_set(&v->cpu, index, val, true);
	if (r == -ENOENT)
		r = lapic_wrmsr(&v->lapic, index, val, true);
	if (r == -ENOENT)
		r = vcpu_clock_wrmsr(v, index, val, true);
	return r;
}

unsigned kvm_msr_list(u32 *index, unsigned n)
{
	static const u32 ours[] = { 0x11,       0x12,       0x4b564d00, 0x4b564d01, 0x4b564d02,
				    0x4b564d03, 0x4b564d04, 0x4b564d05, MSR_TSC_DEADLINE };
	unsigned have = cpu_msr_list(index, n);

	for (unsigned i = 0; i < ARRAY_SIZE(ours); i++, have++)
		if (have < n)
			index[have] = ours[i];
	return have;
}
