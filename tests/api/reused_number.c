/* SPDX-License-Identifier: MIT */
/* A number of ours that is closed by a raw system call and then given to another file is that file's, for ioctl, dup, mmap and close. */
#include "kvmtest.h"

static long raw(long n, long a, long b, long c)
{
	long r;

	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}

/* Close fd without anybody knowing and put an ordinary file of two pages there. */
static void replace(int fd)
{
	int other = memfd_create("other", MFD_CLOEXEC);

	REQUIRE(other >= 0 && ftruncate(other, 3 * 4096) == 0);
	REQUIRE(raw(SYS_close, fd, 0, 0) == 0);
	REQUIRE(raw(SYS_dup2, other, fd, 0) == fd);
	close(other);
}

int main(void)
{
	struct vm v;
	struct kvm_regs r;
	u8 *p;
	int d;

	vm_open(&v);
	vm_vcpu(&v);
	replace(v.vcpu);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_REGS, &r), ENOTTY);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_REGS, &r), ENOTTY);
	CHECK_EQ(pwrite(v.vcpu, "x", 1, 0), 1);
	close(v.vcpu);
	CHECK_ERR(ioctl(v.vcpu, KVM_GET_REGS, &r), EBADF);

	v.vcpu = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(v.vcpu >= 0);
	replace(v.vcpu);
	d = dup(v.vcpu);
	REQUIRE(d >= 0);
	CHECK_ERR(ioctl(d, KVM_GET_REGS, &r), ENOTTY);
	close(d);
	p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, v.vcpu, 0);
	REQUIRE(p != MAP_FAILED);
	p[8192] = 0x77;
	d = 0;
	CHECK_EQ(pread(v.vcpu, &d, 1, 8192), 1);
	CHECK_EQ(d, 0x77);
	close(v.vcpu);

	/* The VM's own number: its slots and vCPUs are not the new file's. */
	v.vcpu = ioctl(v.vm, KVM_CREATE_VCPU, 2ul);
	REQUIRE(v.vcpu >= 0);
	replace(v.vm);
	CHECK_ERR(ioctl(v.vm, KVM_CREATE_VCPU, 3ul), ENOTTY);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_REGS, &r));
	close(v.vm);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_REGS, &r));
	close(v.vcpu);
	replace(v.sys);
	CHECK_ERR(ioctl(v.sys, KVM_GET_API_VERSION, 0ul), ENOTTY);
	return kt_end();
}
