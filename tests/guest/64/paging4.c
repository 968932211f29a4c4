/* SPDX-License-Identifier: MIT */
/*
 * Four-level paging (SDM 3, chapter 4): error codes and CR2 of every kind of fault, accessed and dirty bits, WP, NX, SMEP, SMAP with AC,
 * reserved bits, large pages, INVLPG, global pages, PCID and INVPCID. The window at W is mapped by tables of this program.
 */
#include "guest.h"

#define W 0x8000000000ul
enum { P = 1, RW = 2, US = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ul << 63)
enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };

static u64 wpdpt[512] __attribute__((aligned(4096))), wpd[512] __attribute__((aligned(4096))), wpt[512] __attribute__((aligned(4096)));
static u8 page[4][4096] __attribute__((aligned(4096)));
#define ADDR(n) (W + (n) * 4096ul)

static void flush(void)
{
	ulong cr4 = read_cr4();

	if (cr4 & 0x80) {
		write_cr4(cr4 & ~0x80ul);
		write_cr4(cr4);
	}
	write_cr3(read_cr3());
}

static void map(unsigned n, u64 bits)
{
	wpt[n] = (ulong)page[n & 3] | bits;
	pml4[1] = (ulong)wpdpt | P | RW | US;
	wpdpt[0] = (ulong)wpd | P | RW | US;
	wpd[0] = (ulong)wpt | P | RW | US;
	flush();
}

static ulong target;
static long rd(ulong a) { target = a; return TRY(asmv("movb (%0), %%al" : : "r"(target) : "eax", "memory")); }
static long wr(ulong a) { target = a; return TRY(asmv("movb $1, (%0)" : : "r"(target) : "memory")); }
static long rmw(ulong a) { target = a; return TRY(asmv("lock addb $1, (%0)" : : "r"(target) : "memory")); }
static long ex(ulong a) { target = a; return TRY(asmv("call *%0" : : "r"(target) : "memory")); }
static void u_rd(void) { asmv("movb (%0), %%al" : : "r"(target) : "eax", "memory"); }
static void u_wr(void) { asmv("movb $1, (%0)" : : "r"(target) : "memory"); }
static void u_ex(void) { asmv("call *%0" : : "r"(target) : "memory"); }
static long urd(ulong a) { target = a; return try_user(u_rd, 0); }
static long uwr(ulong a) { target = a; return try_user(u_wr, 0); }
static long uex(ulong a) { target = a; return try_user(u_ex, 0); }

static void pf(const char *name, long vec, ulong err)
{
	check_exc(name, vec, PF, err);
	if (vec == PF && caught.cr2 != target)
		check(name, caught.cr2, target);
}

static void plain(void)
{
	map(0, 0);
	pf("read not present", rd(ADDR(0)), 0);
	pf("write not present", wr(ADDR(0)), E_W);
	pf("read-modify-write not present", rmw(ADDR(0)), E_W);
	pf("fetch not present", ex(ADDR(0)), E_I);
	pf("user read not present", urd(ADDR(0) + 5), E_U);
	pf("user write not present", uwr(ADDR(0) + 0xfff), E_U | E_W);
	pf("user fetch not present", uex(ADDR(0) + 7), E_U | E_I);
	map(0, P | RW);
	check_exc("supervisor read", rd(ADDR(0)), NONE, 0);
	pf("user read of supervisor page", urd(ADDR(0)), E_P | E_U);
	pf("user write of supervisor page", uwr(ADDR(0)), E_P | E_U | E_W);
	pf("user fetch of supervisor page", uex(ADDR(0)), E_P | E_U | E_I);
	map(0, P | US);
	check_exc("user read of read-only", urd(ADDR(0)), INT_DONE, 0);
	pf("user write of read-only", uwr(ADDR(0)), E_P | E_U | E_W);
	pf("WP: supervisor write of read-only", wr(ADDR(0)), E_P | E_W);
	pf("WP: read-modify-write of read-only", rmw(ADDR(0)), E_P | E_W);
	write_cr0(read_cr0() & ~0x10000ul);
	check_exc("WP off: supervisor write", wr(ADDR(0)), NONE, 0);
	pf("WP off: user write", uwr(ADDR(0)), E_P | E_U | E_W);
	write_cr0(read_cr0() | 0x10000);
	pf("WP on again", wr(ADDR(0)), E_P | E_W);
}

