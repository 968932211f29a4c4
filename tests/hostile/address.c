/* SPDX-License-Identifier: MIT */
/*
 * Memory operands with hostile addresses, in code that is hot. Every case is one instruction in a loop of 64-bit code: first with good
 * addresses until it is translated and its pages are known, then with good and hostile ones mixed: random, not canonical, wrapped,
 * negative, at the ends of pages and slots, behind slots, not mapped, and addresses at which this process has something of its own
 * (every mapping of /proc/self/maps). In some cases the guest has a page at just these addresses. Then a slot is taken away.
 *
 * This process' memory around the slots, and more that is far from them, is full of one byte that the guest neither has nor makes.
 * Wrong: it changes, or four of it arrive in a register; another exception, CR2 or value than the page tables say; any other end.
 *
 *	usekvm address kernel|user [--ms=N] [--seed=N] [--verbose]
 */
#include <sys/time.h>

#include "../harness/kvmtest.h"
#include "random.h"

#define PG 4096ull
#define CANARY 0xc7
#define RAM (4ull << 20)  /* slot 0: code and tables; linear addresses are LIN more */
#define LIN 0x654300000000ull
#define NEAR (LIN + 0x10000000) /* data that is RIP-relative */
#define MAIN 0x10000ull   /* the loop, and the handlers */
#define AFTER (MAIN + 0x800)
#define STUBS (MAIN + 0xc00)
#define CASE 0x20000ull   /* the instruction: several pages, as RIP-relative operands want other places */
#define TABLE 0x30000ull  /* ENTRIES of struct entry */
#define TSS 0x50000ull
#define IDT 0x51000ull
#define STACK 0x60000ull  /* the handlers' */
#define VARS 0x61000ull   /* 0: entry, 8: count, 16: where to go on */
#define TABLES 0x100000ull /* page tables: to the end of RAM */
#define ENTRIES 72
#define WARM 44

#define NSLOTS 6u
/* Data slots: guest-physical address, pages. The second follows the first for the guest, and nothing else does. */
static const struct { u64 gpa; u32 pages; } slot_at[NSLOTS] = {
	{ 0x10000000, 4 }, { 0x10004000, 1 }, { 0x20000000, 2 }, { 0xfffff000, 1 }, { 0x100000000, 3 }, { 0x30001000, 1 },
};
static u8 *slot_host[NSLOTS], *ram, *arena, *far1, *far2;
static size_t arena_size;
#define FAR_SIZE (4u << 20)
static bool removed[NSLOTS], user, verbose;

static u64 below(u64 n) { return (rnd() >> 20) % n; }
static bool one_in(unsigned n) { return !below(n); }
/* No byte of it is the canary's. */
static u64 clean(void)
{
	u64 v = rnd();

	for (unsigned k = 0; k < 64; k += 8)
		if ((u8)(v >> k) == CANARY)
			v ^= 1ull << k;
	return v;
}

struct entry {
	u64 rbx, rcx, rsi, rdi, rsp, rbp, r12, r13, fs, gs, rax, rdx;
	u32 index[4];
	u64 pad[2];
	/* results */
	u64 out_rax, out_rdx, out_rsi, out_rdi, vec, cr2, out_rbx, out_rbp;
	u8 zmm[64];
};
_Static_assert(sizeof(struct entry) == 256, "");
static struct entry *table_of(void) { return (struct entry *)(ram + TABLE); }
static struct { u64 la; int vec; u64 cr2; } note[ENTRIES]; /* what is expected */

/* ---- page tables: what is mapped is also noted here ---- */

static u64 next_table;
static struct { u64 page, gpa; bool write; } maps[512];
static unsigned nmaps;

static u64 *table_entry(u64 la)
{
	u64 *t = (u64 *)(ram + TABLES);

	for (int shift = 39; shift > 12; shift -= 9) {
		u64 *e = &t[la >> shift & 511];

		if (!(*e & 1)) {
			REQUIRE(next_table + PG <= RAM);
			*e = next_table | 7;
			next_table += PG;
		}
		t = (u64 *)(ram + (*e & 0xffffffffff000ull));
	}
	return &t[la >> 12 & 511];
}

static void map_page(u64 la, u64 gpa, bool write)
{
	u64 *e = table_entry(la);

	if (*e & 1)
		return;
	*e = gpa | (write ? 7 : 5) | 1ull << 63;
	maps[nmaps++] = (__typeof__(maps[0])){ la & ~(PG - 1), gpa, write };
	REQUIRE(nmaps < 512);
}

static const __typeof__(maps[0]) *mapping(u64 la)
{
	for (unsigned k = 0; k < nmaps; k++)
		if (maps[k].page == (la & ~(PG - 1)))
			return &maps[k];
	return NULL;
}

static u8 *host_of(u64 gpa)
{
	for (u32 s = 0; s < NSLOTS; s++)
		if (gpa >= slot_at[s].gpa && gpa < slot_at[s].gpa + slot_at[s].pages * PG)
			return removed[s] ? NULL : slot_host[s] + (gpa - slot_at[s].gpa);
	return NULL;
}

static bool canonical(u64 a) { return (u64)((int64_t)(a << 16) >> 16) == a; }

/* ---- addresses ---- */

static u64 host_edges[4096], aliases[64];
static unsigned nedges, naliases;

static void read_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long a, b;
	char line[512];

	REQUIRE(f);
	while (fgets(line, sizeof(line), f) && nedges + 2 < 4096)
		if (sscanf(line, "%lx-%lx", &a, &b) == 2)
			host_edges[nedges++] = a, host_edges[nedges++] = b;
	fclose(f);
	for (u32 s = 0; s < NSLOTS; s++)
		host_edges[nedges++] = (u64)slot_host[s], host_edges[nedges++] = (u64)slot_host[s] + slot_at[s].pages * PG;
	for (unsigned k = 0; k < 8; k++)
		host_edges[nedges++] = (u64)arena + below(arena_size);
}

static u64 edge(u64 at)
{
	switch (below(4)) {
	case 0: return at - below(72);
	case 1: return at + below(64);
	case 2: return at - PG + below(2 * PG);
	default: return at;
	}
}

static const u64 corners[] = { 0, ~0ull, PG, 0x800000000000, 0xffff800000000000, 0x8000000000000000, 0x7fffffffffffffff, 0x80000000, 0x100000000,
	0xffffffff80000000, 0xfffffffffffff000, 0x7ffffffff000, 0xfee00000, 0x10000000, 0x10005000, 0xffff000000000000, 0x1000000000000 };

