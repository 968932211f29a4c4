/* SPDX-License-Identifier: MIT */
/*
 * Lifetimes under fire: descriptors closed in every order while threads are inside KVM_RUN, one vCPU run by two threads at once, and
 * signal handlers that leave KVM_RUN by siglongjmp. All of it with guests in real and in 64-bit mode: engines may run these in different ways.
 */
#include <sched.h>
#include <setjmp.h>
#include "kvmtest.h"

struct prog {
	const u8 *start, *end;
};
#define PROG(name, text)                                                                                                                   \
	GUEST16(name##_16, text);                                                                                                          \
	GUEST64(name##_64, text);                                                                                                          \
	static const struct prog name[2] = { { name##_16, name##_16_end }, { name##_64, name##_64_end } }
PROG(spin, "1: lock incl 0x3000\n pause\n jmp 1b\n");
PROG(spin2, "1: lock incl 0x3040\n pause\n jmp 1b\n");
PROG(exits, "1: incl 0x3000\n out %al, $0x10\n jmp 1b\n");
PROG(halt, "incl 0x3000\n cli\n 1: hlt\n jmp 1b\n");
static bool is64;

static void set_up(struct vm *v, int fd, const struct prog *p, u64 at)
{
	memcpy(v->mem + at, p[is64].start, (size_t)(p[is64].end - p[is64].start));
	if (is64)
		kt_long(v, fd, at);
	else
		kt_real(fd, at);
}

static void vm_run(struct vm *v, const struct prog *p)
{
	vm_open(v);
	vm_vcpu(v);
	set_up(v, v->vcpu, p, KT_CODE);
}

static void nothing(int sig)
{
}

static u32 word(const struct vm *v, unsigned at)
{
	return __atomic_load_n((u32 *)(v->mem + at), __ATOMIC_SEQ_CST);
}

/* Does the guest's word change within 5 s? */
static bool moves(const struct vm *v, unsigned at)
{
	u32 was = word(v, at);

	for (int i = 0; i < 5000 && word(v, at) == was; i++)
		kt_sleep_ms(1);
	return word(v, at) != was;
}

struct runner {
	pthread_t thread;
	int fd, result, err;
	u32 done; /* atomic */
};

static void *run_once(void *arg)
{
	struct runner *r = arg;

	do
		r->result = ioctl(r->fd, KVM_RUN, 0ul);
	while (r->result < 0 && errno == EAGAIN);
	r->err = errno;
	__atomic_store_n(&r->done, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void start(struct runner *r, int fd)
{
	*r = (struct runner){ .fd = fd };
	REQUIRE(pthread_create(&r->thread, NULL, run_once, r) == 0);
}

static void end_by_signal(struct runner *r)
{
	REQUIRE(pthread_kill(r->thread, SIGUSR1) == 0);
	pthread_join(r->thread, NULL);
	CHECK_EQ(r->result, -1);
	CHECK_EQ(r->err, EINTR);
}

static int second_vcpu(struct vm *v)
{
	int fd = ioctl(v->vm, KVM_CREATE_VCPU, 1ul);

	REQUIRE(fd >= 0);
	set_up(v, fd, spin2, 0x2000);
	return fd;
}

/* VM, both vCPUs and a device, closed in the order that n (0 to 23) stands for, and the system descriptor anywhere between. */
static void close_order(unsigned n)
{
	struct kvm_create_device cd = { .type = KVM_DEV_TYPE_VFIO };
	struct kvm_device_attr a = { .group = KVM_DEV_VFIO_GROUP, .attr = KVM_DEV_VFIO_GROUP_ADD };
	struct runner r[2];
	unsigned sys_at = n % 5;
	int fd[4];
	struct vm v;

	vm_run(&v, spin);
	REQUIRE(ioctl(v.vm, KVM_CREATE_DEVICE, &cd) == 0);
	fd[0] = v.vm;
	fd[1] = v.vcpu;
	fd[2] = second_vcpu(&v);
	fd[3] = (int)cd.fd;
	start(&r[0], fd[1]);
	start(&r[1], fd[2]);
	for (unsigned left = 4; left; n /= left, left--) {
		unsigned k = n % left;
		int gone = fd[k];

		if (left == 4 - sys_at)
			CHECK_OK(close(v.sys));
		CHECK(moves(&v, 0x3000));
		CHECK(moves(&v, 0x3040));
		CHECK_OK(close(gone));
		CHECK_ERR(ioctl(gone, KVM_CHECK_EXTENSION, 0ul), EBADF);
		for (; k < left - 1; k++)
			fd[k] = fd[k + 1];
		for (k = 0; k < left - 1; k++)
			if (fd[k] == v.vm)
				CHECK(kt_cap(v.vm, KVM_CAP_MAX_VCPUS) > 0);
			else if (fd[k] == (int)cd.fd)
				CHECK_OK(ioctl(fd[k], KVM_HAS_DEVICE_ATTR, &a));
	}
	CHECK(moves(&v, 0x3000));
	CHECK(moves(&v, 0x3040));
	end_by_signal(&r[0]);
	end_by_signal(&r[1]);
	CHECK_ERR(ioctl(r[0].fd, KVM_RUN, 0ul), EBADF);
	CHECK_ERR(ioctl(r[1].fd, KVM_RUN, 0ul), EBADF);
	CHECK_EQ(v.run->exit_reason, KVM_EXIT_INTR);
	munmap(v.run, v.run_size);
	munmap(v.mem, v.mem_size);
	if (sys_at == 4)
		close(v.sys);
}

/* The second KVM_RUN of a vCPU waits for the first one, then runs the guest itself. */
static void two_threads_wait(void)
{
	struct runner a, b;
	struct kvm_regs regs;
	struct vm v;

	vm_run(&v, spin);
	start(&a, v.vcpu);
	CHECK(moves(&v, 0x3000));
	start(&b, v.vcpu);
	kt_sleep_ms(20);
	CHECK(!a.done && !b.done);
	end_by_signal(&a);
	CHECK(moves(&v, 0x3000));
	CHECK(!__atomic_load_n(&b.done, __ATOMIC_SEQ_CST));
	end_by_signal(&b);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_REGS, &regs));
	u32 was = word(&v, 0x3000);
	kt_sleep_ms(20);
	CHECK_EQ(word(&v, 0x3000), was);
}

#define EXITS 3000
static void *run_many(void *arg)
{
	int fd = *(int *)arg;

	for (int i = 0; i < EXITS; i++)
		if (ioctl(fd, KVM_RUN, 0ul) != 0)
			return (void *)(long)errno;
	return NULL;
}

/* Each KVM_RUN of either thread is one turn of the guest's loop. */
static void two_threads_exits(void)
{
	pthread_t t[2];
	struct vm v;
	void *err;

	vm_run(&v, exits);
	for (int i = 0; i < 2; i++)
		REQUIRE(pthread_create(&t[i], NULL, run_many, &v.vcpu) == 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &err);
		CHECK_EQ((long)err, 0);
	}
	CHECK_EQ(word(&v, 0x3000), 2 * EXITS);
}

static __thread sigjmp_buf out;
static __thread volatile sig_atomic_t armed;
static void leave(int sig)
{
	if (armed)
		siglongjmp(out, 1);
}

struct jumper {
	int fd, times, jumps;
	u32 ready, left; /* atomic */
};

static void *jump_thread(void *arg)
{
	struct jumper *j = arg;

	for (volatile int i = 0; i < j->times; i++) {
		if (sigsetjmp(out, 1) == 0) {
			armed = 1;
			__atomic_store_n(&j->ready, (u32)i + 1, __ATOMIC_SEQ_CST);
			while (ioctl(j->fd, KVM_RUN, 0ul) < 0 && errno == EINTR)
				;
			armed = 0;
			CHECK(!"KVM_RUN returned");
		} else {
			armed = 0;
			j->jumps++;
			__atomic_store_n(&j->left, (u32)i + 1, __ATOMIC_SEQ_CST);
		}
	}
	return NULL;
}

static bool reaches(const u32 *word, u32 value)
{
	for (int i = 0; i < 50000 && __atomic_load_n(word, __ATOMIC_SEQ_CST) != value; i++)
		i % 10 ? (void)sched_yield() : (void)usleep(100);
	return __atomic_load_n(word, __ATOMIC_SEQ_CST) == value;
}

/* `threads` threads after each other leave KVM_RUN by siglongjmp `times` times each; the vCPU is whole afterwards. */
static void jump_out(const struct prog *p, bool spins, int threads, int times)
{
	struct kvm_regs regs;
	struct vm v;

	vm_open(&v);
	if (!spins)
		CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	set_up(&v, v.vcpu, p, KT_CODE);
	for (int n = 0; n < threads; n++) {
		struct jumper j = { .fd = v.vcpu, .times = times };
		pthread_t t;

		REQUIRE(pthread_create(&t, NULL, jump_thread, &j) == 0);
		for (int i = 1; i <= times; i++) {
			REQUIRE(reaches(&j.ready, (u32)i));
			if (spins && i % 3 == 0)
				CHECK(moves(&v, 0x3000)); /* certainly inside */
			else if (i % 3 == 1)
				usleep(200);
			REQUIRE(pthread_kill(t, SIGUSR2) == 0);
			REQUIRE(reaches(&j.left, (u32)i));
		}
		pthread_join(t, NULL);
		CHECK_EQ(j.jumps, times);
		CHECK_OK(ioctl(v.vcpu, KVM_GET_REGS, &regs)); /* the vCPU's lock is free, and nobody runs it */
		u32 was = word(&v, 0x3000);
		kt_sleep_ms(5);
		CHECK_EQ(word(&v, 0x3000), was);
	}
	if (!spins)
		CHECK_EQ(word(&v, 0x3000), 1);
	struct kvm_userspace_memory_region gone = { .slot = 0 };
	CHECK_OK(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION, &gone)); /* waits for no reader that has jumped away */
	REQUIRE(kt_slot(v.vm, 0, 0, 0, v.mem_size, v.mem) == 0);
	if (spins) {
		struct runner r;

		start(&r, v.vcpu);
		CHECK(moves(&v, 0x3000));
		end_by_signal(&r);
	}
	close(v.vm);
	close(v.vcpu);
	close(v.sys);
}

/* The thread jumps out after every descriptor was closed: the jump itself drops the last reference. */
static void jump_after_close(void)
{
	for (int i = 0; i < 20; i++) {
		struct jumper j = { .times = 1 };
		pthread_t t;
		struct vm v;

		vm_run(&v, spin);
		j.fd = v.vcpu;
		REQUIRE(pthread_create(&t, NULL, jump_thread, &j) == 0);
		CHECK(moves(&v, 0x3000));
		close(v.vcpu);
		close(v.vm);
		close(v.sys);
		CHECK(moves(&v, 0x3000));
		REQUIRE(pthread_kill(t, SIGUSR2) == 0);
		pthread_join(t, NULL);
		CHECK_EQ(j.jumps, 1);
		u32 was = word(&v, 0x3000);
		kt_sleep_ms(2);
		CHECK_EQ(word(&v, 0x3000), was);
		munmap(v.run, v.run_size);
		munmap(v.mem, v.mem_size);
	}
}

/* 255 vCPUs in one VM: each vCPU answers, and the last one runs. */
static void many_vcpus(void)
{
	struct kvm_regs regs;
	int fd[255];
	struct vm v;

	vm_run(&v, exits);
	fd[0] = v.vcpu;
	for (int i = 1; i < 255; i++) {
		fd[i] = ioctl(v.vm, KVM_CREATE_VCPU, (unsigned long)i);
		REQUIRE(fd[i] >= 0);
		CHECK_OK(ioctl(fd[i], KVM_GET_REGS, &regs));
	}
	set_up(&v, fd[254], exits, KT_CODE);
	CHECK_OK(ioctl(fd[254], KVM_RUN, 0ul));
	CHECK_EQ(word(&v, 0x3000), 1);
	for (int i = 0; i < 255; i++)
		close(fd[i]);
	close(v.vm);
	close(v.sys);
}

int main(void)
{
	struct sigaction sa = { .sa_handler = nothing }, jump = { .sa_handler = leave };

	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &jump, NULL);
	for (int k = 0; k < 2; k++) {
		is64 = k;
		for (unsigned i = 0; i < 24; i++)
			close_order(i);
		alarm(60);
		two_threads_wait();
		two_threads_exits();
		jump_out(spin, true, 3, 100);
		jump_out(halt, false, 3, 100);
		jump_after_close();
		many_vcpus();
	}
	return kt_end();
}
