/* SPDX-License-Identifier: MIT */
/* #DB (SDM 3, chapter 17): single step, DR0-3 code, data and I/O breakpoints, ICEBP, GD, RF, the MOV SS shadow. */
#include "guest.h"

static ulong bp_ip[16], bp_dr6[16], bp_flags[16];
static unsigned bp_n;
static volatile u32 word[4] __attribute__((aligned(16)));

static bool on_db(struct frame *f)
{
	if (bp_n < 16) {
		bp_ip[bp_n] = f->ip;
		bp_dr6[bp_n] = read_dr6();
		bp_flags[bp_n] = f->flags;
	}
	bp_n++;
	write_dr6(0xffff0ff0);
	if (f->flags & F_TF && bp_n >= 16)
		f->flags &= ~(ulong)F_TF;
	return true;
}

/* As a fault: go on behind with RF. */
static bool on_db_rf(struct frame *f)
{
	on_db(f);
	f->flags |= F_RF;
	return true;
}

static void begin(hook_fn h)
{
	bp_n = 0;
	hooks[DB] = h;
	write_dr6(0xffff0ff0);
	memset(bp_ip, 0, sizeof(bp_ip));
	memset(bp_dr6, 0, sizeof(bp_dr6));
}

#define TF_ON "pushf; orl $0x100, (%%rsp); popf\n"
#define TF_OFF "pushf; andl $~0x100, (%%rsp); popf\n"
extern u8 s_nop[], s_end[], s_ss[], s_rep[], s_int[], s_pop[], s_hlt[];

static void single_step(void)
{
	begin(on_db);
	asmv(TF_ON ".globl s_nop\ns_nop: nop; nop\n" TF_OFF ".globl s_end\ns_end:" : : : "cc", "memory");
	check("step: traps", bp_n, 5); /* after nop, nop, pushf, and, popf */
	check("step: first behind the instruction after POPF", bp_ip[0], (ulong)s_nop + 1);
	check("step: DR6.BS", bp_dr6[0], 0xffff4ff0);
	check("step: TF in the image", bp_flags[0] & F_TF, F_TF);
	check("step: last, behind the POPF that ends it", bp_ip[4], (ulong)s_end);
	begin(on_db);
	asmv("mov %%ss, %%eax\n" TF_ON ".globl s_ss\ns_ss: mov %%eax, %%ss; nop; nop\n" TF_OFF : : : "cc", "memory", "eax");
	check("step: none behind MOV SS", bp_ip[0], (ulong)s_ss + 3);
	begin(on_db);
	asmv("mov %0, %%rdi; mov $3, %%ecx\n" TF_ON ".globl s_rep\ns_rep: rep stosb\n" TF_OFF : : "r"(word) : "cc", "memory", "rdi", "rcx");
	check("step: each iteration of REP", bp_ip[0], (ulong)s_rep);
	check("step: second iteration", bp_ip[1], (ulong)s_rep);
	check("step: last iteration is behind", bp_ip[2], (ulong)s_rep + 2);
	begin(on_db);
	check_exc("step: INT n enters without a trap", TRY(asmv(TF_ON ".globl s_int\ns_int: int $0x41" : : : "memory", "cc")), 0x41, 0);
	check("step: none at INT n", bp_n, 0);
	check("step: image of INT n has TF", caught.flags & F_TF, F_TF);
	begin(on_db);
	asmv(TF_ON "cpuid\n" TF_OFF : : "a"(0), "c"(0) : "rbx", "rdx", "cc", "memory");
	check("step: CPUID", bp_n, 4);
	begin(on_db);
	asmv(TF_ON "inb $0x81, %%al; outb %%al, $0x81\n" TF_OFF : : : "eax", "cc", "memory");
	check("step: IN and OUT", bp_n, 5);
	if (cpuid(0x40000000, 0).b == 0x4b4d564b) { /* the emulator sleeps for ever */
		begin(on_db);
		asmv("cli\n" TF_ON ".globl s_hlt\ns_hlt: hlt\n" TF_OFF : : : "cc", "memory");
		check("step: HLT ends by the trap", bp_ip[0], (ulong)s_hlt + 1);
		check("step: HLT, all traps", bp_n, 4);
	}
	begin(on_db);
	check_exc("step: a fault comes instead of the trap", TRY(asmv(TF_ON "ud2" : : : "cc", "memory")), UD, 0);
	check("step: none at the fault", bp_n, 0);
	hooks[DB] = 0;
}

extern u8 c_bp[], c_next[];
static void code_bp(void)
{
	begin(on_db_rf);
	write_dr0((ulong)c_bp);
	write_dr7(0x402);
	asmv("xor %%eax, %%eax\n.globl c_bp\nc_bp: inc %%eax\n.globl c_next\nc_next: nop" : : : "eax", "cc");
	check("code breakpoint: once", bp_n, 1);
	check("code breakpoint: before the instruction", bp_ip[0], (ulong)c_bp);
	check("code breakpoint: DR6", bp_dr6[0], 0xffff0ff1);
	/* SDM 3, 17.3.1.1: the handler sets it itself. */
	check("code breakpoint: no RF in the image", bp_flags[0] & F_RF, 0);
	write_dr7(0x400);
	begin(on_db_rf);
	asmv("call 1f; jmp 2f; 1: ret; 2:" : : : "memory");
	check("code breakpoint: off", bp_n, 0);
	/* A fault's image has RF, a trap's has not. */
	check_exc("ud2 with RF", TRY(asmv("ud2")), UD, 0);
	check("fault image has RF", caught.flags & F_RF, F_RF);
	TRY(asmv("int3"));
	check("int3 image has no RF", caught.flags & F_RF, 0);
	hooks[DB] = 0;
}

