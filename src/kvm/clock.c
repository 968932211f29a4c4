/* SPDX-License-Identifier: MIT */
/*
 * kvmclock and the guest's TSC.
 *
 * The guest's paravirtual time is a function of the host's TSC alone (one base for the VM), so all vCPUs agree to the nanosecond and the page of
 * a vCPU is rewritten only when the VMM sets the clock or a TSC moves. The frequency is measured once a process.
 */
#include "kvm/kvm.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <time.h>

#include "base/string.h"
#include "base/sys.h"

#define TSC_TOLERANCE_PPM 250 /* Linux's default */

/* The guest's side: Linux's pvclock ABI. */
struct pvclock_time {
	u32 version, pad0;
	u64 tsc_timestamp, system_time;
	u32 mul;
	s8 shift;
	u8 flags;
	u8 pad[2];
};
_Static_assert(sizeof(struct pvclock_time) == 32, "pvclock ABI");
enum { PVCLOCK_TSC_STABLE = 1, PVCLOCK_GUEST_STOPPED = 2 };

struct pvclock_wall {
	u32 version, sec, nsec;
};

/* ns per tick as a 32-bit binary fraction and a shift of the tick count: 0.5 <= mul / 2^32 < 1. */
static void choose_scale(u32 khz, u32 *mul, s8 *shift)
{
	u64 ns = 1000000, ticks = khz;
	s8 s = 0;

	while (ticks <= ns) {
		ticks <<= 1;
		s++;
	}
	while (ticks > 2 * ns) {
		ticks >>= 1;
		s--;
	}
	u128 frac = ((u128)ns << 32);
	if (s >= 0)
		frac = frac / ((u128)khz << s);
	else
		frac = (frac << -s) / khz;
	*mul = frac > 0xffffffffu ? 0xffffffffu : (u32)frac;
	*shift = s;
}

