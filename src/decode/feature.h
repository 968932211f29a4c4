/* SPDX-License-Identifier: MIT */
/*
 * Which instructions the guest's CPUID offers.
 */
#ifndef USEKVM_DECODE_FEATURE_H
#define USEKVM_DECODE_FEATURE_H

#include <Zydis/Zydis.h>

#include "cpu/cpu.h"

/*
 * False: the instruction belongs to an extension that this vCPU's CPUID does not show: #UD. A vCPU without any CPUID has what the host
 * has. Not for TZCNT, LZCNT and the like, which without their feature are another instruction (BSF, BSR): those are always allowed
 * here. CPUID faults of CET, MPX and NOP-space instructions do not exist: they are NOPs.
 */
bool insn_allowed(const struct cpu *c, const ZydisDecodedInstruction *z) hidden;

#endif
