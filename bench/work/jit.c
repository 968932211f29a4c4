/* SPDX-License-Identifier: MIT */
/*
 * Code made at run time: small functions written into a page that is writable and executable, each called a few times before the next takes
 * its place among 64; and a loop that changes an operand of its own in every turn.
 */
#include <string.h>
#include <sys/mman.h>
#include "work.h"

#define SLOTS 64
#define SLOT 64
#define CALLS 200

static unsigned char *code_page(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		work_fail("no memory that is writable and executable");
	return p;
}

static uint64_t jit(unsigned long rounds)
{
	/* mov %rdi,%rax; imul $k1,%rax,%rax; add $k2,%rax; mov %rax,%rcx; shr $15,%rcx; xor %rcx,%rax; ret */
	static const unsigned char form[] = {0x48, 0x89, 0xf8, 0x48, 0x69, 0xc0, 0, 0, 0, 0, 0x48, 0x05, 0, 0, 0, 0, 0x48, 0x89, 0xc1, 0x48,
		0xc1, 0xe9, 0x0f, 0x48, 0x31, 0xc8, 0xc3};
	unsigned char *page = code_page(SLOTS * SLOT);
	uint64_t s = 5, sum = 1;

	for (unsigned long i = 0; i < rounds * 100; i++) {
		unsigned char *p = page + i % SLOTS * SLOT;
		int32_t k1 = (int32_t)(work_random(&s) >> 34 | 1), k2 = (int32_t)(s & 0xffffff);
		uint64_t (*f)(uint64_t);

		memcpy(p, form, sizeof(form));
		memcpy(p + 6, &k1, 4);
		memcpy(p + 12, &k2, 4);
		memcpy(&f, &p, sizeof(f));
		for (int c = 0; c < CALLS; c++)
			sum = f(sum);
	}
	return sum;
}
WORK(jit_row, "jit", APP, jit, 1500, 0xbad52d04dae3553f);

static uint64_t self_modifying(unsigned long rounds)
{
	/* xor %eax,%eax; 1: addl $7,2f-4(%rip); add $1,%eax; 2: imul $3,%eax,%eax; dec %rdi; jne 1b; ret */
	static const unsigned char form[] = {
		0x31, 0xc0, 0x83, 0x05, 0x01, 0, 0, 0, 0x07, 0x05, 0x01, 0, 0, 0, 0x6b, 0xc0, 0x03, 0x48, 0xff, 0xcf, 0x75, 0xec, 0xc3};
	unsigned char *page = code_page(4096);
	uint32_t (*f)(uint64_t);

	memcpy(page, form, sizeof(form));
	memcpy(&f, &page, sizeof(f));
	return f(rounds * 1000);
}
WORK(smc_row, "self-modifying", APP, self_modifying, 300, 0x0000000050b16fac);
