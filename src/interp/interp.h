/* SPDX-License-Identifier: MIT */
/*
 * The interpreter's private state and its entry points.
 *
 * Read in this order: insn.h (what a decoded instruction is), loop.c (the run loop), block.c (decoding into blocks and their cache),
 * lower.c (which handler an instruction gets), access.c (guest memory), integer.c, op_*.c.
 */
#ifndef USEKVM_INTERP_INTERP_H
#define USEKVM_INTERP_INTERP_H

#include <signal.h>
#include <ucontext.h>

#include "decode/memo.h"
#include "interp/insn.h"

#define BLOCK_MAX_INSNS 64
#define BLOCK_HASH_BITS 16
#define BLOCK_ARENA_SIZE (18u << 20) /* of one vCPU alone; several share it (block.c) */
#define BLOCK_ARENA_MIN (1u << 20)
#define CODE_PAGES_MAX 2048
#define CODE_PAGES_MIN 128
#define JUMP_BITS 12
#define CODE_WRITES_MAX 4 /* to a page of code, without a look at it between them: then it is taken for data */

/* One guest page (by host address) that holds decoded code: a copy of its bytes proves that the code is still the same. */
struct code_page {
	u64 hva;      /* page-aligned host address */
	u32 *version; /* mem/track.c's cell: bumped by every reported write */
	u32 seen;     /* its value when `copy` was last compared */
	u32 gen;      /* interp.entry_gen at the last comparison */
	u32 live;     /* blocks made from this page carry the same value; bumped to kill them */
	u64 unstable; /* token: until it is done, another vCPU may write here unreported, and every look compares */
	u64 used;     /* which 64-byte lines blocks were made from, one bit each: only those of `copy` count */
	struct code_page *next;
	bool kept;    /* by the sweep that is on */
	u8 copy[PAGE_SIZE];
};

/* Straight-line instructions inside one page; only a block of a single instruction may run into a second page. */
struct block {
	struct block *next; /* hash chain */
	u64 hva;            /* host address of the first byte */
	u64 hva2;           /* host address of the second page's first byte, or 0 */
	struct code_page *page, *page2;
	u32 live, live2;
	u32 key;            /* mode bits that decoding depended on */
	u32 heat;           /* runs until the translator is asked, if there is one */
	bool again;         /* its: heat counts for another address of the block */
	struct unit *unit;  /* its: translations of this block */
	u16 n;              /* instructions */
	u16 bytes;
	u32 size;           /* of all of it, in the arena */
	struct insn insn[];
};

struct jump {
	u64 rip;
	u64 epoch_key; /* cpu.tlb_epoch and cpu.code_key */
	struct block *b;
	u32 *version;
	u32 seen; /* version and interp.entry_gen for which the block's bytes are known to be right */
	u32 gen;
};

enum direct_result {
	DIRECT_RAN,  /* look around again */
	DIRECT_STEP, /* the engine runs this block, then it goes on */
	DIRECT_NOT,  /* the engine goes on from here */
};

