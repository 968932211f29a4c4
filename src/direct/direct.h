/* SPDX-License-Identifier: MIT */
/*
 * User code that runs long without needing the kernel, run as it is: by the host's CPU, in a process that has nothing but that guest address space
 * (docs/direct.md). The engines are below; what cannot be run this way they run.
 */
#ifndef USEKVM_DIRECT_DIRECT_H
#define USEKVM_DIRECT_DIRECT_H

#include "cpu/cpu.h"

/* The engine that runs the kernel in the interpreter and the translator, and user code also as it is. */
extern const struct cpu_engine direct_engine hidden;

#endif
