/* SPDX-License-Identifier: MIT */
/*
 * MSRs that are plain CPU state. The LAPIC's, kvmclock's and paravirtual ones are kvm/'s: cpu_msr_get/set answer -ENOENT for them, and the
 * RDMSR/WRMSR instructions then ask cpu_ops.
 *
 * host: the VMM asks (KVM_GET/SET_MSRS): read-only registers may be set, values are stored without side effects on time.
 */
#ifndef USEKVM_CPU_MSR_H
#define USEKVM_CPU_MSR_H

#include "cpu/cpu.h"

#define MSR_TSC 0x10
#define MSR_APICBASE 0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_TSC_ADJUST 0x3b
#define MSR_SPEC_CTRL 0x48
#define MSR_PRED_CMD 0x49
#define MSR_BIOS_SIGN_ID 0x8b
#define MSR_PLATFORM_INFO 0xce
#define MSR_UMWAIT_CONTROL 0xe1
#define MSR_MTRRCAP 0xfe
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_FLUSH_CMD 0x10b
#define MSR_TSX_CTRL 0x122
#define MSR_MISC_FEATURES_ENABLES 0x140
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_MCG_CTL 0x17b
#define MSR_MISC_ENABLE 0x1a0
#define MSR_DEBUGCTL 0x1d9
#define MSR_POWER_CTL 0x1fc
#define MSR_MTRR_BASE0 0x200
#define MSR_MTRR_FIX64K 0x250
#define MSR_PAT 0x277
#define MSR_MC0_CTL2 0x280
#define MSR_MTRR_DEF 0x2ff
#define MCG_CMCI_P BIT(10)
#define MCI_CTL2_CMCI BIT(30)
#define MSR_MC0_CTL 0x400
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_XSS 0xda0
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103

/* 0, -ENOENT (not ours, or no such MSR), -EINVAL (not with this CPUID, or a bad value: #GP). */
int cpu_msr_get(struct cpu *c, u32 index, u64 *value, bool host) hidden;
int cpu_msr_set(struct cpu *c, u32 index, u64 value, bool host) hidden;

/* KVM_GET_MSR_INDEX_LIST and KVM_GET_MSR_FEATURE_INDEX_LIST: those of this file. Returns their number; fills at most n. */
unsigned cpu_msr_list(u32 *index, unsigned n) hidden;
unsigned cpu_msr_feature_list(u32 *index, unsigned n) hidden;
/* KVM_GET_MSRS on /dev/kvm. 0 or -ENOENT. */
int cpu_msr_feature_get(u32 index, u64 *value) hidden;

/* Values at power-on; called by cpu_init. INIT changes none of them. */
void cpu_msr_reset(struct cpu *c) hidden;

/* Guest TSC = host TSC + offset. A guest's write moves TSC_ADJUST too, the VMM's does not. */
void cpu_set_tsc(struct cpu *c, u64 value, bool host) hidden;

#endif
