/* SPDX-License-Identifier: MIT */
/*
 * Debug builds (meson -Dmode=debug or a sanitizer): each allocation and descriptor on the way to a VM, a vCPU, devices and statistics files
 * fails once (USEKVM_INJECT=N). The call says so, leaves nothing behind, succeeds when it is made again, and at the end no object is left
 * (USEKVM_LEAK_CHECK).
 */
#include "kvmtest.h"

#define TYPE_STATS 0x756b0001u
#define CLEAN 10  /* nothing failed: N is beyond the last step */
#define FAILED 11 /* one call failed, as it should */

static int failures;

static int count_fds(void)
{
	int n = 0;

	for (int i = 0; i < 256; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

/* arg is a number, or a struct kvm_create_device's type for KVM_CREATE_DEVICE. A descriptor. */
static int once(int fd, unsigned long req, unsigned long arg)
{
	struct kvm_create_device cd = {.type = (u32)arg};
	int r = fd < 0 ? open("/dev/kvm", O_RDWR | O_CLOEXEC) : ioctl(fd, req, req == KVM_CREATE_DEVICE ? (unsigned long)&cd : arg);

	return r >= 0 && req == KVM_CREATE_DEVICE ? (int)cd.fd : r;
}

static int make(int fd, unsigned long req, unsigned long arg)
{
	int before = count_fds(), r = once(fd, req, arg);

	if (r >= 0)
		return r;
	failures++;
	if (errno != ENOMEM && errno != EMFILE && errno != EAGAIN)
		printf("request %#lx fails with %d (%s)\n", req, errno, strerror(errno)), exit(1);
	if (count_fds() != before)
		printf("request %#lx leaves a descriptor\n", req), exit(1);
	r = once(fd, req, arg);
	if (r < 0)
		printf("request %#lx fails again, with %d (%s)\n", req, errno, strerror(errno)), exit(1);
	return r;
}

static int child(void)
{
	int fd[16], n = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(40);
	fd[n++] = make(-1, 0, 0);
	fd[n++] = make(fd[0], KVM_CREATE_VM, 0);
	ioctl(fd[1], KVM_CREATE_IRQCHIP, 0ul);
	fd[n++] = make(fd[1], KVM_CREATE_VCPU, 0);
	fd[n++] = make(fd[1], KVM_CREATE_VCPU, 1);
	fd[n++] = make(fd[1], KVM_CREATE_DEVICE, KVM_DEV_TYPE_VFIO);
	fd[n++] = make(fd[1], KVM_CREATE_DEVICE, TYPE_STATS);
	fd[n++] = make(fd[1], KVM_GET_STATS_FD, 0);
	fd[n++] = make(fd[2], KVM_GET_STATS_FD, 0);
	for (int i = 0; i < n; i++)
		close(fd[i]);
	return failures > 1 ? 1 : failures ? FAILED : CLEAN;
}

int main(int argc, char **argv)
{
	int n, status;

	if (argc > 1)
		return child();
	if (!kt_usekvm())
		SKIP("fault injection is usekvm's");
	for (n = 1; n < 500; n++) {
		char num[16];
		pid_t pid;

		snprintf(num, sizeof(num), "%d", n);
		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			setenv("USEKVM_INJECT", num, 1);
			setenv("USEKVM_LEAK_CHECK", "1", 1);
			execl("/proc/self/exe", argv[0], "child", (char *)NULL);
			_exit(99);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == CLEAN)
			break;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != FAILED) {
			printf("step %d: status %#x%s\n", n, status, WIFEXITED(status) && WEXITSTATUS(status) == 86 ? " (a leak)" : "");
			kt_failures++;
		}
	}
	if (n == 1)
		SKIP("not a debug build");
	printf("%d steps\n", n - 1);
	CHECK(n > 20 && n < 500);
	return kt_end();
}
