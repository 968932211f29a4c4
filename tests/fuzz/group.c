/* SPDX-License-Identifier: MIT */
/*
 * Which group an instruction belongs to, which are left out and why, and which CPUID bit shows an instruction set.
 * tests/fuzz/groups lists the names for the test run.
 */
#include <string.h>

#include <Zydis/Zydis.h>

#include "gen.h"

const char *const group_names[GR_COUNT] = {"alu", "shift", "muldiv", "bit", "cmov", "stack", "string", "lock", "xchg", "mov", "flags", "branch",
	"bmi", "nop", "fsgs", "priv", "only32", "x87", "mmx", "sse", "sse3", "sse4", "crypto", "avx", "avx2", "fma", "f16c", "gather", "kmask", "avx512",
	"gather512", "xsave", "invalid"};

/* Not run: they answer by time or place, enter the host's kernel, load selectors, or the host's kernel emulates them (UMIP). */
static bool banned(const ZydisDecodedInstruction *z)
{
	if (code_bits == 32 && z->mnemonic == ZYDIS_MNEMONIC_INTO)
		return false;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_SYSCALL: case ZYDIS_MNEMONIC_SYSENTER: case ZYDIS_MNEMONIC_SYSEXIT: case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_INT: case ZYDIS_MNEMONIC_INT1: case ZYDIS_MNEMONIC_INTO: case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD: case ZYDIS_MNEMONIC_IRETQ: case ZYDIS_MNEMONIC_RDTSC: case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_RDRAND: case ZYDIS_MNEMONIC_RDSEED: case ZYDIS_MNEMONIC_CPUID: case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_RDPID: case ZYDIS_MNEMONIC_RDPRU: case ZYDIS_MNEMONIC_SGDT: case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SLDT: case ZYDIS_MNEMONIC_STR: case ZYDIS_MNEMONIC_SMSW: case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL: case ZYDIS_MNEMONIC_VERR: case ZYDIS_MNEMONIC_VERW: case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_LFS: case ZYDIS_MNEMONIC_LGS: case ZYDIS_MNEMONIC_LDS: case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_MONITORX: case ZYDIS_MNEMONIC_MWAITX: case ZYDIS_MNEMONIC_XBEGIN: case ZYDIS_MNEMONIC_XABORT:
	case ZYDIS_MNEMONIC_XEND: case ZYDIS_MNEMONIC_XTEST: case ZYDIS_MNEMONIC_VMMCALL: case ZYDIS_MNEMONIC_VMCALL:
	case ZYDIS_MNEMONIC_VMFUNC: case ZYDIS_MNEMONIC_RDPKRU: case ZYDIS_MNEMONIC_WRPKRU:
	case ZYDIS_MNEMONIC_INT3: return true;
	default: break;
	}
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_SVM: case ZYDIS_ISA_EXT_VTX: case ZYDIS_ISA_EXT_SGX: case ZYDIS_ISA_EXT_SGX_ENCLV:
	case ZYDIS_ISA_EXT_TDX: case ZYDIS_ISA_EXT_SMX: case ZYDIS_ISA_EXT_CET: case ZYDIS_ISA_EXT_UINTR:
	case ZYDIS_ISA_EXT_ENQCMD: case ZYDIS_ISA_EXT_PT: case ZYDIS_ISA_EXT_PCONFIG: case ZYDIS_ISA_EXT_WAITPKG:
	case ZYDIS_ISA_EXT_SNP: case ZYDIS_ISA_EXT_AMD_INVLPGB: case ZYDIS_ISA_EXT_MCOMMIT: case ZYDIS_ISA_EXT_KEYLOCKER:
	case ZYDIS_ISA_EXT_KEYLOCKER_WIDE: case ZYDIS_ISA_EXT_AMX_TILE: case ZYDIS_ISA_EXT_AMX_INT8:
	case ZYDIS_ISA_EXT_AMX_BF16: case ZYDIS_ISA_EXT_PADLOCK: case ZYDIS_ISA_EXT_KNC: case ZYDIS_ISA_EXT_KNCE:
	case ZYDIS_ISA_EXT_KNCV: case ZYDIS_ISA_EXT_MPX: case ZYDIS_ISA_EXT_HRESET: case ZYDIS_ISA_EXT_TSX_LDTRK: return true;
	default: return false;
	}
}

