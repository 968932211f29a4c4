/* SPDX-License-Identifier: MIT */
/* AES-128-GCM with the AES and carry-less multiplication instructions, four blocks at a time. */
#include <immintrin.h>
#include <string.h>
#include "work.h"

#define TARGET __attribute__((target("aes,pclmul,ssse3,sse4.1")))
#define SIZE 16384

static int has_aes(void)
{
	return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

TARGET static inline __m128i next_key(__m128i k, __m128i assist)
{
	assist = _mm_shuffle_epi32(assist, 0xff);
	k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
	k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
	k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
	return _mm_xor_si128(k, assist);
}

TARGET static void expand(const unsigned char *key, __m128i *k)
{
	k[0] = _mm_loadu_si128((const __m128i *)key);
#define STEP(i, rcon) k[i] = next_key(k[i - 1], _mm_aeskeygenassist_si128(k[i - 1], rcon))
	STEP(1, 0x01);
	STEP(2, 0x02);
	STEP(3, 0x04);
	STEP(4, 0x08);
	STEP(5, 0x10);
	STEP(6, 0x20);
	STEP(7, 0x40);
	STEP(8, 0x80);
	STEP(9, 0x1b);
	STEP(10, 0x36);
#undef STEP
}

TARGET static inline __m128i encrypt(__m128i x, const __m128i *k)
{
	x = _mm_xor_si128(x, k[0]);
	for (int i = 1; i < 10; i++)
		x = _mm_aesenc_si128(x, k[i]);
	return _mm_aesenclast_si128(x, k[10]);
}

TARGET static inline __m128i swap(__m128i x)
{
	return _mm_shuffle_epi8(x, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

/* Product in GF(2^128), both with their bytes swapped: the product, one bit to the left since bits are reflected, and the reduction. */
TARGET static inline __m128i multiply(__m128i a, __m128i b)
{
	__m128i lo = _mm_clmulepi64_si128(a, b, 0x00), hi = _mm_clmulepi64_si128(a, b, 0x11), t, u, v;
	__m128i mid = _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x10), _mm_clmulepi64_si128(a, b, 0x01));

	lo = _mm_xor_si128(lo, _mm_slli_si128(mid, 8));
	hi = _mm_xor_si128(hi, _mm_srli_si128(mid, 8));
	t = _mm_srli_epi32(lo, 31);
	u = _mm_srli_epi32(hi, 31);
	lo = _mm_or_si128(_mm_slli_epi32(lo, 1), _mm_slli_si128(t, 4));
	hi = _mm_or_si128(_mm_or_si128(_mm_slli_epi32(hi, 1), _mm_slli_si128(u, 4)), _mm_srli_si128(t, 12));
	t = _mm_xor_si128(_mm_xor_si128(_mm_slli_epi32(lo, 31), _mm_slli_epi32(lo, 30)), _mm_slli_epi32(lo, 25));
	v = _mm_srli_si128(t, 4);
	lo = _mm_xor_si128(lo, _mm_slli_si128(t, 12));
	u = _mm_xor_si128(_mm_xor_si128(_mm_srli_epi32(lo, 1), _mm_srli_epi32(lo, 2)), _mm_xor_si128(_mm_srli_epi32(lo, 7), v));
	return _mm_xor_si128(hi, _mm_xor_si128(lo, u));
}

/* `size` is a multiple of 64; the text is encrypted where it stands. */
TARGET static void seal(const __m128i *k, const unsigned char *iv, unsigned char *text, size_t size, unsigned char *tag)
{
	const __m128i one = _mm_set_epi32(0, 0, 0, 1);
	__m128i h = swap(encrypt(_mm_setzero_si128(), k)), sum = _mm_setzero_si128(), first, counter;
	unsigned char block[16] = {0};

	memcpy(block, iv, 12);
	block[15] = 1;
	counter = swap(_mm_loadu_si128((const __m128i *)block));
	first = encrypt(swap(counter), k);
	for (size_t i = 0; i < size; i += 64) {
		__m128i x[4], *p = (__m128i *)(text + i);

		for (int b = 0; b < 4; b++) {
			counter = _mm_add_epi32(counter, one);
			x[b] = _mm_xor_si128(swap(counter), k[0]);
		}
		for (int r = 1; r < 10; r++) {
			for (int b = 0; b < 4; b++)
				x[b] = _mm_aesenc_si128(x[b], k[r]);
		}
		for (int b = 0; b < 4; b++) {
			x[b] = _mm_xor_si128(_mm_aesenclast_si128(x[b], k[10]), _mm_loadu_si128(p + b));
			_mm_storeu_si128(p + b, x[b]);
			sum = multiply(_mm_xor_si128(sum, swap(x[b])), h);
		}
	}
	sum = multiply(_mm_xor_si128(sum, _mm_set_epi64x(0, (long long)size * 8)), h);
	_mm_storeu_si128((__m128i *)tag, _mm_xor_si128(swap(sum), first));
}

static uint64_t aesgcm(unsigned long rounds)
{
	/* Test case 3 of the GCM specification. */
	static const unsigned char key[16] = {
		0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08};
	static const unsigned char iv[12] = {0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88};
	static const unsigned char plain[64] = {0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26,
		0x9a, 0x86, 0xa7, 0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72, 0x1c, 0x3c, 0x0c,
		0x95, 0x95, 0x68, 0x09, 0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5, 0xaa, 0x0d, 0xe6,
		0x57, 0xba, 0x63, 0x7b, 0x39, 0x1a, 0xaf, 0xd2, 0x55};
	static const unsigned char right[16] = {
		0x4d, 0x5c, 0x2a, 0xf3, 0x27, 0xcd, 0x64, 0xa6, 0x2c, 0xf3, 0x5a, 0xbd, 0x2b, 0xa6, 0xfa, 0xb4};
	unsigned char text[64], tag[16], *buf = work_alloc(SIZE);
	uint64_t sum = 1, first;
	__m128i k[11];

	expand(key, k);
	memcpy(text, plain, sizeof(text));
	seal(k, iv, text, sizeof(text), tag);
	if (memcmp(tag, right, 16))
		work_fail("wrong tag");
	work_begin();
	while (rounds--) {
		seal(k, iv, buf, SIZE, tag);
		memcpy(&first, tag, sizeof(first));
		sum = work_mix(sum, first);
	}
	return sum;
}
WORK(aesgcm_row, "aes-gcm", VECTOR, aesgcm, 6000, 0xb580005028e0e502, 0, has_aes);
