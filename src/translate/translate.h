/* SPDX-License-Identifier: MIT */
/*
 * The translator's private state. Read in this order: docs/translate.md, this file, scan.c (guest instructions of a unit, flags that are
 * needed), native.c (host code for them, with memory.c, jump.c, system.c, string.c), thunk.c (ways in and out), unit.c (units, links, the engine).
 *
 * A unit is host code for a run of guest instructions that lie in one page, entered at the first and left at any jump. While it runs,
 * guest registers are in host registers (x_home[]), three of them and RFLAGS' system bits in struct cpu; the arithmetic flags are in the
 * host's, or in cpu.af, as the unit's code knows at each place.
 */
#ifndef USEKVM_TRANSLATE_TRANSLATE_H
#define USEKVM_TRANSLATE_TRANSLATE_H

#include <ucontext.h>

#include "decode/decode.h"
#include "decode/reg.h"
#include "interp/interp.h"
#include "translate/asm.h"

#define UNIT_MAX_INSNS 48u
#define UNIT_MAX_BYTES 24576u /* of host code: more than UNIT_MAX_INSNS can take */
#define XCODE_SIZE (24u << 20) /* of one vCPU alone */
#define XCODE_MIN (2u << 20)
#define XUNITS 65536u
#define XSITES (1u << 20)
#define XMARKS (1u << 20)
#define XINSNS (1u << 16)
#define XPAGES 8192u
#define XPAGE_HASH 1024u
#define XQUICK 1024u
#define XBYRIP 8192u
#define XGUESS_APART 20000u /* TSC ticks from one wrong guess to the next that can be afforded */
#define XGUESS_FREE 3u     /* of a site: the first */
#define XREDO 256u /* places for instructions whose access the interpreter did */
#define XCHAIN 4u /* thunks that share a place in cpu.jc */
#define XHOT 32u /* runs of a block before it is translated */
#define XHOT_AGAIN 3u /* where a unit was that has lived for XWORTH TSC ticks before the code changed */
#define XWORTH 200000u

/* Where each guest register lives; REG_NONE: in cpu.gpr. */
extern const u8 x_home[16] hidden;

/* Why translated code came back to C, and where it goes on. */
enum site_kind { SITE_MEM, SITE_OP, SITE_FPU, SITE_WINDOW, SITE_LINK, SITE_POLL, SITE_IND };
struct site { /* there are many: 48 bytes */
	u64 rip;     /* of the instruction; LINK: target */
	u64 la;      /* MEM, if absolute. IND: what was added to RSP */
	u32 unit;    /* index */
	u32 hit;     /* code offset: go on here. MEM: with the host's address minus the guest's in T1 */
	u32 next;    /* MEM, OP: when the instruction has been done by the interpreter; MEM, if spans: the way to C. LINK: the jump to patch */
	union {
		u32 insn;  /* OP: index of its struct insn */
		u32 entry; /* MEM: where T1 is compared */
	};
	u16 off;     /* of the instruction in the page */
	u16 size;    /* MEM: bytes */
	u16 guess;   /* MEM: the TLB entry in its instructions, + 1; 0: it looks it up */
	s16 at;      /* MEM, if spans: where in the span the access is that was to be done, of asize bytes, writing if awrite */
	u8 asize;
	u8 kind;
	u8 seg;      /* MEM: S_SS: a bad address is #SS */
	u8 mmu_idx;  /* LINK, MEM: cpu.mmu_idx there, which CLAC and STAC change inside a unit */
	u8 align;    /* MEM: address bits that must be 0 */
	u8 wrong;    /* MEM: guesses, up to XGUESS_FREE */
	bool write : 1, ends : 1, absolute : 1, awrite : 1;
	bool spans : 1;    /* MEM: the look-up is of a span, size and write are that's */
	bool plain : 1;    /* LINK: to the plain twin */
	bool far_page : 1; /* MEM, if absolute: with the page's host address in T1 instead */
	bool masked : 1;   /* MEM: what is accessed depends on a mask: never by the operand's size */
	bool backward : 1; /* LINK */
	bool in_reg : 1, in_slot : 1; /* LINK: the flags are in the host's, in cpu.af */
	bool dead : 1;     /* LINK: the target was seen not to need them */
	bool linked : 1;
};
_Static_assert(sizeof(struct site) == 48, "as it says");

