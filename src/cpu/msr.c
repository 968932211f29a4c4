/* SPDX-License-Identifier: MIT */
/*
 * Model-specific registers that are plain CPU state, with KVM's answers for those that a guest only probes.
 *
 * To add one: a field of cpu_msrs and a case in get_state()/set_state(), and, if a VMM must carry it through migration, a line in
 * msr_list. Registers of the LAPIC, kvmclock and other paravirtual ones are not here: -ENOENT.
 */
#include "cpu/msr.h"

#include <errno.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"

#define MTRR_CAP (0x500u | CPU_MTRR_VAR) /* fixed ranges, write combining */
#define MCG_CTL_P BIT(8)
#define MSR_PERF_CAPABILITIES 0x345
#define HWCR_MC_STATUS_WR_EN BIT(18)
#define PLATFORM_CPUID_FAULT BIT(31)

/* ARCH_CAPABILITIES: not vulnerable to anything, since no guest instruction reaches the host's predictors as such. */
#define ARCH_CAP_NOT_VULNERABLE                                                                                                            \
	(BIT(0) /* RDCL */ | BIT(3) /* skip L1D flush */ | BIT(4) /* SSB */ | BIT(5) /* MDS */ | BIT(6) /* page size change */ |           \
	 BIT(8) /* TAA */ | BIT(13) | BIT(14) | BIT(15) /* MMIO stale data */ | BIT(20) /* BHI */ | BIT(24) /* PBRSB */ |                  \
	 BIT(26) /* GDS */ | BIT(27) /* RFDS */)
#define ARCH_CAP_IBRS_ALL BIT(1)

#define MSR_LIST(X)                                                                                                                        \
	X(MSR_SYSENTER_CS) X(MSR_SYSENTER_ESP) X(MSR_SYSENTER_EIP) X(MSR_STAR) X(MSR_CSTAR) X(MSR_KERNEL_GS_BASE) X(MSR_SFMASK)            \
	X(MSR_LSTAR) X(MSR_TSC) X(MSR_PAT) X(MSR_TSC_AUX) X(MSR_TSC_ADJUST) X(MSR_SPEC_CTRL) X(MSR_ARCH_CAPABILITIES)                      \
	X(MSR_MISC_ENABLE) X(MSR_MCG_STATUS) X(MSR_MCG_CTL) X(0x34) X(MSR_PLATFORM_INFO) X(MSR_MISC_FEATURES_ENABLES)                      \
	X(MSR_POWER_CTL) X(MSR_BIOS_SIGN_ID) X(0xc0010015) X(0xc001011f) X(MSR_DEBUGCTL) X(MSR_PERF_CAPABILITIES) X(MSR_XSS)

static const u32 msr_list[] = {
#define X(n) n,
	MSR_LIST(X)
#undef X
};
static const u32 feature_list[] = { MSR_BIOS_SIGN_ID, MSR_ARCH_CAPABILITIES, MSR_PLATFORM_INFO, MSR_PERF_CAPABILITIES };

unsigned cpu_msr_list(u32 *index, unsigned n)
{
	for (unsigned k = 0; k < ARRAY_SIZE(msr_list) && k < n; k++)
		index[k] = msr_list[k];
	return ARRAY_SIZE(msr_list);
}

unsigned cpu_msr_feature_list(u32 *index, unsigned n)
{
	for (unsigned k = 0; k < ARRAY_SIZE(feature_list) && k < n; k++)
		index[k] = feature_list[k];
	return ARRAY_SIZE(feature_list);
}

static bool host_cpu_amd(void)
{
	u32 a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	(void)d;
	return b == 0x68747541 || b == 0x6f677948;
}

int cpu_msr_feature_get(u32 index, u64 *value)
{
	bool amd = host_cpu_amd();

	switch (index) {
	case MSR_BIOS_SIGN_ID:
		*value = amd ? 0x01000065 : 0x100000000ull;
		return 0;
	case MSR_ARCH_CAPABILITIES:
		*value = amd ? 0 : ARCH_CAP_NOT_VULNERABLE | ARCH_CAP_IBRS_ALL;
		return 0;
	case MSR_PLATFORM_INFO:
		*value = PLATFORM_CPUID_FAULT;
		return 0;
	case MSR_PERF_CAPABILITIES: /* no performance counters */
		*value = 0;
		return 0;
	}
	return -ENOENT;
}

