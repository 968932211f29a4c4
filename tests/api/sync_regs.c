/* SPDX-License-Identifier: MIT */
/* KVM_CAP_SYNC_REGS: registers come with each exit, and go in when marked dirty; unknown bits are EINVAL. */
#include "kvmtest.h"

GUEST16(prog, "1: inc %ax\n out %al, $0x10\n jmp 1b\n");

int main(void)
{
	struct vm v;

	vm_real(&v, prog, prog_end);
	CHECK_EQ(kt_cap(v.sys, KVM_CAP_SYNC_REGS), 7);
	v.run->kvm_valid_regs = 0x80;
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINVAL);
	v.run->kvm_valid_regs = 0;
	v.run->kvm_dirty_regs = 0x80;
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EINVAL);
	v.run->kvm_dirty_regs = 0;
	v.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	CHECK_OUT(v.vcpu, v.run, 0x10, 1);
	CHECK_EQ(v.run->s.regs.regs.rax, 1);
	CHECK_EQ(v.run->s.regs.sregs.cs.base, 0);
	v.run->s.regs.regs.rax = 0x40;
	v.run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x41);
	CHECK_EQ(v.run->kvm_dirty_regs, 0);
	return kt_end();
}
