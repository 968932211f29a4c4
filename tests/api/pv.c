/* SPDX-License-Identifier: MIT */
/*
 * KVM's own CPUID features: with KVM_CAP_ENFORCE_PV_FEATURE_CPUID the guest has only those that CPUID shows, at whatever base the leaves stand; hypercalls
 * that wake, interrupt and yield to other vCPUs; the steal time page; KVM_CAP_X86_DISABLE_EXITS; KVM_CAP_MSR_PLATFORM_INFO.
 */
#include <linux/kvm_para.h>
#include <sys/time.h>

#include "kvmtest.h"

#define STEAL 0x9000u
#define PLATFORM_INFO 0xce

GUEST64(calls, "mov $11, %eax\n mov $0, %ebx\n vmcall\n out %eax, $0x10\n" /* yield */
	       "mov $10, %eax\n mov $2, %ebx\n xor %ecx, %ecx\n xor %edx, %edx\n mov $0x40f0, %esi\n vmcall\n out %eax, $0x11\n" /* IPI to vCPU 1 */
	       "mov $10, %eax\n mov $0x840f0, %esi\n vmcall\n out %eax, $0x12\n" /* with a shorthand */
	       "mov $5, %eax\n xor %ebx, %ebx\n mov $1, %ecx\n vmcall\n out %eax, $0x13\n" /* kick vCPU 1 */
	       "hlt\n");
GUEST64(read_msr, "mov %esi, %ecx\n rdmsr\n out %eax, $0x10\n hlt\n");
GUEST64(sleeper, "cli\n hlt\n mov $7, %eax\n out %eax, $0x20\n");

static struct kvm_cpuid2 *supported(int sys)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));

	c->nent = 256;
	REQUIRE(c && ioctl(sys, KVM_GET_SUPPORTED_CPUID, c) == 0);
	return c;
}

static struct kvm_cpuid_entry2 *leaf(struct kvm_cpuid2 *c, u32 function)
{
	for (u32 i = 0; i < c->nent; i++)
		if (c->entries[i].function == function)
			return &c->entries[i];
	REQUIRE(!"the leaf");
	return NULL;
}

static int set_msr(int vcpu, u32 index, u64 data)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry e; } m = {{.nmsrs = 1}, {.index = index, .data = data}};

	return ioctl(vcpu, KVM_SET_MSRS, &m);
}

static int enable(int fd, u32 cap, u64 arg)
{
	struct kvm_enable_cap c = {.cap = cap, .args = {arg}};

	return ioctl(fd, KVM_ENABLE_CAP, &c);
}

static u32 answer(struct vm *v, u16 port)
{
	u32 val = 0;

	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	CHECK_EQ(v->run->io.port, port);
	memcpy(&val, kt_io_data(v->run), 4);
	return val;
}

static void *run_sleeper(void *arg)
{
	CHECK_OK(ioctl(*(int *)arg, KVM_RUN, 0ul));
	return NULL;
}

/* The same program with all features, and with none: at another base, which the features are found at too. */
static void hypercalls(bool shown)
{
	struct vm v;
	struct kvm_cpuid2 *c;
	struct kvm_run *run2;
	struct kvm_mp_state run = {KVM_MP_STATE_RUNNABLE};
	pthread_t t;
	int other;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	other = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(other >= 0);
	run2 = kt_map_run(&v, other);
	c = supported(v.sys);
	CHECK_OK(ioctl(other, KVM_SET_CPUID2, c));
	leaf(c, 0x40000000)->eax = 0x40000101;
	leaf(c, 0x40000000)->function = 0x40000100;
	if (!shown)
		leaf(c, 0x40000001)->eax = 0;
	leaf(c, 0x40000001)->function = 0x40000101;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_CPUID2, c));
	CHECK_ERR(enable(v.vcpu, 9999, 1), EINVAL);
	CHECK_OK(enable(v.vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1));
	memcpy(v.mem + 0x2000, sleeper, GUEST_SIZE(sleeper));
	kt_long(&v, other, 0x2000);
	CHECK_OK(ioctl(other, KVM_SET_MP_STATE, &run));
	kt_load(&v, calls);
	kt_long(&v, v.vcpu, KT_CODE);
	pthread_create(&t, NULL, run_sleeper, &other);
	usleep(50000);
	CHECK_EQ(answer(&v, 0x10), shown ? 0 : (u32)-1000);
	CHECK_EQ(answer(&v, 0x11), shown ? 0 : (u32)-1000); /* its LAPIC is off by software: nobody took it */
	CHECK_EQ(answer(&v, 0x12), shown ? (u32)-22 : (u32)-1000);
	CHECK_EQ(answer(&v, 0x13), shown ? 0 : (u32)-1000);
	if (!shown) { /* nobody has kicked it */
		usleep(20000);
		CHECK_OK(enable(v.vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0));
		kt_long(&v, v.vcpu, KT_CODE);
		for (u16 port = 0x10; port <= 0x13; port++)
			CHECK(answer(&v, port) != (u32)-1000);
	}
	pthread_join(t, NULL);
	CHECK_EQ(run2->exit_reason, KVM_EXIT_IO);
	CHECK_EQ(run2->io.port, 0x20);
	free(c);
}

