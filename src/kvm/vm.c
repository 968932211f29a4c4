/* SPDX-License-Identifier: MIT */
/*
 * Making and ending a VM, and the calls on it that concern several of its parts.
 */
#include "kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/inject.h"
#include "base/string.h"
#include "base/sys.h"
#include "translate/engine.h"

static struct kvm *vf_kvm(struct vfile *vf)
{
	return container_of(vf, struct kvm, vf);
}

static void vm_release(struct vfile *vf)
{
	kvm_put(vf_kvm(vf));
}

const struct vfile_ops kvm_vm_ops = { VFILE_VM, vm_release };

static int vm_init(struct kvm *kvm)
{
	qsbr_init(&kvm->qsbr);
	mutex_init(&kvm->lock, "kvm");
	mutex_init(&kvm->dev_lock, "devices");
	kvm->refs = kvm->pins = 1;
	kvm->policy = CPU_POLICY_FIX_HYPERCALL | CPU_POLICY_MWAIT_NOP;
	for (unsigned i = 0; i < KVM_CLIENT_READERS; i++)
		qsbr_register(&kvm->qsbr, &kvm->clients[i].reader);
	int r = service_start(&kvm->svc, "usekvm-service");
	if (r)
		return r;
	r = mem_init(&kvm->mem, &kvm_mem_ops);
	if (r)
		goto out_service;
	r = iobus_init(&kvm->bus, &kvm_iobus_ops);
	if (r)
		goto out_mem;
	r = irqchip_init(&kvm->irq, &kvm_irq_ops, &kvm->bus, kvm->svc);
	if (r)
		goto out_bus;
	kvm_clock_init(kvm);
	return 0;

out_bus:
	iobus_destroy(&kvm->bus);
out_mem:
	mem_destroy(&kvm->mem);
out_service:
	service_stop(kvm->svc);
	return r;
}

/* No fd and no call is left; the service thread is the only other one that knows the VM. */
static void vm_fini(struct kvm *kvm)
{
	while (kvm->devices) {
		struct kvm_device *d = kvm->devices;

		kvm->devices = d->next;
		d->end(d);
	}
	for (u32 i = 0; i < kvm->nvcpus; i++) {
		irqchip_del_lapic(&kvm->irq, &kvm->vcpus[i]->lapic);
		lapic_destroy(&kvm->vcpus[i]->lapic);
	}
	irqchip_destroy(&kvm->irq);
	iobus_destroy(&kvm->bus);
	service_stop(kvm->svc);
	for (u32 i = 0; i < kvm->nvcpus; i++)
		vcpu_free(kvm->vcpus[i]);
	mem_destroy(&kvm->mem);
	msr_filter_free(kvm->msr_filter);
}

static struct kvm *vm_alloc(void)
{
	struct kvm *kvm = aligned_alloc(_Alignof(struct kvm), sizeof(*kvm));

	if (kvm)
		memset(kvm, 0, sizeof(*kvm));
	return kvm;
}

int kvm_create_vm(void)
{
	struct kvm *kvm = vm_alloc();

	if (!kvm)
		return -ENOMEM;
	int r = vm_init(kvm);
	if (r)
		goto out_free;
	process_add(&kvm->node);
	live_add(LIVE_VM, 1);
	int fd = vfile_create(&kvm->vf, &kvm_vm_ops, "kvm-vm", 0, true);
	if (fd < 0) {
		kvm_put(kvm);
		return fd;
	}
	kvm->fd = fd;
	return fd;

out_free:
	free(kvm);
	return r;
}

void kvm_get(struct kvm *kvm)
{
	__atomic_fetch_add(&kvm->refs, 1, __ATOMIC_RELAXED);
}

