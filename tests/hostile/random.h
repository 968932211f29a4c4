/* SPDX-License-Identifier: MIT */
/* The random numbers of hostile guests (xorshift*): `rng` is the seed, never 0. Read after harness/kvmtest.h. */
#ifndef HOSTILE_RANDOM_H
#define HOSTILE_RANDOM_H

static u64 rng = 1;
static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}

#endif