static u64 good_page(void)
{
	for (;;) {
		const __typeof__(maps[0]) *m = &maps[below(nmaps)];

		if (m->write && host_of(m->gpa))
			return m->page;
	}
}

static u64 hostile_any(void)
{
	switch (below(12)) {
	case 0: return rnd();
	case 1: case 2: return edge(host_edges[below(nedges)]);
	case 3: case 4: return edge(corners[below(sizeof(corners) / 8)]);
	case 5: return edge(maps[below(nmaps)].page + (one_in(2) ? PG : 0));
	case 6: return good_page() ^ 1ull << (12 + below(52)); /* another page, of the same TLB entry more often than not */
	case 7: return edge(good_page() + (below(8) << 47));
	case 8: return edge(aliases[below(naliases)]);
	case 9: return edge(1ull << 62 | ((good_page() ^ 1ull << 23) & 0xfff000)); /* what stands in that page's TLB entry while it is empty */
	case 10: return edge(1ull << 62 | below(4096) << 12);
	default: return (u32)rnd();
	}
}

static u64 hostile(void)
{
	u64 a;

	do
		a = hostile_any();
	while (a - (LIN - (1 << 20)) < RAM + (2 << 20)); /* the guest's own tables */
	return a;
}

/* ---- forms ---- */

enum { R = 1, W = 2, RW = 3, STACK_FORM = 4, STRING = 8, GATHER = 16, FREE = 32 /* not said what comes of it */, RAXV = 64 /* loads it to RAX */, VEC = 128,
	MOFFS = 256, FILL_RET = 512 };
