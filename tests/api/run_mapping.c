/* SPDX-License-Identifier: MIT */
/* mmap of a vCPU: struct kvm_run, the PIO page, the coalesced ring at its own offset; where it may not be mapped. */
#include "kvmtest.h"

int main(void)
{
	struct vm v;
	u8 *page, *ring;

	vm_open(&v);
	vm_vcpu(&v);
	ring = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, v.vcpu, 2 * 4096);
	CHECK(ring != MAP_FAILED);
	((u8 *)v.run)[2 * 4096 + 100] = 0x5a;
	CHECK_EQ(ring[100], 0x5a);
	((u8 *)v.run)[2 * 4096 + 100] = 0;
	page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, v.vcpu, 4096);
	CHECK(page != MAP_FAILED);
	((u8 *)v.run)[4096 + 9] = 0xa5;
	CHECK_EQ(page[9], 0xa5);
	munmap(page, 4096);
	/* Unmap and map again: the same memory. */
	v.run->request_interrupt_window = 1;
	munmap(v.run, v.run_size);
	v.run = kt_map_run(&v, v.vcpu);
	CHECK_EQ(v.run->request_interrupt_window, 1);
	return kt_end();
}
