/* SPDX-License-Identifier: MIT */
/*
 * KVM_IRQFD: an eventfd whose signal raises a GSI, and, for level-triggered lines, one that is signalled when the guest is done with it
 * (resample).
 *
 * The service thread does everything: it adds, removes and serves irqfds, so the list of them needs no lock, and the system calls
 * involved are not subject to a seccomp filter of the VMM's threads. Resamplers hang in a second list that acknowledges walk; that one
 * is irqchip.lock's.
 *
 * The eventfd is duplicated: the VMM may close its number. The kernel notices when the last number is closed and drops the irqfd; our
 * duplicate keeps the file alive, so such an irqfd stays, silent, until the VM goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/agent.h"
#include "base/sys.h"
#include "irqchip/chips.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#define NO_ID (~0ull)

struct irqfd {
	struct irqfd *next;
	struct irqfd *next_resample; /* irqchip.lock */
	struct irqchip *chip;
	struct svc_watch watch;      /* watch.fd: our duplicate */
	int vmm_fd;                  /* the number that it was assigned by */
	u64 id;                      /* the kernel's eventfd-id, or NO_ID */
	int resample_fd;             /* our duplicate, or -1 */
	u32 gsi;
	bool no_nowait;
};

struct irqfd_list {
	struct irqfd *all;
	struct irqfd *resamplers; /* irqchip.lock */
};

/* ---- what stands behind a descriptor ---- */

static unsigned put_str(char *p, const char *s)
{
	unsigned n = 0;

	for (; s[n]; n++)
		p[n] = s[n];
	p[n] = 0;
	return n;
}

static void proc_path(char *p, const char *dir, int fd)
{
	char digits[12];
	unsigned n = sizeof(digits) - 1;

	digits[n] = 0;
	do
		digits[--n] = (char)('0' + fd % 10);
	while (fd /= 10);
	p += put_str(p, dir);
	put_str(p, digits + n);
}

/* 0, -EBADF, or -EINVAL if it is certainly no eventfd. Without /proc, epoll says later whether it can be waited for. */
static int eventfd_check(int fd)
{
	static const char name[] = "anon_inode:[eventfd]";
	char path[48], link[sizeof(name)];
	long n;

	if (fd < 0 || sys3(SYS_fcntl, fd, F_GETFL, 0) < 0)
		return -EBADF;
	proc_path(path, "/proc/self/fd/", fd);
	n = sys3(SYS_readlink, path, link, sizeof(link));
	if (n < 0)
		return 0;
	return n == sizeof(name) - 1 && !memcmp(link, name, sizeof(name) - 1) ? 0 : -EINVAL;
}

static u64 eventfd_id(int fd)
{
	static const char key[] = "eventfd-id:";
	char path[48], buf[512];
	u64 id = 0;
	long n;
	int f;

	proc_path(path, "/proc/self/fdinfo/", fd);
	f = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (f < 0)
		return NO_ID;
	n = sys_read(f, buf, sizeof(buf));
	sys_close(f);
	for (long i = 0; i + (long)sizeof(key) < n; i++) {
		if (memcmp(buf + i, key, sizeof(key) - 1))
			continue;
		for (i += sizeof(key) - 1; i < n && buf[i] == ' '; i++)
			;
		for (; i < n && buf[i] >= '0' && buf[i] <= '9'; i++)
			id = id * 10 + (u64)(buf[i] - '0');
		return id;
	}
	return NO_ID;
}

/* Is the VMM's fd (with the given id) the same eventfd? Tried in order of trust. */
static bool same_eventfd(const struct irqfd *q, int fd, u64 id)
{
	int pid = sys_getpid();
	long r = sys6(SYS_kcmp, pid, pid, KCMP_FILE, q->watch.fd, fd, 0);

	if (r >= 0)
		return r == 0;
	if (id != NO_ID && q->id != NO_ID)
		return q->id == id;
	return q->vmm_fd == fd;
}

/* ---- signals ---- */

