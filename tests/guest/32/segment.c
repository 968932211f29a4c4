/* SPDX-License-Identifier: MIT */
/*
 * Protected-mode segments (SDM 3, chapters 3, 5, 6): limits, expand-down, null selectors, wrong types, not-present ones, 16-bit code
 * and stacks; call gates, privilege changes with TSS stacks, IRET and RETF forms, hardware task switches.
 */
#include "guest.h"

enum { S0 = SEL_OWN, S1 = SEL_OWN + 8, S2 = SEL_OWN + 16, S3 = SEL_OWN + 24, S4 = SEL_OWN + 32, S5 = SEL_OWN + 40 };
static u8 data[0x20000] __attribute__((aligned(4096)));

static void set(unsigned sel, u64 d) { gdt[sel / 8] = d; }
static u32 sel_arg;
static long load_ds(u32 sel) { sel_arg = sel; return TRY(asmv("mov %0, %%ds" : : "r"(sel_arg))); }
static long load_ss(u32 sel) { sel_arg = sel; return TRY(asmv("mov %0, %%ss" : : "r"(sel_arg))); }
static long far_call(u32 sel, u32 off)
{
	static struct { u32 off; u16 sel; } __attribute__((packed)) p;
	p.off = off;
	p.sel = (u16)sel;
	return TRY(asmv("lcall *%0" : : "m"(p) : "eax", "edx", "ecx", "memory"));
}

static u32 es_off;
static long es_rd(u32 sel, u32 off) { sel_arg = sel; es_off = off; return TRY(asmv("mov %0, %%es; mov %%es:(%1), %%eax" : : "r"(sel_arg), "r"(es_off) : "eax")); }
static long es_wr(u32 sel, u32 off) { sel_arg = sel; es_off = off; return TRY(asmv("mov %0, %%es; movb $1, %%es:(%1)" : : "r"(sel_arg), "r"(es_off) : "memory")); }

static void limits(void)
{
	set(S0, desc((ulong)data, 0xfff, 0x93, 4));
	check_exc("last dword within the limit", es_rd(S0, 0xffc), NONE, 0);
	check_exc("dword over the limit", es_rd(S0, 0xffd), GP, 0);
	check_exc("byte at the limit", es_wr(S0, 0xfff), NONE, 0);
	check_exc("byte over the limit", es_wr(S0, 0x1000), GP, 0);
	check_exc("dword around 4 GiB", es_rd(S0, 0xfffffffe), GP, 0);
	set(S0, desc((ulong)data, 0x1, 0x93, 0xc));
	check_exc("limit in pages: within", es_rd(S0, 0x1ffc), NONE, 0);
	check_exc("limit in pages: over", es_rd(S0, 0x1ffd), GP, 0);
	set(S0, desc((ulong)data, 0xfff, 0x97, 4));
	check_exc("expand-down: below", es_wr(S0, 0xfff), GP, 0);
	check_exc("expand-down: above", es_wr(S0, 0x1000), NONE, 0);
	check_exc("expand-down: high", es_rd(S0, 0x10000), NONE, 0);
	check_exc("expand-down: straddles the limit", es_rd(S0, 0xffe), GP, 0);
	set(S0, desc((ulong)data, 0xfff, 0x97, 0));
	check_exc("expand-down, 16-bit: at 64 KiB", es_rd(S0, 0x10000), GP, 0);
	check_exc("expand-down, 16-bit: last", es_rd(S0, 0xfffc), NONE, 0);
	set(S0, desc((ulong)data, 0xfff, 0x91, 4));
	check_exc("write to read-only data", es_wr(S0, 0), GP, 0);
	check_exc("read of read-only data", es_rd(S0, 0), NONE, 0);
	set(S0, desc((ulong)data, 0xfff, 0x9b, 4));
	check_exc("read of readable code", es_rd(S0, 0), NONE, 0);
	check_exc("write to code", es_wr(S0, 0), GP, 0);
	check_exc("null selector loads", load_ds(0), NONE, 0);
	check_exc("null selector with RPL loads", load_ds(3), NONE, 0);
	check_exc("use of a null selector", es_rd(0, 0), GP, 0);
	set(S0, desc((ulong)data, 0xfff, 0x93, 4));
}

