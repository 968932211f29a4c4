/* SPDX-License-Identifier: MIT */
/* picture screen|sector STEP FILE.ppm: is QEMU's screendump FILE what screen.c or sector.S has drawn once STEP is done? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

/* As the card makes 8 bits of 6: the last one thrice. */
static unsigned char wide(unsigned char c)
{
	return (unsigned char)(c << 2 | (c & 1 ? 3 : 0));
}

int main(int argc, char **argv)
{
	static unsigned char screen[WIDTH * HEIGHT];
	unsigned w = 0, h = 0, top = 0, wrong = 0, width = WIDTH, height = HEIGHT;
	FILE *f = argc == 4 ? fopen(argv[3], "rb") : NULL;
	unsigned last = argc == 4 ? (unsigned)atoi(argv[2]) : 0;

	if (!f || fscanf(f, "P6 %u %u %u", &w, &h, &top) != 3 || top != 255 || fgetc(f) != '\n') {
		printf("usage: picture screen|sector STEP FILE.ppm, with a picture\n");
		return 2;
	}
	if (!strcmp(argv[1], "screen")) {
		for (unsigned step = 0; step <= last; step++)
			draw(screen, step);
	} else {
		width = 320;
		height = 200;
		for (unsigned step = 0; step <= last; step++)
			for (unsigned n = 0; n < 64000; n += step ? 257 : 1)
				screen[n] = (unsigned char)((n ^ n >> 8) + step);
	}
	unsigned times = w / width; /* the small screen is shown with each dot as four */
	if (!times || w != width * times || h != height * times) {
		printf("the picture has %u x %u dots\n", w, h);
		return 1;
	}
	for (unsigned y = 0; y < h; y++) {
		for (unsigned x = 0; x < w; x++) {
			unsigned char colour = screen[y / times * width + x / times];

			for (unsigned part = 0; part < 3; part++) {
				int got = fgetc(f), want = wide(palette(colour, part));

				if (got != want && wrong++ < 5)
					printf("step %u, x %u y %u part %u: %d, want %d\n", last, x, y, part, got, want);
			}
		}
	}
	if (wrong || fgetc(f) != EOF) {
		printf("step %u: %u wrong, or more than the picture\n", last, wrong);
		return 1;
	}
	return 0;
}
