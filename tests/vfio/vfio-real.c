/* SPDX-License-Identifier: MIT */
/*
 * The KVM-VFIO device with real VFIO: vfio-real PCI-ADDRESS coherent|noncoherent, run under usekvm where that PCI device is bound to vfio-pci.
 * What the IOMMU does with the caches is the second argument; what usekvm makes of it is seen in the statistics device: whether WBINVD
 * did work.
 */
#include <linux/vfio.h>

#include "kvmtest.h"
#include "usekvm/device.h"
#include "usekvm/stats.h"
#include "group.h"

GUEST16(prog, "again: mov $0x5a, %al\n mov %al, 0x8000\n clflush 0x8000\n mov 0x8000, %al\n wbinvd\n out %al, $0x10\n jmp again\n");

static bool coherent;

static int create(int vm, u32 type)
{
	struct kvm_create_device cd = {.type = type};

	return ioctl(vm, KVM_CREATE_DEVICE, &cd) ? -1 : (int)cd.fd;
}

static int attr(int dev, u64 which, int32_t fd)
{
	struct kvm_device_attr a = {.group = KVM_DEV_VFIO_GROUP, .attr = which, .addr = (u64)&fd};

	return ioctl(dev, KVM_SET_DEVICE_ATTR, &a);
}
#define ADD(dev, fd) attr(dev, KVM_DEV_VFIO_GROUP_ADD, fd)
#define DEL(dev, fd) attr(dev, KVM_DEV_VFIO_GROUP_DEL, fd)

static u64 counter(int stats, const char *want)
{
	u64 n = 0, val = ~0ull;
	struct kvm_device_attr a = {.group = USEKVM_STATS_INFO, .attr = USEKVM_STATS_INFO_COUNT, .addr = (u64)&n};

	REQUIRE(ioctl(stats, KVM_GET_DEVICE_ATTR, &a) == 0);
	for (u64 i = 0; i < n; i++) {
		char name[48];

		a = (struct kvm_device_attr){.group = USEKVM_STATS_NAME, .attr = i, .addr = (u64)name};
		REQUIRE(ioctl(stats, KVM_GET_DEVICE_ATTR, &a) == 0);
		if (strcmp(name, want))
			continue;
		a = (struct kvm_device_attr){.group = USEKVM_STATS_VM, .attr = i, .addr = (u64)&val};
		REQUIRE(ioctl(stats, KVM_GET_DEVICE_ATTR, &a) == 0);
	}
	return val;
}

/* One turn of the guest's loop: was its WBINVD work for us? */
static bool flushes(struct vm *v, int stats)
{
	u64 before = counter(stats, "wbinvd_flushes"), lines = counter(stats, "wbinvd_lines"), done = counter(stats, "wbinvd");
	bool did;

	CHECK_OUT(v->vcpu, v->run, 0x10, 0x5a);
	CHECK_EQ(v->mem[0x8000], 0x5a);
	CHECK_EQ(counter(stats, "wbinvd"), done + 1);
	did = counter(stats, "wbinvd_flushes") - before;
	if (did)
		CHECK(counter(stats, "wbinvd_lines") - lines >= 64); /* at least the pages that the guest has touched */
	else
		CHECK_EQ(counter(stats, "wbinvd_lines"), lines);
	return did;
}

static int open_group(void)
{
	struct vfio_group_status s = {.argsz = sizeof(s)};
	int fd = open(group_path, O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		REQUIRE(ioctl(fd, VFIO_GROUP_GET_STATUS, &s) == 0);
		REQUIRE(s.flags & VFIO_GROUP_FLAGS_VIABLE);
	}
	return fd;
}

