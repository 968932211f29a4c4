/* SPDX-License-Identifier: MIT */
/*
 * ioctl numbers to handlers. usekvm_ioctl() is what the ioctl interposer, and programs that link the library, call for a
 * descriptor of ours.
 */
#ifndef USEKVM_API_API_H
#define USEKVM_API_API_H

#include "base/types.h"

/* A fresh /dev/kvm descriptor (O_CLOEXEC honoured in flags), or -errno. */
int api_open(int flags) hidden;
/* A system descriptor that came over exec, or from another process that runs under usekvm: like the kernel's it works here too. */
bool api_inherit(int fd) hidden;
/* Result >= 0, or -errno; -ENOTTY for what nobody knows. fd is one of ours (vfile_is_ours) or the answer is -EBADF. */
long api_ioctl(int fd, u32 request, unsigned long arg) hidden;
/* A descriptor of ours has been mapped, as told: finish the mapping. 0, or -errno: take it away again. */
long api_mapped(int fd, void *addr, u64 len, int prot, int flags, u64 offset) hidden;

#endif
