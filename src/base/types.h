/* SPDX-License-Identifier: MIT */
/*
 * The integer names, and the few macros, that every file here uses.
 */
#ifndef USEKVM_BASE_TYPES_H
#define USEKVM_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef unsigned __int128 u128;

typedef u64 gpa_t; /* guest physical address */
typedef u64 gva_t; /* guest linear address */
typedef u64 gfn_t; /* gpa >> PAGE_SHIFT */

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ull
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define BIT(n) (1ull << (n))
#define ALIGN_UP(x, a) (((x) + (a)-1) & ~((a)-1))
#define hidden __attribute__((visibility("hidden")))
#define noinline __attribute__((noinline))
#define always_inline inline __attribute__((always_inline))
#define aligned(n) __attribute__((aligned(n)))
/* What a signal handler runs at any point: ThreadSanitizer's runtime takes locks that the interrupted code may hold. */
#define signal_safe __attribute__((no_sanitize_thread))
#define printf_like(f, a) __attribute__((format(printf, f, a)))

#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define load_relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define store_relaxed(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

/* A counter that one thread writes and any thread reads: no locked instruction. */
#define stat_add(p, n) store_relaxed(p, *(p) + (n))

#endif
