/* SPDX-License-Identifier: MIT */
/*
 * What the fuzzers of whole sessions share (calls.c: sequences of ioctls; guests.c: guest code under two engines).
 *
 * An input is a list of records of 32 bytes, whatever they hold: a fuzzer decodes each into one step, and the first, if it likes, into what
 * there is at the beginning. So records can be taken out, doubled and exchanged, which is how inputs are mutated and made smaller (session.c).
 * The same input is run by the plain program and, in a build with -Dfuzzer=true, by libFuzzer.
 *
 * A fuzzer says what is wrong with fuzz_fail(), which ends the process; so do crashes and sanitizers. After run() nothing of it may be left.
 */
#ifndef FUZZ_SESSION_H
#define FUZZ_SESSION_H

#include "../harness/kvmtest.h"

#define RECORDS_MAX 48u

struct record {
	u8 op, obj, how, pick;
	u8 data[28];
};

struct fuzzer {
	const char *name;
	void (*start)(void); /* once a process, before the first run */
	void (*run)(const struct record *r, unsigned n);
};
extern const struct fuzzer fuzzer; /* each program has its own */

void fuzz_fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* With --verbose: a step and its answer. */
extern bool fuzz_verbose;
#define fuzz_say(...)                                                                                                                      \
	do {                                                                                                                               \
		if (fuzz_verbose)                                                                                                          \
			fprintf(stderr, __VA_ARGS__);                                                                                      \
	} while (0)

/* A tick of this thread every `us` microseconds makes its KVM_RUN return EINTR; 0: no more. */
void fuzz_ticks(unsigned us);
extern __thread volatile unsigned fuzz_ticked;

static KT_UNUSED u16 field16(const u8 *p) { u16 v; memcpy(&v, p, sizeof(v)); return v; }
static KT_UNUSED u32 field32(const u8 *p) { u32 v; memcpy(&v, p, sizeof(v)); return v; }
static KT_UNUSED u64 field64(const u8 *p) { u64 v; memcpy(&v, p, sizeof(v)); return v; }

#endif
