/* SPDX-License-Identifier: MIT */
/*
 * Threads of a monitor with seccomp filters: /dev/kvm is opened before any; the thread that makes VMs and vCPUs has a list such as Cloud Hypervisor's, a
 * vCPU's thread one such as Firecracker's, and after a while the first thread one as short. Interrupts, kicks, hot code, eventfds, memory and state
 * work, and no other system call is made: SIGSYS ends the test with its number.
 */
#include "irqguest.h"

#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <ucontext.h>

#ifndef SYS_rseq
#define SYS_rseq 334
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif

/* What every list has. */
static const u16 shortest[] = { SYS_brk, SYS_clock_gettime, SYS_close, SYS_exit, SYS_exit_group, SYS_fstat, SYS_gettid, SYS_ioctl, SYS_mremap, SYS_munmap,
				SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_yield, SYS_write };
/* Further ones of a thread that makes VMs; futex, mmap and madvise in all their forms. */
static const u16 vmm[] = { SYS_alarm, SYS_clone, SYS_clone3, SYS_dup, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_wait, SYS_eventfd2, SYS_fcntl, SYS_ftruncate, SYS_futex,
			   SYS_getpid, SYS_getrandom, SYS_lseek, SYS_madvise, SYS_memfd_create, SYS_mmap, SYS_mprotect, SYS_nanosleep, SYS_clock_nanosleep, SYS_newfstatat,
			   SYS_open, SYS_openat, SYS_prctl, SYS_pread64, SYS_read, SYS_readlink, SYS_rt_sigaction, SYS_rseq, SYS_seccomp, SYS_set_robust_list, SYS_sigaltstack,
			   SYS_statx, SYS_tgkill, SYS_timerfd_create, SYS_timerfd_settime };
/* And of one that only looks after them; the last two are pthread_kill. */
static const u16 keeper[] = { SYS_fcntl, SYS_getpid, SYS_tgkill };

static struct sock_filter code[256];
static unsigned ncode;

static void emit(u16 op, u8 jt, u8 jf, u32 k)
{
	code[ncode++] = (struct sock_filter){ op, jt, jf, k };
}

#define LOAD(what) emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, what))
#define ALLOW() emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW)

static void allow(const u16 *n, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, n[i]);
		ALLOW();
	}
}

/* futex only to wait and wake on private words, mmap only of anonymous private memory that nobody executes, madvise only to drop. */
static void allow_narrow(void)
{
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, SYS_futex);
	LOAD(args[1]);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, FUTEX_WAIT_PRIVATE);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, FUTEX_WAKE_PRIVATE);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, FUTEX_WAIT_BITSET_PRIVATE);
	ALLOW();
	LOAD(nr);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, SYS_madvise);
	LOAD(args[2]);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, MADV_DONTNEED);
	ALLOW();
	LOAD(nr);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, SYS_mmap);
	LOAD(args[2]);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, PROT_READ | PROT_WRITE);
	LOAD(args[3]);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, MAP_PRIVATE | MAP_ANONYMOUS);
	ALLOW();
}

static void confine(const u16 *more, unsigned count, bool narrow)
{
	struct sock_fprog p = { .filter = code };

	ncode = 0;
	LOAD(nr);
	allow(shortest, sizeof(shortest) / sizeof(shortest[0]));
	allow(more, count);
	if (narrow)
		allow_narrow();
	emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP);
	p.len = (u16)ncode;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
		SKIP("this host lets no seccomp filter be set");
}

static void on_sigsys(int sig, siginfo_t *info, void *ctx)
{
	char line[64];
	const greg_t *g = ((ucontext_t *)ctx)->uc_mcontext.gregs;
	int n = snprintf(line, sizeof(line), "system call %d (%#llx, %#llx) is not on the list\n", info->si_syscall, g[REG_RSI], g[REG_RDX]);

	(void)!write(1, line, (size_t)n);
	_exit(1);
}

/* ---- the threads of vCPUs ---- */

static struct vm v;
static volatile u32 irqs, kicks, outs, handled;
static volatile bool stop, hold;

