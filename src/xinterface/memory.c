/* SPDX-License-Identifier: MIT */
/*
 * Binding to a VM, copies to and from guest memory, mappings.
 *
 * A mapping remembers the generation of the slot table at which it was found right. Another generation makes it look again whether the slot is
 * there with the same memory. It is looked at inside a read section only, and whoever changes slots waits for those before the VMM may unmap.
 */
#include "xinterface/xinterface.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "base/sys.h"

struct xvmap {
	struct kvm_xvmap pub;
	u32 refs;
	u64 generation;          /* atomic; 0: none */
	struct mem_pages *owned; /* ours, kept */
};

static struct xvmap *to_xvmap(struct kvm_xvmap *v)
{
	return container_of(v, struct xvmap, pub);
}

/* ---- read sections ---- */

static struct kvm_client_reader *section_enter(struct kvm *kvm)
{
	/* Threads begin at different places, and a thread at the same one: its cache line stays with it. */
	u32 at = (u32)(((u64)__builtin_thread_pointer() * 0x9e3779b97f4a7c15ull) >> 32);

	for (;;) {
		for (u32 i = 0; i < KVM_CLIENT_READERS; i++) {
			struct kvm_client_reader *r = &kvm->clients[(at + i) % KVM_CLIENT_READERS];
			u64 free = 0;

			if (load_relaxed(&r->reader.seen))
				continue;
			if (__atomic_compare_exchange_n(&r->reader.seen, &free, load_acquire(&kvm->qsbr.epoch), false, __ATOMIC_SEQ_CST,
							__ATOMIC_RELAXED))
				return r;
		}
		sys_yield();
	}
}

static void section_leave(struct kvm_client_reader *r)
{
	qsbr_leave(&r->reader);
}

/* ---- the interface ---- */

static int find_vm(int fd, struct vfile **out)
{
	struct vfile *vf;

	if (vfile_is_stale(fd))
		return -EIO;
	if (!vfile_is_ours(fd) && !vfile_adopt(fd))
		return sys3(SYS_fcntl, fd, F_GETFD, 0) < 0 ? -EBADF : -EINVAL;
	vf = vfile_get(fd);
	if (!vf)
		return -EBADF;
	if (vf->ops->kind != VFILE_VM) {
		vfile_put(vf);
		return -EINVAL;
	}
	*out = vf;
	return 0;
}

static int bind_vm(struct kvm_xinterface *intf, int fd)
{
	struct vfile *vf;
	int r = find_vm(fd, &vf);

	if (r)
		return r;
	intf->refs = 1;
	intf->pid = sys_getpid();
	intf->kvm = container_of(vf, struct kvm, vf);
	kvm_pin(intf->kvm);
	vfile_put(vf);
	return 0;
}

struct kvm_xinterface *kvm_xinterface_bind(int fd)
{
	struct sig_run s = { 0 };
	struct kvm_xinterface *intf;
	int r = -ENOMEM;

	sig_enter(&s, NULL);
	intf = malloc(sizeof(*intf));
	if (intf)
		r = bind_vm(intf, fd);
	if (r)
		free(intf);
	sig_leave(&s);
	if (!r)
		return intf;
	errno = -r;
	return NULL;
}

void kvm_xinterface_get(struct kvm_xinterface *intf)
{
	__atomic_fetch_add(&intf->refs, 1, __ATOMIC_RELAXED);
}

void kvm_xinterface_put(struct kvm_xinterface *intf)
{
	struct sig_run s = { 0 };

	if (__atomic_sub_fetch(&intf->refs, 1, __ATOMIC_ACQ_REL))
		return;
	sig_enter(&s, NULL);
	/* In a child of a fork the VM's threads are missing: ending it would wait for them. */
	if (intf->pid == sys_getpid())
		kvm_unpin(intf->kvm);
	free(intf);
	sig_leave(&s);
}

