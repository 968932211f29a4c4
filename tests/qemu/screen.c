/* SPDX-License-Identifier: MIT */
/*
 * Draws on the standard VGA card: 640 by 480 with a palette, so that QEMU has to convert what has changed and finds that by the dirty
 * log. "drawn N" after each step of picture.h; then waits for a key.
 */
#include "guest.h"
#include "../../qemu/picture.h"

static void outw(u16 port, u16 v) { asmv("outw %0, %1" : : "a"(v), "Nd"(port)); }
static void outl(u16 port, u32 v) { asmv("outl %0, %1" : : "a"(v), "Nd"(port)); }
static u32 inl(u16 port) { u32 v; asmv("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

static u32 pci(unsigned slot, unsigned reg)
{
	outl(0xcf8, 0x80000000u | slot << 11 | reg);
	return inl(0xcfc);
}

static void vbe(u16 index, u16 v)
{
	outw(0x1ce, index);
	outw(0x1cf, v);
}

static void wait_key(void)
{
	u8 code;

	do {
		while (!(inb(0x64) & 1))
			asmv("pause");
		code = inb(0x60);
	} while (code & 0x80); /* released */
}

void test(void)
{
	unsigned slot;

	for (slot = 0; slot < 32 && pci(slot, 0) != 0x11111234; slot++)
		;
	check("there is a VGA card", slot < 32, true);
	u8 *screen = (u8 *)(ulong)(pci(slot, 0x10) & ~15u);
	vbe(4, 0);
	vbe(1, WIDTH);
	vbe(2, HEIGHT);
	vbe(3, 8);
	vbe(4, 0x41); /* enabled, linear */
	outb(0x3c8, 0);
	for (unsigned colour = 0; colour < 256; colour++)
		for (unsigned part = 0; part < 3; part++)
			outb(0x3c9, palette(colour, part));
	for (unsigned step = 0; step <= STEPS; step++) {
		draw(screen, step);
		char said[] = "drawn 0\n";
		said[6] = (char)('0' + step);
		print(said);
		wait_key();
	}
}