static void handler(int sig, siginfo_t *info, void *ctx)
{
	sigset_t now;

	pthread_sigmask(SIG_SETMASK, NULL, &now);
	handled += sig == SIGUSR1 && info->si_code == SI_TKILL && sigismember(&now, SIGUSR1) &&
		   sigismember(&now, SIGUSR2) && !sigismember(&((ucontext_t *)ctx)->uc_sigmask, SIGUSR1);
	v.run->immediate_exit = 1;
}

static void *vcpu_thread(void *arg)
{
	bool strict = arg;

	void *volatile first = malloc(1); /* the C library maps a thread's arena at its first call, free() too, with flags that are on no list */

	free(first);
	if (strict)
		confine(NULL, 0, true);
	while (!stop) {
		int r = ioctl(v.vcpu, KVM_RUN, 0ul);

		if (r < 0 && errno == EINTR) {
			v.run->immediate_exit = 0;
			kicks = kicks + 1;
			while (hold && !stop)
				sched_yield();
		} else if (r < 0 || v.run->exit_reason != KVM_EXIT_IO) {
			CHECK_EQ(r < 0 ? errno : 0, 0);
			CHECK_EQ(v.run->exit_reason, KVM_EXIT_IO);
			return NULL;
		} else if (v.run->io.port == 0x12) {
			irqs = irqs + (*kt_io_data(v.run) == 8 + 4);
		} else {
			outs = outs + 1;
		}
	}
	CHECK_OK(close(v.vcpu));
	return NULL;
}

/* Until *counter reaches n; false after five seconds. */
static bool reaches(volatile u32 *counter, u32 n)
{
	for (int i = 0; i < 5000 && *counter < n; i++)
		kt_sleep_ms(1);
	return *counter >= n;
}

static void kick_all(pthread_t t, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		u32 before = kicks;

		pthread_kill(t, SIGUSR1);
		if (!reaches(&kicks, before + 1)) {
			printf("kick %u was lost\n", i);
			CHECK(false);
			return;
		}
	}
	CHECK(handled >= n);
}

static void signal_event(int fd)
{
	u64 one = 1;

	REQUIRE(write(fd, &one, 8) == 8);
}

static int irqfd(int fd, u32 gsi, u32 flags)
{
	struct kvm_irqfd a = {.fd = (u32)fd, .gsi = gsi, .flags = flags};

	return ioctl(v.vm, KVM_IRQFD, &a);
}

static int ioeventfd(int fd, u64 addr, u32 len, u32 flags)
{
	struct kvm_ioeventfd a = {.fd = fd, .addr = addr, .len = len, .flags = flags};

	return ioctl(v.vm, KVM_IOEVENTFD, &a);
}

/* ---- what the first thread does ---- */

static void interrupts(int e)
{
	pthread_t t;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	irq_guest(&v, false);
	CHECK_OK(irqfd(e, 4, 0));
	stop = hold = false;
	irqs = kicks = handled = 0;
	REQUIRE(!pthread_create(&t, NULL, vcpu_thread, &v));
	for (u32 i = 1; i <= 30; i++) {
		signal_event(e);
		if (!reaches(&irqs, i))
			break;
	}
	CHECK_EQ(irqs, 30);
	kick_all(t, 30); /* asleep in HLT */
	stop = true;
	pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
}

GUEST64(hot, "1: mov $20000, %ecx\n 2: add $3, %rax\n xor %rcx, %rax\n dec %ecx\n jnz 2b\n movl $7, 0x900000\n out %al, $0x20\n out %al, $0x10\n jmp 1b\n");

static u8 *spare;

