/* SPDX-License-Identifier: MIT */
/*
 * CPUID: what usekvm supports on this host, what the VMM set for a vCPU, and the feature bits that follow from it.
 *
 * Feature numbers are word * 32 + bit over cpu.feat[]; feat holds what the VMM set, not masked by what we support.
 */
#ifndef USEKVM_CPU_CPUID_H
#define USEKVM_CPU_CPUID_H

#include "cpu/cpu.h"

enum cpuid_word {
	CPUW_1_EDX, CPUW_1_ECX, CPUW_7_EBX, CPUW_7_ECX, CPUW_7_EDX, CPUW_7_1_EAX, CPUW_81_EDX, CPUW_81_ECX, CPUW_D_1_EAX, CPUW_88_EBX,
	CPUW_87_EDX, CPUW_KVM_EAX, CPUW_6_EAX, CPUW_821_EAX, CPUW_COUNT
};
#define CPUF(w, b) (CPUW_##w * 32 + (b))

enum cpuid_feature {
	CPUID_FPU = CPUF(1_EDX, 0), CPUID_VME = CPUF(1_EDX, 1), CPUID_DE = CPUF(1_EDX, 2), CPUID_PSE = CPUF(1_EDX, 3),
	CPUID_TSC = CPUF(1_EDX, 4), CPUID_MSR = CPUF(1_EDX, 5), CPUID_PAE = CPUF(1_EDX, 6), CPUID_MCE = CPUF(1_EDX, 7),
	CPUID_CX8 = CPUF(1_EDX, 8), CPUID_APIC = CPUF(1_EDX, 9), CPUID_SEP = CPUF(1_EDX, 11), CPUID_MTRR = CPUF(1_EDX, 12),
	CPUID_PGE = CPUF(1_EDX, 13), CPUID_MCA = CPUF(1_EDX, 14), CPUID_CMOV = CPUF(1_EDX, 15), CPUID_PAT = CPUF(1_EDX, 16),
	CPUID_PSE36 = CPUF(1_EDX, 17), CPUID_CLFLUSH = CPUF(1_EDX, 19), CPUID_MMX = CPUF(1_EDX, 23), CPUID_FXSR = CPUF(1_EDX, 24),
	CPUID_SSE = CPUF(1_EDX, 25), CPUID_SSE2 = CPUF(1_EDX, 26), CPUID_SS = CPUF(1_EDX, 27), CPUID_HT = CPUF(1_EDX, 28),

	CPUID_SSE3 = CPUF(1_ECX, 0), CPUID_PCLMULQDQ = CPUF(1_ECX, 1), CPUID_MONITOR = CPUF(1_ECX, 3), CPUID_VMX = CPUF(1_ECX, 5),
	CPUID_SSSE3 = CPUF(1_ECX, 9), CPUID_FMA = CPUF(1_ECX, 12), CPUID_CX16 = CPUF(1_ECX, 13), CPUID_PDCM = CPUF(1_ECX, 15),
	CPUID_PCID = CPUF(1_ECX, 17), CPUID_SSE41 = CPUF(1_ECX, 19), CPUID_SSE42 = CPUF(1_ECX, 20), CPUID_X2APIC = CPUF(1_ECX, 21),
	CPUID_MOVBE = CPUF(1_ECX, 22), CPUID_POPCNT = CPUF(1_ECX, 23), CPUID_TSC_DEADLINE = CPUF(1_ECX, 24), CPUID_AES = CPUF(1_ECX, 25),
	CPUID_XSAVE = CPUF(1_ECX, 26), CPUID_OSXSAVE = CPUF(1_ECX, 27), CPUID_AVX = CPUF(1_ECX, 28), CPUID_F16C = CPUF(1_ECX, 29),
	CPUID_RDRAND = CPUF(1_ECX, 30), CPUID_HYPERVISOR = CPUF(1_ECX, 31),

	CPUID_FSGSBASE = CPUF(7_EBX, 0), CPUID_TSC_ADJUST = CPUF(7_EBX, 1), CPUID_BMI1 = CPUF(7_EBX, 3), CPUID_AVX2 = CPUF(7_EBX, 5),
	CPUID_SMEP = CPUF(7_EBX, 7), CPUID_BMI2 = CPUF(7_EBX, 8), CPUID_ERMS = CPUF(7_EBX, 9), CPUID_INVPCID = CPUF(7_EBX, 10),
	CPUID_AVX512F = CPUF(7_EBX, 16), CPUID_RDSEED = CPUF(7_EBX, 18), CPUID_ADX = CPUF(7_EBX, 19), CPUID_SMAP = CPUF(7_EBX, 20),
	CPUID_CLFLUSHOPT = CPUF(7_EBX, 23), CPUID_CLWB = CPUF(7_EBX, 24), CPUID_SHA = CPUF(7_EBX, 29),

	CPUID_UMIP = CPUF(7_ECX, 2), CPUID_PKU = CPUF(7_ECX, 3), CPUID_OSPKE = CPUF(7_ECX, 4), CPUID_WAITPKG = CPUF(7_ECX, 5),
	CPUID_LA57 = CPUF(7_ECX, 16), CPUID_RDPID = CPUF(7_ECX, 22), CPUID_CLDEMOTE = CPUF(7_ECX, 25), CPUID_MOVDIRI = CPUF(7_ECX, 27),
	CPUID_MOVDIR64B = CPUF(7_ECX, 28),

