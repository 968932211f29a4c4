/* SPDX-License-Identifier: MIT */
/* The KVM-VFIO device's attributes and errors, provoked with descriptors that are not VFIO's. With VFIO itself: tests/vfio/. */
#include <sys/socket.h>

#include "kvmtest.h"

static int dev;

static int call(unsigned long req, u32 group, u64 attr, const void *addr)
{
	struct kvm_device_attr a = {.group = group, .attr = attr, .addr = (u64)addr};

	return ioctl(dev, req, &a);
}

static int add(int32_t fd)
{
	return call(KVM_SET_DEVICE_ATTR, 1, 1, &fd);
}

static int del(int32_t fd)
{
	return call(KVM_SET_DEVICE_ATTR, 1, 2, &fd);
}

int main(void)
{
	struct kvm_create_device cd = {.type = KVM_DEV_TYPE_VFIO};
	int32_t fd = -1;
	struct vm v;
	int pair[2], other[10], n = 0;

	vm_open(&v);
	REQUIRE(ioctl(v.vm, KVM_CREATE_DEVICE, &cd) == 0);
	dev = (int)cd.fd;
	for (u64 attr = 0; attr < 6; attr++) {
		bool known = attr == 1 || attr == 2;

		if (known)
			CHECK_OK(call(KVM_HAS_DEVICE_ATTR, 1, attr, NULL));
		else
			CHECK_ERR(call(KVM_HAS_DEVICE_ATTR, 1, attr, NULL), ENXIO);
		if (!known)
			CHECK_ERR(call(KVM_SET_DEVICE_ATTR, 1, attr, &fd), ENXIO);
		CHECK_ERR(call(KVM_HAS_DEVICE_ATTR, 0, attr, NULL), ENXIO);
		CHECK_ERR(call(KVM_SET_DEVICE_ATTR, 2, attr, &fd), ENXIO);
		CHECK_ERR(call(KVM_GET_DEVICE_ATTR, 1, attr, &fd), EPERM); /* no such accessor */
	}
	CHECK_ERR(call(KVM_HAS_DEVICE_ATTR, 1, 1ull << 32 | 1, NULL), ENXIO);
	CHECK_ERR(ioctl(dev, KVM_SET_DEVICE_ATTR, KT_BAD), EFAULT);
	CHECK_ERR(ioctl(dev, KVM_HAS_DEVICE_ATTR, KT_BAD), EFAULT);
	CHECK_ERR(ioctl(dev, KVM_GET_DEVICE_ATTR, KT_BAD), EPERM);
	CHECK_ERR(call(KVM_SET_DEVICE_ATTR, 1, 1, KT_BAD), EFAULT);
	CHECK_ERR(call(KVM_SET_DEVICE_ATTR, 1, 2, KT_BAD), EFAULT);
	CHECK_ERR(add(-1), EBADF);
	CHECK_ERR(add(1000), EBADF);
	CHECK_ERR(del(-1), EBADF);
	CHECK_ERR(del(1000), EBADF);
	REQUIRE(pipe(pair) == 0);
	other[n++] = pair[0];
	other[n++] = open("/dev/null", O_RDWR);
	other[n++] = open("/dev/zero", O_RDWR);
	other[n++] = eventfd(0, 0);
	other[n++] = (int)syscall(SYS_memfd_create, "x", 0);
	other[n++] = open("/proc/self/exe", O_RDONLY);
	other[n++] = open("/", O_RDONLY | O_DIRECTORY);
	other[n++] = socket(AF_UNIX, SOCK_STREAM, 0);
	other[n++] = v.vm;
	other[n++] = dev;
	for (int i = 0; i < n; i++) {
		REQUIRE(other[i] >= 0);
		CHECK_ERR(add(other[i]), EINVAL);
		CHECK_ERR(del(other[i]), ENOENT);
	}
	close(dev);
	return kt_end();
}