static void types(void)
{
	set(S0, desc((ulong)data, 0xfff, 0x99, 4)); /* execute-only */
	check_exc("DS: execute-only code", load_ds(S0), GP, S0);
	set(S0, desc((ulong)data, 0xfff, 0x89, 4));
	check_exc("DS: TSS", load_ds(S0), GP, S0);
	set(S0, desc((ulong)data, 0xfff, 0x13, 4));
	check_exc("DS: not present", load_ds(S0), NP, S0);
	check_exc("SS: not present", load_ss(S0), SS, S0);
	set(S0, desc((ulong)data, 0xfff, 0x91, 4));
	check_exc("SS: read-only", load_ss(S0), GP, S0);
	set(S0, desc((ulong)data, 0xfff, 0xf3, 4));
	check_exc("SS: DPL 3 in ring 0", load_ss(S0), GP, S0);
	check_exc("SS: RPL 3 in ring 0", load_ss(SEL_DATA | 3), GP, SEL_DATA);
	check_exc("SS: null", load_ss(0), GP, 0);
	check_exc("DS: RPL 3 of DPL 0", load_ds(SEL_DATA | 3), GP, SEL_DATA);
	check_exc("DS: beyond the table", load_ds(0x1008), GP, 0x1008);
	check_exc("DS: no LDT", load_ds(0xc), GP, 0xc);
	set(S0, desc((ulong)data, 0xfff, 0x92, 4));
	load_ds(S0);
	check("accessed bit is set", gdt[S0 / 8] >> 40 & 0xff, 0x93);
	static u64 ldt[4];
	ldt[1] = desc((ulong)data, 0xfff, 0x93, 4);
	set(S1, desc((ulong)ldt, sizeof(ldt) - 1, 0x82, 0));
	check_exc("LLDT", TRY(asmv("lldt %w0" : : "r"(S1))), NONE, 0);
	check_exc("LDT selector", es_rd(0xc, 0), NONE, 0);
	check_exc("LDT selector beyond", load_ds(0x24), GP, 0x24);
	check_exc("LLDT of data", TRY(asmv("lldt %w0" : : "r"(SEL_DATA))), GP, SEL_DATA);
	check_exc("LLDT of an LDT selector", TRY(asmv("lldt %w0" : : "r"(0xc))), GP, 0xc);
	set(S1, desc((ulong)ldt, sizeof(ldt) - 1, 2, 0));
	check_exc("LLDT not present", TRY(asmv("lldt %w0" : : "r"(S1))), NP, S1);
	check_exc("LTR busy", TRY(asmv("ltr %w0" : : "r"(SEL_TSS))), GP, SEL_TSS);
	asmv("lldt %w0" : : "r"(0));
	u32 v = 0, zf;
	asmv("lar %2, %0; setz %b1" : "=r"(v), "=q"(zf) : "r"(SEL_DATA));
	check("LAR", v & 0xf0ff00, 0xc09300);
	asmv("lsl %2, %0; setz %b1" : "=r"(v), "=q"(zf) : "r"(SEL_DATA));
	check("LSL in pages", v, 0xffffffff);
	asmv("verw %w1; setz %b0" : "=q"(zf) : "r"(SEL_CODE));
	check("VERW of code", zf & 1, 0);
	asmv("verr %w1; setz %b0" : "=q"(zf) : "r"(SEL_CODE));
	check("VERR of code", zf & 1, 1);
	check_exc("far call to data", far_call(SEL_DATA, 0), GP, SEL_DATA);
	check_exc("far call to null", far_call(0, 0), GP, 0);
	set(S0, desc(0, 0xfffff, 0x1b, 0xc));
	check_exc("far call to not present", far_call(S0, 0), NP, S0);
	set(S0, desc(0, 0xfffff, 0xfb, 0xc));
	check_exc("far call to outer ring", far_call(S0, 0), GP, S0);
	set(S0, desc(0, 0xff, 0x9b, 0x4));
	check_exc("far call beyond the limit", far_call(S0, 0x100), GP, 0);
}

/* ---- gates ---- */

extern u8 gate_target[], gate_target3[];
ulong g_cs, g_ss, g_sp, g_arg;
__asm__(".globl gate_target\ngate_target: mov %cs, g_cs; mov %ss, g_ss; mov %esp, g_sp; movl 8(%esp), %eax; mov %eax, g_arg; lret\n"
	".globl gate_target3\ngate_target3: mov %cs, g_cs; mov %ss, g_ss; mov %esp, g_sp; movl 8(%esp), %eax; mov %eax, g_arg; lret $8\n");
