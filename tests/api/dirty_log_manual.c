/* SPDX-License-Identifier: MIT */
/* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: a get does not clear, KVM_CLEAR_DIRTY_LOG does, in pieces; initially-all-set. */
#include "kvmtest.h"

GUEST16(prog,
	"mov $0x9000, %ax\n mov %ax, %ds\n"
	"1: movb $1, %ds:0x1000\n movb $1, %ds:0x3ffe\n out %al, $0x10\n"
	"jmp 1b\n");

#define PAGES 64

static u64 dirty(struct vm *v)
{
	u64 bits = 0;
	struct kvm_dirty_log l = {.slot = 1, .dirty_bitmap = &bits};

	CHECK_OK(ioctl(v->vm, KVM_GET_DIRTY_LOG, &l));
	return bits;
}

static int clear(struct vm *v, u64 first, u32 n, u64 bits)
{
	struct kvm_clear_dirty_log c = {.slot = 1, .first_page = first, .num_pages = n, .dirty_bitmap = &bits};

	return ioctl(v->vm, KVM_CLEAR_DIRTY_LOG, &c);
}

int main(void)
{
	struct vm v;
	u8 *p = kt_pages(PAGES * 4096);
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};
	int bits;

	vm_open(&v);
	bits = kt_cap(v.sys, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	if (!bits)
		SKIP("no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
	CHECK_EQ(bits, 3);
	vm_vcpu(&v);
	cap.args[0] = 4;
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 2; /* initially-set alone makes no sense */
	CHECK_ERR(ioctl(v.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 1;
	CHECK_OK(ioctl(v.vm, KVM_ENABLE_CAP, &cap));
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 0, 0, 0, 0x80000, v.mem));
	kt_load(&v, prog);
	kt_real(v.vcpu, KT_CODE);
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x90000, PAGES * 4096, p));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(dirty(&v), 0xa);
	CHECK_EQ(dirty(&v), 0xa);
	CHECK_OK(clear(&v, 0, PAGES, 0x2));
	CHECK_EQ(dirty(&v), 0x8);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(dirty(&v), 0xa);
	CHECK_ERR(clear(&v, 1, PAGES - 1, ~0ull), EINVAL); /* first page not a multiple of 64 */
	CHECK_ERR(clear(&v, 0, 3, ~0ull), EINVAL);         /* nor the length, unless at the end */
	CHECK_ERR(clear(&v, 64, 64, ~0ull), EINVAL);       /* outside */
	CHECK_OK(clear(&v, 0, PAGES, ~0ull));
	CHECK_EQ(dirty(&v), 0);
	/* Initially-all-set. */
	cap.args[0] = 3;
	CHECK_OK(ioctl(v.vm, KVM_ENABLE_CAP, &cap));
	CHECK_OK(kt_slot(v.vm, 1, 0, 0x90000, PAGES * 4096, p));
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x90000, PAGES * 4096, p));
	CHECK_EQ(dirty(&v), ~0ull);
	return kt_end();
}
