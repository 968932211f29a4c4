/* SPDX-License-Identifier: MIT */
/*
 * A doorbell: the guest writes numbers to an MMIO address (or port), and they must come in order, 1, 2, 3...
 *
 *     usekvm --plugin=doorbell.so,0xfed10000:4 COMMAND      MMIO address and length (default)
 *     usekvm --plugin=doorbell.so,pio:0x510:4 COMMAND       port
 *
 * When the VMM is done with the VM, one line on stderr says how many rang and how many were not what was expected.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usekvm/plugin.h"
#include "usekvm/xinterface.h"

struct doorbell {
	struct kvm_xinterface *intf;
	struct kvm_xioevent *event;
	uint64_t rung, wrong; /* atomic: several vCPUs may ring at once */
};

static void ring(struct kvm_xioevent *event, const void *val)
{
	struct doorbell *d = event->priv;
	uint64_t mask = event->len == 8 ? ~0ull : (1ull << (8 * event->len)) - 1, got = 0, want;

	memcpy(&got, val, event->len);
	want = __atomic_add_fetch(&d->rung, 1, __ATOMIC_RELAXED);
	if (got != (want & mask))
		__atomic_fetch_add(&d->wrong, 1, __ATOMIC_RELAXED);
}

static int parse(const char *args, uint64_t *addr, unsigned long *len, unsigned long *flags)
{
	char *end;

	*addr = 0xfed10000;
	*len = 4;
	*flags = 0;
	if (!*args)
		return 0;
	if (!strncmp(args, "pio:", 4)) {
		*flags = KVM_XIOEVENT_FLAG_PIO;
		args += 4;
	}
	*addr = strtoull(args, &end, 0);
	if (*end == ':')
		*len = strtoul(end + 1, &end, 0);
	return *end ? EINVAL : 0;
}

static int vm_made(int vm_fd, const char *args, void **vm)
{
	struct doorbell *d;
	unsigned long len, flags;
	uint64_t addr;
	int r = parse(args, &addr, &len, &flags);

	if (r)
		return r;
	d = calloc(1, sizeof(*d));
	if (!d)
		return ENOMEM;
	d->intf = kvm_xinterface_bind(vm_fd);
	if (d->intf)
		d->event = kvm_xinterface_ioevent(d->intf, addr, len, flags);
	if (!d->event) {
		r = errno;
		if (d->intf)
			kvm_xinterface_put(d->intf);
		free(d);
		return r;
	}
	kvm_xioevent_arm(d->event, ring, d);
	*vm = d;
	return 0;
}

static void vm_gone(void *vm)
{
	struct doorbell *d = vm;

	kvm_xioevent_deassign(d->event);
	kvm_xinterface_put(d->intf);
	fprintf(stderr, "doorbell: rung %llu times, %llu wrong\n", (unsigned long long)d->rung, (unsigned long long)d->wrong);
	free(d);
}

__attribute__((visibility("default"))) const struct usekvm_plugin usekvm_plugin = {USEKVM_PLUGIN_VERSION, "doorbell", vm_made, vm_gone};
