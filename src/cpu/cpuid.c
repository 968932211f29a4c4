/* SPDX-License-Identifier: MIT */
/*
 * CPUID. Three things: the list of what usekvm can do here (the host's own CPUID through the masks below), the list the VMM set, and the
 * answers to the guest.
 *
 * A user-mode feature is shown if the host has it, since such instructions run as themselves. A system feature is shown if an engine
 * implements it and the host has it: VMMs mix the list with the CPUID instruction, so it should be a subset of the host's, with the
 * exceptions that KVM makes too (x2APIC, TSC deadline, TSC_ADJUST, hypervisor) and bits that say "not vulnerable".
 */
#include "cpu/cpuid.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>

#include "base/process.h"

#define B(n) (1u << (n))
#define F(f) B(CPUID_##f & 31)

#define VENDOR_AMD_EBX 0x68747541u   /* "Auth" */
#define VENDOR_HYGON_EBX 0x6f677948u /* "Hygo" */

/* Bits that may pass from the host, per word. */
static const u32 show[CPUW_COUNT] = {
	[CPUW_1_EDX] = F(FPU) | F(VME) | F(DE) | F(PSE) | F(TSC) | F(MSR) | F(PAE) | F(MCE) | F(CX8) | F(APIC) | F(SEP) | F(MTRR) | F(PGE) |
		       F(MCA) | F(CMOV) | F(PAT) | F(PSE36) | F(CLFLUSH) | F(MMX) | F(FXSR) | F(SSE) | F(SSE2) | F(SS),
	[CPUW_1_ECX] = F(SSE3) | F(PCLMULQDQ) | F(SSSE3) | F(FMA) | F(CX16) | F(PCID) | F(SSE41) | F(SSE42) | F(MOVBE) | F(POPCNT) | F(AES) |
		       F(XSAVE) | F(AVX) | F(F16C) | F(RDRAND),
	[CPUW_7_EBX] = F(FSGSBASE) | F(BMI1) | F(AVX2) | B(6) /* FDP_EXCPTN_ONLY */ | F(SMEP) | F(BMI2) | F(ERMS) | F(INVPCID) |
		       B(13) /* no FCS, FDS */ | F(AVX512F) | B(17) /* DQ */ | F(RDSEED) | F(ADX) | F(SMAP) | B(21) /* IFMA */ |
		       F(CLFLUSHOPT) | F(CLWB) | B(28) /* CD */ | F(SHA) | B(30) /* BW */ | B(31) /* VL */,
	[CPUW_7_ECX] = B(1) /* VBMI */ | F(UMIP) | B(6) /* VBMI2 */ | B(8) /* GFNI */ | B(9) /* VAES */ | B(10) /* VPCLMULQDQ */ |
		       B(11) /* VNNI */ | B(12) /* BITALG */ | B(14) /* VPOPCNTDQ */ | F(LA57) | F(RDPID) | F(CLDEMOTE),
	[CPUW_7_EDX] = F(FSRM) | B(8) /* VP2INTERSECT */ | B(10) /* MD_CLEAR */ | B(23) /* FP16 */ | F(SPEC_CTRL) | F(STIBP) |
		       F(SPEC_CTRL_SSBD),
	[CPUW_7_1_EAX] = B(0) | B(1) | B(2) /* SHA512, SM3, SM4 */ | B(4) /* AVX_VNNI */ | B(5) /* BF16 */ | B(10) | B(11) |
			 B(12) /* FZRM, FSRS, FSRC */ | B(23) /* AVX_IFMA */,
	[CPUW_81_EDX] = 0x0183f3ff /* AMD: the same as 1.EDX */ | F(SYSCALL) | F(NX) | F(MMXEXT) | F(FXSR_OPT) | F(PDPE1GB) | F(RDTSCP) | F(LM),
	[CPUW_81_ECX] = F(LAHF_LM) | B(1) /* CMP_LEGACY */ | F(ABM) | F(SSE4A) | F(MISALIGNSSE) | F(PREFETCHW) | F(TOPOEXT),
	[CPUW_D_1_EAX] = F(XSAVEOPT) | F(XSAVEC) | F(XGETBV1) | F(XSAVES),
	[CPUW_88_EBX] = F(CLZERO) | F(XSAVEERPTR) | F(WBNOINVD),
	[CPUW_87_EDX] = F(INVARIANT_TSC),
	[CPUW_KVM_EAX] = B(KVM_FEATURE_CLOCKSOURCE) | B(KVM_FEATURE_NOP_IO_DELAY) | B(KVM_FEATURE_CLOCKSOURCE2) |
			 B(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT) | B(KVM_FEATURE_PV_UNHALT) | B(KVM_FEATURE_PV_SEND_IPI) |
			 B(KVM_FEATURE_PV_SCHED_YIELD),
	[CPUW_6_EAX] = F(ARAT),
	[CPUW_821_EAX] = F(NO_NESTED_DATA_BP) | F(LFENCE_SERIAL),
};