/* What 64-bit mode does not have, or encodes otherwise. */
static bool only32(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_AAA: case ZYDIS_MNEMONIC_AAS: case ZYDIS_MNEMONIC_AAM: case ZYDIS_MNEMONIC_AAD:
	case ZYDIS_MNEMONIC_DAA: case ZYDIS_MNEMONIC_DAS: case ZYDIS_MNEMONIC_SALC: case ZYDIS_MNEMONIC_BOUND:
	case ZYDIS_MNEMONIC_INTO: case ZYDIS_MNEMONIC_ARPL: case ZYDIS_MNEMONIC_PUSHA: case ZYDIS_MNEMONIC_PUSHAD:
	case ZYDIS_MNEMONIC_POPA: case ZYDIS_MNEMONIC_POPAD: return true;
	default: break;
	}
	if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return false;
	switch (z->opcode) {
	case 0x06: case 0x0e: case 0x16: case 0x1e: /* PUSH of a segment register */
	case 0x40 ... 0x4f: /* INC, DEC */
	case 0x82: /* another 80h */
	case 0xa0 ... 0xa3: return true; /* MOV with an absolute address */
	default: return false;
	}
}

static int base_group(const ZydisDecodedInstruction *z)
{
	if (code_bits == 32 && only32(z))
		return GR_ONLY32;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MUL: case ZYDIS_MNEMONIC_IMUL: case ZYDIS_MNEMONIC_DIV: case ZYDIS_MNEMONIC_IDIV: return GR_MULDIV;
	case ZYDIS_MNEMONIC_POPCNT: case ZYDIS_MNEMONIC_CRC32: case ZYDIS_MNEMONIC_LZCNT: case ZYDIS_MNEMONIC_TZCNT: return GR_BMI;
	case ZYDIS_MNEMONIC_ENTER: case ZYDIS_MNEMONIC_LEAVE: case ZYDIS_MNEMONIC_PUSHFQ: case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_PUSHF: case ZYDIS_MNEMONIC_POPF: return GR_STACK;
	case ZYDIS_MNEMONIC_XCHG: case ZYDIS_MNEMONIC_XADD: case ZYDIS_MNEMONIC_CMPXCHG: case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CMPXCHG16B: return GR_XCHG;
	case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD: return GR_SHIFT;
	case ZYDIS_MNEMONIC_BSWAP: case ZYDIS_MNEMONIC_MOVBE: case ZYDIS_MNEMONIC_XLAT: case ZYDIS_MNEMONIC_LEA: return GR_MOV;
	case ZYDIS_MNEMONIC_HLT: case ZYDIS_MNEMONIC_CLI: case ZYDIS_MNEMONIC_STI: case ZYDIS_MNEMONIC_CLTS: case ZYDIS_MNEMONIC_LMSW:
	case ZYDIS_MNEMONIC_LGDT: case ZYDIS_MNEMONIC_LIDT: case ZYDIS_MNEMONIC_LLDT: case ZYDIS_MNEMONIC_LTR:
	case ZYDIS_MNEMONIC_RDMSR: case ZYDIS_MNEMONIC_WRMSR: case ZYDIS_MNEMONIC_INVD: case ZYDIS_MNEMONIC_WBINVD:
	case ZYDIS_MNEMONIC_INVLPG: case ZYDIS_MNEMONIC_SWAPGS: case ZYDIS_MNEMONIC_UD0: case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2: case ZYDIS_MNEMONIC_IN: case ZYDIS_MNEMONIC_OUT: return GR_PRIV;
	case ZYDIS_MNEMONIC_CLAC: case ZYDIS_MNEMONIC_STAC: return GR_PRIV;
	default: break;
	}
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_BINARY: case ZYDIS_CATEGORY_LOGICAL: return GR_ALU;
	case ZYDIS_CATEGORY_SHIFT: case ZYDIS_CATEGORY_ROTATE: return GR_SHIFT;
	case ZYDIS_CATEGORY_BITBYTE: return GR_BIT;
	case ZYDIS_CATEGORY_CMOV: case ZYDIS_CATEGORY_SETCC: return GR_CMOV;
	case ZYDIS_CATEGORY_PUSH: case ZYDIS_CATEGORY_POP: return GR_STACK;
	case ZYDIS_CATEGORY_STRINGOP: return GR_STRING;
	case ZYDIS_CATEGORY_IOSTRINGOP: return GR_PRIV;
	case ZYDIS_CATEGORY_DATAXFER: case ZYDIS_CATEGORY_CONVERT: return GR_MOV;
	case ZYDIS_CATEGORY_FLAGOP: return GR_FLAGS;
	case ZYDIS_CATEGORY_COND_BR: case ZYDIS_CATEGORY_UNCOND_BR: case ZYDIS_CATEGORY_CALL: case ZYDIS_CATEGORY_RET: return GR_BRANCH;
	case ZYDIS_CATEGORY_NOP: case ZYDIS_CATEGORY_WIDENOP: case ZYDIS_CATEGORY_PREFETCH: case ZYDIS_CATEGORY_PREFETCHWT1: return GR_NOP;
	case ZYDIS_CATEGORY_SEMAPHORE: return GR_XCHG;
	default: return -1;
	}
}