static int open_container(void)
{
	int fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	REQUIRE(fd >= 0 && ioctl(fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
	return fd;
}

static void main_path(const char *pci)
{
	struct vm v;
	int group, container, device, dev, stats, other;

	vm_real(&v, prog, prog_end);
	dev = create(v.vm, KVM_DEV_TYPE_VFIO);
	stats = create(v.vm, USEKVM_DEV_TYPE_STATS);
	REQUIRE(dev >= 0 && stats >= 0);
	group = open_group();
	REQUIRE(group >= 0);
	container = open_container();
	CHECK(!flushes(&v, stats));
	CHECK_ERR(DEL(dev, group), ENOENT);
	CHECK_ERR(ADD(dev, container), EINVAL);
	CHECK_ERR(DEL(dev, container), ENOENT);

	printf("a group without container: unknown, so not coherent\n");
	CHECK_OK(ADD(dev, group));
	CHECK(flushes(&v, stats));
	CHECK_ERR(ADD(dev, group), EEXIST);
	other = dup(group);
	CHECK_ERR(ADD(dev, other), EEXIST);
	printf("it gets one while it is registered\n");
	CHECK_OK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	CHECK_OK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	CHECK_EQ(ioctl(container, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU) > 0, coherent);
	CHECK_EQ(flushes(&v, stats), !coherent);
	CHECK_OK(DEL(dev, other));
	CHECK(!flushes(&v, stats));
	CHECK_ERR(DEL(dev, group), ENOENT);
	printf("registered with its container\n");
	CHECK_OK(ADD(dev, group));
	CHECK_EQ(flushes(&v, stats), !coherent);

	printf("a device's descriptor\n");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, pci);
	REQUIRE(device >= 0);
	CHECK_OK(ADD(dev, device));
	CHECK_ERR(ADD(dev, device), EEXIST);
	CHECK_OK(DEL(dev, group));
	CHECK_EQ(flushes(&v, stats), !coherent);
	CHECK_OK(DEL(dev, device));
	CHECK_ERR(DEL(dev, device), ENOENT);
	CHECK(!flushes(&v, stats));
	close(device);

	printf("the reference that is held\n");
	CHECK_OK(ADD(dev, group));
	close(other);
	close(group);
	close(container);
	CHECK_ERR(open_group(), EBUSY); /* a group is open once only */
	CHECK_EQ(flushes(&v, stats), !coherent);
	close(dev);
	CHECK(!flushes(&v, stats));
	group = open_group();
	CHECK(group >= 0);
	close(group);
	/* Unregistered while another process has nothing of it: DEL, then close. */
	dev = create(v.vm, KVM_DEV_TYPE_VFIO);
	group = open_group();
	REQUIRE(dev >= 0 && group >= 0);
	CHECK_OK(ADD(dev, group));
	CHECK_OK(DEL(dev, group));
	close(group);
	group = open_group();
	CHECK(group >= 0);
	close(group);
	close(dev);
	close(stats);
	close(v.vcpu);
	close(v.vm);
	close(v.sys);
}

/* Container, group, VFIO device, vCPU and VM closed in the order that n stands for. */
static void order(unsigned n)
{
	int fd[5], group;
	struct vm v;

	vm_real(&v, prog, prog_end);
	fd[0] = open_container();
	fd[1] = open_group();
	REQUIRE(fd[1] >= 0);
	fd[2] = create(v.vm, KVM_DEV_TYPE_VFIO);
	REQUIRE(fd[2] >= 0);
	fd[3] = v.vcpu;
	fd[4] = v.vm;
	REQUIRE(ioctl(fd[1], VFIO_GROUP_SET_CONTAINER, &fd[0]) == 0);
	REQUIRE(ioctl(fd[0], VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
	CHECK_OK(ADD(fd[2], fd[1]));
	for (unsigned left = 5; left; n /= left, left--) {
		unsigned k = n % left;

		if (fd[k] == v.vcpu || v.vcpu < 0)
			v.vcpu = -1;
		else
			CHECK_OUT(v.vcpu, v.run, 0x10, 0x5a);
		CHECK_OK(close(fd[k]));
		for (; k < left - 1; k++)
			fd[k] = fd[k + 1];
	}
	close(v.sys);
	munmap(v.run, v.run_size);
	munmap(v.mem, v.mem_size);
	group = open_group();
	CHECK(group >= 0);
	close(group);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	find_group(argv[1]);
	coherent = !strcmp(argv[2], "coherent");
	main_path(argv[1]);
	printf("closing in every order\n");
	for (unsigned n = 0; n < 120; n++) {
		alarm(600);
		order(n);
	}
	return kt_end();
}
