/* SPDX-License-Identifier: MIT */
/*
 * KVM_CREATE_DEVICE, the requests on the descriptors it makes, and KVM_GET_STATS_FD.
 */
#include <errno.h>

#include "api/call.h"
#include "base/sys.h"
#include "devices/device.h"

/* Flags other than KVM_CREATE_DEVICE_TEST mean nothing and are not looked at, as in the kernel (seen on 6.18). */
long vm_create_device(struct api_call *call)
{
	struct kvm_create_device *cd = &call->u->device;
	const struct usekvm_device_ops *ops = device_type(cd->type);

	if (!ops)
		return -ENODEV;
	if (cd->flags & KVM_CREATE_DEVICE_TEST)
		return 0;
	int fd = device_create(call->kvm, ops, cd->type);
	if (fd < 0)
		return fd;
	cd->fd = (u32)fd;
	return 0;
}

static long attr_call(struct usekvm_device *dev, int (*fn)(struct usekvm_device *, const struct kvm_device_attr *), unsigned long arg)
{
	struct kvm_device_attr a;

	if (!fn)
		return -EPERM;
	if (copy_from_user(&a, (const void *)arg, sizeof(a)))
		return -EFAULT;
	return fn(dev, &a);
}

long api_device_ioctl(struct vfile *vf, u32 request, unsigned long arg)
{
	struct usekvm_device *dev = &container_of(vf, struct device, vf)->pub;

	switch (request) {
	case (u32)KVM_SET_DEVICE_ATTR:
		return attr_call(dev, dev->ops->set_attr, arg);
	case (u32)KVM_GET_DEVICE_ATTR:
		return attr_call(dev, dev->ops->get_attr, arg);
	case (u32)KVM_HAS_DEVICE_ATTR:
		return attr_call(dev, dev->ops->has_attr, arg);
	}
	return dev->ops->ioctl ? dev->ops->ioctl(dev, request, arg) : -ENOTTY;
}

long api_device_mapped(struct vfile *vf, void *addr, u64 len, int prot, int flags, u64 offset)
{
	struct usekvm_device *dev = &container_of(vf, struct device, vf)->pub;

	return dev->ops->mmap ? dev->ops->mmap(dev, addr, ALIGN_UP(len, PAGE_SIZE), prot, flags, (s64)offset) : -ENODEV;
}

long vm_get_stats_fd(struct api_call *call)
{
	return stats_fd_create(call->kvm, NULL);
}

long vcpu_call_get_stats_fd(struct api_call *call)
{
	return stats_fd_create(call->kvm, call->vcpu);
}
