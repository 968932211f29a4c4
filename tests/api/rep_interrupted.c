/* SPDX-License-Identifier: MIT */
/*
 * A repeated string instruction that is kicked out of KVM_RUN in its middle goes on where it stopped: nothing is skipped, nothing is
 * done twice. The guest copies 60000 bytes with REP MOVSB again and again while signals arrive all the time.
 */
#include "kvmtest.h"

#include <signal.h>
#include <sys/time.h>

#define LEN 60000

GUEST16(prog, "mov $0x2000, %ax\n mov %ax, %ds\n mov $0x4000, %ax\n mov %ax, %es\n"
	      "1: xor %si, %si\n xor %di, %di\n mov $60000, %cx\n cld\n rep movsb\n mov %cx, %ax\n out %ax, $0x10\n jmp 1b\n");

static void on_alarm(int sig)
{
	(void)sig;
}

static void timer(int us)
{
	struct itimerval it = { { 0, us }, { 0, us } };

	setitimer(ITIMER_REAL, &it, NULL);
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	int rounds = 0, kicks = 0, want = kt_usekvm() ? 20000 : 20;
	struct kvm_regs r;
	struct vm v;

	vm_real(&v, prog, prog_end);
	for (int i = 0; i < LEN; i++)
		v.mem[0x20000 + i] = (u8)(i * 7 + (i >> 8));
	sigaction(SIGALRM, &sa, NULL);
	timer(300);
	while (rounds < want && kicks < 1000000) {
		int rc = ioctl(v.vcpu, KVM_RUN, 0ul);

		if (rc < 0 && errno == EINTR) {
			kicks++;
			continue;
		}
		CHECK_EQ(rc, 0);
		CHECK_EQ(v.run->exit_reason, KVM_EXIT_IO);
		kt_get_regs(v.vcpu, &r);
		CHECK_EQ(r.rax & 0xffff, 0);
		CHECK_EQ(r.rsi & 0xffff, LEN);
		CHECK_EQ(r.rdi & 0xffff, LEN);
		if (memcmp(v.mem + 0x20000, v.mem + 0x40000, LEN)) {
			CHECK(!"the copy is whole");
			break;
		}
		memset(v.mem + 0x40000, 0, LEN);
		rounds++;
	}
	timer(0);
	CHECK_EQ(rounds, want);
	CHECK(kicks > 0);
	return kt_end();
}
