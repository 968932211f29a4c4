/* SPDX-License-Identifier: MIT */
/*
 * Requests on a VM.
 */
#include <errno.h>
#include <stdlib.h>

#include "api/call.h"
#include "base/string.h"
#include "base/sys.h"

long vm_create_vcpu(struct api_call *call)
{
	return call->arg > 0xffffffffu ? -EINVAL : kvm_create_vcpu(call->kvm, (u32)call->arg);
}

long vm_check_extension(struct api_call *call)
{
	return api_check_extension(call->arg);
}

/* ---- memory ---- */

long vm_set_memory_region(struct api_call *call)
{
	return kvm_set_memory_region(call->kvm, &call->u->old_region);
}

long vm_set_user_memory_region(struct api_call *call)
{
	return mem_set_region(&call->kvm->mem, &call->u->region);
}

/* No guest_memfd: what is left of the second form is the first. */
long vm_set_user_memory_region2(struct api_call *call)
{
	const struct kvm_userspace_memory_region2 *r = &call->u->region2;
	const struct kvm_userspace_memory_region first = {
		.slot = r->slot,
		.flags = r->flags,
		.guest_phys_addr = r->guest_phys_addr,
		.memory_size = r->memory_size,
		.userspace_addr = r->userspace_addr,
	};

	return mem_set_region(&call->kvm->mem, &first);
}

long vm_get_dirty_log(struct api_call *call)
{
	return mem_get_dirty_log(&call->kvm->mem, call->u->dirty.slot, call->u->dirty.dirty_bitmap);
}

long vm_clear_dirty_log(struct api_call *call)
{
	const struct kvm_clear_dirty_log *c = &call->u->clear;

	return mem_clear_dirty_log(&call->kvm->mem, c->slot, c->first_page, c->num_pages, c->dirty_bitmap);
}

/* Two addresses that only hardware without real mode needs: kept, never used. */
long vm_set_tss_addr(struct api_call *call)
{
	if (call->arg > 0xffffffffu - 3 * PAGE_SIZE)
		return -EINVAL;
	call->kvm->tss_addr = call->arg;
	return 0;
}

long vm_set_identity_map(struct api_call *call)
{
	long r = 0;
	u64 at;

	mutex_lock(&call->kvm->lock);
	if (call->kvm->nvcpus)
		r = -EINVAL;
	else if (copy_from_user(&at, (void *)call->arg, sizeof(at)))
		r = -EFAULT;
	else
		call->kvm->identity_map = at;
	mutex_unlock(&call->kvm->lock);
	return r;
}

long vm_set_nr_mmu_pages(struct api_call *call)
{
	if (call->arg < 64) /* KVM_MIN_ALLOC_MMU_PAGES */
		return -EINVAL;
	call->kvm->mmu_pages = (u32)call->arg;
	return 0;
}

/* ---- interrupt chips ---- */

long vm_create_irqchip(struct api_call *call)
{
	return kvm_create_irqchip(call->kvm);
}

long vm_get_irqchip(struct api_call *call)
{
	return call->kvm->irq.kernel ? irqchip_get(&call->kvm->irq, &call->u->irqchip) : -ENXIO;
}

long vm_set_irqchip(struct api_call *call)
{
	return call->kvm->irq.kernel ? irqchip_set(&call->kvm->irq, &call->u->irqchip) : -ENXIO;
}

long vm_irq_line_status(struct api_call *call)
{
	struct kvm_irq_level *l = &call->u->irq_level;
	int status = 0;

	if (!kvm_lapics_in_kernel(call->kvm))
		return -ENXIO;
	long r = irqchip_set_line(&call->kvm->irq, l->irq, !!l->level, &status);
	l->status = status;
	return r;
}

long vm_irq_line(struct api_call *call)
{
	return vm_irq_line_status(call);
}

