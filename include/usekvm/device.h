/* SPDX-License-Identifier: MIT */
/*
 * Device types: KVM_CREATE_DEVICE as an extension point. A program that links libusekvm (or a plug-in in a VMM's process) registers a type by
 * a table of functions; from then on KVM_CREATE_DEVICE with its number makes one, and KVM_SET/GET/HAS_DEVICE_ATTR, other ioctls and mmap
 * on the descriptor arrive at the table. The requests and structures are those of <linux/kvm.h>.
 *
 * Life: create, init, then the calls, then release (if there is one), then destroy. create and destroy come once each for a device, and destroy
 * only for one whose create succeeded. A type with `release` ends with its last descriptor: release and destroy follow each other there. A type
 * without it stays a part of the VM until that ends, after every VM, vCPU and device descriptor was closed, and destroy comes then. A
 * device descriptor keeps its VM alive; no call is running, and none comes any more, when release is called.
 *
 * Threads: create, init, release and destroy of the devices of one VM never run at the same time; they must not make another device in the
 * same VM. The other functions run on the caller's thread, several at once, on one device too: the type does its own locking. A handler of an
 * asynchronous signal of the VMM does not run inside any of them.
 *
 * Errors: functions return 0 (ioctl: >= 0), or -errno, which the VMM gets as it is. Every pointer that comes from the VMM (attr->addr, arg) may be
 * bad: use usekvm_copy_from_user and usekvm_copy_to_user.
 */
#ifndef USEKVM_DEVICE_H
#define USEKVM_DEVICE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef USEKVM_API
#define USEKVM_API __attribute__((visibility("default")))
#endif

/*
 * Type numbers. The kernel counts up from 1. Ours are "uk" in the upper half: usekvm's own from USEKVM_DEV_TYPE_BASE, and from
 * USEKVM_DEV_TYPE_USER to USEKVM_DEV_TYPE_LAST those of programs and plug-ins. Numbers outside the last range cannot be registered.
 */
#define USEKVM_DEV_TYPE_BASE 0x756b0000u
#define USEKVM_DEV_TYPE_STATS (USEKVM_DEV_TYPE_BASE + 1) /* docs/devices/stats.md */
#define USEKVM_DEV_TYPE_USER 0x756b8000u
#define USEKVM_DEV_TYPE_LAST 0x756bffffu

struct usekvm_device_ops;

/* A device, as its functions see it. The library makes and frees it. */
struct usekvm_device {
	const struct usekvm_device_ops *ops;
	uint32_t type;
	const void *vm; /* the same for all devices of a VM, different for different VMs; not to be looked into */
	void *priv;     /* the type's own */
};

struct usekvm_device_ops {
	/* Shown as the descriptor's name in /proc/PID/fd. At most 40 characters. */
	const char *name;

	/* Make the device: set dev->priv. On an error nothing may be left; destroy is not called. Usual errors: ENOMEM; EEXIST or EBUSY when
	 * there may be one a VM only. */
	int (*create)(struct usekvm_device *dev, uint32_t type);
	/* Optional. The descriptor exists, the VMM does not know it yet. Cannot fail. */
	void (*init)(struct usekvm_device *dev);
	/* Free what create made. Also called, without release, when there is no descriptor left to give after create. */
	void (*destroy)(struct usekvm_device *dev);
	/* Optional: the last descriptor is closed; the device ends now and not with the VM. destroy follows. */
	void (*release)(struct usekvm_device *dev);

	/* Optional; without it the request is EPERM. Unknown group or attribute: ENXIO; not now, or not this way: EPERM; bad attr->addr: EFAULT.
	 * has_attr says 0 for what set_attr or get_attr may take; addr means nothing there. *attr is a copy. */
	int (*set_attr)(struct usekvm_device *dev, const struct kvm_device_attr *attr);
	int (*get_attr)(struct usekvm_device *dev, const struct kvm_device_attr *attr);
	int (*has_attr)(struct usekvm_device *dev, const struct kvm_device_attr *attr);

	/* Optional: any other request, cut to 32 bits. Without it, and for what it does not know: ENOTTY. */
	long (*ioctl)(struct usekvm_device *dev, unsigned int request, unsigned long arg);

	/* Optional: the VMM maps the descriptor. [addr, addr + len) is whole pages and reserved: put pages there with mmap(MAP_FIXED). On an error
	 * the range is unmapped again. Without it mmap fails with ENODEV. */
	int (*mmap)(struct usekvm_device *dev, void *addr, size_t len, int prot, int flags, int64_t offset);
};

/*
 * Make a type known to this process, for good: ops is not copied and must stay. Returns 0, or -1 with errno: EINVAL (type outside
 * USEKVM_DEV_TYPE_USER..LAST; no name, create or destroy; name too long), EEXIST (number in use), ENOSPC (64 types are there).
 */
USEKVM_API int usekvm_device_register(uint32_t type, const struct usekvm_device_ops *ops);

/* Copies from and to the VMM's memory, which may not be there: 0 or -EFAULT. */
USEKVM_API int usekvm_copy_from_user(void *dst, uint64_t user, size_t len);
USEKVM_API int usekvm_copy_to_user(uint64_t user, const void *src, size_t len);

#ifdef __cplusplus
}
#endif

#endif
