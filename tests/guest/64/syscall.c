/* SPDX-License-Identifier: MIT */
/* SYSCALL, SYSRET, SYSENTER, SYSEXIT, UMIP, TSD and PCE, I/O permission: what ring 3 may do. */
#include "guest.h"

enum { EFER = 0xc0000080, STAR, LSTAR, CSTAR, FMASK };
ulong sc_rcx, sc_r11, sc_flags, sc_sp, sc_cs, sc_ss;
extern u8 sc_entry[], sc_entry_ret[], u_after[], u_at[];

__asm__(".globl sc_entry\nsc_entry:\n"
	"mov %rcx, sc_rcx(%rip); mov %r11, sc_r11(%rip); mov %rsp, sc_sp(%rip)\n"
	"lea kernel_stack_top(%rip), %rsp; pushf; pop sc_flags(%rip)\n"
	"mov %cs, %eax; mov %eax, sc_cs(%rip); mov %ss, %eax; mov %eax, sc_ss(%rip)\n"
	"int $0x42\n"
	".globl sc_entry_ret\nsc_entry_ret: mov sc_new_flags(%rip), %r11; sysretq\n");
ulong sc_new_flags;

static void u_syscall(void)
{
	asmv("mov $0x1234, %%eax; std\n.globl u_at\nu_at: syscall\n.globl u_after\nu_after: cld; ud2" : : : "rcx", "r11", "rax", "memory");
}
static void u_umip(void) { u64 v[2]; asmv("sgdt %0" : "=m"(v)); }
static void u_umip2(void) { u64 v[2]; asmv("sidt %0" : "=m"(v)); }
static void u_sldt(void) { asmv("sldt %%eax" : : : "eax"); }
static void u_str(void) { asmv("str %%eax" : : : "eax"); }
static void u_smsw(void) { asmv("smsw %%eax" : : : "eax"); }
static void u_rdtsc(void) { asmv("rdtsc" : : : "eax", "edx"); }
static void u_rdtscp(void) { asmv("rdtscp" : : : "eax", "edx", "ecx"); }
static void u_rdpmc(void) { asmv("rdpmc" : : "c"(0) : "eax", "edx"); }
static void u_in(void) { asmv("inb $0x80, %%al" : : : "eax"); }
static void u_inw(void) { asmv("inw $0x80, %%ax" : : : "eax"); }
static void u_hlt(void) { asmv("hlt"); }
static void u_rdmsr(void) { asmv("rdmsr" : : "c"(EFER) : "eax", "edx"); }
static void u_cr(void) { asmv("mov %%cr0, %%rax" : : : "rax"); }
static void u_dr(void) { asmv("mov %%db7, %%rax" : : : "rax"); }
static void u_invlpg(void) { asmv("invlpg (%%rsp)" : : ); }
static void u_wbinvd(void) { asmv("wbinvd"); }
static void u_lgdt(void) { u64 v[2] = { 0, 0 }; asmv("lgdt %0" : : "m"(v)); }
static void u_ltr(void) { asmv("ltr %w0" : : "r"(0)); }
static void u_clts(void) { asmv("clts"); }
static void u_swapgs(void) { asmv("swapgs"); }
static void u_sysret(void) { asmv("sysretq"); }
static void u_sysexit(void) { asmv("sysexitl"); }
static void u_sti(void) { asmv("sti"); }
static void u_popf(void) { asmv("pushf; orl $0x3200, (%%rsp); popf; pushf; pop %%rax; int $0x80" : : : "rax", "memory", "cc"); }
static void u_sysenter(void) { asmv("sysenter"); }