void cpu_msr_reset(struct cpu *c)
{
	c->msr = (struct cpu_msrs){
		.pat = 0x0007040600070406ull,
		.misc_enable = BIT(11) | BIT(12), /* no branch trace store, no precise sampling */
		.mcg_cap = CPU_MCE_BANKS,
	};
	cpu_msr_feature_get(MSR_BIOS_SIGN_ID, &c->msr.ucode_rev);
	cpu_msr_feature_get(MSR_ARCH_CAPABILITIES, &c->msr.arch_capabilities);
	cpu_msr_feature_get(MSR_PLATFORM_INFO, &c->msr.platform_info);
}

void cpu_set_tsc(struct cpu *c, u64 value, bool host)
{
	u64 offset = value - cpu_scale_tsc(c, host_rdtsc());

	if (!host)
		c->msr.tsc_adjust += offset - c->tsc_offset;
	c->tsc_offset = offset;
}

/* ---- memory types ---- */

static bool mtrr_type(u8 t)
{
	return t < 8 && 0x73 >> t & 1; /* 0, 1, 4, 5, 6 */
}

static bool pat_valid(u64 v)
{
	for (unsigned n = 0; n < 8; n++) {
		u8 t = (u8)(v >> (8 * n));

		if (t > 7 || t == 2 || t == 3)
			return false;
	}
	return true;
}

/* 250, 258, 259, 268..26f: number in mtrr_fix, or -1. */
static int mtrr_fixed(u32 index)
{
	if (index == 0x250)
		return 0;
	if (index == 0x258 || index == 0x259)
		return (int)(index - 0x258) + 1;
	if (index >= 0x268 && index <= 0x26f)
		return (int)(index - 0x268) + 3;
	return -1;
}

static u64 *mtrr_var(struct cpu *c, u32 index)
{
	unsigned n = (index - MSR_MTRR_BASE0) / 2;

	return index & 1 ? &c->msr.mtrr_mask[n] : &c->msr.mtrr_base[n];
}

static bool is_mtrr_var(u32 index)
{
	return index >= MSR_MTRR_BASE0 && index < MSR_MTRR_BASE0 + 2 * CPU_MTRR_VAR;
}

static int set_mtrr(struct cpu *c, u32 index, u64 v)
{
	int fix = mtrr_fixed(index);
	u64 rsvd = ~(BIT(c->maxphyaddr) - 1);

	if (fix >= 0) {
		for (unsigned n = 0; n < 8; n++)
			if (!mtrr_type((u8)(v >> (8 * n))))
				return -EINVAL;
		c->msr.mtrr_fix[fix] = v;
		return 0;
	}
	if (index == MSR_MTRR_DEF) {
		if (v & ~0xcffull || !mtrr_type((u8)v))
			return -EINVAL;
		c->msr.mtrr_def = v;
		return 0;
	}
	if (index & 1 ? v & (rsvd | 0x7ff) : v & (rsvd | 0xf00) || !mtrr_type((u8)v))
		return -EINVAL;
	*mtrr_var(c, index) = v;
	return 0;
}

/* ---- machine check banks ---- */

static bool mce_bank(const struct cpu *c, u32 index)
{
	return index >= MSR_MC0_CTL && index < MSR_MC0_CTL + 4 * MIN((u32)(c->msr.mcg_cap & 0xff), (u32)CPU_MCE_BANKS);
}

static int set_mce(struct cpu *c, u32 index, u64 v, bool host)
{
	unsigned off = index - MSR_MC0_CTL;

	/* CTL: all or nothing; Linux and others clear bit 10 of bank 4, and bit 0 of one. */
	if ((off & 3) == 0 && v && (v | BIT(10) | 1) != ~0ull)
		return -EINVAL;
	if ((off & 3) == 1 && !host && v && !(c->msr.hwcr & HWCR_MC_STATUS_WR_EN))
		return -EINVAL;
	c->msr.mce[off / 4][off & 3] = v;
	return 0;
}

/* Which errors of a bank raise a CMCI: bit 30, and the threshold. */
static bool mce_ctl2(const struct cpu *c, u32 index)
{
	return index >= MSR_MC0_CTL2 && index < MSR_MC0_CTL2 + MIN((u32)(c->msr.mcg_cap & 0xff), (u32)CPU_MCE_BANKS);
}

static int set_mce_ctl2(struct cpu *c, u32 index, u64 v, bool host)
{
	if (!(c->msr.mcg_cap & MCG_CMCI_P) && (v || !host))
		return -EINVAL;
	if (v & ~(MCI_CTL2_CMCI | 0x7fff))
		return -EINVAL;
	c->msr.mci_ctl2[index - MSR_MC0_CTL2] = v;
	return 0;
}

