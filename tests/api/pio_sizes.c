/* SPDX-License-Identifier: MIT */
/* IN and OUT of 1, 2 and 4 bytes, immediate and DX port: what kvm_run says, and where the VMM's answer goes. */
#include "kvmtest.h"

GUEST16(prog,
	"mov $0x11223344, %eax\n mov $0x5678, %dx\n"
	"out %al, %dx\n out %ax, %dx\n out %eax, %dx\n"
	"out %al, $0xe9\n"
	"in %dx, %al\n out %eax, $0x10\n"
	"in %dx, %ax\n out %eax, $0x10\n"
	"in %dx, %eax\n out %eax, $0x10\n"
	"in $0x60, %al\n out %eax, $0x10\n"
	"hlt\n");

static void want(struct vm *v, unsigned port, unsigned size, bool out, u32 val)
{
	u32 got = 0;

	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	CHECK_EQ(v->run->io.port, port);
	CHECK_EQ(v->run->io.size, size);
	CHECK_EQ(v->run->io.count, 1);
	CHECK_EQ(v->run->io.direction, out ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN);
	CHECK(v->run->io.data_offset + size <= v->run_size);
	if (out) {
		memcpy(&got, kt_io_data(v->run), size);
		CHECK_EQ(got, val);
	} else {
		memcpy(kt_io_data(v->run), &val, size);
	}
}

int main(void)
{
	struct vm v;
	struct kvm_regs r;

	vm_real(&v, prog, prog_end);
	want(&v, 0x5678, 1, true, 0x44);
	want(&v, 0x5678, 2, true, 0x3344);
	want(&v, 0x5678, 4, true, 0x11223344);
	want(&v, 0xe9, 1, true, 0x44);
	want(&v, 0x5678, 1, false, 0xaa);
	want(&v, 0x10, 4, true, 0x112233aa);
	want(&v, 0x5678, 2, false, 0xbbcc);
	want(&v, 0x10, 4, true, 0x1122bbcc);
	want(&v, 0x5678, 4, false, 0x99887766);
	want(&v, 0x10, 4, true, 0x99887766);
	want(&v, 0x60, 1, false, 0x55);
	want(&v, 0x10, 4, true, 0x99887755);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(r.rip, KT_CODE + GUEST_SIZE(prog));
	return kt_end();
}
