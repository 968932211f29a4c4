/* SPDX-License-Identifier: MIT */
/*
 * What an engine asks of the machine around its vCPU (struct cpu_ops): port and MMIO accesses, the MSRs that are not plain CPU state, CR8,
 * hypercalls. Called on the vCPU's thread inside the read section.
 */
#include "kvm/kvm.h"

#include <errno.h>
#include <linux/kvm_para.h>

#include "base/cache.h"
#include "base/string.h"
#include "base/sys.h"
#include "cpu/cpuid.h"


static int op_pio(struct cpu *c, u16 port, unsigned size, unsigned count, void *data, bool write)
{
	struct kvm_vcpu *v = cpu_vcpu(c);
	struct iobus *bus = &v->kvm->bus;
	u8 *p = data;

	/* A device takes all items of a string or none: whether it answers the first decides. */
	for (unsigned i = 0; i < count; i++, p += size) {
		int r = write ? iobus_write(bus, IO_PIO, v, port, size, p) : iobus_read(bus, IO_PIO, v, port, size, p);

		if (r && !i)
			return 1;
		if (r && !write)
			for (unsigned k = 0; k < size; k++)
				p[k] = 0xff;
	}
	return 0;
}

static bool in_lapic_page(const struct kvm_vcpu *v, gpa_t gpa)
{
	return v->lapic.present && (gpa & PAGE_MASK) == (v->lapic.base & 0xffffffffff000ull);
}

/* The LAPIC's page while the LAPIC is off or in x2APIC mode. */
static bool lapic_page_is_hole(const struct kvm_vcpu *v)
{
	const u64 enabled = 1u << 11, x2apic = 1u << 10;

	return (v->lapic.base & (enabled | x2apic)) != enabled;
}

static bool lapic_page(struct kvm_vcpu *v, gpa_t gpa, unsigned len, void *data, bool write)
{
	u32 off = gpa & ~PAGE_MASK;

	if (likely(!in_lapic_page(v, gpa)))
		return false;
	if (unlikely(lapic_page_is_hole(v))) {
		/* The VMM must not take a stray write for an MSI. */
		if (!kvm_has_quirk(v->kvm, KVM_X86_QUIRK_LAPIC_MMIO_HOLE))
			return false;
		if (!write)
			memset(data, 0xff, len);
	} else if (write) {
		lapic_mmio_write(&v->lapic, off, len, data);
	} else {
		lapic_mmio_read(&v->lapic, off, len, data);
	}
	return true;
}

static int op_mmio(struct cpu *c, gpa_t gpa, unsigned len, void *data, bool write)
{
	struct kvm_vcpu *v = cpu_vcpu(c);
	struct iobus *bus = &v->kvm->bus;

	if (lapic_page(v, gpa, len, data, write))
		return 0;
	int r = write ? iobus_write(bus, IO_MMIO, v, gpa, len, data) : iobus_read(bus, IO_MMIO, v, gpa, len, data);
	return r ? 1 : 0;
}

static int op_rdmsr(struct cpu *c, u32 index, u64 *value)
{
	struct kvm_vcpu *v = cpu_vcpu(c);
	int r = lapic_rdmsr(&v->lapic, index, value);

	return r == -ENOENT ? vcpu_clock_rdmsr(v, index, value, false) : r;
}

static int op_wrmsr(struct cpu *c, u32 index, u64 value)
{
	struct kvm_vcpu *v = cpu_vcpu(c);
	int r = lapic_wrmsr(&v->lapic, index, value, false);

	return r == -ENOENT ? vcpu_clock_wrmsr(v, index, value, false) : r;
}

static bool op_msr_allowed(struct cpu *c, u32 index, bool write)
{
	return vcpu_msr_allowed(cpu_vcpu(c), index, write);
}

static int op_msr_failed(struct cpu *c, u32 index, bool write, u64 value, int error)
{
	return vcpu_msr_failed(cpu_vcpu(c), index, write, value, error);
}

u64 vcpu_get_cr8(struct kvm_vcpu *v)
{
	return v->lapic.present ? lapic_get_tpr(&v->lapic) : v->cr8;
}

void vcpu_set_cr8(struct kvm_vcpu *v, u64 val)
{
	if (v->lapic.present)
		lapic_set_tpr(&v->lapic, val);
	else
		v->cr8 = val;
}

static u64 op_get_tpr(struct cpu *c)
{
	return vcpu_get_cr8(cpu_vcpu(c));
}

static void op_set_tpr(struct cpu *c, u64 tpr)
{
	struct kvm_vcpu *v = cpu_vcpu(c);

	vcpu_set_cr8(v, tpr);
	cpu_request(c, CPU_REQ_EVENT);
}

