/* SPDX-License-Identifier: MIT */
/*
 * How one thread gets a vCPU's attention, and waits until no vCPU uses what was replaced. The upward calls of mem/, iobus/ and irqchip/.
 *
 * cpu.requests is also the word that a halted vCPU sleeps on: a request set before it sleeps makes futex_wait return at once, one set
 * after that finds `sleeping` (both sides are sequentially consistent) and wakes it. So none is lost.
 *
 * A vCPU quiesces before it takes its requests (vcpu_process_requests): if it has seen the epoch of a synchronize call, it also sees the
 * request that was made before the call, and drops its translations before it runs the guest again.
 */
#include "kvm/kvm.h"

#include "base/inject.h"
#include "cpu/cpuid.h"

void vcpu_kick(struct kvm_vcpu *v, u32 bits)
{
	inject_slow_kick();
	cpu_request(&v->cpu, bits);
	inject_slow_kick();
	if (__atomic_load_n(&v->sleeping, __ATOMIC_SEQ_CST))
		futex_wake(&v->cpu.requests, 1);
}

void kvm_request_all(struct kvm *kvm, u32 bits)
{
	u32 n = load_acquire(&kvm->nvcpus);

	for (u32 i = 0; i < n; i++)
		vcpu_kick(kvm->vcpus[i], bits);
}

static void nudge(void *arg)
{
	kvm_request_all(arg, CPU_REQ_SYNC);
}

void kvm_synchronize(struct kvm *kvm)
{
	nudge(kvm);
	qsbr_synchronize(&kvm->qsbr, nudge, kvm);
}

static struct kvm *mem_kvm(struct guest_mem *m)
{
	return container_of(m, struct kvm, mem);
}

static void flush_all(struct guest_mem *m)
{
	kvm_request_all(mem_kvm(m), CPU_REQ_TLB_FLUSH);
	kvm_synchronize(mem_kvm(m));
}

static void flush_write(struct guest_mem *m)
{
	kvm_request_all(mem_kvm(m), CPU_REQ_TLB_WRITE);
	kvm_synchronize(mem_kvm(m));
}

/* One that sleeps looks when it wakes. */
static void code_written(struct guest_mem *m)
{
	struct kvm *kvm = mem_kvm(m);
	u32 n = load_acquire(&kvm->nvcpus);

	for (u32 i = 0; i < n; i++)
		if (!(load_relaxed(&kvm->vcpus[i]->cpu.requests) & CPU_REQ_XID))
			cpu_request(&kvm->vcpus[i]->cpu, CPU_REQ_XID);
}

const struct mem_ops kvm_mem_ops = { .flush_all = flush_all, .flush_write = flush_write, .code_written = code_written };

static void bus_synchronize(struct iobus *b)
{
	kvm_synchronize(container_of(b, struct kvm, bus));
}

static u64 bus_mark(struct iobus *b)
{
	return qsbr_mark(&container_of(b, struct kvm, bus)->qsbr);
}

static bool bus_passed(struct iobus *b, u64 mark)
{
	struct kvm *kvm = container_of(b, struct kvm, bus);

	if (qsbr_passed(&kvm->qsbr, mark))
		return true;
	kvm_request_all(kvm, CPU_REQ_SYNC);
	return false;
}

const struct iobus_ops kvm_iobus_ops = { .synchronize = bus_synchronize, .mark = bus_mark, .passed = bus_passed };

static struct kvm *irq_kvm(struct irqchip *c)
{
	return container_of(c, struct kvm, irq);
}

static void irq_kick(struct lapic *l)
{
	vcpu_kick(lapic_vcpu(l), CPU_REQ_EVENT | CPU_REQ_TIMER);
}

static void irq_base_changed(struct lapic *l)
{
	cpuid_set_apic_enabled(&lapic_vcpu(l)->cpu, l->base & (1u << 11));
}

static void irq_eoi_exit(struct lapic *l, u8 vector)
{
	struct kvm_vcpu *v = lapic_vcpu(l);

	v->eoi_exit = vector;
	cpu_request(&v->cpu, CPU_REQ_EVENT);
}

static u64 irq_guest_tsc(struct lapic *l)
{
	return cpu_guest_tsc(&lapic_vcpu(l)->cpu);
}

static u64 irq_tsc_to_ns(struct lapic *l, u64 delta)
{
	struct kvm_vcpu *v = lapic_vcpu(l);

	if (v->cpu.tsc_ratio) {
		u128 host = ((u128)delta << 48) / v->cpu.tsc_ratio;

		delta = host > ~0ull ? ~0ull : (u64)host;
	}
	return kvm_tsc_to_ns(v->kvm, delta);
}

static struct qsbr *irq_qsbr(struct irqchip *c)
{
	return &irq_kvm(c)->qsbr;
}

static void irq_synchronize(struct irqchip *c)
{
	kvm_synchronize(irq_kvm(c));
}

const struct irq_ops kvm_irq_ops = {
	.kick = irq_kick,
	.base_changed = irq_base_changed,
	.ioapic_eoi_exit = irq_eoi_exit,
	.guest_tsc = irq_guest_tsc,
	.tsc_to_ns = irq_tsc_to_ns,
	.qsbr = irq_qsbr,
	.synchronize = irq_synchronize,
};
