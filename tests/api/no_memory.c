/* SPDX-License-Identifier: MIT */
/* Code where there is none: KVM_RUN comes back with an error exit, again and again, and neither hangs nor fails. */
#include "kvmtest.h"

GUEST16(hole, "ljmp $0x9000, $0\n"); /* 0x90000: no slot there */

static void ends(int vcpu, const struct kvm_run *run)
{
	for (int i = 0; i < 2; i++) {
		int r = kt_run(vcpu);

		CHECK_EQ(r, 0);
		if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
			CHECK_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
		else
			CHECK_EQ(run->exit_reason, KVM_EXIT_SHUTDOWN);
	}
}

int main(void)
{
	struct vm v;

	vm_open(&v);
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0, NULL));
	vm_vcpu(&v); /* stands at the reset vector */
	ends(v.vcpu, v.run);
	kt_real(v.vcpu, 0x1000);
	ends(v.vcpu, v.run);
	kt_protected(v.vcpu, 0xe0000000);
	ends(v.vcpu, v.run);

	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0x80000, v.mem));
	kt_load(&v, hole);
	kt_real(v.vcpu, KT_CODE);
	ends(v.vcpu, v.run);
	return kt_end();
}
