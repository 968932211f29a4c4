/* SPDX-License-Identifier: MIT */
/*
 * See feature.h. The AVX-512 sets come in ranges of the enumeration, one for each vector length; the 128- and 256-bit ones need VL too.
 */
#include "decode/feature.h"
#include "cpu/cpuid.h"

#define F(w, b) CPUF(w, b)
enum { NEVER = -1, ALWAYS = -2 };

static int base_feature(ZydisISASet s)
{
	switch (s) {
	case ZYDIS_ISA_SET_ADOX_ADCX: return CPUID_ADX;
	case ZYDIS_ISA_SET_AES: case ZYDIS_ISA_SET_AVXAES: return CPUID_AES;
	case ZYDIS_ISA_SET_AVX: return CPUID_AVX;
	case ZYDIS_ISA_SET_AVX2: case ZYDIS_ISA_SET_AVX2GATHER: return CPUID_AVX2;
	case ZYDIS_ISA_SET_AVX_VNNI: return F(7_1_EAX, 4);
	case ZYDIS_ISA_SET_AVX_GFNI: case ZYDIS_ISA_SET_GFNI: return F(7_ECX, 8);
	case ZYDIS_ISA_SET_BMI1: return CPUID_BMI1;
	case ZYDIS_ISA_SET_BMI2: return CPUID_BMI2;
	case ZYDIS_ISA_SET_CLFLUSHOPT: return CPUID_CLFLUSHOPT;
	case ZYDIS_ISA_SET_CLFSH: return CPUID_CLFLUSH;
	case ZYDIS_ISA_SET_CLWB: return CPUID_CLWB;
	case ZYDIS_ISA_SET_CLZERO: return CPUID_CLZERO;
	case ZYDIS_ISA_SET_CMOV: case ZYDIS_ISA_SET_FCMOV: return CPUID_CMOV;
	case ZYDIS_ISA_SET_CMPXCHG16B: return CPUID_CX16;
	case ZYDIS_ISA_SET_F16C: return CPUID_F16C;
	case ZYDIS_ISA_SET_FMA: return CPUID_FMA;
	case ZYDIS_ISA_SET_FXSAVE: case ZYDIS_ISA_SET_FXSAVE64: return CPUID_FXSR;
	case ZYDIS_ISA_SET_INVPCID: return CPUID_INVPCID;
	case ZYDIS_ISA_SET_MOVBE: return CPUID_MOVBE;
	case ZYDIS_ISA_SET_MOVDIR: return CPUID_MOVDIRI;
	case ZYDIS_ISA_SET_PCLMULQDQ: return CPUID_PCLMULQDQ;
	case ZYDIS_ISA_SET_PENTIUMMMX: return CPUID_MMX;
	case ZYDIS_ISA_SET_PKU: return CPUID_PKU;
	case ZYDIS_ISA_SET_POPCNT: return CPUID_POPCNT;
	case ZYDIS_ISA_SET_RDPID: return CPUID_RDPID;
	case ZYDIS_ISA_SET_RDRAND: return CPUID_RDRAND;
	case ZYDIS_ISA_SET_RDSEED: return CPUID_RDSEED;
	case ZYDIS_ISA_SET_RDTSCP: return CPUID_RDTSCP;
	case ZYDIS_ISA_SET_RDWRFSGS: return CPUID_FSGSBASE;
	case ZYDIS_ISA_SET_SERIALIZE: return CPUID_SERIALIZE;
	case ZYDIS_ISA_SET_SHA: return CPUID_SHA;
	case ZYDIS_ISA_SET_SMAP: return CPUID_SMAP;
	case ZYDIS_ISA_SET_SSE: case ZYDIS_ISA_SET_SSEMXCSR: return CPUID_SSE;
	case ZYDIS_ISA_SET_SSE2: case ZYDIS_ISA_SET_SSE2MMX: return CPUID_SSE2;
	case ZYDIS_ISA_SET_SSE3: case ZYDIS_ISA_SET_SSE3X87: return CPUID_SSE3;
	case ZYDIS_ISA_SET_SSSE3: case ZYDIS_ISA_SET_SSSE3MMX: return CPUID_SSSE3;
	case ZYDIS_ISA_SET_SSE4: return CPUID_SSE41;
	case ZYDIS_ISA_SET_SSE42: return CPUID_SSE42;
	case ZYDIS_ISA_SET_SSE4A: return CPUID_SSE4A;
	case ZYDIS_ISA_SET_VAES: return F(7_ECX, 9);
	case ZYDIS_ISA_SET_VPCLMULQDQ: return F(7_ECX, 10);
	case ZYDIS_ISA_SET_XSAVE: return CPUID_XSAVE;
	case ZYDIS_ISA_SET_XSAVEC: return CPUID_XSAVEC;
	case ZYDIS_ISA_SET_XSAVEOPT: return CPUID_XSAVEOPT;
	case ZYDIS_ISA_SET_XSAVES: return CPUID_XSAVES;
	case ZYDIS_ISA_SET_X87: return CPUID_FPU;
	/* Not offered by cpuid_supported(), or not made by any CPU that we run on. */
	case ZYDIS_ISA_SET_AMD3DNOW: case ZYDIS_ISA_SET_AMD_INVLPGB: case ZYDIS_ISA_SET_AMX_BF16: case ZYDIS_ISA_SET_AMX_INT8:
	case ZYDIS_ISA_SET_AMX_TILE: case ZYDIS_ISA_SET_ENQCMD: case ZYDIS_ISA_SET_FMA4: case ZYDIS_ISA_SET_HRESET:
	case ZYDIS_ISA_SET_KEYLOCKER: case ZYDIS_ISA_SET_KEYLOCKER_WIDE: case ZYDIS_ISA_SET_KNCE: case ZYDIS_ISA_SET_KNCJKBR:
	case ZYDIS_ISA_SET_KNCSTREAM: case ZYDIS_ISA_SET_KNCV: case ZYDIS_ISA_SET_KNC_MISC: case ZYDIS_ISA_SET_KNC_PF_HINT:
	case ZYDIS_ISA_SET_LWP: case ZYDIS_ISA_SET_MCOMMIT: case ZYDIS_ISA_SET_PADLOCK_ACE: case ZYDIS_ISA_SET_PADLOCK_PHE:
	case ZYDIS_ISA_SET_PADLOCK_PMM: case ZYDIS_ISA_SET_PADLOCK_RNG: case ZYDIS_ISA_SET_PCONFIG: case ZYDIS_ISA_SET_PT:
	case ZYDIS_ISA_SET_RDPRU: case ZYDIS_ISA_SET_RTM: case ZYDIS_ISA_SET_SGX: case ZYDIS_ISA_SET_SGX_ENCLV: case ZYDIS_ISA_SET_SNP:
	case ZYDIS_ISA_SET_TBM: case ZYDIS_ISA_SET_TDX: case ZYDIS_ISA_SET_TSX_LDTRK: case ZYDIS_ISA_SET_UINTR:
	case ZYDIS_ISA_SET_WAITPKG: case ZYDIS_ISA_SET_XOP: return NEVER;
	default: return ALWAYS;
	}
}

