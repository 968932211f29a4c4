/* SPDX-License-Identifier: MIT */
/*
 * The xinterface: how a component in the VMM's process (a plug-in, a device back end) reaches a VM by its descriptor, without going through the
 * VMM. It copies to and from guest memory, maps it, and is called when the guest writes to an address.
 *
 * Units: guest-physical addresses (gpa) and lengths are in bytes. Errors: a function that returns a pointer returns NULL, one that
 * returns int returns -1, each with errno; the copies return the number of bytes that were NOT copied.
 * Threads: every function may be called on any thread, several at once on the same object, and inside a signal() (see below); not in a
 * handler of an asynchronous signal. No function but put and deassign waits for a vCPU, so they may be called with locks held.
 * After fork() the child may only forget the objects.
 *
 * A program linked with libusekvm, and a plug-in (usekvm/plugin.h) without linking to anything, finds these functions in libusekvm.so.
 * The interface is modelled on a proposal for the kernel of 2009; docs/xinterface.md says what differs.
 */
#ifndef USEKVM_XINTERFACE_H
#define USEKVM_XINTERFACE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define USEKVM_API __attribute__((visibility("default")))

/* ---- the interface ---- */

struct kvm_xinterface; /* opaque, counted */

/*
 * Bind to the VM behind fd, a VM descriptor of usekvm. The VM (its vCPUs, slots and events; not the VMM's memory) lives until the
 * interface is gone, even if every descriptor of it is closed; fd itself is not kept. One reference is the caller's: put it.
 * EBADF: not an open descriptor. EINVAL: not a VM's. EIO: made by the process that this one was forked from. ENOMEM.
 */
USEKVM_API struct kvm_xinterface *kvm_xinterface_bind(int fd);
USEKVM_API void kvm_xinterface_get(struct kvm_xinterface *intf);
/* The last put may end the VM, if the VMM has closed it; then it waits for the VM's service thread. Do not call it with locks held. */
USEKVM_API void kvm_xinterface_put(struct kvm_xinterface *intf);

/*
 * Copy len bytes from src to guest memory at gpa, or from gpa to dst. A range may cross memory slots. The copy stops at the first
 * byte that is in no slot, in a read-only slot (copy_to), or has no host memory behind it (a bad src or dst counts alike), and never faults. Returns
 * the number of bytes not copied: 0 if all were. What is written is in the dirty log when the call returns, and code that the guest has
 * there is seen to be changed. No lock is taken; a copy is not atomic towards the guest, except that aligned ones of 4 and 8 bytes are.
 */
USEKVM_API unsigned long kvm_xinterface_copy_to(struct kvm_xinterface *intf, uint64_t gpa, const void *src, unsigned long len);
USEKVM_API unsigned long kvm_xinterface_copy_from(struct kvm_xinterface *intf, void *dst, uint64_t gpa, unsigned long len);

/* ---- direct pointers ---- */

#define KVM_XVMAP_READONLY 1u /* the slot is read-only: nothing may be written through addr */

/* The fields are for reading only. */
struct kvm_xvmap {
	void *addr; /* the host address of gpa: as good as the slot is, see below */
	uint64_t gpa;
	unsigned long len;
	uint32_t flags;
	struct kvm_xinterface *intf;
};

/*
 * A pointer to guest memory [gpa, gpa + len). The mapping has one reference, the caller's, and holds one on the interface. EINVAL: len is 0 or gpa +
 * len wraps. EFAULT: the range is not inside one memory slot. ENOMEM.
 *
 * The memory itself is the VMM's, which may delete the slot and unmap it at any time. The mapping is then STALE: from the moment at which the
 * VMM's call returns, addr must not be used any more. (Memory that usekvm has allocated for KVM_SET_MEMORY_REGION stays mapped as long as the
 * mapping lives.) A slot that comes back with the same memory at the same place makes it valid again. So use addr in one of
 * these ways:
 *  - between kvm_xvmap_enter and kvm_xvmap_leave: a call of the VMM that changes slots waits until you leave;
 *  - inside a signal(), after kvm_xvmap_valid has said yes: likewise until signal() returns;
 *  - not at all, but kvm_xvmap_copy_to and _from, which notice a stale mapping and missing memory and never fault;
 *  - or by agreement with the VMM.
 */
USEKVM_API struct kvm_xvmap *kvm_xinterface_vmap(struct kvm_xinterface *intf, uint64_t gpa, unsigned long len);
USEKVM_API void kvm_xvmap_get(struct kvm_xvmap *vmap);
USEKVM_API void kvm_xvmap_put(struct kvm_xvmap *vmap); /* the last one as kvm_xinterface_put */
/* 1: at this moment addr is where the guest has gpa. 0: stale. */
USEKVM_API int kvm_xvmap_valid(struct kvm_xvmap *vmap);
/*
 * Begin to use addr: a number (>= 0) to hand to leave, or -1 with ESTALE. Keep it short: the VMM's KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG and
 * the like wait meanwhile, so the thread must not make such a call itself, nor wait for a thread that does. The number may be used
 * on another thread. 32 sections a VM can be open at once; one more waits for one of them to end.
 */