static int set_mcg(struct cpu *c, u32 index, u64 v, bool host)
{
	if (index == MSR_MCG_STATUS) {
		c->msr.mcg_status = v;
		return 0;
	}
	if (!(c->msr.mcg_cap & MCG_CTL_P) && (v || !host))
		return -EINVAL;
	if (v && v != ~0ull)
		return -EINVAL;
	c->msr.mcg_ctl = v;
	return 0;
}

/* ---- registers that guests probe and that hold nothing: KVM's answers ---- */

static int get_probed(u32 index, u64 *v)
{
	switch (index) {
	case 0x0: case 0x1:                                     /* P5 machine check */
	case 0x17: case 0x2a:                                   /* platform id, power-on configuration */
	case 0xc1: case 0xc2: case 0x186: case 0x187:           /* counters of the P6 */
	case 0x199:                                             /* PERF_CTL */
	case MSR_DEBUGCTL: case 0x1db: case 0x1dc: case 0x1dd: case 0x1de: /* last branch */
	case MSR_PERF_CAPABILITIES:
	case 0x606: case 0x611: case 0x619: case 0x639: case 0x641: /* RAPL */
	case 0xc0010000: case 0xc0010001: case 0xc0010002: case 0xc0010003: /* counters of the K7 */
	case 0xc0010004: case 0xc0010005: case 0xc0010006: case 0xc0010007:
	case 0xc001001f: case 0xc0010055: case 0xc0010058:      /* NB_CFG, INT_PENDING, MMIO configuration base */
	case 0xc0010112: case 0xc0010113: case 0xc0010114: case 0xc0010117: /* TSEG, VM_CR, VM_HSAVE_PA */
	case 0xc0011022: case 0xc0011023: case 0xc001102a: case 0xc001102c: /* DC, TW, BU, EX configuration */
		*v = 0;
		return 0;
	case 0x2c:
		*v = 1u << 24;
		return 0;
	case 0xcd: /* bus frequency */
		*v = 3;
		return 0;
	case 0x11e:
		*v = 0xbe702111;
		return 0;
	case 0x198: /* PERF_STATUS */
		*v = 1000 | 4ull << 40;
		return 0;
	case 0xc001001b:
		*v = 0x20000000;
		return 0;
	}
	return -ENOENT;
}

static int set_probed(u32 index, u64 v)
{
	switch (index) {
	case 0x79: case 0xc0010020:                             /* microcode loaders */
	case 0x11e: case 0xc001001b: case 0xc001001f:
	case 0xc1: case 0xc2: case 0x186: case 0x187:
	case 0xc0010000: case 0xc0010001: case 0xc0010002: case 0xc0010003:
	case 0xc0010004: case 0xc0010005: case 0xc0010006: case 0xc0010007:
	case 0xc0010117: case 0xc0011022: case 0xc0011023: case 0xc001102a: case 0xc001102c:
		return 0;
	case 0xc0010058: case MSR_PERF_CAPABILITIES: case MSR_DEBUGCTL:
		return v ? -EINVAL : 0;
	}
	return -ENOENT;
}

/* ---- which registers this vCPU has ---- */

static bool present(const struct cpu *c, u32 index)
{
	switch (index) {
	case MSR_TSC_AUX:
		return cpu_has(c, CPUID_RDTSCP) || cpu_has(c, CPUID_RDPID);
	case MSR_TSC_ADJUST:
		return cpu_has(c, CPUID_TSC_ADJUST);
	case MSR_SPEC_CTRL:
		return cpu_has(c, CPUID_SPEC_CTRL) || cpu_has(c, CPUID_STIBP) || cpu_has(c, CPUID_SPEC_CTRL_SSBD) ||
		       cpu_has(c, CPUID_AMD_IBRS) || cpu_has(c, CPUID_AMD_STIBP) || cpu_has(c, CPUID_AMD_SSBD);
	case MSR_PRED_CMD:
		return cpu_has(c, CPUID_SPEC_CTRL) || cpu_has(c, CPUID_AMD_IBPB);
	case MSR_FLUSH_CMD:
		return cpu_has(c, CPUID_FLUSH_L1D);
	case MSR_ARCH_CAPABILITIES:
		return cpu_has(c, CPUID_ARCH_CAPABILITIES);
	case MSR_XSS:
		return cpu_has(c, CPUID_XSAVES);
	case MSR_FEATURE_CONTROL:
		return !cpu_is_amd(c);
	case MSR_PLATFORM_INFO:
		return !(load_relaxed(&c->policy) & CPU_POLICY_NO_PLATFORM_INFO);
	case 0xc001011f:
		return cpu_has(c, CPUID_VIRT_SSBD);
	}
	return true;
}