/*
 * The same instruction at one page over and over, and then at an address that is not canonical: one that differs from the page's in the highest bits
 * and one in the middle alone among them, as an engine that remembers pages might mark one that may not be accessed.
 */
static void not_canonical(void)
{
	for (unsigned bit = 47; bit < 63; bit++)
		for (ulong flip = 0; flip <= 0x800000; flip += 0x800000) {
			ulong bad = 1ul << bit | ((ADDR(0) & 0xfff000) ^ flip) | 8;
			map(0, P | US);
			for (unsigned k = 0; k < 3; k++)
				urd(ADDR(0) + k), uwr(ADDR(0) + k);
			check_exc("user write not canonical, after a read-only page", uwr(bad), GP, 0);
			map(0, 0);
			for (unsigned k = 0; k < 3; k++)
				urd(ADDR(0) + k);
			check_exc("user read not canonical, after a page not present", urd(bad), GP, 0);
			check_exc("user write not canonical, after a page not present", (uwr(ADDR(0)), uwr(bad)), GP, 0);
		}
}

static void upper(void)
{
	map(0, P | RW | US);
	wpd[0] &= ~(u64)RW;
	flush();
	pf("read-only by the directory", wr(ADDR(0)), E_P | E_W);
	wpd[0] |= RW;
	wpdpt[0] &= ~(u64)US;
	flush();
	pf("supervisor by the PDPT", urd(ADDR(0)), E_P | E_U);
	wpdpt[0] |= US;
	pml4[1] |= NX;
	flush();
	pf("no execute by the PML4", ex(ADDR(0)), E_P | E_I);
	pml4[1] &= ~NX;
	wpd[0] = 0;
	flush();
	pf("directory not present", rd(ADDR(0)), 0);
	pml4[1] = 0;
	flush();
	pf("PML4 not present", wr(ADDR(0)), E_W);
}

static void bits(void)
{
	map(0, P | RW | US);
	rd(ADDR(0));
	check("A by read", wpt[0] & (A | D), A);
	check("A of the directory", wpd[0] & (A | D), A);
	check("A of the PDPT", wpdpt[0] & (A | D), A);
	check("A of the PML4", pml4[1] & (A | D), A);
	wr(ADDR(0));
	check("D by write after read", wpt[0] & (A | D), A | D);
	map(0, P | RW | US);
	wr(ADDR(0));
	check("A and D by write", wpt[0] & (A | D), A | D);
	map(0, P | RW | US);
	page[0][0] = 0xc3;
	ex(ADDR(0));
	check("A by fetch", wpt[0] & (A | D), A);
	map(0, P | US);
	wr(ADDR(0));
	check("no D by a refused write", wpt[0] & D, 0);
	map(0, P | RW | US);
	wr(ADDR(0));
	wpt[0] &= ~(u64)(A | D);
	invlpg((void *)ADDR(0));
	rd(ADDR(0));
	check("A again after INVLPG", wpt[0] & (A | D), A);
	map(0, P | RW | US);
	asmv("mov $1, %%eax; mov $2, %%ecx; lock cmpxchg %%ecx, (%0)" : : "r"(ADDR(0)) : "eax", "ecx", "memory");
	check("D by a failing CMPXCHG", wpt[0] & D, D);
}

static void nx(void)
{
	map(0, P | RW | US | NX);
	page[0][0] = 0xc3;
	check_exc("NX page reads", rd(ADDR(0)), NONE, 0);
	pf("NX", ex(ADDR(0)), E_P | E_I);
	pf("NX user", uex(ADDR(0)), E_P | E_U | E_I);
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x800ull);
	flush();
	pf("bit 63 without NXE, read", rd(ADDR(0)), E_P | E_RSVD);
	pf("bit 63 without NXE, write", wr(ADDR(0)), E_P | E_RSVD | E_W);
	map(0, P | US);
	pf("NXE off: I bit of a not present fetch", (wpt[0] = 0, flush(), ex(ADDR(0))), 0);
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
	map(0, P | RW | US);
	check_exc("no NX", ex(ADDR(0)), NONE, 0);
}