static void host_cpuid(u32 leaf, u32 sub, struct kvm_cpuid_entry2 *e)
{
	__asm__ volatile("cpuid" : "=a"(e->eax), "=b"(e->ebx), "=c"(e->ecx), "=d"(e->edx) : "a"(leaf), "c"(sub));
	e->function = leaf;
	e->index = sub;
	e->flags = 0;
	e->padding[0] = e->padding[1] = e->padding[2] = 0;
}

static bool vendor_is_amd(u32 ebx)
{
	return ebx == VENDOR_AMD_EBX || ebx == VENDOR_HYGON_EBX;
}

bool cpuid_host_is_amd(void)
{
	struct kvm_cpuid_entry2 e;

	host_cpuid(0, 0, &e);
	return vendor_is_amd(e.ebx);
}

u64 cpuid_xcr0_mask(void)
{
	struct kvm_cpuid_entry2 e;

	host_cpuid(1, 0, &e);
	if (!(e.ecx & F(XSAVE)) || !(e.ecx & F(OSXSAVE)))
		return 0;
	u32 lo, hi;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	(void)hi;
	return lo & 0xe7; /* x87, SSE, AVX, AVX-512; PKRU, MPX and AMX are not done */
}

/* SDM 1, 13.4.2 and 13.4.3. Sizes, offsets and alignment of the components are the host's: the state is kept in its format. */
u32 cpuid_xsave_size(u64 xf, bool compacted)
{
	u32 size = 576;

	for (unsigned n = 2; n < 63; n++) {
		struct kvm_cpuid_entry2 e;

		if (!(xf & BIT(n)))
			continue;
		host_cpuid(0xd, n, &e);
		if (compacted)
			size = (e.ecx & 2 ? ALIGN_UP(size, 64u) : size) + e.eax;
		else
			size = MAX(size, e.eax + e.ebx);
	}
	return size;
}

/* ---- what is supported ---- */

struct list {
	struct kvm_cpuid_entry2 *e;
	u32 n, max;
};

static void add(struct list *l, const struct kvm_cpuid_entry2 *e)
{
	if (l->n < l->max)
		l->e[l->n] = *e;
	l->n++;
}

static void clear(struct kvm_cpuid_entry2 *e)
{
	e->eax = e->ebx = e->ecx = e->edx = 0;
}

static void add_subleafs(struct list *l, u32 leaf, u32 max, u32 type_mask)
{
	for (u32 sub = 0; sub < max; sub++) {
		struct kvm_cpuid_entry2 e;

		host_cpuid(leaf, sub, &e);
		e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		add(l, &e);
		if (!(e.eax & type_mask))
			break;
	}
}