static u64 call_gate(u16 sel, ulong off, unsigned count, unsigned access) { return (off & 0xffff) | (u64)sel << 16 | (u64)count << 32 | (u64)access << 40 | (u64)(off >> 16) << 48; }
static void u_gate(void) { asmv("push $0x1234; push $0x5678; lcall %0, $0; mov %%esp, %%eax" : : "i"(S1) : "eax", "memory"); asmv("int $0x80"); }

static void gates(void)
{
	set(S0, call_gate(SEL_CODE, (ulong)gate_target, 0, 0x8c));
	check_exc("call gate, same ring", far_call(S0, 0x999), NONE, 0);
	check("its cs", g_cs & 0xffff, SEL_CODE);
	set(S0, call_gate(SEL_CODE, (ulong)gate_target, 0, 0x0c));
	check_exc("call gate not present", far_call(S0, 0), NP, S0);
	set(S0, call_gate(0, (ulong)gate_target, 0, 0x8c));
	check_exc("call gate to null", far_call(S0, 0), GP, 0);
	set(S0, call_gate(SEL_DATA, (ulong)gate_target, 0, 0x8c));
	check_exc("call gate to data", far_call(S0, 0), GP, SEL_DATA);
	set(S1, call_gate(SEL_CODE, (ulong)gate_target3, 2, 0x8c));
	check_exc("call gate of DPL 0 from ring 3", try_user(u_gate, 0), GP, S1);
	set(S1, call_gate(SEL_CODE, (ulong)gate_target3, 2, 0xec));
	check_exc("call gate into ring 0 and back", try_user(u_gate, 0), INT_DONE, 0);
	check("inner cs", g_cs & 0xffff, SEL_CODE);
	check("inner ss", g_ss & 0xffff, SEL_DATA);
	check("inner stack: 2 arguments, return, old stack", g_sp, (ulong)kernel_stack_top - 24);
	check("argument copied", g_arg, 0x5678);
	check("back in ring 3", caught.cs, SEL_UCODE32);
	check("RET n takes them off both stacks", caught.ax, (ulong)caught.sp);
}

static void returns(void)
{
	check_exc("RETF to data", TRY(asmv("push %0; push $0; lret" : : "i"(SEL_DATA))), GP, SEL_DATA);
	check_exc("RETF to null", TRY(asmv("push $0; push $0; lret")), GP, 0);
	check_exc("RETF to ring 3 with a ring 0 stack", TRY(asmv("push %0; push $0x1000; push %1; push $0; lret" : : "i"(SEL_DATA), "i"(SEL_UCODE32))), GP, SEL_DATA);
	check_exc("RETF to ring 3, null stack", TRY(asmv("push $0; push $0x1000; push %0; push $0; lret" : : "i"(SEL_UCODE32))), GP, 0);
	set(S0, desc(0, 0xfffff, 0x1b, 0xc));
	check_exc("RETF to not present", TRY(asmv("push %0; push $0; lret" : : "i"(S0))), NP, S0);
	check_exc("IRET to data", TRY(asmv("push $2; push %0; push $0; iret" : : "i"(SEL_DATA))), GP, SEL_DATA);
	check_exc("IRET to ring 3 with a ring 0 stack", TRY(asmv("push %0; push $0x1000; push $2; push %1; push $0; iret" : : "i"(SEL_DATA), "i"(SEL_UCODE32))), GP, SEL_DATA);
	set(S0, desc(0, 0xfffff, 0x73, 0xc));
	check_exc("IRET to ring 3, stack not present", TRY(asmv("push %0; push $0x1000; push $2; push %1; push $0; iret" : : "i"(S0 | 3), "i"(SEL_UCODE32))), SS, S0);
	tss.link = 0;
	check_exc("IRET with NT, no back link", TRY(asmv("pushf; orl $0x4000, (%%esp); popf; iret" : : : "memory")), TS, 0);
	tss.link = SEL_DATA;
	check_exc("IRET with NT, link to data", TRY(asmv("pushf; orl $0x4000, (%%esp); popf; iret" : : : "memory")), TS, SEL_DATA);
	tss.link = 0;
}

/* Segments that ring 3 may not have are made null on the way out. */
static void u_ds(void) { asmv("int $0x80"); }
static void outward(void)
{
	sel_arg = SEL_DATA;
	check_exc("IRET outward with DS of ring 0", TRY(asmv("push $0x2b; push %0; push $2; push $0x23; push %1; mov %2, %%ds; iret" : : "r"(user_stack_top - 64), "r"(u_ds), "r"(SEL_DATA))), INT_DONE, 0);
	check("DS is null", caught.ds & 0xffff, 0);
}