static void registers(void)
{
	static const struct { u32 index, feature; } msr[] = {
		{0x11, 0}, {0x12, 0}, {0x4b564d00, 3}, {0x4b564d01, 3}, {0x4b564d02, 4}, {0x4b564d03, 5}, {0x4b564d04, 6}, {0x4b564d05, 12},
	};

	for (unsigned i = 0; i < sizeof(msr) / sizeof(msr[0]); i++) {
		for (unsigned shown = 0; shown < 2; shown++) {
			struct kvm_cpuid2 *c;
			struct kvm_regs r;
			struct vm v;

			vm_open(&v);
			vm_vcpu(&v);
			c = supported(v.sys);
			leaf(c, 0x40000001)->eax = shown ? 1u << msr[i].feature : ~(1u << msr[i].feature);
			CHECK_OK(ioctl(v.vcpu, KVM_SET_CPUID2, c));
			CHECK_OK(enable(v.vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1));
			kt_load(&v, read_msr);
			kt_long(&v, v.vcpu, KT_CODE);
			kt_get_regs(v.vcpu, &r);
			r.rsi = msr[i].index;
			CHECK_OK(ioctl(v.vcpu, KVM_SET_REGS, &r));
			CHECK_EXIT(v.vcpu, v.run, shown ? KVM_EXIT_IO : KVM_EXIT_SHUTDOWN);
			free(c);
			close(v.vcpu);
			close(v.vm);
			close(v.sys);
		}
	}
}

/* The page counts in ns, with an even version that grows; the guest may clear it. */
static void steal(void)
{
	volatile struct { u64 ns; u32 version, flags; u8 preempted; } *s;
	struct kvm_cpuid2 *c;
	struct vm v;
	u32 version;

	vm_open(&v);
	vm_vcpu(&v);
	c = supported(v.sys);
	if (!(leaf(c, 0x40000001)->eax & 1u << KVM_FEATURE_STEAL_TIME)) {
		printf("no steal time here: the host's scheduler does not say it\n");
		free(c);
		return;
	}
	free(c);
	CHECK_EQ(set_msr(v.vcpu, 0x4b564d03, STEAL | 0x21), 0);
	CHECK_EQ(set_msr(v.vcpu, 0x4b564d03, STEAL | 1), 1);
	s = (void *)(v.mem + STEAL);
	memcpy(v.mem + KT_CODE, "\xe6\x10\xeb\xfc", 4); /* 1: out %al, $0x10; jmp 1b */
	kt_long(&v, v.vcpu, KT_CODE);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	version = s->version;
	CHECK(version && !(version & 1));
	for (unsigned i = 0; i < 3; i++) {
		usleep(2000);
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
		CHECK(s->version > version && !(s->version & 1));
		version = s->version;
	}
	CHECK_EQ(s->flags, 0);
	CHECK_EQ(s->preempted, 0);
	s->version = 1; /* as if it had been left in the middle */
	usleep(2000);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(s->version, 4);
	CHECK_EQ(set_msr(v.vcpu, 0x4b564d03, 0), 1);
	s->version = 0;
	usleep(2000);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(s->version, 0);
}

static void exits_off(void)
{
	struct kvm_cpuid2 *c;
	struct vm v;

	vm_open(&v);
	CHECK_ERR(enable(v.vm, KVM_CAP_X86_DISABLE_EXITS, 1u << 20), EINVAL);
	CHECK_OK(enable(v.vm, KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT));
	vm_vcpu(&v);
	c = supported(v.sys);
	leaf(c, 0x40000001)->eax |= 1u << KVM_FEATURE_PV_UNHALT;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_CPUID2, c));
	c->nent = 256;
	CHECK_OK(ioctl(v.vcpu, KVM_GET_CPUID2, c));
	CHECK_EQ(leaf(c, 0x40000001)->eax & 1u << KVM_FEATURE_PV_UNHALT, 0);
	free(c);
	/* HLT without a LAPIC sleeps inside KVM_RUN, until a signal. */
	memcpy(v.mem + KT_CODE, "\xfa\xf4\xeb\xfd", 4);
	kt_long(&v, v.vcpu, KT_CODE);
	void handler(int sig) { (void)sig; }
	signal(SIGALRM, handler);
	struct itimerval t = {.it_value = {.tv_usec = 50000}};
	setitimer(ITIMER_REAL, &t, NULL);
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	signal(SIGALRM, SIG_DFL);
	alarm(30);
}

static void platform_info(void)
{
	struct vm v;

	vm_open(&v);
	vm_vcpu(&v);
	CHECK_EQ(set_msr(v.vcpu, PLATFORM_INFO, 0x8000ff00), 1);
	for (unsigned hidden = 0; hidden < 2; hidden++) {
		struct kvm_regs r;

		CHECK_OK(enable(v.vm, KVM_CAP_MSR_PLATFORM_INFO, !hidden));
		kt_load(&v, read_msr);
		kt_long(&v, v.vcpu, KT_CODE);
		kt_get_regs(v.vcpu, &r);
		r.rsi = PLATFORM_INFO;
		CHECK_OK(ioctl(v.vcpu, KVM_SET_REGS, &r));
		if (hidden)
			CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_SHUTDOWN);
		else
			CHECK_EQ(answer(&v, 0x10), 0x8000ff00);
	}
}

int main(void)
{
	int sys = kt_open();

	if (kt_cap(sys, KVM_CAP_ENFORCE_PV_FEATURE_CPUID) <= 0)
		SKIP("no KVM_CAP_ENFORCE_PV_FEATURE_CPUID");
	hypercalls(true);
	hypercalls(false);
	registers();
	steal();
	exits_off();
	platform_info();
	return kt_end();
}