/* Registers whose value is just a field. Those with rules of their own for writing are told apart in cpu_msr_set(). */
static u64 *field(struct cpu *c, u32 index)
{
	struct cpu_msrs *m = &c->msr;

	switch (index) {
	case MSR_SYSENTER_CS: return &m->sysenter_cs;
	case MSR_SYSENTER_ESP: return &m->sysenter_esp;
	case MSR_SYSENTER_EIP: return &m->sysenter_eip;
	case MSR_STAR: return &m->star;
	case MSR_LSTAR: return &m->lstar;
	case MSR_CSTAR: return &m->cstar;
	case MSR_SFMASK: return &m->sfmask;
	case MSR_FS_BASE: return &c->seg[S_FS].base;
	case MSR_GS_BASE: return &c->seg[S_GS].base;
	case MSR_KERNEL_GS_BASE: return &m->kernel_gs_base;
	case MSR_TSC_AUX: return &m->tsc_aux;
	case MSR_PAT: return &m->pat;
	case MSR_MTRR_DEF: return &m->mtrr_def;
	case MSR_TSC_ADJUST: return &m->tsc_adjust;
	case MSR_SPEC_CTRL: return &m->spec_ctrl;
	case MSR_XSS: return &m->xss;
	case MSR_FEATURE_CONTROL: return &m->feature_control;
	case MSR_MCG_CAP: return &m->mcg_cap;
	case MSR_MCG_STATUS: return &m->mcg_status;
	case MSR_MCG_CTL: return &m->mcg_ctl;
	case MSR_MISC_ENABLE: return &m->misc_enable;
	case MSR_PLATFORM_INFO: return &m->platform_info;
	case MSR_ARCH_CAPABILITIES: return &m->arch_capabilities;
	case MSR_BIOS_SIGN_ID: return &m->ucode_rev;
	case MSR_MISC_FEATURES_ENABLES: return &m->misc_features_enables;
	case MSR_POWER_CTL: return &m->power_ctl;
	case 0x34: return &m->smi_count;
	case 0xc0010010: return &m->syscfg;
	case 0xc0010015: return &m->hwcr;
	case 0xc001011f: return &m->virt_ssbd;
	case 0xc0011020: return &m->ls_cfg;
	case 0xc0011029: return &m->de_cfg;
	}
	if (mtrr_fixed(index) >= 0)
		return &m->mtrr_fix[mtrr_fixed(index)];
	if (is_mtrr_var(index))
		return mtrr_var(c, index);
	if (mce_ctl2(c, index))
		return &m->mci_ctl2[index - MSR_MC0_CTL2];
	if (mce_bank(c, index))
		return &m->mce[(index - MSR_MC0_CTL) / 4][(index - MSR_MC0_CTL) & 3];
	return NULL;
}

int cpu_msr_get(struct cpu *c, u32 index, u64 *value, bool host)
{
	u64 *f;

	if (!host && !present(c, index))
		return -EINVAL;
	switch (index) {
	case MSR_TSC:
		*value = cpu_guest_tsc(c);
		return 0;
	case MSR_EFER:
		*value = c->efer;
		return 0;
	case MSR_MTRRCAP:
		*value = MTRR_CAP;
		return 0;
	case MSR_PRED_CMD:
	case MSR_FLUSH_CMD:
		return -EINVAL;
	case MSR_MCG_CTL:
		if (!(c->msr.mcg_cap & MCG_CTL_P) && !host)
			return -EINVAL;
		break;
	case 0xc0011029: /* LFENCE is serializing */
		*value = c->msr.de_cfg | 2;
		return 0;
	}
	if (mce_ctl2(c, index) && !(c->msr.mcg_cap & MCG_CMCI_P) && !host)
		return -EINVAL;
	f = field(c, index);
	if (!f)
		return get_probed(index, value);
	*value = *f;
	return 0;
}

static int set_adjust(struct cpu *c, u64 v, bool host)
{
	if (!host)
		c->tsc_offset += v - c->msr.tsc_adjust;
	c->msr.tsc_adjust = v;
	return 0;
}

static int set_hwcr(struct cpu *c, u64 v)
{
	v &= ~0x148ull; /* flush filter, TLB cache disable, IGNNE: ignored */
	if (v & ~(HWCR_MC_STATUS_WR_EN | BIT(24)))
		return -EINVAL;
	c->msr.hwcr = v;
	return 0;
}