/* Interrupts for the vCPUs whose APIC ids, counted from `min`, have their bits set in the two words: how many took it. */
static s64 hc_send_ipi(struct kvm_vcpu *v, u64 low, u64 high, u32 min, u32 icr)
{
	unsigned width = cpu_is_64(&v->cpu) ? 64 : 32;
	const u64 word[2] = { low, high };
	struct irq_msg m = {
		.vector = (u8)icr,
		.delivery = (icr >> 8) & 7,
		.assert = icr & 0x4000,
		.level = icr & 0x8000,
	};
	s64 n = 0;

	if (icr & 0xc0800) /* a logical destination or a shorthand: the bits say to whom */
		return -KVM_EINVAL;
	if (!v->lapic.present)
		return -KVM_EOPNOTSUPP;
	for (unsigned w = 0; w < 2; w++) {
		for (u64 bits = word[w]; bits; bits &= bits - 1) {
			u64 id = (u64)min + w * width + (unsigned)__builtin_ctzll(bits);
			struct kvm_vcpu *to = id < KVM_VCPU_IDS_MAX ? kvm_vcpu_by_id(v->kvm, (u32)id) : NULL;

			n += to && to->lapic.present && lapic_accept_msg(&to->lapic, &m);
		}
	}
	return n;
}

static s64 hc_kick(struct kvm_vcpu *v, u64 id)
{
	struct kvm_vcpu *to = id < KVM_VCPU_IDS_MAX ? kvm_vcpu_by_id(v->kvm, (u32)id) : NULL;

	if (to) {
		store_relaxed(&to->unhalt, 1);
		vcpu_kick(to, CPU_REQ_EVENT);
	}
	return 0;
}

static int op_hypercall(struct cpu *c)
{
	struct kvm_vcpu *v = cpu_vcpu(c);
	u64 mask = cpu_is_64(c) ? ~0ull : ~0u;
	u64 nr = c->gpr[R_AX] & mask, a0 = c->gpr[R_BX] & mask, a1 = c->gpr[R_CX] & mask, a2 = c->gpr[R_DX] & mask, a3 = c->gpr[R_SI] & mask;
	s64 ret = -KVM_ENOSYS;

	if (c->cpl) {
		ret = -KVM_EPERM;
	} else if (nr == KVM_HC_VAPIC_POLL_IRQ) {
		ret = 0;
	} else if (nr == KVM_HC_KICK_CPU && vcpu_pv_has(v, KVM_FEATURE_PV_UNHALT)) {
		ret = hc_kick(v, a1);
	} else if (nr == KVM_HC_SEND_IPI && vcpu_pv_has(v, KVM_FEATURE_PV_SEND_IPI)) {
		ret = hc_send_ipi(v, a0, a1, (u32)a2, (u32)a3);
	} else if (nr == KVM_HC_SCHED_YIELD && vcpu_pv_has(v, KVM_FEATURE_PV_SCHED_YIELD)) {
		sys_yield();
		ret = 0;
	}
	c->gpr[R_AX] = (u64)ret & mask;
	return 0;
}

/*
 * Guest memory is ordinary memory of the host, and devices reach it through the host's coherent caches, unless somebody has said otherwise:
 * then every line of it that another device might read or have written goes. Inside the read section, so the slots stay.
 */
static void op_wbinvd(struct cpu *c)
{
	struct kvm_vcpu *v = cpu_vcpu(c);
	const struct memslots *t = mem_slots(c->mem);
	u64 lines = 0;

	stat_add(&v->stat.wbinvd, 1);
	if (likely(!load_relaxed(&c->noncoherent)))
		return;
	for (u32 i = 0; i < t->n; i++)
		lines += cache_flush(t->slot[i].hva, t->slot[i].npages << PAGE_SHIFT);
	stat_add(&v->stat.flushes, 1);
	stat_add(&v->stat.lines, lines);
}

/*
 * The mark is of this VM's grace periods (base/qsbr.h): a vCPU that has passed it since has also taken the request made before, and
 * drops its translations before it runs the guest again. The caller passes too: it leaves the engine for a moment.
 */
static u64 op_write_flush_start(struct cpu *c, bool fresh)
{
	struct kvm_vcpu *self = cpu_vcpu(c);
	struct kvm *kvm = self->kvm;
	u32 n = load_acquire(&kvm->nvcpus);

	if (n <= 1)
		return 0;
	for (u32 i = 0; i < n; i++)
		if (kvm->vcpus[i] != self)
			cpu_request(&kvm->vcpus[i]->cpu, fresh ? CPU_REQ_TLB_WRITE : CPU_REQ_SYNC); /* a sleeping one sees it when it wakes */
	cpu_request(c, CPU_REQ_SYNC);
	return qsbr_mark(&kvm->qsbr);
}

static bool op_write_flush_done(struct cpu *c, u64 token)
{
	return qsbr_passed(&cpu_vcpu(c)->kvm->qsbr, token);
}

/* Guests with several vCPUs on fewer host CPUs spin for each other: let the other run. */
static void op_pause(struct cpu *c)
{
	struct kvm_vcpu *v = cpu_vcpu(c);

	if (load_relaxed(&v->kvm->nvcpus) > 1 && !(++v->pauses & 63))
		sys_yield();
}

const struct cpu_ops kvm_cpu_ops = {
	.pio = op_pio,
	.mmio = op_mmio,
	.rdmsr = op_rdmsr,
	.wrmsr = op_wrmsr,
	.msr_allowed = op_msr_allowed,
	.msr_failed = op_msr_failed,
	.get_tpr = op_get_tpr,
	.set_tpr = op_set_tpr,
	.hypercall = op_hypercall,
	.wbinvd = op_wbinvd,
	.write_flush_start = op_write_flush_start,
	.write_flush_done = op_write_flush_done,
	.pause = op_pause,
};
