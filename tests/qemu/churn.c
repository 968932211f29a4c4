/* SPDX-License-Identifier: MIT */
/*
 * Runs in the guest of migrate.py: writes all the time and finds out whether anything was lost, torn or set back.
 *
 * Each of two threads, one a CPU, owns half of the memory. It visits its pages in an order that only it knows, checks that a page holds exactly
 * what was last written there (number, generation, a mixture of both in each word), and writes the next generation. So a page that was not
 * carried over, or an old version of one, is an error at its next visit. In between it keeps values in vector, x87 and general registers over a
 * loop long enough to be stopped in, and looks that time does not run backwards. Every half second: "churn: pages N errors E seconds T".
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;
#define WORDS 512

struct worker {
	pthread_t thread;
	unsigned id, pages;
	u64 *memory, *generation;
};

static atomic_ulong pages_done, errors, register_rounds;

static u64 mix(u64 z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static void wrong(const char *what, u64 where, u64 got, u64 want)
{
	if (atomic_fetch_add(&errors, 1) < 10)
		printf("churn: error: %s at %#llx: %#llx, want %#llx\n", what, (unsigned long long)where, (unsigned long long)got, (unsigned long long)want);
}

static void fill(u64 *p, u64 number, u64 generation)
{
	u64 x = mix(number << 32 ^ generation);

	p[0] = number;
	p[1] = generation;
	for (unsigned i = 2; i < WORDS; i++)
		p[i] = x + i * 0x9e3779b97f4a7c15ull;
}

static void look(const struct worker *w, const u64 *p, u64 number, u64 generation)
{
	u64 x = mix(number << 32 ^ generation);

	if (p[0] != number)
		wrong("page number", number, p[0], number);
	if (p[1] != generation)
		wrong("generation of a page", number, p[1], generation);
	for (unsigned i = 2; i < WORDS; i++) {
		if (p[i] == x + i * 0x9e3779b97f4a7c15ull)
			continue;
		wrong("word of a page", number << 12 | i * 8, p[i], x + i * 0x9e3779b97f4a7c15ull);
		return;
	}
}

/* All of it in registers for some 100000 turns. */
static void registers(u64 seed)
{
	u64 in[2] = { seed, ~seed }, out[2] = { 0, 0 }, r[4] = { mix(seed), mix(seed + 1), mix(seed + 2), 0 }, got[4];
	double x87 = 0, pi = 3.14159265358979323846;
	unsigned n = 100000;

	__asm__ volatile("movdqu (%[in]), %%xmm7\n movdqa %%xmm7, %%xmm15\n pxor %%xmm6, %%xmm6\n fldl (%[pi])\n"
			 "mov (%[r]), %%r12\n mov 8(%[r]), %%r13\n mov 16(%[r]), %%r14\n xor %%r15d, %%r15d\n"
			 "1: paddq %%xmm7, %%xmm6\n lea 1(%%r15), %%r15\n dec %[n]\n jnz 1b\n"
			 "movdqu %%xmm6, (%[out])\n pxor %%xmm7, %%xmm15\n movq %%xmm15, %%rax\n or %%rax, (%[out])\n fstpl (%[x87])\n"
			 "mov %%r12, (%[got])\n mov %%r13, 8(%[got])\n mov %%r14, 16(%[got])\n mov %%r15, 24(%[got])\n"
			 : [n] "+r"(n)
			 : [in] "r"(in), [out] "r"(out), [r] "r"(r), [got] "r"(got), [pi] "r"(&pi), [x87] "r"(&x87)
			 : "xmm6", "xmm7", "xmm15", "rax", "r12", "r13", "r14", "r15", "cc", "memory", "st");
	r[3] = 100000;
	if (memcmp(r, got, sizeof(r)))
		wrong("general registers", seed, got[0] ^ got[1] ^ got[2] ^ got[3], r[0] ^ r[1] ^ r[2] ^ r[3]);
	if (out[0] != in[0] * 100000 || out[1] != in[1] * 100000)
		wrong("vector registers", seed, out[0], in[0] * 100000);
	if (x87 != pi)
		wrong("x87 register", seed, 0, 0);
	atomic_fetch_add(&register_rounds, 1);
}

static u64 now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	cpu_set_t cpus;
	u64 last = now_ns();

	CPU_ZERO(&cpus);
	CPU_SET(w->id, &cpus);
	pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	for (unsigned i = 0; i < w->pages; i++)
		fill(w->memory + i * WORDS, (u64)w->id << 24 | i, 0);
	for (u64 n = 0;; n++) {
		unsigned i = (unsigned)(mix(n * 2 + w->id) % w->pages);

		look(w, w->memory + i * WORDS, (u64)w->id << 24 | i, w->generation[i]);
		fill(w->memory + i * WORDS, (u64)w->id << 24 | i, ++w->generation[i]);
		atomic_fetch_add(&pages_done, 1);
		if (n % 64)
			continue;
		registers(mix(n));
		u64 now = now_ns();
		if (now < last)
			wrong("time runs backwards", w->id, now, last);
		last = now;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned mib = argc > 1 ? (unsigned)atoi(argv[1]) : 32, threads = argc > 2 ? (unsigned)atoi(argv[2]) : 2;
	struct worker *w = calloc(threads, sizeof(*w));
	struct timespec half = { 0, 500000000 };

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!w || !mib)
		return 1;
	for (unsigned i = 0; i < threads; i++) {
		w[i].id = i;
		w[i].pages = mib * 256 / threads;
		w[i].memory = mmap(NULL, (size_t)w[i].pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		w[i].generation = calloc(w[i].pages, sizeof(u64));
		if (w[i].memory == MAP_FAILED || !w[i].generation || pthread_create(&w[i].thread, NULL, work, &w[i])) {
			printf("churn: error: cannot begin\n");
			return 1;
		}
	}
	for (;;) {
		u64 t = now_ns();

		nanosleep(&half, NULL);
		if (now_ns() - t < 500000000)
			wrong("a sleep is too short", 0, now_ns() - t, 500000000);
		printf("churn: pages %lu registers %lu errors %lu seconds %llu\n", (unsigned long)pages_done, (unsigned long)register_rounds, (unsigned long)errors,
		       (unsigned long long)(now_ns() / 1000000000));
	}
}