static void reserved(void)
{
	unsigned width = cpuid(0x80000008, 0).a & 0xff;

	map(0, P | RW | US);
	if (width < 52) {
		wpt[0] |= 1ul << 51;
		flush();
		pf("reserved address bit, read", rd(ADDR(0)), E_P | E_RSVD);
		pf("reserved address bit, user write", uwr(ADDR(0)), E_P | E_RSVD | E_U | E_W);
		wpt[0] &= ~(1ul << 51);
		wpd[0] |= 1ul << width;
		flush();
		pf("reserved bit of the directory", rd(ADDR(0)), E_P | E_RSVD);
		map(0, P | RW | US);
	}
	pml4[1] |= PS;
	flush();
	pf("PS in the PML4", rd(ADDR(0)), E_P | E_RSVD);
	map(0, P | RW | US);
	wpd[0] = PS | P | RW | US | 0x2000;
	flush();
	pf("2 MiB page with bit 13", rd(ADDR(0)), E_P | E_RSVD);
	wpd[0] = 0x2000 | 1ul << 51 | RW;
	flush();
	pf("reserved bits do not count if not present", rd(ADDR(0)), 0);
	map(0, P | RW | US);
}

static void large(void)
{
	map(0, P | RW | US);
	wpd[1] = PS | P | RW | US;
	flush();
	ulong a = W + 0x200000 + ((ulong)page[1] & 0x1fffff);
	*(volatile u32 *)((ulong)page[1]) = 0x12345678;
	check("2 MiB page", *(volatile u32 *)a, 0x12345678);
	check("2 MiB page accessed", wpd[1] & (A | D), A);
	*(volatile u8 *)a = 1;
	check("2 MiB page dirty", wpd[1] & (A | D), A | D);
	wpd[1] = PS | P;
	flush();
	target = a;
	pf("2 MiB page read-only", wr(a), E_P | E_W);
	if (cpuid(0x80000001, 0).d & 1u << 26) {
		wpdpt[1] = PS | P | RW;
		flush();
		check("1 GiB page", *(volatile u32 *)(W + 0x40000000 + (ulong)page[1]), 0x12345601);
		check("1 GiB page accessed", wpdpt[1] & A, A);
		wpdpt[1] = PS | P | RW | 0x200000;
		flush();
		pf("1 GiB page with bit 21", rd(W + 0x40000000), E_P | E_RSVD);
	} else {
		skip("1 GiB page");
	}
}

static void crossing(void)
{
	map(0, P | RW | US);
	map(1, 0);
	page[0][4095] = 0x55;
	target = ADDR(0) + 4094;
	long v = TRY(asmv("movl $-1, (%0)" : : "r"(target) : "memory"));
	check_exc("write across into a missing page", v, PF, E_W);
	check("its CR2 is the second page", caught.cr2, ADDR(1));
	check("nothing was written", page[0][4095], 0x55);
	v = TRY(asmv("movl (%0), %%eax" : : "r"(target) : "eax"));
	check("read across, CR2", caught.cr2, ADDR(1));
	map(1, P | RW | US);
	asmv("movl $0x44332211, (%0)" : : "r"(target) : "memory");
	check("written across, first", page[0][4095], 0x22);
	check("written across, second", page[1][0], 0x33);
	page[0][4095] = 0x90;
	page[1][0] = 0xc3;
	map(1, P | RW | US | NX);
	v = ex(ADDR(0) + 4095);
	check_exc("fetch runs into NX", v, PF, E_P | E_I);
	check("fetch runs into NX, CR2", caught.cr2, ADDR(1));
	check("fetch runs into NX, ip", caught.ip, ADDR(1));
	page[0][4095] = 0xb0; /* mov $imm8, %al */
	page[1][0] = 0x77;
	page[1][1] = 0xc3;
	v = ex(ADDR(0) + 4095);
	check_exc("instruction crosses into NX", v, PF, E_P | E_I);
	check("instruction crosses into NX, CR2", caught.cr2, ADDR(1));
	check("instruction crosses into NX, ip", caught.ip, ADDR(0) + 4095);
	map(1, 0);
	v = ex(ADDR(0) + 4095);
	check_exc("instruction crosses into a missing page", v, PF, E_I);
	check("instruction crosses into a missing page, CR2", caught.cr2, ADDR(1));
	map(1, P | US);
	check_exc("instruction crosses", ex(ADDR(0) + 4095), NONE, 0);
	/* The next page is missing, but nothing needs it. */
	page[0][4094] = 0xc3;
	map(1, 0);
	check_exc("last instruction of a page", ex(ADDR(0) + 4094), NONE, 0);
}

