/* SPDX-License-Identifier: MIT */
/*
 * See process.h. The child is made by the agent (base/agent.h), without SIGCHLD and with no thread of the monitor as its parent: the monitor does not
 * hear of it, and does not reap it by accident. It ends with the agent.
 */
#include "direct/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/audit.h>

#include "base/agent.h"
#include "base/log.h"
#include "base/string.h"
#include "base/sys.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

_Static_assert(offsetof(struct dctl, fs) == D_CTL_FS && offsetof(struct dctl, gs) == D_CTL_GS && offsetof(struct dctl, count) == D_CTL_COUNT && offsetof(struct dctl, tsc) == D_CTL_TSC, "stub.h");
_Static_assert(offsetof(struct dctl, top) == D_CTL_TOP && offsetof(struct dctl, stack) == D_CTL_STACK, "stub.h");
_Static_assert(offsetof(struct dctl, prog) == D_CTL_FILTER && offsetof(struct dctl, cmd) == D_CTL_CMDS && sizeof(struct dcmd) == 56, "stub.h");
_Static_assert(sizeof(struct dctl) <= D_FRAME_AT - D_CTL_AT, "stub.h");
_Static_assert(sizeof(struct dcontext) <= D_FPSTATE_AT && offsetof(struct dcontext, sigmask) == 296, "as the kernel has it");

#define FILE_SIZE (D_SIZE + D_COPIES * PAGE_SIZE)
#define MOST_FDS 65535u
#define START_MS 2000
#define STOP_MS 100   /* until it is looked at why guest code that was called out has not stopped */
#define STOP_TICKS 5u /* of 10 ms, that it has worked meanwhile */

/* ---- the child ---- */

struct child {
	struct dprocess *p;
	const int *fds;
	unsigned n;
	int socket; /* by which it sends its listener */
	int err;
};

/* asm/signal.h's, not the C library's */
struct action {
	u64 handler, flags, restorer, mask;
};
#define ACTION_RESTORER 0x04000000ull

static const int caught[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, D_KICK };

/* The C library registers an area in its thread's memory that the kernel writes to. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

static void forget_rseq(void)
{
	if (!&__rseq_offset || !&__rseq_size || !__rseq_size)
		return;
	u64 tp;
	__asm__("movq %%fs:0, %0" : "=r"(tp));
	for (long len = 32; len <= 256; len += 4)
		if (!sys6(SYS_rseq, (long)(tp + (u64)__rseq_offset), len, 1 /* RSEQ_FLAG_UNREGISTER */, 0x53053053, 0, 0))
			return;
}

static void close_others(const int *fds, unsigned n, int one)
{
	int from = 0;

	for (;;) {
		int next = one >= from ? one : -1;

		for (unsigned k = 0; k < n; k++)
			if (fds[k] >= from && (next < 0 || fds[k] < next))
				next = fds[k];
		unsigned last = next < 0 ? ~0u : (unsigned)next - 1;
		if (next != from && sys3(SYS_close_range, from, last, 0)) /* since Linux 5.9 */
			for (unsigned fd = (unsigned)from; fd <= MIN(last, MOST_FDS); fd++)
				sys_close((int)fd);
		if (next < 0)
			return;
		from = next + 1;
	}
}

struct message {
	struct iovec iov;
	struct msghdr msg;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	int said; /* 0, or an error */
};

static void message_init(struct message *m)
{
	memset(m, 0, sizeof(*m));
	m->iov.iov_base = &m->said;
	m->iov.iov_len = sizeof(m->said);
	m->msg.msg_iov = &m->iov;
	m->msg.msg_iovlen = 1;
	m->msg.msg_control = &m->control;
	m->msg.msg_controllen = sizeof(m->control);
}

/* To the monitor's side: a descriptor, or an error. */
static long send_listener(int socket, int listener, long err)
{
	struct message m;

	message_init(&m);
	m.said = (int)err;
	m.control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&m.control.head), &listener, sizeof(int));
	if (listener < 0)
		m.msg.msg_control = NULL, m.msg.msg_controllen = 0;
	return sys3(SYS_sendmsg, socket, &m.msg, 0);
}

static _Noreturn void die(const struct child *ch, long err)
{
	send_listener(ch->socket, -1, err);
	for (;;)
		sys3(SYS_exit_group, 1, 0, 0);
}

