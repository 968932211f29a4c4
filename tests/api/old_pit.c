/* SPDX-License-Identifier: MIT */
/* The first forms of the PIT's requests, beside those that replaced them: KVM_CREATE_PIT, KVM_GET_PIT, KVM_SET_PIT. */
#include "kvmtest.h"

int main(void)
{
	struct kvm_pit_config config = {0};
	struct kvm_pit_state s = {0};
	struct kvm_pit_state2 s2 = {0};
	struct vm v;

	vm_open(&v);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_PIT, 0ul), ENOENT); /* no interrupt chip yet */
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	CHECK_ERR(ioctl(v.vm, KVM_GET_PIT, &s), ENXIO);
	CHECK_ERR(ioctl(v.vm, KVM_SET_PIT, &s), ENXIO);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_PIT, 0ul));
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_PIT, 0ul), EEXIST);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_PIT2, &config), EEXIST);
	CHECK_OK(ioctl(v.vm, KVM_GET_PIT, &s));
	CHECK_EQ(s.channels[0].count, 0x10000);
	CHECK_EQ(s.channels[0].gate, 1);
	CHECK_EQ(s.channels[2].gate, 0);
	s.channels[1].count = 0x1234;
	s.channels[1].mode = 2;
	s.channels[1].rw_mode = 3;
	CHECK_OK(ioctl(v.vm, KVM_SET_PIT, &s));
	memset(&s, 0, sizeof(s));
	CHECK_OK(ioctl(v.vm, KVM_GET_PIT, &s));
	CHECK_EQ(s.channels[1].count, 0x1234);
	CHECK_EQ(s.channels[1].mode, 2);
	CHECK_EQ(s.channels[1].rw_mode, 3);
	CHECK_OK(ioctl(v.vm, KVM_GET_PIT2, &s2));
	CHECK_EQ(s2.channels[1].count, 0x1234);
	CHECK_ERR(ioctl(v.vm, KVM_GET_PIT, KT_BAD), EFAULT);
	CHECK_ERR(ioctl(v.vm, KVM_SET_PIT, KT_BAD), EFAULT);
	return kt_end();
}