struct form {
	const char *name;
	u8 n, b[8];   /* what stands before ModRM; the first `rexat` are legacy prefixes */
	u8 rexat;     /* where REX goes; 0xff: it is VEX or EVEX, no REX */
	u8 reg;       /* ModRM.reg */
	u8 size, align, imm;
	u16 flags;
	const char *need;
};
#define NOREX 0xff
static const struct form forms[] = {
	{ "mov r8", 1, { 0x8a }, 0, 0, 1, 1, 0, R, 0 }, { "mov r16", 2, { 0x66, 0x8b }, 1, 0, 2, 1, 0, R, 0 },
	{ "mov r32", 1, { 0x8b }, 0, 0, 4, 1, 0, R | RAXV, 0 }, { "mov r64", 2, { 0x48, 0x8b }, 0, 0, 8, 1, 0, R | RAXV, 0 },
	{ "mov m8", 1, { 0x88 }, 0, 0, 1, 1, 0, W, 0 }, { "mov m16", 2, { 0x66, 0x89 }, 1, 0, 2, 1, 0, W, 0 },
	{ "mov m32", 1, { 0x89 }, 0, 0, 4, 1, 0, W, 0 }, { "mov m64", 2, { 0x48, 0x89 }, 0, 0, 8, 1, 0, W, 0 },
	{ "mov m8 imm", 1, { 0xc6 }, 0, 0, 1, 1, 1, W, 0 }, { "mov m64 imm", 2, { 0x48, 0xc7 }, 0, 0, 8, 1, 4, W, 0 },
	{ "movzx", 2, { 0x0f, 0xb6 }, 0, 0, 1, 1, 0, R, 0 }, { "movsxd", 2, { 0x48, 0x63 }, 0, 0, 4, 1, 0, R, 0 },
	{ "movbe", 3, { 0x0f, 0x38, 0xf0 }, 0, 0, 4, 1, 0, R, 0 }, { "movnti", 3, { 0x48, 0x0f, 0xc3 }, 0, 0, 8, 1, 0, W, 0 },
	{ "add m", 2, { 0x48, 0x01 }, 0, 2, 8, 1, 0, RW, 0 }, { "add r", 2, { 0x48, 0x03 }, 0, 0, 8, 1, 0, R, 0 }, { "cmp", 1, { 0x3b }, 0, 0, 4, 1, 0, R, 0 },
	{ "not", 2, { 0x48, 0xf7 }, 0, 2, 8, 1, 0, RW, 0 }, { "inc", 1, { 0xfe }, 0, 0, 1, 1, 0, RW, 0 }, { "shl", 1, { 0xd1 }, 0, 4, 4, 1, 0, RW, 0 },
	{ "imul", 3, { 0x48, 0x0f, 0xaf }, 0, 0, 8, 1, 0, R, 0 }, { "cmovz", 3, { 0x48, 0x0f, 0x44 }, 0, 0, 8, 1, 0, R, 0 },
	{ "setc", 2, { 0x0f, 0x92 }, 0, 0, 1, 1, 0, W, 0 }, { "lock add", 3, { 0xf0, 0x48, 0x01 }, 1, 2, 8, 1, 0, RW, 0 },
	{ "lock inc", 2, { 0xf0, 0xff }, 1, 0, 4, 1, 0, RW, 0 }, { "xchg", 2, { 0x48, 0x87 }, 0, 0, 8, 1, 0, RW, 0 }, { "xchg r8", 1, { 0x86 }, 0, 0, 1, 1, 0, RW, 0 },
	{ "lock xadd", 4, { 0xf0, 0x48, 0x0f, 0xc1 }, 1, 2, 8, 1, 0, RW, 0 }, { "lock cmpxchg", 4, { 0xf0, 0x48, 0x0f, 0xb1 }, 1, 2, 8, 1, 0, RW, 0 },
	{ "cmpxchg8b", 2, { 0x0f, 0xc7 }, 0, 1, 8, 1, 0, FREE, 0 }, { "lock cmpxchg16b", 4, { 0xf0, 0x48, 0x0f, 0xc7 }, 1, 1, 16, 16, 0, FREE, 0 },
	{ "bts r", 3, { 0x48, 0x0f, 0xab }, 0, 2, 8, 1, 0, FREE, 0 }, { "bt r", 3, { 0x48, 0x0f, 0xa3 }, 0, 2, 8, 1, 0, FREE, 0 },
	{ "bts imm", 3, { 0x48, 0x0f, 0xba }, 0, 5, 8, 1, 1, RW, 0 }, { "lock btr r", 4, { 0xf0, 0x48, 0x0f, 0xb3 }, 1, 2, 8, 1, 0, FREE, 0 },
	{ "push m", 1, { 0xff }, 0, 6, 8, 1, 0, FREE, 0 }, { "pop m", 1, { 0x8f }, 0, 0, 8, 1, 0, FREE, 0 },
	{ "movups load", 2, { 0x0f, 0x10 }, 0, 0, 16, 1, 0, R | VEC, 0 }, { "movups store", 2, { 0x0f, 0x11 }, 0, 0, 16, 1, 0, W, 0 },
	{ "movaps load", 2, { 0x0f, 0x28 }, 0, 0, 16, 16, 0, R | VEC, 0 }, { "movaps store", 2, { 0x0f, 0x29 }, 0, 0, 16, 16, 0, W, 0 },
	{ "movd", 3, { 0x66, 0x0f, 0x6e }, 1, 0, 4, 1, 0, R | VEC, 0 }, { "movlps", 2, { 0x0f, 0x13 }, 0, 0, 8, 1, 0, W, 0 },
	{ "paddd", 3, { 0x66, 0x0f, 0xfe }, 1, 0, 16, 16, 0, R, 0 }, { "movntdq", 3, { 0x66, 0x0f, 0xe7 }, 1, 0, 16, 16, 0, W, 0 },
	{ "movq mm", 2, { 0x0f, 0x7f }, 0, 0, 8, 1, 0, W, 0 }, { "addsd", 3, { 0xf2, 0x0f, 0x58 }, 1, 0, 8, 1, 0, R, 0 }, { "pextrb", 4, { 0x66, 0x0f, 0x3a, 0x14 }, 1, 0, 1, 1, 1, W, 0 },
	{ "fld", 1, { 0xdd }, 0, 0, 8, 1, 0, FREE, 0 }, { "fstp", 1, { 0xdd }, 0, 3, 8, 1, 0, FREE, 0 }, { "fld80", 1, { 0xdb }, 0, 5, 10, 1, 0, FREE, 0 }, { "fnstcw", 1, { 0xd9 }, 0, 7, 2, 1, 0, FREE, 0 },
	{ "fxsave", 2, { 0x0f, 0xae }, 0, 0, 16, 16, 0, FREE, 0 }, { "stmxcsr", 2, { 0x0f, 0xae }, 0, 3, 4, 1, 0, FREE, 0 },
	{ "vmovdqu load", 3, { 0xc5, 0xfe, 0x6f }, NOREX, 0, 32, 1, 0, R | VEC, "avx2" }, { "vmovdqu store", 3, { 0xc5, 0xfe, 0x7f }, NOREX, 0, 32, 1, 0, W, "avx2" },
	{ "vmovaps store", 3, { 0xc5, 0xfc, 0x29 }, NOREX, 0, 32, 32, 0, W, "avx2" }, { "vpbroadcastb", 4, { 0xc4, 0xe2, 0x7d, 0x78 }, NOREX, 0, 1, 1, 0, R, "avx2" },
	{ "vmaskmov store", 4, { 0xc4, 0xe2, 0x75, 0x2e }, NOREX, 0, 32, 1, 0, FREE, "avx2" }, { "vmaskmov load", 4, { 0xc4, 0xe2, 0x75, 0x2c }, NOREX, 0, 32, 1, 0, FREE, "avx2" },
	{ "andn", 4, { 0xc4, 0xe2, 0xe8, 0xf2 }, NOREX, 0, 8, 1, 0, R, "avx2" }, { "shlx", 4, { 0xc4, 0xe2, 0xe9, 0xf7 }, NOREX, 0, 8, 1, 0, R, "avx2" },
	{ "vpgatherdd", 4, { 0xc4, 0xe2, 0x69, 0x90 }, NOREX, 0, 4, 1, 0, GATHER | FREE, "avx2" }, { "vpgatherdq", 4, { 0xc4, 0xe2, 0xe9, 0x90 }, NOREX, 0, 8, 1, 0, GATHER | FREE, "avx2" },
	{ "vmovdqu64 load", 5, { 0x62, 0xf1, 0xfe, 0x48, 0x6f }, NOREX, 0, 64, 1, 0, R | VEC, "avx512" }, { "vmovdqu64 store", 5, { 0x62, 0xf1, 0xfe, 0x48, 0x7f }, NOREX, 0, 64, 1, 0, W, "avx512" },
	{ "vmovdqu8 masked store", 5, { 0x62, 0xf1, 0x7f, 0x49, 0x7f }, NOREX, 0, 64, 1, 0, FREE, "avx512" }, { "vmovdqu8 masked load", 5, { 0x62, 0xf1, 0x7f, 0xc9, 0x6f }, NOREX, 0, 64, 1, 0, FREE, "avx512" },
	{ "vpaddd broadcast", 5, { 0x62, 0xf1, 0x75, 0x58, 0xfe }, NOREX, 0, 4, 1, 0, R, "avx512" }, { "vpcompressd", 5, { 0x62, 0xf2, 0x7d, 0x49, 0x8b }, NOREX, 0, 64, 1, 0, FREE, "avx512" },
	{ "vpscatterdd", 5, { 0x62, 0xf2, 0x7d, 0x09, 0xa0 }, NOREX, 0, 4, 1, 0, GATHER | FREE, "avx512" },
	{ "push", 1, { 0x50 }, 0, 0, 8, 1, 0, W | STACK_FORM, 0 }, { "push imm", 2, { 0x6a, 0x11 }, 0, 0, 8, 1, 0, W | STACK_FORM, 0 }, { "push16", 2, { 0x66, 0x50 }, 0, 0, 2, 1, 0, W | STACK_FORM, 0 },
	{ "pushfq", 1, { 0x9c }, 0, 0, 8, 1, 0, W | STACK_FORM, 0 }, { "call", 5, { 0xe8, 0, 0, 0, 0 }, 0, 0, 8, 1, 0, W | STACK_FORM, 0 },
	{ "call r", 2, { 0xff, 0xd2 }, 0, 0, 8, 1, 0, W | STACK_FORM | FILL_RET, 0 }, { "pop", 1, { 0x58 }, 0, 0, 8, 1, 0, R | STACK_FORM | RAXV, 0 },
	{ "ret", 1, { 0xc3 }, 0, 0, 8, 1, 0, FREE | R | STACK_FORM | FILL_RET, 0 }, { "ret imm", 3, { 0xc2, 0x08, 0x00 }, 0, 0, 8, 1, 0, FREE | R | STACK_FORM | FILL_RET, 0 },
	{ "leave", 1, { 0xc9 }, 0, 0, 8, 1, 0, FREE | STACK_FORM, 0 }, { "enter", 4, { 0xc8, 0x10, 0x00, 0x00 }, 0, 0, 8, 1, 0, FREE | STACK_FORM, 0 },
	{ "jmp m", 1, { 0xff }, 0, 4, 8, 1, 0, FREE | R | FILL_RET, 0 }, { "call m", 1, { 0xff }, 0, 2, 8, 1, 0, FREE | R | FILL_RET, 0 },
	{ "mov rax, moffs", 2, { 0x48, 0xa1 }, 0, 0, 8, 1, 0, R | RAXV | MOFFS, 0 }, { "mov moffs, rax", 2, { 0x48, 0xa3 }, 0, 0, 8, 1, 0, W | MOFFS, 0 },
	{ "rep movsb", 2, { 0xf3, 0xa4 }, 0, 0, 1, 1, 0, FREE | STRING, 0 }, { "rep movsq", 3, { 0xf3, 0x48, 0xa5 }, 0, 0, 8, 1, 0, FREE | STRING, 0 },
	{ "rep stosq", 3, { 0xf3, 0x48, 0xab }, 0, 0, 8, 1, 0, FREE | STRING, 0 }, { "movsd", 1, { 0xa5 }, 0, 0, 4, 1, 0, FREE | STRING, 0 }, { "stosb", 1, { 0xaa }, 0, 0, 1, 1, 0, FREE | STRING, 0 },
	{ "lodsq", 2, { 0x48, 0xad }, 0, 0, 8, 1, 0, FREE | STRING, 0 }, { "repe cmpsb", 2, { 0xf3, 0xa6 }, 0, 0, 1, 1, 0, FREE | STRING, 0 }, { "repne scasd", 2, { 0xf2, 0xaf }, 0, 0, 4, 1, 0, FREE | STRING, 0 },
};
#define NFORMS (sizeof(forms) / sizeof(forms[0]))

