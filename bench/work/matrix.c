/* SPDX-License-Identifier: MIT */
/* SSE: products of matrices of floats, 96 by 96, four columns at a time; what every x86-64 CPU has. */
#include <xmmintrin.h>
#include "work.h"

#define N 96

static uint64_t matrix(unsigned long rounds)
{
	static float a[N][N] __attribute__((aligned(16))), b[N][N] __attribute__((aligned(16))), c[N][N] __attribute__((aligned(16)));
	uint64_t s = 99;

	for (int i = 0; i < N; i++) {
		for (int k = 0; k < N; k++) {
			a[i][k] = (float)(work_random(&s) & 255) / 4096;
			b[i][k] = (float)(work_random(&s) & 255) / 4096;
		}
	}
	work_begin();
	while (rounds--) {
		for (int i = 0; i < N; i++) {
			for (int k = 0; k < N; k += 8) {
				__m128 s0 = _mm_setzero_ps(), s1 = s0;

				for (int j = 0; j < N; j++) {
					__m128 x = _mm_set1_ps(a[i][j]);

					s0 = _mm_add_ps(s0, _mm_mul_ps(x, _mm_load_ps(&b[j][k])));
					s1 = _mm_add_ps(s1, _mm_mul_ps(x, _mm_load_ps(&b[j][k + 4])));
				}
				_mm_store_ps(&c[i][k], s0);
				_mm_store_ps(&c[i][k + 4], s1);
			}
		}
		for (int i = 0; i < N; i++)
			a[i][i] = _mm_cvtss_f32(_mm_mul_ss(_mm_set_ss(c[i][N - 1 - i]), _mm_set_ss(0.5f)));
	}
	return work_hash(1, c, sizeof(c));
}
WORK(matrix_row, "sse-matrix", VECTOR, matrix, 350, 0xde64a3f33ba5e14b);
