/* SPDX-License-Identifier: MIT */
/*
 * Debug registers of the guest, and debugging of the guest by the VMM.
 */
#include "kvm/kvm.h"

#include <errno.h>

#include "base/string.h"
#include "interp/debug.h"

void vcpu_get_debugregs(struct kvm_vcpu *v, struct kvm_debugregs *d)
{
	memset(d, 0, sizeof(*d));
	memcpy(d->db, v->cpu.dr, sizeof(d->db));
	d->dr6 = v->cpu.dr6;
	d->dr7 = v->cpu.dr7;
}

int vcpu_set_debugregs(struct kvm_vcpu *v, const struct kvm_debugregs *d)
{
	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	memcpy(v->cpu.dr, d->db, sizeof(d->db));
	v->cpu.dr6 = (d->dr6 & (DR6_BD | DR6_BS | DR6_BT | 15)) | DR6_FIXED;
	v->cpu.dr7 = (d->dr7 & 0xffff2bffull) | DR7_FIXED;
	return 0;
}

int vcpu_set_guest_debug(struct kvm_vcpu *v, const struct kvm_guest_debug *d)
{
	struct cpu_events *ev = &v->cpu.ev;

	if (d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (ev->exc_pending || ev->exc_injected)
			return -EBUSY;
		ev->exc_injected = true;
		ev->exc_has_error = false;
		ev->exc_vector = d->control & KVM_GUESTDBG_INJECT_DB ? EX_DB : EX_BP;
	}
	v->cpu.gdbg.flags = d->control & KVM_GUESTDBG_ENABLE ? d->control & ~(u32)(KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP) : 0;
	if (v->cpu.gdbg.flags & KVM_GUESTDBG_USE_HW_BP) {
		memcpy(v->cpu.gdbg.dr, d->arch.debugreg, sizeof(v->cpu.gdbg.dr));
		v->cpu.gdbg.dr7 = d->arch.debugreg[7];
	}
	cpu_request(&v->cpu, CPU_REQ_EVENT);
	return 0;
}

/* The call of the first KVM: four execution breakpoints and single step, said in today's words. */
int vcpu_debug_guest(struct kvm_vcpu *v, const struct kvm_debug_guest *d)
{
	struct kvm_guest_debug g = { 0 };

	if (d->enabled) {
		g.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP | (d->singlestep ? KVM_GUESTDBG_SINGLESTEP : 0);
		g.arch.debugreg[7] = DR7_FIXED;
		for (unsigned i = 0; i < 4; i++) {
			if (!d->breakpoints[i].enabled)
				continue;
			g.arch.debugreg[i] = d->breakpoints[i].address;
			g.arch.debugreg[7] |= 2ull << (i * 2);
		}
	}
	return vcpu_set_guest_debug(v, &g);
}
