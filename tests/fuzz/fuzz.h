/* SPDX-License-Identifier: MIT */
/*
 * The instruction tester: random user-mode code is run on the host's CPU (native.c, in a child process that a signal handler
 * drives) and in a vCPU (vcpu.c, through the KVM API only), from the same state, at the same addresses, and the outcomes are
 * compared (check.c). gen.c makes the cases.
 *
 * Address space of both: DATA_BASE has six pages (see data_prot), CODE_BASE two pages of code, each case in its own slot of one batch,
 * all other bytes int3. So whatever runs ends at an int3 or a fault. No other user-mode address is mapped in the guest; what is
 * mapped in the child (its own image, the libraries) lies above 0x500000000000 and is not hit by chance.
 *
 * With --bits=32 the code is that of compatibility mode: CS, DS, ES and SS flat, FS with a base in the data pages, GS null. Host and
 * vCPU enter it from 64-bit code and leave it by a 64-bit handler, so that all sixteen registers are compared here too.
 *
 * A case is a function of (seed, number) and its batch's data pattern of (seed, number / BATCH): so one can be run alone.
 */
#ifndef USEKVM_TESTS_FUZZ_H
#define USEKVM_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int32_t s32;
typedef int64_t s64;

#define PG 4096u
#define DATA_BASE 0x10000000ull
#define DATA_PAGES 6 /* unmapped, RW, RW, RO, RW, unmapped */
#define DATA_FIRST (DATA_BASE + PG)
#define DATA_MAPPED 4
#define DATA_SIZE (DATA_MAPPED * PG)
#define CODE_BASE 0x20000000ull
#define CODE_PAGES 5 /* the page behind is unmapped */
#define CODE_SIZE (CODE_PAGES * PG)
#define BATCH 64
#define SEL_CODE32 0x23 /* selectors of Linux */
#define SEL_CODE64 0x33
#define SEL_DATA 0x2b
#define SEL_FS32 7 /* the first of the local table */
#define SLOT (CODE_SIZE / BATCH) /* 320 bytes */

#define XS_SIZE 4096
#define XS_BV 512
#define XS_AVX 576

enum { G_AX, G_CX, G_DX, G_BX, G_SP, G_BP, G_SI, G_DI, G_8, G_15 = 15 };

struct poke {
	u32 off; /* in the mapped data pages */
	u32 len;
	u8 data[64];
};
#define POKES 3

struct tcase {
	u64 num;
	u64 entry; /* address of the first byte */
	u8 code[SLOT];
	u16 len;
	u16 mnem; /* of a single instruction, or 0 */
	u16 ninsn;
	bool vec;   /* vector or x87 state takes part */
	bool big_operand; /* FXSAVE, XSAVE, FNSAVE and the like, masked operands: which byte of the page CR2 names is up to the CPU */
	bool vague_ac;    /* whether these look at EFLAGS.AC, and before or after other checks, is up to the CPU (SDM 3, #AC) */
	bool two_operands; /* CMPS: if both fault, either may be told of */
	u8 gather_reg, gather_vl; /* EVEX gather that faults: when the bytes above the vector are cleared is up to the CPU; vl 0: none */
	bool many;        /* PUSHA, POPA: if they fault, what was moved before is up to the CPU */
	bool bases; /* FS and GS bases may change */
	u32 undef;  /* flags that the manual leaves undefined */
	u32 undef_fault; /* the same, where a block ends before its end */
	u32 skip_off, skip_len; /* bytes of the data pages that hold x87 instruction and operand pointers */
	u32 opt_state; /* XSAVEOPT, XSAVEC: offset of XSTATE_BV in the data pages, or 0 */
	u16 isa_set;
	u64 gpr[16];
	u64 rflags, fs, gs;
	unsigned npoke;
	struct poke poke[POKES];
	u8 xs[XS_SIZE] __attribute__((aligned(64)));
};

#define CHANGES 8192
struct outcome {
	u64 gpr[16];
	u64 rip, rflags, cr2, fs, gs;
	u32 vector, error;
	u32 lo, hi; /* changed bytes of the data pages: [lo, hi) */
	u32 kvm_exit; /* vCPU only: 0, or the exit that ended the run instead of an exception */
	u32 sub;
	u8 mem[CHANGES];
	u8 xs[XS_SIZE] __attribute__((aligned(64)));
};

/* Shared by the tester and its child. */
struct share {
	u32 n; /* cases in this batch */
	volatile u32 at; /* the one that the child is on */
	u8 data[DATA_SIZE] __attribute__((aligned(4096))); /* the pattern */
	u8 code[CODE_SIZE] __attribute__((aligned(4096)));
	struct tcase in[BATCH];
	struct outcome out[BATCH];
};

/* rng.c */
struct rng {
	u64 s;
};
u64 rnd(struct rng *r);
static inline u32 below(struct rng *r, u32 n)
{
	return (u32)(((rnd(r) >> 32) * n) >> 32);
}
static inline bool chance(struct rng *r, u32 one_in)
{
	return below(r, one_in) == 0;
}
u64 mix(u64 a, u64 b);
u64 edge(struct rng *r);              /* a 64-bit value, edges preferred */
void edge_bytes(struct rng *r, u8 *p, unsigned n); /* a vector operand: integers, floats of either width, NaNs, denormals */

/* host.c */
extern unsigned code_bits; /* 64 or 32, for the whole run */
extern u64 host_xcr0;
extern u32 xs_off[64], xs_len[64];
void host_init(void);
bool host_has_fsgsbase(void);

/* gen.c */
void gen_init(void);
int gen_group(const char *name); /* -1: none */
const char *gen_group_name(int g);
int gen_groups(void);
bool gen_group_here(int g); /* has it instructions in this mode? */
bool gen_isa_shown(u16 isa_set); /* does the guest's CPUID show it? */
void gen_data(struct rng *r, u8 *data);
bool gen_case(int g, u64 seed, u64 num, struct tcase *t);
bool gen_block(int g, u64 seed, u64 num, struct tcase *t, unsigned max);
bool gen_bytes(const u8 *code, unsigned len, u64 seed, u64 num, struct tcase *t);
void gen_list(int g);

/* native.c */
int native_start(struct share *sh);
int native_batch(struct share *sh); /* 0; or -1: the child died or hung in sh->in[sh->at]; it has been started anew */
void native_stop(void);

/* vcpu.c */
int vcpu_start(void);
bool vcpu_has(int leaf, int reg, int bit);
void vcpu_batch(const struct share *sh);
void vcpu_case(const struct share *sh, const struct tcase *t, struct outcome *o);

/* check.c */
bool same(const struct share *sh, const struct tcase *t, struct outcome *a, struct outcome *b);
void report(FILE *f, const struct share *sh, const struct tcase *t, const struct outcome *a, const struct outcome *b, bool verbose);
void disassemble(FILE *f, const struct tcase *t);
void changed(const u8 *pattern, const u8 *now, struct outcome *o);
void xs_normalize(u8 *xs);

/* drive.c */
struct opts {
	int group;
	u64 count, seed, first;
	const char *one;
	bool block, list, verbose, native_only;
	unsigned max_insns, max_diffs;
};
int drive(int argc, char **argv, bool block);

#endif