struct interp {
	struct jump jump[1u << JUMP_BITS]; /* rip -> block, for flat code segments, while nothing it was derived from has changed */
	struct block *current;             /* running, for the instruction count when it is left early */
	struct block *hash[1u << BLOCK_HASH_BITS];
	struct code_page *pages[CODE_PAGES_MAX];
	struct code_page *page_pool;
	u32 npages;
	struct code_page *free_pages; /* of those npages */
	u32 nfree;
	u32 drops;          /* times that blocks were dropped or moved */
	u32 entry_gen;      /* bumped on each entry: the VMM may have written to code meanwhile */
	u8 *arena, *arena_pos, *arena_end;
	u8 *arena_touched;  /* how far it was ever used: what lies beyond costs no memory */
	u64 smc[2];         /* pages of code that the running instruction writes to */
	u32 nsmc;
	u8 shadow;          /* interrupt shadow that the running single instruction began with */
	bool complete_only; /* interp_complete(): stop after the pending access is done */
	bool want_single;   /* the next instruction must run alone */
	bool completed;
	u32 watch_hits;     /* DR6 bits of those that the running instruction met */
	/* The translator's (translate/), or NULL. heat: what a new block starts with. run: true if it ran something from c->rip on. */
	u32 heat;
	bool (*run_unit)(struct cpu *c, struct block *b);
	void (*drop_units)(struct cpu *c);
	void (*block_moved)(struct block *b); /* one with units */
	/* Direct execution (direct/), or NULL: user code is to run as it is; something was requested while it ran in an engine. */
	enum direct_result (*run_direct)(struct cpu *c);
	void (*sample_user)(struct cpu *c);
	/* The host fault happened in translated code: state made that of the instruction's start, and the context that of C code. */
	bool (*unit_fault)(struct cpu *c, ucontext_t *uc);
	struct decode_memo memo;
	u32 held, held_now; /* those of MOV SS, for the next instruction; and what the running one took over */
};

/* Is this user code that is to run directly? */
static always_inline bool direct_wanted(const struct cpu *c)
{
	return unlikely(!((c->cr3 ^ c->direct_root) & CPU_ROOT_MASK)) && c->cpl == 3 && c->interp->run_direct;
}

static inline struct jump *jump_slot(struct interp *in, u64 rip)
{
	return &in->jump[(rip ^ (rip >> JUMP_BITS)) & ((1u << JUMP_BITS) - 1)];
}

/*
 * Finish what the VMM has just answered (c->io in state IO_DONE, or the last fragment of c->mmio done) without running further
 * instructions. CPU_EXIT_REQUEST: nothing is pending any more. Otherwise as cpu_engine.run: the instruction needs another access.
 */
int interp_complete(struct cpu *c) hidden;

/*
 * A host fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL) on the vCPU's thread while c->in_engine. True: handled, resume with *uc changed.
 * Async-signal context.
 */
bool interp_fault(struct cpu *c, int sig, siginfo_t *info, ucontext_t *uc) hidden;

/* block.c */
/* The jump cache has the block but its page must be looked at again. False: the bytes have changed. */
bool block_recheck(struct cpu *c, struct jump *j) hidden;
struct block *block_find(struct cpu *c) hidden; /* at c->rip; raises on fetch faults, exits on what is not implemented */
/* The instruction at off of the page, as its bytes were when its blocks were made. Not for one that goes on in the next page. FPU put. */
struct decoded;
enum decode_result block_decode(struct cpu *c, struct code_page *p, unsigned off, struct decoded *d) hidden;
enum decode_result block_decode_crossing(struct cpu *c, const struct block *b, struct decoded *d) hidden;
void block_insn_bytes(struct cpu *c, const struct insn *i) hidden; /* into c->insn_bytes */
void block_page_written(struct cpu *c, u64 hva) hidden;
int block_init(struct cpu *c) hidden;
void block_destroy(struct cpu *c) hidden;
void block_flush_all(struct cpu *c) hidden;

/* lower.c: fill i from decoded bytes. False: not implemented. */
bool lower(struct cpu *c, const struct decoded *d, struct insn *i) hidden;
const struct insn *h_block_end(struct cpu *c, const struct insn *i) hidden; /* integer.c */

/* access.c */
void *exec_ptr(struct cpu *c, gva_t la) hidden; /* host pointer of the code byte; raises #PF; NULL: code is not in RAM */

/* loop.c: the parts of an engine; and whether the next instruction must be looked at alone. */
int interp_init(struct cpu *c) hidden;
void interp_destroy(struct cpu *c) hidden;
int interp_run(struct cpu *c) hidden;
bool interp_alone(const struct cpu *c) hidden;

/* loop.c: the running instruction writes to this page of code; the version is bumped once more after it. */
void interp_note_smc(struct cpu *c, u64 page) hidden;

#endif
