/* SPDX-License-Identifier: MIT */
/*
 * What the levels above see of the translator: the engine that runs cold code in the interpreter and hot code as translated units.
 */
#ifndef USEKVM_TRANSLATE_ENGINE_H
#define USEKVM_TRANSLATE_ENGINE_H

#include "cpu/cpu.h"

extern const struct cpu_engine translate_engine hidden;

/* Log lines about what the interpreter did for want of a host form, if translate:info is on; also done at the engine's end. */
void translate_report(const struct cpu *c) hidden;

#endif
