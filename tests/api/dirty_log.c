/* SPDX-License-Identifier: MIT */
/* The dirty log: a page written by the guest is in it once, a get clears it, reads are not in it. */
#include "kvmtest.h"

/* Two rounds: write pages 1 and 3 of the slot at 0x90000, then page 2. */
GUEST16(prog,
	"mov $0x9000, %ax\n mov %ax, %ds\n"
	"movb $1, %ds:0x1000\n mov %ds:0x2000, %bl\n movb $1, %ds:0x3ffe\n out %al, $0x10\n"
	"movb $1, %ds:0x2004\n out %al, $0x10\n"
	"movw $0x1111, %ds:0x0fff\n out %al, $0x10\n"
	"hlt\n");

static u64 dirty(struct vm *v, u32 slot)
{
	u64 bits[1] = {0};
	struct kvm_dirty_log l = {.slot = slot, .dirty_bitmap = bits};

	CHECK_OK(ioctl(v->vm, KVM_GET_DIRTY_LOG, &l));
	return bits[0];
}

int main(void)
{
	struct vm v;
	u8 *p = kt_pages(8 * 4096);
	u64 bits;
	struct kvm_dirty_log l = {.slot = 0, .dirty_bitmap = &bits};

	vm_open(&v);
	vm_vcpu(&v);
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0x80000, v.mem));
	kt_load(&v, prog);
	kt_real(v.vcpu, KT_CODE);
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x90000, 8 * 4096, p));
	CHECK_EQ(dirty(&v, 1), 0);
	CHECK_ERR(ioctl(v.vm, KVM_GET_DIRTY_LOG, &l), ENOENT); /* a slot without logging */
	l.slot = 9;
	CHECK_ERR(ioctl(v.vm, KVM_GET_DIRTY_LOG, &l), ENOENT);
	l.slot = 1u << 20;
	CHECK_ERR(ioctl(v.vm, KVM_GET_DIRTY_LOG, &l), EINVAL);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(dirty(&v, 1), 0xa);
	CHECK_EQ(dirty(&v, 1), 0);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(dirty(&v, 1), 0x4);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(dirty(&v, 1), 0x3); /* a write across two pages */
	/* Our own writes are not logged. */
	p[7 * 4096] = 1;
	CHECK_EQ(dirty(&v, 1), 0);
	/* Logging off and on: starts empty. */
	CHECK_OK(kt_slot(v.vm, 1, 0, 0x90000, 8 * 4096, p));
	l.slot = 1;
	CHECK_ERR(ioctl(v.vm, KVM_GET_DIRTY_LOG, &l), ENOENT);
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x90000, 8 * 4096, p));
	CHECK_EQ(dirty(&v, 1), 0);
	return kt_end();
}
