/* SPDX-License-Identifier: MIT */
/*
 * The guest that gdb.py debugs through QEMU's stub. Every label is a place where that script stops or expects to be. The guest's own
 * checks at the end show what the debugger wrote, and that it disturbed nothing else.
 */
#include "guest.h"

extern u64 counter;
u64 other, from_gdb, reg_from_gdb, hot_count, spins, flags_seen, table[4] = { 0x1111222233334444, 0x5555666677778888, 0x99, ~0ull };
u8 bytes[64] __attribute__((aligned(64)));
u32 stop_spinning;
void stepped(void);
u64 called(u64 n);
void hot(void);
void watched(void);
void spin(void);

/* Single steps: s0, s1, ... */
asm("stepped: s0: mov $0x1234, %ecx\n"
    "s1: add $0x11, %ecx\n"
    "s2: pushfq\n"
    "s3: pop %rdx\n"
    "s4: mov %rdx, flags_seen(%rip)\n"
    "s5: lea bytes(%rip), %rdi\n"
    "s6: mov $5, %ecx\n"
    "s7: mov $0x5a, %al\n"
    "s8: rep stosb\n" /* a step an iteration */
    "s9: call s_sub\n"
    "s10: push %rbx\n"
    "s11: mov $1, %eax\n"
    "s12: cpuid\n"
    "s13: pop %rbx\n"
    "s14: mov $0xcf8, %edx\n"
    "s15: mov $0x80000000, %eax\n" /* the host bridge's identification, 8086 */
    "s16: out %eax, %dx\n"
    "s17: mov $0xcfc, %edx\n"
    "s18: in %dx, %eax\n"
    "s19: mov $0xfed00004, %ecx\n" /* the HPET's period */
    "s20: mov (%rcx), %eax\n"
    "s21: mov %rsp, %rcx\n"
    "s22: pushq $0x18\n"
    "s23: push %rcx\n"
    "s24: pushq $2\n"
    "s25: pushq $0x10\n"
    "s26: lea s29(%rip), %rax\n"
    "s27: push %rax\n"
    "s28: iretq\n"
    "s29: ret\n"
    "s_sub: ret\n");

/* Called with 1, 2, ...; three times the argument. */
asm("called: lea (%rdi, %rdi, 2), %rax\n"
    "called_end: ret\n");

/* 100000 turns, most of them as translated code; `rare` once, in the 60000th. */
asm("hot: mov $100000, %ecx\n"
    "hot_body: incq hot_count(%rip)\n"
    "cmpq $60000, hot_count(%rip)\n"
    "je rare\n"
    "hot_next: dec %ecx\n"
    "jnz hot_body\n"
    "hot_done: ret\n"
    "rare: nop\n"
    "jmp hot_next\n");

/* Hot code that writes beside `counter`, then writes of each kind, w0 behind the first. r0 stands behind the first read. */
u64 counter16[2] __attribute__((aligned(16)));
asm(".set counter, counter16 + 8\n"
    "watched: mov $60000, %ecx\n"
    "1: incq other(%rip)\n"
    "dec %ecx\n"
    "jnz 1b\n"
    "movq $5, counter(%rip)\n"
    "w0: lock addq $2, counter(%rip)\n"
    "w1: mov $9, %eax\n"
    "xchg %rax, counter(%rip)\n"
    "w2: mov %rsp, %rcx\n"
    "lea counter + 8(%rip), %rsp\n"
    "pushq $11\n"
    "w3: mov %rcx, %rsp\n"
    "mov $12, %eax\n"
    "movd %eax, %xmm1\n"
    "movdqa %xmm1, counter16(%rip)\n" /* 16 bytes, of which `counter` is the upper half: 0 */
    "w3a: lea bytes(%rip), %rdi\n"
    "mov $3, %ecx\n"
    "mov $0x1111111111111111, %rax\n"
    "w4a: rep stosq\n"
    "mov counter(%rip), %rax\n"
    "r0: mov $60000, %ecx\n"
    "1: mov counter(%rip), %rax\n"
    "r1: dec %ecx\n"
    "jnz 1b\n"
    "watched_end: ret\n");

asm("spin: incq spins(%rip)\n"
    "cmpl $0, stop_spinning(%rip)\n"
    "je spin\n"
    "spin_end: ret\n");

/* The debugger's registers: rax and r15 come from it. */
asm("take: xor %eax, %eax\n"
    "take_here: mov %rax, reg_from_gdb(%rip)\n"
    "ret\n");
void take(void);

static unsigned traps;
extern u8 int3_behind[], own_break[];

static bool on_db(struct frame *f)
{
	traps++;
	f->flags |= F_RF;
	return true;
}

void test(void)
{
	u64 sum = 0;
	long vec;

	stepped();
	check("TF of the debugger does not show in PUSHF", flags_seen & F_TF, 0);
	for (u64 n = 1; n <= 5; n++)
		sum += called(n);
	check("breakpoints change no result", sum, 45);
	hot();
	check("hot code, each turn once", hot_count, 100000);
	watched();
	check("hot writes", other, 60000);
	vec = TRY(asmv("int3; int3_behind:"));
	check("INT3 of the guest is the guest's", vec, BP);
	check("INT3 of the guest: where", caught.ip, (ulong)int3_behind);
	hooks[DB] = on_db;
	asmv("pushf; orl $0x100, (%%rsp); popf; nop; trapped: pushf; andl $~0x100, (%%rsp); popf" : : : "cc", "memory");
	check("TF of the guest traps in the guest", traps, 4);
	write_dr0((ulong)own_break);
	write_dr7(0x402);
	asmv("own_break: nop" : : : "memory");
	write_dr7(0x400);
	check("DR0 of the guest traps in the guest", traps, 5);
	print("spinning\n");
	spin();
	take();
	check("memory that the debugger wrote", from_gdb, 0x123456789abcdef0);
	check("register that the debugger wrote", reg_from_gdb, 0xfeedface12345678);
}
