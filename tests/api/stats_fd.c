/* SPDX-License-Identifier: MIT */
/* KVM_GET_STATS_FD: the file describes itself as the kernel's document says, and its numbers are those of now. */
#include "kvmtest.h"

GUEST16(prog, "mov $10, %cx\n1: out %al, $0x10\n loop 1b\n hlt\n");

static u64 value(int fd, const char *want, bool *found)
{
	struct kvm_stats_header h;
	u64 val = ~0ull;

	*found = false;
	REQUIRE(pread(fd, &h, sizeof(h), 0) == sizeof(h));
	for (u32 i = 0; i < h.num_desc; i++) {
		size_t size = sizeof(struct kvm_stats_desc) + h.name_size;
		struct kvm_stats_desc *d = calloc(1, size);

		REQUIRE(pread(fd, d, size, h.desc_offset + i * size) == (ssize_t)size);
		CHECK(memchr(d->name, 0, h.name_size) != NULL);
		CHECK(d->name[0] && (d->flags & KVM_STATS_TYPE_MASK) <= KVM_STATS_TYPE_MAX);
		CHECK((d->flags & KVM_STATS_UNIT_MASK) <= KVM_STATS_UNIT_MAX);
		CHECK(d->size >= 1);
		if (!strcmp(d->name, want)) {
			*found = true;
			REQUIRE(pread(fd, &val, sizeof(val), h.data_offset + d->offset) == sizeof(val));
		}
		free(d);
	}
	return val;
}

static void shape(int fd)
{
	struct kvm_stats_header h, again;
	char id[256];

	REQUIRE(fd >= 0);
	CHECK_EQ(fcntl(fd, F_GETFD) & ~FD_CLOEXEC, 0);
	REQUIRE(read(fd, &h, sizeof(h)) == sizeof(h));
	CHECK_EQ(h.flags, 0);
	CHECK(h.name_size && h.name_size <= 256 && h.num_desc);
	CHECK(h.id_offset >= sizeof(h) && h.desc_offset >= h.id_offset + h.name_size);
	CHECK(h.data_offset >= h.desc_offset + h.num_desc * (sizeof(struct kvm_stats_desc) + h.name_size));
	REQUIRE(pread(fd, id, h.name_size, h.id_offset) == (ssize_t)h.name_size);
	CHECK(!strncmp(id, "kvm-", 4));
	REQUIRE(pread(fd, &again, sizeof(again), 0) == sizeof(again));
	CHECK(!memcmp(&h, &again, sizeof(h)));
	CHECK(write(fd, &h, sizeof(h)) < 0);
	CHECK_ERR(ioctl(fd, KVM_GET_API_VERSION, 0ul), ENOTTY);
}

int main(void)
{
	struct vm v;
	int vm_fd, vcpu_fd;
	bool found;

	vm_real(&v, prog, prog_end);
	CHECK_EQ(kt_cap(v.sys, KVM_CAP_BINARY_STATS_FD), 1);
	CHECK_ERR(ioctl(v.sys, KVM_GET_STATS_FD, 0ul), EINVAL);
	vm_fd = ioctl(v.vm, KVM_GET_STATS_FD, 0ul);
	vcpu_fd = ioctl(v.vcpu, KVM_GET_STATS_FD, 0ul);
	shape(vm_fd);
	shape(vcpu_fd);
	if (kt_usekvm()) { /* the names are each implementation's own */
		CHECK_EQ(value(vcpu_fd, "exit_io", &found), 0);
		CHECK(found);
		for (u64 i = 1; i <= 10; i++) {
			CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
			CHECK_EQ(value(vcpu_fd, "exit_io", &found), i);
			CHECK_EQ(value(vm_fd, "exit_io", &found), i);
			CHECK_EQ(value(vm_fd, "kvm_run_calls", &found), i);
		}
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
		CHECK_EQ(value(vcpu_fd, "instructions", &found), 22);
		CHECK_EQ(value(vcpu_fd, "exit_hlt", &found), 1);
		/* read() at a position, after lseek(), on a dup. */
		struct kvm_stats_header h;
		u64 a, b;
		int other = dup(vcpu_fd);
		REQUIRE(pread(vcpu_fd, &h, sizeof(h), 0) == sizeof(h));
		REQUIRE(lseek(other, h.data_offset, SEEK_SET) == h.data_offset);
		REQUIRE(read(other, &a, 8) == 8);
		kt_set_rip(v.vcpu, KT_CODE);
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
		REQUIRE(lseek(vcpu_fd, h.data_offset, SEEK_SET) == h.data_offset);
		REQUIRE(syscall(SYS_read, vcpu_fd, &b, 8) == 8);
		CHECK_EQ(b, a + 1);
		close(other);
	}
	/* The file keeps its VM. */
	close(v.vcpu);
	close(v.vm);
	close(v.sys);
	value(vm_fd, "", &found);
	value(vcpu_fd, "", &found);
	close(vm_fd);
	close(vcpu_fd);
	return kt_end();
}
