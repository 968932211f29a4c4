/* SPDX-License-Identifier: MIT */
/*
 * What the levels above see of the translator: the engine that runs cold code in the interpreter and hot code as translated units.
 */
#ifndef USEKVM_TRANSLATE_ENGINE_H
#define USEKVM_TRANSLATE_ENGINE_H

#include "cpu/cpu.h"

extern const struct cpu_engine translate_engine hidden;

#endif
