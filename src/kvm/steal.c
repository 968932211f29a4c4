/* SPDX-License-Identifier: MIT */
/*
 * Steal time: how long the thread of a vCPU has waited for a host CPU, in the page that the guest names in MSR_KVM_STEAL_TIME.
 *
 * The host's scheduler counts that for each thread and shows it in /proc/self/task/TID/schedstat. Reading it is the agent's work (a seccomp
 * filter may forbid it here) and takes some 10 us, so it is done when KVM_RUN is entered after the thread was elsewhere for a while, and otherwise
 * every millisecond: then, or when a timer of the guest is due.
 */
#include "kvm/kvm.h"

#include <errno.h>

#include "base/process.h"

#define RESERVED 0x3eull /* the page is 64 bytes aligned, bit 0 enables */

/* The guest's side. */
struct steal {
	u64 ns;
	u32 version, flags;
	u8 preempted, pad[47];
};
_Static_assert(sizeof(struct steal) == 64, "steal time ABI");

int vcpu_set_steal_time(struct kvm_vcpu *v, u64 val)
{
	if (val & RESERVED)
		return -EINVAL;
	v->pv.steal_time = val;
	v->pv.steal_due = 0;
	v->pv.steal_tid = 0;
	return 0;
}

static void report(struct kvm_vcpu *v)
{
	struct guest_mem *m = &v->kvm->mem;
	gpa_t gpa = v->pv.steal_time & ~(RESERVED | 1);
	u64 waited = v->pv.stolen;
	struct steal s;

	v->pv.steal_due = host_rdtsc() + v->kvm->clock.khz;
	process_run_delay(v->pv.steal_tid, &waited);
	if (mem_read(m, gpa, &s, sizeof(s)))
		return;
	/* Odd while it is being written. The guest may have cleared it. */
	s.version += 1 + (s.version & 1);
	if (mem_write(m, gpa + offsetof(struct steal, version), &s.version, sizeof(s.version)))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	s.ns += waited - v->pv.stolen;
	v->pv.stolen = waited;
	s.preempted = 0;
	mem_write(m, gpa, &s.ns, sizeof(s.ns));
	mem_write(m, gpa + offsetof(struct steal, preempted), &s.preempted, 1);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	s.version++;
	mem_write(m, gpa + offsetof(struct steal, version), &s.version, sizeof(s.version));
}

void vcpu_steal_enter(struct kvm_vcpu *v)
{
	u64 now = host_rdtsc();

	if (!v->pv.steal_tid || now - v->pv.steal_left > v->kvm->clock.khz / 10) {
		v->pv.steal_tid = process_tid();
		report(v);
	} else if (now >= v->pv.steal_due) {
		report(v);
	}
}

void vcpu_steal_tick(struct kvm_vcpu *v)
{
	if (v->pv.steal_tid && host_rdtsc() >= v->pv.steal_due)
		report(v);
}
