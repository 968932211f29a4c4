/* SPDX-License-Identifier: MIT */
/*
 * File descriptor -> object. Our descriptors are real ones (memfds), so that dup, close, fork, poll, mmap and SCM_RIGHTS work on them; this table
 * says which numbers are ours and what stands behind them.
 *
 * An object (struct vfile) has one reference for each fd number that names it and one for each call in flight. The look-up on the
 * hot path (a vCPU's ioctl) takes no lock and writes no line shared between vCPUs: see vfile.c for how it is safe against close.
 *
 * The identity of the real file (device and inode) is kept: a number that was closed behind our back and reused is found out
 * by vfile_get(), which checks it; vfile_get_fast() trusts the interposers.
 */
#ifndef USEKVM_VFILE_VFILE_H
#define USEKVM_VFILE_VFILE_H

#include "base/types.h"

enum vfile_kind { VFILE_SYSTEM, VFILE_VM, VFILE_VCPU, VFILE_DEVICE, VFILE_STATS, VFILE_KINDS };

struct vfile;
struct vfile_ops {
	enum vfile_kind kind;
	/* The last fd and the last call are gone. Frees vf's owner. */
	void (*release)(struct vfile *vf);
};
struct vfile { /* embedded in the object */
	const struct vfile_ops *ops;
	u32 refs;
	u64 dev, ino;
	u8 priv[32]; /* vfile.c's own */
};

/* Make a vfile known under a fresh real fd: a memfd of `size` bytes named `name` (shown in /proc/self/fd). Returns the fd or -errno (EMFILE, ENOMEM). On
 * failure nothing is left and release is not called. */
int vfile_create(struct vfile *vf, const struct vfile_ops *ops, const char *name, u64 size, bool cloexec) hidden;
/*
 * The same in two steps, for an object that needs its file to become whole: after prepare the descriptor exists but nobody finds the object by
 * it; publish cannot fail. Between them giving up is closing the descriptor.
 */
int vfile_prepare(struct vfile *vf, const struct vfile_ops *ops, const char *name, u64 size, bool cloexec) hidden;
void vfile_publish(struct vfile *vf, int fd) hidden;
/* For a file of the process that exec'ed or sent to this one: was it made by vfile_create as `name`? Then an object for it. 0 or -errno. */
bool vfile_has_name(int fd, const char *name) hidden;
int vfile_attach(struct vfile *vf, const struct vfile_ops *ops, int fd) hidden;

/* fd -> object with a reference for this call, or NULL. Put it afterwards, on the same thread. */
struct vfile *vfile_get(int fd) hidden;
struct vfile *vfile_get_fast(int fd) hidden;
void vfile_put(struct vfile *vf) hidden;
bool vfile_is_ours(int fd) hidden; /* cheap: for the interposers */
/* The number names a VM, vCPU or device of the process that we are a forked child of: every call on it is -EIO. */
bool vfile_is_stale(int fd) hidden;
/* A number that the interposers have not heard of (SCM_RIGHTS, /proc/self/fd): is it one of our files? Then it is known from now on. */
bool vfile_adopt(int fd) hidden;

/* Told by the interposers, before or after the real call as named. */
void vfile_closing(int fd) hidden;                /* before close */
void vfile_closing_range(unsigned lo, unsigned hi) hidden;
void vfile_duped(int oldfd, int newfd) hidden;    /* after a successful dup*, fcntl(F_DUPFD*) */
void vfile_forked(void) hidden;                   /* in the child: every object but system ones answers EIO from now on */
bool vfile_is_forked(void) hidden; /* until a new vfile is made in the child: see vfile_is_stale */

#endif
