/* SPDX-License-Identifier: MIT */
/* kvm_run.immediate_exit: EINTR before anything runs, but a pending port access is completed first; exit_reason stays. */
#include "kvmtest.h"

GUEST16(prog, "in $0x60, %al\n inc %al\n out %al, $0x10\n hlt\n");

int main(void)
{
	struct vm v;
	struct kvm_regs r;

	vm_real(&v, prog, prog_end);
	v.run->immediate_exit = 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(r.rip, KT_CODE);
	v.run->immediate_exit = 0;
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x60);
	*kt_io_data(v.run) = 0x41;
	v.run->immediate_exit = 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	CHECK_EQ(v.run->exit_reason, KVM_EXIT_IO);
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(r.rip, KT_CODE + 2);
	CHECK_EQ(r.rax & 0xff, 0x41);
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(r.rip, KT_CODE + 2);
	v.run->immediate_exit = 0;
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x42);
	{
		/* The OUT is complete once KVM_RUN is entered again. */
		v.run->immediate_exit = 1;
		CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINTR);
		kt_get_regs(v.vcpu, &r);
		CHECK_EQ(r.rip, KT_CODE + 6);
		v.run->immediate_exit = 0;
	}
	return kt_end();
}