static bool tsc_invariant(void)
{
	u32 a = 0x80000000, b, c, d;

	__asm__("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d) : "2"(0));
	if (a < 0x80000007)
		return false;
	a = 0x80000007;
	__asm__("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d) : "2"(0));
	return d & (1u << 8);
}

void kvm_clock_init(struct kvm *kvm)
{
	struct kvm_clock *k = &kvm->clock;

	k->khz = k->vcpu_khz = process_tsc_khz();
	k->stable = tsc_invariant();
	choose_scale(k->khz, &k->mul, &k->shift);
	k->base_tsc = host_rdtsc();
	k->offset = 0;
}

bool kvm_tsc_khz_is_near(const struct kvm *kvm, u64 khz)
{
	u64 diff = khz > kvm->clock.khz ? khz - kvm->clock.khz : kvm->clock.khz - khz;

	return diff <= (u64)kvm->clock.khz * TSC_TOLERANCE_PPM / 1000000;
}

u64 kvm_tsc_to_ns(const struct kvm *kvm, u64 delta)
{
	const struct kvm_clock *k = &kvm->clock;
	u128 d = delta;

	d = k->shift >= 0 ? d << k->shift : d >> -k->shift;
	d = (d * k->mul) >> 32;
	return d > ~0ull ? ~0ull : (u64)d;
}

u64 kvm_clock_ns(const struct kvm *kvm, u64 host_tsc)
{
	return kvm_tsc_to_ns(kvm, host_tsc - kvm->clock.base_tsc) + (u64)kvm->clock.offset;
}

int kvm_get_clock(struct kvm *kvm, struct kvm_clock_data *d)
{
	memset(d, 0, sizeof(*d));
	mutex_lock(&kvm->lock);
	u64 tsc = host_rdtsc();
	d->clock = kvm_clock_ns(kvm, tsc);
	mutex_unlock(&kvm->lock);
	if (kvm->clock.stable) {
		d->flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
		d->host_tsc = tsc;
		d->realtime = sys_clock_ns(CLOCK_REALTIME);
	}
	return 0;
}

/*
 * A vCPU that does not run would write its page only when it enters the guest. But Linux reads CPU 0's page on every CPU: a vCPU that was quicker would
 * see the old time, then the new one, which is earlier if the VM stood still in between. One that runs has the request.
 */
static void write_clocks_at_rest(struct kvm *kvm)
{
	u32 n = load_acquire(&kvm->nvcpus);

	for (u32 i = 0; i < n; i++) {
		struct kvm_vcpu *v = kvm->vcpus[i];

		if (!mutex_trylock(&v->lock))
			continue;
		qsbr_enter(&kvm->qsbr, &v->reader);
		vcpu_write_clock(v);
		qsbr_leave(&v->reader);
		mutex_unlock(&v->lock);
	}
}

int kvm_set_clock(struct kvm *kvm, const struct kvm_clock_data *d)
{
	u64 value = d->clock;

	/* All but REALTIME are only what KVM_GET_CLOCK answered: that may be handed back as it is. */
	if (d->flags & ~(u32)(KVM_CLOCK_REALTIME | KVM_CLOCK_TSC_STABLE | KVM_CLOCK_HOST_TSC))
		return -EINVAL;
	if (d->flags & KVM_CLOCK_REALTIME) {
		u64 now = sys_clock_ns(CLOCK_REALTIME);

		if (now > d->realtime) /* time passed since the value was taken, on another host perhaps */
			value += now - d->realtime;
	}
	mutex_lock(&kvm->lock);
	kvm->clock.base_tsc = host_rdtsc();
	kvm->clock.offset = (s64)value;
	mutex_unlock(&kvm->lock);
	kvm_request_all(kvm, CPU_REQ_CLOCK);
	write_clocks_at_rest(kvm);
	return 0;
}

/* ---- the guest's pages ---- */

/* Odd version: being written. The reader on another vCPU looks at it before and after. */
static int write_versioned(struct kvm_vcpu *v, gpa_t gpa, void *page, unsigned len)
{
	struct guest_mem *m = &v->kvm->mem;
	u32 version = 0;

	if (mem_read(m, gpa, &version, sizeof(version)))
		return -EFAULT;
	version = (version | 1) + (version & 1 ? 2 : 0);
	if (mem_write(m, gpa, &version, sizeof(version)))
		return -EFAULT;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (mem_write(m, gpa + sizeof(version), (u8 *)page + sizeof(version), len - sizeof(version)))
		return -EFAULT;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	version++;
	return mem_write(m, gpa, &version, sizeof(version));
}

void vcpu_write_clock(struct kvm_vcpu *v)
{
	struct kvm *kvm = v->kvm;
	struct pvclock_time t = { 0 };

	v->pv.seen_tsc_offset = v->cpu.tsc_offset;
	if (!(v->pv.system_time & 1))
		return;
	choose_scale(v->tsc_khz, &t.mul, &t.shift);
	mutex_lock(&kvm->lock);
	u64 tsc = host_rdtsc();
	t.system_time = kvm_clock_ns(kvm, tsc);
	if (kvm->clock.stable && v->cpu.tsc_offset == kvm->clock.tsc_offset && v->tsc_khz == kvm->clock.tsc_khz)
		t.flags |= PVCLOCK_TSC_STABLE;
	mutex_unlock(&kvm->lock);
	t.tsc_timestamp = cpu_scale_tsc(&v->cpu, tsc) + v->cpu.tsc_offset;
	if (v->pv.stopped)
		t.flags |= PVCLOCK_GUEST_STOPPED;
	v->pv.stopped = false;
	write_versioned(v, v->pv.system_time & ~1ull, &t, sizeof(t));
}

static void write_wall_clock(struct kvm_vcpu *v, gpa_t gpa)
{
	struct kvm *kvm = v->kvm;
	struct pvclock_wall w = { 0 };

	if (!gpa)
		return;
	mutex_lock(&kvm->lock);
	u64 boot = sys_clock_ns(CLOCK_REALTIME) - kvm_clock_ns(kvm, host_rdtsc());
	mutex_unlock(&kvm->lock);
	w.sec = (u32)(boot / 1000000000);
	w.nsec = (u32)(boot % 1000000000);
	write_versioned(v, gpa, &w, sizeof(w));
}

int vcpu_kvmclock_ctrl(struct kvm_vcpu *v)
{
	if (!(v->pv.system_time & 1))
		return -EINVAL;
	v->pv.stopped = true;
	cpu_request(&v->cpu, CPU_REQ_CLOCK);
	return 0;
}

/* ---- TSC ---- */

void vcpu_tsc_moved(struct kvm_vcpu *v)
{
	if (v->lapic.present)
		lapic_tsc_changed(&v->lapic);
	vcpu_write_clock(v);
}

/*
 * A VMM sets the TSCs of its vCPUs one after the other and means them equal: a value of 0, or one that is within a second of what the last one set
 * would read by now, gets the same offset. Under kvm.lock for a vCPU being made, which nobody else sees.
 */
static void sync_tsc(struct kvm_vcpu *v, u64 value)
{
	struct kvm_clock *k = &v->kvm->clock;
	u64 now = host_rdtsc(), expected = k->tsc_write + cpu_scale_tsc(&v->cpu, now - k->tsc_write_host);
	u64 diff = value > expected ? value - expected : expected - value;

	if (k->tsc_set && v->tsc_khz == k->tsc_khz && (!value || diff < (u64)v->tsc_khz * 1000)) {
		v->cpu.tsc_offset = k->tsc_offset;
		return;
	}
	k->tsc_set = true;
	k->tsc_khz = v->tsc_khz;
	k->tsc_write = value;
	k->tsc_write_host = now;
	k->tsc_offset = value - cpu_scale_tsc(&v->cpu, now);
	v->cpu.tsc_offset = k->tsc_offset;
}

void vcpu_sync_tsc(struct kvm_vcpu *v, u64 value)
{
	if (!v->run_ready) {
		sync_tsc(v, value);
		v->run_ready = true;
	} else {
		mutex_lock(&v->kvm->lock);
		sync_tsc(v, value);
		mutex_unlock(&v->kvm->lock);
		cpu_request(&v->cpu, CPU_REQ_CLOCK);
	}
	if (v->lapic.present)
		lapic_tsc_changed(&v->lapic);
}

/*
 * The frequency that the guest sees. One that differs by less than the host's own clock may, 250 ppm, is the host's, as in KVM. Running TSCs are not
 * moved: a VMM sets the frequency before the TSC.
 */
void vcpu_init_tsc_khz(struct kvm_vcpu *v, u32 khz)
{
	v->tsc_khz = khz;
	v->cpu.tsc_ratio = kvm_tsc_khz_is_near(v->kvm, khz) ? 0 : (u64)(((u128)khz << 48) / v->kvm->clock.khz);
}

int vcpu_set_tsc_khz(struct kvm_vcpu *v, u64 khz)
{
	if (!khz)
		khz = v->kvm->clock.khz;
	if (khz > KVM_TSC_KHZ_MAX)
		return -EINVAL;
	vcpu_init_tsc_khz(v, (u32)khz);
	cpu_request(&v->cpu, CPU_REQ_CLOCK | CPU_REQ_CODE); /* RDTSC is translated by the ratio */
	if (v->lapic.present)
		lapic_tsc_changed(&v->lapic);
	return 0;
}

/* The VMM says the offset itself: what later vCPUs are compared with, whatever this one had. */
void vcpu_set_tsc_offset(struct kvm_vcpu *v, u64 offset)
{
	struct kvm_clock *k = &v->kvm->clock;

	mutex_lock(&v->kvm->lock);
	k->tsc_set = true;
	k->tsc_khz = v->tsc_khz;
	k->tsc_write_host = host_rdtsc();
	k->tsc_write = cpu_scale_tsc(&v->cpu, k->tsc_write_host) + offset;
	k->tsc_offset = offset;
	mutex_unlock(&v->kvm->lock);
	v->cpu.tsc_offset = offset;
	cpu_request(&v->cpu, CPU_REQ_CLOCK);
	if (v->lapic.present)
		lapic_tsc_changed(&v->lapic);
}

/* ---- MSRs ---- */

/* The KVM_FEATURE_* that a register belongs to. */
static unsigned feature_of(u32 index)
{
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME: return KVM_FEATURE_CLOCKSOURCE;
	case MSR_KVM_ASYNC_PF_EN: return KVM_FEATURE_ASYNC_PF;
	case MSR_KVM_STEAL_TIME: return KVM_FEATURE_STEAL_TIME;
	case MSR_KVM_PV_EOI_EN: return KVM_FEATURE_PV_EOI;
	case MSR_KVM_POLL_CONTROL: return KVM_FEATURE_POLL_CONTROL;
	default: return KVM_FEATURE_CLOCKSOURCE2;
	}
}

/* May the guest, or the VMM in its name, touch this register? */
static bool refused(const struct kvm_vcpu *v, u32 index, bool host)
{
	return !host && !vcpu_pv_has(v, feature_of(index));
}

int vcpu_clock_rdmsr(struct kvm_vcpu *v, u32 index, u64 *val, bool host)
{
	const struct kvm_pvclock *pv = &v->pv;

	if (refused(v, index, host) && vcpu_clock_rdmsr(v, index, val, true) != -ENOENT)
		return -EINVAL;

	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		*val = pv->wall_clock;
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		*val = pv->system_time;
		return 0;
	case MSR_KVM_ASYNC_PF_EN:
		*val = pv->async_pf_en;
		return 0;
	case MSR_KVM_STEAL_TIME:
		*val = pv->steal_time;
		return 0;
	case MSR_KVM_PV_EOI_EN:
		*val = pv->pv_eoi;
		return 0;
	case MSR_KVM_POLL_CONTROL:
		*val = pv->poll_control;
		return 0;
	}
	return -ENOENT;
}