long vm_set_gsi_routing(struct api_call *call)
{
	struct kvm_irq_routing *user = (struct kvm_irq_routing *)call->arg, head;
	struct kvm_irq_routing_entry *e = NULL;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (!kvm_lapics_in_kernel(call->kvm) || head.nr > IRQ_MAX_ROUTES || head.flags)
		return -EINVAL;
	if (head.nr) {
		e = malloc(head.nr * sizeof(*e));
		if (!e)
			return -ENOMEM;
		if (copy_from_user(e, user->entries, head.nr * sizeof(*e))) {
			free(e);
			return -EFAULT;
		}
	}
	long r = irqchip_set_routing(&call->kvm->irq, e, head.nr);
	free(e);
	return r;
}

long vm_signal_msi(struct api_call *call)
{
	return irqchip_signal_msi(&call->kvm->irq, &call->u->msi);
}

long vm_irqfd(struct api_call *call)
{
	return irqchip_irqfd(&call->kvm->irq, &call->u->irqfd);
}

long vm_ioeventfd(struct api_call *call)
{
	return iobus_ioeventfd(&call->kvm->bus, &call->u->ioeventfd);
}

long vm_register_coalesced(struct api_call *call)
{
	return iobus_coalesced(&call->kvm->bus, &call->u->zone, true);
}

long vm_unregister_coalesced(struct api_call *call)
{
	return iobus_coalesced(&call->kvm->bus, &call->u->zone, false);
}

/* Without chips in the library: ENXIO, whatever the rest; pit_* say EEXIST and ENOENT. */
static long create_pit(struct kvm *kvm, const struct kvm_pit_config *cfg)
{
	mutex_lock(&kvm->lock);
	long r = kvm->irq.pit ? -EEXIST : !kvm->irq.kernel ? -ENOENT : pit_create(&kvm->irq, cfg);
	mutex_unlock(&kvm->lock);
	return r;
}

long vm_create_pit(struct api_call *call)
{
	const struct kvm_pit_config cfg = { .flags = KVM_PIT_SPEAKER_DUMMY };

	return create_pit(call->kvm, &cfg);
}

long vm_create_pit2(struct api_call *call)
{
	return create_pit(call->kvm, &call->u->pit_config);
}

long vm_get_pit2(struct api_call *call)
{
	memset(&call->u->pit2, 0, sizeof(call->u->pit2));
	return call->kvm->irq.pit ? pit_get(&call->kvm->irq, &call->u->pit2) : -ENXIO;
}

long vm_set_pit2(struct api_call *call)
{
	return call->kvm->irq.pit ? pit_set(&call->kvm->irq, &call->u->pit2) : -ENXIO;
}

long vm_get_pit(struct api_call *call)
{
	struct kvm_pit_state2 s = { 0 };

	if (!call->kvm->irq.pit)
		return -ENXIO;
	long r = pit_get(&call->kvm->irq, &s);
	memcpy(&call->u->pit, s.channels, sizeof(s.channels));
	return r;
}

long vm_set_pit(struct api_call *call)
{
	struct kvm_pit_state2 s = { 0 };

	if (!call->kvm->irq.pit)
		return -ENXIO;
	memcpy(s.channels, &call->u->pit, sizeof(s.channels));
	return pit_set(&call->kvm->irq, &s);
}

long vm_reinject(struct api_call *call)
{
	struct kvm_reinject_control c;

	if (copy_from_user(&c, (void *)call->arg, sizeof(c)))
		return -EFAULT;
	return call->kvm->irq.pit ? pit_reinject(&call->kvm->irq, c.pit_reinject) : -ENXIO;
}

long vm_set_boot_cpu_id(struct api_call *call)
{
	struct kvm *kvm = call->kvm;
	u32 ids = kvm->max_vcpu_id ? kvm->max_vcpu_id : KVM_VCPU_IDS_MAX;
	long r = 0;

	mutex_lock(&kvm->lock);
	if (kvm->nvcpus)
		r = -EBUSY;
	else if (call->arg >= ids)
		r = -EINVAL;
	else
		kvm->irq.boot_id = (u32)call->arg;
	mutex_unlock(&kvm->lock);
	return r;
}

/* ---- clock ---- */

