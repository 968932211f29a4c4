/* SPDX-License-Identifier: MIT */
/*
 * A boot sector that draws in the VGA BIOS's mode 13h, at 0xa0000: see SMALL_STEPS in picture.h. "drawn N" on port 0x3f8 and a key in
 * between, as screen.c; then 0 on port 0xf4.
 */
	.code16
	.globl _start
_start:
	ljmp $0, $1f
1:	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %ss
	mov $0x7c00, %sp
	cld
	mov $0x13, %ax
	int $0x10
	mov $0xa000, %ax
	mov %ax, %es
	mov $0x3c8, %dx
	xor %ax, %ax
	out %al, %dx
	inc %dx
	xor %bx, %bx /* palette(): red colour, green colour * 5 + (colour >> 3), blue 255 - colour * 3 */
2:	mov %bl, %al
	and $63, %al
	out %al, %dx
	mov %bl, %al
	mov $5, %cl
	mul %cl
	mov %bl, %ah
	shr $3, %ah
	add %ah, %al
	and $63, %al
	out %al, %dx
	mov %bl, %al
	mov $3, %cl
	mul %cl
	not %al
	and $63, %al
	out %al, %dx
	inc %bl
	jnz 2b
	mov $1, %si /* bytes from one to the next */
	xor %bp, %bp /* step */
3:	xor %di, %di
4:	mov %di, %ax
	xor %ah, %al
	add %bp, %ax
	mov %al, %es:(%di)
	add %si, %di
	jc 5f
	cmp $64000, %di
	jb 4b
5:	mov $0x3f8, %dx
	mov $drawn, %bx
	mov %bp, %ax
	add $'0', %al
	mov %al, drawn + 6
6:	mov (%bx), %al
	test %al, %al
	jz 7f
	out %al, %dx
	inc %bx
	jmp 6b
7:	xor %ax, %ax
	int $0x16 /* the BIOS waits for a key */
	mov $257, %si
	inc %bp
	cmp $4, %bp
	jb 3b
	xor %ax, %ax
	out %al, $0xf4
8:	hlt
	jmp 8b
drawn:	.asciz "drawn 0\n"
	.org 510
	.word 0xaa55
