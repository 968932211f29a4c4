/* SPDX-License-Identifier: MIT */
/* exec: VM and vCPU descriptors are closed, so is a system descriptor opened with O_CLOEXEC; one without goes on in the new program. */
#include "kvmtest.h"

static int is_open(const char *number)
{
	return fcntl(atoi(number), F_GETFD) >= 0;
}

/* In the new program: argv[1..] are the numbers. */
static int after_exec(char **argv)
{
	int sys = atoi(argv[1]), vm;

	CHECK(is_open(argv[1]));
	CHECK(!is_open(argv[2]));
	CHECK(!is_open(argv[3]));
	CHECK(!is_open(argv[4]));
	CHECK_EQ(ioctl(sys, KVM_GET_API_VERSION, 0ul), 12);
	vm = ioctl(sys, KVM_CREATE_VM, 0ul);
	CHECK(vm >= 0);
	CHECK(ioctl(vm, KVM_CREATE_VCPU, 0ul) >= 0);
	return kt_end();
}

int main(int argc, char **argv)
{
	char n[4][16];
	struct vm v;
	int open_sys, status;
	pid_t pid;

	if (argc == 5)
		return after_exec(argv);
	vm_open(&v);
	vm_vcpu(&v);
	open_sys = open("/dev/kvm", O_RDWR);
	REQUIRE(open_sys >= 0);
	CHECK(fcntl(v.vm, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(v.vcpu, F_GETFD) & FD_CLOEXEC);
	CHECK(!(fcntl(open_sys, F_GETFD) & FD_CLOEXEC));
	snprintf(n[0], sizeof(n[0]), "%d", open_sys);
	snprintf(n[1], sizeof(n[1]), "%d", v.sys);
	snprintf(n[2], sizeof(n[2]), "%d", v.vm);
	snprintf(n[3], sizeof(n[3]), "%d", v.vcpu);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", argv[0], n[0], n[1], n[2], n[3], (char *)NULL);
		_exit(99);
	}
	REQUIRE(pid > 0);
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	pid = vfork();
	if (pid == 0) {
		execl("/proc/self/exe", argv[0], n[0], n[1], n[2], n[3], (char *)NULL);
		_exit(99);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_VCPU, 1ul)); /* ours are as they were */
	return kt_end();
}
