/* SPDX-License-Identifier: MIT */
/*
 * Devices made by KVM_CREATE_DEVICE: the inside of include/usekvm/device.h.
 *
 * device.c: types, and the life of a device. vfio.c, stats.c: types of our own. statsfd.c: KVM_GET_STATS_FD. counters.c: what both
 * statistics, and `usekvm --stats`, name and describe.
 *
 * Locks: kvm.dev_lock is held while devices are made and ended, and around their create, init, release and destroy. A device's own lock comes
 * after it, then kvm.lock.
 */
#ifndef USEKVM_DEVICES_DEVICE_H
#define USEKVM_DEVICES_DEVICE_H

#include "kvm/kvm.h"
#include "usekvm/device.h"

struct device {
	struct usekvm_device pub;
	struct kvm_device node;
	struct vfile vf;
	struct kvm *kvm;
};

static inline struct device *to_device(struct usekvm_device *dev)
{
	return container_of(dev, struct device, pub);
}
static inline struct kvm *device_kvm(struct usekvm_device *dev)
{
	return to_device(dev)->kvm;
}

/* NULL: no such type. */
const struct usekvm_device_ops *device_type(u32 type) hidden;
/* A descriptor, or -errno with nothing left behind. */
int device_create(struct kvm *kvm, const struct usekvm_device_ops *ops, u32 type) hidden;
/* The first device of these ops in the VM, or NULL. dev_lock held. */
struct usekvm_device *device_find(struct kvm *kvm, const struct usekvm_device_ops *ops) hidden;

/* vfio.c */
extern const struct usekvm_device_ops vfio_device_ops hidden;
/* An ioctl of VFIO on a descriptor that is not ours has succeeded: groups may have got another container, or this another answer. */
void vfio_ioctl_done(int fd, u32 request, unsigned long arg, long result) hidden;

/* stats.c */
extern const struct usekvm_device_ops stats_device_ops hidden;

/* counters.c: one description for each counter. */
struct counter {
	const char *name;
	u32 index;  /* KSTAT_* */
	u32 flags;  /* KVM_STATS_TYPE_*, KVM_STATS_UNIT_*, KVM_STATS_BASE_* */
	s16 exponent;
	bool tsc;   /* counted in ticks of the host's TSC: shown as ns */
};
#define COUNTERS_MAX 64
#define COUNTER_NAME 48 /* bytes, with the final 0 */
extern const struct counter counters[] hidden;
extern const unsigned ncounters hidden;
/* val[i] is that of counters[i]; of one vCPU, or (NULL) of all vCPUs of the VM. */
void counters_read(struct kvm *kvm, const struct kvm_vcpu *v, u64 val[COUNTERS_MAX]) hidden;
/* The same from a sum of KSTAT_* that the caller has. */
u64 counter_value(const struct counter *c, const u64 sum[KSTAT_COUNT]) hidden;

/* statsfd.c: of a vCPU, or (NULL) of the VM. A descriptor or -errno. */
int stats_fd_create(struct kvm *kvm, struct kvm_vcpu *v) hidden;
/* About to be read: bring the numbers up to date. For any fd; does nothing if it is not of KVM_GET_STATS_FD. */
void stats_fd_refresh(int fd) hidden;

#endif