struct mark { /* of a unit: where instructions begin that may fault */
	u32 host;
	u16 off;
	bool in_slot;
	bool string, movs; /* RDI (and RSI) are host addresses: xl_string() in string.c */
	bool rsi;          /* RSI is the operand's host address, the guest's is in x_tmp: copy() there */
	s16 sp;            /* what RSP in its register lacks */
};

/* A guest page, as units know it: linear page, host page and the state of its bytes have one number, cpu.xid tells where it is valid. */
struct xpage {
	u64 vpage;
	const struct code_page *page;
	u32 live;
	u32 space;
	u32 next; /* index + 1 */
};

struct unit {
	u64 rip;
	const struct block *b;
	struct unit *next; /* of the same block, at other linear addresses or in other modes */
	u32 older;         /* index + 1: made before for the same address (by a hash) */
	u32 start;
	u32 poll, slot, flags; /* entries: with a look at requests; flags in cpu.af; flags in the host's */
	u32 thunk, other, far_poll, far; /* entries that look whether the page is still this one: from indirect jumps (target in T1; `other` is the jump on when the target is another), from other pages. 0: none yet */
	u32 end;
	u32 mark, nmarks;
	u32 id, id2; /* of its xpage, and of the one that its only instruction runs into; 0: none */
	u64 made;    /* TSC */
	u32 chain;   /* index + 1: the unit whose thunk an indirect jump tries next, of those that cpu.jc has one place for */
	u16 live_in; /* flags needed */
	bool by_slot; /* the entry `slot` leaves them in cpu.af, and so `poll` wants them; `flags` puts them there and goes by `poll` */
	u16 bytes;
	u8 mmu_idx;
	u8 space;    /* of cpu.xid and cpu.jc */
	bool user;
	bool plain;  /* each access is looked up: for where spans fail */
};

/* share.c: accesses that are made by one look-up. */
#define XSHARE_TRY 24u
#define XSPAN_MAX 512
#define SHARE_FS 16u   /* stand for registers: the bases of FS and GS, and an address that is the same whenever the unit runs */
#define SHARE_PAGE 18u
struct span {
	u64 page; /* SHARE_PAGE: all of it */
	s32 lo;   /* of its symbol's value */
	u16 bytes;
	bool write;
};
struct share {
	u8 group; /* index + 1 of the span; 0: alone */
	u8 base;  /* guest register, or SHARE_... */
	u8 index, shift; /* guest register, or REG_NONE. If there is one, base's value is the same for all accesses of the span, or base is REG_NONE */
	s32 at;   /* of the access in the span */
	s32 off;  /* of the register, of the index shifted, from the symbol's value */
};

/* An instruction of the unit being made. */
enum tkind { T_COPY, T_OP, T_CLI, T_STI, T_CLAC, T_STAC, T_CLD, T_SWAPGS, T_RDTSC, T_PUSHF, T_SREG, T_BIT, T_MOFFS, T_STRING, T_NOP, T_LEA, T_PUSH, T_POP, T_LEAVE, T_JCC, T_JMP, T_CALL, T_JMP_IND, T_CALL_IND, T_RET };
struct tinsn {
	struct decoded d;
	struct insn i;
	u64 rip;
	u16 off;
	u8 len, kind;
	bool ends;
	u8 cc;
	u64 target;
	u64 next;                 /* where the unit goes on behind it */
	u16 fread, fkill, fwrite; /* arithmetic flags read, surely set, touched */
	struct share operand, stack;
	u16 live;                 /* needed before it */
	u16 live_after;
	u16 live_target;          /* JCC, JMP: what the target needs */
	u32 host;                 /* where its code begins; that of the one behind the last: where the code out of line begins */
};

