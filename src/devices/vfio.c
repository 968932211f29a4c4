/* SPDX-License-Identifier: MIT */
/*
 * KVM_DEV_TYPE_VFIO: which VFIO files (groups, or devices) the VM uses, and through them whether its devices' DMA sees the CPU's caches
 * (docs/devices/vfio.md). Owns a duplicate of each file's descriptor, so that the file stays open until DEL or the device's end.
 *
 * The kernel compares files by address. Here fcntl(F_DUPFD_QUERY) or kcmp() does it; where neither is to be had, two descriptors of one
 * character device count as one file, since a group can be open only once.
 */
#include <linux/vfio.h> /* before our macro aligned() */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/inject.h"
#include "base/log.h"
#include "base/string.h"
#include "base/sys.h"
#include "base/vfiogroups.h"
#include "devices/device.h"

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY (1024 + 3)
#endif
#define KCMP_FILE 0
#define DEV_VFIO_FILE 1 /* KVM_DEV_VFIO_GROUP and KVM_DEV_VFIO_FILE */
#define FILE_ADD 1
#define FILE_DEL 2

struct vfio_file {
	struct vfio_file *next;
	int fd;            /* ours */
	struct stat st;
	u64 group;         /* st_rdev of its group, 0: not known */
};

struct vfio {
	struct usekvm_device *dev;
	struct mutex lock;
	struct vfio_file *files;
	bool noncoherent;  /* as the VM was told */
	struct vfio_watcher watcher;
};

/* ---- files ---- */

static int stat_fd(int fd, struct stat *st)
{
	return (int)sys3(SYS_fstat, fd, st, 0);
}

static bool same_identity(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_rdev == b->st_rdev;
}

static bool same_file(const struct vfio_file *f, int fd, const struct stat *st)
{
	if (!same_identity(&f->st, st))
		return false;
	long r = sys3(SYS_fcntl, f->fd, F_DUPFD_QUERY, fd);
	if (r >= 0)
		return r == 1;
	int pid = sys_getpid();
	r = sys6(SYS_kcmp, pid, pid, KCMP_FILE, f->fd, fd, 0);
	if (r >= 0)
		return r == 0;
	return S_ISCHR(st->st_mode);
}

/* VFIO takes its major numbers from the two ranges that the kernel gives out; no other driver's device is to see our ioctls. */
static bool dynamic_major(const struct stat *st)
{
	unsigned m = major(st->st_rdev);

	return S_ISCHR(st->st_mode) && ((m >= 234 && m <= 254) || (m >= 384 && m <= 511));
}

static bool is_group(int fd, const struct stat *st)
{
	struct vfio_group_status s = { .argsz = sizeof(s) };

	return dynamic_major(st) && sys_ioctl(fd, VFIO_GROUP_GET_STATUS, &s) == 0 &&
	       !(s.flags & ~(u32)(VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET));
}

static char *put_number(char *p, unsigned n)
{
	unsigned div = 1;

	while (n / div > 9)
		div *= 10;
	for (; div; div /= 10)
		*p++ = (char)('0' + n / div % 10);
	return p;
}

/* A device's character device that has not been bound to an IOMMU yet answers no ioctl: the kernel says in sysfs whose it is. */
static bool is_vfio_cdev(const struct stat *st)
{
	static const char dir[] = "/sys/dev/char/", subsystem[] = "/subsystem", want[] = "/vfio-dev";
	char path[64], link[256], *p = path;

	memcpy(p, dir, sizeof(dir) - 1);
	p = put_number(p + sizeof(dir) - 1, major(st->st_rdev));
	*p++ = ':';
	p = put_number(p, minor(st->st_rdev));
	memcpy(p, subsystem, sizeof(subsystem));
	long n = sys3(SYS_readlink, path, link, sizeof(link));
	return n > (long)sizeof(want) && !memcmp(link + n - (sizeof(want) - 1), want, sizeof(want) - 1);
}

/* From VFIO_GROUP_GET_DEVICE_FD it is an anonymous file, whose type bits are 0, or of a regular file on newer kernels. */
static bool is_device(int fd, const struct stat *st)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	bool anonymous = !(st->st_mode & S_IFMT) || S_ISREG(st->st_mode);

	if (!anonymous && !dynamic_major(st))
		return false;
	if (sys_ioctl(fd, VFIO_DEVICE_GET_INFO, &info) == 0)
		return info.argsz >= sizeof(u32) * 4 && info.num_regions;
	return !anonymous && is_vfio_cdev(st);
}

/* ---- coherency ---- */

/*
 * A container's answer may change with each group in it, so every file is asked each time. The VM hears of it only when the answer for
 * all of them changes. lock held.
 */
static void update_coherency(struct vfio *kv)
{
	bool noncoherent = false;

	for (struct vfio_file *f = kv->files; f && !noncoherent; f = f->next)
		noncoherent = !vfio_group_coherent(f->group);
	if (noncoherent == kv->noncoherent)
		return;
	kv->noncoherent = noncoherent;
	kvm_noncoherent_dma(device_kvm(kv->dev), noncoherent);
	log_info(dev, "VFIO: DMA is %scoherent with the caches", noncoherent ? "not " : "");
}

static void changed(struct vfio_watcher *w)
{
	struct vfio *kv = container_of(w, struct vfio, watcher);

	mutex_lock(&kv->lock);
	update_coherency(kv);
	mutex_unlock(&kv->lock);
}

