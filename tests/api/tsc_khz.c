/* SPDX-License-Identifier: MIT */
/*
 * TSCs of another frequency than the host's: of a VM's later vCPUs and of one vCPU; by RDTSC in cold and in hot code, RDTSCP and the VMM's reading; two
 * vCPUs stay together; kvmclock and the TSC deadline timer keep real time.
 */
#include "kvmtest.h"

/* Reads until r8 ticks have passed since the first reading, and says the last one. */
GUEST64(hot, "rdtsc\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, %r9\n"
	     "1: rdtsc\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, %rbx\n sub %r9, %rbx\n cmp %r8, %rbx\n jb 1b\n out %al, $0x10\n hlt\n");
GUEST64(cold, "rdtscp\n out %al, $0x10\n hlt\n");

static u64 real_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static u64 tsc_of(int vcpu)
{
	u64 t;

	CHECK_EQ(kt_get_msr(vcpu, 0x10, &t), 1);
	return t;
}

/* Both rates over some 40 ms; a busy host stretches the difference between the readings, not the rate. */
static void rate(int vcpu, u64 khz)
{
	u64 ns0, ns1, ns2, ns3, t0, t1;

	ns0 = real_ns();
	t0 = tsc_of(vcpu);
	ns1 = real_ns();
	kt_sleep_ms(40);
	ns2 = real_ns();
	t1 = tsc_of(vcpu);
	ns3 = real_ns();
	CHECK(t1 - t0 <= (ns3 - ns0) * khz / 1000000 * 1001 / 1000 + 1000);
	CHECK(t1 - t0 >= (ns2 - ns1) * khz / 1000000 * 999 / 1000);
}

static void run_hot(struct vm *v, u64 khz)
{
	struct kvm_regs r;
	u64 before = real_ns(), took;

	kt_load(v, hot);
	kt_long(v, v->vcpu, KT_CODE);
	kt_get_regs(v->vcpu, &r);
	r.r8 = khz * 30; /* 30 ms */
	CHECK_OK(ioctl(v->vcpu, KVM_SET_REGS, &r));
	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	took = real_ns() - before;
	CHECK(took >= 29900000);
	kt_get_regs(v->vcpu, &r);
	CHECK(r.rbx >= r.r8 && r.rbx < r.r8 * 100);
	CHECK(tsc_of(v->vcpu) >= r.rax);
	CHECK(tsc_of(v->vcpu) - r.rax < khz * 20000);
	kt_load(v, cold);
	kt_long(v, v->vcpu, KT_CODE);
	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	u64 last = r.rax;
	kt_get_regs(v->vcpu, &r);
	u64 now = (r.rdx << 32) | (u32)r.rax;
	CHECK(now > last && now - last < khz * 20000);
}

int main(void)
{
	struct vm v;
	u64 host, slow, t[2];
	int other;

	vm_open(&v);
	if (kt_cap(v.sys, KVM_CAP_TSC_CONTROL) <= 0 || kt_cap(v.sys, 214) <= 0)
		SKIP("no KVM_CAP_TSC_CONTROL and KVM_CAP_VM_TSC_CONTROL");
	host = (u64)ioctl(v.vm, KVM_GET_TSC_KHZ, 0ul);
	slow = host / 3;
	CHECK_ERR(ioctl(v.vm, KVM_SET_TSC_KHZ, 0xfffffffful), EINVAL);
	CHECK_OK(ioctl(v.vm, KVM_SET_TSC_KHZ, slow));
	CHECK_EQ(ioctl(v.vm, KVM_GET_TSC_KHZ, 0ul), slow);
	vm_vcpu(&v);
	other = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(other >= 0);
	CHECK_EQ(ioctl(v.vcpu, KVM_GET_TSC_KHZ, 0ul), slow);
	rate(v.vcpu, slow);
	run_hot(&v, slow);
	/* What is set alike runs alike. */
	CHECK_EQ(kt_set_msr(v.vcpu, 0x10, 1000), 1);
	CHECK_EQ(kt_set_msr(other, 0x10, 1000), 1);
	t[0] = tsc_of(v.vcpu);
	t[1] = tsc_of(other);
	CHECK(t[1] >= t[0] && t[1] - t[0] < slow * 5000);
	CHECK(tsc_of(v.vcpu) >= t[1]);
	/* kvmclock's page is for the guest's frequency. */
	CHECK_EQ(kt_set_msr(v.vcpu, 0x4b564d01, 0x3000 | 1), 1);
	kt_load(&v, cold);
	kt_long(&v, v.vcpu, KT_CODE);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	struct { u32 version, pad; u64 tsc, ns; u32 mul; int8_t shift; u8 flags; } *c = (void *)(v.mem + 0x3000);
	double per_tick = (double)c->mul / 4294967296.0 * (c->shift >= 0 ? 1 << c->shift : 1.0 / (1 << -c->shift));
	CHECK(per_tick * (double)slow > 999000.0 && per_tick * (double)slow < 1001000.0);
	/* One vCPU: faster; the rate changes at once, also of code that is hot already. */
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_TSC_KHZ, 0xfffffffful), EINVAL);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_TSC_KHZ, host * 2));
	CHECK_EQ(ioctl(v.vcpu, KVM_GET_TSC_KHZ, 0ul), host * 2);
	CHECK_EQ(ioctl(other, KVM_GET_TSC_KHZ, 0ul), slow);
	rate(v.vcpu, host * 2);
	run_hot(&v, host * 2);
	rate(other, slow);
	/* As good as the host's: 250 ppm; and back to it by 0. */
	CHECK_OK(ioctl(v.vcpu, KVM_SET_TSC_KHZ, host + host / 10000));
	CHECK_EQ(ioctl(v.vcpu, KVM_GET_TSC_KHZ, 0ul), host + host / 10000);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_TSC_KHZ, 0ul));
	CHECK_EQ(ioctl(v.vcpu, KVM_GET_TSC_KHZ, 0ul), host);
	rate(v.vcpu, host);
	run_hot(&v, host);
	return kt_end();
}