static void add_leaf7(struct list *l, struct kvm_cpuid_entry2 *e)
{
	bool amd = cpuid_host_is_amd();

	e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	e->eax = MIN(e->eax, 1u);
	e->ebx = (e->ebx & show[CPUW_7_EBX]) | F(TSC_ADJUST);
	e->ecx &= show[CPUW_7_ECX];
	e->edx &= show[CPUW_7_EDX];
	if (!amd)
		e->edx |= F(ARCH_CAPABILITIES);
	u32 sub = e->eax;
	add(l, e);
	if (!sub)
		return;
	host_cpuid(7, 1, e);
	e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	e->eax &= show[CPUW_7_1_EAX];
	e->edx &= B(4) | B(5) | B(10) | B(14); /* AVX_VNNI_INT8, AVX_NE_CONVERT, AVX_VNNI_INT16, PREFETCHI */
	e->ebx = e->ecx = 0;
	add(l, e);
}

static void add_leaf_d(struct list *l)
{
	u64 mask = cpuid_xcr0_mask();
	struct kvm_cpuid_entry2 e;

	host_cpuid(0xd, 0, &e);
	e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	if (!mask)
		clear(&e);
	else {
		e.eax = (u32)mask;
		e.edx = (u32)(mask >> 32);
		e.ebx = e.ecx = cpuid_xsave_size(mask, false);
	}
	add(l, &e);
	if (!mask)
		return;
	host_cpuid(0xd, 1, &e);
	e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	e.eax &= show[CPUW_D_1_EAX];
	e.ebx = e.eax & F(XSAVEC) ? cpuid_xsave_size(mask, true) : 0;
	e.ecx = e.edx = 0;
	add(l, &e);
	for (unsigned n = 2; n < 63; n++) {
		if (!(mask & BIT(n)))
			continue;
		host_cpuid(0xd, n, &e);
		e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		e.edx = 0;
		add(l, &e);
	}
}

static void add_basic(struct list *l, u32 leaf)
{
	struct kvm_cpuid_entry2 e;

	host_cpuid(leaf, 0, &e);
	switch (leaf) {
	case 0:
		e.eax = MIN(e.eax, 0x1fu);
		break;
	case 1:
		e.ebx &= 0x00ffffff; /* not the APIC id of the CPU we happen to be on */
		e.ecx = (e.ecx & show[CPUW_1_ECX]) | F(X2APIC) | F(TSC_DEADLINE) | F(HYPERVISOR);
		e.edx = (e.edx & show[CPUW_1_EDX]) | F(APIC);
		break;
	case 2: /* cache descriptors: the host's */
	case 0x15:
	case 0x16: /* TSC and core frequency: the guest's TSC is the host's */
		break;
	case 4:
		add_subleafs(l, 4, 8, 0x1f);
		return;
	case 6:
		clear(&e);
		e.eax = F(ARAT);
		break;
	case 7:
		add_leaf7(l, &e);
		return;
	case 0xb:
	case 0x1f: /* no topology: the VMM knows it, not we */
		e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		clear(&e);
		break;
	case 0xd:
		add_leaf_d(l);
		return;
	default:
		clear(&e);
		break;
	}
	add(l, &e);
}

static void add_kvm(struct list *l)
{
	/* "KVMKVMKVM" */
	struct kvm_cpuid_entry2 e = {
		.function = KVM_CPUID_SIGNATURE, .eax = KVM_CPUID_FEATURES, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d
	};

	add(l, &e);
	e = (struct kvm_cpuid_entry2){ .function = KVM_CPUID_FEATURES, .eax = show[CPUW_KVM_EAX] };
	if (process_has_run_delay())
		e.eax |= B(KVM_FEATURE_STEAL_TIME);
	add(l, &e);
}

