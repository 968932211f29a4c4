/* SPDX-License-Identifier: MIT */
/*
 * A monitor that installs handlers for the fault signals after /dev/kvm was opened, as Firecracker does (they end the process) and Rust's runtime
 * (on an alternate stack): the guest's faults, and memory that is gone under a slot, never reach them; its own faults all do, also between KVM_RUNs,
 * with what the kernel says of them.
 */
#include "kvmtest.h"

#include <setjmp.h>

/* A division by zero with its exception unmasked; an aligned load that is not; x87's invalid operation; UD2. Each as hot code does it: after many rounds. */
#define HOT "mov $3000, %ecx\n 9: pxor %xmm2, %xmm2\n addps %xmm0, %xmm1\n dec %ecx\n jnz 9b\n"
GUEST64(divide, HOT "movl $0x1d80, 0x3000\n ldmxcsr 0x3000\n movl $0x3f800000, 0x3000\n movss 0x3000, %xmm0\n divss %xmm2, %xmm0\n out %al, $0x10\n hlt\n");
GUEST64(unaligned, HOT "movaps 0x3001, %xmm0\n out %al, $0x10\n hlt\n");
GUEST64(fpu, HOT "fninit\n movw $0x37e, 0x3000\n fldcw 0x3000\n fld1\n fchs\n fsqrt\n fwait\n out %al, $0x10\n hlt\n");
GUEST64(undefined, HOT "ud2\n out %al, $0x10\n hlt\n");
GUEST64(loads, HOT "mov 0x900008, %rax\n out %al, $0x10\n hlt\n");

static sigjmp_buf back;
static volatile int expected, got, code;
static void *volatile addr;
static volatile bool on_alt;
static char *alt;

static void handler(int sig, siginfo_t *info, void *ctx)
{
	char here;

	if (!expected) {
		printf("signal %d of the guest reached the program\n", sig);
		_exit(1);
	}
	expected = 0;
	got = sig;
	code = info->si_code;
	addr = info->si_addr;
	on_alt = &here >= alt && &here < alt + 65536;
	siglongjmp(back, 1);
}

static void start(struct vm *v, const u8 *from, const u8 *to)
{
	struct kvm_sregs s;

	vm_long(v, from, to);
	CHECK_OK(ioctl(v->vcpu, KVM_GET_SREGS, &s));
	s.cr4 |= 0x600; /* OSFXSR, OSXMMEXCPT */
	CHECK_OK(ioctl(v->vcpu, KVM_SET_SREGS, &s));
}

/* No IDT: the exception ends in a shutdown. */
static void guest_faults(const u8 *from, const u8 *to)
{
	struct vm v;

	start(&v, from, to);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_SHUTDOWN);
	close(v.vcpu);
	close(v.vm);
	close(v.sys);
}

static void *volatile nowhere = (void *)64;
static volatile int zero;

static void segv(void) { *(volatile char *)nowhere; }
static void divided(void) { int a = 1, d = 0; __asm__ volatile("idivl %2" : "+a"(a), "+d"(d) : "r"(zero)); }
static void ill(void) { __asm__ volatile("ud2"); }
static char *past_end;
static void bus(void) { *(volatile char *)past_end; }

static void own_fault(void (*fn)(void), int sig, int want_code, void *want_addr)
{
	got = 0;
	expected = 1;
	if (!sigsetjmp(back, 1))
		fn();
	CHECK_EQ(got, sig);
	CHECK_EQ(code, want_code);
	CHECK(on_alt);
	if (want_addr)
		CHECK(addr == want_addr);
	expected = 0;
}

static void own_faults(void)
{
	own_fault(segv, SIGSEGV, SEGV_MAPERR, nowhere);
	own_fault(divided, SIGFPE, FPE_INTDIV, NULL);
	own_fault(ill, SIGILL, ILL_ILLOPN, NULL);
	own_fault(bus, SIGBUS, BUS_ADRERR, past_end);
}

int main(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS };
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK }, now;
	int file = memfd_create("short", 0), sys = kt_open();
	char *gone = kt_pages(0x10000);
	stack_t ss;
	struct vm v;

	REQUIRE(sys >= 0 && file >= 0 && !ftruncate(file, 4096));
	past_end = (char *)mmap(NULL, 8192, PROT_READ, MAP_SHARED, file, 0) + 4096;
	alt = kt_pages(65536);
	ss = (stack_t){ .ss_sp = alt, .ss_size = 65536 };
	REQUIRE(!sigaltstack(&ss, NULL));
	for (unsigned i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		CHECK_OK(sigaction(sigs[i], &sa, NULL));
		CHECK_OK(sigaction(sigs[i], NULL, &now));
		CHECK(now.sa_sigaction == handler && (now.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_NODEFER)) == (SA_SIGINFO | SA_ONSTACK));
	}
	own_faults();
	guest_faults(divide, divide_end);
	guest_faults(unaligned, unaligned_end);
	guest_faults(fpu, fpu_end);
	guest_faults(undefined, undefined_end);
	own_faults();
	start(&v, loads, loads_end);
	CHECK_OK(kt_slot(v.vm, 3, 0, 0x900000, 0x10000, gone));
	CHECK_OUT(v.vcpu, v.run, 0x10, 0);
	kt_set_rip(v.vcpu, KT_CODE);
	munmap(gone, 0x10000);
	CHECK_ERR(ioctl(v.vcpu, KVM_RUN, 0ul), EFAULT);
	own_faults();
	return kt_end();
}