static void note_container(int group_fd, int container)
{
	struct stat st;

	if (!stat_fd(group_fd, &st) && S_ISCHR(st.st_mode))
		vfio_group_set(st.st_rdev, container);
}

void vfio_ioctl_done(int fd, u32 request, unsigned long arg, long result)
{
	struct sig_run s = { 0 };
	struct stat st;
	s32 container;

	sig_enter(&s, NULL);
	switch (request) {
	case (u32)VFIO_GROUP_SET_CONTAINER:
		if (!copy_from_user(&container, (const void *)arg, sizeof(container)))
			note_container(fd, container);
		vfio_changed();
		break;
	case (u32)VFIO_GROUP_UNSET_CONTAINER:
		note_container(fd, -1);
		vfio_changed();
		break;
	case (u32)VFIO_SET_IOMMU:
		vfio_changed();
		break;
	case (u32)VFIO_GROUP_GET_DEVICE_FD:
		if (result >= 0 && !stat_fd(fd, &st) && S_ISCHR(st.st_mode))
			vfio_device_set((int)result, st.st_rdev);
		break;
	}
	sig_leave(&s);
}

/* ---- attributes ---- */

/* lock held */
static struct vfio_file **find(struct vfio *kv, int fd, const struct stat *st)
{
	struct vfio_file **p;

	for (p = &kv->files; *p; p = &(*p)->next)
		if (same_file(*p, fd, st))
			return p;
	return NULL;
}

/* The VMM may have closed all descriptors it did not know, ours among them, and the number may be another file's. */
static void file_free(struct vfio_file *f)
{
	struct stat st;

	if (!stat_fd(f->fd, &st) && same_identity(&st, &f->st))
		sys_close(f->fd);
	live_add(LIVE_VFIO_FILE, -1);
	free(f);
}

/* lock held */
static int add_locked(struct vfio *kv, int fd, const struct stat *st, u64 group)
{
	if (find(kv, fd, st))
		return -EEXIST;
	struct vfio_file *f = malloc(sizeof(*f));
	if (!f)
		return -ENOMEM;
	*f = (struct vfio_file){ .fd = sys_dup_cloexec(fd), .st = *st, .group = group };
	if (f->fd < 0) {
		int r = f->fd == -EINVAL ? -EMFILE : f->fd; /* no number is allowed at all */

		free(f);
		return r;
	}
	f->next = kv->files;
	kv->files = f;
	live_add(LIVE_VFIO_FILE, 1);
	update_coherency(kv);
	return 0;
}

static int add(struct vfio *kv, int fd, const struct stat *st)
{
	bool group = is_group(fd, st);

	if (!group && !is_device(fd, st))
		return -EINVAL;
	mutex_lock(&kv->lock);
	int r = add_locked(kv, fd, st, group ? st->st_rdev : vfio_device_group(fd));
	mutex_unlock(&kv->lock);
	return r;
}

static int del(struct vfio *kv, int fd, const struct stat *st)
{
	int r = -ENOENT;

	mutex_lock(&kv->lock);
	struct vfio_file **p = find(kv, fd, st);
	if (p) {
		struct vfio_file *f = *p;

		*p = f->next;
		file_free(f);
		update_coherency(kv);
		r = 0;
	}
	mutex_unlock(&kv->lock);
	return r;
}

static int has_attr(struct usekvm_device *dev, const struct kvm_device_attr *a)
{
	return a->group == DEV_VFIO_FILE && (a->attr == FILE_ADD || a->attr == FILE_DEL) ? 0 : -ENXIO;
}

static int set_attr(struct usekvm_device *dev, const struct kvm_device_attr *a)
{
	int r = has_attr(dev, a);
	struct stat st;
	s32 fd;

	if (r)
		return r;
	if (copy_from_user(&fd, (const void *)a->addr, sizeof(fd)))
		return -EFAULT;
	if (stat_fd(fd, &st))
		return -EBADF;
	return a->attr == FILE_ADD ? add(dev->priv, fd, &st) : del(dev->priv, fd, &st);
}

/* ---- life ---- */

static int create(struct usekvm_device *dev, uint32_t type)
{
	if (device_find(device_kvm(dev), &vfio_device_ops))
		return -EBUSY;
	struct vfio *kv = calloc(1, sizeof(*kv));
	if (!kv)
		return -ENOMEM;
	mutex_init(&kv->lock, "vfio");
	kv->dev = dev;
	kv->watcher.changed = changed;
	dev->priv = kv;
	vfio_watch(&kv->watcher);
	return 0;
}

/* With the descriptor's end the groups go, and a new device may be made, as in the kernel today. */
static void released(struct usekvm_device *dev)
{
}

static void destroy(struct usekvm_device *dev)
{
	struct vfio *kv = dev->priv;

	vfio_unwatch(&kv->watcher);
	mutex_lock(&kv->lock);
	while (kv->files) {
		struct vfio_file *f = kv->files;

		kv->files = f->next;
		file_free(f);
	}
	update_coherency(kv);
	mutex_unlock(&kv->lock);
	free(kv);
}

const struct usekvm_device_ops vfio_device_ops = {
	.name = "kvm-vfio",
	.create = create,
	.destroy = destroy,
	.release = released,
	.set_attr = set_attr,
	.has_attr = has_attr,
};
