/* SPDX-License-Identifier: MIT */
/*
 * The guest's page tables: linear to guest-physical, with every permission rule of SDM 3, 4.6 (U/S, R/W, NX, WP, SMEP, SMAP, PKU)
 * and accessed/dirty bits, for 32-bit, PAE, 4-level and 5-level paging, and no paging.
 */
#ifndef USEKVM_MMU_MMU_H
#define USEKVM_MMU_MMU_H

#include "cpu/cpu.h"

enum { MMU_R, MMU_W, MMU_X };

struct mmu_result {
	gpa_t gpa;      /* of the byte asked for */
	u8 page_shift;  /* 12, 21, 22, 30: how far the same translation holds (before memslots) */
	bool read, write, exec; /* what this idx may do at this page now; write only if the dirty bit is set (or no paging) */
	bool user, global;
	bool accessed;  /* mmu_peek() */
	u32 error;      /* if the walk fails: page fault error code */
};

/*
 * Walk for one access of kind MMU_R/W/X by idx. Sets accessed (and dirty for MMU_W) bits with atomic updates.
 * 0: translated. -EFAULT: page fault with r->error. Never raises.
 * Page-table pages outside memory slots read as all ones (as an absent device would answer); writes to them are dropped.
 */
int mmu_walk(struct cpu *c, gva_t va, int kind, unsigned idx, struct mmu_result *r) hidden;

/* What idx may do at va, without setting any bit, whatever the rights are: for those who would do it ahead. -EFAULT: nothing is there. */
int mmu_peek(struct cpu *c, gva_t va, unsigned idx, struct mmu_result *r) hidden;

/* KVM_TRANSLATE: a supervisor's read, which sets accessed bits, as in KVM. */
int mmu_probe(struct cpu *c, gva_t va, struct mmu_result *r) hidden;

/* PAE: load the four PDPTEs from cr3. 0, or -EINVAL if one has reserved bits set (#GP for MOV CR). */
int mmu_load_pdptrs(struct cpu *c, u64 cr3) hidden;

#endif