/* How the address is made. */
enum mode { BASE, BASE8, BASE32, SIB, SIB8, SIB32, NO_BASE, ABS, RIPREL, RSP, RBP8, R12_R13, R13_8, FS_SIB, GS_BASE32, FS_NO_BASE, GS_ABS, A32_BASE, A32_SIB32, A32_FS, MODES };

struct plan {
	const struct form *f;
	enum mode mode;
	unsigned scale;
	int32_t disp;
	u64 fixed;  /* ABS, RIPREL, MOFFS */
	bool ss;
	u64 go_on;
};

static u8 *emit_operand(u8 *p, const struct plan *c)
{
	u8 reg = (u8)(c->f->reg << 3);
	int32_t d = c->disp;

#define D32 (memcpy(p, &d, 4), p += 4)
	switch (c->mode) {
	case BASE: case A32_BASE: *p++ = reg | 3; break;
	case BASE8: *p++ = 0x40 | reg | 3; *p++ = (u8)d; break;
	case BASE32: case GS_BASE32: *p++ = 0x80 | reg | 3; D32; break;
	case SIB: case FS_SIB: case A32_FS: *p++ = reg | 4; *p++ = (u8)(c->scale << 6 | 1 << 3 | 3); break;
	case SIB8: *p++ = 0x40 | reg | 4; *p++ = (u8)(c->scale << 6 | 1 << 3 | 3); *p++ = (u8)d; break;
	case SIB32: case A32_SIB32: *p++ = 0x80 | reg | 4; *p++ = (u8)(c->scale << 6 | 1 << 3 | 3); D32; break;
	case NO_BASE: case FS_NO_BASE: *p++ = reg | 4; *p++ = (u8)(c->scale << 6 | 1 << 3 | 5); D32; break;
	case ABS: case GS_ABS: *p++ = reg | 4; *p++ = 0x25; D32; break;
	case RIPREL: *p++ = reg | 5; D32; break;
	case RSP: *p++ = 0x80 | reg | 4; *p++ = 0x24; D32; break;
	case RBP8: *p++ = 0x40 | reg | 5; *p++ = (u8)d; break;
	case R12_R13: *p++ = reg | 4; *p++ = (u8)(c->scale << 6 | 5 << 3 | 4); break;
	default: *p++ = 0x40 | reg | 5; *p++ = (u8)d; break; /* R13_8 */
	}
	return p;
}

static bool disp8(enum mode m) { return m == BASE8 || m == SIB8 || m == RBP8 || m == R13_8; }
static bool has_disp(enum mode m)
{
	return disp8(m) || m == BASE32 || m == SIB32 || m == NO_BASE || m == ABS || m == RIPREL || m == RSP || m == GS_BASE32 || m == FS_NO_BASE || m == GS_ABS || m == A32_SIB32;
}
static bool is_a32(enum mode m) { return m >= A32_BASE && m <= A32_FS; }
static bool uses_fs(enum mode m) { return m == FS_SIB || m == FS_NO_BASE || m == A32_FS; }
static bool uses_gs(enum mode m) { return m == GS_BASE32 || m == GS_ABS; }

static u8 *out_bytes(u8 *p, const void *b, size_t n) { return memcpy(p, b, n), p + n; }

/* The instruction at CASE, followed by a jump to go_on. */
static void emit_case(struct plan *c, u64 at)
{
	const struct form *f = c->f;
	u8 *p = ram + at;

	if (uses_fs(c->mode))
		*p++ = 0x64;
	if (uses_gs(c->mode))
		*p++ = 0x65;
	if (is_a32(c->mode))
		*p++ = 0x67;
	if (f->flags & STACK_FORM && f->b[0] == 0xe8) {
		int32_t rel = 0;

		*p++ = 0xe8;
		p = out_bytes(p, &rel, 4); /* to the jump behind it */
	} else if (f->flags & MOFFS) {
		p = out_bytes(p, f->b, f->n);
		p = out_bytes(p, &c->fixed, 8);
	} else if (f->flags & (STACK_FORM | STRING)) {
		p = out_bytes(p, f->b, f->n);
	} else {
		unsigned start = f->rexat == NOREX ? f->n : f->rexat;

		p = out_bytes(p, f->b, start);
		if (f->rexat != NOREX) {
			const u8 *b = f->b + start;
			u8 rex = (b[0] & 0xf0) == 0x40 ? *b++ : 0;

			if (c->mode == R12_R13)
				rex |= 0x43;
			if (c->mode == R13_8)
				rex |= 0x41;
			if (rex)
				*p++ = rex;
			p = out_bytes(p, b, (size_t)(f->b + f->n - b));
		}
		if (f->flags & GATHER) {
			int32_t d = c->disp;

			*p++ = 0x80 | (u8)(f->reg << 3) | 4; /* [rbx + xmm1 * scale + disp32] */
			*p++ = (u8)(c->scale << 6 | 1 << 3 | 3);
			p = out_bytes(p, &d, 4);
		} else {
			if (c->mode == RIPREL) {
				u64 next = LIN + at + (u64)(p + 5 - (ram + at)) + f->imm;

				c->disp = (int32_t)(c->fixed - next);
				c->fixed = next + (u64)(int64_t)c->disp;
			}
			p = emit_operand(p, c);
		}
		for (unsigned k = 0; k < f->imm; k++)
			*p++ = (u8)(0x11 + k);
	}
	c->go_on = at + (u64)(p - (ram + at));
	int32_t rel = (int32_t)(AFTER - (c->go_on + 5));
	c->go_on += LIN;
	*p++ = 0xe9;
	p = out_bytes(p, &rel, 4);
}