int xinterface_watch(int fd, void (*gone)(struct kvm *kvm, void *arg), void *arg)
{
	struct sig_run s = { 0 };
	struct vfile *vf;
	int r;

	sig_enter(&s, NULL);
	r = find_vm(fd, &vf);
	if (!r) {
		struct kvm *kvm = container_of(vf, struct kvm, vf);

		kvm->gone_arg = arg;
		kvm->gone = gone;
		vfile_put(vf);
	}
	sig_leave(&s);
	return r;
}

unsigned long kvm_xinterface_copy_to(struct kvm_xinterface *intf, uint64_t gpa, const void *src, unsigned long len)
{
	struct sig_run s = { 0 };
	struct kvm_client_reader *r;

	sig_enter(&s, NULL);
	r = section_enter(intf->kvm);
	len = mem_copy_to(&intf->kvm->mem, gpa, src, len, &r->hint);
	section_leave(r);
	sig_leave(&s);
	return len;
}

unsigned long kvm_xinterface_copy_from(struct kvm_xinterface *intf, void *dst, uint64_t gpa, unsigned long len)
{
	struct sig_run s = { 0 };
	struct kvm_client_reader *r;

	sig_enter(&s, NULL);
	r = section_enter(intf->kvm);
	len = mem_copy_from(&intf->kvm->mem, dst, gpa, len, &r->hint);
	section_leave(r);
	sig_leave(&s);
	return len;
}

/* ---- mappings ---- */

/* The slot that holds all of the range, and where. Inside a section. */
static const struct memslot *find_range(const struct memslots *t, gpa_t gpa, u64 len, u32 *hint, u64 *hva)
{
	const struct memslot *s = memslot_find(t, gpa >> PAGE_SHIFT, hint);
	u64 off;

	if (!s)
		return NULL;
	off = gpa - (s->gfn << PAGE_SHIFT);
	if (len > (s->npages << PAGE_SHIFT) - off)
		return NULL;
	*hva = s->hva + off;
	return s;
}

static int map_range(struct xvmap *v, struct kvm_client_reader *r)
{
	const struct memslots *t = mem_slots(&v->pub.intf->kvm->mem);
	u64 hva;
	const struct memslot *s = find_range(t, v->pub.gpa, v->pub.len, &r->hint, &hva);

	if (!s)
		return -EFAULT;
	v->pub.addr = (void *)hva;
	v->pub.flags = s->flags & KVM_MEM_READONLY ? KVM_XVMAP_READONLY : 0;
	v->generation = t->generation;
	v->owned = s->owned;
	if (v->owned)
		mem_pages_get(v->owned);
	return 0;
}

struct kvm_xvmap *kvm_xinterface_vmap(struct kvm_xinterface *intf, uint64_t gpa, unsigned long len)
{
	struct sig_run s = { 0 };
	struct kvm_client_reader *reader;
	struct xvmap *v;
	int r = -ENOMEM;

	if (!len || gpa + len < gpa) {
		errno = EINVAL;
		return NULL;
	}
	sig_enter(&s, NULL);
	v = calloc(1, sizeof(*v));
	if (v) {
		v->refs = 1;
		v->pub.gpa = gpa;
		v->pub.len = len;
		v->pub.intf = intf;
		reader = section_enter(intf->kvm);
		r = map_range(v, reader);
		section_leave(reader);
	}
	if (!r)
		kvm_xinterface_get(intf);
	else
		free(v);
	sig_leave(&s);
	if (!r)
		return &v->pub;
	errno = -r;
	return NULL;
}

void kvm_xvmap_get(struct kvm_xvmap *vmap)
{
	__atomic_fetch_add(&to_xvmap(vmap)->refs, 1, __ATOMIC_RELAXED);
}

void kvm_xvmap_put(struct kvm_xvmap *vmap)
{
	struct xvmap *v = to_xvmap(vmap);
	struct sig_run s = { 0 };

	if (__atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL))
		return;
	sig_enter(&s, NULL);
	if (v->owned)
		mem_pages_put(v->owned);
	kvm_xinterface_put(v->pub.intf);
	free(v);
	sig_leave(&s);
}

