/* SPDX-License-Identifier: MIT */
/* USEKVM_DEV_TYPE_STATS: every attribute of usekvm/stats.h and its errors; the numbers are those of what was run. */
#include "kvmtest.h"
#include "usekvm/device.h"
#include "usekvm/stats.h"

GUEST16(prog, "mov $10, %cx\n1: out %al, $0x10\n loop 1b\n wbinvd\n hlt\n");

static int dev;
static u64 count;

static int get(u32 group, u64 attr, void *addr)
{
	struct kvm_device_attr a = {.group = group, .attr = attr, .addr = (u64)addr};
	int has = ioctl(dev, KVM_HAS_DEVICE_ATTR, &a), r;

	has = has ? errno : 0;
	r = ioctl(dev, KVM_GET_DEVICE_ATTR, &a);
	if (r && errno == EFAULT)
		CHECK_EQ(has, 0);
	else
		CHECK_EQ(has, r ? errno : 0);
	return r;
}

static u64 number(const char *want, u32 group, u64 vcpu)
{
	u64 val = ~0ull, all[64];
	char name[48];

	for (u64 i = 0; i < count; i++) {
		REQUIRE(get(USEKVM_STATS_NAME, i, name) == 0);
		CHECK(memchr(name, 0, sizeof(name)) && name[0]);
		if (strcmp(name, want))
			continue;
		REQUIRE(get(group, vcpu << 32 | i, &val) == 0);
		REQUIRE(get(group, vcpu << 32 | USEKVM_STATS_ALL, all) == 0);
		CHECK_EQ(all[i], val);
	}
	return val;
}

int main(void)
{
	struct kvm_create_device cd = {.type = USEKVM_DEV_TYPE_STATS};
	struct kvm_device_attr flags = {.flags = 1, .group = USEKVM_STATS_INFO};
	struct vm v;
	u64 val;
	int second;

	if (!kt_usekvm())
		SKIP("the statistics device is usekvm's");
	vm_real(&v, prog, prog_end);
	REQUIRE(ioctl(v.vm, KVM_CREATE_DEVICE, &cd) == 0);
	dev = (int)cd.fd;
	CHECK_OK(ioctl(v.vm, KVM_CREATE_DEVICE, &cd)); /* any number of them */
	close((int)cd.fd);
	CHECK_OK(get(USEKVM_STATS_INFO, USEKVM_STATS_INFO_COUNT, &count));
	CHECK(count > 10 && count <= 64);
	CHECK_OK(get(USEKVM_STATS_INFO, USEKVM_STATS_INFO_VCPUS, &val));
	CHECK_EQ(val, 1);
	CHECK_ERR(get(USEKVM_STATS_INFO, 2, &val), ENXIO);
	CHECK_ERR(get(4, 0, &val), ENXIO);
	CHECK_ERR(get(USEKVM_STATS_NAME, count, &val), ENXIO);
	CHECK_ERR(get(USEKVM_STATS_NAME, USEKVM_STATS_ALL, &val), ENXIO);
	CHECK_ERR(get(USEKVM_STATS_VM, count, &val), ENXIO);
	CHECK_ERR(get(USEKVM_STATS_VM, 1ull << 32, &val), ENXIO);
	CHECK_ERR(get(USEKVM_STATS_VCPU, 1ull << 32, &val), ENXIO); /* no vCPU 1 */
	CHECK_ERR(get(USEKVM_STATS_VM, 0, KT_BAD), EFAULT);
	CHECK_ERR(get(USEKVM_STATS_NAME, 0, KT_BAD), EFAULT);
	CHECK_ERR(get(USEKVM_STATS_VM, USEKVM_STATS_ALL, KT_BAD), EFAULT);
	CHECK_ERR(ioctl(dev, KVM_GET_DEVICE_ATTR, &flags), EINVAL);
	CHECK_ERR(ioctl(dev, KVM_SET_DEVICE_ATTR, &flags), EPERM);
	for (u64 i = 1; i <= 10; i++) {
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
		CHECK_EQ(number("exit_io", USEKVM_STATS_VCPU, 0), i);
	}
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	CHECK_EQ(number("exit_hlt", USEKVM_STATS_VM, 0), 1);
	CHECK_EQ(number("instructions", USEKVM_STATS_VM, 0), 23);
	CHECK_EQ(number("wbinvd", USEKVM_STATS_VM, 0), 1);
	CHECK_EQ(number("wbinvd_flushes", USEKVM_STATS_VM, 0), 0); /* all is coherent */
	second = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(second >= 0);
	CHECK_OK(get(USEKVM_STATS_VCPU, 1ull << 32, &val));
	CHECK_EQ(number("instructions", USEKVM_STATS_VCPU, 1), 0);
	CHECK_EQ(number("instructions", USEKVM_STATS_VM, 0), 23);
	return kt_end();
}