static bool between(ZydisISASet s, ZydisISASet lo, ZydisISASet hi)
{
	return s >= lo && s <= hi;
}

/* Is s an AVX-512 set, and which feature? */
static bool avx512_feature(ZydisISASet s, int *feature)
{
	static const struct {
		ZydisISASet lo, hi;
		s16 f;
	} t[] = {
		{ ZYDIS_ISA_SET_AVX512BW_128, ZYDIS_ISA_SET_AVX512BW_KOP, F(7_EBX, 30) },
		{ ZYDIS_ISA_SET_AVX512CD_128, ZYDIS_ISA_SET_AVX512CD_512, F(7_EBX, 28) },
		{ ZYDIS_ISA_SET_AVX512DQ_128, ZYDIS_ISA_SET_AVX512DQ_SCALAR, F(7_EBX, 17) },
		{ ZYDIS_ISA_SET_AVX512ER_512, ZYDIS_ISA_SET_AVX512ER_SCALAR, F(7_EBX, 27) },
		{ ZYDIS_ISA_SET_AVX512F_128, ZYDIS_ISA_SET_AVX512F_SCALAR, CPUID_AVX512F },
		{ ZYDIS_ISA_SET_AVX512PF_512, ZYDIS_ISA_SET_AVX512PF_512, F(7_EBX, 26) },
		{ ZYDIS_ISA_SET_AVX512_4FMAPS_512, ZYDIS_ISA_SET_AVX512_4FMAPS_SCALAR, F(7_EDX, 3) },
		{ ZYDIS_ISA_SET_AVX512_4VNNIW_512, ZYDIS_ISA_SET_AVX512_4VNNIW_512, F(7_EDX, 2) },
		{ ZYDIS_ISA_SET_AVX512_BF16_128, ZYDIS_ISA_SET_AVX512_BF16_512, F(7_1_EAX, 5) },
		{ ZYDIS_ISA_SET_AVX512_BITALG_128, ZYDIS_ISA_SET_AVX512_BITALG_512, F(7_ECX, 12) },
		{ ZYDIS_ISA_SET_AVX512_FP16_128, ZYDIS_ISA_SET_AVX512_FP16_SCALAR, F(7_EDX, 23) },
		{ ZYDIS_ISA_SET_AVX512_GFNI_128, ZYDIS_ISA_SET_AVX512_GFNI_512, F(7_ECX, 8) },
		{ ZYDIS_ISA_SET_AVX512_IFMA_128, ZYDIS_ISA_SET_AVX512_IFMA_512, F(7_EBX, 21) },
		{ ZYDIS_ISA_SET_AVX512_VAES_128, ZYDIS_ISA_SET_AVX512_VAES_512, F(7_ECX, 9) },
		{ ZYDIS_ISA_SET_AVX512_VBMI2_128, ZYDIS_ISA_SET_AVX512_VBMI2_512, F(7_ECX, 6) },
		{ ZYDIS_ISA_SET_AVX512_VBMI_128, ZYDIS_ISA_SET_AVX512_VBMI_512, F(7_ECX, 1) },
		{ ZYDIS_ISA_SET_AVX512_VNNI_128, ZYDIS_ISA_SET_AVX512_VNNI_512, F(7_ECX, 11) },
		{ ZYDIS_ISA_SET_AVX512_VP2INTERSECT_128, ZYDIS_ISA_SET_AVX512_VP2INTERSECT_512, F(7_EDX, 8) },
		{ ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128, ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512, F(7_ECX, 10) },
		{ ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128, ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512, F(7_ECX, 14) },
	};

	if (!between(s, t[0].lo, t[ARRAY_SIZE(t) - 1].hi))
		return false;
	for (unsigned k = 0; k < ARRAY_SIZE(t); k++)
		if (between(s, t[k].lo, t[k].hi)) {
			*feature = t[k].f;
			return true;
		}
	return false;
}

bool insn_allowed(const struct cpu *c, const ZydisDecodedInstruction *z)
{
	bool vl = z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && z->avx.vector_length < 512;
	int f;

	if (!c->ncpuid)
		return true;
	if (avx512_feature(z->meta.isa_set, &f)) {
		const char *name = ZydisISASetGetString(z->meta.isa_set);
		unsigned n = 0;
		while (name[n])
			n++;
		/* ..._128 and ..._256: packed forms; scalar, 128N and mask ones need no VL */
		bool packed_short = n > 4 && (name[n - 1] == '8' || name[n - 1] == '6');
		return cpu_has(c, CPUID_AVX512F) && cpu_has(c, (enum cpuid_feature)f) && (!vl || !packed_short || cpu_has(c, F(7_EBX, 31)));
	}
	f = base_feature(z->meta.isa_set);
	return f == ALWAYS || (f != NEVER && cpu_has(c, (enum cpuid_feature)f));
}