/* Inside a section: does the slot still say the same? */
static const struct memslot *slot_of(struct xvmap *v, u32 *hint)
{
	const struct memslots *t = mem_slots(&v->pub.intf->kvm->mem);
	u64 hva;
	const struct memslot *s = find_range(t, v->pub.gpa, v->pub.len, hint, &hva);

	if (!s || hva != (u64)v->pub.addr || s->owned != v->owned || !(s->flags & KVM_MEM_READONLY) != !(v->pub.flags & KVM_XVMAP_READONLY))
		return NULL;
	return s;
}

static bool is_valid(struct xvmap *v, u32 *hint)
{
	u64 generation = mem_slots(&v->pub.intf->kvm->mem)->generation;

	if (likely(generation == load_relaxed(&v->generation)))
		return true;
	if (!slot_of(v, hint))
		return false;
	store_relaxed(&v->generation, generation);
	return true;
}

int kvm_xvmap_enter(struct kvm_xvmap *vmap)
{
	struct kvm *kvm = vmap->intf->kvm;
	struct kvm_client_reader *r = section_enter(kvm);

	if (likely(is_valid(to_xvmap(vmap), &r->hint)))
		return (int)(r - kvm->clients);
	section_leave(r);
	errno = ESTALE;
	return -1;
}

void kvm_xvmap_leave(struct kvm_xvmap *vmap, int section)
{
	if (section >= 0 && section < KVM_CLIENT_READERS)
		section_leave(&vmap->intf->kvm->clients[section]);
}

int kvm_xvmap_valid(struct kvm_xvmap *vmap)
{
	struct sig_run s = { 0 };
	struct kvm_client_reader *r;
	bool valid;

	sig_enter(&s, NULL);
	r = section_enter(vmap->intf->kvm);
	valid = is_valid(to_xvmap(vmap), &r->hint);
	section_leave(r);
	sig_leave(&s);
	return valid;
}

static bool in_range(const struct kvm_xvmap *v, u64 off, u64 len)
{
	return off <= v->len && len <= v->len - off;
}

int kvm_xvmap_dirty(struct kvm_xvmap *vmap, unsigned long off, unsigned long len)
{
	struct sig_run s = { 0 };
	struct kvm_client_reader *r;
	const struct memslot *slot;

	if (!in_range(vmap, off, len) || vmap->flags & KVM_XVMAP_READONLY) {
		errno = vmap->flags & KVM_XVMAP_READONLY ? EROFS : ERANGE;
		return -1;
	}
	sig_enter(&s, NULL);
	r = section_enter(vmap->intf->kvm);
	slot = slot_of(to_xvmap(vmap), &r->hint);
	if (slot)
		memslot_wrote(&vmap->intf->kvm->mem, slot, vmap->gpa + off, len);
	section_leave(r);
	sig_leave(&s);
	if (slot)
		return 0;
	errno = ESTALE;
	return -1;
}

/* A mapping that is valid stands for its part of the guest's address space. */
unsigned long kvm_xvmap_copy_to(struct kvm_xvmap *vmap, unsigned long off, const void *src, unsigned long len)
{
	struct sig_run s = { 0 };
	struct kvm_client_reader *r;

	if (!in_range(vmap, off, len))
		return len;
	sig_enter(&s, NULL);
	r = section_enter(vmap->intf->kvm);
	if (is_valid(to_xvmap(vmap), &r->hint))
		len = mem_copy_to(&vmap->intf->kvm->mem, vmap->gpa + off, src, len, &r->hint);
	section_leave(r);
	sig_leave(&s);
	return len;
}

unsigned long kvm_xvmap_copy_from(struct kvm_xvmap *vmap, void *dst, unsigned long off, unsigned long len)
{
	struct sig_run s = { 0 };
	struct kvm_client_reader *r;

	if (!in_range(vmap, off, len))
		return len;
	sig_enter(&s, NULL);
	r = section_enter(vmap->intf->kvm);
	if (is_valid(to_xvmap(vmap), &r->hint))
		len = mem_copy_from(&vmap->intf->kvm->mem, dst, vmap->gpa + off, len, &r->hint);
	section_leave(r);
	sig_leave(&s);
	return len;
}