/* A copy of the agent, alone in a copy of the monitor's memory. */
static _Noreturn void child(const struct child *ch)
{
	const struct dprocess *p = ch->p;
	struct action none = { 0 }, act = { D_BASE + (u64)(direct_stub_signal - direct_stub), SA_SIGINFO | SA_ONSTACK | ACTION_RESTORER, D_BASE, ~0ull };
	struct sock_filter listen[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, D_CALL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_SIZE(listen), listen };
	struct rlimit no_core = { 0, 0 };
	long r;

	for (int s = 1; s <= 64; s++)
		sys6(SYS_rt_sigaction, s, (long)&none, 0, 8, 0, 0);
	none.handler = 1; /* SIG_IGN */
	sys6(SYS_rt_sigaction, SIGCHLD, (long)&none, 0, 8, 0, 0);
	sys3(SYS_setsid, 0, 0, 0); /* what is typed at the terminal is for the monitor */
	for (unsigned k = 0; k < ARRAY_SIZE(caught); k++)
		sys6(SYS_rt_sigaction, caught[k], (long)&act, 0, 8, 0, 0);
	static const struct {
		u32 at, len, prot;
	} part[] = { { 0, D_CTL_AT, PROT_READ | PROT_EXEC }, { D_CTL_AT, D_STACK_AT - D_CTL_AT, PROT_READ }, { D_STACK_AT, D_SIZE - D_STACK_AT, PROT_READ | PROT_WRITE } };
	for (unsigned k = 0; k < ARRAY_SIZE(part); k++) {
		void *m = sys_mmap((void *)(D_BASE + (u64)part[k].at), part[k].len, (int)part[k].prot, MAP_SHARED | MAP_FIXED, p->ctl_fd, part[k].at);
		if (sys_is_err(m))
			die(ch, (long)m);
	}
	sys3(SYS_setrlimit, RLIMIT_CORE, &no_core, 0);
	sys6(SYS_prctl, PR_SET_NAME, (long)"usekvm-guest", 0, 0, 0, 0);
	if ((r = sys6(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0)) || (r = sys6(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)) ||
	    (r = sys6(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0)))
		die(ch, r);
	forget_rseq();
	int listener = (int)sys3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
	if (listener < 0)
		die(ch, listener);
	if (send_listener(ch->socket, listener, 0) < 0)
		die(ch, -EPIPE);
	close_others(ch->fds, ch->n, p->ctl_fd);
	((void (*)(void))(D_BASE + (u64)(direct_stub_mapper - direct_stub)))();
	__builtin_unreachable();
}

/* ---- starting ---- */

/* What the guest's thread may call, and from where; anything else is a signal. */
static unsigned guest_filter(struct sock_filter *f)
{
	const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 12),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (u32)(D_BASE >> 32), 0, 10),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (u32)D_BASE, 0, 8),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (u32)D_BASE + D_CTL_AT, 7, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, D_CALL, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_TSC, 0, 1), /* how it is run itself */
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW), /* D_CALL: the other filter has more to say */
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};

	memcpy(f, code, sizeof(code));
	return ARRAY_SIZE(code);
}

static int receive(struct dprocess *p, struct seccomp_notif *n, int ms)
{
	struct pollfd fd = { p->listener, POLLIN, 0 };

	for (;;) {
		int r = (int)sys3(SYS_poll, &fd, 1, ms);

		if (r == -EINTR)
			continue;
		if (r <= 0 || !(fd.revents & POLLIN))
			return r < 0 ? r : -ETIMEDOUT;
		memset(n, 0, sizeof(*n));
		r = sys_ioctl(p->listener, SECCOMP_IOCTL_NOTIF_RECV, n);
		if (r != -EINTR && r != -ENOENT)
			return r;
	}
}

