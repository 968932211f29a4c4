/* SPDX-License-Identifier: MIT */
/*
 * A real-mode guest with the PIC pair at vectors 8 and 0x70, all lines open: each interrupt writes its vector to port 0x12 and is
 * acknowledged; between them the guest sleeps in HLT. After each interrupt it loops a little (a slow backend
 * may look for interrupts only now and then) and writes 0 to port 0x11. For tests that want to see an
 * interrupt arrive in a guest.
 */
#ifndef IRQGUEST_H
#define IRQGUEST_H

#include "kvmtest.h"

GUEST16(irq_prog,
	/* 256 vectors: stubs of 8 bytes at 0x1400 that push their number and jump to the common part */
	"xor %bx, %bx\n mov $0x1400, %cx\n"
	"1: mov %cx, (%bx)\n movw $0, 2(%bx)\n add $4, %bx\n add $8, %cx\n cmp $0x400, %bx\n jne 1b\n"
	"mov $0x11, %al\n out %al, $0x20\n out %al, $0xa0\n"
	"mov $8, %al\n out %al, $0x21\n mov $0x70, %al\n out %al, $0xa1\n"
	"mov $4, %al\n out %al, $0x21\n mov $2, %al\n out %al, $0xa1\n"
	"mov $1, %al\n out %al, $0x21\n out %al, $0xa1\n"
	"xor %al, %al\n out %al, $0x21\n out %al, $0xa1\n"
	"out %al, $0x10\n" /* ready */
	"2: sti\n hlt\n mov $2000, %cx\n3: loop 3b\n cli\n xor %al, %al\n out %al, $0x11\n jmp 2b\n");

/* The common part: vector is pushed; report, acknowledge both PICs and the LAPIC (through FS:0x0b0, FS based there), return. */
GUEST16(irq_common,
	"push %ax\n push %bp\n mov %sp, %bp\n mov 4(%bp), %al\n out %al, $0x12\n"
	"mov $0x20, %al\n out %al, $0xa0\n out %al, $0x20\n"
	"cmpb $0, 0x3000\n je 1f\n movl $0, %fs:0xb0\n"
	"1: pop %bp\n pop %ax\n add $2, %sp\n iret\n");

#define IRQ_COMMON 0x1300

/* In: a VM with chips. Makes vCPU 0, LINT0 as ExtINT as a BIOS leaves it, and runs to the ready mark. */
static KT_UNUSED void irq_guest(struct vm *v, bool lapic_eoi)
{
	struct kvm_lapic_state l;
	struct kvm_sregs s;

	vm_vcpu(v);
	kt_load(v, irq_prog);
	memcpy(v->mem + IRQ_COMMON, irq_common, GUEST_SIZE(irq_common));
	for (unsigned i = 0; i < 256; i++) {
		u8 *p = v->mem + 0x1400 + i * 8;
		int rel = IRQ_COMMON - (0x1400 + (int)i * 8 + 6);

		p[0] = 0x68; /* push imm16 */
		p[1] = (u8)i;
		p[2] = 0;
		p[3] = 0xe9; /* jmp rel16 */
		p[4] = (u8)rel;
		p[5] = (u8)(rel >> 8);
	}
	v->mem[0x3000] = lapic_eoi;
	kt_real(v->vcpu, KT_CODE);
	REQUIRE(ioctl(v->vcpu, KVM_GET_SREGS, &s) == 0);
	s.fs.base = 0xfee00000;
	s.fs.limit = 0xffff;
	REQUIRE(ioctl(v->vcpu, KVM_SET_SREGS, &s) == 0);
	REQUIRE(ioctl(v->vcpu, KVM_GET_LAPIC, &l) == 0);
	*(u32 *)(l.regs + 0x350) = 0x700; /* LINT0: ExtINT */
	*(u32 *)(l.regs + 0x360) = 0x400; /* LINT1: NMI */
	*(u32 *)(l.regs + 0xf0) = 0x1ff;  /* enabled, spurious 0xff */
	REQUIRE(ioctl(v->vcpu, KVM_SET_LAPIC, &l) == 0);
	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	CHECK_EQ(v->run->io.port, 0x10);
}

/* The next interrupt the guest takes must be this vector. */
#define CHECK_IRQ(v, vector)                                                                                                               \
	do {                                                                                                                               \
		CHECK_OUT((v)->vcpu, (v)->run, 0x12, vector);                                                                              \
		CHECK_EXIT((v)->vcpu, (v)->run, KVM_EXIT_IO);                                                                              \
		CHECK_EQ((v)->run->io.port, 0x11);                                                                                         \
	} while (0)

static KT_UNUSED int irq_line(struct vm *v, u32 gsi, u32 level)
{
	struct kvm_irq_level l = {.irq = gsi, .level = level};

	return ioctl(v->vm, KVM_IRQ_LINE, &l);
}

/* Nothing may come within ms: the vCPU sleeps until a timer signal. Give the number of other exits seen. */
static volatile sig_atomic_t irq_alarms;
static KT_UNUSED void irq_on_alarm(int sig)
{
	irq_alarms++;
}
static KT_UNUSED void irq_quiet(struct vm *v, const char *file, int line)
{
	struct sigaction sa = {.sa_handler = irq_on_alarm}, old;
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec it = {.it_value = {0, 150000000}, .it_interval = {0, 150000000}};
	timer_t t;
	int r;

	sigaction(SIGUSR1, &sa, &old);
	timer_create(CLOCK_MONOTONIC, &ev, &t);
	timer_settime(t, 0, &it, NULL);
	r = ioctl(v->vcpu, KVM_RUN, 0ul);
	if (!(r == -1 && errno == EINTR)) {
		printf("%s:%d: the guest should sleep, but: rc %d, exit %u, port 0x%x, value 0x%x\n", file, line, r, v->run->exit_reason,
			v->run->io.port, v->run->exit_reason == KVM_EXIT_IO ? *kt_io_data(v->run) : 0);
		kt_failures++;
	}
	timer_delete(t);
	sigaction(SIGUSR1, &old, NULL);
}
#define CHECK_QUIET(v) irq_quiet(v, __FILE__, __LINE__)

#endif
