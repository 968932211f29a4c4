/* SPDX-License-Identifier: MIT */
/* In a forked child every request on VM and vCPU descriptors is EIO; the parent goes on. */
#include "kvmtest.h"

GUEST16(prog, "mov $7, %al\n out %al, $0x10\n mov $8, %al\n out %al, $0x10\n hlt\n");

int main(void)
{
	struct vm v;
	int status;
	pid_t pid;

	vm_real(&v, prog, prog_end);
	CHECK_OUT(v.vcpu, v.run, 0x10, 7);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct kvm_regs r;

		CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EIO);
		CHECK_ERR(ioctl(v.vcpu, KVM_GET_REGS, &r), EIO);
		CHECK_ERR(ioctl(v.vm, KVM_CREATE_VCPU, 1ul), EIO);
		CHECK_ERR(ioctl(v.vm, KVM_CHECK_EXTENSION, 0ul), EIO);
		CHECK_EQ(ioctl(v.sys, KVM_GET_API_VERSION, 0ul), 12);
		fflush(stdout);
		_exit(kt_failures ? 1 : 0);
	}
	REQUIRE(pid > 0);
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK_OUT(v.vcpu, v.run, 0x10, 8);
	return kt_end();
}
