/* SPDX-License-Identifier: MIT */
/* A VM lives until its descriptor and those of its vCPUs are closed, in any order; a guest runs on after the VM's was closed. */
#include "kvmtest.h"

GUEST16(prog, "mov $0x42, %al\n out %al, $0x10\n hlt\n");

static void order(int which)
{
	struct vm v;

	vm_real(&v, prog, prog_end);
	if (which == 0) {
		close(v.sys);
		close(v.vm);
	} else if (which == 1) {
		close(v.vm);
		close(v.sys);
	} else {
		close(v.sys);
	}
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x42);
	close(v.vcpu);
	/* The mapping outlives the descriptor. */
	CHECK_EQ(v.run->exit_reason, KVM_EXIT_IO);
	if (which == 2) {
		struct kvm_userspace_memory_region r = {.slot = 3, .guest_phys_addr = 1ull << 30, .memory_size = 4096};

		r.userspace_addr = (u64)kt_pages(4096);
		CHECK_OK(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION, &r));
		CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EBADF);
		close(v.vm);
	}
	munmap(v.run, v.run_size);
	munmap(v.mem, v.mem_size);
}

int main(void)
{
	for (int i = 0; i < 3; i++)
		order(i);
	return kt_end();
}