static int answer(struct dprocess *p, u64 id)
{
	struct seccomp_notif_resp r = { id, 0, 0, 0 };

	return sys_ioctl(p->listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

static int await_listener(int socket)
{
	struct pollfd fd = { socket, POLLIN, 0 };
	struct message m;
	int listener;
	long r;

	r = sys3(SYS_poll, &fd, 1, START_MS);
	if (r <= 0)
		return r < 0 ? (int)r : -ETIMEDOUT;
	message_init(&m);
	r = sys3(SYS_recvmsg, socket, &m.msg, MSG_CMSG_CLOEXEC);
	if (r < 0)
		return (int)r;
	if (r != sizeof(m.said) || m.said || !m.msg.msg_controllen)
		return r == sizeof(m.said) && m.said ? m.said : -EPIPE;
	memcpy(&listener, CMSG_DATA(&m.control.head), sizeof(int));
	return listener;
}

static int await_tasks(struct dprocess *p)
{
	struct seccomp_notif n;

	while (!p->mapper_id || !p->guest_id) {
		int r = receive(p, &n, START_MS);

		if (r)
			return r;
		if ((int)n.pid == p->mapper && n.data.args[0] == D_MAPPER) {
			p->mapper_id = n.id;
		} else if (n.data.args[0] == D_READY) {
			p->guest = (int)n.pid;
			p->guest_id = n.id;
		} else {
			return -EPROTO;
		}
	}
	return 0;
}

static void reap(struct dprocess *p)
{
	struct pollfd fd = { p->guest_fd, POLLIN, 0 };

	if (p->guest > 0 && p->guest_fd >= 0) {
		sys3(SYS_kill, p->guest, SIGKILL, 0);
		sys3(SYS_poll, &fd, 1, START_MS); /* before the mapper: else it would become somebody else's child */
	}
	if (p->mapper > 0) {
		sys3(SYS_kill, p->mapper, SIGKILL, 0);
		sys6(SYS_wait4, p->mapper, 0, __WALL, 0, 0, 0);
	}
	if (p->guest_fd >= 0)
		sys_close(p->guest_fd);
	if (p->listener >= 0)
		sys_close(p->listener);
	if (p->region)
		sys_munmap(p->region, FILE_SIZE);
}

/* Descriptors are the monitor's to use: not the upper half of what it may have. */
static bool too_many(int fd)
{
	struct rlimit most;

	return !sys3(SYS_getrlimit, RLIMIT_NOFILE, &most, 0) && (u64)fd > most.rlim_cur / 2;
}

static void start_with_file(struct child *ch)
{
	struct dprocess *p = ch->p;
	u64 sync = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;

	ch->err = sys_ftruncate(p->ctl_fd, FILE_SIZE);
	if (ch->err)
		return;
	void *m = sys_mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->ctl_fd, 0);
	if (sys_is_err(m)) {
		ch->err = (int)(long)m;
		return;
	}
	p->region = m;
	memcpy(p->region, direct_stub, (size_t)(direct_stub_end - direct_stub));
	struct dctl *ctl = dprocess_ctl(p);
	ctl->top = D_USER_END;
	ctl->stack.sp = D_BASE + D_STACK_AT;
	ctl->stack.size = D_SIZE - D_STACK_AT;
	ctl->prog.len = (u16)guest_filter(ctl->filter);
	ctl->prog.filter = D_BASE + D_CTL_AT + offsetof(struct dctl, filter);
	int pair[2];
	ch->err = (int)sys6(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair, 0, 0);
	if (ch->err)
		return;
	ch->socket = pair[1];
	long pid = sys6(SYS_clone, 0, 0, 0, 0, 0, 0);
	if (!pid)
		child(ch);
	sys_close(pair[1]); /* if the child dies, reading ends */
	p->mapper = (int)MAX(pid, 0);
	p->listener = pid < 0 ? (int)pid : await_listener(pair[0]);
	sys_close(pair[0]);
	ch->err = p->listener < 0 ? p->listener : await_tasks(p);
	if (ch->err)
		return;
	/* Since Linux 6.6. Without it each hand-over wakes another CPU first, which takes ten times as long: then it is not worth it. */
	ch->err = sys_ioctl(p->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, (void *)sync);
	if (ch->err)
		return;
	p->guest_fd = (int)sys3(SYS_pidfd_open, p->guest, 0, 0);
	ch->err = p->guest_fd < 0 ? p->guest_fd : too_many(p->guest_fd) ? -EMFILE : 0;
}

static void start(void *arg)
{
	struct child *ch = arg;
	struct dprocess *p = ch->p;

	p->ctl_fd = sys_memfd("usekvm-guest", MFD_CLOEXEC);
	ch->err = p->ctl_fd;
	if (p->ctl_fd < 0)
		return;
	start_with_file(ch);
	sys_close(p->ctl_fd); /* the child has it under that number, and nobody else needs it */
}
struct dprocess *dprocess_start(const int *fds, unsigned n, int *err)
{
	struct dprocess *p = calloc(1, sizeof(*p));
	struct child ch = { p, fds, n, -1, 0 };

	if (!p) {
		*err = -ENOMEM;
		return NULL;
	}
	p->listener = p->guest_fd = -1;
	agent_call(start, &ch);
	*err = ch.err;
	if (!ch.err)
		return p;
	dprocess_end(p);
	return NULL;
}

static void end(void *arg)
{
	reap(arg);
}

void dprocess_end(struct dprocess *p)
{
	agent_call(end, p);
	free(p);
}

/* ---- use ---- */

int dprocess_map(struct dprocess *p)
{
	struct seccomp_notif n;

	if (answer(p, p->mapper_id) || receive(p, &n, START_MS) || (int)n.pid != p->mapper)
		return -1;
	p->mapper_id = n.id;
	dprocess_ctl(p)->count = 0;
	return (int)n.data.args[1];
}

int dprocess_go(struct dprocess *p)
{
	return answer(p, p->guest_id);
}

struct cpu_time {
	int pid;
	u64 ticks; /* of 10 ms; ~0: not known */
};

/* On the agent: the fields 14 and 15 of /proc/PID/stat. */
static void look_at_time(void *arg)
{
	struct cpu_time *t = arg;
	char path[32] = "/proc/", buf[512], digits[12];
	unsigned n = 0, at = 6, field = 0;
	u64 sum = 0, v = 0;

	t->ticks = ~0ull;
	for (int p = t->pid; p > 0; p /= 10)
		digits[n++] = (char)('0' + p % 10);
	while (n)
		path[at++] = digits[--n];
	memcpy(path + at, "/stat", 6);
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	ssize_t got = sys_read(fd, buf, sizeof(buf)), k = got;
	sys_close(fd);
	while (k > 0 && buf[k - 1] != ')') /* the name may hold anything */
		k--;
	for (; k < got; k++) {
		if (buf[k] >= '0' && buf[k] <= '9')
			v = v * 10 + (u64)(buf[k] - '0');
		if (buf[k] != ' ')
			continue;
		field++; /* behind the first space stands field 3 */
		if (field == 13 || field == 14)
			sum += v;
		v = 0;
	}
	if (field > 14)
		t->ticks = sum;
}

/* Guest code that was called out and has worked since, instead of taking the signal, blocks it. One that was merely not run is waited for. */
static bool does_not_come(const struct dprocess *p, u64 *ticks)
{
	struct cpu_time t = { p->guest, 0 };
	u64 before = *ticks;

	agent_call(look_at_time, &t);
	*ticks = t.ticks;
	return t.ticks != ~0ull && before != ~0ull && t.ticks - before >= STOP_TICKS;
}

void dprocess_wait(struct dprocess *p, int wake, struct dstop *s)
{
	struct seccomp_notif n;
	struct pollfd fd[3] = { { p->listener, POLLIN, 0 }, { wake, POLLIN, 0 }, { p->guest_fd, POLLIN, 0 } };
	u64 ticks = ~0ull;
	int ms = -1;

	s->what = 0;
	s->woken = false;
	for (;;) {
		int r = (int)sys3(SYS_poll, fd, ARRAY_SIZE(fd), ms);

		if (r == -EINTR)
			continue;
		if (r < 0 || (!r && does_not_come(p, &ticks)))
			return;
		if (!r)
			continue;
		if (fd[0].revents & POLLIN) {
			memset(&n, 0, sizeof(n));
			r = sys_ioctl(p->listener, SECCOMP_IOCTL_NOTIF_RECV, &n);
			if (r == -EINTR || r == -ENOENT)
				continue;
			if (r || (int)n.pid != p->guest)
				return;
			p->guest_id = n.id;
			s->what = n.data.args[0];
			memcpy(s->arg, n.data.args, sizeof(s->arg));
			return;
		}
		if (fd[0].revents || fd[2].revents)
			return; /* gone */
		sys3(SYS_kill, p->guest, D_KICK, 0);
		s->woken = true;
		fd[1].fd = -1;
		ms = STOP_MS;
	}
}
