/* SPDX-License-Identifier: MIT */
/* KVM_SET_USER_MEMORY_REGION refuses what it must, with the right error, and changes nothing then. */
#include "kvmtest.h"

int main(void)
{
	struct vm v;
	u8 *p = kt_pages(16 * 4096);
	int slots;

	vm_open(&v); /* slot 0: 2 MiB at 0 */
	slots = kt_cap(v.sys, KVM_CAP_NR_MEMSLOTS);
	CHECK_ERR(kt_slot(v.vm, 1, 0, 1 << 30, 100, p), EINVAL);                 /* size not in pages */
	CHECK_ERR(kt_slot(v.vm, 1, 0, (1 << 30) + 1, 4096, p), EINVAL);          /* address not aligned */
	CHECK_ERR(kt_slot(v.vm, 1, 0, 1 << 30, 4096, p + 1), EINVAL);            /* host address not aligned */
	CHECK_ERR(kt_slot(v.vm, 1, 1u << 30, 1 << 30, 4096, p), EINVAL);         /* unknown flag */
	CHECK_ERR(kt_slot(v.vm, (u32)slots, 0, 1 << 30, 4096, p), EINVAL);       /* slot number */
	CHECK_ERR(kt_slot(v.vm, 1 << 16, 0, 1 << 30, 4096, p), EINVAL);          /* no second address space without SMM */
	CHECK_ERR(kt_slot(v.vm, 1, 0, ~0xfffull, 8192, p), EINVAL);              /* wraps */
	CHECK_ERR(kt_slot(v.vm, 1, 0, 1 << 30, 4096, (void *)0xffff800000000000ull), EINVAL); /* not the program's memory */
	CHECK_ERR(kt_slot(v.vm, 7, 0, 0, 0, NULL), EINVAL);                      /* deleting what is not there */
	CHECK_ERR(kt_slot(v.vm, 1, 0, 0x1000, 4096, p), EEXIST);                 /* overlap */
	CHECK_ERR(kt_slot(v.vm, 1, 0, KT_MEM - 4096, 8192, p), EEXIST);
	CHECK_OK(kt_slot(v.vm, 1, 0, KT_MEM, 4096, p));
	CHECK_ERR(kt_slot(v.vm, 1, 0, KT_MEM, 8192, p), EINVAL);                 /* a live slot cannot change its size */
	CHECK_ERR(kt_slot(v.vm, 1, 0, KT_MEM, 4096, p + 4096), EINVAL);          /* nor its host address */
	CHECK_ERR(kt_slot(v.vm, 1, KVM_MEM_READONLY, KT_MEM, 4096, p), EINVAL);  /* nor READONLY */
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, KT_MEM, 4096, p));    /* logging may change */
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, KT_MEM, 4096, p));    /* no change at all */
	CHECK_OK(kt_slot(v.vm, 1, 0, KT_MEM + 8192, 4096, p));                   /* move */
	CHECK_ERR(kt_slot(v.vm, 1, 0, 0, 4096, p), EEXIST);                      /* move onto another */
	CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL));
	CHECK_ERR(kt_slot(v.vm, 1, 0, 0, 0, NULL), EINVAL);
	CHECK_OK(kt_slot(v.vm, (u32)slots - 1, 0, 1 << 30, 4096, p));
	CHECK_OK(kt_slot(v.vm, 2, KVM_MEM_READONLY, 1 << 29, 4096, p));
	return kt_end();
}
