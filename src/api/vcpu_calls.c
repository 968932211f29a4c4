/* SPDX-License-Identifier: MIT */
/*
 * Requests on a vCPU. Called with its lock held.
 */
#include <errno.h>
#include <stdlib.h>

#include "api/call.h"
#include "base/string.h"
#include "base/sys.h"
#include "cpu/cpuid.h"

#define GET(name, fn, field)                                                                                                               \
	long vcpu_call_##name(struct api_call *call)                                                                                       \
	{                                                                                                                                  \
		fn(call->vcpu, &call->u->field);                                                                                           \
		return 0;                                                                                                                  \
	}
#define SET(name, fn, field)                                                                                                               \
	long vcpu_call_##name(struct api_call *call)                                                                                       \
	{                                                                                                                                  \
		return fn(call->vcpu, &call->u->field);                                                                                    \
	}

GET(get_regs, vcpu_get_regs, regs)
SET(set_regs, vcpu_set_regs, regs)
GET(get_sregs, vcpu_get_sregs, sregs)
SET(set_sregs, vcpu_set_sregs, sregs)
GET(get_sregs2, vcpu_get_sregs2, sregs2)
SET(set_sregs2, vcpu_set_sregs2, sregs2)
GET(get_fpu, vcpu_get_fpu, fpu)
SET(set_fpu, vcpu_set_fpu, fpu)
GET(get_xsave, vcpu_get_xsave, bytes)
SET(set_xsave, vcpu_set_xsave, bytes)
GET(get_xcrs, vcpu_get_xcrs, xcrs)
SET(set_xcrs, vcpu_set_xcrs, xcrs)
SET(get_mp_state, vcpu_get_mp_state, mp)
SET(set_mp_state, vcpu_set_mp_state, mp)
GET(get_events, vcpu_get_events, events)
SET(set_events, vcpu_set_events, events)
GET(get_debugregs, vcpu_get_debugregs, debugregs)
SET(set_debugregs, vcpu_set_debugregs, debugregs)
SET(set_nested, vcpu_set_nested, nested)
SET(set_guest_debug, vcpu_set_guest_debug, guest_debug)
SET(debug_guest, vcpu_debug_guest, debug_guest)
SET(translate, vcpu_translate, translation)
SET(set_mce, vcpu_set_mce, mce)

/* The caller says how much room there is, and is told how much it takes. */
long vcpu_call_get_nested(struct api_call *call)
{
	void *user = (void *)call->arg, *user_size = (void *)(call->arg + offsetof(struct kvm_nested_state, size));
	struct kvm_nested_state *n = &call->u->nested;
	u32 room;

	if (copy_from_user(&room, user_size, sizeof(room)))
		return -EFAULT;
	vcpu_get_nested(call->vcpu, n);
	if (room < n->size)
		return copy_to_user(user_size, &n->size, sizeof(n->size)) ? -EFAULT : -E2BIG;
	return copy_to_user(user, n, sizeof(*n)) ? -EFAULT : 0;
}

long vcpu_call_setup_mce(struct api_call *call)
{
	return vcpu_setup_mce(call->vcpu, call->u->u64);
}

long vcpu_call_interrupt(struct api_call *call)
{
	return vcpu_interrupt(call->vcpu, call->u->interrupt.irq);
}

long vcpu_call_nmi(struct api_call *call)
{
	return vcpu_nmi(call->vcpu);
}

/* No system management mode: what a kernel built without it says. */
long vcpu_call_smi(struct api_call *call)
{
	return -ENOTTY;
}

long vcpu_call_get_lapic(struct api_call *call)
{
	if (!call->vcpu->lapic.present)
		return -EINVAL;
	memset(&call->u->lapic, 0, sizeof(call->u->lapic));
	return lapic_get_state(&call->vcpu->lapic, &call->u->lapic);
}

long vcpu_call_set_lapic(struct api_call *call)
{
	if (!call->vcpu->lapic.present)
		return -EINVAL;
	long r = lapic_set_state(&call->vcpu->lapic, &call->u->lapic);
	cpu_request(&call->vcpu->cpu, CPU_REQ_EVENT);
	return r;
}

/* ---- MSRs ---- */

