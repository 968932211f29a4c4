/* SPDX-License-Identifier: MIT */
/*
 * Real mode and virtual-8086 mode: a piece of 16-bit code at 0x8000 that runs real mode tests and leaves its results at 0x7000; then a
 * virtual-8086 task: IOPL, INT, IRET, PUSHF, CLI, and returns to it.
 */
#include "guest.h"

struct results {
	u16 wrap, divide_ip, divide_n, int_flags, int_n, bound, over_n, push_sp, seg_after, limit_n, far_cs, aam, r13;
	u16 pad;
	u32 unreal, wide_ip;
};
#define R ((volatile struct results *)0x7000)
extern u8 rm_start[], rm_end[];
ulong rm_esp;

__asm__(".pushsection .data\n.globl rm_start, rm_end\nrm_start: .code16\n"
	"cli; xor %ax, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov $0x7f00, %sp\n"
	"lidt 0x6ff0\n"
	/* IVT: 0 divide, 5, 13, 0x40 */
	"movw $(rm_div - rm_start + 0x8000), 0; movw $0, 2\n"
	"movw $(rm_bound - rm_start + 0x8000), 20; movw $0, 22\n"
	"movw $(rm_gp - rm_start + 0x8000), 52; movw $0, 54\n"
	"movw $(rm_gp - rm_start + 0x8000), 48; movw $0, 50\n"
	"movw $(rm_int - rm_start + 0x8000), 0x100; movw $0, 0x102\n"
	"movw $(rm_into - rm_start + 0x8000), 16; movw $0, 18\n"
	/* 1 MiB and more: ffff:0010 is 0x100000 */
	"mov $0xffff, %ax; mov %ax, %es; mov %es:0x10, %ax; mov %ax, 0x7000\n"
	"xor %ax, %ax; mov %ax, %es\n"
	/* divide error: the return address is the instruction */
	"rm_d: xor %cx, %cx; mov $1, %ax; div %cl\n"
	"sti; int $0x40; cli\n"
	"mov $0x7fff, %ax; add $1, %ax; into\n"
	"movw $5, 0x7100; movw $9, 0x7102; mov $10, %ax; bound %ax, 0x7100\n"
	/* a word at offset ffff: #GP (13) */
	"mov $0xffff, %bx; mov (%bx), %ax; .byte 0x90, 0x90\n"
	"mov %sp, %ax; push %sp; pop %bx; sub %ax, %bx; mov %bx, 0x700e\n"
	"lcall $0x0800, $(rm_far - rm_start); rm_back:\n"
	"mov $123, %al; aam; mov %ax, 0x7016\n"
	/* unreal mode: limits stay when PE goes off again */
	"lgdt 0x6ff8; mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x18, %bx; mov %bx, %fs; and $0xfe, %al; mov %eax, %cr0\n"
	"xor %ax, %ax; mov %ax, %fs; addr32 movl %fs:0x100004, %eax; mov %eax, 0x701c\n"
	/* back */
	"mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $0x10, $rm_return\n"
	"rm_div: pop %ax; mov %ax, 0x7002; incw 0x7004; add $2, %ax; push %ax; iret\n"
	"rm_int: incw 0x7008; pushf; pop %ax; mov %ax, 0x7006; iret\n"
	"rm_into: incw 0x700c; iret\n"
	"rm_bound: pop %ax; add $4, %ax; push %ax; incw 0x700a; iret\n"
	"rm_gp: pop %ax; add $2, %ax; push %ax; incw 0x7012; iret\n"
	"rm_far: mov %cs, %ax; mov %ax, 0x7014; lret\n"
	"rm_end: .code32\n.popsection\n"
	".globl rm_enter, rm_return\nrm_enter: pusha; mov %esp, rm_esp\n"
	"ljmp $0x08, $1f - 0x100000\n" /* 16-bit code segment based at 1 MiB? set by the caller */
	"1: .code16\n mov $0x50, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs; mov %ax, %gs; mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0\n"
	"ljmp $0, $0x8000\n .code32\n"
	"rm_return: mov $0x18, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; mov %eax, %fs; mov %eax, %gs; mov rm_esp, %esp; popa; ret\n");
void rm_enter(void);

