/* SPDX-License-Identifier: MIT */
/*
 * Devices made, asked and closed on several threads at once, with a vCPU inside KVM_RUN: no crash, no deadlock, at most one VFIO device in the VM at
 * any time, and a descriptor that is closed under a call ends that call with EBADF or its answer.
 */
#include "kvmtest.h"
#include "usekvm/device.h"
#include "usekvm/stats.h"

#define ROUNDS 400

GUEST16(prog, "1: wbinvd\n out %al, $0x10\n jmp 1b\n");

static struct vm v;
static int vfio_now; /* how many VFIO devices exist */
static int shared = -1; /* a statistics device that one thread replaces and others use */
static bool stop;

static int make(u32 type)
{
	struct kvm_create_device cd = {.type = type};

	return ioctl(v.vm, KVM_CREATE_DEVICE, &cd) ? -1 : (int)cd.fd;
}

static void *vfio(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		int fd = make(KVM_DEV_TYPE_VFIO);

		if (fd < 0) {
			CHECK_EQ(errno, EBUSY);
			continue;
		}
		CHECK_EQ(__atomic_add_fetch(&vfio_now, 1, __ATOMIC_SEQ_CST), 1);
		int32_t bad = fd;
		struct kvm_device_attr a = {.group = 1, .attr = 1, .addr = (u64)&bad};
		CHECK_ERR(ioctl(fd, KVM_SET_DEVICE_ATTR, &a), EINVAL);
		__atomic_sub_fetch(&vfio_now, 1, __ATOMIC_SEQ_CST);
		close(fd);
	}
	return NULL;
}

static void *replace(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		int fd = make(USEKVM_DEV_TYPE_STATS), old;

		CHECK(fd >= 0);
		old = __atomic_exchange_n(&shared, fd, __ATOMIC_SEQ_CST);
		if (old >= 0)
			close(old);
	}
	return NULL;
}

static void *ask(void *arg)
{
	u64 val[64], last = 0;

	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		struct kvm_device_attr a = {.group = USEKVM_STATS_VM, .attr = USEKVM_STATS_ALL, .addr = (u64)val};
		int fd = __atomic_load_n(&shared, __ATOMIC_SEQ_CST);

		/* The number may meanwhile be closed, or that of a VFIO device. */
		if (fd >= 0 && ioctl(fd, KVM_GET_DEVICE_ATTR, &a))
			CHECK(errno == EBADF || errno == EPERM || errno == ENOTTY);
		else if (fd >= 0) {
			CHECK(val[0] >= last); /* KVM_RUN's count only grows */
			last = val[0];
		}
	}
	return NULL;
}

static void *stats_files(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		struct kvm_stats_header h = {0};
		int fd = ioctl(v.vm, KVM_GET_STATS_FD, 0ul);

		CHECK(fd >= 0);
		CHECK_EQ(pread(fd, &h, sizeof(h), 0), sizeof(h));
		CHECK(h.num_desc > 10);
		close(fd);
	}
	return NULL;
}

static void *run(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST))
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	return NULL;
}

int main(void)
{
	void *(*const fn[])(void *) = {vfio, vfio, replace, stats_files, ask, run};
	pthread_t t[6];

	if (!kt_usekvm())
		SKIP("the statistics device is usekvm's");
	vm_real(&v, prog, prog_end);
	for (int i = 0; i < 6; i++)
		REQUIRE(pthread_create(&t[i], NULL, fn[i], NULL) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	pthread_join(t[4], NULL);
	pthread_join(t[5], NULL);
	close(shared);
	close(v.vcpu);
	close(v.vm);
	close(v.sys);
	return kt_end();
}
