/* SPDX-License-Identifier: MIT */
/* dup, dup2 over one of our descriptors, close_range, reuse of a closed number, F_DUPFD, and a second mapping through a dup. */
#include "kvmtest.h"

int main(void)
{
	struct vm v;
	struct kvm_regs r;
	struct kvm_run *again;
	int d, d2, null, old;

	vm_open(&v);
	vm_vcpu(&v);
	d = dup(v.vcpu);
	CHECK_OK(ioctl(d, KVM_GET_REGS, &r));
	again = kt_map_run(&v, d);
	v.run->immediate_exit = 1;
	CHECK_EQ(again->immediate_exit, 1);
	again->immediate_exit = 0;
	CHECK_EQ(v.run->immediate_exit, 0);
	d2 = fcntl(v.vcpu, F_DUPFD_CLOEXEC, 100);
	CHECK(d2 >= 100);
	CHECK_OK(ioctl(d2, KVM_GET_REGS, &r));
	CHECK(fcntl(d2, F_GETFD) & FD_CLOEXEC);
	close(v.vcpu);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_REGS, &r), EBADF);
	CHECK_OK(ioctl(d, KVM_GET_REGS, &r));

	/* A number that was closed and given to another file is not ours any more. */
	old = v.vcpu;
	null = open("/dev/null", O_RDWR);
	CHECK_EQ(null, old);
	CHECK_ERR(ioctl(null, KVM_GET_REGS, &r), ENOTTY);
	close(null);

	CHECK_EQ(dup2(d, 50), 50);
	CHECK_OK(ioctl(50, KVM_GET_REGS, &r));
	null = open("/dev/null", O_RDWR);
	CHECK_EQ(dup2(null, 50), 50);
	CHECK_ERR(ioctl(50, KVM_GET_REGS, &r), ENOTTY);
	CHECK_EQ(dup3(d, 50, O_CLOEXEC), 50);
	CHECK_OK(ioctl(50, KVM_GET_REGS, &r));
	CHECK_OK(syscall(SYS_close_range, 50u, 60u, 0u));
	CHECK_ERR(ioctl(50, KVM_GET_REGS, &r), EBADF);
	CHECK_OK(ioctl(d, KVM_GET_REGS, &r));
	CHECK_OK(close_range((unsigned)d2, (unsigned)d2, 0));
	CHECK_ERR(ioctl(d2, KVM_GET_REGS, &r), EBADF);
	CHECK_OK(ioctl(d, KVM_GET_REGS, &r));
	close(d);
	CHECK_ERR(ioctl(d, KVM_GET_REGS, &r), EBADF);
	CHECK_OK(kt_slot(v.vm, 5, 0, 1ull << 32, 4096, kt_pages(4096)));

	/* A system call by number, as some programs make them. */
	d = (int)syscall(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR, 0);
	REQUIRE(d >= 0);
	CHECK_EQ(syscall(SYS_ioctl, d, KVM_GET_API_VERSION, 0ul), 12);
	syscall(SYS_close, d);
	CHECK_ERR(ioctl(d, KVM_GET_API_VERSION, 0ul), EBADF);
	return kt_end();
}