static void add_extended(struct list *l, u32 leaf, bool amd)
{
	struct kvm_cpuid_entry2 e;

	host_cpuid(leaf, 0, &e);
	switch (leaf) {
	case 0x80000000:
		e.eax = MIN(e.eax, amd ? 0x80000021u : 0x80000008u);
		break;
	case 0x80000001:
		e.ebx = amd ? e.ebx & 0xf0000000 : 0;
		e.ecx &= show[CPUW_81_ECX];
		e.edx &= show[CPUW_81_EDX];
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
	case 0x80000005:
	case 0x80000006:
	case 0x80000019:
	case 0x8000001a:
		break;
	case 0x80000007:
		e.eax = e.ebx = e.ecx = 0;
		e.edx &= show[CPUW_87_EDX];
		break;
	case 0x80000008:
		e.ebx &= show[CPUW_88_EBX];
		if (amd)
			e.ebx |= B(26) | B(29); /* SSB_NO, BTC_NO: guest code is not what the host's predictors see */
		e.edx = 0;
		break;
	case 0x8000001d:
		add_subleafs(l, leaf, 8, 0x1f);
		return;
	case 0x80000021:
		e.eax = (e.eax & show[CPUW_821_EAX]) | F(LFENCE_SERIAL) | F(NULL_SEL_CLR_BASE) | F(AUTO_IBRS) | B(29); /* SRSO_NO */
		e.ebx = 0;
		e.ecx = B(1) | B(2); /* TSA_SQ_NO, TSA_L1_NO */
		e.edx = 0;
		break;
	default:
		clear(&e);
		break;
	}
	add(l, &e);
}

int cpuid_supported(struct kvm_cpuid_entry2 *out, u32 *n)
{
	struct list l = { out, 0, *n };
	struct kvm_cpuid_entry2 e;
	bool amd = cpuid_host_is_amd();

	host_cpuid(0, 0, &e);
	for (u32 leaf = 0, last = MIN(e.eax, 0x1fu); leaf <= last; leaf++)
		add_basic(&l, leaf);
	add_kvm(&l);
	host_cpuid(0x80000000, 0, &e);
	for (u32 leaf = 0x80000000, last = MIN(e.eax, amd ? 0x80000021u : 0x80000008u); leaf <= last; leaf++)
		add_extended(&l, leaf, amd);
	*n = l.n;
	return l.n > l.max ? -E2BIG : 0;
}

bool cpuid_shows(enum cpuid_feature f)
{
	unsigned word = (unsigned)f >> 5;
	struct kvm_cpuid_entry2 e;

	host_cpuid(word == CPUW_7_EBX || word == CPUW_7_ECX || word == CPUW_7_EDX ? 7 : 1, 0, &e);
	const u32 host = word == CPUW_1_EDX ? e.edx : word == CPUW_1_ECX || word == CPUW_7_ECX ? e.ecx : word == CPUW_7_EBX ? e.ebx : e.edx;
	return host & show[word] & B(f & 31);
}

/* ---- what the VMM set ---- */

const struct kvm_cpuid_entry2 *cpuid_find(const struct cpu *c, u32 leaf, u32 sub)
{
	for (unsigned n = 0; n < c->ncpuid; n++) {
		const struct kvm_cpuid_entry2 *e = &c->cpuid[n];

		if (e->function == leaf && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == sub))
			return e;
	}
	return NULL;
}

/* "KVMKVMKVM": a VMM may put these leaves above those of another hypervisor. 0: none. */
static u32 kvm_base(const struct cpu *c)
{
	for (unsigned n = 0; n < c->ncpuid; n++) {
		const struct kvm_cpuid_entry2 *e = &c->cpuid[n];

		if (e->function >= KVM_CPUID_SIGNATURE && e->function < KVM_CPUID_SIGNATURE + 0x10000 && !(e->function & 0xff) &&
		    e->ebx == 0x4b4d564b && e->ecx == 0x564b4d56 && e->edx == 0x4d)
			return e->function;
	}
	return 0;
}

void cpuid_hide_kvm_feature(struct cpu *c, unsigned feature)
{
	u32 base = kvm_base(c);
	struct kvm_cpuid_entry2 *e = base ? (struct kvm_cpuid_entry2 *)cpuid_find(c, base + 1, 0) : NULL;

	if (!e)
		return;
	e->eax &= ~B(feature);
	c->feat[CPUW_KVM_EAX] = e->eax;
}

