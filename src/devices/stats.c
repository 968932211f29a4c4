/* SPDX-License-Identifier: MIT */
/*
 * USEKVM_DEV_TYPE_STATS: the counters of a VM and of its vCPUs as attributes (docs/devices/stats.md). It has no state of its own, and a VM may
 * have any number of them.
 */
#include <errno.h>

#include "base/string.h"
#include "base/sys.h"
#include "devices/device.h"
#include "usekvm/stats.h"

static int create(struct usekvm_device *dev, uint32_t type)
{
	return 0;
}

static void nothing(struct usekvm_device *dev)
{
}

static const struct kvm_vcpu *find_vcpu(struct kvm *kvm, u32 id)
{
	u32 n = load_acquire(&kvm->nvcpus);

	for (u32 i = 0; i < n; i++)
		if (kvm->vcpus[i]->id == id)
			return kvm->vcpus[i];
	return NULL;
}

/* The vCPU meant (NULL: the VM); -ENXIO: no such one, or no such counter. */
static int resolve(struct usekvm_device *dev, const struct kvm_device_attr *a, const struct kvm_vcpu **v, u32 *index)
{
	*v = NULL;
	*index = (u32)a->attr;
	if (a->flags)
		return -EINVAL;
	switch (a->group) {
	case USEKVM_STATS_INFO:
		return a->attr > USEKVM_STATS_INFO_VCPUS ? -ENXIO : 0;
	case USEKVM_STATS_NAME:
	case USEKVM_STATS_VM:
		break;
	case USEKVM_STATS_VCPU:
		*v = find_vcpu(device_kvm(dev), (u32)(a->attr >> 32));
		if (!*v)
			return -ENXIO;
		break;
	default:
		return -ENXIO;
	}
	if (a->group != USEKVM_STATS_VCPU && a->attr >> 32)
		return -ENXIO;
	return *index >= ncounters && (*index != USEKVM_STATS_ALL || a->group == USEKVM_STATS_NAME) ? -ENXIO : 0;
}

static int has_attr(struct usekvm_device *dev, const struct kvm_device_attr *a)
{
	const struct kvm_vcpu *v;
	u32 index;

	return resolve(dev, a, &v, &index);
}

static int put(const struct kvm_device_attr *a, const void *data, size_t n)
{
	return copy_to_user((void *)a->addr, data, n) ? -EFAULT : 0;
}

static int get_attr(struct usekvm_device *dev, const struct kvm_device_attr *a)
{
	struct kvm *kvm = device_kvm(dev);
	const struct kvm_vcpu *v;
	u64 val[COUNTERS_MAX];
	char name[COUNTER_NAME] = "";
	u32 index;
	int r = resolve(dev, a, &v, &index);

	if (r)
		return r;
	switch (a->group) {
	case USEKVM_STATS_INFO:
		val[0] = a->attr == USEKVM_STATS_INFO_COUNT ? ncounters : load_acquire(&kvm->nvcpus);
		return put(a, val, sizeof(u64));
	case USEKVM_STATS_NAME:
		memcpy(name, counters[index].name, strlen(counters[index].name));
		return put(a, name, sizeof(name));
	}
	counters_read(kvm, v, val);
	return index == USEKVM_STATS_ALL ? put(a, val, ncounters * sizeof(u64)) : put(a, &val[index], sizeof(u64));
}

const struct usekvm_device_ops stats_device_ops = {
	.name = "usekvm-stats",
	.create = create,
	.destroy = nothing,
	.release = nothing,
	.get_attr = get_attr,
	.has_attr = has_attr,
};