long vm_get_clock(struct api_call *call)
{
	return kvm_get_clock(call->kvm, &call->u->clock);
}

long vm_set_clock(struct api_call *call)
{
	return kvm_set_clock(call->kvm, &call->u->clock);
}

/* ---- capabilities that are enabled ---- */

static long enable_max_vcpu_id(struct kvm *kvm, u64 n)
{
	long r = -EINVAL;

	if (n > KVM_VCPU_IDS_MAX)
		return -EINVAL;
	mutex_lock(&kvm->lock);
	if (kvm->irq.boot_id > n) {
		/* As KVM: a boot id equal to the limit passes, though no vCPU can have it. */
	} else if (kvm->max_vcpu_id == n) {
		r = 0;
	} else if (!kvm->max_vcpu_id) {
		kvm->max_vcpu_id = (u32)n;
		r = 0;
	}
	mutex_unlock(&kvm->lock);
	return r;
}

static long enable_manual_protect(struct kvm *kvm, u64 bits)
{
	u64 allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (bits & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		allowed |= KVM_DIRTY_LOG_INITIALLY_SET;
	if (bits & ~allowed)
		return -EINVAL;
	mutex_lock(&kvm->mem.lock);
	kvm->mem.manual_protect = bits & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	kvm->mem.initially_set = bits & KVM_DIRTY_LOG_INITIALLY_SET;
	mutex_unlock(&kvm->mem.lock);
	return 0;
}

long vm_set_msr_filter(struct api_call *call)
{
	return kvm_set_msr_filter(call->kvm, &call->u->msr_filter);
}

long vm_enable_cap(struct api_call *call)
{
	const struct kvm_enable_cap *c = &call->u->cap;
	struct kvm *kvm = call->kvm;

	if (c->flags)
		return -EINVAL;
	switch (c->cap) {
	case KVM_CAP_SPLIT_IRQCHIP:
		return kvm_split_irqchip(kvm, c->args[0]);
	case KVM_CAP_MAX_VCPU_ID:
		return enable_max_vcpu_id(kvm, c->args[0]);
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return enable_manual_protect(kvm, c->args[0]);
	case KVM_CAP_X86_USER_SPACE_MSR:
		return kvm_enable_msr_exits(kvm, c->args[0]);
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (c->args[0] & ~1ull)
			return -EINVAL;
		kvm_set_policy(kvm, c->args[0] ? CPU_POLICY_STRICT : 0, c->args[0] ? 0 : CPU_POLICY_STRICT);
		return 0;
	case KVM_CAP_DISABLE_QUIRKS2:
		if (c->args[0] & ~(u64)KVM_QUIRKS)
			return -EINVAL;
		kvm_disable_quirks(kvm, c->args[0]);
		return 0;
	case KVM_CAP_DISABLE_QUIRKS:
		kvm_disable_quirks(kvm, c->args[0]);
		return 0;
	case KVM_CAP_X86_DISABLE_EXITS:
		if (c->args[0] & ~(u64)KVM_DISABLE_EXITS)
			return -EINVAL;
		if (c->args[0] & KVM_X86_DISABLE_EXITS_HLT)
			kvm->hlt_in_guest = true; /* PAUSE, MWAIT and C-states are no exits anyway */
		return 0;
	case KVM_CAP_MSR_PLATFORM_INFO:
		kvm_set_policy(kvm, c->args[0] ? 0 : CPU_POLICY_NO_PLATFORM_INFO, c->args[0] ? CPU_POLICY_NO_PLATFORM_INFO : 0);
		return 0;
	case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
		return kvm_set_apic_bus(kvm, c->args[0]);
	case KVM_CAP_X2APIC_API:
		if (c->args[0] & ~(u64)(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
			return -EINVAL;
		if (c->args[0] & KVM_X2APIC_API_USE_32BIT_IDS)
			kvm->irq.x2apic_32bit = true;
		if (c->args[0] & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
			kvm->irq.x2apic_no_broadcast_quirk = true;
		return 0;
	}
	return -EINVAL;
}
