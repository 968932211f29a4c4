/* SPDX-License-Identifier: MIT */
/* Between the parts of the generator: groups (group.c), encodings (form.c), states (gen.c). */
#ifndef USEKVM_TESTS_FUZZ_GEN_H
#define USEKVM_TESTS_FUZZ_GEN_H

#include <Zydis/Zydis.h>

#include "fuzz.h"

enum {
	GR_ALU, GR_SHIFT, GR_MULDIV, GR_BIT, GR_CMOV, GR_STACK, GR_STRING, GR_LOCK, GR_XCHG, GR_MOV, GR_FLAGS, GR_BRANCH, GR_BMI, GR_NOP, GR_FSGS,
	GR_PRIV, GR_ONLY32, GR_X87, GR_MMX, GR_SSE, GR_SSE3, GR_SSE4, GR_CRYPTO, GR_AVX, GR_AVX2, GR_FMA, GR_F16C, GR_GATHER, GR_KMASK, GR_AVX512,
	GR_GATHER512, GR_XSAVE, GR_INVALID, GR_COUNT
};
extern const char *const group_names[GR_COUNT];

struct insn {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	u8 b[16];
	bool bad; /* Zydis does not know it: group "invalid" */
};

int group_of(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op);
bool group_is_vector(int g);

/* A memory operand of 32-bit code as it is encoded: ModRM without reg, SIB, displacement. */
struct memop {
	u8 prefix[2], prefixes;
	u8 b[6], len;
};

/* form.c */
void form_init(void);
bool form_random(struct rng *r, int group, bool block, const struct memop *mem, struct insn *out);
bool form_has(int group);
bool decode(const u8 *b, unsigned len, struct insn *out);
void form_list(int group);

/* gen.c */
int gpr_no(ZydisRegister reg);
u32 undefined_flags(const struct insn *i);
u32 taint_after(u32 taint, const struct insn *i);
void case_start(struct rng *r, u64 seed, u64 num, struct tcase *t);
void random_xs(struct rng *r, struct tcase *t, int g);

/* block32.c */
bool gen_block32(int g, u64 seed, u64 num, struct tcase *t, unsigned max);

#endif
