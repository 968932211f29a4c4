/* SPDX-License-Identifier: MIT */
/* KVM_CREATE_DEVICE and the requests on a device's descriptor: rules and errors, lifetime in every order, what is left behind. */
#include <sys/resource.h>

#include "kvmtest.h"

GUEST16(prog, "mov $0x42, %al\n out %al, $0x10\n hlt\n");

static int create(int vm, u32 type, u32 flags)
{
	struct kvm_create_device cd = {.type = type, .flags = flags, .fd = 0xdead};
	int r = ioctl(vm, KVM_CREATE_DEVICE, &cd);

	if (flags & KVM_CREATE_DEVICE_TEST && !r)
		CHECK_EQ(cd.fd, 0xdead);
	return r ? r : flags & KVM_CREATE_DEVICE_TEST ? 0 : (int)cd.fd;
}

static int count_fds(void)
{
	int n = 0;

	for (int i = 0; i < 256; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

static void rules(void)
{
	struct vm v;
	int dev, n;

	vm_open(&v);
	CHECK_EQ(kt_cap(v.sys, KVM_CAP_DEVICE_CTRL), 1);
	CHECK_EQ(kt_cap(v.vm, KVM_CAP_DEVICE_CTRL), 1);
	n = count_fds();
	CHECK_ERR(create(v.vm, 0, 0), ENODEV);
	CHECK_ERR(create(v.vm, 3, 0), ENODEV); /* XICS: of another architecture */
	CHECK_ERR(create(v.vm, 0xffffffff, 0), ENODEV);
	CHECK_ERR(create(v.vm, 0xffffffff, KVM_CREATE_DEVICE_TEST), ENODEV);
	CHECK_OK(create(v.vm, KVM_DEV_TYPE_VFIO, 3)); /* other flags are not looked at */
	CHECK_OK(create(v.vm, KVM_DEV_TYPE_VFIO, KVM_CREATE_DEVICE_TEST));
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_DEVICE, KT_BAD), EFAULT);
	CHECK_ERR(ioctl(v.sys, KVM_CREATE_DEVICE, KT_BAD), EINVAL);
	CHECK_EQ(count_fds(), n);
	dev = create(v.vm, KVM_DEV_TYPE_VFIO, 0x80000000);
	CHECK(dev >= 0);
	CHECK_EQ(fcntl(dev, F_GETFD), FD_CLOEXEC);
	CHECK_ERR(create(v.vm, KVM_DEV_TYPE_VFIO, 0), EBUSY);
	CHECK_OK(create(v.vm, KVM_DEV_TYPE_VFIO, KVM_CREATE_DEVICE_TEST)); /* whether it exists, not whether one can be made */
	CHECK_EQ(count_fds(), n + 1);
	CHECK_ERR(ioctl(dev, KVM_GET_API_VERSION, 0ul), ENOTTY);
	CHECK_ERR(ioctl(dev, KVM_CREATE_VCPU, 0ul), ENOTTY);
	CHECK_ERR(ioctl(dev, KVM_RUN, 0ul), ENOTTY);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, dev, 0) == MAP_FAILED && errno == ENODEV);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, dev, 0) == MAP_FAILED && errno == ENODEV);
	close(dev);
	close(v.vm);
	close(v.sys);
}

static void table_full(void)
{
	struct rlimit old, now;
	struct vm v;
	int n, dev;

	vm_open(&v);
	n = count_fds();
	REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
	now = old;
	now.rlim_cur = (rlim_t)v.vm + 1; /* all below are in use */
	for (int i = 0; i <= v.vm; i++)
		if (fcntl(i, F_GETFD) < 0)
			REQUIRE(dup2(v.vm, i) == i);
	n = count_fds();
	REQUIRE(setrlimit(RLIMIT_NOFILE, &now) == 0);
	for (int i = 0; i < 3; i++)
		CHECK_ERR(create(v.vm, KVM_DEV_TYPE_VFIO, 0), EMFILE);
	REQUIRE(setrlimit(RLIMIT_NOFILE, &old) == 0);
	CHECK_EQ(count_fds(), n);
	dev = create(v.vm, KVM_DEV_TYPE_VFIO, 0); /* nothing was left, or this would be EBUSY */
	CHECK(dev >= 0);
	close(dev);
}

/* close VM, vCPU and device in each of the six orders; what is still open works. */
static void order(const int *o)
{
	struct kvm_device_attr a = {.group = 1, .attr = 1};
	bool open[3] = {true, true, true};
	int fd[3];
	struct vm v;

	vm_real(&v, prog, prog_end);
	fd[0] = v.vm;
	fd[1] = v.vcpu;
	fd[2] = create(v.vm, KVM_DEV_TYPE_VFIO, 0);
	REQUIRE(fd[2] >= 0);
	close(v.sys);
	for (int i = 0; i < 3; i++) {
		CHECK_OK(close(fd[o[i]]));
		open[o[i]] = false;
		if (open[0])
			CHECK_EQ(kt_cap(v.vm, KVM_CAP_DEVICE_CTRL), 1);
		if (open[1]) {
			kt_set_rip(v.vcpu, KT_CODE);
			CHECK_OUT(v.vcpu, v.run, 0x10, 0x42);
		}
		if (open[2])
			CHECK_OK(ioctl(fd[2], KVM_HAS_DEVICE_ATTR, &a));
	}
	munmap(v.run, v.run_size);
	munmap(v.mem, v.mem_size);
}

int main(void)
{
	struct kvm_device_attr a = {.group = 1, .attr = 1};
	static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	struct vm v;
	int n;

	rules();
	n = count_fds();
	for (int i = 0; i < 6; i++)
		order(orders[i]);
	CHECK_EQ(count_fds(), n);
	/* A VFIO device ends with its descriptor, and another may be made; a dup of it counts. */
	vm_open(&v);
	int dev = create(v.vm, KVM_DEV_TYPE_VFIO, 0), other = dup(dev);
	close(dev);
	CHECK_ERR(create(v.vm, KVM_DEV_TYPE_VFIO, 0), EBUSY);
	/* In a forked child it is of no use. */
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		CHECK_ERR(ioctl(other, KVM_HAS_DEVICE_ATTR, &a), EIO);
		_exit(kt_end());
	}
	int status = -1;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	close(other);
	dev = create(v.vm, KVM_DEV_TYPE_VFIO, 0);
	CHECK(dev >= 0);
	close(dev);
	close(v.vm);
	close(v.sys);
	table_full();
	return kt_end();
}
