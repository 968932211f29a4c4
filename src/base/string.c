/* SPDX-License-Identifier: MIT */
/*
 * memcpy, memmove, memset, memcmp and strlen in general registers only: while a vCPU runs, the guest's vector state may be live in the
 * host's registers, and the C library's versions would destroy it. Up to 16 bytes are done with two overlapping moves, the middle with
 * 8-byte words, the large with the CPU's own string instructions.
 *
 * The compiler must not recognise the loops here and turn them into calls of the functions they implement.
 */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

#include "base/string.h"

#ifndef USEKVM_SANITIZE

typedef u64 word __attribute__((__may_alias__, __aligned__(1)));
typedef u32 half __attribute__((__may_alias__, __aligned__(1)));
typedef u16 quarter __attribute__((__may_alias__, __aligned__(1)));

#define STRING_INSN_MIN 512 /* below this the start-up of rep movs costs more than it saves */

/* Loads everything before it stores, so it serves overlapping areas too. */
static always_inline void copy_upto16(u8 *d, const u8 *s, size_t n)
{
	if (n >= 8) {
		u64 a = *(const word *)s, b = *(const word *)(s + n - 8);
		*(word *)d = a;
		*(word *)(d + n - 8) = b;
	} else if (n >= 4) {
		u32 a = *(const half *)s, b = *(const half *)(s + n - 4);
		*(half *)d = a;
		*(half *)(d + n - 4) = b;
	} else if (n >= 2) {
		u16 a = *(const quarter *)s, b = *(const quarter *)(s + n - 2);
		*(quarter *)d = a;
		*(quarter *)(d + n - 2) = b;
	} else if (n) {
		*d = *s;
	}
}

/* n > 16; right for overlapping areas when d < s: the last word is loaded before it can be overwritten. */
static always_inline void copy_words_up(u8 *d, const u8 *s, size_t n)
{
	u64 tail = *(const word *)(s + n - 8);
	u8 *last = d + n - 8;

	for (; d < last; d += 8, s += 8)
		*(word *)d = *(const word *)s;
	*(word *)last = tail;
}

static always_inline void copy_words_down(u8 *d, const u8 *s, size_t n)
{
	u64 head = *(const word *)s;

	for (size_t i = n; i > 8; i -= 8)
		*(word *)(d + i - 8) = *(const word *)(s + i - 8);
	*(word *)d = head;
}

static always_inline void copy_string_insn(u8 *d, const u8 *s, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	if (n <= 16)
		copy_upto16(dst, src, n);
	else if (n < STRING_INSN_MIN)
		copy_words_up(dst, src, n);
	else
		copy_string_insn(dst, src, n);
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	u8 *d = dst;
	const u8 *s = src;

	if (n <= 16)
		copy_upto16(d, s, n);
	else if ((size_t)(d - s) >= n && n >= STRING_INSN_MIN && (size_t)(s - d) >= 64)
		copy_string_insn(d, s, n);
	else if (d < s)
		copy_words_up(d, s, n);
	else
		copy_words_down(d, s, n);
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	u8 *d = dst;
	u64 w = (u8)c * 0x0101010101010101ull;

	if (n >= STRING_INSN_MIN) {
		__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	} else if (n >= 8) {
		u8 *last = d + n - 8;

		for (; d < last; d += 8)
			*(word *)d = w;
		*(word *)last = w;
	} else if (n >= 4) {
		*(half *)d = (u32)w;
		*(half *)(d + n - 4) = (u32)w;
	} else if (n) {
		d[0] = (u8)c;
		d[n / 2] = (u8)c;
		d[n - 1] = (u8)c;
	}
	return dst;
}

int memcmp(const void *pa, const void *pb, size_t n)
{
	const u8 *a = pa, *b = pb;

	for (; n >= 8; n -= 8, a += 8, b += 8) {
		u64 x = *(const word *)a, y = *(const word *)b;

		if (x != y) {
			x = __builtin_bswap64(x);
			y = __builtin_bswap64(y);
			return x < y ? -1 : 1;
		}
	}
	for (; n; n--, a++, b++)
		if (*a != *b)
			return *a - *b;
	return 0;
}

size_t strlen(const char *s)
{
	const char *p = s;

	while (*p)
		p++;
	return (size_t)(p - s);
}

#endif
