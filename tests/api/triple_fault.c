/* SPDX-License-Identifier: MIT */
/* A triple fault ends KVM_RUN with KVM_EXIT_SHUTDOWN; after the VMM has set new state the vCPU runs again. */
#include "kvmtest.h"

GUEST32(prog, "lidt 0x1100\n ud2\n");
GUEST16(again, "mov $3, %al\n out %al, $0x10\n hlt\n");

int main(void)
{
	struct vm v;
	struct kvm_sregs s;

	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog);
	kt_protected(v.vcpu, KT_CODE); /* 0x1100: limit 0, base 0 */
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_SHUTDOWN);
	REQUIRE(ioctl(v.vcpu, KVM_GET_SREGS, &s) == 0);
	s.idt.base = 0;
	s.idt.limit = 0x3ff;
	s.cr0 &= ~1ull;
	s.cs.db = s.ss.db = 0;
	s.cs.limit = s.ds.limit = s.es.limit = s.ss.limit = s.fs.limit = s.gs.limit = 0xffff;
	s.cs.g = s.ds.g = s.es.g = s.ss.g = s.fs.g = s.gs.g = 0;
	s.cs.type = 3;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_SREGS, &s));
	{
		struct kvm_vcpu_events e = {0};

		CHECK_OK(ioctl(v.vcpu, KVM_SET_VCPU_EVENTS, &e));
	}
	kt_load(&v, again);
	kt_real(v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x10, 3);
	return kt_end();
}
