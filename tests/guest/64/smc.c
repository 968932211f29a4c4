/* SPDX-License-Identifier: MIT */
/* Code that changes: its own block, the next instruction, through another mapping, across a page; by MOV, MOVS, XCHG, CMPXCHG. */
#include "guest.h"

static u8 code[8192] __attribute__((aligned(4096)));
#define ALIAS(p) ((u8 *)USER(p)) /* the same memory elsewhere */

typedef u32 (*fn_t)(void);
static u32 run(u8 *p) { return ((fn_t)p)(); }
/* mov $imm32, %eax; ret */
static void put(u8 *p, u32 v)
{
	p[0] = 0xb8;
	memcpy(p + 1, &v, 4);
	p[5] = 0xc3;
}

extern u8 own[], own_imm[];
__asm__(".pushsection .data\n.globl own, own_imm\nown:\n"
	"movb $2, own_imm(%rip)\n" /* the next instruction */
	".byte 0xb8\nown_imm: .long 1\nret\n.popsection");
extern u8 loop_own[];
__asm__(".pushsection .data\n.globl loop_own\nloop_own:\n xor %eax, %eax; mov $4, %ecx\n"
	"1: .byte 0x05\n2: .long 1\n" /* add $imm, %eax */
	"incb 2b(%rip); dec %ecx; jnz 1b; ret\n.popsection");

/*
 * A write that process context 1 may do becomes one to code while context 2 runs: 1 comes back with its translations, and must still be seen. few
 * pages, and more than anybody remembers one by one.
 */
static bool two_contexts(unsigned pages, unsigned rounds)
{
	static u8 many[32][4096] __attribute__((aligned(4096)));
	ulong cr3 = read_cr3() & ~0xffful;
	bool same = true;

	write_cr4(read_cr4() | 1ul << 17);
	for (u32 k = 0; k < rounds; k++) {
		write_cr3(cr3 | 1 | 1ul << 63);
		for (unsigned n = 0; n < pages; n++)
			put(many[n], k * 64 + n);
		write_cr3(cr3 | 2 | 1ul << 63);
		for (unsigned n = 0; n < pages; n++)
			same &= run(many[n]) == k * 64 + n;
	}
	write_cr3(cr3);
	write_cr4(read_cr4() & ~(1ul << 17));
	return same;
}

void test(void)
{
	put(code, 1);
	check("as written", run(code), 1);
	put(code, 2);
	check("written again", run(code), 2);
	bool same = true;
	for (u32 n = 0; n < 200; n++) {
		*(volatile u32 *)(code + 1) = n;
		same &= run(code) == n;
	}
	check("200 changes by MOV", same, 1);
	check("next instruction", run(own), 2);
	own_imm[0] = 1;
	check("next instruction, second time", run(own), 2);
	check("loop that changes itself", run(loop_own), 1 + 2 + 3 + 4);
	for (u32 n = 0, v; n < 50; n++) {
		v = n * 3;
		asmv("xchg %0, (%1)" : "+r"(v) : "r"(ALIAS(code + 1)) : "memory");
		same &= run(code) == n * 3;
	}
	check("by XCHG through another mapping", same, 1);
	check("run through the other mapping", run(ALIAS(code)), 147);
	put(code, 7);
	check("changed, run through the other mapping", (run(ALIAS(code)), put(code, 9), run(ALIAS(code))), 9);
	/* Across the page end. */
	put(code + 4093, 0x11223344);
	check("across a page", run(code + 4093), 0x11223344);
	code[4096] = 0x55;
	check("across a page, second page changed", run(code + 4093), 0x11553344);
	code[4095] = 0x66;
	check("across a page, first page changed", run(code + 4093), 0x11556644);
	/* By a string instruction. */
	u8 text[6];
	put(text, 77);
	put(code + 64, 1);
	run(code + 64);
	memcpy(code + 64, text, 6);
	check("by REP MOVSB", run(code + 64), 77);
	/* CMPXCHG, LOCK ADD. */
	put(code, 5);
	run(code);
	asmv("lock addl $3, (%0)" : : "r"(code + 1) : "memory");
	check("by LOCK ADD", run(code), 8);
	asmv("lock cmpxchgl %1, (%0)" : : "r"(code + 1), "r"(100), "a"(8) : "memory");
	check("by CMPXCHG", run(code), 100);
	asmv("lock btsl $0, (%0)" : : "r"(code + 1) : "memory");
	check("by BTS", run(code), 101);
	/* Pushed code. */
	put(code + 128, 1);
	run(code + 128);
	asmv("mov %%rsp, %%rbx; lea 8(%0), %%rsp; push %1; mov %%rbx, %%rsp" : : "r"(code + 128), "r"(0x9090c3002a000fb8ul) : "rbx", "memory");
	check("by PUSH", run(code + 128), 0x002a000f);
	/* Data next to code, many times: no effect, but must stay right. */
	put(code + 256, 3);
	for (u32 n = 0; n < 20000; n++)
		*(volatile u32 *)(code + 512) = n;
	check("data beside code", run(code + 256), 3);
	/* The page is replaced by another one. */
	static u8 other[4096] __attribute__((aligned(4096)));
	static u64 pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
	pd[0] = (ulong)pt | 7;
	pdpt[2] = (ulong)pd | 7;
	put(code, 0xaa);
	put(other, 0xbb);
	pt[0] = (ulong)code | 7;
	invlpg((void *)0x80000000);
	check("mapped code", run((u8 *)0x80000000), 0xaa);
	pt[0] = (ulong)other | 7;
	invlpg((void *)0x80000000);
	check("remapped code", run((u8 *)0x80000000), 0xbb);
	pt[0] = (ulong)code | 7;
	write_cr3(read_cr3());
	check("mapped back by MOV CR3", run((u8 *)0x80000000), 0xaa);
	pt[0] = 0;
	invlpg((void *)0x80000000);
	check_exc("unmapped code", TRY(run((u8 *)0x80000000)), PF, 0x10);
	if (cpuid(1, 0).c & 1 << 17) {
		check("two contexts, a page", two_contexts(1, 200), 1);
		check("two contexts, 5 pages", two_contexts(5, 100), 1);
		check("two contexts, 32 pages", two_contexts(32, 50), 1);
	}
}
