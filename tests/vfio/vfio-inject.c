/* SPDX-License-Identifier: MIT */
/*
 * Each step of KVM_DEV_VFIO_GROUP_ADD fails once (tests/debug/walk.h), with real VFIO: vfio-inject PCI-ADDRESS, run as vfio-real is, under the
 * debug build of the library.
 */
#include <linux/vfio.h>

#include "../debug/walk.h"
#include "group.h"

static const char *pci;
static int sys_fd, vm, dev, group, container, device = -1;

/* Opening it says too that the last step has left no reference: a group is open once only. */
static void have_group(void)
{
	struct kvm_create_device cd = {.type = KVM_DEV_TYPE_VFIO};

	vm = ioctl(sys_fd, KVM_CREATE_VM, 0ul);
	REQUIRE(vm >= 0 && ioctl(vm, KVM_CREATE_DEVICE, &cd) == 0);
	dev = (int)cd.fd;
	group = open(group_path, O_RDWR | O_CLOEXEC);
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	REQUIRE(group >= 0 && container >= 0);
	REQUIRE(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
	REQUIRE(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
}

static void have_device(void)
{
	have_group();
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, pci);
	REQUIRE(device >= 0);
}

static void end(void)
{
	if (device >= 0)
		close(device);
	device = -1;
	close(group);
	close(container);
	close(dev);
	close(vm);
}

static int add(int fd)
{
	struct kvm_device_attr a = {.group = KVM_DEV_VFIO_GROUP, .attr = KVM_DEV_VFIO_GROUP_ADD, .addr = (u64)&fd};

	return ioctl(dev, KVM_SET_DEVICE_ATTR, &a);
}

static int add_group(void)
{
	return add(group);
}

static int add_device(void)
{
	return add(device);
}

static const struct walk all[] = {
	{"KVM_DEV_VFIO_GROUP_ADD, a group", have_group, add_group, end, 2, 0},
	{"KVM_DEV_VFIO_GROUP_ADD, a device", have_device, add_device, end, 2, 0},
};

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	walk_init();
	pci = argv[1];
	find_group(pci);
	sys_fd = kt_open();
	alarm(600);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		walk(&all[i]);
	return kt_end();
}