static int set_efer(struct cpu *c, u64 v, bool host)
{
	if (!host)
		return cpu_set_efer(c, v);
	/* As KVM: the VMM may set what CPUID does not show (yet), but LMA follows from CR0. */
	if (v & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR | BIT(21)))
		return -EINVAL;
	c->efer = (v & ~EFER_LMA) | (c->efer & EFER_LMA);
	cpu_tlb_flush(c);
	cpu_update_mode(c);
	return 0;
}

/* 1: this register has no more rules, store it. */
static int check_write(struct cpu *c, u32 index, u64 *v, bool host)
{
	switch (index) {
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP: { /* made canonical rather than refused, since AMD's CPUs take any value */
		unsigned shift = c->cr4 & CR4_LA57 ? 7 : 16;

		*v = (u64)((s64)(*v << shift) >> shift);
		return 1;
	}
	case MSR_LSTAR: case MSR_CSTAR: case MSR_FS_BASE: case MSR_GS_BASE: case MSR_KERNEL_GS_BASE:
		return cpu_canonical(c, *v) ? 1 : -EINVAL;
	case MSR_TSC_AUX:
		if (*v >> 32 && !cpu_is_amd(c))
			return -EINVAL;
		*v = (u32)*v;
		return 1;
	case MSR_PAT:
		return pat_valid(*v) ? 1 : -EINVAL;
	case MSR_SPEC_CTRL:
		return *v & ~7ull ? -EINVAL : 1;
	case 0xc001011f:
		return *v & ~4ull ? -EINVAL : 1;
	case MSR_XSS:
		return *v ? -EINVAL : 1; /* no supervisor components */
	case MSR_FEATURE_CONTROL: /* only the lock bit: no VMX */
		return *v & ~1ull || (!host && c->msr.feature_control & 1) ? -EINVAL : 1;
	case MSR_PLATFORM_INFO:
		return host ? 1 : -EINVAL;
	case MSR_ARCH_CAPABILITIES:
	case MSR_MCG_CAP:
		return host && index == MSR_ARCH_CAPABILITIES ? 1 : -EINVAL;
	case MSR_BIOS_SIGN_ID:
		return host ? 1 : 0;
	case 0x34:
		return host ? 1 : -EINVAL;
	case MSR_MISC_ENABLE:
		if (load_relaxed(&c->policy) & CPU_POLICY_MWAIT_MSR && (*v ^ c->msr.misc_enable) & BIT(18) && !cpu_has(c, CPUID_SSE3))
			return -EINVAL; /* SDM 4: bit 18 is for CPUs with SSE3 */
		return !host && (*v ^ c->msr.misc_enable) & (BIT(11) | BIT(12) | BIT(7)) ? -EINVAL : 1;
	case MSR_MISC_FEATURES_ENABLES:
		if (*v & ~1ull || (*v & 1 && !(c->msr.platform_info & PLATFORM_CPUID_FAULT)))
			return -EINVAL;
		return 1;
	case 0xc0011029:
		return *v & ~2ull ? -EINVAL : 1;
	}
	return 1;
}

int cpu_msr_set(struct cpu *c, u32 index, u64 v, bool host)
{
	u64 *f;
	int r;

	if (!host && !present(c, index))
		return -EINVAL;
	switch (index) {
	case MSR_TSC:
		cpu_set_tsc(c, v, host);
		return 0;
	case MSR_TSC_ADJUST:
		return set_adjust(c, v, host);
	case MSR_EFER:
		return set_efer(c, v, host);
	case MSR_MTRRCAP:
		return -EINVAL;
	case MSR_PRED_CMD: /* barrier and flush commands: nothing is kept across guest instructions that they would clear */
	case MSR_FLUSH_CMD:
		return v & ~1ull ? -EINVAL : 0;
	case MSR_MCG_STATUS:
	case MSR_MCG_CTL:
		return set_mcg(c, index, v, host);
	case 0xc0010015:
		return set_hwcr(c, v);
	}
	if (mtrr_fixed(index) >= 0 || is_mtrr_var(index) || index == MSR_MTRR_DEF)
		return set_mtrr(c, index, v);
	if (mce_ctl2(c, index))
		return set_mce_ctl2(c, index, v, host);
	if (mce_bank(c, index))
		return set_mce(c, index, v, host);
	f = field(c, index);
	if (!f)
		return set_probed(index, v);
	r = check_write(c, index, &v, host);
	if (r > 0)
		*f = v;
	return r < 0 ? r : 0;
}
