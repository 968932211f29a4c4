/* SPDX-License-Identifier: MIT */
/*
 * What lies in a guest's process besides the guest's memory (process.c): one region, at the same address in all, from a file that the
 * vCPU's thread has mapped too.
 *
 *   0      code         executable, not writable
 *   0x1000 struct dctl  read-only there: registers to start with, commands
 *   0x4000 struct dframe  read-only there: the signal frame by which guest code is entered
 *   0x8000 stack        the only part that guest code can write to: where the kernel puts the frames of its signals
 *
 * Nothing that the thread relies on is taken from memory that guest code can write to but its own registers.
 */
#ifndef USEKVM_DIRECT_STUB_H
#define USEKVM_DIRECT_STUB_H

/* In a part of the address space that programs do not use; who does, is not run there (space.c). */
#define D_BASE 0x3f8000000000
#define D_CTL_AT 0x1000
#define D_FRAME_AT 0x4000
#define D_STACK_AT 0x8000
#define D_SIZE 0x10000
/* Behind the region in its file: copies of pages of code (space.c), which are mapped where the pages would be. */
#define D_COPIES 64

/* End of user addresses, of the host and of guests with four levels of page tables. */
#define D_USER_END 0x7ffffffff000

/* A system call that there is not: reported to the listener, which also answers it (SECCOMP_RET_USER_NOTIF). */
#define D_CALL 1023
/* Its first argument, if not a signal's number. */
#define D_MAPPER 0x1000 /* the mapper is ready for commands; the second: failures of the last ones */
#define D_READY 0x2000  /* the guest's thread is there */
#define D_KICK 10       /* SIGUSR1: come out */

/* Offsets in struct dctl for the assembly; process.c checks them. */
#define D_CTL_FS 0
#define D_CTL_GS 8
#define D_CTL_COUNT 16
#define D_CTL_TSC 20
#define D_CTL_TOP 24
#define D_CTL_STACK 32
#define D_CTL_FILTER 56
#define D_CTL_CMDS 256

#ifndef __ASSEMBLER__
#include "base/types.h"

/* Code to be copied to the region's start, and places in it. */
extern const char direct_stub[] hidden, direct_stub_end[] hidden, direct_stub_mapper[] hidden, direct_stub_signal[] hidden;
#endif

#endif
