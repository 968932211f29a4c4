/* SPDX-License-Identifier: MIT */
/*
 * The workloads of bench/workloads.sh. Each file here has one subject and registers its rows with WORK(); nothing is listed elsewhere. A
 * row gets its count of rounds (the scale is in it) and returns a checksum, which is the same on every system: no addresses, times or PIDs
 * in it. main.c runs a row in a process of its own, with a time limit, and takes its time from work_begin() (or the start) to the return.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <stddef.h>
#include <stdint.h>

/* The groups of the table, over each of which there is a mean. */
#define APP "app"	/* applications and code bound by the CPU */
#define VECTOR "vector" /* vector, float and crypto code */
#define KERNEL "kernel" /* bound by the kernel's work */

enum work_flags {
	WORK_ONE_CPU = 1,  /* several processes or threads that take turns: on one CPU of the host, as in a guest that has one */
	WORK_TWO_CPUS = 2, /* wants two CPUs */
	WORK_VARIES = 4,   /* --check compares no checksum: a program of the system takes part */
};

struct work {
	const char *name, *group;
	uint64_t (*run)(unsigned long rounds);
	unsigned long rounds; /* at scale 100 */
	uint64_t check;	      /* checksum at scale 1 */
	int flags;
	int (*present)(void); /* 0: this CPU or system lacks what the row needs */
};

#define WORK(id, ...)                                                                                                                      \
	static const struct work id = {__VA_ARGS__};                                                                                       \
	static const struct work *const id##_entry __attribute__((section("works"), used)) = &id

extern const char *work_self;	 /* this program's file */
extern const char *work_scripts; /* folder of the scripts */
extern const char *work_tmp;	 /* folder for files, in memory */

/* What came before was preparation. */
void work_begin(void);
/* The row failed: ends its process. */
void work_fail(const char *what) __attribute__((noreturn));
void *work_alloc(size_t size);

static inline uint64_t work_mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15u;
	return h ^ (h >> 29);
}

uint64_t work_hash(uint64_t h, const void *p, size_t size);

/* Numbers that are the same everywhere; *s is not 0. */
static inline uint64_t work_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

#endif