struct translate {
	u8 *rw, *rx;
	u32 pos, limit;
	u32 first;               /* after the thunks */
	u32 nunits, nsites, nmarks, ninsns, npages;
	u32 generation;          /* bumped when everything is dropped */
	u32 t_enter, t_exit, t_leave, t_mem, t_op, t_ind; /* thunks */
	struct insn dummy;       /* what cpu.cur is while a unit's access is looked at */
	struct unit *units;
	struct site *sites;
	struct mark *marks;
	struct insn *insns;      /* pairs: the instruction and an end */
	struct xpage *pages;
	u32 page_hash[XPAGE_HASH];
	u32 by_rip[XBYRIP];      /* index + 1 of the newest unit */
	u32 jc_first[CPU_SPACES][1u << CPU_JC_BITS]; /* index + 1 of the unit whose thunk stands in cpu.jc */
	struct unit *quick[XQUICK]; /* by rip: good while cpu.xid says that its page is known */
	u32 op[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* done by the interpreter for want of a host form, by mnemonic: translate:info tells */
	struct redo {            /* by site: what the interpreter does instead, with an end */
		u32 site;        /* 0: none */
		struct insn i[2];
	} redo[XREDO];
	struct checker *check;   /* check.c, or NULL. Units are of one instruction then, and all flags are wanted after it */
	struct span span[CPU_SPANS];
	u64 guess_time, guess_credit; /* TSC */
	size_t bytes;            /* of this whole reservation */
	struct tinsn in[UNIT_MAX_INSNS + 1]; /* and one to look ahead with */
};

/* scan.c: fill t->in from b's bytes. How many; 0: none that could be translated. *fall: the last one does not end the unit. */
unsigned x_scan(struct cpu *c, const struct block *b, u64 rip, bool *fall) hidden;

/* share.c: fill operand and stack of t->in[0..n), and t->span. */
void x_share(struct translate *t, unsigned n) hidden;

/* memory.c */
bool x_simple_base(const struct tinsn *ti, const ZydisDecodedOperand *m) hidden;  /* the address is a 64-bit register and a displacement */
/* It has an index: the registers (base: or REG_NONE), the scale as a shift, and the displacement. */
bool x_indexed(const struct tinsn *ti, const ZydisDecodedOperand *m, struct share *s, s32 *disp) hidden;
bool x_segment_base(const struct tinsn *ti, const ZydisDecodedOperand *m) hidden; /* it is the base of FS or GS and a displacement */
bool x_absolute(const struct tinsn *ti, const ZydisDecodedOperand *m, u64 *la) hidden; /* it is the same whenever the unit runs: *la */
#define GUESS_MAX 96u
void x_guess(struct translate *t, struct site *s, u32 n) hidden; /* TLB entry */
void x_guess_no_more(struct translate *t, struct site *s) hidden;

/* native.c: host code for t->in[0..n), for which there is room. */
const ZydisDecodedOperand *x_memory_operand(const struct decoded *d) hidden; /* the explicit one, or NULL */
bool x_looked_up_alone(const struct tinsn *ti) hidden;
struct unit *x_emit(struct cpu *c, const struct block *b, u64 rip, unsigned n, bool fall, bool plain) hidden;

/* thunk.c */
#define SITE_NONE 0xffffffffu
#define THUNK_MAX 192u
void x_thunks(struct cpu *c) hidden;
void x_unit_thunk(struct cpu *c, struct unit *u, u32 at) hidden; /* at: over that of an older unit; 0: a new one */
void x_thunk_chain(struct cpu *c, struct unit *u, u32 next) hidden; /* index + 1; 0: none */

/* unit.c */
u64 x_slow_mem(struct cpu *c, u64 la, u32 site) hidden;
u64 x_slow_op(struct cpu *c, u32 site) hidden;
const struct insn *x_stop(struct cpu *c, const struct insn *i) hidden;

struct unit *x_unit_of(struct cpu *c, struct block *b) hidden; /* made if there is none; NULL: cannot be */
void x_run_insn(struct cpu *c, const struct insn *i, u64 rip) hidden; /* with an end behind it */
void x_run_alone(struct cpu *c, const struct unit *u) hidden;  /* not what follows; rip is set */

/* check.c */
int x_check_init(struct translate *t) hidden;
void x_check_destroy(struct translate *t) hidden;
void x_check_made(struct cpu *c, const struct unit *u) hidden; /* from t->in[0] */
bool x_check_run(struct cpu *c, struct block *b) hidden;       /* as interp.run_unit */

/* log.c: lines for the log; the caller has seen that they are wanted. n: instructions in t->in that u was made of. */
void x_log_unit(struct cpu *c, const struct unit *u, unsigned n) hidden;
void x_log_drop(struct cpu *c) hidden;

/* Where code stands now: CPU_SPACES. */
static inline unsigned x_space(const struct cpu *c)
{
	return (c->cpl == 3) | (unsigned)(c->code_size == 4) << 1;
}

/* Where in cpu.jc an indirect jump to rip looks for its way on. */
#define XJC_SHIFT 2
static inline unsigned x_jc_slot(u64 rip)
{
	return (unsigned)(rip >> XJC_SHIFT) & ((1u << CPU_JC_BITS) - 1);
}

static inline u8 *x_rx(const struct translate *t, u32 off)
{
	return t->rx + off;
}

#endif
