/* SPDX-License-Identifier: MIT */
/*
 * What the guests of the display test draw, step by step, written once for the guest (screen.c, on the card's memory) and once for
 * the host (picture.c, on an array): a screen of 640 by 480 bytes, each a colour of the palette.
 */
#ifndef PICTURE_H
#define PICTURE_H

#define WIDTH 640
#define HEIGHT 480
#define STEPS 8        /* 0: all of it; then some lines and dots each, some of them the same each time */
#define FRAMES 60000   /* of the bar that moves without a stop after them: step STEPS */
#define SMALL_STEPS 4  /* sector.S: 320 by 200, each of the bytes 0..63999 is low ^ high byte of its number + step, from step 1 on every 257th only */

/* 6 bits of red, green (1), blue (2). */
static inline unsigned char palette(unsigned colour, unsigned part)
{
	return (unsigned char)((part == 0 ? colour : part == 1 ? colour * 5 + (colour >> 3) : 255 - colour * 3) & 63);
}

static void draw(unsigned char *screen, unsigned step)
{
	volatile unsigned char *dots = screen;

	if (step == 0) {
		for (unsigned y = 0; y < HEIGHT; y++)
			for (unsigned x = 0; x < WIDTH; x++)
				dots[y * WIDTH + x] = (unsigned char)(x * 7 + y * 13 + (x * y >> 6));
		return;
	}
	if (step == STEPS) {
		for (unsigned f = 0; f < FRAMES; f++)
			for (unsigned x = f & 1; x < WIDTH; x += 2)
				dots[(40 + f % 400) * WIDTH + x] = (unsigned char)(f + x);
		return;
	}
	for (unsigned y = 0; y < 4; y++) /* the same dots in each step, by the same code */
		for (unsigned x = 0; x < 16; x++)
			dots[y * WIDTH + x] = (unsigned char)(step * 31 + x);
	for (unsigned x = 0; x < WIDTH; x++)
		dots[step * 37 % HEIGHT * WIDTH + x] = (unsigned char)(step * 5 + x);
	memset(screen + (step * 91 + 200) % HEIGHT * WIDTH + 100, (int)step * 11, 300);
	*(volatile unsigned long long *)(screen + 4096 * (step + 20) - 3) = 0x0101010101010101ull * step; /* two pages */
	dots[WIDTH * HEIGHT - 1] = (unsigned char)(step + 100);
}
#endif
