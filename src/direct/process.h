/* SPDX-License-Identifier: MIT */
/*
 * A process for the user code of one guest address space: it has the guest's memory that was mapped into it, and the region of stub.h.
 *
 * Two tasks share its memory. The mapper executes the commands that the vCPU's thread leaves for it. The guest's thread runs guest code; every
 * exception and system call of it becomes a signal, whose handler stops it in a call that the kernel reports to the vCPU's thread
 * (SECCOMP_RET_USER_NOTIF) and that ends when that answers. So the kernel vouches for it that guest code does not run while its exit is dealt with.
 */
#ifndef USEKVM_DIRECT_PROCESS_H
#define USEKVM_DIRECT_PROCESS_H

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/types.h"
#include "direct/stub.h"

/* A system call for the mapper. */
struct dcmd {
	u64 nr, arg[6];
};
#define DCMDS 210u

struct dctl {
	u64 fs, gs;    /* bases to enter with */
	u32 count;
	u32 tsc;       /* if not 0: for prctl(PR_SET_TSC), before guest code is entered */
	u64 top;       /* end of user addresses */
	struct {
		u64 sp;
		u32 flags, pad;
		u64 size;
	} stack;       /* sigaltstack's argument */
	struct {
		u16 len, pad[3];
		u64 filter;
	} prog;        /* struct sock_fprog */
	struct sock_filter filter[16];
	u8 room[D_CTL_CMDS - 200];
	struct dcmd cmd[DCMDS];
};

/* The kernel's struct ucontext and struct sigcontext (asm/sigcontext.h), as they lie in a signal's frame. */
struct dcontext {
	u64 flags, link;
	u64 stack_sp;
	u32 stack_flags, pad;
	u64 stack_size;
	u64 gpr[16];   /* in the kernel's order (run.c) */
	u64 rip, eflags;
	u16 cs, gs, fs, ss;
	u64 err, trapno, oldmask, cr2;
	u64 fpstate;
	u64 reserved[8];
	u64 sigmask;
};
#define D_FPSTATE_AT 0x400 /* in the frame's pages: the XSAVE image, for which the kernel wants 64 bytes' alignment */

struct dprocess {
	int mapper, guest;  /* process ids */
	int listener, guest_fd; /* guest_fd: a pidfd */
	int ctl_fd;
	u8 *region;         /* this process's mapping of it, and of the copies */
	u64 mapper_id, guest_id; /* of the calls that they wait in */
};

/* What the guest's thread stopped for. */
struct dstop {
	u64 what;     /* a signal's number; 0: it is gone, or does not come out */
	u64 arg[6];
	bool woken;   /* the descriptor to wake by was written to */
};

/* A new one, with these descriptors open in it under the same numbers. NULL: this host cannot, or not now; *err. */
struct dprocess *dprocess_start(const int *fds, unsigned n, int *err) hidden;
void dprocess_end(struct dprocess *p) hidden;

static inline u8 *dprocess_copy(const struct dprocess *p, unsigned n)
{
	return p->region + D_SIZE + n * PAGE_SIZE;
}
static inline struct dctl *dprocess_ctl(const struct dprocess *p)
{
	return (struct dctl *)(p->region + D_CTL_AT);
}

/* Have the mapper execute ctl.cmd[0..count). Returns how many failed, or -1: it is gone. */
int dprocess_map(struct dprocess *p) hidden;

/* Let guest code run from the frame on. Then wait until it stops. */
int dprocess_go(struct dprocess *p) hidden;
/* wake: a descriptor; when it can be read the guest's thread is called out. */
void dprocess_wait(struct dprocess *p, int wake, struct dstop *s) hidden;

#endif
