/* SPDX-License-Identifier: MIT */
/*
 * The memory functions of the core: same names and meaning as the C library's, without vector registers. They are hidden, so calls from
 * inside the library, the compiler's own among them, bind here; the program's calls never do. Sanitizer builds leave them out.
 */
#ifndef USEKVM_BASE_STRING_H
#define USEKVM_BASE_STRING_H

#include <stddef.h>

#include "base/types.h"

#ifdef USEKVM_SANITIZE
#include <string.h>
#else
void *memcpy(void *restrict dst, const void *restrict src, size_t n) hidden;
void *memmove(void *dst, const void *src, size_t n) hidden;
void *memset(void *dst, int c, size_t n) hidden;
int memcmp(const void *a, const void *b, size_t n) hidden;
size_t strlen(const char *s) hidden;
#endif

#endif
