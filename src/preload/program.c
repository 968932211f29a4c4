/* SPDX-License-Identifier: MIT */
/*
 * Segments of the program, from the dynamic loader's list, whose first entry is the program however it was started.
 */
#include "preload/program.h"

#include <link.h>

static void add(struct program *p, const struct dl_phdr_info *info, const ElfW(Phdr) *ph)
{
	const u8 *start = (const u8 *)(info->dlpi_addr + ph->p_vaddr);

	if (ph->p_type == PT_LOAD)
		p->seg[p->n++] = (struct segment){ start, start + ph->p_filesz, ph->p_flags };
	else if (ph->p_type == PT_GNU_EH_FRAME) {
		p->frames = start;
		p->frames_end = start + ph->p_filesz;
	}
}

static int first(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct program *p = arg;

	for (unsigned i = 0; i < info->dlpi_phnum && p->n < PROGRAM_SEGMENTS; i++)
		add(p, info, &info->dlpi_phdr[i]);
	return 1;
}

bool program_find(struct program *p)
{
	*p = (struct program){ .n = 0 };
	dl_iterate_phdr(first, p);
	return p->n > 0 && p->n < PROGRAM_SEGMENTS;
}
