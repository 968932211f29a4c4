/* SPDX-License-Identifier: MIT */
/*
 * The inside of include/usekvm/xinterface.h.
 *
 * memory.c: bind, copies, mappings. ioevent.c: events and streams.
 *
 * Two ways to be safe against others, neither with a lock:
 *  - Slots: a read section of the VM's qsbr. A thread claims one of the VM's client readers by setting its `seen` word, so that readers need
 *    not be registered for each thread and no thread's end must be noticed.
 *  - Events: `client` of a vCPU says whose signal() it is in, and `dead` of an event that it has been deassigned; each side sets its own, then
 *    looks at the other's (both sequentially consistent). The event's memory is the iobus's to free once no vCPU can still find it.
 *
 * A handler of the VMM must not jump out of these functions while they hold something: they stand between sig_enter and sig_leave, as ioctls do.
 */
#ifndef USEKVM_XINTERFACE_XINTERFACE_H
#define USEKVM_XINTERFACE_XINTERFACE_H

#include "kvm/kvm.h"
#include "usekvm/xinterface.h"

struct kvm_xinterface {
	u32 refs;
	int pid; /* of the process in which the VM's threads are */
	struct kvm *kvm;
};

/* For the plug-in loader: gone(kvm, arg) is called when the VMM has closed the last descriptor of the VM behind fd. 0 or -errno. */
int xinterface_watch(int fd, void (*gone)(struct kvm *kvm, void *arg), void *arg) hidden;

#endif
