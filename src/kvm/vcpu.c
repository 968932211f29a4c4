/* SPDX-License-Identifier: MIT */
/*
 * Making, resetting and ending a vCPU.
 *
 * Its fd is a memfd of three pages that the VMM maps: struct kvm_run, the data of port accesses, and the coalesced ring. The kernel has one
 * ring for a VM that shows in every vCPU's mapping; memfds cannot share a page, so the ring is the third page of the vCPU that was made
 * first, and the interposed mmap lays it over that of the others (vcpu_map_ring).
 */
#include "kvm/kvm.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/inject.h"
#include "base/process.h"
#include "base/string.h"
#include "base/sys.h"
#include "cpu/cpuid.h"
#include "direct/direct.h"
#include "translate/engine.h"

static struct kvm_vcpu *vf_vcpu(struct vfile *vf)
{
	return container_of(vf, struct kvm_vcpu, vf);
}

/* The vCPU itself is the VM's until that goes. */
static void vcpu_release(struct vfile *vf)
{
	kvm_put(vf_vcpu(vf)->kvm);
}

const struct vfile_ops kvm_vcpu_ops = { VFILE_VCPU, vcpu_release };

static size_t vcpu_size(void)
{
	return ALIGN_UP(sizeof(struct kvm_vcpu), PAGE_SIZE);
}

void vcpu_free(struct kvm_vcpu *v)
{
	live_add(LIVE_VCPU, -1);
	qsbr_unregister(&v->kvm->qsbr, &v->reader);
	v->engine->destroy(&v->cpu);
	cpu_destroy(&v->cpu);
	sys_munmap(v->run, KVM_VCPU_MMAP_PAGES * PAGE_SIZE);
	sys_munmap(v, vcpu_size());
}

void vcpu_reset(struct kvm_vcpu *v, bool init)
{
	cpu_reset(&v->cpu, init);
	lapic_reset(&v->lapic, init);
	v->cpu.io.state = IO_NONE;
	v->cpu.mmio.n = 0;
	v->pending_io = v->pending_mmio = false;
	v->pending_msr = MSR_PENDING_NONE;
	v->user_irq = -1;
	v->eoi_exit = -1;
}

static int vcpu_init(struct kvm_vcpu *v, struct kvm *kvm, u32 id)
{
	v->kvm = kvm;
	v->id = id;
	v->engine = process_engine == ENGINE_INTERP ? &interp_engine : process_engine == ENGINE_AUTO && process_direct ? &direct_engine : &translate_engine;
	v->user_irq = v->eoi_exit = -1;
	v->pv.poll_control = 1; /* the host may poll before it sleeps */
	mutex_init(&v->lock, "vcpu");
	int r = cpu_init(&v->cpu, &kvm_cpu_ops, &kvm->mem);
	if (r)
		return r;
	r = v->engine->init(&v->cpu);
	if (r)
		goto out_cpu;
	bool kernel = kvm_lapics_in_kernel(kvm);
	r = lapic_init(&v->lapic, &kvm->irq, id, kernel);
	if (r)
		goto out_engine;
	vcpu_reset(v, false);
	v->mp_state = !kernel || vcpu_is_bsp(v) ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
	qsbr_register(&kvm->qsbr, &v->reader);
	return 0;

out_engine:
	v->engine->destroy(&v->cpu);
out_cpu:
	cpu_destroy(&v->cpu);
	return r;
}

static void vcpu_fini(struct kvm_vcpu *v)
{
	qsbr_unregister(&v->kvm->qsbr, &v->reader);
	lapic_destroy(&v->lapic);
	v->engine->destroy(&v->cpu);
	cpu_destroy(&v->cpu);
}