static void smep_smap(void)
{
	struct regs f = cpuid(7, 0);
	ulong cr4 = read_cr4();

	map(0, P | RW | US);
	page[0][0] = 0xc3;
	if (f.b & 1 << 7) {
		check_exc("no SMEP", ex(ADDR(0)), NONE, 0);
		write_cr4(cr4 | 1 << 20);
		pf("SMEP", ex(ADDR(0)), E_P | E_I);
		check_exc("SMEP leaves data", rd(ADDR(0)), NONE, 0);
		check_exc("SMEP leaves users", uex(ADDR(0)), INT_DONE, 0);
		write_cr4(cr4);
	} else {
		skip("SMEP");
	}
	if (!(f.b & 1 << 20)) {
		skip("SMAP");
		return;
	}
	write_cr4(cr4 | 1 << 21);
	pf("SMAP read", rd(ADDR(0)), E_P);
	pf("SMAP write", wr(ADDR(0)), E_P | E_W);
	check_exc("SMAP leaves users", urd(ADDR(0)), INT_DONE, 0);
	long v = TRY(asmv("stac; movb (%0), %%al; clac" : : "r"(ADDR(0)) : "eax"));
	check_exc("SMAP with AC", v, NONE, 0);
	v = TRY(asmv("stac; movb $0xc3, (%0); clac; movb (%0), %%al" : : "r"(ADDR(0)) : "eax", "memory"));
	check_exc("SMAP after CLAC", v, PF, E_P);
	target = ADDR(0);
	v = TRY(asmv("pushf; orl $0x40000, (%%rsp); popf; movb (%0), %%al; pushf; andl $~0x40000, (%%rsp); popf" : : "r"(ADDR(0)) : "eax", "memory"));
	check_exc("SMAP with AC by POPF", v, NONE, 0);
	/* Implicit accesses ignore AC. */
	static u64 ldt[2];
	ldt[1] = desc(0, 0xfffff, 0x93, 0xc);
	gdt[SEL_OWN / 8] = desc((ulong)USER(ldt), sizeof(ldt) - 1, 0x82, 0);
	gdt[SEL_OWN / 8 + 1] = 0;
	asmv("lldt %w0" : : "r"(SEL_OWN));
	v = TRY(asmv("stac; mov %0, %%es" : : "r"(0xc)));
	check_exc("SMAP of a descriptor in a user page in spite of AC", v, PF, E_P);
	asmv("clac; lldt %w0" : : "r"(0));
	write_cr4(cr4);
}