/* Registers so that the operand is at t (or near: what can be reached). Gives the linear address that comes out. */
static u64 aim(const struct plan *c, struct entry *e, u64 t)
{
	u64 seg = 0, idx = rnd(), base;
	unsigned s = c->scale;

	if (one_in(2))
		idx = (u64)(int64_t)(int8_t)idx;
	do
		seg = one_in(2) ? rnd() : hostile();
	while (!canonical(seg));
	e->fs = e->gs = seg;
	if (!uses_fs(c->mode) && !uses_gs(c->mode))
		seg = 0;
	u64 want = t - seg; /* the effective address */

	switch (c->mode) {
	case ABS: return (u64)(int64_t)c->disp;
	case RIPREL: return c->fixed;
	case GS_ABS: /* by the base */
		e->gs = t - (u64)(int64_t)c->disp;
		if (!canonical(e->gs))
			e->gs = 0;
		return e->gs + (u64)(int64_t)c->disp;
	case NO_BASE: case FS_NO_BASE:
		e->rcx = (want - (u64)(int64_t)c->disp) >> s;
		return (e->rcx << s) + (u64)(int64_t)c->disp + seg;
	default: break;
	}
	base = want - (has_disp(c->mode) ? (u64)(int64_t)c->disp : 0);
	switch (c->mode) {
	case SIB: case SIB8: case SIB32: case FS_SIB: case A32_SIB32: case A32_FS:
		e->rcx = idx;
		base -= idx << s;
		break;
	case R12_R13:
		e->r13 = idx;
		base -= idx << s;
		break;
	default: break;
	}
	if (is_a32(c->mode)) /* garbage above is cut off */
		base = (u32)base | (one_in(2) ? rnd() << 32 : 0);
	e->rbx = e->r12 = base;
	if (c->mode == R13_8)
		e->r13 = base;
	if (c->mode == RBP8)
		e->rbp = base;
	if (c->mode == RSP)
		e->rsp = base;
	return is_a32(c->mode) ? (u64)(u32)want + seg : t;
}

/* What comes of an access: the vector (0: none; -1: MMIO somewhere). *cr2: of a page fault. */
static int expect(u64 la, unsigned size, bool write, bool ss, unsigned align, u64 *cr2)
{
	bool mmio = false;

	if (!canonical(la) || !canonical(la + size - 1) || la + size - 1 < la)
		return canonical(la) && la + size - 1 < la ? -2 : ss ? 12 : 13;
	if (la & (align - 1))
		return 13;
	for (u64 a = la;; a = (a | (PG - 1)) + 1) {
		const __typeof__(maps[0]) *m = mapping(a);

		if (!m || (write && !m->write)) {
			if (!m && a - LIN < RAM)
				return -2; /* the tables and the code: not said */
			*cr2 = a;
			return 14;
		}
		mmio |= !host_of(m->gpa);
		if ((a | (PG - 1)) >= la + size - 1)
			break;
	}
	return mmio ? -1 : 0;
}

static u8 peek(u64 la)
{
	const __typeof__(maps[0]) *m = mapping(la);
	u8 *h = m ? host_of(m->gpa) : NULL;

	return h ? h[la & (PG - 1)] : 0;
}

/* ---- the guest's frame ---- */

#define VARS_AT "0x654300061000"
GUEST64(loop, "movabs $" VARS_AT ", %r10; mov (%r10), %r11\n"
	"mov 64(%r11), %rax; wrfsbase %rax; mov 72(%r11), %rax; wrgsbase %rax\n"
	"fninit; mov 24(%r10), %eax; cmp $1, %eax; ja 2f; je 1f\n"
	"movups 192(%r11), %xmm0; movups 96(%r11), %xmm1; pcmpeqd %xmm2, %xmm2; jmp 3f\n"
	"1: vmovdqu 192(%r11), %ymm0; vmovdqu 96(%r11), %xmm1; vpcmpeqd %ymm2, %ymm2, %ymm2; jmp 3f\n"
	"2: vmovdqu64 192(%r11), %zmm0; vmovdqu 96(%r11), %xmm1; vpcmpeqd %ymm2, %ymm2, %ymm2; kmovq 80(%r11), %k1\n"
	"3: mov (%r11), %rbx; mov 8(%r11), %rcx; mov 16(%r11), %rsi; mov 24(%r11), %rdi; mov 32(%r11), %rsp; mov 40(%r11), %rbp\n"
	"mov 48(%r11), %r12; mov 56(%r11), %r13; mov 80(%r11), %rax; mov 88(%r11), %rdx; jmp *16(%r10)");
GUEST64(after, "movabs $" VARS_AT ", %r10; mov (%r10), %r11\n"
	"mov %rax, 128(%r11); mov %rdx, 136(%r11); mov %rsi, 144(%r11); mov %rdi, 152(%r11); mov %rbx, 176(%r11); mov %rbp, 184(%r11)\n"
	"mov 24(%r10), %eax; cmp $1, %eax; ja 2f; je 1f; movups %xmm0, 192(%r11); jmp 3f\n"
	"1: vmovdqu %ymm0, 192(%r11); jmp 3f; 2: vmovdqu64 %zmm0, 192(%r11)\n"
	"3: add $256, %r11; mov %r11, (%r10); decq 8(%r10); jz 4f; movabs $0x654300010000, %rax; jmp *%rax; 4: int $0x20");
GUEST64(caught, "movabs $" VARS_AT ", %r10; mov (%r10), %r11; mov (%rsp), %r9; mov %r9, 160(%r11); mov %cr2, %r9; mov %r9, 168(%r11)\n"
	"add $16, %rsp; movabs $0x654300010800, %r9; mov %r9, (%rsp); andl $~0x50100, 16(%rsp); iretq");
#define CAUGHT (STUBS + 0x300)

static void gate(unsigned v, u64 handler, unsigned dpl)
{
	u64 *g = (u64 *)(ram + IDT) + 2 * v, h = LIN + handler;

	g[0] = (h & 0xffff) | 8ull << 16 | 1ull << 32 | (0x8eull | dpl << 5) << 40 | (h >> 16 & 0xffff) << 48;
	g[1] = h >> 32;
}

