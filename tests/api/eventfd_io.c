/* SPDX-License-Identifier: MIT */
/* ioeventfd: port and MMIO, datamatch, wildcard length; what matches makes no exit, what does not does; errors; deassign. */
#include "kvmtest.h"

GUEST16(prog,
	"mov $0x11, %ax\n out %ax, $0x40\n"                     /* matches */
	"mov $0x12, %ax\n out %ax, $0x40\n"                     /* other value */
	"out %al, $0x40\n"                                      /* other length */
	"movw $7, %gs:0\n movb $7, %gs:0\n movl $9, %gs:0x10\n movl $8, %gs:0x10\n"
	"out %al, $0x50\n hlt\n");

static int reg(int vm, int fd, u64 addr, u32 len, u64 match, u32 flags)
{
	struct kvm_ioeventfd a = {.datamatch = match, .addr = addr, .len = len, .fd = fd, .flags = flags};

	return ioctl(vm, KVM_IOEVENTFD, &a);
}

static u64 count(int fd)
{
	u64 n = 0;

	return read(fd, &n, 8) == 8 ? n : 0;
}

int main(void)
{
	struct vm v;
	struct kvm_sregs s;
	int e[3], null = open("/dev/null", O_RDWR);

	vm_real(&v, prog, prog_end);
	for (int i = 0; i < 3; i++)
		e[i] = eventfd(0, EFD_NONBLOCK);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_SREGS, &s));
	s.gs.base = 0x40000000;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_SREGS, &s));
	CHECK_ERR(reg(v.vm, e[0], 0x40, 3, 0, KVM_IOEVENTFD_FLAG_PIO), EINVAL);
	CHECK_ERR(reg(v.vm, e[0], ~0ull, 4, 0, 0), EINVAL);
	CHECK_ERR(reg(v.vm, e[0], 0x40, 0, 0, KVM_IOEVENTFD_FLAG_DATAMATCH), EINVAL);
	CHECK_ERR(reg(v.vm, e[0], 0x40, 2, 0, 1u << 10), EINVAL);
	CHECK_ERR(reg(v.vm, null, 0x40, 2, 0, 0), EINVAL);
	CHECK_ERR(reg(v.vm, -1, 0x40, 2, 0, 0), EBADF);
	CHECK_OK(reg(v.vm, e[0], 0x40, 2, 0x11, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH));
	CHECK_ERR(reg(v.vm, e[1], 0x40, 2, 0x11, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH), EEXIST);
	CHECK_OK(reg(v.vm, e[1], 0x40000000, 0, 0, 0));
	CHECK_OK(reg(v.vm, e[2], 0x40000010, 4, 9, KVM_IOEVENTFD_FLAG_DATAMATCH));
	CHECK_OUT(v.vcpu, v.run, 0x40, 0x12);
	CHECK_EQ(count(e[0]), 1);
	CHECK_OUT(v.vcpu, v.run, 0x40, 0x12);
	CHECK_EQ(v.run->io.size, 1);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EQ(v.run->mmio.phys_addr, 0x40000010);
	CHECK_EQ(v.run->mmio.data[0], 8);
	CHECK_EQ(count(e[1]), 2);
	CHECK_EQ(count(e[2]), 1);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EQ(v.run->io.port, 0x50);
	CHECK_OK(reg(v.vm, e[0], 0x40, 2, 0x11, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_DEASSIGN));
	CHECK_ERR(reg(v.vm, e[0], 0x40, 2, 0x11, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_DEASSIGN), ENOENT);
	kt_set_rip(v.vcpu, KT_CODE);
	CHECK_OUT(v.vcpu, v.run, 0x40, 0x11);
	CHECK_EQ(count(e[0]), 0);
	return kt_end();
}
