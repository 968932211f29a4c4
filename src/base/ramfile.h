/* SPDX-License-Identifier: MIT */
/*
 * Guest memory that another process can map as well: which host addresses of this process show which file.
 *
 * Monitors mostly take anonymous private memory for their guest's RAM, which nobody else can map. ramfile_share() puts a memfd with the same
 * bytes in its place, at the same addresses. The table is the process's, as its address space is. Its memory stays as it is when a record goes.
 */
#ifndef USEKVM_BASE_RAMFILE_H
#define USEKVM_BASE_RAMFILE_H

#include "base/types.h"

struct ramfile {
	u64 start, len; /* host addresses */
	int fd;
	u64 off;        /* in the file, of start */
};

/*
 * Exchange what is anonymous, private, readable and writable memory in [start, start + len) for shared memory, in pieces of
 * RAMFILE_MIN bytes at least. empty: only where nothing has been written yet (somebody may be writing now). What cannot be exchanged stays as it is.
 */
#define RAMFILE_MIN (4ull << 20)
void ramfile_share(u64 start, u64 len, bool empty) hidden;
/* The record that holds this address. False: there is none. */
bool ramfile_find(u64 addr, struct ramfile *r) hidden;
/* The program has mapped or unmapped this range itself: it shows something else now. True: there was a record. */
bool ramfile_forget(u64 start, u64 len) hidden;
/* Does the range hold any such memory? Cheap. */
bool ramfile_meets(u64 start, u64 len) hidden;
/* The first record that begins in the range or reaches into it, by address. False: there is none. */
bool ramfile_first(u64 start, u64 len, struct ramfile *r) hidden;
/* Changes with every change of the table. */
u32 ramfile_generation(void) hidden;
/* Copies the descriptors that are in use; at most max. Returns how many there are. */
unsigned ramfile_fds(int *fds, unsigned max) hidden;
/* In the child of a fork: the parent's files are not to be mapped anew. */
void ramfile_forked(void) hidden;

#endif