int group_of(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	if (banned(z) || z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return -1;
	/* Moves to segment, control and debug registers. */
	for (int i = 0; i < z->operand_count; i++) {
		ZydisRegisterClass c;
		if (op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		c = ZydisRegisterGetClass(op[i].reg.value);
		if (c == ZYDIS_REGCLASS_SEGMENT && (op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			return -1;
		if (c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG)
			return GR_PRIV;
		if (c == ZYDIS_REGCLASS_TEST)
			return -1;
	}
	switch (z->meta.isa_set) {
	case ZYDIS_ISA_SET_FXSAVE: case ZYDIS_ISA_SET_FXSAVE64: return GR_XSAVE;
	case ZYDIS_ISA_SET_SSEMXCSR: return GR_XSAVE;
	case ZYDIS_ISA_SET_SSE_PREFETCH: case ZYDIS_ISA_SET_PREFETCH_NOP: return GR_NOP;
	case ZYDIS_ISA_SET_SSE2MMX: case ZYDIS_ISA_SET_SSSE3MMX: return GR_MMX;
	case ZYDIS_ISA_SET_AVX512F_KOP: case ZYDIS_ISA_SET_AVX512BW_KOP: case ZYDIS_ISA_SET_AVX512DQ_KOP: return GR_KMASK;
	default: break;
	}
	if (z->meta.category == ZYDIS_CATEGORY_KMASK)
		return GR_KMASK;
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_BASE: case ZYDIS_ISA_EXT_LONGMODE: return base_group(z);
	case ZYDIS_ISA_EXT_MOVBE: return GR_MOV;
	case ZYDIS_ISA_EXT_BMI1: case ZYDIS_ISA_EXT_BMI2: case ZYDIS_ISA_EXT_ADOX_ADCX: case ZYDIS_ISA_EXT_LZCNT: case ZYDIS_ISA_EXT_TBM:
		return GR_BMI;
	case ZYDIS_ISA_EXT_PAUSE: case ZYDIS_ISA_EXT_CLFSH: case ZYDIS_ISA_EXT_CLFLUSHOPT: case ZYDIS_ISA_EXT_CLWB:
	case ZYDIS_ISA_EXT_CLZERO: case ZYDIS_ISA_EXT_CLDEMOTE: case ZYDIS_ISA_EXT_PREFETCHWT1: case ZYDIS_ISA_EXT_AMD3DNOW_PREFETCH:
	case ZYDIS_ISA_EXT_SERIALIZE: case ZYDIS_ISA_EXT_MOVDIR: return GR_NOP;
	case ZYDIS_ISA_EXT_RDWRFSGS: return GR_FSGS;
	case ZYDIS_ISA_EXT_INVPCID: case ZYDIS_ISA_EXT_SMAP: case ZYDIS_ISA_EXT_XSAVES: case ZYDIS_ISA_EXT_MONITOR: return GR_PRIV;
	case ZYDIS_ISA_EXT_X87: return GR_X87;
	case ZYDIS_ISA_EXT_MMX: case ZYDIS_ISA_EXT_AMD3DNOW: return GR_MMX;
	case ZYDIS_ISA_EXT_SSE: case ZYDIS_ISA_EXT_SSE2: return GR_SSE;
	case ZYDIS_ISA_EXT_SSE3: case ZYDIS_ISA_EXT_SSSE3: return GR_SSE3;
	case ZYDIS_ISA_EXT_SSE4: case ZYDIS_ISA_EXT_SSE4A: return GR_SSE4;
	case ZYDIS_ISA_EXT_AES: case ZYDIS_ISA_EXT_PCLMULQDQ: case ZYDIS_ISA_EXT_SHA: case ZYDIS_ISA_EXT_GFNI: case ZYDIS_ISA_EXT_AVXAES:
	case ZYDIS_ISA_EXT_VAES: case ZYDIS_ISA_EXT_VPCLMULQDQ: return GR_CRYPTO;
	case ZYDIS_ISA_EXT_AVX: return GR_AVX;
	case ZYDIS_ISA_EXT_AVX2: case ZYDIS_ISA_EXT_AVX_VNNI: return GR_AVX2;
	case ZYDIS_ISA_EXT_FMA: case ZYDIS_ISA_EXT_FMA4: return GR_FMA;
	case ZYDIS_ISA_EXT_F16C: return GR_F16C;
	case ZYDIS_ISA_EXT_AVX2GATHER: return GR_GATHER;
	case ZYDIS_ISA_EXT_AVX512EVEX: case ZYDIS_ISA_EXT_AVX512VEX:
		return z->meta.category == ZYDIS_CATEGORY_GATHER || z->meta.category == ZYDIS_CATEGORY_SCATTER ? GR_GATHER512 : GR_AVX512;
	case ZYDIS_ISA_EXT_XSAVE: case ZYDIS_ISA_EXT_XSAVEC: case ZYDIS_ISA_EXT_XSAVEOPT: return GR_XSAVE;
	default: return -1;
	}
}

bool group_is_vector(int g)
{
	return (g >= GR_X87 && g <= GR_XSAVE) || g == GR_INVALID;
}

/* Leaf as vcpu_has() takes it, register, bit. */
static const struct {
	u16 set;
	u16 leaf;
	u8 reg, bit;
} shown[] = {
	{ZYDIS_ISA_SET_ADOX_ADCX, 7, 1, 19}, {ZYDIS_ISA_SET_AES, 1, 2, 25}, {ZYDIS_ISA_SET_AVX, 1, 2, 28}, {ZYDIS_ISA_SET_AVX2, 7, 1, 5},
	{ZYDIS_ISA_SET_AVX2GATHER, 7, 1, 5}, {ZYDIS_ISA_SET_AVXAES, 1, 2, 25}, {ZYDIS_ISA_SET_BMI1, 7, 1, 3}, {ZYDIS_ISA_SET_BMI2, 7, 1, 8},
	{ZYDIS_ISA_SET_CLFLUSHOPT, 7, 1, 23}, {ZYDIS_ISA_SET_CLWB, 7, 1, 24}, {ZYDIS_ISA_SET_CLZERO, 0x8008, 1, 0},
	{ZYDIS_ISA_SET_CMPXCHG16B, 1, 2, 13}, {ZYDIS_ISA_SET_F16C, 1, 2, 29}, {ZYDIS_ISA_SET_FMA, 1, 2, 12}, {ZYDIS_ISA_SET_GFNI, 7, 2, 8},
	{ZYDIS_ISA_SET_AVX_GFNI, 7, 2, 8}, {ZYDIS_ISA_SET_LAHF, 0x8001, 2, 0}, {ZYDIS_ISA_SET_LZCNT, 0x8001, 2, 5}, {ZYDIS_ISA_SET_MOVBE, 1, 2, 22},
	{ZYDIS_ISA_SET_MOVDIR, 7, 2, 27}, {ZYDIS_ISA_SET_PCLMULQDQ, 1, 2, 1}, {ZYDIS_ISA_SET_POPCNT, 1, 2, 23}, {ZYDIS_ISA_SET_RDWRFSGS, 7, 1, 0},
	{ZYDIS_ISA_SET_SHA, 7, 1, 29}, {ZYDIS_ISA_SET_SSE3, 1, 2, 0}, {ZYDIS_ISA_SET_SSSE3, 1, 2, 9}, {ZYDIS_ISA_SET_SSSE3MMX, 1, 2, 9},
	{ZYDIS_ISA_SET_SSE4, 1, 2, 19}, {ZYDIS_ISA_SET_SSE42, 1, 2, 20}, {ZYDIS_ISA_SET_SSE4A, 0x8001, 2, 6}, {ZYDIS_ISA_SET_VAES, 7, 2, 9},
	{ZYDIS_ISA_SET_VPCLMULQDQ, 7, 2, 10}, {ZYDIS_ISA_SET_XSAVE, 1, 2, 26}, {ZYDIS_ISA_SET_XSAVEOPT, 0xd1, 0, 0},
	{ZYDIS_ISA_SET_XSAVEC, 0xd1, 0, 1}, {ZYDIS_ISA_SET_XSAVES, 0xd1, 0, 3}, {ZYDIS_ISA_SET_AMD3DNOW, 0x8001, 3, 31}, {ZYDIS_ISA_SET_SERIALIZE, 7, 3, 14},
	{ZYDIS_ISA_SET_AVX_VNNI, 71, 0, 4}, {ZYDIS_ISA_SET_FMA4, 0x8001, 2, 16}, {ZYDIS_ISA_SET_TBM, 0x8001, 2, 21},
	{ZYDIS_ISA_SET_INVPCID, 7, 1, 10}, {ZYDIS_ISA_SET_SMAP, 7, 1, 20}, {ZYDIS_ISA_SET_XOP, 0x8001, 2, 11},
};

/* AVX-512 sets by their names: the longest match decides. */
static const struct {
	const char *name;
	u16 leaf;
	u8 reg, bit;
} shown512[] = {
	{"AVX512F", 7, 1, 16}, {"AVX512DQ", 7, 1, 17}, {"AVX512_IFMA", 7, 1, 21}, {"AVX512PF", 7, 1, 26}, {"AVX512ER", 7, 1, 27},
	{"AVX512CD", 7, 1, 28}, {"AVX512BW", 7, 1, 30}, {"AVX512_VBMI2", 7, 2, 6}, {"AVX512_VBMI_", 7, 2, 1}, {"AVX512_GFNI", 7, 2, 8},
	{"AVX512_VAES", 7, 2, 9}, {"AVX512_VPCLMULQDQ", 7, 2, 10}, {"AVX512_VNNI", 7, 2, 11}, {"AVX512_BITALG", 7, 2, 12},
	{"AVX512_VPOPCNTDQ", 7, 2, 14}, {"AVX512_4VNNIW", 7, 3, 2}, {"AVX512_4FMAPS", 7, 3, 3}, {"AVX512_VP2INTERSECT", 7, 3, 8},
	{"AVX512_FP16", 7, 3, 23}, {"AVX512_BF16", 71, 0, 5},
};

bool gen_isa_shown(u16 set)
{
	const char *n;

	for (unsigned i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		if (shown[i].set == set)
			return vcpu_has(shown[i].leaf, shown[i].reg, shown[i].bit);
	n = ZydisISASetGetString(set);
	if (!n || strncmp(n, "AVX512", 6))
		return true;
	if ((strstr(n, "_128") || strstr(n, "_256")) && !strstr(n, "128N") && !vcpu_has(7, 1, 31))
		return false;
	for (unsigned i = 0; i < sizeof(shown512) / sizeof(shown512[0]); i++)
		if (!strncmp(n, shown512[i].name, strlen(shown512[i].name)))
			return vcpu_has(shown512[i].leaf, shown512[i].reg, shown512[i].bit);
	return true;
}
