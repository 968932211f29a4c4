/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET_STATS_FD: the kernel's binary statistics. The file is a memfd with the whole image: header, the object's name, descriptors, numbers.
 * Only the numbers change: the interposed read and pread have them written (stats_fd_refresh) before the kernel reads the file, so positions,
 * partial reads and dup are the kernel's. The file is sealed against writing; our mapping, made before, still may.
 * A process that got the descriptor from another sees the numbers of the last read there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/inject.h"
#include "base/string.h"
#include "base/sys.h"
#include "devices/device.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define DESC_SIZE (sizeof(struct kvm_stats_desc) + COUNTER_NAME)

struct stats_file {
	struct vfile vf;
	struct kvm *kvm;
	struct kvm_vcpu *vcpu;
	u8 *image;
	u64 size, data;
	struct mutex lock;
};

static u64 image_size(void)
{
	return sizeof(struct kvm_stats_header) + COUNTER_NAME + ncounters * (DESC_SIZE + sizeof(u64));
}

static void name_object(char *out, const struct kvm_vcpu *v)
{
	unsigned n = 4;

	memcpy(out, "kvm-", 4);
	for (u32 pid = (u32)sys_getpid(), div = 1000000000; div; div /= 10)
		if (pid >= div || div == 1)
			out[n++] = (char)('0' + pid / div % 10);
	if (!v)
		return;
	memcpy(out + n, "/vcpu-", 6);
	n += 6;
	for (u32 div = 1000; div; div /= 10)
		if (v->id >= div || div == 1)
			out[n++] = (char)('0' + v->id / div % 10);
}

static void fill_image(struct stats_file *s)
{
	struct kvm_stats_header *h = (struct kvm_stats_header *)s->image;

	h->name_size = COUNTER_NAME;
	h->num_desc = ncounters;
	h->id_offset = sizeof(*h);
	h->desc_offset = h->id_offset + COUNTER_NAME;
	h->data_offset = h->desc_offset + (u32)(ncounters * DESC_SIZE);
	s->data = h->data_offset;
	name_object((char *)s->image + h->id_offset, s->vcpu);
	for (unsigned i = 0; i < ncounters; i++) {
		struct kvm_stats_desc *d = (struct kvm_stats_desc *)(s->image + h->desc_offset + i * DESC_SIZE);

		d->flags = counters[i].flags;
		d->exponent = counters[i].exponent;
		d->size = 1;
		d->offset = i * (u32)sizeof(u64);
		memcpy((char *)(d + 1), counters[i].name, strlen(counters[i].name));
	}
}

static void refresh(struct stats_file *s)
{
	u64 val[COUNTERS_MAX];

	mutex_lock(&s->lock);
	counters_read(s->kvm, s->vcpu, val);
	memcpy(s->image + s->data, val, ncounters * sizeof(u64));
	mutex_unlock(&s->lock);
}

static void release(struct vfile *vf)
{
	struct stats_file *s = container_of(vf, struct stats_file, vf);
	struct kvm *kvm = s->kvm;

	sys_munmap(s->image, s->size);
	free(s);
	live_add(LIVE_STATS, -1);
	kvm_put(kvm);
}

static const struct vfile_ops stats_vfile_ops = { VFILE_STATS, release };

static int map_image(struct stats_file *s, int fd)
{
	int r = sys_ftruncate(fd, s->size);
	if (r < 0)
		return r;
	void *p = sys_mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (sys_is_err(p))
		return (int)(long)p;
	s->image = p;
	fill_image(s);
	/* Linux 5.1; on an older one the VMM could write into the file, which harms nobody else. */
	sys3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
	return 0;
}

int stats_fd_create(struct kvm *kvm, struct kvm_vcpu *v)
{
	struct stats_file *s = aligned_alloc(64, ALIGN_UP(sizeof(*s), 64));

	if (!s)
		return -ENOMEM;
	*s = (struct stats_file){ .kvm = kvm, .vcpu = v, .size = image_size(), .lock = MUTEX_INIT("stats") };
	int r = vfile_prepare(&s->vf, &stats_vfile_ops, v ? "kvm-vcpu-stats" : "kvm-vm-stats", 0, true);
	if (r < 0)
		goto out_free;
	int fd = r;
	r = map_image(s, fd);
	if (r)
		goto out_close;
	refresh(s);
	kvm_get(kvm);
	live_add(LIVE_STATS, 1);
	vfile_publish(&s->vf, fd);
	return fd;

out_close:
	sys_close(fd);
out_free:
	free(s);
	return r;
}

void stats_fd_refresh(int fd)
{
	struct sig_run run = { 0 };

	if (vfile_is_stale(fd))
		return;
	sig_enter(&run, NULL);
	struct vfile *vf = vfile_get(fd);

	if (vf && vf->ops->kind == VFILE_STATS)
		refresh(container_of(vf, struct stats_file, vf));
	if (vf)
		vfile_put(vf);
	sig_leave(&run);
}