static void make_guest(void)
{
	u64 *gdt = (u64 *)(ram + TSS + 0x800);

	memcpy(ram + MAIN, loop, GUEST_SIZE(loop));
	memcpy(ram + AFTER, after, GUEST_SIZE(after));
	memcpy(ram + CAUGHT, caught, GUEST_SIZE(caught));
	REQUIRE(GUEST_SIZE(loop) < 0x800 && GUEST_SIZE(after) < 0x400);
	for (unsigned v = 0; v < 32; v++) {
		u8 *p = ram + STUBS + 16 * v;

		if (!(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21))
			*p++ = 0x6a, *p++ = 0;
		*p++ = 0x6a, *p++ = (u8)v;
		int32_t rel = (int32_t)(CAUGHT - ((u64)(p - ram) + 5));
		*p++ = 0xe9;
		memcpy(p, &rel, 4);
		gate(v, STUBS + 16 * v, 0);
	}
	ram[STUBS + 0x2f0] = 0xf4;
	gate(0x20, STUBS + 0x2f0, 3);
	gdt[1] = 0x00209b0000000000ull; /* kernel code, data, user data, code */
	gdt[2] = 0x0000930000000000ull;
	gdt[3] = 0x0000f30000000000ull;
	gdt[4] = 0x0020fb0000000000ull;
	*(u64 *)(ram + TSS + 4) = LIN + STACK;
	*(u64 *)(ram + TSS + 0x24) = LIN + STACK;
	next_table = TABLES + PG;
	for (u64 a = MAIN; a < TABLES; a += PG)
		*table_entry(LIN + a) = a | 7;
	/* Each data slot with what is behind it, back to back with others, at both ends of both halves. */
	for (u32 s = 0; s < NSLOTS; s++)
		for (u64 k = 0; k < slot_at[s].pages + 1; k++)
			map_page(slot_at[s].gpa + k * PG, slot_at[s].gpa + k * PG, true);
	static const u64 far_pages[] = { 0, PG, 0x7ffffffff000, 0xffff800000000000, 0xffff800000001000, 0xfffffffffffff000, 0xffffffffffffe000, 0x7ffff000, 0x80000000,
		0xffffffff80000000, 0xffffffff7ffff000, 0xfffff000, 0x100000000 };
	for (unsigned k = 0; k < sizeof(far_pages) / 8; k++) {
		u32 s = (u32)below(NSLOTS);
		map_page(far_pages[k], slot_at[s].gpa + below(slot_at[s].pages) * PG, true);
	}
	for (u64 k = 0; k < 24; k++) { /* pages of different slots side by side, some read-only, some with nothing behind them */
		u32 s = (u32)below(NSLOTS);
		map_page(0x40000000 + k * PG, slot_at[s].gpa + below(slot_at[s].pages + 1) * PG, k % 5 != 4);
	}
	for (u64 k = 0; k < 10; k++)
		map_page(NEAR + k * PG, slot_at[k % NSLOTS].gpa, k != 7);
	for (naliases = 0; naliases < 64; naliases++) { /* where this process has something */
		u32 s = (u32)below(NSLOTS);
		u64 la = host_edges[below(nedges)] & ~(PG - 1);
		aliases[naliases] = la;
		if (canonical(la) && la && next_table + 4 * PG < RAM && la - LIN >= RAM && one_in(2))
			map_page(la, slot_at[s].gpa + below(slot_at[s].pages) * PG, true);
	}
}

static void start(int vcpu, u64 rip)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = rip, .rsp = LIN + STACK - 256, .rflags = 2 };
	struct kvm_segment data = { .limit = ~0u, .selector = user ? 0x1b : 0x10, .type = 3, .present = 1, .dpl = user ? 3 : 0, .s = 1, .g = 1, .db = 1 };

	REQUIRE(!ioctl(vcpu, KVM_GET_SREGS, &s));
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cs = (struct kvm_segment){ .limit = ~0u, .selector = user ? 0x23 : 8, .type = 0xb, .present = 1, .dpl = user ? 3 : 0, .s = 1, .g = 1, .l = 1 };
	s.tr = (struct kvm_segment){ .base = LIN + TSS, .limit = 0x67, .selector = 0x30, .type = 0xb, .present = 1 };
	s.idt.base = LIN + IDT;
	s.idt.limit = 0xfff;
	s.gdt.base = LIN + TSS + 0x800;
	s.gdt.limit = 0x27;
	s.cr0 = 0x80010033;
	s.cr3 = TABLES;
	s.cr4 = 0x10620 | 0x40000;
	s.efer = 0xd00;
	REQUIRE(!ioctl(vcpu, KVM_SET_SREGS, &s));
	REQUIRE(!ioctl(vcpu, KVM_SET_REGS, &r));
}

/* ---- this process' memory ---- */

static void make_memory(int vm)
{
	size_t pages = 5;

	for (u32 s = 0; s < NSLOTS; s++)
		pages += slot_at[s].pages + 5;
	arena_size = pages * PG;
	arena = kt_pages(arena_size);
	memset(arena, CANARY, arena_size);
	far1 = malloc(FAR_SIZE);
	far2 = kt_pages(FAR_SIZE);
	REQUIRE(far1);
	memset(far1, CANARY, FAR_SIZE);
	memset(far2, CANARY, FAR_SIZE);
	u8 *p = arena + 5 * PG;
	for (u32 s = 0; s < NSLOTS; p += (slot_at[s].pages + 5) * PG, s++)
		slot_host[s] = p;
	ram = kt_pages(RAM);
	REQUIRE(!kt_slot(vm, 0, 0, 0, RAM, ram));
	for (u32 s = 0; s < NSLOTS; s++)
		REQUIRE(!kt_slot(vm, s + 1, s == 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0, slot_at[s].gpa, slot_at[s].pages * PG, slot_host[s]));
}

static bool all_canary(const char *what, const u8 *p, size_t n)
{
	for (size_t k = 0; k < n; k++)
		if (p[k] != CANARY) {
			printf("%s: changed at 0x%zx of 0x%zx\n", what, k, n);
			kt_failures++;
			return false;
		}
	return true;
}

static void check_near(void)
{
	u8 *from = arena;

	for (u32 s = 0; s < NSLOTS; s++) {
		all_canary("memory beside the slots", from, (size_t)(slot_host[s] - from));
		from = slot_host[s] + slot_at[s].pages * PG;
		if (removed[s])
			all_canary("memory of a slot that is gone", slot_host[s], slot_at[s].pages * PG);
	}
	all_canary("memory behind the slots", from, (size_t)(arena + arena_size - from));
}

