/* SPDX-License-Identifier: MIT */
/*
 * Several accesses off one base in a row: FS and GS, whose base changes between them (WRMSR, SWAPGS) or lies such that they run over the end of a page;
 * addresses in the instructions, whose page is mapped elsewhere between them, or may be read and not written; PUSHes and POPs in a row that end in a
 * page that is not there: RSP is that of the one which faults.
 */
#include "guest.h"

#define W 0xc0000000ul
enum { P = 1, RW = 2, US = 4, FS_BASE = 0xc0000100, GS_BASE, KERNEL_GS_BASE };
static u8 page[3][4096] __attribute__((aligned(4096)));
static u64 pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));

#define TURNS 40u
/* In the last turn, and whenever it is wrong. */
#define CHECK(name, got, want) do { u64 g_ = (got), w_ = (want); if (g_ != w_ || k == TURNS - 1) check(name, g_, w_); } while (0)
#define CHECK_EXC(name, what, vec, err) do { long v_ = (what); if (v_ != (vec) || k == TURNS - 1) check_exc(name, v_, vec, err); } while (0)

static void fill(void)
{
	for (unsigned n = 0; n < 3; n++)
		for (unsigned k = 0; k < 512; k++)
			((u64 *)page[n])[k] = n << 16 | k;
}

static u64 fs_three(void)
{
	u64 a, b, c;

	asmv("mov %%fs:0, %0; mov %%fs:8, %1; mov %%fs:-8, %2" : "=r"(a), "=r"(b), "=r"(c) : : "memory");
	return a + (b << 20) + (c << 40);
}

static void fs(void)
{
	u64 at_100 = 0x20 | 0x21ull << 20 | 0x1full << 40;

	for (unsigned k = 0; k < TURNS; k++) {
		wrmsr(FS_BASE, (ulong)page[0] + 0x100);
		CHECK("three off FS", fs_three(), at_100);
		wrmsr(FS_BASE, (ulong)page[1] + 0x100);
		CHECK("three off FS elsewhere", fs_three(), at_100 + 0x10000 + (0x10000ull << 20) + (0x10000ull << 40));
		wrmsr(FS_BASE, (ulong)page[1]); /* -8 is in the page before */
		CHECK("FS at the start of a page", fs_three(), 0x10000 + (0x10001ull << 20) + (511ull << 40));
		wrmsr(FS_BASE, (ulong)page[1] + 4092);
		u64 low;
		asmv("mov %%fs:0, %0; mov %%fs:-4, %%eax; mov %%fs:4, %%edx" : "=r"(low) : : "eax", "edx", "memory");
		CHECK("FS over the end of a page", low, 0x20000ull << 32);
	}
	wrmsr(FS_BASE, 0);
}

static void gs(void)
{
	u64 a = 0, b = 0, c = 0, d = 0;

	wrmsr(GS_BASE, (ulong)page[0] + 0x80);
	wrmsr(KERNEL_GS_BASE, (ulong)page[1] + 0x80);
	for (unsigned k = 0; k < TURNS; k++) {
		asmv("mov %%gs:0, %0; mov %%gs:8, %1; swapgs; mov %%gs:0, %2; mov %%gs:8, %3; swapgs" : "=&r"(a), "=&r"(b), "=&r"(c), "=&r"(d) : : "memory");
		CHECK("before SWAPGS", a << 20 | b, 0x1000011);
		CHECK("after SWAPGS", c << 20 | d, 0x10010ull << 20 | 0x10011);
	}
	wrmsr(GS_BASE, 0);
	wrmsr(KERNEL_GS_BASE, 0);
}

