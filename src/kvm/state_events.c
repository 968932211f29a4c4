/* SPDX-License-Identifier: MIT */
/*
 * Events: KVM_GET/SET_VCPU_EVENTS, KVM_INTERRUPT, KVM_NMI, machine checks.
 */
#include "kvm/kvm.h"

#include <errno.h>

#include "base/string.h"
#include "cpu/msr.h"

void vcpu_get_events(struct kvm_vcpu *v, struct kvm_vcpu_events *e)
{
	const struct cpu_events *ev = &v->cpu.ev;

	memset(e, 0, sizeof(*e));
	vcpu_collect_nmi(v);
	vcpu_accept_events(v);
	/* Without KVM_CAP_EXCEPTION_PAYLOAD a pending exception is shown as injected. */
	e->exception.injected = ev->exc_injected || ev->exc_pending;
	e->exception.nr = ev->exc_vector;
	e->exception.has_error_code = ev->exc_has_error;
	e->exception.error_code = ev->exc_error;
	if (v->user_irq >= 0 && !v->lapic.present) {
		e->interrupt.injected = 1;
		e->interrupt.nr = (u8)v->user_irq;
	} else {
		e->interrupt.injected = ev->intr_injected && !ev->intr_soft;
		e->interrupt.nr = ev->intr_vector;
	}
	e->interrupt.shadow = ev->shadow;
	e->nmi.injected = ev->nmi_injected;
	e->nmi.pending = (u8)(ev->nmi_pending != 0);
	e->nmi.masked = ev->nmi_masked;
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
}

int vcpu_set_events(struct kvm_vcpu *v, const struct kvm_vcpu_events *e)
{
	struct cpu_events *ev = &v->cpu.ev;
	const u32 known = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;

	if (e->flags & ~known)
		return -EINVAL;
	if (e->exception.injected && (e->exception.nr > 31 || e->exception.nr == EX_NMI))
		return -EINVAL;
	if (e->flags & KVM_VCPUEVENT_VALID_SMM && (e->smi.smm || e->smi.pending || e->smi.smm_inside_nmi))
		return -EINVAL;
	vcpu_accept_events(v);
	ev->exc_pending = false;
	ev->exc_injected = e->exception.injected;
	ev->exc_vector = e->exception.nr;
	ev->exc_has_error = e->exception.has_error_code;
	ev->exc_error = e->exception.error_code;
	v->user_irq = -1;
	ev->intr_injected = e->interrupt.injected;
	ev->intr_vector = e->interrupt.nr;
	ev->intr_soft = e->interrupt.soft;
	if (e->flags & KVM_VCPUEVENT_VALID_SHADOW)
		ev->shadow = e->interrupt.shadow & (KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI);
	ev->nmi_injected = e->nmi.injected;
	ev->nmi_masked = e->nmi.masked;
	if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
		__atomic_store_n(&v->lapic.nmi_pending, 0, __ATOMIC_RELEASE);
		ev->nmi_pending = MIN(e->nmi.pending, 2);
	}
	if (e->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR && v->lapic.present)
		v->lapic.sipi_vector = (u8)e->sipi_vector;
	if (e->flags & KVM_VCPUEVENT_VALID_SMM && v->lapic.present && e->smi.latched_init)
		__atomic_fetch_or(&v->lapic.init_pending, 1, __ATOMIC_SEQ_CST);
	cpu_request(&v->cpu, CPU_REQ_EVENT);
	return 0;
}

int vcpu_interrupt(struct kvm_vcpu *v, u32 irq)
{
	if (irq > 255)
		return -EINVAL;
	if (kvm_pic_in_kernel(v->kvm))
		return -ENXIO;
	if (v->lapic.present && v->user_irq >= 0)
		return -EEXIST;
	v->user_irq = (int)irq;
	cpu_request(&v->cpu, CPU_REQ_EVENT);
	return 0;
}

int vcpu_nmi(struct kvm_vcpu *v)
{
	u32 n = load_relaxed(&v->lapic.nmi_pending);

	while (n < 2 && !__atomic_compare_exchange_n(&v->lapic.nmi_pending, &n, n + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
	vcpu_kick(v, CPU_REQ_EVENT);
	return 0;
}

int vcpu_setup_mce(struct kvm_vcpu *v, u64 cap)
{
	struct cpu_msrs *m = &v->cpu.msr;
	unsigned banks = cap & 0xff;

	if (!banks || banks > CPU_MCE_BANKS)
		return -EINVAL;
	if (cap & ~(KVM_MCG_CAP_SUPPORTED | 0xff | 0xff0000))
		return -EINVAL;
	m->mcg_cap = cap;
	vcpu_update_features(v);
	if (cap & (1u << 8)) /* MCG_CTL_P */
		m->mcg_ctl = ~0ull;
	for (unsigned i = 0; i < banks; i++) {
		m->mce[i][0] = ~0ull;
		if (cap & MCG_CMCI_P)
			m->mci_ctl2[i] = 0;
	}
	return 0;
}

#define MCI_VAL BIT(63)
#define MCI_OVER BIT(62)
#define MCI_UC BIT(61)
#define MCI_PCC BIT(57)
#define MCI_S BIT(56)
#define MCI_AR BIT(55)
#define MCG_MCIP BIT(2)

int vcpu_set_mce(struct kvm_vcpu *v, const struct kvm_x86_mce *e)
{
	struct cpu_msrs *m = &v->cpu.msr;
	unsigned banks = m->mcg_cap & 0xff;

	if (e->bank >= banks || !(e->status & MCI_VAL))
		return -EINVAL;
	u64 *b = m->mce[e->bank];
	bool uc = e->status & MCI_UC;
	/* Uncorrected, but nobody needs to do anything (SDM 3, "UCNA"): kept for who reads it, and no machine check but perhaps a CMCI. */
	if (uc && !e->mcg_status && !(e->status & (MCI_PCC | MCI_S | MCI_AR))) {
		b[1] = e->status;
		b[2] = e->addr;
		b[3] = e->misc;
		m->mcg_status = 0;
		if (m->mci_ctl2[e->bank] & MCI_CTL2_CMCI && v->lapic.present)
			lapic_deliver_cmci(&v->lapic);
		return 0;
	}
	/* Reporting switched off for all, or for this bank: nothing happens. */
	if (uc && (((m->mcg_cap & (1u << 8)) && m->mcg_ctl != ~0ull) || b[0] != ~0ull))
		return 0;
	if (uc) {
		if (m->mcg_status & MCG_MCIP || !(v->cpu.cr4 & CR4_MCE)) {
			v->triple_fault = true; /* a machine check inside one shuts the CPU down */
			cpu_request(&v->cpu, CPU_REQ_EVENT);
			return 0;
		}
		u64 status = e->status | (b[1] & MCI_VAL ? MCI_OVER : 0);
		b[2] = e->addr;
		b[3] = e->misc;
		m->mcg_status = e->mcg_status;
		b[1] = status;
		v->cpu.ev.exc_injected = true;
		v->cpu.ev.exc_vector = EX_MC;
		v->cpu.ev.exc_has_error = false;
		return 0;
	}
	if (!(b[1] & MCI_VAL) || !(b[1] & MCI_UC)) {
		u64 status = e->status | (b[1] & MCI_VAL ? MCI_OVER : 0);
		b[2] = e->addr;
		b[3] = e->misc;
		b[1] = status;
	} else {
		b[1] |= MCI_OVER;
	}
	return 0;
}
