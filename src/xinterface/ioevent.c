/* SPDX-License-Identifier: MIT */
/*
 * Events: a guest's write calls a client, or goes as a record to a socket.
 *
 * An event is found by its address in the iobus's hash. fire() runs on the vCPU's thread inside its read section, so the event's memory
 * is there; `dead` and the vCPU's `client` decide whether the client is called (see xinterface.h). It counts as a client's code, not as the
 * engine's: a fault in it is the process's.
 */
#include "xinterface/xinterface.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/string.h"
#include "base/sys.h"

#define KNOWN_FLAGS KVM_XIOEVENT_FLAG_PIO

struct ioevent {
	struct kvm_xioevent pub;
	struct io_event event;
	u32 dead; /* atomic */
	int fd;   /* a stream's; -1 */
	u32 lost; /* atomic */
};

static enum io_space space_of(const struct ioevent *p)
{
	return p->pub.flags & KVM_XIOEVENT_FLAG_PIO ? IO_PIO : IO_MMIO;
}

static bool fire(struct io_event *e, void *vcpu, u64 addr, unsigned len, const void *data)
{
	struct ioevent *p = container_of(e, struct ioevent, event);
	struct kvm_vcpu *v = vcpu;
	void (*signal)(struct kvm_xioevent *, const void *) = NULL;
	bool in_engine = v->cpu.in_engine;

	__atomic_store_n(&v->client, p, __ATOMIC_SEQ_CST);
	if (likely(!__atomic_load_n(&p->dead, __ATOMIC_SEQ_CST)))
		signal = load_acquire(&p->pub.signal);
	if (signal) {
		v->cpu.in_engine = false;
		signal(&p->pub, data);
		v->cpu.in_engine = in_engine;
	}
	store_release(&v->client, NULL);
	return signal != NULL;
}

static void free_event(struct io_event *e)
{
	free(container_of(e, struct ioevent, event));
}

static int check(u64 addr, u64 len, u64 flags)
{
	if (len != 1 && len != 2 && len != 4 && len != 8)
		return -EINVAL;
	if (addr + len < addr || flags & ~KNOWN_FLAGS)
		return -EINVAL;
	return 0;
}

static int make(struct ioevent **out, struct kvm_xinterface *intf, u64 addr, u64 len, u64 flags)
{
	struct ioevent *p;
	int r = check(addr, len, flags);

	if (r)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->pub.intf = intf;
	p->pub.addr = addr;
	p->pub.len = (u32)len;
	p->pub.flags = (u32)flags;
	p->event.addr = addr;
	p->event.len = (u32)len;
	p->event.signal = fire;
	p->event.free = free_event;
	p->fd = -1;
	*out = p;
	return 0;
}

static int publish(struct ioevent *p)
{
	int r = iobus_add_event(&p->pub.intf->kvm->bus, space_of(p), &p->event);

	if (!r)
		kvm_xinterface_get(p->pub.intf);
	return r;
}

/* Other vCPUs only: this thread's own is where we were called from. */
static bool is_running(struct kvm *kvm, const struct ioevent *p)
{
	u32 n = load_acquire(&kvm->nvcpus);

	for (u32 i = 0; i < n; i++)
		if (__atomic_load_n(&kvm->vcpus[i]->client, __ATOMIC_SEQ_CST) == p && !vcpu_is_mine(kvm->vcpus[i]))
			return true;
	return false;
}

static void wait_for_signals(struct kvm *kvm, const struct ioevent *p)
{
	struct timespec t = { 0, 20000 };

	for (unsigned spins = 0; is_running(kvm, p); spins++) {
		if (spins < 200) {
			__builtin_ia32_pause();
			continue;
		}
		sys3(SYS_nanosleep, &t, 0, 0);
		t.tv_nsec = MIN(t.tv_nsec * 2, 1000000);
	}
}

void kvm_xioevent_deassign(struct kvm_xioevent *ioevent)
{
	struct ioevent *p = container_of(ioevent, struct ioevent, pub);
	struct kvm_xinterface *intf = ioevent->intf;
	struct sig_run s = { 0 };

	sig_enter(&s, NULL);
	__atomic_store_n(&p->dead, 1, __ATOMIC_SEQ_CST);
	wait_for_signals(intf->kvm, p);
	if (p->fd >= 0)
		sys_close(p->fd);
	iobus_drop_event(&intf->kvm->bus, space_of(p), &p->event);
	kvm_xinterface_put(intf);
	sig_leave(&s);
}

/* ---- streams ---- */

static void count_lost(struct ioevent *p, u32 n)
{
	u32 lost = load_relaxed(&p->lost), sum;

	do
		sum = lost + n < lost ? ~0u : lost + n;
	while (!__atomic_compare_exchange_n(&p->lost, &lost, sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

static void send_record(struct kvm_xioevent *ioevent, const void *val)
{
	struct ioevent *p = container_of(ioevent, struct ioevent, pub);
	struct kvm_xio_record r = { .addr = ioevent->addr, .size = (u16)ioevent->len, .flags = (u16)ioevent->flags };

	memcpy(&r.data, val, ioevent->len);
	r.lost = load_relaxed(&p->lost) ? __atomic_exchange_n(&p->lost, 0, __ATOMIC_RELAXED) : 0;
	if (sys6(SYS_sendto, p->fd, (long)&r, sizeof(r), MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0) != sizeof(r)) {
		count_lost(p, r.lost);
		count_lost(p, 1);
	}
}

static long socket_option(int fd, int option, int *value)
{
	u32 len = sizeof(*value);

	return sys6(SYS_getsockopt, fd, SOL_SOCKET, option, (long)value, (long)&len, 0);
}

/* A record of this size is never torn by a socket that keeps message boundaries, nor by a Unix stream socket. */
static int check_socket(int fd)
{
	int type, domain;
	long r = socket_option(fd, SO_TYPE, &type);

	if (!r)
		r = socket_option(fd, SO_DOMAIN, &domain);
	if (r)
		return (int)r;
	return type == SOCK_STREAM && domain != AF_UNIX ? -EINVAL : 0;
}

static int stream(struct ioevent *p, int fd)
{
	int r = check_socket(fd);

	if (r)
		return r;
	p->fd = sys_dup_cloexec(fd);
	if (p->fd < 0)
		return p->fd;
	p->pub.signal = send_record;
	r = publish(p);
	if (r)
		sys_close(p->fd);
	return r;
}

/* socket: where records go, or NULL for an event of the caller's own. */
static struct kvm_xioevent *assign(struct kvm_xinterface *intf, u64 addr, unsigned long len, unsigned long flags, const int *socket)
{
	struct sig_run s = { 0 };
	struct ioevent *p = NULL;
	int r;

	sig_enter(&s, NULL);
	r = make(&p, intf, addr, len, flags);
	if (!r) {
		r = socket ? stream(p, *socket) : publish(p);
		if (r)
			free(p);
	}
	sig_leave(&s);
	if (!r)
		return &p->pub;
	errno = -r;
	return NULL;
}

struct kvm_xioevent *kvm_xinterface_ioevent(struct kvm_xinterface *intf, uint64_t addr, unsigned long len, unsigned long flags)
{
	return assign(intf, addr, len, flags, NULL);
}

struct kvm_xioevent *kvm_xinterface_iostream(struct kvm_xinterface *intf, uint64_t addr, unsigned long len, unsigned long flags, int socket)
{
	return assign(intf, addr, len, flags, &socket);
}