	CPUID_FSRM = CPUF(7_EDX, 4), CPUID_SERIALIZE = CPUF(7_EDX, 14), CPUID_SPEC_CTRL = CPUF(7_EDX, 26), CPUID_STIBP = CPUF(7_EDX, 27),
	CPUID_FLUSH_L1D = CPUF(7_EDX, 28), CPUID_ARCH_CAPABILITIES = CPUF(7_EDX, 29), CPUID_SPEC_CTRL_SSBD = CPUF(7_EDX, 31),

	CPUID_SYSCALL = CPUF(81_EDX, 11), CPUID_NX = CPUF(81_EDX, 20), CPUID_MMXEXT = CPUF(81_EDX, 22), CPUID_FXSR_OPT = CPUF(81_EDX, 25),
	CPUID_PDPE1GB = CPUF(81_EDX, 26), CPUID_RDTSCP = CPUF(81_EDX, 27), CPUID_LM = CPUF(81_EDX, 29),

	CPUID_LAHF_LM = CPUF(81_ECX, 0), CPUID_SVM = CPUF(81_ECX, 2), CPUID_CR8_LEGACY = CPUF(81_ECX, 4), CPUID_ABM = CPUF(81_ECX, 5),
	CPUID_SSE4A = CPUF(81_ECX, 6), CPUID_MISALIGNSSE = CPUF(81_ECX, 7), CPUID_PREFETCHW = CPUF(81_ECX, 8), CPUID_OSVW = CPUF(81_ECX, 9),
	CPUID_TBM = CPUF(81_ECX, 21), CPUID_TOPOEXT = CPUF(81_ECX, 22),

	CPUID_XSAVEOPT = CPUF(D_1_EAX, 0), CPUID_XSAVEC = CPUF(D_1_EAX, 1), CPUID_XGETBV1 = CPUF(D_1_EAX, 2), CPUID_XSAVES = CPUF(D_1_EAX, 3),

	CPUID_CLZERO = CPUF(88_EBX, 0), CPUID_XSAVEERPTR = CPUF(88_EBX, 2), CPUID_WBNOINVD = CPUF(88_EBX, 9), CPUID_AMD_IBPB = CPUF(88_EBX, 12),
	CPUID_AMD_IBRS = CPUF(88_EBX, 14), CPUID_AMD_STIBP = CPUF(88_EBX, 15), CPUID_AMD_SSBD = CPUF(88_EBX, 24),
	CPUID_VIRT_SSBD = CPUF(88_EBX, 25),

	CPUID_INVARIANT_TSC = CPUF(87_EDX, 8), CPUID_ARAT = CPUF(6_EAX, 2),

	CPUID_NO_NESTED_DATA_BP = CPUF(821_EAX, 0), CPUID_LFENCE_SERIAL = CPUF(821_EAX, 2), CPUID_NULL_SEL_CLR_BASE = CPUF(821_EAX, 6),
	CPUID_AUTO_IBRS = CPUF(821_EAX, 8),
};

static inline bool cpu_has(const struct cpu *c, enum cpuid_feature f)
{
	return (c->feat[(unsigned)f >> 5] >> (f & 31)) & 1;
}

/* The host CPU's maker. */
bool cpuid_host_is_amd(void) hidden;
/* Does the guest's CPUID show MONITOR and MWAIT now? */
bool cpuid_has_mwait(const struct cpu *c) hidden;
/* The guest CPU's maker, from leaf 0 (Hygon counts as AMD, Zhaoxin and Centaur as Intel). A vCPU without CPUID counts as Intel. */
bool cpu_is_amd(const struct cpu *c) hidden;
bool cpuid_host_is_amd(void) hidden;

/*
 * KVM_GET_SUPPORTED_CPUID. *n: room in, entries out. -E2BIG if there is not enough room (then *n is how many are needed).
 */
int cpuid_supported(struct kvm_cpuid_entry2 *e, u32 *n) hidden;

/* Is the feature in that list? Of the words of leaves 1 and 7. */
bool cpuid_shows(enum cpuid_feature f) hidden;

/* KVM_SET_CPUID2: copies the list. 0, -ENOMEM, -E2BIG. */
#define CPUID_MAX_ENTRIES 256
int cpuid_set(struct cpu *c, const struct kvm_cpuid_entry2 *e, u32 n) hidden;

/* What the CPUID instruction answers: r = eax, ebx, ecx, edx. With the runtime bits; a leaf out of range as the guest's vendor does. */
void cpuid_query(struct cpu *c, u32 leaf, u32 sub, u32 r[4]) hidden;

/* The entry the VMM set, or NULL. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct cpu *c, u32 leaf, u32 sub) hidden;

/* Write the runtime bits (OSXSAVE, OSPKE, xsave sizes) into the stored entries, as KVM_GET_CPUID2 shows them. */
void cpuid_update_runtime(struct cpu *c) hidden;
/* An entry as the VMM gives it becomes what this vCPU shows of it now. apic: the LAPIC is enabled; no_unhalt: KVM_FEATURE_PV_UNHALT is hidden. */
void cpuid_entry_runtime(const struct cpu *c, struct kvm_cpuid_entry2 *e, bool apic, bool no_unhalt) hidden;

/* Take one of KVM's own features (KVM_FEATURE_*) out of the list. */
void cpuid_hide_kvm_feature(struct cpu *c, unsigned feature) hidden;

/* The vCPU's APIC base MSR is kvm/'s: it tells the enable bit here, shown in leaf 1 EDX.APIC. */
void cpuid_set_apic_enabled(struct cpu *c, bool on) hidden;

/* XSAVE: bytes of the standard format for these components; of the compacted one. */
u32 cpuid_xsave_size(u64 xfeatures, bool compacted) hidden;
/* XCR0 bits (host's, without what we do not show). */
u64 cpuid_xcr0_mask(void) hidden;

#endif