bool cpu_is_amd(const struct cpu *c)
{
	return c->feat[15];
}

static void compute_features(struct cpu *c)
{
	static const struct {
		u32 leaf, sub;
		u8 reg; /* 0..3: eax, ebx, ecx, edx */
	} word[CPUW_COUNT] = {
		[CPUW_1_EDX] = { 1, 0, 3 },           [CPUW_1_ECX] = { 1, 0, 2 },          [CPUW_7_EBX] = { 7, 0, 1 },
		[CPUW_7_ECX] = { 7, 0, 2 },           [CPUW_7_EDX] = { 7, 0, 3 },          [CPUW_7_1_EAX] = { 7, 1, 0 },
		[CPUW_81_EDX] = { 0x80000001, 0, 3 }, [CPUW_81_ECX] = { 0x80000001, 0, 2 }, [CPUW_D_1_EAX] = { 0xd, 1, 0 },
		[CPUW_88_EBX] = { 0x80000008, 0, 1 }, [CPUW_87_EDX] = { 0x80000007, 0, 3 }, [CPUW_KVM_EAX] = { 0x40000001, 0, 0 },
		[CPUW_6_EAX] = { 6, 0, 0 },           [CPUW_821_EAX] = { 0x80000021, 0, 0 },
	};
	const struct kvm_cpuid_entry2 *e;

	for (unsigned w = 0; w < CPUW_COUNT; w++) {
		e = cpuid_find(c, word[w].leaf, word[w].sub);
		const u32 r[4] = { e ? e->eax : 0, e ? e->ebx : 0, e ? e->ecx : 0, e ? e->edx : 0 };
		c->feat[w] = r[word[w].reg];
	}
	e = cpuid_find(c, 0, 0);
	u32 base = kvm_base(c);
	const struct kvm_cpuid_entry2 *pv = base ? cpuid_find(c, base + 1, 0) : NULL;
	c->feat[CPUW_KVM_EAX] = pv ? pv->eax : 0;
	c->feat[15] = e && vendor_is_amd(e->ebx); /* the last word is cpu_is_amd()'s */
	e = cpuid_find(c, 0x80000008, 0);
	unsigned pa = e && (e->eax & 0xff) ? e->eax & 0xff : 36;
	c->maxphyaddr = (u8)MIN(pa, 52u);
	c->rsvd_pa = (BIT(52) - 1) & ~(BIT(c->maxphyaddr) - 1);
}

