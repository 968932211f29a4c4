/* SPDX-License-Identifier: MIT */
/* MSR lists: E2BIG with the count, every listed MSR reads on a vCPU and takes its own value back; an unknown one stops the count. */
#include "kvmtest.h"

static struct kvm_msr_list *list(int sys, unsigned long req)
{
	struct kvm_msr_list *l = calloc(1, 4 + 4 * 512);

	CHECK_ERR(ioctl(sys, req, l), E2BIG);
	CHECK(l->nmsrs > 0 && l->nmsrs <= 256);
	CHECK_OK(ioctl(sys, req, l));
	return l;
}

int main(void)
{
	struct vm v;
	struct kvm_msr_list *l, *f;
	struct kvm_msrs *m = calloc(1, sizeof(*m) + 4 * sizeof(m->entries[0]));
	/* What QEMU writes whether listed or not. */
	static const u32 always[] = {0x174, 0x175, 0x176, 0x277, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0x10, 0x11, 0x12, 0x1a0,
		0x17a, 0x2ff, 0x250, 0x258, 0x259, 0x268, 0x26f, 0x200, 0x201, 0x20e, 0x20f, 0x1b};
	u64 val;

	vm_open(&v);
	l = list(v.sys, KVM_GET_MSR_INDEX_LIST);
	f = list(v.sys, KVM_GET_MSR_FEATURE_INDEX_LIST);
	vm_vcpu(&v);
	for (u32 i = 0; i < l->nmsrs; i++) {
		if (kt_get_msr(v.vcpu, l->indices[i], &val) != 1) {
			printf("listed MSR 0x%x cannot be read\n", l->indices[i]);
			kt_failures++;
		} else if (l->indices[i] == 0x4b564d06 && !kt_usekvm()) {
			continue; /* the kernel takes it back only with page-fault interrupts enabled */
		} else if (kt_set_msr(v.vcpu, l->indices[i], val) != 1) {
			printf("listed MSR 0x%x does not take 0x%llx back\n", l->indices[i], (unsigned long long)val);
			kt_failures++;
		}
	}
	for (u32 i = 0; i < f->nmsrs; i++) {
		m->nmsrs = 1;
		m->entries[0].index = f->indices[i];
		CHECK_EQ(ioctl(v.sys, KVM_GET_MSRS, m), 1);
	}
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		if (kt_get_msr(v.vcpu, always[i], &val) != 1 || kt_set_msr(v.vcpu, always[i], val) != 1) {
			printf("MSR 0x%x cannot be read and written back\n", always[i]);
			kt_failures++;
		}
	m->nmsrs = 3;
	m->entries[0].index = 0x10;
	m->entries[1].index = 2; /* nobody's */
	m->entries[2].index = 0x174;
	CHECK_EQ(ioctl(v.vcpu, KVM_GET_MSRS, m), 1);
	m->nmsrs = 100000;
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_MSRS, m), E2BIG);
	CHECK_EQ(kt_set_msr(v.vcpu, 0xc0000082, 0xffffffff81000000), 1);
	CHECK_EQ(kt_get_msr(v.vcpu, 0xc0000082, &val), 1);
	CHECK_EQ(val, 0xffffffff81000000);
	CHECK_EQ(kt_set_msr(v.vcpu, 0xc0000082, 0x0000900000000000), 0); /* not canonical */
	return kt_end();
}
