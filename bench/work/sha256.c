/* SPDX-License-Identifier: MIT */
/* SHA-256, in plain C and with the SHA instructions; the digests are the same. */
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include "work.h"

#define SIZE 16384

static const uint32_t K[64] __attribute__((aligned(16))) = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1,
	0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
	0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
	0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa,
	0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t ror(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void plain(uint32_t *h, const unsigned char *p, size_t blocks)
{
	for (; blocks; blocks--, p += 64) {
		uint32_t w[64], s[8];

		for (int i = 0; i < 16; i++) {
			memcpy(&w[i], p + 4 * i, 4);
			w[i] = __builtin_bswap32(w[i]);
		}
		for (int i = 16; i < 64; i++) {
			uint32_t a = w[i - 15], b = w[i - 2];

			w[i] = w[i - 16] + w[i - 7] + (ror(a, 7) ^ ror(a, 18) ^ a >> 3) + (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
		}
		memcpy(s, h, sizeof(s));
		for (int i = 0; i < 64; i++) {
			uint32_t t = s[7] + (ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[i] + w[i];
			uint32_t u = (ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

			s[7] = s[6];
			s[6] = s[5];
			s[5] = s[4];
			s[4] = s[3] + t;
			s[3] = s[2];
			s[2] = s[1];
			s[1] = s[0];
			s[0] = t + u;
		}
		for (int i = 0; i < 8; i++)
			h[i] += s[i];
	}
}

__attribute__((target("sha,ssse3,sse4.1"))) static void ni(uint32_t *h, const unsigned char *p, size_t blocks)
{
	const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);
	__m128i u = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);
	__m128i abef = _mm_alignr_epi8(t, u, 8), cdgh = _mm_blend_epi16(u, t, 0xf0);

	for (; blocks; blocks--, p += 64) {
		__m128i m[4], abef0 = abef, cdgh0 = cdgh;

		for (int i = 0; i < 4; i++)
			m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p + i), order);
#pragma GCC unroll 16
		for (int g = 0; g < 16; g++) {
			__m128i w = _mm_add_epi32(m[g & 3], _mm_load_si128((const __m128i *)K + g));

			cdgh = _mm_sha256rnds2_epu32(cdgh, abef, w);
			abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(w, 0x0e));
			if (g < 12) {
				__m128i m3 = m[(g + 3) & 3];

				w = _mm_add_epi32(_mm_sha256msg1_epu32(m[g & 3], m[(g + 1) & 3]), _mm_alignr_epi8(m3, m[(g + 2) & 3], 4));
				m[g & 3] = _mm_sha256msg2_epu32(w, m3);
			}
		}
		abef = _mm_add_epi32(abef, abef0);
		cdgh = _mm_add_epi32(cdgh, cdgh0);
	}
	t = _mm_shuffle_epi32(abef, 0x1b);
	u = _mm_shuffle_epi32(cdgh, 0xb1);
	_mm_storeu_si128((__m128i *)h, _mm_blend_epi16(t, u, 0xf0));
	_mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(u, t, 8));
}

static int has_sha(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29) && __builtin_cpu_supports("sse4.1");
}

static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static uint64_t run(unsigned long rounds, void (*blocks)(uint32_t *h, const unsigned char *p, size_t blocks))
{
	static const uint32_t abc[8] = {0xba7816bf, 0x8f01cfea, 0x414140de, 0x5dae2223, 0xb00361a3, 0x96177a9c, 0xb410ff61, 0xf20015ad};
	unsigned char block[64] = "abc\x80", *buf = work_alloc(SIZE);
	uint32_t h[8];

	block[63] = 24;
	memcpy(h, start, sizeof(h));
	blocks(h, block, 1);
	if (memcmp(h, abc, sizeof(h)))
		work_fail("wrong digest");
	work_begin();
	while (rounds--)
		blocks(h, buf, SIZE / 64);
	return work_hash(1, h, sizeof(h));
}

static uint64_t sha256(unsigned long rounds)
{
	return run(rounds, plain);
}
WORK(sha256_row, "sha256", VECTOR, sha256, 2000, 0xf581f57562bd70fc);

static uint64_t sha_ni(unsigned long rounds)
{
	return run(rounds, ni);
}
WORK(sha_ni_row, "sha256-ni", VECTOR, sha_ni, 10000, 0x9c8f8ce12945f7a7, 0, has_sha);