static void tlb(void)
{
	ulong cr4 = read_cr4();
	volatile u8 *p = (u8 *)ADDR(0);

	page[0][0] = 0x10;
	page[1][0] = 0x11;
	map(0, P | RW | US);
	(void)*p;
	wpt[0] = (ulong)page[1] | P | RW | US;
	invlpg((void *)p);
	check("INVLPG", *p, 0x11);
	wpt[0] = (ulong)page[0] | P | RW | US;
	write_cr3(read_cr3());
	check("MOV CR3", *p, 0x10);
	write_cr4(cr4 | 0x80);
	wpt[0] = (ulong)page[0] | P | RW | US | G;
	flush();
	(void)*p;
	wpt[0] = (ulong)page[1] | P | RW | US | G;
	invlpg((void *)p);
	check("INVLPG of a global page", *p, 0x11);
	wpt[0] = (ulong)page[0] | P | RW | US | G;
	write_cr4(cr4);
	check("clearing PGE flushes global pages", *p, 0x10);
	wpt[0] = 0;
	wpt[0] = (ulong)page[1] | P | RW | US;
	invlpg((void *)p);
	wpt[0] = (ulong)page[1] | P | US;
	invlpg((void *)p);
	check_exc("a taken right after INVLPG", wr(ADDR(0)), PF, E_P | E_W);
	wpt[0] = (ulong)page[1] | P | US | RW;
	check_exc("a given right needs no INVLPG after the fault", wr(ADDR(0)), NONE, 0);
}

static void invpcid(ulong type, ulong pcid, ulong addr)
{
	struct { u64 pcid, addr; } d = { pcid, addr };

	asmv("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}

static void pcid(void)
{
	ulong cr4 = read_cr4(), cr3 = read_cr3() & ~0xffful;
	volatile u8 *p = (u8 *)ADDR(0);

	if (!(cpuid(1, 0).c & 1 << 17)) {
		skip("PCID");
		check_exc("CR4.PCIDE refused", TRY(write_cr4(read_cr4() | 1 << 17)), GP, 0);
		return;
	}
	map(0, P | RW | US);
	write_cr3(cr3 | 0x18);
	check_exc("PCIDE with a PCID in CR3", TRY(write_cr4(read_cr4() | 1 << 17)), GP, 0);
	write_cr3(cr3);
	check_exc("PCIDE", TRY(write_cr4(read_cr4() | 1 << 17)), NONE, 0);
	check_exc("CR0.PG off with PCIDE", TRY(write_cr0(read_cr0() & ~0x80000000ul)), GP, 0);
	write_cr3(cr3 | 1);
	check("CR3 reads back without bit 63", (write_cr3(cr3 | 2 | 1ul << 63), read_cr3()), cr3 | 2);
	write_cr3(cr3 | 1);
	page[0][0] = 0x20;
	page[1][0] = 0x21;
	(void)*p;
	wpt[0] = (ulong)page[1] | P | RW | US;
	invlpg((void *)p);
	check("INVLPG with a PCID", *p, 0x21);
	wpt[0] = (ulong)page[0] | P | RW | US;
	write_cr3(cr3 | 1);
	check("MOV CR3 flushes its PCID", *p, 0x20);
	if (cpuid(7, 0).b & 1 << 10) {
		wpt[0] = (ulong)page[1] | P | RW | US;
		invpcid(0, 1, (ulong)p);
		check("INVPCID address", *p, 0x21);
		wpt[0] = (ulong)page[0] | P | RW | US;
		invpcid(1, 1, 0);
		check("INVPCID context", *p, 0x20);
		wpt[0] = (ulong)page[1] | P | RW | US;
		invpcid(2, 0, 0);
		check("INVPCID all", *p, 0x21);
		wpt[0] = (ulong)page[0] | P | RW | US;
		invpcid(3, 0, 0);
		check("INVPCID all but global", *p, 0x20);
		check_exc("INVPCID type 4", TRY(invpcid(4, 0, 0)), GP, 0);
		check_exc("INVPCID with reserved bits", TRY(invpcid(1, 0x1000, 0)), GP, 0);
		check_exc("INVPCID non-canonical", TRY(invpcid(0, 1, 1ul << 60)), GP, 0);
		check_exc("INVPCID context ignores the address", TRY(invpcid(1, 1, 1ul << 60)), NONE, 0);
	} else {
		skip("INVPCID");
	}
	write_cr3(cr3);
	write_cr4(cr4);
	check_exc("INVLPG of a non-canonical address", TRY(asmv("invlpg (%0)" : : "r"(1ul << 60))), NONE, 0);
}

void test(void)
{
	plain();
	upper();
	not_canonical();
	bits();
	nx();
	reserved();
	large();
	crossing();
	smep_smap();
	tlb();
	pcid();
}
