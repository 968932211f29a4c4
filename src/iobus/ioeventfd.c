/* SPDX-License-Identifier: MIT */
/*
 * KVM_IOEVENTFD: a guest write adds one to an eventfd of the VMM.
 *
 * Each registration holds a duplicate of the VMM's descriptor, so closing the original changes nothing. Deassigning names the eventfd, not
 * the descriptor: two descriptors are compared by the open file they stand for.
 *
 * The flag VIRTIO_CCW_NOTIFY names a bus that no x86 guest can write to. The kernel takes such registrations and they never fire: here they
 * are in the list and in no table.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/agent.h"
#include "base/sys.h"
#include "iobus/table.h"

#define FLAGS_KNOWN (KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN | KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY)

struct ioeventfd {
	struct io_event event;
	struct ioeventfd *next;
	int fd;     /* ours */
	int vmm_fd; /* its number at registration */
	unsigned space; /* enum io_space, or IO_SPACES: no bus of this machine */
};

static bool ioeventfd_signal(struct io_event *e, void *vcpu, u64 addr, unsigned len, const void *data)
{
	u64 one = 1;

	/* A counter that is full stays full: whoever waits has been woken. */
	sys_write(container_of(e, struct ioeventfd, event)->fd, &one, sizeof(one));
	return true;
}

static unsigned space_of(u32 flags)
{
	if (flags & KVM_IOEVENTFD_FLAG_PIO)
		return IO_PIO;
	return flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY ? IO_SPACES : IO_MMIO;
}

static size_t put_decimal(char *s, unsigned v)
{
	size_t n = v >= 10 ? put_decimal(s, v / 10) : 0;

	s[n] = '0' + v % 10;
	s[n + 1] = 0;
	return n + 1;
}

static bool starts_with(const char *s, const char *head)
{
	while (*head)
		if (*s++ != *head++)
			return false;
	return true;
}

/* Where there is no /proc (a jail): eventfds are the only anonymous files in common use that can be polled for writing. */
static int check_eventfd_blind(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	struct stat st;

	if (sys3(SYS_fstat, fd, &st, 0) || (st.st_mode & S_IFMT))
		return -EINVAL;
	return agent_sys3(SYS_poll, &p, 1, 0) == 1 && (p.revents & POLLOUT) ? 0 : -EINVAL;
}

static int check_eventfd(int fd)
{
	char path[32] = "/proc/self/fd/", link[64];
	long n;

	if (sys3(SYS_fcntl, fd, F_GETFD, 0) < 0)
		return -EBADF;
	put_decimal(path + 14, fd);
	n = agent_sys3(SYS_readlink, path, link, sizeof(link) - 1);
	if (n < 0)
		return check_eventfd_blind(fd);
	link[n] = 0;
	/* Newer kernels write anon_inode:[eventfd], some append a number. */
	return starts_with(link, "anon_inode:[eventfd") ? 0 : -EINVAL;
}

static bool same_file(const struct ioeventfd *p, int fd)
{
	long pid = agent_sys3(SYS_getpid, 0, 0, 0);
	long r = agent_sys(SYS_kcmp, pid, pid, KCMP_FILE, p->fd, fd, 0);

	return r < 0 ? p->vmm_fd == fd : r == 0;
}

static bool collides(const struct iobus *b, const struct ioeventfd *n)
{
	for (const struct ioeventfd *p = b->ioeventfds; p; p = p->next)
		if (p->space == n->space && io_event_collides(&p->event, &n->event))
			return true;
	return false;
}

static int assign(struct iobus *b, const struct kvm_ioeventfd *a)
{
	struct io_table *old = NULL;
	struct ioeventfd *p;
	int r = check_eventfd(a->fd);

	if (r)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->vmm_fd = a->fd;
	p->fd = sys_dup_cloexec(a->fd);
	if (p->fd < 0) {
		r = p->fd;
		free(p);
		return r;
	}
	p->space = space_of(a->flags);
	p->event.addr = a->addr;
	p->event.len = a->len;
	p->event.match = a->flags & KVM_IOEVENTFD_FLAG_DATAMATCH;
	p->event.datamatch = p->event.match ? a->datamatch : 0;
	p->event.signal = ioeventfd_signal;

	mutex_lock(&b->lock);
	if (p->space == IO_SPACES)
		r = collides(b, p) ? -EEXIST : 0;
	else
		r = io_event_insert(b, p->space, &p->event, &old);
	if (!r) {
		p->next = b->ioeventfds;
		b->ioeventfds = p;
	}
	mutex_unlock(&b->lock);
	io_table_retire(b, old);
	if (r) {
		sys_close(p->fd);
		free(p);
	}
	return r;
}

static bool is_meant(const struct ioeventfd *p, const struct kvm_ioeventfd *a)
{
	bool match = a->flags & KVM_IOEVENTFD_FLAG_DATAMATCH;

	return p->space == space_of(a->flags) && p->event.addr == a->addr && p->event.len == a->len && p->event.match == match &&
	       (!match || p->event.datamatch == a->datamatch) && same_file(p, a->fd);
}

static int deassign(struct iobus *b, const struct kvm_ioeventfd *a)
{
	struct ioeventfd **link, *p;
	int r = check_eventfd(a->fd);

	if (r)
		return r;
	mutex_lock(&b->lock);
	for (link = &b->ioeventfds; (p = *link); link = &p->next)
		if (is_meant(p, a))
			break;
	if (p) {
		*link = p->next;
		if (p->space != IO_SPACES)
			io_event_remove(b, p->space, &p->event);
	}
	mutex_unlock(&b->lock);
	if (!p)
		return -ENOENT;
	b->ops->synchronize(b);
	sys_close(p->fd);
	free(p);
	return 0;
}

int iobus_ioeventfd(struct iobus *b, const struct kvm_ioeventfd *a)
{
	if (a->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) /* as the kernel does, without the checks below */
		return deassign(b, a);
	if (a->len > 8 || (a->len & (a->len - 1)))
		return -EINVAL;
	if (a->addr + a->len < a->addr)
		return -EINVAL;
	if (a->flags & ~FLAGS_KNOWN)
		return -EINVAL;
	if (!a->len && (a->flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
		return -EINVAL;
	return assign(b, a);
}

void ioeventfd_release_all(struct iobus *b)
{
	while (b->ioeventfds) {
		struct ioeventfd *p = b->ioeventfds;

		b->ioeventfds = p->next;
		sys_close(p->fd);
		free(p);
	}
}