/* The result counts the MSRs done: the first that cannot be ends it. Values are stored within the read section: some write guest memory. */
static long msrs(struct api_call *call, bool set)
{
	struct kvm_msrs *user = (struct kvm_msrs *)call->arg, head;
	struct kvm_vcpu *v = call->vcpu;
	struct kvm_msr_entry *e;
	u32 i;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.nmsrs >= 256)
		return -E2BIG;
	size_t size = head.nmsrs * sizeof(*e);
	e = malloc(size ? size : 1);
	if (!e)
		return -ENOMEM;
	long r = copy_from_user(e, user->entries, size) ? -EFAULT : 0;
	if (r)
		goto out;
	qsbr_enter(&v->kvm->qsbr, &v->reader);
	for (i = 0; i < head.nmsrs; i++) {
		u64 val = e[i].data;

		if (set ? vcpu_set_msr(v, e[i].index, val) : vcpu_get_msr(v, e[i].index, &val))
			break;
		e[i].data = val;
	}
	qsbr_leave(&v->reader);
	r = i;
	if (!set && copy_to_user(user->entries, e, size))
		r = -EFAULT;
out:
	free(e);
	return r;
}

long vcpu_call_get_msrs(struct api_call *call)
{
	return msrs(call, false);
}

long vcpu_call_set_msrs(struct api_call *call)
{
	return msrs(call, true);
}

/* ---- CPUID ---- */

long vcpu_call_set_cpuid2(struct api_call *call)
{
	struct kvm_cpuid2 *user = (struct kvm_cpuid2 *)call->arg, head;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.nent > CPUID_MAX_ENTRIES)
		return -E2BIG;
	size_t size = head.nent * sizeof(struct kvm_cpuid_entry2);
	struct kvm_cpuid_entry2 *e = malloc(size ? size : 1);
	if (!e)
		return -ENOMEM;
	long r = copy_from_user(e, user->entries, size) ? -EFAULT : vcpu_set_cpuid(call->vcpu, e, head.nent);
	free(e);
	return r;
}

long vcpu_call_set_cpuid(struct api_call *call)
{
	struct kvm_cpuid *user = (struct kvm_cpuid *)call->arg, head;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.nent > CPUID_MAX_ENTRIES)
		return -E2BIG;
	struct kvm_cpuid_entry2 *e = calloc(head.nent ? head.nent : 1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	long r = 0;
	for (u32 i = 0; !r && i < head.nent; i++) {
		struct kvm_cpuid_entry old;

		if (copy_from_user(&old, &user->entries[i], sizeof(old))) {
			r = -EFAULT;
			break;
		}
		e[i].function = old.function;
		e[i].eax = old.eax;
		e[i].ebx = old.ebx;
		e[i].ecx = old.ecx;
		e[i].edx = old.edx;
	}
	if (!r)
		r = vcpu_set_cpuid(call->vcpu, e, head.nent);
	free(e);
	return r;
}

long vcpu_call_get_cpuid2(struct api_call *call)
{
	struct kvm_cpuid2 *user = (struct kvm_cpuid2 *)call->arg, head;
	struct cpu *c = &call->vcpu->cpu;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.nent < c->ncpuid)
		return -E2BIG; /* with the caller's list untouched */
	cpuid_update_runtime(c);
	head.nent = c->ncpuid;
	if (copy_to_user(user, &head, sizeof(head)) || copy_to_user(user->entries, c->cpuid, c->ncpuid * sizeof(*c->cpuid)))
		return -EFAULT;
	return 0;
}

/* ---- the rest ---- */

long vcpu_call_set_signal_mask(struct api_call *call)
{
	struct kvm_signal_mask *user = (struct kvm_signal_mask *)call->arg, head;
	u64 mask;

	if (!user) {
		call->vcpu->masked = false;
		return 0;
	}
	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.len != sizeof(mask))
		return -EINVAL;
	if (copy_from_user(&mask, user->sigset, sizeof(mask)))
		return -EFAULT;
	mask &= ~(BIT(SIGKILL - 1) | BIT(SIGSTOP - 1));
	int r = sig_prepare_mask(mask);
	if (r)
		return r;
	call->vcpu->sig_mask = mask;
	call->vcpu->masked = true;
	return 0;
}

