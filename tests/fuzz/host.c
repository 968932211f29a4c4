/* SPDX-License-Identifier: MIT */
/*
 * What the host's CPU has, random values, and the layout of the XSAVE area.
 */
#include <cpuid.h>
#include <string.h>
#include <sys/auxv.h>

#include "fuzz.h"

unsigned code_bits = 64;
u64 host_xcr0;
u32 xs_off[64], xs_len[64];
static bool fsgsbase;

bool host_has_fsgsbase(void)
{
	return fsgsbase;
}

void host_init(void)
{
	u32 a, b, c, d, lo = 3, hi = 0;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 27)))
		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	host_xcr0 = ((u64)hi << 32) | lo;
	for (int i = 2; i < 32; i++)
		if (host_xcr0 >> i & 1 && __get_cpuid_count(0xd, i, &a, &b, &c, &d)) {
			xs_len[i] = a;
			xs_off[i] = b;
		}
	fsgsbase = getauxval(AT_HWCAP2) & 2;
}

u64 rnd(struct rng *r)
{
	u64 z = (r->s += 0x9e3779b97f4a7c15ull);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

u64 mix(u64 a, u64 b)
{
	struct rng r = {a * 0xd1342543de82ef95ull + b};
	rnd(&r);
	return rnd(&r);
}

u64 edge(struct rng *r)
{
	static const u64 v[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
		0x8000000000000000, 0xffffffffffffffff, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x100, 0x10000, 0x100000000, 0x99, 0x3f, 0x40, 0x1f,
		0x20};
	switch (below(r, 8)) {
	case 0:
	case 1: return v[below(r, sizeof(v) / 8)];
	case 2: return v[below(r, sizeof(v) / 8)] + below(r, 5) - 2;
	case 3: return (u64)(s64)(s8)rnd(r);
	case 4: return 1ull << below(r, 64);
	case 5: return rnd(r) >> below(r, 64);
	default: return rnd(r);
	}
}

static u32 float_edge(struct rng *r)
{
	static const u32 v[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xffa00000, 1,
		0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000, 0x5f000000, 0x40490fdb, 0x3f000000, 0x33800000, 0x4b800001};
	if (chance(r, 3))
		return v[below(r, sizeof(v) / 4)];
	if (chance(r, 2)) /* near one: sums that cancel */
		return (u32)(rnd(r) & 0x807fffff) | ((127 - 8 + below(r, 24)) << 23);
	return (u32)rnd(r);
}

static u64 double_edge(struct rng *r)
{
	static const u64 v[] = {0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000,
		0x7ff8000000000000, 0x7ff0000000000001, 0xfff4000000000000, 1, 0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff,
		0x41e0000000000000, 0xc1e0000000000000, 0x43e0000000000000, 0x400921fb54442d18, 0x3fe0000000000000, 0x4340000000000001};
	if (chance(r, 3))
		return v[below(r, sizeof(v) / 8)];
	if (chance(r, 2))
		return (rnd(r) & 0x800fffffffffffff) | ((u64)(1023 - 16 + below(r, 48)) << 52);
	return rnd(r);
}

void edge_bytes(struct rng *r, u8 *p, unsigned n)
{
	unsigned kind = below(r, 6);

	for (unsigned i = 0; i < n; i += 8) {
		u64 v;
		u32 w[2];
		switch (kind) {
		case 0: v = rnd(r); break;
		case 1:
			w[0] = float_edge(r);
			w[1] = float_edge(r);
			memcpy(&v, w, 8);
			break;
		case 2: v = double_edge(r); break;
		case 3: v = edge(r); break;
		case 4: v = (u64)(s64)(s8)rnd(r) & 0xff00ff00ff00ffffull; break;
		default: v = chance(r, 2) ? 0 : ~0ull; break;
		}
		memcpy(p + i, &v, n - i < 8 ? n - i : 8);
	}
}
