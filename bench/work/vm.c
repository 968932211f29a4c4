/* SPDX-License-Identifier: MIT */
/* The inner loop of an interpreter: a machine of eight registers, once with a switch and once with a jump at the end of each operation. */
#include "work.h"

enum op { SET, MOVE, ADD, SUB, MUL, XOR, SHR, ADDI, ANDI, LOAD, STORE, LESS, JUMP, BRANCH, END };

struct code {
	unsigned char op, a, b, c;
	int k;
};

/* What each operation does; `i` is the instruction, `r` the registers, `m` the memory of 256 words. */
#define OPS                                                                                                                                \
	OP(SET, r[i->a] = (unsigned int)i->k)                                                                                              \
	OP(MOVE, r[i->a] = r[i->b])                                                                                                        \
	OP(ADD, r[i->a] = r[i->b] + r[i->c])                                                                                               \
	OP(SUB, r[i->a] = r[i->b] - r[i->c])                                                                                               \
	OP(MUL, r[i->a] = r[i->b] * r[i->c])                                                                                               \
	OP(XOR, r[i->a] = r[i->b] ^ r[i->c])                                                                                               \
	OP(SHR, r[i->a] = r[i->b] >> (i->k & 31))                                                                                          \
	OP(ADDI, r[i->a] = r[i->b] + (unsigned int)i->k)                                                                                   \
	OP(ANDI, r[i->a] = r[i->b] & (unsigned int)i->k)                                                                                   \
	OP(LOAD, r[i->a] = m[r[i->b] & 255])                                                                                               \
	OP(STORE, m[r[i->b] & 255] = r[i->a])                                                                                              \
	OP(LESS, r[i->a] = r[i->b] < r[i->c])                                                                                              \
	OP(JUMP, i += i->k)                                                                                                                \
	OP(BRANCH, i += r[i->a] ? i->k : 0)

/* r0 counts to r1; Collatz steps of r3 into r4, a table of them in memory. */
static const struct code program[] = {{SET, 0, 0, 0, 1}, {SET, 1, 0, 0, 2000}, {SET, 4, 0, 0, 0}, {SET, 6, 0, 0, 3},
	/* 4 */ {MOVE, 3, 0, 0, 0},
	/* 5 */ {ADDI, 4, 4, 0, 1}, {ANDI, 2, 3, 0, 1}, {BRANCH, 2, 0, 0, 2}, {SHR, 3, 3, 0, 1}, {JUMP, 0, 0, 0, 2},
	/* 10 */ {MUL, 3, 3, 6, 0}, {ADDI, 3, 3, 0, 1},
	/* 12 */ {SET, 2, 0, 0, 1}, {LESS, 2, 2, 3, 0}, {BRANCH, 2, 0, 0, -10},
	/* 15 */ {LOAD, 5, 0, 0, 0}, {ADD, 5, 5, 4, 0}, {STORE, 5, 0, 0, 0}, {XOR, 7, 7, 5, 0}, {SUB, 5, 7, 4, 0}, {STORE, 5, 4, 0, 0},
	/* 21 */ {ADDI, 0, 0, 0, 1}, {LESS, 2, 0, 1, 0}, {BRANCH, 2, 0, 0, -20}, {END, 0, 0, 0, 0}};

static __attribute__((noinline)) uint64_t by_switch(const struct code *i, unsigned int *r, unsigned int *m)
{
	for (;; i++) {
		switch (i->op) {
#define OP(name, action)                                                                                                                   \
	case name: action; break;
			OPS
#undef OP
		default: return work_mix(r[4], r[7]);
		}
	}
}

static __attribute__((noinline)) uint64_t by_goto(const struct code *i, unsigned int *r, unsigned int *m)
{
#define OP(name, action) [name] = &&do_##name,
	static const void *const table[] = {OPS[END] = &&do_END};
#undef OP

	goto *table[i->op];
#define OP(name, action)                                                                                                                   \
	do_##name: action;                                                                                                                \
	i++;                                                                                                                               \
	goto *table[i->op];
	OPS
#undef OP
	do_END: return work_mix(r[4], r[7]);
}

static uint64_t run(unsigned long rounds, uint64_t (*machine)(const struct code *i, unsigned int *r, unsigned int *m))
{
	unsigned int m[256] = {0};
	uint64_t sum = 0;

	while (rounds--) {
		unsigned int r[8] = {0};

		sum = work_mix(sum, machine(program, r, m));
	}
	return sum;
}

static uint64_t vm_switch(unsigned long rounds)
{
	return run(rounds, by_switch);
}
WORK(switch_row, "vm-switch", APP, vm_switch, 100, 0x9df4b9931b013935);

static uint64_t vm_goto(unsigned long rounds)
{
	return run(rounds, by_goto);
}
WORK(goto_row, "vm-goto", APP, vm_goto, 100, 0x9df4b9931b013935);