static void syscalls(void)
{
	check_exc("syscall without SCE", try_user(u_syscall, 0), UD, 0);
	wrmsr(EFER, rdmsr(EFER) | 1);
	wrmsr(STAR, (u64)0x10 << 32 | (u64)0x23 << 48);
	wrmsr(LSTAR, (ulong)sc_entry);
	wrmsr(FMASK, 0x700);
	check_exc("syscall arrives", try_user(u_syscall, 0), 0x42, 0);
	check("syscall rcx", sc_rcx, (ulong)USER(u_after));
	check("syscall r11 has DF", sc_r11 & 0x700, 0x400);
	check("syscall flags masked", sc_flags & 0x700, 0);
	check("syscall keeps rsp", sc_sp > (ulong)USER(0), 1);
	check("syscall cs", sc_cs & 0xffff, 0x10);
	check("syscall ss", sc_ss & 0xffff, 0x18);
	bool go_on(struct frame *f) { return true; }
	hooks[0x42] = go_on;
	sc_new_flags = 0x202;
	check_exc("sysret goes on behind", try_user(u_syscall, 0), UD, 0);
	check("sysret ip", caught.ip, (ulong)USER(u_after) + 1);
	check("sysret cs", caught.cs, 0x33);
	check("sysret ss", caught.ss, 0x2b);
	check("sysret flags", caught.flags & ~(ulong)F_RF, 0x202);
	sc_new_flags = 0x2 | F_RF | F_VM | F_NT;
	check_exc("sysret drops RF and VM", try_user(u_syscall, 0), UD, 0);
	check("sysret NT", caught.flags & (F_NT | F_VM), F_NT);
	/* A stepped program: the kernel runs without TF, and the trap comes when SYSRET has loaded it. */
	sc_new_flags = 0x102;
	check_exc("sysret with TF traps at once", try_user(u_syscall, 0), DB, 0);
	check("sysret with TF: behind the SYSCALL", caught.ip, (ulong)USER(u_after));
	hooks[0x42] = 0;
	check_exc("LSTAR non-canonical", TRY(wrmsr(LSTAR, 1ull << 60)), GP, 0);
	wrmsr(EFER, rdmsr(EFER) & ~1ull);
	check_exc("sysret without SCE", TRY(asmv("sysretq")), UD, 0);
	wrmsr(EFER, rdmsr(EFER) | 1);
	check_exc("sysret in ring 3", try_user(u_sysret, 0), GP, 0);
}

extern u8 se_entry[];
ulong se_cs, se_ss, se_sp, se_flags;
__asm__(".globl se_entry\nse_entry: mov %rsp, se_sp(%rip); pushf; pop se_flags(%rip); mov %cs, se_cs(%rip); mov %ss, se_ss(%rip); int $0x43\n");
static void go_exit64(void) { asmv("sysexitq" : : "c"((ulong)USER(user_stack_top) - 64), "d"((ulong)USER(u_hlt))); }
static void go_exit32(void) { asmv("sysexitl" : : "c"((ulong)USER(user_stack_top) - 64), "d"((ulong)USER(u_hlt))); }

static void sysenters(void)
{
	if (!(cpuid(1, 0).d & 1 << 11)) {
		skip("sysenter");
		return;
	}
	/* AMD has neither in long mode. */
	if (cpuid(0, 0).b != 0x756e6547) {
		wrmsr(0x174, SEL_CODE);
		check_exc("AMD: sysenter in long mode", try_user(u_sysenter, 0), UD, 0);
		check_exc("AMD: sysexit in long mode", TRY(asmv("sysexitl")), UD, 0);
		return;
	}
	wrmsr(0x174, 0);
	check_exc("sysenter with CS 0", try_user(u_sysenter, 0), GP, 0);
	check_exc("sysexit with CS 0", TRY(asmv("sysexitl")), GP, 0);
	wrmsr(0x174, SEL_CODE);
	wrmsr(0x175, (ulong)kernel_stack_top - 256);
	wrmsr(0x176, (ulong)se_entry);
	check_exc("sysenter arrives", try_user(u_sysenter, 0), 0x43, 0);
	check("sysenter cs", se_cs & 0xffff, SEL_CODE);
	check("sysenter ss", se_ss & 0xffff, SEL_CODE + 8);
	check("sysenter sp", se_sp, (ulong)kernel_stack_top - 256);
	check("sysenter clears IF", se_flags & F_IF, 0);
	check_exc("sysexit in ring 3", try_user(u_sysexit, 0), GP, 0);
	check_exc("64-bit sysexit", TRY(go_exit64()), GP, 0);
	check("64-bit sysexit cs", caught.cs, (SEL_CODE + 32) | 3);
	check("64-bit sysexit ss", caught.ss, (SEL_CODE + 40) | 3);
	check("64-bit sysexit ip", caught.ip, (ulong)USER(u_hlt));
	check_exc("32-bit sysexit", TRY(go_exit32()), GP, 0);
	check("32-bit sysexit cs", caught.cs, (SEL_CODE + 16) | 3);
}

