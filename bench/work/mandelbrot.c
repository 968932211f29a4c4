/* SPDX-License-Identifier: MIT */
/* AVX2 with FMA, and AVX-512: the same Mandelbrot set of doubles, four or eight points at a time; the counts are the same with both. */
#include <immintrin.h>
#include "work.h"

#define SIZE 64
#define STEPS 200

static int has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

__attribute__((target("avx2,fma"))) static uint64_t mandel_avx2(unsigned long rounds)
{
	const __m256d four = _mm256_set1_pd(4);
	uint64_t sum = 0;

	for (unsigned long n = 0; n < rounds; n++) {
		uint64_t counts[4];
		__m256i total = _mm256_setzero_si256();

		for (int y = 0; y < SIZE; y++) {
			__m256d ci = _mm256_set1_pd(-1 + 2.0 / SIZE * y + 1e-6 * (double)(n & 1023));

			for (int x = 0; x < SIZE; x += 4) {
				__m256d cr = _mm256_add_pd(_mm256_set_pd(3, 2, 1, 0), _mm256_set1_pd(x));
				__m256d zr = _mm256_setzero_pd(), zi = zr;

				cr = _mm256_fmadd_pd(cr, _mm256_set1_pd(2.5 / SIZE), _mm256_set1_pd(-2));
				for (int i = 0; i < STEPS; i++) {
					__m256d r2 = _mm256_mul_pd(zr, zr), i2 = _mm256_mul_pd(zi, zi);
					__m256d in = _mm256_cmp_pd(_mm256_add_pd(r2, i2), four, _CMP_LE_OQ);

					if (_mm256_testz_pd(in, in))
						break;
					total = _mm256_sub_epi64(total, _mm256_castpd_si256(in));
					zi = _mm256_fmadd_pd(_mm256_add_pd(zr, zr), zi, ci);
					zr = _mm256_add_pd(_mm256_sub_pd(r2, i2), cr);
				}
			}
		}
		_mm256_storeu_si256((__m256i *)counts, total);
		sum = work_mix(sum, counts[0] + counts[1] + counts[2] + counts[3]);
	}
	return sum;
}
WORK(avx2_row, "avx2-mandel", VECTOR, mandel_avx2, 300, 0x1726c53fc93d3b03, 0, has_avx2);

__attribute__((target("avx512f,avx512dq"))) static uint64_t mandel_avx512(unsigned long rounds)
{
	const __m512d four = _mm512_set1_pd(4);
	const __m512i one = _mm512_set1_epi64(1);
	uint64_t sum = 0;

	for (unsigned long n = 0; n < rounds; n++) {
		__m512i total = _mm512_setzero_si512();

		for (int y = 0; y < SIZE; y++) {
			__m512d ci = _mm512_set1_pd(-1 + 2.0 / SIZE * y + 1e-6 * (double)(n & 1023));

			for (int x = 0; x < SIZE; x += 8) {
				__m512d cr = _mm512_add_pd(_mm512_set_pd(7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_pd(x));
				__m512d zr = _mm512_setzero_pd(), zi = zr;

				cr = _mm512_fmadd_pd(cr, _mm512_set1_pd(2.5 / SIZE), _mm512_set1_pd(-2));
				for (int i = 0; i < STEPS; i++) {
					__m512d r2 = _mm512_mul_pd(zr, zr), i2 = _mm512_mul_pd(zi, zi);
					__mmask8 in = _mm512_cmp_pd_mask(_mm512_add_pd(r2, i2), four, _CMP_LE_OQ);

					if (!in)
						break;
					total = _mm512_mask_add_epi64(total, in, total, one);
					zi = _mm512_fmadd_pd(_mm512_add_pd(zr, zr), zi, ci);
					zr = _mm512_add_pd(_mm512_sub_pd(r2, i2), cr);
				}
			}
		}
		sum = work_mix(sum, (uint64_t)_mm512_reduce_add_epi64(total));
	}
	return sum;
}
WORK(avx512_row, "avx512-mandel", VECTOR, mandel_avx512, 300, 0x1726c53fc93d3b03, 0, has_avx512);