USEKVM_API int kvm_xvmap_enter(struct kvm_xvmap *vmap);
USEKVM_API void kvm_xvmap_leave(struct kvm_xvmap *vmap, int section);
/*
 * Bytes [off, off + len) of the mapping were written through addr: mark the dirty log, and let the guest's CPUs see changed code. Call it after
 * writing and before leave. -1: ERANGE (outside of the mapping), EROFS, ESTALE (there is no slot to mark).
 */
USEKVM_API int kvm_xvmap_dirty(struct kvm_xvmap *vmap, unsigned long off, unsigned long len);
/* Copies at an offset: bytes not copied; all of them if the mapping is stale or the range not inside it. copy_to marks the dirty log. */
USEKVM_API unsigned long kvm_xvmap_copy_to(struct kvm_xvmap *vmap, unsigned long off, const void *src, unsigned long len);
USEKVM_API unsigned long kvm_xvmap_copy_from(struct kvm_xvmap *vmap, void *dst, unsigned long off, unsigned long len);

/* ---- events ---- */

#define KVM_XIOEVENT_FLAG_PIO 1ul /* port space; otherwise MMIO */

struct kvm_xioevent {
	struct kvm_xinterface *intf;
	uint64_t addr;
	uint32_t len, flags;
	/*
	 * Called when the guest has written exactly len bytes at exactly addr; val points to them (little endian, aligned to nothing). NULL: the
	 * write goes where it would go without the event. Set it by kvm_xioevent_arm.
	 */
	void (*signal)(struct kvm_xioevent *ioevent, const void *val);
	void *priv; /* the client's */
};

/*
 * Listen to guest writes of len bytes at addr. The VMM gets no exit for a write that was handled, nor does an emulated device or a coalesced zone
 * see it. Writes of another length, or that only overlap, are none of the event's. A repeated OUTS is a write for each item. Holds a
 * reference on the interface. EINVAL: len is not 1, 2, 4 or 8; addr + len wraps; an unknown flag. EEXIST: another event or a KVM_IOEVENTFD
 * would take the same write (one with a datamatch, or any length, counts). ENOMEM.
 *
 * signal() runs in the vCPU's thread, inside KVM_RUN, with the guest's next instruction waiting; several vCPUs may be in it at once.
 * It may use everything of this header, KVM_IRQ_LINE and KVM_SIGNAL_MSI; ioctls on its own VM that wait for vCPUs (memory slots, dirty
 * logs, ioeventfds, irqchips...) or enter its own vCPU fail with EDEADLK there. Signal handlers of the VMM are put off until
 * KVM_RUN returns. It must return, not jump away.
 */
USEKVM_API struct kvm_xioevent *kvm_xinterface_ioevent(struct kvm_xinterface *intf, uint64_t addr, unsigned long len, unsigned long flags);

static inline void kvm_xioevent_arm(struct kvm_xioevent *ioevent, void (*signal)(struct kvm_xioevent *, const void *), void *priv)
{
	ioevent->priv = priv;
	__atomic_store_n(&ioevent->signal, signal, __ATOMIC_RELEASE);
}

/*
 * End the event, whose memory is then gone. When this returns no signal() of it is running or will run, with one exception: called inside that
 * very signal(), it does not wait for that one. Waits for nothing but signals of this event on other vCPUs; so two signals that
 * deassign each other's events at the same time would wait for ever. Once an event.
 */
USEKVM_API void kvm_xioevent_deassign(struct kvm_xioevent *ioevent);

/*
 * The same as a stream for another process: every write becomes one struct kvm_xio_record on `socket`, which is duplicated and may be closed.
 * Several events may share it. Errors as above, and EBADF, ENOTSOCK; EINVAL: a stream socket that is not a Unix one, since records must not be torn.
 *
 * The vCPU never waits for the reader. A record for which the socket has no room, or whose reader is gone, is dropped, and the guest goes on; `lost`
 * of the next one that fits says how many were. Whoever must lose none makes SO_SNDBUF large enough for what is outstanding.
 * End it with kvm_xioevent_deassign; its signal and priv fields are not the client's.
 */
USEKVM_API struct kvm_xioevent *kvm_xinterface_iostream(struct kvm_xinterface *intf, uint64_t addr, unsigned long len, unsigned long flags, int socket);

struct kvm_xio_record { /* 24 bytes, host byte order */
	uint64_t addr;
	uint64_t data;  /* zero-extended */
	uint16_t size;  /* bytes: 1, 2, 4, 8 */
	uint16_t flags; /* KVM_XIOEVENT_FLAG_PIO */
	uint32_t lost;  /* writes to this event since the last record that was sent; stays at its maximum */
};

#ifdef __cplusplus
}
#endif

#endif
