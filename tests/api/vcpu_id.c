/* SPDX-License-Identifier: MIT */
/* vCPU ids: which are accepted, which are refused and how; the descriptor table may be full. */
#include <sys/resource.h>

#include "kvmtest.h"

int main(void)
{
	int sys = kt_open(), vm = ioctl(sys, KVM_CREATE_VM, 0ul), max = kt_cap(sys, KVM_CAP_MAX_VCPU_ID), a, b;
	struct rlimit old, tight;

	REQUIRE(vm >= 0);
	a = ioctl(vm, KVM_CREATE_VCPU, 0ul);
	CHECK(a >= 0);
	CHECK_ERR(ioctl(vm, KVM_CREATE_VCPU, 0ul), EEXIST);
	CHECK_ERR(ioctl(vm, KVM_CREATE_VCPU, (unsigned long)max), EINVAL);
	CHECK_ERR(ioctl(vm, KVM_CREATE_VCPU, 65537ul), EINVAL);
	CHECK_ERR(ioctl(vm, KVM_CREATE_VCPU, (unsigned long)-1), EINVAL);
	b = ioctl(vm, KVM_CREATE_VCPU, (unsigned long)max - 1);
	CHECK(b >= 0);
	/* The id stays taken when the descriptor is closed: the VM keeps its vCPUs. */
	close(b);
	CHECK_ERR(ioctl(vm, KVM_CREATE_VCPU, (unsigned long)max - 1), EEXIST);
	getrlimit(RLIMIT_NOFILE, &old);
	tight = old;
	tight.rlim_cur = (rlim_t)dup(vm);
	close((int)tight.rlim_cur);
	setrlimit(RLIMIT_NOFILE, &tight);
	CHECK_ERR(ioctl(vm, KVM_CREATE_VCPU, 3ul), EMFILE);
	CHECK_ERR(ioctl(sys, KVM_CREATE_VM, 0ul), EMFILE);
	setrlimit(RLIMIT_NOFILE, &old);
	/* The limit that a VMM sets: once, not below the boot processor's id, not above the highest. */
	int other = ioctl(sys, KVM_CREATE_VM, 0ul);
	struct kvm_enable_cap c = {.cap = KVM_CAP_MAX_VCPU_ID, .args = {(u64)max + 1}};

	CHECK_ERR(ioctl(other, KVM_ENABLE_CAP, &c), EINVAL);
	CHECK_OK(ioctl(other, KVM_SET_BOOT_CPU_ID, 2ul));
	c.args[0] = 1;
	CHECK_ERR(ioctl(other, KVM_ENABLE_CAP, &c), EINVAL);
	c.args[0] = 2;
	CHECK_OK(ioctl(other, KVM_ENABLE_CAP, &c));
	CHECK_OK(ioctl(other, KVM_ENABLE_CAP, &c));
	c.args[0] = 3;
	CHECK_ERR(ioctl(other, KVM_ENABLE_CAP, &c), EINVAL);
	CHECK_ERR(ioctl(other, KVM_CREATE_VCPU, 2ul), EINVAL);
	CHECK_OK(ioctl(other, KVM_CREATE_VCPU, 1ul));
	/* A creation that failed left nothing behind. */
	CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, 3ul));
	return kt_end();
}
