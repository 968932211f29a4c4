/* SPDX-License-Identifier: MIT */
/* The smallest guest: real mode, twelve requests in all; writes a greeting to a port and halts. */
#include "kvmtest.h"

GUEST16(prog, "mov $msg - prog + 0x1000, %si\n mov $0x3f8, %dx\n1: lodsb\n test %al, %al\n jz 2f\n out %al, %dx\n jmp 1b\n2: hlt\n"
	      "msg: .asciz \"Hello, world!\"\n");

int main(void)
{
	struct vm v;
	char buf[32];
	unsigned n = 0;
	struct kvm_regs r;

	vm_real(&v, prog, prog_end);
	while (n < sizeof(buf) - 1 && kt_run(v.vcpu) == 0 && v.run->exit_reason == KVM_EXIT_IO)
		buf[n++] = (char)*kt_io_data(v.run);
	buf[n] = 0;
	CHECK(!strcmp(buf, "Hello, world!"));
	CHECK_EQ(v.run->exit_reason, KVM_EXIT_HLT);
	/* Running on after HLT without an interrupt chip: the next instruction. */
	kt_get_regs(v.vcpu, &r);
	r.rip = KT_CODE;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_REGS, &r));
	CHECK_OUT(v.vcpu, v.run, 0x3f8, 'H');
	return kt_end();
}