int cpuid_set(struct cpu *c, const struct kvm_cpuid_entry2 *e, u32 n)
{
	struct kvm_cpuid_entry2 *copy = NULL;

	_Static_assert(CPUW_COUNT <= 15, "the last word is cpu_is_amd()'s");
	if (n > CPUID_MAX_ENTRIES)
		return -E2BIG;
	for (u32 k = 0; k < n; k++) {
		unsigned va = (e[k].eax >> 8) & 0xff;

		if (e[k].function == 0x80000008 && va != 0 && va != 48 && va != 57)
			return -EINVAL;
	}
	if (n) {
		copy = malloc(n * sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		for (u32 k = 0; k < n; k++)
			copy[k] = e[k];
	}
	free(c->cpuid);
	c->cpuid = copy;
	c->ncpuid = n;
	c->cpuid_set = true;
	compute_features(c);
	cpuid_update_runtime(c);
	cpu_tlb_flush(c); /* reserved physical address bits may have moved */
	return 0;
}

void cpuid_set_apic_enabled(struct cpu *c, bool on)
{
	struct kvm_cpuid_entry2 *e = (struct kvm_cpuid_entry2 *)cpuid_find(c, 1, 0);

	if (!e)
		return;
	e->edx = on ? e->edx | F(APIC) : e->edx & ~F(APIC);
	c->feat[CPUW_1_EDX] = e->edx;
}

/* ---- what the guest sees ---- */

bool cpuid_has_mwait(const struct cpu *c)
{
	return load_relaxed(&c->policy) & CPU_POLICY_MWAIT_MSR ? c->msr.misc_enable & BIT(18) : cpu_has(c, CPUID_MONITOR);
}

static void runtime_bits(const struct cpu *c, u32 leaf, u32 sub, u32 r[4])
{
	if (leaf == 1) {
		r[2] = c->cr4 & CR4_OSXSAVE ? r[2] | F(OSXSAVE) : r[2] & ~F(OSXSAVE);
		if (load_relaxed(&c->policy) & CPU_POLICY_MWAIT_MSR)
			r[2] = c->msr.misc_enable & BIT(18) ? r[2] | F(MONITOR) : r[2] & ~F(MONITOR);
	} else if (leaf == 7 && sub == 0)
		r[2] = c->cr4 & CR4_PKE ? r[2] | F(OSPKE) : r[2] & ~F(OSPKE);
	else if (leaf == 0xd && sub == 0 && r[0])
		r[1] = cpuid_xsave_size(c->xcr0, false);
	else if (leaf == 0xd && sub == 1 && r[0] & (F(XSAVEC) | F(XSAVES)))
		r[1] = cpuid_xsave_size(c->xcr0 | c->msr.xss, true);
}

void cpuid_entry_runtime(const struct cpu *c, struct kvm_cpuid_entry2 *e, bool apic, bool no_unhalt)
{
	u32 r[4] = { e->eax, e->ebx, e->ecx, e->edx };
	u32 base = kvm_base(c);

	runtime_bits(c, e->function, e->index, r);
	e->ebx = r[1];
	e->ecx = r[2];
	if (e->function == 1)
		e->edx = apic ? e->edx | F(APIC) : e->edx & ~F(APIC);
	if (no_unhalt && base && e->function == base + 1)
		e->eax &= ~B(KVM_FEATURE_PV_UNHALT);
}

void cpuid_update_runtime(struct cpu *c)
{
	for (unsigned n = 0; n < c->ncpuid; n++) {
		struct kvm_cpuid_entry2 *e = &c->cpuid[n];
		u32 r[4] = { e->eax, e->ebx, e->ecx, e->edx };

		runtime_bits(c, e->function, e->index, r);
		e->ebx = r[1];
		e->ecx = r[2];
	}
}

/* Intel CPUs answer a leaf past the last one as if it were the last basic leaf; AMD's with zeros. */
static const struct kvm_cpuid_entry2 *out_of_range(const struct cpu *c, u32 *leaf, u32 sub)
{
	const struct kvm_cpuid_entry2 *basic = cpuid_find(c, 0, 0), *first;

	if (!basic || cpu_is_amd(c))
		return NULL;
	if (*leaf >= 0x40000000 && *leaf <= 0x4fffffff)
		first = cpuid_find(c, *leaf & 0xffffff00, 0);
	else if (*leaf >= 0xc0000000)
		first = cpuid_find(c, 0xc0000000, 0);
	else
		first = cpuid_find(c, *leaf & 0x80000000, 0);
	if (first && *leaf <= first->eax)
		return NULL;
	*leaf = basic->eax;
	return cpuid_find(c, *leaf, sub);
}

void cpuid_query(struct cpu *c, u32 leaf, u32 sub, u32 r[4])
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(c, leaf, sub);
	bool exact = e;

	if (!e)
		e = out_of_range(c, &leaf, sub);
	if (e) {
		r[0] = e->eax;
		r[1] = e->ebx;
		r[2] = e->ecx;
		r[3] = e->edx;
		runtime_bits(c, leaf, sub, r);
		return;
	}
	r[0] = r[1] = r[2] = r[3] = 0;
	/* The topology leaves: past the last level ECX still names the subleaf, and EDX the x2APIC id. */
	if (!exact && (leaf == 0xb || leaf == 0x1f)) {
		e = cpuid_find(c, leaf, 1);
		if (e) {
			r[2] = sub & 0xff;
			r[3] = e->edx;
		}
	}
}
