/* SPDX-License-Identifier: MIT */
/* A second vCPU waits for INIT and SIPI from the first one's LAPIC, starts in real mode at the SIPI's page, and is reset by a second INIT. */
#include "kvmtest.h"

#define AP_CODE 0x6000u

/* Flat 32-bit code. EBX: the LAPIC. The AP answers in the words at 0x3000 (started) and 0x3004 (counts). */
GUEST32(bsp,
	"mov $0xfee00000, %ebx\n movl $0x1ff, 0xf0(%ebx)\n mov $0x01000000, %ecx\n"
	"mov %ecx, 0x310(%ebx)\n movl $0x4500, 0x300(%ebx)\n" /* INIT to APIC id 1 */
	"mov $1000, %edx\n1: pause\n dec %edx\n jnz 1b\n"
	"mov %ecx, 0x310(%ebx)\n movl $0x4606, 0x300(%ebx)\n" /* SIPI, page 6 */
	"2: pause\n cmpl $0x55, 0x3000\n jne 2b\n"
	"mov 0x3008, %eax\n out %eax, $0x10\n"
	/* again: the counter at 0x3004 runs; INIT stops it, SIPI begins anew */
	"movl $0, 0x3000\n"
	"mov %ecx, 0x310(%ebx)\n movl $0x4500, 0x300(%ebx)\n"
	"mov $1000, %edx\n3: pause\n dec %edx\n jnz 3b\n"
	"mov %ecx, 0x310(%ebx)\n movl $0x4606, 0x300(%ebx)\n"
	"4: pause\n cmpl $0x55, 0x3000\n jne 4b\n"
	"mov $0x66, %al\n out %al, $0x11\n");

GUEST16(ap,
	"xor %ax, %ax\n mov %cs, %dx\n mov %ax, %ds\n mov %edx, 0x3008\n movl $0x55, 0x3000\n"
	"1: incl 0x3004\n pause\n jmp 1b\n");

static void *ap_thread(void *arg)
{
	int vcpu = *(int *)arg;
	long r;

	do
		r = ioctl(vcpu, KVM_RUN, 0ul);
	while (r < 0 && errno == EAGAIN);
	CHECK(r < 0 && errno == EINTR);
	return NULL;
}

static void nothing(int sig)
{
}

int main(void)
{
	struct sigaction sa = {.sa_handler = nothing};
	struct kvm_mp_state mp;
	struct kvm_run *run;
	struct vm v;
	pthread_t t;
	u32 count;
	int vcpu;

	sigaction(SIGUSR1, &sa, NULL);
	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	vcpu = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(vcpu >= 0);
	run = kt_map_run(&v, vcpu);
	CHECK_OK(ioctl(vcpu, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_UNINITIALIZED);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	kt_load(&v, bsp);
	memcpy(v.mem + AP_CODE, ap, GUEST_SIZE(ap));
	kt_protected(v.vcpu, KT_CODE);
	pthread_create(&t, NULL, ap_thread, &vcpu);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x600); /* CS = page << 8 */
	CHECK_OUT(v.vcpu, v.run, 0x11, 0x66);
	/* It runs at the same time as we do nothing here. */
	memcpy(&count, v.mem + 0x3004, 4);
	for (int i = 0; i < 500 && *(volatile u32 *)(v.mem + 0x3004) == count; i++)
		kt_sleep_ms(10);
	CHECK(*(volatile u32 *)(v.mem + 0x3004) != count);
	run->immediate_exit = 1;
	pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
	CHECK_OK(ioctl(vcpu, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	return kt_end();
}
