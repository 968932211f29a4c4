/* SPDX-License-Identifier: MIT */
/*
 * Device types, and the life of a device: made under dev_lock, on the VM's list from then on, named by one vfile. It holds a reference to its VM
 * while it has a descriptor; without release() it stays on the list until the VM ends, which is then what frees it.
 */
#include "devices/device.h"

#include <errno.h>
#include <stdlib.h>

#include "base/inject.h"
#include "base/process.h"
#include "base/string.h"
#include "base/sys.h"

#define NAME_MAX_LEN 40

/* ---- types ---- */

const struct usekvm_device_ops *device_type(u32 type)
{
	switch (type) {
	case KVM_DEV_TYPE_VFIO:
		return &vfio_device_ops;
	case USEKVM_DEV_TYPE_STATS:
		return &stats_device_ops;
	}
	return process_lookup(type);
}

static int register_type(u32 type, const struct usekvm_device_ops *ops)
{
	if (type < USEKVM_DEV_TYPE_USER || type > USEKVM_DEV_TYPE_LAST || !ops || !ops->name || !ops->create || !ops->destroy ||
	    strlen(ops->name) > NAME_MAX_LEN)
		return -EINVAL;
	return process_register(type, ops);
}

int usekvm_device_register(uint32_t type, const struct usekvm_device_ops *ops)
{
	struct sig_run s = { 0 };

	sig_enter(&s, NULL);
	int r = register_type(type, ops);
	sig_leave(&s);
	if (!r)
		return 0;
	errno = -r;
	return -1;
}

int usekvm_copy_from_user(void *dst, uint64_t user, size_t len)
{
	return copy_from_user(dst, (const void *)user, len);
}

int usekvm_copy_to_user(uint64_t user, const void *src, size_t len)
{
	return copy_to_user((void *)user, src, len);
}

/* ---- life ---- */

struct usekvm_device *device_find(struct kvm *kvm, const struct usekvm_device_ops *ops)
{
	for (struct kvm_device *d = kvm->devices; d; d = d->next) {
		struct device *dev = container_of(d, struct device, node);

		if (dev->pub.ops == ops)
			return &dev->pub;
	}
	return NULL;
}

static void unlink_device(struct device *dev)
{
	struct kvm_device **p = &dev->kvm->devices;

	while (*p != &dev->node)
		p = &(*p)->next;
	*p = dev->node.next;
}

static void end_device(struct device *dev)
{
	dev->pub.ops->destroy(&dev->pub);
	live_add(LIVE_DEVICE, -1);
	free(dev);
}

static void end_with_vm(struct kvm_device *d)
{
	end_device(container_of(d, struct device, node));
}

static void release(struct vfile *vf)
{
	struct device *dev = container_of(vf, struct device, vf);
	struct kvm *kvm = dev->kvm;

	if (dev->pub.ops->release) {
		mutex_lock(&kvm->dev_lock);
		unlink_device(dev);
		dev->pub.ops->release(&dev->pub);
		end_device(dev);
		mutex_unlock(&kvm->dev_lock);
	}
	kvm_put(kvm);
}

static const struct vfile_ops device_vfile_ops = { VFILE_DEVICE, release };

static int create_locked(struct device *dev, u32 type)
{
	const struct usekvm_device_ops *ops = dev->pub.ops;
	struct kvm *kvm = dev->kvm;
	int r = ops->create(&dev->pub, type);

	if (r < 0)
		return r;
	int fd = vfile_prepare(&dev->vf, &device_vfile_ops, ops->name, 0, true);
	if (fd < 0) {
		ops->destroy(&dev->pub);
		return fd;
	}
	dev->node.next = kvm->devices;
	kvm->devices = &dev->node;
	if (ops->init)
		ops->init(&dev->pub);
	kvm_get(kvm);
	live_add(LIVE_DEVICE, 1);
	vfile_publish(&dev->vf, fd);
	return fd;
}

int device_create(struct kvm *kvm, const struct usekvm_device_ops *ops, u32 type)
{
	struct device *dev = aligned_alloc(64, ALIGN_UP(sizeof(*dev), 64));

	if (!dev)
		return -ENOMEM;
	*dev = (struct device){ .pub = { .ops = ops, .type = type, .vm = kvm }, .node.end = end_with_vm, .kvm = kvm };
	mutex_lock(&kvm->dev_lock);
	int fd = create_locked(dev, type);
	mutex_unlock(&kvm->dev_lock);
	if (fd < 0)
		free(dev);
	return fd;
}
