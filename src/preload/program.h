/* SPDX-License-Identifier: MIT */
/*
 * The program's own file as the loader mapped it: its segments, the function around an address, and whether an address is sure to be the
 * first byte of an instruction. Nothing is trusted: what is not of the usual form is not found.
 */
#ifndef USEKVM_PRELOAD_PROGRAM_H
#define USEKVM_PRELOAD_PROGRAM_H

#include "base/types.h"

#define PROGRAM_SEGMENTS 16

struct segment {
	const u8 *start, *end;
	u32 flags; /* PF_R, PF_W, PF_X */
};

struct program {
	struct segment seg[PROGRAM_SEGMENTS];
	unsigned n;
	const u8 *frames, *frames_end; /* .eh_frame_hdr, NULL without one */
};

/* program.c. False: there is none, or it is made of more segments than a program has. */
bool program_find(struct program *p) hidden;
/* frames.c: the function that p's unwind table has around `at`. False if there is none. */
bool program_function(const struct program *p, const u8 *at, const u8 **start, const u8 **end) hidden;

/* flow.c: the instructions of a function. */
struct flow {
	const u8 *code;
	u32 size;
	bool sound;    /* there is one way to read it */
	bool indirect; /* there is a jump whose targets are not known */
	u8 *mark;      /* what each byte is */
	u32 *todo, n;  /* blocks found: */
	u8 *queued;    /* bytes that have been put there, each once at most */
};

void flow_begin(struct flow *f, const u8 *start, const u8 *end) hidden;
/* Is `at` the first byte of an instruction of the function? */
bool flow_reaches(const struct flow *f, const u8 *at) hidden;
void flow_end(struct flow *f) hidden;

#endif