/* What is asked of a VM whose vCPU stands still, under the short list. */
static void keep(int e, int f)
{
	static struct kvm_lapic_state l;
	static struct kvm_xsave x;
	struct kvm_vcpu_events ev;
	struct kvm_debugregs d;
	struct kvm_clock_data c;
	struct kvm_regs r;
	struct kvm_sregs s;
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_irq_level level = {.irq = 4, .level = 1};
	struct kvm_userspace_memory_region slot = {.slot = 5, .guest_phys_addr = 0x700000, .memory_size = 0x10000, .userspace_addr = (u64)spare, .flags = KVM_MEM_LOG_DIRTY_PAGES};
	static u64 bits[64];
	struct kvm_dirty_log log = {.slot = 5, .dirty_bitmap = bits};

	CHECK_OK(ioctl(v.vcpu, KVM_GET_REGS, &r));
	CHECK_OK(ioctl(v.vcpu, KVM_SET_REGS, &r));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_SREGS, &s));
	CHECK_OK(ioctl(v.vcpu, KVM_SET_SREGS, &s));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_LAPIC, &l));
	CHECK_OK(ioctl(v.vcpu, KVM_SET_LAPIC, &l));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_XSAVE, &x));
	CHECK_OK(ioctl(v.vcpu, KVM_SET_XSAVE, &x));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_VCPU_EVENTS, &ev));
	CHECK_OK(ioctl(v.vcpu, KVM_SET_VCPU_EVENTS, &ev));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_DEBUGREGS, &d));
	CHECK_OK(ioctl(v.vm, KVM_GET_CLOCK, &c));
	CHECK_OK(ioctl(v.vm, KVM_SET_CLOCK, &c));
	CHECK_OK(ioctl(v.vm, KVM_GET_IRQCHIP, &chip));
	CHECK_OK(ioctl(v.vm, KVM_SET_IRQCHIP, &chip));
	CHECK_OK(ioctl(v.vm, KVM_IRQ_LINE, &level));
	level.level = 0;
	CHECK_OK(ioctl(v.vm, KVM_IRQ_LINE, &level));
	for (int i = 0; i < 3; i++) {
		CHECK_OK(irqfd(e, 5, 0));
		CHECK_OK(irqfd(e, 5, KVM_IRQFD_FLAG_DEASSIGN));
		CHECK_OK(ioeventfd(f, 0x901000, 4, 0));
		CHECK_OK(ioeventfd(f, 0x901000, 4, KVM_IOEVENTFD_FLAG_DEASSIGN));
		slot.memory_size = 0x10000;
		CHECK_OK(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION, &slot));
		CHECK_OK(ioctl(v.vm, KVM_GET_DIRTY_LOG, &log));
		slot.memory_size = 0;
		CHECK_OK(ioctl(v.vm, KVM_SET_USER_MEMORY_REGION, &slot));
	}
}

static pthread_t last;

static void hot_code(int e, int f)
{
	u32 before;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	kt_load(&v, hot);
	kt_long(&v, v.vcpu, KT_CODE);
	CHECK_OK(ioeventfd(f, 0x900000, 4, 0));
	CHECK_OK(ioeventfd(f, 0x20, 1, KVM_IOEVENTFD_FLAG_PIO));
	stop = hold = false;
	outs = kicks = handled = 0;
	REQUIRE(!pthread_create(&last, NULL, vcpu_thread, &v));
	CHECK(reaches(&outs, 200));
	kick_all(last, 50);
	hold = true;
	pthread_kill(last, SIGUSR1);
	CHECK(reaches(&kicks, 51));
	confine(keeper, sizeof(keeper) / sizeof(keeper[0]), true);
	keep(e, f);
	before = outs;
	hold = false;
	for (u64 i = 0; i < 2000000000 && outs < before + 100; i++)
		sched_yield();
	CHECK(outs >= before + 100);
	stop = true;
	pthread_kill(last, SIGUSR1);
	close(v.vm); /* the vCPU's thread is waited for elsewhere: pthread_join uses a futex that others see */
}

static void *vmm_thread(void *arg)
{
	int *fd = arg;

	confine(vmm, sizeof(vmm) / sizeof(vmm[0]), false);
	interrupts(fd[0]);
	hot_code(fd[1], fd[2]);
	return NULL;
}

int main(void)
{
	int fd[3] = { eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK) };
	struct sigaction sys = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO }, usr = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	u64 n = 0;
	pthread_t t;

	if (dlsym(RTLD_DEFAULT, "__asan_init") || dlsym(RTLD_DEFAULT, "__tsan_init"))
		SKIP("a sanitizer's own system calls are on no list");
	sigaction(SIGSYS, &sys, NULL);
	sigaddset(&usr.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &usr, NULL);
	REQUIRE(kt_open() >= 0);
	spare = kt_pages(0x10000);
	REQUIRE(!pthread_create(&t, NULL, vmm_thread, fd));
	pthread_join(t, NULL);
	pthread_join(last, NULL);
	CHECK(read(fd[2], &n, 8) == 8 && n >= 600);
	return kt_end();
}
