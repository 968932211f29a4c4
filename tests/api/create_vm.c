/* SPDX-License-Identifier: MIT */
/* KVM_CREATE_VM: type 0 works, others do not; descriptors are close-on-exec; two VMs of one process do not know each other. */
#include "kvmtest.h"

int main(void)
{
	int sys = kt_open(), a, b, va, vb, plain = open("/dev/kvm", O_RDWR);

	a = ioctl(sys, KVM_CREATE_VM, 0ul);
	b = ioctl(sys, KVM_CREATE_VM, 0ul);
	REQUIRE(a >= 0 && b >= 0);
	CHECK(a != b);
	CHECK_ERR(ioctl(sys, KVM_CREATE_VM, 0x1000ul), EINVAL);
	CHECK(fcntl(sys, F_GETFD) & FD_CLOEXEC);
	CHECK(plain >= 0 && !(fcntl(plain, F_GETFD) & FD_CLOEXEC));
	CHECK(fcntl(a, F_GETFD) & FD_CLOEXEC);
	va = ioctl(a, KVM_CREATE_VCPU, 0ul);
	vb = ioctl(b, KVM_CREATE_VCPU, 0ul);
	CHECK(va >= 0 && vb >= 0);
	CHECK(fcntl(va, F_GETFD) & FD_CLOEXEC);
	close(a);
	CHECK_EQ(ioctl(b, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
	return kt_end();
}
