/* SPDX-License-Identifier: MIT */
/*
 * One guest address space as its process has it: which of the guest's pages are mapped there, and as what.
 *
 * A mapping is made from the guest's page tables, as an entry of the TLB is, and may be used as long as such an entry might: what was dropped from
 * the vCPU's TLB is looked at again before guest code runs (space_sync).
 */
#ifndef USEKVM_DIRECT_SPACE_H
#define USEKVM_DIRECT_SPACE_H

#include "cpu/cpu.h"
#include "direct/process.h"

#define SPACE_PAGES 49152u
#define SPACE_HASH 65536u
#define SPACE_WX 8u /* times that a page's code was written to and run again: then it may be both at once */

struct spage {
	u64 va;       /* and in its low bits SP_*; none of SP_R, SP_W, SP_X: not mapped */
	u64 hva;      /* host address of the page, in this process */
};
enum { SP_R = 1, SP_W = 2, SP_X = 4, SP_ANY = 7, SP_FLIPS = 8 /* one flip of 15 */, SP_FLIPS_MASK = 15 * SP_FLIPS };

struct space {
	struct dprocess *p;
	u64 root;          /* of the guest's page tables */
	u64 used;          /* TSC of the last entry */
	u64 banned;        /* not before this TSC: it comes out too often */
	u64 ban;           /* for how long the last time */
	u64 mean;          /* TSC ticks from entry to exit, of the last exits */
	u32 files;         /* ramfile_generation() that p was made with */
	bool wx;           /* there are pages that are writable and executable: RDTSC faults */
	bool large;        /* pages of large guest pages are mapped */
	u64 drops_all, drops_page, protects; /* the vCPU's, as far as they have been dealt with */
	u32 n;
	struct spage *page;
	u16 *hash;         /* + 1: of page[], by va; open addressing */
	/* Pages of code that are mapped as copies, with some instructions changed (scan.h). */
	unsigned ncopies;
	struct {
		u64 va;        /* 0: not in use any more */
		const u8 *of;  /* the page */
		u8 *was;       /* its bytes when the copy was made */
	} copy[D_COPIES];
	u8 *pristine;
};

/* Memory and process for one. NULL: it cannot be had. */
struct space *space_new(int *err) hidden;
void space_free(struct space *s) hidden;
/* It becomes that of another root. False: its process is of no use any more. */
bool space_take(struct cpu *c, struct space *s, u64 root) hidden;
/* Drop what the vCPU's TLB would have dropped. False: as above. */
bool space_sync(struct cpu *c, struct space *s) hidden;
/* Is anything of the guest's where the region is? */
bool space_collides(struct cpu *c) hidden;

enum space_answer {
	SPACE_MAPPED,
	SPACE_FAULT,  /* the guest's own page fault; *error */
	SPACE_CANNOT, /* the engine must do this access: no memory, or not ours to share; code that must not run as it is */
	SPACE_BROKEN, /* the process is of no use any more */
};
/* Guest code wants to do MMU_R, W or X at va. */
enum space_answer space_fault(struct cpu *c, struct space *s, gva_t va, int kind, u32 *error) hidden;

#endif