/* Consume what is there, without ever sleeping on a blocking descriptor that somebody else has emptied. */
static bool eventfd_drain(struct irqfd *q)
{
	u64 val;
	struct iovec iov = { &val, sizeof(val) };
	struct pollfd p = { q->watch.fd, POLLIN, 0 };
	long r;

	if (!q->no_nowait) {
		r = sys6(SYS_preadv2, q->watch.fd, (long)&iov, 1, -1, -1, RWF_NOWAIT);
		if (r != -EOPNOTSUPP && r != -ENOSYS && r != -EINVAL)
			return r == sizeof(val);
		q->no_nowait = true;
	}
	if (sys3(SYS_poll, &p, 1, 0) != 1 || !(p.revents & POLLIN))
		return false;
	return sys_read(q->watch.fd, &val, sizeof(val)) == sizeof(val);
}

static void eventfd_raise(int fd)
{
	struct pollfd p = { fd, POLLOUT, 0 };
	u64 one = 1;

	/* A counter that is full needs no further signal, and must not make us sleep. */
	if (agent_sys3(SYS_poll, &p, 1, 0) == 1 && (p.revents & POLLOUT))
		sys_write(fd, &one, sizeof(one));
}

static void irqfd_signalled(struct svc_watch *w, u32 events)
{
	struct irqfd *q = container_of(w, struct irqfd, watch);
	struct irqchip *c = q->chip;

	if (!(events & EPOLLIN) || !eventfd_drain(q))
		return;
	mutex_lock(&c->lock);
	if (q->resample_fd >= 0) {
		irqchip_set_gsi_locked(c, q->gsi, IRQ_SRC_RESAMPLE, 1, false);
	} else {
		irqchip_set_gsi_locked(c, q->gsi, IRQ_SRC_USER, 1, false);
		irqchip_set_gsi_locked(c, q->gsi, IRQ_SRC_USER, 0, false);
	}
	irqchip_unlock(c);
}

bool irqfd_acked_locked(struct irqchip *c, u32 gsi)
{
	bool found = false;

	if (!c->irqfds)
		return false;
	for (struct irqfd *q = c->irqfds->resamplers; q; q = q->next_resample) {
		if (q->gsi != gsi)
			continue;
		/* Down before the owner is asked: it may raise it again at once. */
		if (!found)
			irqchip_set_gsi_locked(c, gsi, IRQ_SRC_RESAMPLE, 0, false);
		found = true;
		eventfd_raise(q->resample_fd);
	}
	return found;
}

/* ---- assign, deassign: on the service thread ---- */

struct request {
	struct irqchip *chip;
	const struct kvm_irqfd *args;
	int result;
};

static void resampler_add(struct irqchip *c, struct irqfd *q)
{
	mutex_lock(&c->lock);
	q->next_resample = c->irqfds->resamplers;
	c->irqfds->resamplers = q;
	irqchip_unlock(c);
}

static void resampler_del(struct irqchip *c, struct irqfd *q)
{
	struct irqfd **p;
	bool last = true;

	mutex_lock(&c->lock);
	for (p = &c->irqfds->resamplers; *p; p = &(*p)->next_resample) {
		if (*p == q) {
			*p = q->next_resample;
			break;
		}
	}
	for (struct irqfd *o = c->irqfds->resamplers; o; o = o->next_resample)
		last &= o->gsi != q->gsi;
	if (last)
		irqchip_set_gsi_locked(c, q->gsi, IRQ_SRC_RESAMPLE, 0, false);
	irqchip_unlock(c);
}

static void irqfd_free(struct irqfd *q)
{
	if (q->watch.fd >= 0)
		sys_close(q->watch.fd);
	if (q->resample_fd >= 0)
		sys_close(q->resample_fd);
	free(q);
}

static void irqfd_shutdown(struct irqchip *c, struct irqfd *q)
{
	svc_watch_del_sync(c->svc, &q->watch);
	if (q->resample_fd >= 0)
		resampler_del(c, q);
	irqfd_free(q);
}

