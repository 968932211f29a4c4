/* SPDX-License-Identifier: MIT */
/* The translator's counters: what ran as host code, and why some did not. */
#include "kvmtest.h"
#include "usekvm/device.h"
#include "usekvm/stats.h"

#define ROUNDS 100000

/* SLDT has no host form; the second load crosses a page. */
GUEST64(prog,
	"mov $100000, %ecx\n mov $0x8000, %ebx\n"
	"1: mov (%rbx), %rax\n sldt %eax\n mov 0xffe(%rbx), %rax\n fldz\n fstp %st(0)\n lea 2f(%rip), %rdx\n jmp *%rdx\n"
	"2: dec %ecx\n jnz 1b\n mov $0x30000000, %esi\n mov %al, (%rsi)\n hlt\n nop\n hlt\n");
GUEST16(loop16, "mov $1000, %cx\n1: add %ax, %bx\n loop 1b\n hlt\n");

static int dev;

static u64 number(const char *want)
{
	u64 count = 0, val = ~0ull;
	char name[48];
	struct kvm_device_attr a = {.group = USEKVM_STATS_INFO, .addr = (u64)&count};

	REQUIRE(ioctl(dev, KVM_GET_DEVICE_ATTR, &a) == 0);
	for (u64 i = 0; i < count; i++) {
		a = (struct kvm_device_attr){.group = USEKVM_STATS_NAME, .attr = i, .addr = (u64)name};
		REQUIRE(ioctl(dev, KVM_GET_DEVICE_ATTR, &a) == 0);
		if (strcmp(name, want))
			continue;
		a = (struct kvm_device_attr){.group = USEKVM_STATS_VM, .attr = i, .addr = (u64)&val};
		REQUIRE(ioctl(dev, KVM_GET_DEVICE_ATTR, &a) == 0);
	}
	if (val == ~0ull)
		printf("no %s\n", want);
	CHECK(val != ~0ull);
	return val;
}

static void between(const char *name, u64 min, u64 max)
{
	u64 n = number(name);
	bool ok = n >= min && n <= max;

	if (!ok)
		printf("%s: %llu, not %llu to %llu\n", name, (unsigned long long)n, (unsigned long long)min, (unsigned long long)max);
	CHECK(ok);
}

int main(void)
{
	struct kvm_create_device cd = {.type = USEKVM_DEV_TYPE_STATS};
	struct kvm_guest_debug step = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP}, none = {0};
	const char *engine = getenv("USEKVM_ENGINE");
	struct vm v;

	if (!kt_usekvm())
		SKIP("the statistics device is usekvm's");
	if (engine && !strcmp(engine, "interp"))
		SKIP("the interpreter has no units");
	vm_open(&v);
	vm_vcpu(&v);
	REQUIRE(ioctl(v.vm, KVM_CREATE_DEVICE, &cd) == 0);
	dev = (int)cd.fd;
	kt_load(&v, prog);
	kt_long(&v, v.vcpu, KT_CODE);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	between("units", 2, 10);
	between("unit_bytes", 100, 100000);
	between("unit_making_time", 1, 1000000000);
	between("unit_entries", 1, 2000);
	between("unit_links", 1, 10);
	between("unit_indirect_misses", 1, 2000);
	between("unit_slow_accesses", ROUNDS - 1000, ROUNDS + 1000);
	between("unit_fpu_loads", 1, ROUNDS + 1000);
	between("fallback_instruction", ROUNDS - 1000, ROUNDS);
	between("fallback_access", ROUNDS - 1000, ROUNDS);
	between("fallback_fpu", 0, 0);
	between("fallback_mode", 0, 0);
	between("fallback_alone", 1, 2);
	between("fallback_debug", 0, 0);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &step));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_DEBUG);
	CHECK_OK(ioctl(v.vcpu, KVM_SET_GUEST_DEBUG, &none));
	between("fallback_debug", 1, 2);
	vm_real(&v, loop16, loop16_end);
	REQUIRE(ioctl(v.vm, KVM_CREATE_DEVICE, &cd) == 0);
	dev = (int)cd.fd;
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	between("fallback_mode", 10, 1010);
	return kt_end();
}
