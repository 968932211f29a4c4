/* SPDX-License-Identifier: MIT */
/*
 * Between calls.c (objects, threads, guests, what must be true) and requests.c (what each ioctl takes and may answer).
 */
#ifndef FUZZ_CALLS_H
#define FUZZ_CALLS_H

#include "session.h"

#define PG 4096ul
#define POOL (512ul << 10)   /* the guests' memory; a canary page before and one behind it */
#define NOWHERE (64ul << 30) /* address space where nothing is */
#define BITMAP (1ul << 20)

/* Where each object of a kind may be; the numbers of descriptors. */
enum kind { K_SYSTEM, K_VM, K_VCPU, K_DEVICE, K_STATS, K_EVENT, KINDS };
#define PER_KIND 4

struct world {
	int fd[KINDS][PER_KIND];
	u8 *pool, *nowhere, *bitmap;
	struct kvm_cpuid2 *cpuid; /* the supported one */
	size_t run_size;
};
extern struct world world;

struct call {
	const struct record *r;
	int fd;
	unsigned long value; /* the argument, if size is 0 */
	unsigned size;       /* of the structure in buf that the argument points to */
	bool efault;         /* a pointer in it may be bad, or its length wrong */
	bool nomem;          /* it asks for as much memory as it likes */
	u8 *buf;             /* CALL_BUF bytes */
};
#define CALL_BUF 16384u

/* One request on one kind of descriptor. */
struct request {
	enum kind kind;
	u32 number;
	const char *name;
	u32 get;                        /* reads what this one sets, to begin with; or 0 */
	void (*fill)(struct call *c);   /* NULL: the structure as it was read, with changes */
	u8 errors[8];                   /* besides EFAULT for bad pointers, EBADF for bad descriptors */
};
const struct request *request_at(unsigned n); /* NULL: no such one */
#define REQUESTS_AT 64u                       /* steps from here on are requests */

int call_fd(enum kind kind, unsigned n);
void change(u8 *buf, unsigned size, const u8 *data, unsigned n);
void *guest_page(unsigned n);

#endif