void vcpu_stats_add(const struct kvm_vcpu *v, u64 sum[KSTAT_COUNT])
{
	const u64 *const cpu[] = { &v->cpu.stat.insns, &v->cpu.stat.blocks, &v->cpu.stat.decodes, &v->cpu.stat.tlb_fills, &v->cpu.stat.code_flushes,
				   &v->cpu.stat.mmio, &v->cpu.stat.pio, &v->cpu.stat.exceptions, &v->cpu.stat.interrupts, &v->cpu.stat.stubs };

	for (unsigned i = 0; i < KVM_EXIT_REASONS; i++)
		sum[KSTAT_EXIT0 + i] += load_relaxed(&v->stat.exits[i]);
	sum[KSTAT_RUNS] += load_relaxed(&v->stat.runs);
	sum[KSTAT_INTR] += load_relaxed(&v->stat.intr);
	sum[KSTAT_HALTS] += load_relaxed(&v->stat.halts);
	sum[KSTAT_GUEST_TSC] += load_relaxed(&v->stat.guest_tsc);
	sum[KSTAT_VMM_TSC] += load_relaxed(&v->stat.vmm_tsc);
	sum[KSTAT_WBINVD] += load_relaxed(&v->stat.wbinvd);
	sum[KSTAT_FLUSHES] += load_relaxed(&v->stat.flushes);
	sum[KSTAT_LINES] += load_relaxed(&v->stat.lines);
	for (unsigned i = 0; i < ARRAY_SIZE(cpu); i++)
		sum[KSTAT_CPU0 + i] += load_relaxed(cpu[i]);
	for (unsigned i = 0; i < XS_COUNT; i++)
		sum[KSTAT_X0 + i] += load_relaxed(&v->cpu.xstat[i]);
}

void kvm_stats_add(struct kvm *kvm, u64 sum[KSTAT_COUNT])
{
	u32 nvcpus = load_acquire(&kvm->nvcpus);

	for (u32 i = 0; i < nvcpus; i++)
		vcpu_stats_add(kvm->vcpus[i], sum);
}

/* Two counters beyond KSTAT_COUNT: VMs and vCPUs. */
static void add_vm(struct process_node *n, u64 *sum)
{
	struct kvm *kvm = container_of(n, struct kvm, node);
	u32 nvcpus = load_acquire(&kvm->nvcpus);

	for (u32 i = 0; i < nvcpus; i++)
		vcpu_stats_add(kvm->vcpus[i], sum);
	sum[KSTAT_COUNT]++;
	sum[KSTAT_COUNT + 1] += nvcpus;
}

static void call_out(struct process_node *n, u64 *sum)
{
	kvm_request_all(container_of(n, struct kvm, node), CPU_REQ_SYNC);
}

void kvm_memory_changed(void)
{
	u64 none[PROCESS_TOTALS];

	process_sum(none, call_out);
}

/* For one that is still there. */
static void add_live_vm(struct process_node *n, u64 *sum)
{
	struct kvm *kvm = container_of(n, struct kvm, node);
	u32 nvcpus = load_acquire(&kvm->nvcpus);

	add_vm(n, sum);
	for (u32 i = 0; i < nvcpus; i++)
		translate_report(&kvm->vcpus[i]->cpu);
}

_Static_assert(KSTAT_COUNT + 2 <= PROCESS_TOTALS, "totals");

void kvm_stats_sum(u64 sum[KSTAT_COUNT], unsigned *vms, unsigned *vcpus)
{
	u64 all[PROCESS_TOTALS];

	process_sum(all, add_live_vm);
	memcpy(sum, all, KSTAT_COUNT * sizeof(u64));
	*vms = (unsigned)all[KSTAT_COUNT];
	*vcpus = (unsigned)all[KSTAT_COUNT + 1];
}

void kvm_set_policy(struct kvm *kvm, u32 set, u32 clear)
{
	mutex_lock(&kvm->lock);
	store_relaxed(&kvm->policy, (kvm->policy & ~clear) | set);
	for (u32 i = 0; i < kvm->nvcpus; i++)
		store_relaxed(&kvm->vcpus[i]->cpu.policy, kvm->policy);
	mutex_unlock(&kvm->lock);
}