static int map_run(struct kvm_vcpu *v, int fd)
{
	void *p = sys_mmap(NULL, KVM_VCPU_MMAP_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

	if (sys_is_err(p))
		return (int)(long)p;
	v->run = p;
	v->pio_data = (u8 *)p + KVM_PIO_PAGE * PAGE_SIZE;
	return 0;
}

/* Under kvm.lock. */
static int may_create(struct kvm *kvm, u32 id)
{
	u32 ids = kvm->max_vcpu_id ? kvm->max_vcpu_id : KVM_VCPU_IDS_MAX;

	if (id >= ids || kvm->nvcpus >= KVM_VCPUS_MAX)
		return -EINVAL;
	for (u32 i = 0; i < kvm->nvcpus; i++)
		if (kvm->vcpus[i]->id == id)
			return -EEXIST;
	return 0;
}

int vcpu_map_ring(struct kvm_vcpu *v, void *addr, u64 len, u64 offset, int prot)
{
	const u64 at = KVM_RING_PAGE * PAGE_SIZE;
	u8 *ring = (u8 *)v->kvm->bus.ring, *dst;

	if (!v->idx || !ring || offset > at || ALIGN_UP(len, PAGE_SIZE) < at - offset + PAGE_SIZE)
		return 0;
	if (inject_fault(ENOMEM))
		return -ENOMEM;
	dst = (u8 *)addr + (at - offset);
	/* mremap of no bytes of a shared mapping makes a second one of the same pages. */
	void *p = (void *)sys6(SYS_mremap, (long)ring, 0, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, (long)dst, 0);
	if (sys_is_err(p))
		return (int)(long)p;
	return prot == (PROT_READ | PROT_WRITE) ? 0 : (int)sys3(SYS_mprotect, dst, PAGE_SIZE, prot);
}

/* Under kvm.lock: from here on other threads find the vCPU, and nothing can fail any more. */
static void publish(struct kvm *kvm, struct kvm_vcpu *v)
{
	if (!kvm->nvcpus)
		store_release(&kvm->bus.ring, (struct kvm_coalesced_mmio_ring *)((u8 *)v->run + KVM_RING_PAGE * PAGE_SIZE));
	v->idx = kvm->nvcpus;
	kvm->vcpus[v->idx] = v;
	v->cpu.noncoherent = kvm->noncoherent;
	v->cpu.policy = kvm->policy;
	store_release(&kvm->nvcpus, kvm->nvcpus + 1);
	live_add(LIVE_VCPU, 1);
}

static int create_locked(struct kvm *kvm, u32 id, struct kvm_vcpu **made)
{
	char name[32] = "kvm-vcpu:";
	unsigned n = (unsigned)strlen(name);
	int r = may_create(kvm, id);

	if (r)
		return r;
	for (u32 div = id > 999 ? 1000 : id > 99 ? 100 : id > 9 ? 10 : 1; div; div /= 10)
		name[n++] = (char)('0' + id / div % 10);
	struct kvm_vcpu *v = sys_mmap(NULL, vcpu_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_is_err(v))
		return -ENOMEM;
	r = vcpu_init(v, kvm, id);
	if (r)
		goto out_unmap;
	int fd = vfile_prepare(&v->vf, &kvm_vcpu_ops, name, KVM_VCPU_MMAP_PAGES * PAGE_SIZE, true);
	if (fd < 0) {
		r = fd;
		goto out_fini;
	}
	r = map_run(v, fd);
	if (r)
		goto out_close;
	vcpu_init_tsc_khz(v, kvm->clock.vcpu_khz);
	vcpu_sync_tsc(v, 0);
	r = v->lapic.present ? irqchip_add_lapic(&kvm->irq, &v->lapic) : 0;
	if (r)
		goto out_run;
	kvm_get(kvm);
	publish(kvm, v);
	*made = v;
	return fd;

out_run:
	sys_munmap(v->run, KVM_VCPU_MMAP_PAGES * PAGE_SIZE);
out_close:
	sys_close(fd);
out_fini:
	vcpu_fini(v);
out_unmap:
	sys_munmap(v, vcpu_size());
	return r;
}

int kvm_create_vcpu(struct kvm *kvm, u32 id)
{
	struct kvm_vcpu *v = NULL;

	mutex_lock(&kvm->lock);
	int r = create_locked(kvm, id, &v);
	mutex_unlock(&kvm->lock);
	if (r >= 0)
		vfile_publish(&v->vf, r); /* may end other VMs: without the lock */
	return r;
}

struct kvm_vcpu *kvm_vcpu_by_id(struct kvm *kvm, u32 id)
{
	u32 n = load_acquire(&kvm->nvcpus);

	if (id < n && kvm->vcpus[id]->id == id) /* usually made in order */
		return kvm->vcpus[id];
	for (u32 i = 0; i < n; i++)
		if (kvm->vcpus[i]->id == id)
			return kvm->vcpus[i];
	return NULL;
}

/* As in KVM: what CPUID does not show is refused only if the VMM has asked for that. */
bool vcpu_pv_has(const struct kvm_vcpu *v, unsigned feature)
{
	return !v->pv_enforced || v->cpu.feat[CPUW_KVM_EAX] >> feature & 1;
}

/* What the guest has switched on since (OSXSAVE, sizes of XSAVE areas, ...) is not the VMM's: QEMU gives a CPU that is plugged in again its first list. */
static bool same_cpuid(const struct kvm_vcpu *v, const struct kvm_cpuid_entry2 *e, u32 n)
{
	if (v->cpu.ncpuid != n)
		return false;
	for (u32 i = 0; i < n; i++) {
		const struct kvm_cpuid_entry2 *old = &v->cpu.cpuid[i];
		struct kvm_cpuid_entry2 x = e[i];

		cpuid_entry_runtime(&v->cpu, &x, v->lapic.base & (1u << 11), v->kvm->hlt_in_guest);
		if (x.function != old->function || x.index != old->index || x.flags != old->flags || x.eax != old->eax || x.ebx != old->ebx ||
		    x.ecx != old->ecx || x.edx != old->edx)
			return false;
	}
	return true;
}

void vcpu_update_features(struct kvm_vcpu *v)
{
	const struct cpu *c = &v->cpu;

	lapic_set_features(&v->lapic, cpu_has(c, CPUID_X2APIC), cpu_has(c, CPUID_TSC_DEADLINE), c->msr.mcg_cap & BIT(10), c->maxphyaddr);
}

/* Once the vCPU has run, only the list that it has may be set again. */
int vcpu_set_cpuid(struct kvm_vcpu *v, const struct kvm_cpuid_entry2 *e, u32 n)
{
	cpuid_update_runtime(&v->cpu);
	if (v->ran)
		return same_cpuid(v, e, n) ? 0 : -EINVAL;
	int r = cpuid_set(&v->cpu, e, n);
	if (!r) {
		cpuid_set_apic_enabled(&v->cpu, v->lapic.base & (1u << 11));
		if (v->kvm->hlt_in_guest) /* whoever does not see a HLT need not be kicked out of it */
			cpuid_hide_kvm_feature(&v->cpu, KVM_FEATURE_PV_UNHALT);
		vcpu_update_features(v);
		cpu_update_mode(&v->cpu);
		cpu_tlb_flush(&v->cpu);
	}
	return r;
}
