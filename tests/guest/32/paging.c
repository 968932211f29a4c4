/* SPDX-License-Identifier: MIT */
/* 32-bit paging with and without PSE, and PAE: error codes, CR2, A and D, large pages, NX, reserved bits, PDPTEs (SDM 3, 4.3, 4.4). */
#include "guest.h"

enum { P = 1, RW = 2, US = 4, A = 0x20, D = 0x40, PS = 0x80 };
static u32 pd[1024] __attribute__((aligned(4096))), pt0[4][1024] __attribute__((aligned(4096))), pt[1024] __attribute__((aligned(4096)));
static u64 pdpt[4] __attribute__((aligned(32))), pd64[2][512] __attribute__((aligned(4096))), pt64[512] __attribute__((aligned(4096)));
static u8 page[4096] __attribute__((aligned(4096)));
#define W 0x40000000u
static u32 target;
static long rd(u32 a) { target = a; return TRY(asmv("movb (%0), %%al" : : "r"(target) : "eax")); }
static long wr(u32 a) { target = a; return TRY(asmv("movb $1, (%0)" : : "r"(target) : "memory")); }
static long ex(u32 a) { target = a; return TRY(asmv("call *%0" : : "r"(target) : "eax", "memory")); }
static void flush(void) { write_cr3(read_cr3()); }
static void pf(const char *name, long vec, ulong err)
{
	check_exc(name, vec, PF, err);
	if (vec == PF && caught.cr2 != target)
		check(name, caught.cr2, target);
}

static void two_levels(void)
{
	for (u32 n = 0; n < 4096; n++)
		pt0[n >> 10][n & 1023] = n << 12 | P | RW;
	for (u32 n = 0; n < 4; n++)
		pd[n] = (u32)pt0[n] | P | RW;
	pd[W >> 22] = (u32)pt | P | RW | US;
	pt[0] = (u32)page | P | RW;
	write_cr3((ulong)pd);
	write_cr0(read_cr0() | 0x80010000);
	page[0] = 0xc3;
	check_exc("32-bit: read", rd(W), NONE, 0);
	check("32-bit: A", pt[0] & (A | D), A);
	check("32-bit: A of the directory", pd[W >> 22] & A, A);
	check_exc("32-bit: write", wr(W + 1), NONE, 0);
	check("32-bit: D", pt[0] & D, D);
	check_exc("32-bit: run", ex(W), NONE, 0);
	pf("32-bit: not present", rd(W + 0x1000), 0);
	pf("32-bit: not present, write", wr(W + 0x1000), 2);
	pf("32-bit: not present, fetch has no I", ex(W + 0x1000), 0);
	pf("32-bit: no directory entry", rd(W + 0x400000), 0);
	pt[0] = (u32)page | P;
	flush();
	pf("32-bit: WP", wr(W), 3);
	write_cr0(read_cr0() & ~0x10000ul);
	check_exc("32-bit: WP off", wr(W + 1), NONE, 0);
	write_cr0(read_cr0() | 0x10000);
	pd[(W >> 22) + 1] = ((u32)page & 0xffc00000) | P | RW | PS;
	flush();
	check_exc("PS without PSE: a table", rd(W + 0x400000 + 0x3ff000), (*(u32 *)(((u32)page & 0xffc00000) + 4092) & 1) ? NONE : PF, 0);
	write_cr4(read_cr4() | 0x10);
	check("4 MiB page", *(volatile u8 *)(W + 0x400000 + ((u32)page & 0x3fffff)), 0xc3);
	check("4 MiB page: A", pd[(W >> 22) + 1] & (A | D), A);
	*(volatile u8 *)(W + 0x400000 + ((u32)page & 0x3fffff)) = 0xc3;
	check("4 MiB page: D", pd[(W >> 22) + 1] & (A | D), A | D);
	pd[(W >> 22) + 1] |= 1 << 21;
	flush();
	pf("4 MiB page: reserved bit", rd(W + 0x400000), 9);
	if (cpuid(7, 0).b & 1 << 7) {
		pt[0] = (u32)page | P | US;
		flush();
		write_cr4(read_cr4() | 1 << 20);
		pf("32-bit: SMEP", ex(W), 0x11);
		write_cr4(read_cr4() & ~(1ul << 20));
	}
	write_cr0(read_cr0() & ~0x80000000ul);
}

static void pae(void)
{
	for (u32 n = 0; n < 512; n++)
		pd64[0][n] = (u64)n << 21 | P | RW | PS;
	pdpt[0] = (u32)pd64[0] | P;
	pdpt[1] = (u32)pd64[1] | P;
	pd64[1][0] = (u32)pt64 | P | RW | US;
	pt64[0] = (u32)page | P | RW;
	write_cr4((read_cr4() & ~0x10ul) | 0x20);
	write_cr3((ulong)pdpt);
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
	write_cr0(read_cr0() | 0x80000000);
	check_exc("PAE: read", rd(W), NONE, 0);
	check("PAE: A", pt64[0] & (A | D), A);
	check_exc("PAE: write", wr(W + 1), NONE, 0);
	check("PAE: D", pt64[0] & D, D);
	pf("PAE: not present", wr(W + 0x1000), 2);
	pf("PAE: not present, fetch", ex(W + 0x1000), 0x10);
	pf("PAE: no PDPTE", rd(0x80000000), 0);
	pt64[0] |= 1ull << 63;
	flush();
	check_exc("PAE: NX reads", rd(W), NONE, 0);
	pf("PAE: NX", ex(W), 0x11);
	pt64[0] = (u32)page | P | RW | 1ull << 62;
	flush();
	pf("PAE: reserved bit 62", rd(W), 9);
	pt64[0] = (u32)page | P | RW;
	pd64[1][1] = PS | P | RW | 0x2000;
	flush();
	pf("PAE: 2 MiB page, reserved bit", rd(W + 0x200000), 9);
	pdpt[1] = 0;
	check_exc("PAE: PDPTEs are read by MOV CR3 only", rd(W), NONE, 0);
	invlpg((void *)W);
	check_exc("PAE: not by INVLPG", rd(W), NONE, 0);
	flush();
	pf("PAE: after MOV CR3", rd(W), 0);
	pdpt[1] = (u32)pd64[1] | P | 2;
	check_exc("PAE: MOV CR3 with a reserved bit in a PDPTE", TRY(flush()), GP, 0);
	pdpt[1] = (u32)pd64[1] | P;
	flush();
	check_exc("PAE: LME on while paging", TRY(wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x100)), GP, 0);
	check_exc("PAE: PCIDE outside long mode", TRY(write_cr4(read_cr4() | 1 << 17)), GP, 0);
	write_cr0(read_cr0() & ~0x80000000ul);
	write_cr4(read_cr4() & ~0x20ul);
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x100);
	check_exc("PG with LME without PAE", TRY(write_cr0(read_cr0() | 0x80000000)), GP, 0);
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x100ull);
}

void test(void)
{
	two_levels();
	pae();
}