void kvm_disable_quirks(struct kvm *kvm, u64 quirks)
{
	u32 set = quirks & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT ? CPU_POLICY_MWAIT_MSR : 0, clear = 0;

	if (quirks & KVM_X86_QUIRK_FIX_HYPERCALL_INSN)
		clear |= CPU_POLICY_FIX_HYPERCALL;
	if (quirks & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)
		clear |= CPU_POLICY_MWAIT_NOP;
	if (quirks & KVM_X86_QUIRK_LINT0_REENABLED)
		kvm->irq.lint0_masked = true;
	__atomic_fetch_or(&kvm->quirks_off, quirks & KVM_QUIRKS, __ATOMIC_RELAXED);
	kvm_set_policy(kvm, set, clear);
}

/* What a cycle of the LAPIC timers' bus takes: before any vCPU, since their timers count in it. */
int kvm_set_apic_bus(struct kvm *kvm, u64 ns)
{
	int r = 0;

	/* A timer's longest time, 2^32 cycles at a divider of 128, must still fit. */
	if (!ns || ns > ~0ull >> 39)
		return -EINVAL;
	mutex_lock(&kvm->lock);
	if (!kvm_lapics_in_kernel(kvm))
		r = -ENXIO;
	else if (kvm->nvcpus)
		r = -EINVAL;
	else
		kvm->irq.bus_cycle_ns = ns;
	mutex_unlock(&kvm->lock);
	return r;
}

/* vCPUs made later take it over when they are published, under the same lock. */
void kvm_noncoherent_dma(struct kvm *kvm, bool start)
{
	mutex_lock(&kvm->lock);
	store_relaxed(&kvm->noncoherent, start ? kvm->noncoherent + 1 : kvm->noncoherent - 1);
	for (u32 i = 0; i < kvm->nvcpus; i++)
		store_relaxed(&kvm->vcpus[i]->cpu.noncoherent, kvm->noncoherent);
	mutex_unlock(&kvm->lock);
}

void kvm_put(struct kvm *kvm)
{
	if (__atomic_sub_fetch(&kvm->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (kvm->gone)
		kvm->gone(kvm, kvm->gone_arg);
	kvm_unpin(kvm);
}

void kvm_pin(struct kvm *kvm)
{
	__atomic_fetch_add(&kvm->pins, 1, __ATOMIC_RELAXED);
}

void kvm_unpin(struct kvm *kvm)
{
	if (__atomic_sub_fetch(&kvm->pins, 1, __ATOMIC_ACQ_REL))
		return;
	process_del(&kvm->node, add_vm);
	vm_fini(kvm);
	free(kvm);
	live_add(LIVE_VM, -1);
}

int kvm_create_irqchip(struct kvm *kvm)
{
	int r;

	mutex_lock(&kvm->lock);
	if (kvm_lapics_in_kernel(kvm))
		r = -EEXIST;
	else if (kvm->nvcpus)
		r = -EINVAL;
	else
		r = irqchip_create(&kvm->irq);
	mutex_unlock(&kvm->lock);
	return r;
}

int kvm_split_irqchip(struct kvm *kvm, u64 pins)
{
	int r;

	if (pins > IRQ_MAX_ROUTES)
		return -EINVAL;
	mutex_lock(&kvm->lock);
	if (kvm_lapics_in_kernel(kvm) || kvm->nvcpus)
		r = -EEXIST;
	else
		r = irqchip_split(&kvm->irq, (u32)pins);
	mutex_unlock(&kvm->lock);
	return r;
}

/*
 * The memory of the first patches of KVM: the VMM maps the VM fd at the guest physical address. The fd is a sparse memfd, so
 * a slot's memory is a mapping of it at that offset. Should the VMM have closed the VM fd, nobody can map it, and memory of our own does.
 */
int kvm_set_memory_region(struct kvm *kvm, const struct kvm_memory_region *r)
{
	struct vfile *vf = vfile_get(kvm->fd);
	int fd = vf == &kvm->vf ? kvm->fd : -1;
	int ret = mem_set_region_owned(&kvm->mem, r->slot, r->flags, r->guest_phys_addr, r->memory_size, fd);

	if (vf)
		vfile_put(vf);
	return ret;
}
