/* SPDX-License-Identifier: MIT */
/* In a forked child every request on the parent's VM and vCPU descriptors is EIO; the system descriptor goes on, and makes VMs of the child's own. */
#include "kvmtest.h"

GUEST16(prog, "mov $7, %al\n out %al, $0x10\n mov $8, %al\n out %al, $0x10\n hlt\n");

/* In the child: a VM made through the descriptor that the parent opened. */
static void own_vm(int sys)
{
	struct vm c = {.sys = sys, .mem_size = KT_MEM};

	c.run_size = (size_t)ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, 0ul);
	c.vm = ioctl(sys, KVM_CREATE_VM, 0ul);
	REQUIRE(c.vm >= 0);
	c.mem = mmap(NULL, c.mem_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(c.mem != MAP_FAILED);
	CHECK_OK(kt_slot(c.vm, 0, 0, 0, c.mem_size, c.mem));
	vm_vcpu(&c);
	kt_load(&c, prog);
	kt_real(c.vcpu, KT_CODE);
	CHECK_OUT(c.vcpu, c.run, 0x10, 7);
	CHECK_OUT(c.vcpu, c.run, 0x10, 8);
}

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
		own_vm(v.sys);
		CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EIO); /* still the parent's */
		CHECK_ERR(ioctl(v.vm, KVM_CREATE_VCPU, 1ul), EIO);
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