static const struct { const char *name; void (*fn)(void); long vec; } privileged[] = {
	{ "user hlt", u_hlt, GP }, { "user rdmsr", u_rdmsr, GP }, { "user mov cr", u_cr, GP }, { "user mov dr", u_dr, GP },
	{ "user invlpg", u_invlpg, GP }, { "user wbinvd", u_wbinvd, GP }, { "user lgdt", u_lgdt, GP }, { "user ltr", u_ltr, GP },
	{ "user clts", u_clts, GP }, { "user swapgs", u_swapgs, GP }, { "user in", u_in, GP }, { "user sti", u_sti, GP },
	{ "user sgdt", u_umip, INT_DONE }, { "user sldt", u_sldt, INT_DONE }, { "user rdtsc", u_rdtsc, INT_DONE }, { "user rdpmc", u_rdpmc, GP },
};

static void rights(void)
{
	for (unsigned n = 0; n < sizeof(privileged) / sizeof(privileged[0]); n++)
		check_exc(privileged[n].name, try_user(*(void (*volatile *)(void))&privileged[n].fn, 0), privileged[n].vec, 0);
	ulong cr4 = read_cr4();
	if (cpuid(7, 0).c & 4) {
		write_cr4(cr4 | 0x800);
		check_exc("UMIP sgdt", try_user(u_umip, 0), GP, 0);
		check_exc("UMIP sidt", try_user(u_umip2, 0), GP, 0);
		check_exc("UMIP sldt", try_user(u_sldt, 0), GP, 0);
		check_exc("UMIP str", try_user(u_str, 0), GP, 0);
		check_exc("UMIP smsw", try_user(u_smsw, 0), GP, 0);
		check_exc("UMIP supervisor", TRY(u_umip()), NONE, 0);
	} else {
		skip("UMIP");
	}
	write_cr4(cr4 | 4);
	check_exc("TSD rdtsc", try_user(u_rdtsc, 0), GP, 0);
	if (cpuid(0x80000001, 0).d & 1u << 27)
		check_exc("TSD rdtscp", try_user(u_rdtscp, 0), GP, 0);
	check_exc("TSD supervisor", TRY(u_rdtsc()), NONE, 0);
	write_cr4(cr4);
	/* POPF in ring 3 leaves IF and IOPL as they are. */
	check_exc("user popf", try_user(u_popf, 0), INT_DONE, 0);
	check("user popf: IF and IOPL stay", caught.ax & (F_IF | F_IOPL), 0);
	check_exc("user in, IOPL 3", try_user(u_in, 0x3002), INT_DONE, 0);
	check_exc("user sti, IOPL 3", try_user(u_sti, 0x3002), INT_DONE, 0);
	/* The I/O map. */
	memset(tss.io, 0xff, sizeof(tss.io));
	tss.iomap = (u16)((ulong)tss.io - (ulong)&tss);
	tss.io[0x80 / 8] = 0xfe;
	check_exc("I/O map allows a byte", try_user(u_in, 0), INT_DONE, 0);
	check_exc("I/O map refuses a word", try_user(u_inw, 0), GP, 0);
	tss.io[0x80 / 8] = 0xfc;
	check_exc("I/O map allows a word", try_user(u_inw, 0), INT_DONE, 0);
	tss.iomap = sizeof(tss);
	check_exc("no I/O map", try_user(u_in, 0), GP, 0);
}

void test(void)
{
	syscalls();
	sysenters();
	rights();
}