/* ---- 16-bit code and stacks ---- */

extern u8 code16[], code16_end[];
__asm__(".pushsection .data\n.globl code16, code16_end\ncode16: .code16\n mov $0x12345, %eax\n add $1, %ax\n push %ax\n pop %bx\n addr32 movl %eax, g_arg\n lretl\ncode16_end: .code32\n.popsection");
static void bits16(void)
{
	set(S0, desc((ulong)code16, (u32)(code16_end - code16) - 1, 0x9b, 0));
	check_exc("16-bit code segment", far_call(S0, 0), NONE, 0);
	check("32-bit operand in 16-bit code", g_arg, 0x12346);
	set(S0, desc((ulong)code16, (u32)(code16_end - code16) - 2, 0x9b, 0));
	check_exc("16-bit code runs over its limit", far_call(S0, 0), GP, 0);
	/* A 16-bit stack: only SP moves. */
	set(S1, desc(0, 0xffff, 0x93, 0));
	u32 sp = 0, ss;
	asmv("mov %%ss, %1; mov %%esp, %%esi; mov %2, %%ss; mov $0xabcd0000, %%esp; push %%eax; mov %%esp, %0; mov %1, %%ss; mov %%esi, %%esp"
	     : "=&r"(sp), "=&r"(ss) : "r"(S1) : "esi", "memory");
	check("16-bit stack wraps in SP", sp, 0xabcdfffc);
}

/* ---- tasks ---- */

static struct tss tss2 __attribute__((aligned(256)));
static u8 task_stack[4096] __attribute__((aligned(16)));
ulong t_tr, t_link, t_flags, t_runs;
extern u8 task_code[];
__asm__(".globl task_code\ntask_code: str %eax; mov %eax, t_tr; pushf; popl t_flags; incl t_runs; iret; incl t_runs; iret\n");

static void new_task(ulong ip)
{
	memset(&tss2, 0, 104);
	tss2.eip = ip;
	tss2.eflags = 2;
	tss2.esp = (ulong)task_stack + sizeof(task_stack);
	tss2.cs = SEL_CODE;
	tss2.ss = tss2.ds = tss2.es = tss2.fs = tss2.gs = SEL_DATA;
	tss2.iomap = 104;
	set(S2, desc((ulong)&tss2, 103, 0x89, 0));
}

static void tasks(void)
{
	new_task((ulong)task_code);
	t_runs = 0;
	check_exc("CALL to a TSS and IRET back", far_call(S2, 0), NONE, 0);
	check("task ran", t_runs, 1);
	check("task register inside", t_tr & 0xffff, S2);
	check("NT inside", t_flags & F_NT, F_NT);
	check("back link", tss2.link & 0xffff, SEL_TSS);
	check("TS set by the switch", read_cr0() & 8, 8);
	check("old task is busy again", gdt[SEL_TSS / 8] >> 40 & 0xff, 0x8b);
	check("left task is available", gdt[S2 / 8] >> 40 & 0xff, 0x89);
	check("state saved in the left task", tss2.eip - (ulong)task_code < 64, 1);
	u32 tr;
	asmv("str %0; clts" : "=r"(tr));
	check("task register after", tr & 0xffff, SEL_TSS);
	check_exc("second CALL goes on behind IRET", far_call(S2, 0), NONE, 0);
	check("task ran again", t_runs, 2);
	set(S3, call_gate(S2, 0, 0, 0x85));
	new_task((ulong)task_code);
	check_exc("task gate", far_call(S3, 0), NONE, 0);
	check("task ran through the gate", t_runs, 3);
	new_task((ulong)task_code);
	set(S2, desc((ulong)&tss2, 102, 0x89, 0));
	check_exc("TSS too short", far_call(S2, 0), TS, S2);
	set(S2, desc((ulong)&tss2, 103, 0x09, 0));
	check_exc("TSS not present", far_call(S2, 0), NP, S2);
	set(S2, desc((ulong)&tss2, 103, 0x8b, 0));
	check_exc("TSS busy", far_call(S2, 0), GP, S2);
	new_task((ulong)task_code);
	set_gate(0x45, 0, S2, 0x85, 0);
	check_exc("interrupt by task gate", TRY(asmv("int $0x45")), NONE, 0);
	check("task ran for the interrupt", t_runs, 4);
}

void test(void)
{
	limits();
	types();
	gates();
	returns();
	outward();
	bits16();
	tasks();
}