/* Code that stands in the window before the page it accesses, RIP-relative. */
static void at_page(void)
{
	/* mov D(%rip), %rax; mov D+8(%rip), %rcx; mov %rdi, (%rsi); invlpg (%rdx); mov D(%rip), %r8; mov D+8(%rip), %r9; ret */
	static const u8 form[] = {0x48, 0x8b, 0x05, 0, 0, 0, 0, 0x48, 0x8b, 0x0d, 0, 0, 0, 0, 0x48, 0x89, 0x3e, 0x0f, 0x01, 0x3a,
		0x4c, 0x8b, 0x05, 0, 0, 0, 0, 0x4c, 0x8b, 0x0d, 0, 0, 0, 0, 0xc3};
	static const u8 at[] = {3, 10, 23, 30};
	static u8 code[4096] __attribute__((aligned(4096)));
	register u64 r8 __asm__("r8"), r9 __asm__("r9");
	u64 a, c;

	memcpy(code, form, sizeof(form));
	for (unsigned k = 0; k < 4; k++)
		*(u32 *)(code + at[k]) = 4096 - at[k] - 4 + k % 2 * 8;
	pt[0] = (ulong)code | P | RW;
	for (unsigned k = 0; k < TURNS; k++) {
		pt[1] = (ulong)page[0] | P | RW;
		invlpg((void *)(W + 4096));
		asmv("call *%4" : "=a"(a), "=c"(c), "=r"(r8), "=r"(r9) : "r"(W), "D"((ulong)page[1] | P | RW), "S"(&pt[1]), "d"(W + 4096) : "memory");
		CHECK("before the page is mapped elsewhere", a << 20 | c, 1);
		CHECK("and after", r8 << 20 | r9, 0x10000ull << 20 | 0x10001);
	}
	/* mov D(%rip), %rax; mov %rax, D+8(%rip); mov D+16(%rip), %rcx; ret */
	static const u8 writes[] = {0x48, 0x8b, 0x05, 0xf9, 0x0f, 0, 0, 0x48, 0x89, 0x05, 0xfa, 0x0f, 0, 0, 0x48, 0x8b, 0x0d, 0xfb, 0x0f, 0, 0, 0xc3};
	memcpy(code, writes, sizeof(writes));
	for (unsigned k = 0; k < TURNS; k++) {
		pt[1] = (ulong)page[2] | P | RW;
		invlpg((void *)(W + 4096));
		asmv("call *%2" : "=&a"(a), "=&c"(c) : "r"(W) : "memory");
		CHECK("a page that may be written", a << 20 | c, 0x20000ull << 20 | 0x20002);
		pt[1] = (ulong)page[2] | P;
		invlpg((void *)(W + 4096));
		CHECK_EXC("the same that may only be read", TRY(asmv("call *%0" : : "r"(W) : "rax", "rcx", "memory")), PF, 3);
		CHECK("where", caught.cr2, W + 4096 + 8);
		CHECK("by which", caught.ip, W + 7);
	}
}

ulong sp_at;
static void pushes(void)
{
	asmv("mov %%rsp, %%rbp; mov sp_at(%%rip), %%rsp; push %%rax; push %%rcx; push %%rdx; push %%rbx; push %%rsi; push %%rdi; mov %%rbp, %%rsp" : : : "rbp", "memory");
}
static void pops(void)
{
	asmv("mov %%rsp, %%rbp; mov sp_at(%%rip), %%rsp; pop %%rax; pop %%rcx; pop %%rdx; mov %%rdx, %%rax; pop %%rsi; pop %%rdi; mov %%rbp, %%rsp" : : : "rbp", "rax", "rcx", "rdx", "rsi", "rdi", "memory");
}

static void rows(void)
{
	pt[4] = 0;
	pt[5] = (ulong)page[0] | P | RW | US;
	pt[6] = 0;
	write_cr3(read_cr3());
	for (unsigned k = 0; k < TURNS; k++) {
		sp_at = W + 0x5000 + 8 * 6;
		CHECK_EXC("six pushes", try_user(pushes, 0), INT_DONE, 0);
		sp_at = W + 0x5000 + 8 * (k % 6);
		CHECK_EXC("pushes into a page that is not there", try_user(pushes, 0), PF, 6);
		CHECK("at", caught.cr2, W + 0x5000 - 8);
		CHECK("with RSP", caught.sp, W + 0x5000);
		sp_at = W + 0x6000 - 8 * 5;
		CHECK_EXC("five pops", try_user(pops, 0), INT_DONE, 0);
		sp_at = W + 0x6000 - 8 * (k % 5);
		CHECK_EXC("pops from a page that is not there", try_user(pops, 0), PF, 4);
		CHECK("at", caught.cr2, W + 0x6000);
		CHECK("with RSP", caught.sp, W + 0x6000);
	}
}

void test(void)
{
	fill();
	pdpt[3] = (ulong)pd | P | RW | US;
	pd[0] = (ulong)pt | P | RW | US;
	write_cr3(read_cr3());
	fs();
	gs();
	at_page();
	rows();
}
