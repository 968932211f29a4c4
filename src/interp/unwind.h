/* SPDX-License-Identifier: MIT */
/*
 * How what is below a run loop jumps back to it: cpu.jmp says where to, cpu.unwind why.
 */
#ifndef USEKVM_INTERP_UNWIND_H
#define USEKVM_INTERP_UNWIND_H

#include "cpu/cpu.h"

#ifdef __SANITIZE_THREAD__ /* follows calls and returns, so that it must see the jump: it wraps _setjmp and longjmp, not _longjmp */
#include <setjmp.h>
#define CATCH_JUMP(c) _setjmp((struct __jmp_buf_tag *)(c)->jmp)
#define JUMP(c) longjmp((struct __jmp_buf_tag *)(c)->jmp, 1)
_Static_assert(sizeof(jmp_buf) <= sizeof(((struct cpu *)0)->jmp), "room for a jmp_buf");
#else
#define CATCH_JUMP(c) __builtin_setjmp((c)->jmp)
#define JUMP(c) __builtin_longjmp((c)->jmp, 1)
#endif

enum { UNWIND_RAISE, UNWIND_EXIT, UNWIND_SINGLE };

#endif
