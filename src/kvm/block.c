/* SPDX-License-Identifier: MIT */
/*
 * A vCPU that does not run: asleep in HLT, or waiting for INIT and SIPI; and the mp_state calls.
 */
#include "kvm/kvm.h"

#include <errno.h>
#include <time.h>

#include "base/sys.h"

bool vcpu_has_user_irq(const struct kvm_vcpu *v)
{
	return v->user_irq >= 0 && (!v->lapic.present || lapic_accepts_pic(&v->lapic));
}

bool vcpu_has_interrupt(struct kvm_vcpu *v)
{
	struct kvm *kvm = v->kvm;

	if (vcpu_has_user_irq(v))
		return true;
	if (!v->lapic.present)
		return false;
	if (kvm->irq.kernel && lapic_accepts_pic(&v->lapic) && pic_intr(&kvm->irq))
		return true;
	return lapic_pending(&v->lapic) >= 0;
}

/* NMIs that the LAPIC counted become the CPU's: at most one in service and one waiting, or two waiting. */
void vcpu_collect_nmi(struct kvm_vcpu *v)
{
	struct cpu_events *ev = &v->cpu.ev;

	if (likely(!load_relaxed(&v->lapic.nmi_pending)))
		return;
	u32 limit = ev->nmi_masked || ev->nmi_injected ? 1 : 2;
	u32 n = __atomic_exchange_n(&v->lapic.nmi_pending, 0, __ATOMIC_ACQ_REL) + ev->nmi_pending;
	ev->nmi_pending = MIN(n, limit);
}

static bool wakes_hlt(struct kvm_vcpu *v)
{
	const struct cpu_events *ev = &v->cpu.ev;

	vcpu_collect_nmi(v);
	if (load_relaxed(&v->unhalt))
		return true;
	if (ev->nmi_injected || (ev->nmi_pending && !ev->nmi_masked) || ev->exc_injected || ev->intr_injected)
		return true;
	return (v->cpu.rflags & X86_IF) && vcpu_has_interrupt(v);
}

bool vcpu_runnable(struct kvm_vcpu *v)
{
	if (v->mp_state == KVM_MP_STATE_RUNNABLE)
		return true;
	if (load_acquire(&v->lapic.init_pending))
		return true;
	return v->mp_state == KVM_MP_STATE_HALTED && wakes_hlt(v);
}

static void sleep_once(struct kvm_vcpu *v)
{
	u64 expiry = v->lapic.present ? lapic_next_expiry(&v->lapic) : ~0ull;
	s64 timeout = -1;

	if (expiry != ~0ull) {
		u64 now = sys_clock_ns(CLOCK_MONOTONIC);

		if (expiry <= now) {
			cpu_request(&v->cpu, CPU_REQ_TIMER);
			return;
		}
		timeout = (s64)(expiry - now);
	}
	qsbr_leave(&v->reader);
	__atomic_store_n(&v->sleeping, 1, __ATOMIC_SEQ_CST);
	int r = futex_wait(&v->cpu.requests, 0, timeout);
	__atomic_store_n(&v->sleeping, 0, __ATOMIC_SEQ_CST);
	qsbr_enter(&v->kvm->qsbr, &v->reader);
	if (r == -ETIMEDOUT)
		cpu_request(&v->cpu, CPU_REQ_TIMER);
}

/* CPU_REQ_CODE is the engine's and stays set until it runs: while it is, this does not sleep but goes round; so it is put aside. */
int vcpu_block(struct kvm_vcpu *v, struct vcpu_sig *s)
{
	u32 code = 0;
	int r = 0;

	stat_add(&v->stat.halts, 1);
	for (;;) {
		u32 req = vcpu_process_requests(v);

		if (req & CPU_REQ_KICK || s->sig.interrupted) {
			r = -EINTR;
			break;
		}
		if (vcpu_runnable(v))
			break;
		code |= __atomic_fetch_and(&v->cpu.requests, ~(u32)CPU_REQ_CODE, __ATOMIC_SEQ_CST) & CPU_REQ_CODE;
		sleep_once(v);
	}
	if (code)
		cpu_request(&v->cpu, code);
	return r;
}

/* SDM 3, 10.4.7.3 and 9.4.4: INIT resets and waits (the BSP runs on); the SIPI's vector is the page to start at. */
void vcpu_accept_events(struct kvm_vcpu *v)
{
	u32 pending = v->lapic.present ? load_acquire(&v->lapic.init_pending) : 0;

	if (likely(!pending))
		return;
	pending = __atomic_exchange_n(&v->lapic.init_pending, 0, __ATOMIC_ACQ_REL);
	if (pending & 1) {
		vcpu_reset(v, true);
		v->mp_state = vcpu_is_bsp(v) ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
	}
	if (pending & 2 && v->mp_state == KVM_MP_STATE_INIT_RECEIVED) {
		struct cpu_seg *cs = &v->cpu.seg[S_CS];

		cs->sel = (u16)(v->lapic.sipi_vector << 8);
		cs->base = (u64)v->lapic.sipi_vector << 12;
		v->cpu.rip = 0;
		cpu_update_mode(&v->cpu);
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	}
}

int vcpu_get_mp_state(struct kvm_vcpu *v, struct kvm_mp_state *m)
{
	vcpu_accept_events(v);
	m->mp_state = v->mp_state;
	return 0;
}

int vcpu_set_mp_state(struct kvm_vcpu *v, const struct kvm_mp_state *m)
{
	switch (m->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_SIPI_RECEIVED:
		if (!v->lapic.present)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	if (m->mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
		v->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		__atomic_fetch_or(&v->lapic.init_pending, 2, __ATOMIC_SEQ_CST);
	} else {
		v->mp_state = m->mp_state;
	}
	cpu_request(&v->cpu, CPU_REQ_EVENT);
	return 0;
}
