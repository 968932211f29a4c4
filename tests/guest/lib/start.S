/* SPDX-License-Identifier: MIT */
/*
 * Entry of every guest program: 32-bit protected mode without paging (what a multiboot loader gives), a stack, the GDT of guest.h;
 * for 64-bit programs then the page tables and long mode. After it come the exception stubs and the non-local return of try().
 */
	.section .head, "ax"
	.code32
	.globl _start
/* Multiboot header with explicit addresses: the file is a flat image. */
	jmp _start
	.align 4
mb:	.long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
	.long mb, image_start, 0, bss_end, _start
_start:
	cld
	cli
	mov $stack_top, %esp
	mov $bss_start, %edi
	mov $bss_end, %ecx
	sub %edi, %ecx
	xor %eax, %eax
	rep stosb
	lgdt gdtr
#ifdef __x86_64__
	/* 1 GiB identity for the supervisor, the same memory for users 1 GiB higher, the device area below 4 GiB. */
	movl $pml4, %eax
	movl $pdpt + 7, (%eax)
	movl $pdpt, %eax
	movl $pd_super + 7, (%eax)
	movl $pd_user + 7, 8(%eax)
	movl $pd_dev + 7, 24(%eax)
	xor %ecx, %ecx
1:	mov %ecx, %eax
	shl $21, %eax
	mov %eax, %edx
	or $0x83, %eax
	mov %eax, pd_super(, %ecx, 8)
	or $4, %eax
	mov %eax, pd_user(, %ecx, 8)
	or $0xc000009b, %edx
	mov %edx, pd_dev(, %ecx, 8)
	inc %ecx
	cmp $512, %ecx
	jb 1b
	mov $pml4, %eax
	mov %eax, %cr3
	mov $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	rdmsr
	or $0x900, %eax /* LME, NXE */
	wrmsr
	mov $0x80010033, %eax /* PG, WP, NE, ET, MP, PE */
	mov %eax, %cr0
	ljmp $0x10, $start64
	.code64
start64:
	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %eax, %fs
	mov %eax, %gs
	mov $stack_top, %esp
	call guest_main
#else
	mov $0x33, %eax
	mov %eax, %cr0
	ljmp $0x10, $1f
1:	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %eax, %fs
	mov %eax, %gs
	call guest_main
#endif
1:	hlt
	jmp 1b

	.section .data
	.align 16
	.globl gdt, gdtr
gdt:
	.quad 0
	.quad 0x00009b000000ffff /* 08: 16-bit code */
#ifdef __x86_64__
	.quad 0x00af9b000000ffff /* 10: ring 0 code */
#else
	.quad 0x00cf9b000000ffff
#endif
	.quad 0x00cf93000000ffff /* 18: ring 0 data */
	.quad 0x00cffb000000ffff /* 20: ring 3 code, 32-bit */
	.quad 0x00cff3000000ffff /* 28: ring 3 data */
	.quad 0x00affb000000ffff /* 30: ring 3 code, 64-bit */
	.quad 0, 0               /* 38: TSS */
	.quad 0x00cf9b000000ffff /* 48: ring 0 code, 32-bit */
	.fill 54, 8, 0           /* 50..: the program's own */
gdtr:	.word 64 * 8 - 1
#ifdef __x86_64__
	.quad gdt
#else
	.long gdt
#endif

	.section .text
/* The stubs: stub N stands at exc_stubs + 16 * N. */
	.globl exc_stubs
	.align 16
exc_stubs:
	.set n, 0
	.rept 256
	.align 16
	.if !(n == 8 || (n >= 10 && n <= 14) || n == 17 || n == 21 || n == 29 || n == 30)
	push $0
	.endif
	push $n
	jmp exc_common
	.set n, n + 1
	.endr

#ifdef __x86_64__
exc_common:
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	mov %rsp, %rbp
	and $-16, %rsp
	call exc_entry
	mov %rbp, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq
/* void try_enter(void (*fn)(void)) */
	.globl try_enter, try_leave, user_enter, user_enter32
try_enter:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, try_sp(%rip)
	call *%rdi
try_out:
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret
try_leave:
	mov $0x18, %eax
	mov %eax, %ss
	mov %eax, %ds
	mov %eax, %es
	mov try_sp(%rip), %rsp
	push $2
	popf
	jmp try_out
/* void user_enter(fn, rsp): never returns but by an exception */
user_enter:
	mov $0x2b, %eax
	mov %eax, %ds
	mov %eax, %es
	push $0x2b
	push %rsi
	push $2
	push $0x33
	push %rdi
	iretq
user_enter32:
	mov $0x2b, %eax
	mov %eax, %ds
	mov %eax, %es
	push $0x2b
	push %rsi
	push $2
	push $0x23
	push %rdi
	iretq
#else
exc_common:
	push %ds
	push %es
	push %fs
	push %gs
	pusha
	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	cld
	mov %esp, %eax
	push %eax
	call exc_entry
	add $4, %esp
	popa
	pop %gs
	pop %fs
	pop %es
	pop %ds
	add $8, %esp
	iret
	.globl try_enter, try_leave, user_enter
try_enter:
	mov 4(%esp), %eax
	push %ebx
	push %ebp
	push %esi
	push %edi
	mov %esp, try_sp
	call *%eax
	mov $0x18, %eax /* the code may have left others */
	mov %eax, %ds
	mov %eax, %es
try_out:
	pop %edi
	pop %esi
	pop %ebp
	pop %ebx
	ret
try_leave:
	mov $0x18, %eax
	mov %eax, %ss
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	mov try_sp, %esp
	push $2
	popf
	jmp try_out
user_enter:
	mov 4(%esp), %ecx
	mov 8(%esp), %edx
	mov $0x2b, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	push $0x2b
	push %edx
	push $2
	push $0x23
	push %ecx
	iret
#endif

	.section .bss
	.align 4096
	.globl pml4, pdpt, pd_super, pd_user, pd_dev, user_stack_top, kernel_stack_top
#ifdef __x86_64__
pml4:	.skip 4096
pdpt:	.skip 4096
pd_super: .skip 4096
pd_user: .skip 4096
pd_dev:	.skip 4096
#endif
	.skip 16384
stack_top:
	.skip 8192
kernel_stack_top:
	.skip 8192
user_stack_top:
	.section .note.GNU-stack, "", @progbits
