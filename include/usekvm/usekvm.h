/* SPDX-License-Identifier: MIT */
/*
 * usekvm: the Linux KVM API in user space.
 *
 * A program started by `usekvm COMMAND` needs nothing of this file: its own open("/dev/kvm") and ioctl() arrive here. These calls are
 * for programs that link libusekvm instead. Requests, structures and errors are those of <linux/kvm.h> and of the kernel's
 * document "The Definitive KVM (Kernel-based Virtual Machine) API Documentation".
 */
#ifndef USEKVM_USEKVM_H
#define USEKVM_USEKVM_H

#include <stddef.h>
#include <stdint.h>

#define USEKVM_VERSION_MAJOR 0
#define USEKVM_VERSION_MINOR 1
#define USEKVM_VERSION_PATCH 0
#define USEKVM_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A new system descriptor, as open("/dev/kvm", flags) gives. flags: O_RDWR, O_CLOEXEC. It is a real descriptor; close it with close().
 * A program that links the library must let its close, dup and fcntl calls bind to the library (the default when it is linked
 * dynamically), or the objects behind the descriptors are never freed.
 * Returns the descriptor, or -1 with errno: EMFILE, ENFILE, ENOMEM, or ENODEV (this CPU lacks what usekvm needs).
 */
int usekvm_open(int flags);

/*
 * ioctl() on a descriptor of ours: system, VM, vCPU, device or statistics. request is cut to 32 bits, as the kernel does; arg is the
 * third argument of ioctl, a pointer or a number. Returns the request's value (>= 0), or -1 with errno. EBADF: not one of our
 * descriptors. EIO: the process is a forked child of the one that made it. ENOTTY: no such request for this descriptor.
 */
int usekvm_ioctl(int fd, unsigned long request, unsigned long arg);

/*
 * mmap() of a vCPU's descriptor: as the C library's, and the page of the coalesced ring is the VM's one ring in each vCPU's mapping.
 * Returns the address, or (void *)-1 with errno.
 */
void *usekvm_mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t offset);

#ifdef __cplusplus
}
#endif

#endif