static bool four_canaries(const u8 *p, size_t n)
{
	for (const u8 *q = p; (q = memchr(q, CANARY, n - (size_t)(q - p))); q++)
		if (q + 4 <= p + n && q[1] == CANARY && q[2] == CANARY && q[3] == CANARY)
			return true;
	return false;
}

static void fill_slots(const struct plan *c)
{
	for (u32 s = 0; s < NSLOTS; s++)
		for (u32 k = 0; !removed[s] && k < slot_at[s].pages * PG / 8; k++)
			((u64 *)slot_host[s])[k] = c->f->flags & FILL_RET && !one_in(8) ? c->go_on : clean();
}

/* ---- one case ---- */

static unsigned vectors, ncases, accesses, faults, mmios, hits_checked, internals;

static void fill_table(const struct plan *c, unsigned warm)
{
	const struct form *f = c->f;

	for (unsigned n = 0; n < ENTRIES; n++) {
		struct entry *e = &table_of()[n];
		bool bad = n >= warm && n < ENTRIES - 4 && one_in(2);
		u64 t = bad ? hostile() : good_page() + (one_in(4) ? PG - below(f->size + 8u) : below(PG - f->size + 1u));

		if (f->align > 1 && !one_in(6))
			t &= ~(u64)(f->align - 1);
		for (u64 *q = (u64 *)e; q < (u64 *)(e + 1); q++)
			*q = clean();
		e->vec = e->cr2 = 0;
		u64 la = t;
		e->fs = e->gs = 0;
		e->rsp = f->flags & FREE && !bad ? good_page() + 256 + below(PG - 512) : hostile();
		if (f->flags & FILL_RET)
			e->rdx = c->go_on;
		if (f->flags & STRING) {
			e->rdi = t;
			e->rsi = one_in(2) ? hostile() : good_page() + below(PG);
			if (one_in(3)) {
				u64 x = e->rsi;
				e->rsi = e->rdi, e->rdi = x;
			}
			e->rcx = one_in(12) ? below(700) : below(20);
			if (is_a32(c->mode))
				e->rsi &= one_in(2) ? 0xffffffff : ~0ull;
		} else if (f->flags & MOFFS) {
			la = c->fixed;
		} else if (f->flags & STACK_FORM) {
			e->rsp = e->rbp = f->flags & W || f->b[0] == 0xc8 ? t + f->size : t;
			if (f->b[0] == 0xc9)
				e->rsp = hostile();
		} else {
			la = aim(c, e, t);
			if (f->flags & GATHER)
				for (unsigned k = 0; k < 4; k++)
					e->index[k] = bad && one_in(2) ? (u32)rnd() : (u32)below(64);
		}
		note[n].la = la;
		note[n].vec = f->flags & FREE ? -2 : expect(la, f->size, f->flags & W, c->ss, f->align, &note[n].cr2);
	}
}

static void check_entry(const struct plan *c, unsigned n)
{
	const struct entry *e = &table_of()[n];
	const struct form *f = c->f;
	char why[160] = "";
	int want = note[n].vec;

	accesses++;
	faults += e->vec != 0;
	if (four_canaries((const u8 *)&e->out_rax, 32) || four_canaries((const u8 *)&e->out_rbx, 16) || four_canaries(e->zmm, 64))
		snprintf(why, sizeof(why), "loaded what is not the guest's");
	else if (want >= 0 && (int)e->vec != want && !(c->ss && (want == 12 || want == 13) && (e->vec == 12 || e->vec == 13)))
		snprintf(why, sizeof(why), "exception %d (CR2 0x%llx), want %d", (int)e->vec, (unsigned long long)e->cr2, want);
	else if (want == -1 && e->vec)
		snprintf(why, sizeof(why), "exception %d where nothing is", (int)e->vec);
	else if (want == 14 && e->cr2 != note[n].cr2)
		snprintf(why, sizeof(why), "CR2 0x%llx, want 0x%llx", (unsigned long long)e->cr2, (unsigned long long)note[n].cr2);
	else if (!want && f->flags & (RAXV | VEC)) {
		const u8 *got = f->flags & VEC ? e->zmm : (const u8 *)&e->out_rax;

		hits_checked++;
		for (unsigned k = 0; k < f->size; k++)
			if (got[k] != peek(note[n].la + k))
				snprintf(why, sizeof(why), "byte %u is %02x, memory has %02x", k, got[k], peek(note[n].la + k));
	}
	if (*why) {
		printf("case %u, %s, mode %u, entry %u at 0x%llx: %s\n", ncases, f->name, c->mode, n, (unsigned long long)note[n].la, why);
		printf("  rbx 0x%llx, rcx 0x%llx * %u, r13 0x%llx, disp 0x%x, fs 0x%llx\n", (unsigned long long)e->rbx, (unsigned long long)e->rcx,
			1u << c->scale, (unsigned long long)e->r13, (unsigned)c->disp, (unsigned long long)e->fs);
		kt_failures++;
	}
}

static volatile sig_atomic_t ticks;
static void tick(int sig) { ticks++; }

static void run_table(const struct plan *c, int vcpu, struct kvm_run *run, u64 at, unsigned warm)
{
	u64 *vars = (u64 *)(ram + VARS);
	int first = ticks;

	fill_slots(c);
	fill_table(c, warm);
	vars[0] = LIN + TABLE;
	vars[1] = ENTRIES;
	vars[2] = LIN + at;
	vars[3] = (u64)vectors;
	start(vcpu, LIN + MAIN);
	for (;;) {
		int r = ioctl(vcpu, KVM_RUN, 0);

		if (r < 0 && errno == EINTR) {
			if (ticks - first < 40)
				continue;
			struct kvm_regs regs;
			kt_get_regs(vcpu, &regs);
			printf("case %u, %s: does not end, rip 0x%llx\n", ncases, c->f->name, regs.rip);
			kt_failures++;
			break;
		}
		if (r < 0) {
			printf("case %u, %s: KVM_RUN fails with errno %d\n", ncases, c->f->name, errno);
			kt_failures++;
			break;
		}
		if (run->exit_reason == KVM_EXIT_HLT)
			break;
		if (run->exit_reason == KVM_EXIT_MMIO) {
			mmios++;
			if (run->mmio.len > 8 || host_of(run->mmio.phys_addr)) {
				printf("case %u, %s: MMIO of %u at 0x%llx\n", ncases, c->f->name, run->mmio.len, run->mmio.phys_addr);
				kt_failures++;
			}
			if (run->mmio.is_write ? four_canaries(run->mmio.data, run->mmio.len) : 0) {
				printf("case %u, %s: wrote what is not the guest's to 0x%llx\n", ncases, c->f->name, run->mmio.phys_addr);
				kt_failures++;
			}
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0x33, 8);
			continue;
		}
		if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR && c->f->flags & FREE) { /* not done on MMIO */
			internals++;
			start(vcpu, LIN + AFTER);
			continue;
		}
		kt_wrong_exit(__FILE__, __LINE__, vcpu, run, KVM_EXIT_HLT);
		printf("case %u, %s, mode %u\n", ncases, c->f->name, c->mode);
		break;
	}
	for (unsigned n = 0; n < ENTRIES && !kt_failures; n++)
		check_entry(c, n);
	for (u32 s = 0; s < NSLOTS; s++)
		if (!removed[s] && four_canaries(slot_host[s], slot_at[s].pages * PG)) {
			printf("case %u, %s: has copied what is not the guest's\n", ncases, c->f->name);
			kt_failures++;
		}
	check_near();
}

