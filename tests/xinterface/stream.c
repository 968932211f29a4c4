/* SPDX-License-Identifier: MIT */
/* iostream: records of writes for another process; a reader that is slow or gone; which descriptors. */
#include <sys/socket.h>
#include <netinet/in.h>

#include "kvmtest.h"
#include "usekvm/xinterface.h"

#define BAR 0x40000000ull

GUEST64(prog,
	"mov $0x40000000, %ebx\n mov $0x1122334455667788, %rax\n mov %rax, (%rbx)\n movl $5, (%rbx)\n"
	"mov $0x77, %al\n out %al, $0x40\n hlt\n");
GUEST64(flood, "mov $0x40000000, %ebx\n xor %eax, %eax\n 1: inc %eax\n mov %eax, (%rbx)\n cmp $100000, %eax\n jne 1b\n hlt\n");

static struct vm v;
static struct kvm_xinterface *x;

static void start(const u8 *from, const u8 *to)
{
	kt_code(&v, from, to);
	kt_set_rip(v.vcpu, KT_CODE);
}

static void check_error(int fd, unsigned long len, int want)
{
	struct kvm_xioevent *e;

	errno = 0;
	e = kvm_xinterface_iostream(x, BAR, len, 0, fd);
	CHECK(!e);
	CHECK_EQ(errno, want);
	if (e)
		kvm_xioevent_deassign(e);
}

static void errors(void)
{
	int null = open("/dev/null", O_RDWR), tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0), sv[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0);
	check_error(-1, 4, EBADF);
	check_error(null, 4, ENOTSOCK);
	if (tcp >= 0)
		check_error(tcp, 4, EINVAL);
	check_error(sv[0], 3, EINVAL);
	struct kvm_xioevent *e = kvm_xinterface_iostream(x, BAR, 4, 0, sv[0]);
	CHECK(e);
	check_error(sv[0], 4, EEXIST);
	if (e)
		kvm_xioevent_deassign(e);
	close(null), close(tcp), close(udp), close(sv[0]), close(sv[1]);
}

/* The reader: another process. It exits with 0 if it got what prog writes. */
static void reader(int fd)
{
	static const struct kvm_xio_record want[] = {
		{BAR, 0x1122334455667788, 8, 0, 0}, {BAR, 5, 4, 0, 0}, {0x40, 0x77, 1, KVM_XIOEVENT_FLAG_PIO, 0}};

	for (int i = 0; i < 3; i++) {
		struct kvm_xio_record r;

		if (recv(fd, &r, sizeof(r), MSG_WAITALL) != sizeof(r) || memcmp(&r, &want[i], sizeof(r)))
			_exit(10 + i);
	}
	_exit(recv(fd, &(char){0}, 1, 0) == 0 ? 0 : 20);
}

static void other_process(int type)
{
	struct kvm_xioevent *e[3];
	int sv[2], status;
	pid_t pid;

	REQUIRE(socketpair(AF_UNIX, type, 0, sv) == 0);
	pid = fork();
	if (!pid) {
		close(sv[0]);
		reader(sv[1]);
	}
	close(sv[1]);
	e[0] = kvm_xinterface_iostream(x, BAR, 8, 0, sv[0]);
	e[1] = kvm_xinterface_iostream(x, BAR, 4, 0, sv[0]);
	e[2] = kvm_xinterface_iostream(x, 0x40, 1, KVM_XIOEVENT_FLAG_PIO, sv[0]);
	REQUIRE(e[0] && e[1] && e[2]);
	close(sv[0]); /* they have their own */
	start(prog, prog_end);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	for (int i = 0; i < 3; i++)
		kvm_xioevent_deassign(e[i]);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	start(prog, prog_end);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
}

/* Nobody reads: the guest goes on, and no write is lost without a trace. */
static void slow_reader(void)
{
	struct kvm_xioevent *e;
	struct kvm_xio_record r;
	u64 got = 0, lost = 0, last = 0;
	bool in_order = true;
	int sv[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0);
	e = kvm_xinterface_iostream(x, BAR, 4, 0, sv[0]);
	REQUIRE(e);
	start(flood, flood_end);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	while (recv(sv[1], &r, sizeof(r), MSG_DONTWAIT) == sizeof(r)) {
		got++;
		lost += r.lost;
		in_order &= r.data == last + 1 + r.lost;
		last = r.data;
	}
	CHECK(got > 0 && got < 100000 && in_order && !lost);
	start(prog, prog_end);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO); /* 8 bytes: not the event's */
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK(recv(sv[1], &r, sizeof(r), MSG_DONTWAIT) == sizeof(r));
	CHECK(r.data == 5 && r.lost == 100000 - got);
	/* The reader goes away: no SIGPIPE, no exit. */
	close(sv[1]);
	start(flood, flood_end);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	kvm_xioevent_deassign(e);
	close(sv[0]);
}

int main(void)
{
	CHECK_EQ(sizeof(struct kvm_xio_record), 24);
	vm_open(&v);
	vm_vcpu(&v);
	kt_long(&v, v.vcpu, KT_CODE);
	x = kvm_xinterface_bind(v.vm);
	REQUIRE(x);
	errors();
	other_process(SOCK_SEQPACKET);
	other_process(SOCK_STREAM);
	slow_reader();
	kvm_xinterface_put(x);
	return kt_end();
}
