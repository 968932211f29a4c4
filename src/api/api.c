/* SPDX-License-Identifier: MIT */
/*
 * From an ioctl to its handler: which object, may it be called, copy in, call, copy out.
 *
 * Every call stands between sig_enter and sig_leave: a handler of the VMM that ran in the middle could call back into the same VM and find
 * its locks taken, or jump away and leave them so. References and locks are given back before sig_leave.
 */
#include "api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "api/call.h"
#include "base/inject.h"
#include "base/log.h"
#include "base/sig.h"
#include "base/string.h"
#include "base/sys.h"

struct api_system {
	struct vfile vf;
};

static void system_release(struct vfile *vf)
{
	free(container_of(vf, struct api_system, vf));
}

static const struct vfile_ops system_ops = { VFILE_SYSTEM, system_release };

#define SYSTEM_NAME "kvm"

static struct api_system *system_alloc(void)
{
	const char *stats = getenv("USEKVM_STATS");

	if (stats && *stats)
		process_timing = true; /* reading the TSC twice a KVM_RUN is not free */
	struct api_system *s = aligned_alloc(64, ALIGN_UP(sizeof(*s), 64));
	if (s)
		memset(s, 0, sizeof(*s));
	return s;
}

int api_open(int flags)
{
	int r = sig_install();

	if (r)
		return r;
	struct api_system *s = system_alloc();
	if (!s)
		return -ENOMEM;
	r = vfile_create(&s->vf, &system_ops, SYSTEM_NAME, 0, flags & O_CLOEXEC);
	if (r < 0)
		free(s);
	return r;
}

bool api_inherit(int fd)
{
	if (!vfile_has_name(fd, SYSTEM_NAME) || sig_install())
		return false;
	struct api_system *s = system_alloc();
	if (!s)
		return false;
	bool ok = vfile_attach(&s->vf, &system_ops, fd) >= 0;
	if (!ok)
		free(s);
	return ok;
}

static long unknown(enum vfile_kind kind)
{
	return kind == VFILE_SYSTEM || kind == VFILE_VCPU ? -EINVAL : -ENOTTY;
}

static long call_entry(const struct api_entry *e, struct api_call *call)
{
	union api_buf buf;
	unsigned size = _IOC_SIZE(e->request), dir = _IOC_DIR(e->request);
	bool in = e->kind == A_IN || (e->kind == A_IOC && dir & _IOC_WRITE);
	bool out = e->kind == A_IOC && dir & _IOC_READ;

	call->u = &buf;
	if (size > sizeof(buf))
		size = sizeof(buf);
	if (in && copy_from_user(&buf, (const void *)call->arg, size))
		return -EFAULT;
	long r = e->fn(call);
	if (out && r >= 0 && copy_to_user((void *)call->arg, &buf, size))
		return -EFAULT;
	return r;
}

/*
 * A client's signal() is called by a vCPU's thread inside its read section: what waits for vCPUs there would wait for itself, or for another
 * one that waits likewise. What it may need of its VM is to raise interrupts.
 */
static bool may_call_in_client(const struct vfile *vf, u32 request)
{
	if (vf->ops->kind == VFILE_VCPU)
		return !vcpu_is_mine(container_of(vf, struct kvm_vcpu, vf));
	if (vf->ops->kind != VFILE_VM)
		return true;
	switch (request) {
	case (u32)KVM_CHECK_EXTENSION:
	case (u32)KVM_IRQ_LINE:
	case (u32)KVM_IRQ_LINE_STATUS:
	case (u32)KVM_SIGNAL_MSI:
	case (u32)KVM_GET_CLOCK:
		return true;
	}
	return false;
}

static long dispatch(struct vfile *vf, u32 request, unsigned long arg)
{
	enum vfile_kind kind = vf->ops->kind;
	const struct api_entry *e = api_find(kind, request);
	struct api_call call = { .arg = arg };
	long r;

	if (kind != VFILE_SYSTEM && vfile_is_forked())
		return -EIO;
	if (kind == VFILE_DEVICE)
		return api_device_ioctl(vf, request, arg);
	if (!e)
		return unknown(kind);
	if (unlikely(sig_current()->outer) && kvm_in_client() && !may_call_in_client(vf, request))
		return -EDEADLK;
	switch (kind) {
	case VFILE_VM:
		call.kvm = container_of(vf, struct kvm, vf);
		r = call_entry(e, &call);
		break;
	case VFILE_VCPU:
		call.vcpu = container_of(vf, struct kvm_vcpu, vf);
		call.kvm = call.vcpu->kvm;
		mutex_lock(&call.vcpu->lock);
		r = call_entry(e, &call);
		mutex_unlock(&call.vcpu->lock);
		break;
	default:
		r = call_entry(e, &call);
	}
	log_debug(api, "%s(%#lx) = %ld", e->name, arg, r);
	return r;
}

static long run(int fd, unsigned long arg)
{
	struct vfile *vf = vfile_get_fast(fd);
	struct vcpu_sig s;
	long r;

	if (!vf)
		return -EBADF;
	if (vf->ops->kind != VFILE_VCPU || arg || vfile_is_forked()) {
		r = vfile_is_forked() && vf->ops->kind != VFILE_SYSTEM ? -EIO : vf->ops->kind == VFILE_VCPU ? -EINVAL : unknown(vf->ops->kind);
		vfile_put(vf);
		return r;
	}
	struct kvm_vcpu *v = container_of(vf, struct kvm_vcpu, vf);
	if (unlikely(sig_current()) && vcpu_is_mine(v)) {
		vfile_put(vf);
		return -EDEADLK;
	}
	vcpu_sig_init(&s, v);
	u64 mask = v->sig_mask;
	sig_enter(&s.sig, v->masked ? &mask : NULL);
	mutex_lock(&v->lock);
	r = vcpu_run(v, &s);
	mutex_unlock(&v->lock);
	vfile_put(vf);
	sig_leave(&s.sig);
	log_trace(api, "KVM_RUN = %ld", r);
	return r;
}

long api_ioctl(int fd, u32 request, unsigned long arg)
{
	struct sig_run s = { 0 };

	if (request == (u32)KVM_RUN)
		return run(fd, arg);
	sig_enter(&s, NULL);
	struct vfile *vf = vfile_get(fd); /* only KVM_RUN can do without the identity check */
	if (unlikely(inject_on))
		inject_allow(true);
	long r = vf ? dispatch(vf, request, arg) : -EBADF;
	if (unlikely(inject_on))
		inject_allow(false);
	if (vf)
		vfile_put(vf);
	sig_leave(&s);
	return r;
}

/* Private copies have nothing to share: their third page is their own. */
long api_mapped(int fd, void *addr, u64 len, int prot, int flags, u64 offset)
{
	struct sig_run s = { 0 };
	long r = 0;

	sig_enter(&s, NULL);
	struct vfile *vf = vfile_get(fd);
	if (vf && vf->ops->kind == VFILE_VCPU && (flags & MAP_TYPE) != MAP_PRIVATE)
		r = vcpu_map_ring(container_of(vf, struct kvm_vcpu, vf), addr, len, offset, prot);
	else if (vf && vf->ops->kind == VFILE_DEVICE)
		r = api_device_mapped(vf, addr, len, prot, flags, offset);
	else if (vf && vf->ops->kind == VFILE_STATS)
		r = -ENODEV;
	if (vf)
		vfile_put(vf);
	sig_leave(&s);
	return r;
}