static void set_slot(int vm, u32 s, bool there)
{
	removed[s] = !there;
	REQUIRE(!kt_slot(vm, s + 1, 0, slot_at[s].gpa, there ? slot_at[s].pages * PG : 0, slot_host[s]));
	memset(slot_host[s], there ? 0x22 : CANARY, slot_at[s].pages * PG);
}

static void one_case(int vm, int vcpu, struct kvm_run *run)
{
	struct plan c = { .f = &forms[below(NFORMS)], .mode = (enum mode)below(MODES), .scale = (unsigned)below(4), .disp = (int32_t)rnd() };
	u64 at = CASE + (one_in(6) ? (1 + below(6)) * PG - below(12) : below(7 * PG));

	if (c.f->need && (!strcmp(c.f->need, "avx2") ? vectors < 1 : vectors < 2))
		return;
	if (c.f->flags & (STACK_FORM | MOFFS | GATHER) || (c.f->flags & STRING && !is_a32(c.mode) && !uses_fs(c.mode)))
		c.mode = BASE;
	if (c.f->rexat == NOREX && (c.mode == R12_R13 || c.mode == R13_8))
		c.mode = SIB;
	if (disp8(c.mode))
		c.disp = (int8_t)c.disp;
	else if (one_in(3))
		c.disp = (int32_t[]){ 0, -1, 1, INT32_MIN, INT32_MAX, -8, 0x1000, -0x1000 }[below(8)];
	if (c.f->n > 0 && c.f->b[0] == 0x62 && disp8(c.mode)) /* scaled by the size there */
		c.mode = SIB32;
	if (c.mode == ABS)
		c.disp = (int32_t)(one_in(2) ? good_page() + below(PG) : hostile());
	if (c.mode == RIPREL)
		c.fixed = one_in(3) ? LIN + (1 << 30) * (one_in(2) ? 1 : -1) + below(1 << 29) : edge(NEAR + below(11) * PG);
	if (c.f->flags & MOFFS)
		c.fixed = one_in(2) ? good_page() + below(PG) : hostile();
	c.ss = (c.mode == RSP || c.mode == RBP8 || c.f->flags & STACK_FORM);
	emit_case(&c, at);
	ncases++;
	if (verbose)
		printf("case %u: %s, mode %u, disp 0x%x, at 0x%llx\n", ncases, c.f->name, c.mode, c.disp, (unsigned long long)at);
	run_table(&c, vcpu, run, at, WARM);
	if (one_in(4) && !kt_failures) { /* the same code again, and a slot less: hostile at once */
		u32 s = (u32)below(NSLOTS);

		set_slot(vm, s, false);
		run_table(&c, vcpu, run, at, 0);
		set_slot(vm, s, true);
	}
}

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[128]; } cpuid;
	u64 ms = 2000;
	int sys = kt_open(), vm, vcpu;

	for (int k = 2; k < argc; k++)
		if (!strncmp(argv[k], "--ms=", 5))
			ms = strtoull(argv[k] + 5, NULL, 0);
		else if (!strncmp(argv[k], "--seed=", 7))
			rng = strtoull(argv[k] + 7, NULL, 0);
		else
			verbose = !strcmp(argv[k], "--verbose");
	if (argc < 2) {
		fprintf(stderr, "usage: %s kernel|user [--ms=N] [--seed=N] [--verbose]\n", argv[0]);
		return 2;
	}
	user = !strcmp(argv[1], "user");
	rng = rng * 0x9e3779b97f4a7c15ull + user;
	for (unsigned k = 0; k < 20; k++)
		rnd();
	REQUIRE((vm = ioctl(sys, KVM_CREATE_VM, 0)) >= 0);
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	cpuid.head.nent = 128;
	REQUIRE(!ioctl(sys, KVM_GET_SUPPORTED_CPUID, &cpuid));
	for (u32 n = 0; n < cpuid.head.nent; n++)
		if (cpuid.e[n].function == 7 && !cpuid.e[n].index) {
			if (!(cpuid.e[n].ebx & 1))
				SKIP("no FSGSBASE");
			vectors = !(cpuid.e[n].ebx & 1u << 5) ? 0 : (cpuid.e[n].ebx >> 16 & 1 && cpuid.e[n].ebx >> 30 & 1) ? 2 : 1;
		}
	make_memory(vm);
	REQUIRE((vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) >= 0);
	REQUIRE(!ioctl(vcpu, KVM_SET_CPUID2, &cpuid));
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs = { { 0, 0, vectors == 2 ? 0xe7 : vectors ? 7 : 3 } } };
	REQUIRE(!ioctl(vcpu, KVM_SET_XCRS, &x));
	struct kvm_run *run = mmap(NULL, (size_t)ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	REQUIRE(run != MAP_FAILED);
	read_maps();
	make_guest();
	struct sigaction sa = { .sa_handler = tick };
	sigaction(SIGALRM, &sa, NULL);
	struct itimerval it = { { 0, 50000 }, { 0, 50000 } };
	setitimer(ITIMER_REAL, &it, NULL);
	for (u64 end = now_ms() + ms; (now_ms() < end || ncases < 300) && !kt_failures;)
		one_case(vm, vcpu, run);
	all_canary("heap", far1, FAR_SIZE);
	all_canary("mapping", far2, FAR_SIZE);
	printf("%s: %u cases, %u accesses, %u faults, %u MMIO, %u loads compared, %u not done on MMIO\n", argv[1], ncases, accesses, faults, mmios, hits_checked, internals);
	if (ncases < 50 || faults < accesses / 50 || faults > accesses / 2 || mmios < 100 || hits_checked < 500) {
		printf("too little has happened\n");
		kt_failures++;
	}
	return kt_end();
}
