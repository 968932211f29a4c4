/* SPDX-License-Identifier: MIT */
/*
 * A device in the style of virtio: a ring of descriptors in guest memory, which the device reads through a mapping when the guest rings
 * its doorbell.
 *
 *     usekvm --plugin=ring.so[,0xfed20000] COMMAND
 *
 * The guest writes the ring's address (8 bytes) to the device's address + 0, and anything (4 bytes) to + 8 when it has put something in. The ring:
 *
 *     0   u32 size     entries, a power of two, at most 1024    16  struct { u64 addr; u32 len; u32 flags; } desc[size]
 *     4   u32 produced by the guest, counts up for ever
 *     8   u32 consumed by the device, likewise
 *     12  u32 sum      of all bytes consumed, by the device
 *
 * A descriptor names a buffer anywhere in guest memory; the device adds its bytes up. What the guest says is checked once and then used
 * from the copy; buffers are read by copies, since they may cross slots. A ring that is damaged or out of RAM is let go of.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>

#include "usekvm/plugin.h"
#include "usekvm/xinterface.h"

#define MAX_ENTRIES 1024u
#define MAX_BUFFER 65536u

struct ring_head {
	uint32_t size, produced, consumed, sum;
};
struct ring_desc {
	uint64_t addr;
	uint32_t len, flags;
};

struct device {
	struct kvm_xinterface *intf;
	struct kvm_xioevent *setup, *bell;
	pthread_mutex_t lock; /* the fields below; two vCPUs may ring at once */
	struct kvm_xvmap *map;
	uint32_t size, consumed, sum;
	uint64_t buffers, bytes, bad;
};

static void drop_ring(struct device *d)
{
	if (d->map)
		kvm_xvmap_put(d->map);
	d->map = NULL;
}

static void on_setup(struct kvm_xioevent *event, const void *val)
{
	struct device *d = event->priv;
	struct ring_head head;
	uint64_t gpa;

	memcpy(&gpa, val, sizeof(gpa));
	pthread_mutex_lock(&d->lock);
	drop_ring(d);
	d->consumed = d->sum = 0;
	if (!kvm_xinterface_copy_from(d->intf, &head, gpa, sizeof(head)) && head.size && head.size <= MAX_ENTRIES && !(head.size & (head.size - 1))) {
		d->size = head.size;
		d->map = kvm_xinterface_vmap(d->intf, gpa, sizeof(head) + head.size * sizeof(struct ring_desc));
	}
	if (!d->map)
		d->bad++;
	pthread_mutex_unlock(&d->lock);
}

static void consume(struct device *d, const struct ring_desc *desc)
{
	uint8_t buf[256];
	uint32_t len = desc->len;
	uint64_t addr = desc->addr;

	if (len > MAX_BUFFER) {
		d->bad++;
		return;
	}
	d->buffers++;
	while (len) {
		uint32_t n = len < sizeof(buf) ? len : sizeof(buf);

		if (kvm_xinterface_copy_from(d->intf, buf, addr, n)) {
			d->bad++;
			return;
		}
		for (uint32_t i = 0; i < n; i++)
			d->sum += buf[i];
		d->bytes += n;
		addr += n;
		len -= n;
	}
}

/* Inside a signal a valid mapping stays valid: slot changes wait for us. */
static void on_bell(struct kvm_xioevent *event, const void *val)
{
	struct device *d = event->priv;
	struct ring_head *head;
	const struct ring_desc *desc;
	uint32_t produced;

	pthread_mutex_lock(&d->lock);
	if (!d->map || !kvm_xvmap_valid(d->map)) {
		drop_ring(d);
		d->bad++;
		pthread_mutex_unlock(&d->lock);
		return;
	}
	head = d->map->addr;
	desc = (const struct ring_desc *)(head + 1);
	produced = __atomic_load_n(&head->produced, __ATOMIC_ACQUIRE);
	if (produced - d->consumed > d->size) {
		d->bad++;
		d->consumed = produced;
	}
	while (d->consumed != produced) {
		struct ring_desc one;

		memcpy(&one, (const void *)&desc[d->consumed & (d->size - 1)], sizeof(one));
		consume(d, &one);
		d->consumed++;
	}
	__atomic_store_n(&head->sum, d->sum, __ATOMIC_RELAXED);
	__atomic_store_n(&head->consumed, d->consumed, __ATOMIC_RELEASE);
	kvm_xvmap_dirty(d->map, 0, sizeof(*head));
	pthread_mutex_unlock(&d->lock);
}

static void end_device(struct device *d)
{
	if (d->bell)
		kvm_xioevent_deassign(d->bell);
	if (d->setup)
		kvm_xioevent_deassign(d->setup);
	drop_ring(d);
	if (d->intf)
		kvm_xinterface_put(d->intf);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static int vm_made(int vm_fd, const char *args, void **vm)
{
	char *end = NULL;
	uint64_t base = *args ? strtoull(args, &end, 0) : 0xfed20000;
	struct device *d;

	if (end && *end)
		return EINVAL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return ENOMEM;
	pthread_mutex_init(&d->lock, NULL);
	d->intf = kvm_xinterface_bind(vm_fd);
	if (d->intf)
		d->setup = kvm_xinterface_ioevent(d->intf, base, 8, 0);
	if (d->setup)
		d->bell = kvm_xinterface_ioevent(d->intf, base + 8, 4, 0);
	if (!d->bell) {
		int r = errno;

		end_device(d);
		return r;
	}
	kvm_xioevent_arm(d->setup, on_setup, d);
	kvm_xioevent_arm(d->bell, on_bell, d);
	*vm = d;
	return 0;
}

static void vm_gone(void *vm)
{
	struct device *d = vm;

	fprintf(stderr, "ring: %llu buffers, %llu bytes, sum %u, %llu bad\n", (unsigned long long)d->buffers, (unsigned long long)d->bytes, d->sum,
		(unsigned long long)d->bad);
	end_device(d);
}

__attribute__((visibility("default"))) const struct usekvm_plugin usekvm_plugin = {USEKVM_PLUGIN_VERSION, "ring", vm_made, vm_gone};
