/* SPDX-License-Identifier: MIT */
/* Scalar double precision: five bodies that attract each other. */
#include <math.h>
#include <string.h>
#include "work.h"

static uint64_t nbody(unsigned long rounds)
{
	struct {
		double x[3], v[3], mass;
	} b[5] = {
		{{0, 0, 0}, {0, 0, 0}, 39.5},
		{{4.8, -1.2, -0.1}, {0.6, 2.8, -0.02}, 0.038},
		{{8.3, 4.1, -0.4}, {-1.0, 1.8, 0.008}, 0.011},
		{{12.9, -15.1, -0.2}, {1.1, 0.9, -0.01}, 0.0017},
		{{15.4, -25.9, 0.2}, {1.0, 0.6, -0.03}, 0.002},
	};
	const double dt = 0.01;
	double energy = 0;
	uint64_t bits;

	for (unsigned long n = rounds * 1000; n; n--) {
		for (int i = 0; i < 5; i++) {
			for (int k = i + 1; k < 5; k++) {
				double d[3], r2 = 0, f;

				for (int a = 0; a < 3; a++) {
					d[a] = b[i].x[a] - b[k].x[a];
					r2 += d[a] * d[a];
				}
				f = dt / (r2 * sqrt(r2));
				for (int a = 0; a < 3; a++) {
					b[i].v[a] -= d[a] * b[k].mass * f;
					b[k].v[a] += d[a] * b[i].mass * f;
				}
			}
		}
		for (int i = 0; i < 5; i++) {
			for (int a = 0; a < 3; a++)
				b[i].x[a] += dt * b[i].v[a];
		}
	}
	for (int i = 0; i < 5; i++) {
		for (int a = 0; a < 3; a++)
			energy += 0.5 * b[i].mass * b[i].v[a] * b[i].v[a] + b[i].x[a];
	}
	memcpy(&bits, &energy, sizeof(bits));
	return bits;
}
WORK(nbody_row, "float", VECTOR, nbody, 1000, 0xc020dfebda57faec);