static int irqfd_open(struct irqfd *q, const struct kvm_irqfd *args)
{
	q->watch.fd = sys_dup_cloexec((int)args->fd);
	if (q->watch.fd < 0)
		return q->watch.fd;
	q->watch.fn = irqfd_signalled;
	q->vmm_fd = (int)args->fd;
	q->id = eventfd_id(q->watch.fd);
	if (!(args->flags & KVM_IRQFD_FLAG_RESAMPLE))
		return 0;
	q->resample_fd = sys_dup_cloexec((int)args->resamplefd);
	return q->resample_fd < 0 ? q->resample_fd : 0;
}

static int irqfd_start(struct irqchip *c, struct irqfd *q)
{
	int r;

	if (q->resample_fd >= 0)
		resampler_add(c, q);
	/* A signal that is already there is seen at once: the watch is level-triggered. */
	r = svc_watch_add(c->svc, &q->watch);
	if (r && q->resample_fd >= 0)
		resampler_del(c, q);
	return r == -EPERM ? -EINVAL : r; /* EPERM: a file that cannot be waited for */
}

static int irqfd_assign(struct irqchip *c, const struct kvm_irqfd *args)
{
	bool resample = args->flags & KVM_IRQFD_FLAG_RESAMPLE;
	u64 id = eventfd_id((int)args->fd);
	struct irqfd *q;
	int r;

	r = eventfd_check((int)args->fd);
	if (!r && resample)
		r = eventfd_check((int)args->resamplefd);
	if (r)
		return r;
	for (q = c->irqfds->all; q; q = q->next)
		if (same_eventfd(q, (int)args->fd, id))
			return -EBUSY;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->chip = c;
	q->gsi = args->gsi;
	q->watch.fd = q->resample_fd = -1;
	r = irqfd_open(q, args);
	if (!r)
		r = irqfd_start(c, q);
	if (r) {
		irqfd_free(q);
		return r;
	}
	q->next = c->irqfds->all;
	c->irqfds->all = q;
	return 0;
}

static int irqfd_deassign(struct irqchip *c, const struct kvm_irqfd *args)
{
	u64 id = eventfd_id((int)args->fd);
	struct irqfd **p = &c->irqfds->all, *q;
	int r = eventfd_check((int)args->fd);

	if (r)
		return r;
	while ((q = *p)) {
		if (q->gsi == args->gsi && same_eventfd(q, (int)args->fd, id)) {
			*p = q->next;
			irqfd_shutdown(c, q);
		} else {
			p = &q->next;
		}
	}
	return 0;
}

static void run_request(void *arg)
{
	struct request *rq = arg;

	if (rq->args->flags & KVM_IRQFD_FLAG_DEASSIGN)
		rq->result = irqfd_deassign(rq->chip, rq->args);
	else
		rq->result = irqfd_assign(rq->chip, rq->args);
}

static int make_list(struct irqchip *c)
{
	struct irqfd_list *l;

	mutex_lock(&c->lock);
	if (!c->irqfds) {
		l = calloc(1, sizeof(*l));
		c->irqfds = l;
	}
	irqchip_unlock(c);
	return c->irqfds ? 0 : -ENOMEM;
}

int irqchip_irqfd(struct irqchip *c, const struct kvm_irqfd *args)
{
	struct request rq = { c, args, 0 };
	bool resample = args->flags & KVM_IRQFD_FLAG_RESAMPLE;

	if ((args->flags & ~(u32)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)) || args->gsi >= IRQ_MAX_ROUTES)
		return -EINVAL;
	/* Resampling needs to see the EOI, which goes to the VMM's IOAPIC if that is where the pins are. */
	if (!(args->flags & KVM_IRQFD_FLAG_DEASSIGN) && (resample ? !c->kernel : !c->kernel && !c->split))
		return -EINVAL;
	if (!c->svc || make_list(c))
		return -ENOMEM;
	svc_call(c->svc, run_request, &rq);
	return rq.result;
}

static void run_destroy(void *arg)
{
	struct irqchip *c = arg;
	struct irqfd *q;

	while ((q = c->irqfds->all)) {
		c->irqfds->all = q->next;
		irqfd_shutdown(c, q);
	}
}

void irqfd_destroy(struct irqchip *c)
{
	if (!c->irqfds)
		return;
	svc_call(c->svc, run_destroy, c);
	free(c->irqfds);
	c->irqfds = NULL;
}