/* Reports of TPR accesses exist for a VMM with a LAPIC patcher of its own and need VT-x's help; asked for and never sent, as KVM does on AMD. */
long vcpu_call_tpr_reporting(struct api_call *call)
{
	if (call->u->tpr_ctl.flags)
		return -EINVAL;
	call->vcpu->tpr_reporting = call->u->tpr_ctl.enabled;
	return 0;
}

long vcpu_call_set_vapic(struct api_call *call)
{
	if (!call->vcpu->lapic.present)
		return -EINVAL;
	call->vcpu->vapic_addr = call->u->vapic.vapic_addr;
	return 0;
}

long vcpu_call_get_tsc_khz(struct api_call *call)
{
	return call->vcpu->tsc_khz;
}

long vcpu_call_set_tsc_khz(struct api_call *call)
{
	return vcpu_set_tsc_khz(call->vcpu, (u32)call->arg);
}

long vm_get_tsc_khz(struct api_call *call)
{
	return load_relaxed(&call->kvm->clock.vcpu_khz);
}

/* For vCPUs that are made later. */
long vm_set_tsc_khz(struct api_call *call)
{
	u32 khz = (u32)call->arg;

	if (khz > KVM_TSC_KHZ_MAX)
		return -EINVAL;
	store_relaxed(&call->kvm->clock.vcpu_khz, khz ? khz : call->kvm->clock.khz);
	return 0;
}

long vcpu_call_kvmclock_ctrl(struct api_call *call)
{
	return vcpu_kvmclock_ctrl(call->vcpu);
}

long vcpu_call_enable_cap(struct api_call *call)
{
	const struct kvm_enable_cap *c = &call->u->cap;

	if (c->flags || c->cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return -EINVAL;
	call->vcpu->pv_enforced = c->args[0];
	return 0;
}

/* ---- memory that is to be there before the guest asks ---- */

/* One page: read a byte of it. */
static long pre_fault_page(struct kvm_vcpu *v, gfn_t gfn)
{
	long r = -ENOENT;
	u8 byte;

	qsbr_enter(&v->kvm->qsbr, &v->reader);
	const struct memslot *s = memslot_find(mem_slots(&v->kvm->mem), gfn, NULL);
	if (s)
		r = copy_from_user(&byte, (const void *)(s->hva + ((gfn - s->gfn) << PAGE_SHIFT)), 1) ? -EFAULT : 0;
	qsbr_leave(&v->reader);
	return r;
}

/* Goes on as far as it can; the caller sees how far. An error is said only if it could not begin. */
long vcpu_call_pre_fault(struct api_call *call)
{
	struct kvm_pre_fault_memory *user = (struct kvm_pre_fault_memory *)call->arg, *p = &call->u->pre_fault;
	u64 whole;
	long r = 0;

	if (copy_from_user(p, user, sizeof(*p)))
		return -EFAULT;
	if (p->flags || (p->gpa | p->size) & ~PAGE_MASK || p->gpa + p->size <= p->gpa)
		return -EINVAL;
	whole = p->size;
	while (p->size && !r) {
		r = pre_fault_page(call->vcpu, p->gpa >> PAGE_SHIFT);
		if (!r) {
			p->gpa += PAGE_SIZE;
			p->size -= PAGE_SIZE;
		}
	}
	if (copy_to_user(user, p, 2 * sizeof(u64)))
		return -EFAULT;
	return p->size == whole ? r : 0;
}

/* ---- attributes: the TSC's offset to the host's ---- */

long vcpu_call_has_attr(struct api_call *call)
{
	return call->u->attr.group != KVM_VCPU_TSC_CTRL || call->u->attr.attr != KVM_VCPU_TSC_OFFSET ? -ENXIO : 0;
}

long vcpu_call_get_attr(struct api_call *call)
{
	long r = vcpu_call_has_attr(call);

	if (r)
		return r;
	return copy_to_user((void *)call->u->attr.addr, &call->vcpu->cpu.tsc_offset, sizeof(u64)) ? -EFAULT : 0;
}

long vcpu_call_set_attr(struct api_call *call)
{
	long r = vcpu_call_has_attr(call);
	u64 offset;

	if (r)
		return r;
	if (copy_from_user(&offset, (const void *)call->u->attr.addr, sizeof(offset)))
		return -EFAULT;
	vcpu_set_tsc_offset(call->vcpu, offset);
	return 0;
}
