/* SPDX-License-Identifier: MIT */
/*
 * What a monitor does to the guest's memory with the calls for memory: given back (MADV_DONTNEED, MADV_FREE), replaced, moved away, filled when it is missed
 * (userfaultfd). The guest and the monitor see one memory all the time, with what was there before the slot was made.
 */
#include "kvmtest.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define SIZE (8u << 20) /* enough for it to be exchanged for shared memory (src/base/ramfile.h) */
#define GPA 0x10000000

/* Reads the word at RBX and says it, then adds one to it, and again. */
GUEST64(prog, "1: mov (%rbx), %eax\n out %eax, $0x10\n add $1, %eax\n mov %eax, (%rbx)\n jmp 1b\n");

static u32 says(struct vm *v, u64 at)
{
	struct kvm_regs r;

	kt_get_regs(v->vcpu, &r);
	r.rbx = GPA + at;
	r.rip = KT_CODE;
	REQUIRE(ioctl(v->vcpu, KVM_SET_REGS, &r) == 0);
	REQUIRE(kt_run(v->vcpu) == 0 && v->run->exit_reason == KVM_EXIT_IO);
	u32 got = *(u32 *)((u8 *)v->run + v->run->io.data_offset);
	/* On to the next OUT, so that the word has been written. */
	REQUIRE(kt_run(v->vcpu) == 0 && v->run->exit_reason == KVM_EXIT_IO);
	return got;
}

struct filler {
	int fd;
	u64 start;
	u8 page[4096];
	unsigned filled;
};

static void *fill(void *arg)
{
	struct filler *f = arg;
	struct uffd_msg m;

	while (read(f->fd, &m, sizeof(m)) == sizeof(m) && m.event == UFFD_EVENT_PAGEFAULT) {
		u64 at = m.arg.pagefault.address & ~4095ull;
		u32 word = 0x5000 + (u32)((at - f->start) >> 12);
		memset(f->page, 0, sizeof(f->page));
		memcpy(f->page, &word, 4);
		struct uffdio_copy c = { .dst = at, .src = (u64)f->page, .len = 4096 };
		__atomic_fetch_add(&f->filled, 1, __ATOMIC_SEQ_CST); /* before who waits goes on */
		ioctl(f->fd, UFFDIO_COPY, &c);
	}
	return NULL;
}

static void missed(struct vm *v, u8 *p)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (u64)p, SIZE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct filler f = { .fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC), .start = (u64)p };
	pthread_t t;

	if (f.fd < 0) {
		printf("userfaultfd is not allowed here: not tried\n");
		return;
	}
	CHECK_OK(ioctl(f.fd, UFFDIO_API, &api));
	CHECK_OK(madvise(p, SIZE, MADV_DONTNEED));
	CHECK_OK(ioctl(f.fd, UFFDIO_REGISTER, &reg));
	REQUIRE(pthread_create(&t, NULL, fill, &f) == 0);
	CHECK_EQ(says(v, 0x3000), 0x5003);
	CHECK_EQ(*(volatile u32 *)(p + 0x3000), 0x5004);
	CHECK_EQ(*(volatile u32 *)(p + 0x7000), 0x5007);
	CHECK_EQ(says(v, 0x7000), 0x5007);
	CHECK_EQ(f.filled, 2);
	CHECK_OK(ioctl(f.fd, UFFDIO_UNREGISTER, &reg.range));
	pthread_cancel(t);
	pthread_join(t, NULL);
	close(f.fd);
}

int main(void)
{
	struct vm v;
	u8 *p = kt_pages(SIZE), *q;
	u32 word = 0x1234;

	for (u32 at = 0; at < SIZE; at += 1u << 20)
		memcpy(p + at, &word, 4);
	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog);
	kt_long(&v, v.vcpu, KT_CODE);
	CHECK_OK(kt_slot(v.vm, 1, 0, GPA, SIZE, p));
	for (u32 at = 0; at < SIZE; at += 1u << 20) {
		CHECK_EQ(says(&v, at), 0x1234);
		CHECK_EQ(*(volatile u32 *)(p + at), 0x1235);
	}
	CHECK_EQ(says(&v, 0x5000), 0);
	*(volatile u32 *)(p + 0x6000) = 77;
	CHECK_EQ(says(&v, 0x6000), 77);
	/* Given back: zero for both. */
	CHECK_OK(madvise(p, 1u << 20, MADV_DONTNEED));
	CHECK_EQ(*(volatile u32 *)p, 0);
	CHECK_EQ(*(volatile u32 *)(p + 0x6000), 0);
	CHECK_EQ(says(&v, 0x6000), 0);
	CHECK_EQ(*(volatile u32 *)(p + (1u << 20)), 0x1235);
	CHECK_OK(madvise(p + (2u << 20), 4096, MADV_FREE));
	/* Another mapping in its place. */
	REQUIRE(mmap(p + (3u << 20), 1u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	*(volatile u32 *)(p + (3u << 20)) = 99;
	CHECK_EQ(says(&v, 3u << 20), 99);
	/* Moved away, with its bytes; new memory where it was. */
	*(volatile u32 *)(p + (4u << 20)) = 55;
	q = mremap(p + (4u << 20), 1u << 20, 1u << 20, MREMAP_MAYMOVE | MREMAP_FIXED, kt_pages(1u << 20));
	REQUIRE(q != MAP_FAILED);
	CHECK_EQ(*(volatile u32 *)q, 55);
	REQUIRE(mmap(p + (4u << 20), 1u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	CHECK_EQ(says(&v, 4u << 20), 0);
	CHECK_EQ(*(volatile u32 *)q, 55);
	missed(&v, p);
	return kt_end();
}