static void real(void)
{
	struct { u16 limit; u32 base; } __attribute__((packed)) ivt = { 0x3ff, 0 };

	memset((void *)0x7000, 0, 0x100);
	memcpy((void *)0x8000, rm_start, (ulong)(rm_end - rm_start));
	memcpy((void *)0x6ff0, &ivt, 6);
	memcpy((void *)0x6ff8, gdtr, 6);
	gdt[1] = desc(0x100000, 0xffff, 0x9b, 0);
	gdt[SEL_OWN / 8] = desc(0, 0xffff, 0x93, 0);
	rm_enter();
	asmv("lidt %0" : : "m"(idtr));
	check("real: ffff:0010", R->wrap, *(volatile u16 *)0x100000);
	check("real: divide error once", R->divide_n, 1);
	check("real: INT", R->int_n, 1);
	check("real: INT clears IF and TF", R->int_flags & 0x300, 0);
	check("real: INTO", R->over_n, 1);
	check("real: BOUND", R->bound, 1);
	check("real: word at ffff is #GP", R->limit_n, 1);
	check("real: PUSH SP pushes the old", R->push_sp, 0);
	check("real: far call", R->far_cs, 0x800);
	check("real: AAM", R->aam, 0x0c03);
	check("real: unreal limits", R->unreal, *(volatile u32 *)0x100004);
}

/* ---- virtual-8086 ---- */

static void v86(const u8 *code, unsigned n, ulong flags)
{
	memcpy((void *)0x9000, code, n);
	asmv("push $0; push $0; push $0; push $0x900; push $0; push $0xf00; push %0; push $0x900; push $0; iret" : : "r"(flags | F_VM | 2) : "memory");
}
#define V86(flags, ...)                                                                                                                    \
	({                                                                                                                                 \
		static const u8 code_[] = { __VA_ARGS__ };                                                                                 \
		TRY(v86(code_, sizeof(code_), flags));                                                                                     \
	})

static void virtual86(void)
{
	check_exc("v86: HLT", V86(0, 0xf4), GP, 0);
	check("v86: VM in the image", caught.flags & F_VM, F_VM);
	check("v86: cs", caught.cs & 0xffff, 0x900);
	check("v86: DS is null in the handler's frame", caught.ds & 0xffff, 0);
	check("v86: stack of ring 0", caught.handler_sp, (ulong)kernel_stack_top - 44);
	check_exc("v86: INT with IOPL 0", V86(0, 0xcd, 0x80), GP, 0);
	check_exc("v86: INT with IOPL 3", V86(F_IOPL, 0xcd, 0x80), INT_DONE, 0);
	check_exc("v86: INT 3 with IOPL 0", V86(0, 0xcc), BP, 0);
	check_exc("v86: PUSHF with IOPL 0", V86(0, 0x9c), GP, 0);
	check_exc("v86: CLI with IOPL 0", V86(0, 0xfa), GP, 0);
	check_exc("v86: CLI with IOPL 3", V86(F_IOPL, 0xfa, 0xcd, 0x80), INT_DONE, 0);
	check_exc("v86: IRET with IOPL 0", V86(0, 0xcf), GP, 0);
	check_exc("v86: MOV CR0", V86(F_IOPL, 0x0f, 0x20, 0xc0), GP, 0);
	check_exc("v86: LLDT", V86(F_IOPL, 0x0f, 0x00, 0xd0), UD, 0);
	check_exc("v86: ARPL", V86(F_IOPL, 0x63, 0xc0), UD, 0);
	check_exc("v86: segment registers are paragraphs", V86(F_IOPL, 0xb8, 0x34, 0x12, 0x8e, 0xd8, 0xcd, 0x80), INT_DONE, 0);
	check_exc("v86: word at ffff", V86(F_IOPL, 0xbb, 0xff, 0xff, 0x8b, 0x07), GP, 0);
	check_exc("v86: IN without a map", V86(F_IOPL, 0xe4, 0x80), GP, 0);
	tss.iomap = (u16)((ulong)tss.io - (ulong)&tss);
	memset(tss.io, 0, sizeof(tss.io));
	tss.io[sizeof(tss.io) - 1] = 0xff;
	check_exc("v86: IN with a map", V86(0, 0xe4, 0x80, 0xf4), GP, 0);
	check("v86: it ran", caught.ip, 2);
	tss.iomap = sizeof(tss);
	check_exc("v86: far call", V86(F_IOPL, 0x9a, 5, 0, 0, 9, 0x8c, 0xc8, 0xcd, 0x80), INT_DONE, 0);
	check("v86: cs by far call", caught.ax & 0xffff, 0x900);
}

void test(void)
{
	real();
	virtual86();
}