extern u8 d_w[], d_rep[];
static void data_bp(void)
{
	begin(on_db);
	write_dr1((ulong)&word[1]);
	write_dr7(0x400 | 8 | 0xd << 20); /* G1, write, 4 bytes */
	asmv("mov %0, %%rdx; movl (%%rdx), %%eax; movl %%eax, -4(%%rdx)\n.globl d_w\nd_w: movb %%al, 3(%%rdx); nop" : : "r"(&word[1]) : "rax", "rdx", "memory");
	check("write breakpoint: once", bp_n, 1);
	check("write breakpoint: behind the instruction", bp_ip[0], (ulong)d_w + 3);
	check("write breakpoint: DR6", bp_dr6[0], 0xffff0ff2);
	begin(on_db);
	asmv("movl $0, -2(%0)" : : "r"(&word[1]) : "memory");
	check("write breakpoint: overlap from below", bp_n, 1);
	begin(on_db);
	asmv("movq $0, (%0)" : : "r"(&word[0]) : "memory");
	check("write breakpoint: wide write", bp_n, 1);
	begin(on_db);
	asmv("push %%rdi; push %%rcx; mov %0, %%rdi; mov $16, %%ecx\n.globl d_rep\nd_rep: rep stosb; pop %%rcx; pop %%rdi" : : "r"(word), "a"(0) : "memory");
	check("write breakpoint: in REP STOSB, four times", bp_n, 4);
	write_dr7(0x400 | 2 << 2 | 0xf << 20); /* G1, read or write */
	begin(on_db);
	asmv("movl (%0), %%eax; nop" : : "r"(&word[1]) : "eax");
	check("read breakpoint", bp_n, 1);
	begin(on_db);
	asmv("movb (%0), %%al; nop" : : "r"((u8 *)&word[1] + 4) : "eax");
	check("read breakpoint: byte behind", bp_n, 0);
	/* Both a step and a breakpoint: one #DB. */
	begin(on_db);
	asmv(TF_ON "movl (%0), %%eax\n" TF_OFF : : "r"(&word[1]) : "eax", "memory", "cc");
	check("read breakpoint and step: DR6", bp_dr6[0], 0xffff4ff2);
	/* Not enabled: the status bit may be set, the exception does not come. */
	write_dr7(0x400 | 0xf << 20);
	begin(on_db);
	asmv("movl (%0), %%eax; nop" : : "r"(&word[1]) : "eax");
	check("breakpoint not enabled", bp_n, 0);
	/* MOV SS holds a data breakpoint back until the next instruction is done. */
	write_dr7(0x400 | 2 << 2 | 0xf << 20);
	word[1] = SEL_DATA;
	begin(on_db);
	asmv(".globl d_ss\nd_ss: mov (%0), %%ss; nop; nop" : : "a"(&word[1]));
	extern u8 d_ss[];
	check("breakpoint of MOV SS: once", bp_n, 1);
	check("breakpoint of MOV SS comes after the next instruction", bp_ip[0], (ulong)d_ss + 3);
	if (cpuid(0x40000000, 0).b == 0x4b4d564b) { /* the emulator answers ICEBP with #UD */
		begin(on_db);
		asmv("mov (%0), %%ss; .byte 0xf1; nop" : : "a"(&word[1]));
		check("breakpoint of MOV SS and ICEBP are one #DB", bp_n, 1);
		check("breakpoint of MOV SS and ICEBP: DR6", bp_dr6[0] & 15, 2);
	}
	write_dr7(0x400);
	hooks[DB] = 0;
}

static void io_bp(void)
{
	ulong cr4 = read_cr4();

	write_cr4(cr4 | 8);
	begin(on_db);
	write_dr2(0x80);
	write_dr7(0x400 | 2 << 4 | 2 << 24); /* G2, I/O, 1 byte */
	outb(0x80, 1);
	asmv("nop");
	check("I/O breakpoint: out", bp_n, 1);
	check("I/O breakpoint: DR6", bp_dr6[0], 0xffff0ff4);
	(void)inb(0x80);
	asmv("nop");
	check("I/O breakpoint: in", bp_n, 2);
	outb(0x81, 1);
	check("I/O breakpoint: next port", bp_n, 2);
	write_dr7(0x400);
	write_cr4(cr4);
	hooks[DB] = 0;
}

static void others(void)
{
	begin(0);
	check_exc("ICEBP", TRY(asmv(".byte 0xf1")), DB, 0);
	check("ICEBP: DR6 untouched", caught.dr6, 0xffff0ff0);
	begin(0);
	write_dr7(0x2400);
	check_exc("GD: read DR0", TRY(read_dr0()), DB, 0);
	check("GD: DR6.BD", caught.dr6 & 0x2000, 0x2000);
	check("GD: cleared on entry", read_dr7() & 0x2000, 0);
	write_dr6(0xffff0ff0);
	ulong cr4 = read_cr4();
	check("DR4 is DR6", ({ ulong v; asmv("mov %%db4, %0" : "=r"(v)); v; }), 0xffff0ff0);
	write_cr4(cr4 | 8);
	check_exc("DR4 with DE", TRY(asmv("mov %%db4, %%rax" : : : "rax")), UD, 0);
	write_cr4(cr4);
	check_exc("DR6 high half", TRY(write_dr6(1ul << 32)), GP, 0);
	check_exc("DR7 high half", TRY(write_dr7(1ul << 32 | 0x400)), GP, 0);
	write_dr7(0);
	check("DR7 bit 10 reads 1", read_dr7(), 0x400);
	write_dr6(0);
	check("DR6 fixed bits", read_dr6() & 0xffff0ff0, 0xffff0ff0);
	write_dr6(0xffff0ff0);
}

void test(void)
{
	single_step();
	code_bp();
	data_bp();
	io_bp();
	others();
}