/* Features that CPUID does not show can be switched off by the guest, not on; the VMM's values are kept for it to read back. */
static int set_absent(u64 *msr, u64 val, bool host)
{
	if (!host && val & 1)
		return -EINVAL;
	*msr = val;
	return 0;
}

int vcpu_clock_wrmsr(struct kvm_vcpu *v, u32 index, u64 val, bool host)
{
	struct kvm_pvclock *pv = &v->pv;
	u64 old;

	if (refused(v, index, host) && vcpu_clock_rdmsr(v, index, &old, true) != -ENOENT)
		return -EINVAL;
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		pv->wall_clock = val;
		write_wall_clock(v, val);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		pv->system_time = val;
		if (!host)
			vcpu_write_clock(v); /* the guest reads it right after */
		else
			cpu_request(&v->cpu, CPU_REQ_CLOCK);
		return 0;
	case MSR_KVM_ASYNC_PF_EN:
		return set_absent(&pv->async_pf_en, val, host);
	case MSR_KVM_STEAL_TIME:
		return vcpu_set_steal_time(v, val);
	case MSR_KVM_PV_EOI_EN:
		return set_absent(&pv->pv_eoi, val, host);
	case MSR_KVM_POLL_CONTROL:
		if (val > 1)
			return -EINVAL;
		pv->poll_control = val;
		return 0;
	}
	return -ENOENT;
}
