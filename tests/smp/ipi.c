/* SPDX-License-Identifier: MIT */
/*
 * Interprocessor interrupts between three vCPUs, in xAPIC and in x2APIC mode: each destination shorthand, physical, broadcast and logical
 * destinations, lowest priority, NMI, and INIT with SIPI. vCPU 0 sends, between two exits; 1 and 2 sleep in HLT with interrupts on.
 * Each vCPU counts what it takes in its own page, at GS.
 */
#include "kvmtest.h"

#define CPUS 3
#define IDT 0x20000ull
#define GDT 0x21000ull
#define PAGE_OF(cpu) (0x30000ull + (u64)(cpu) * 0x1000)
#define RECEIVER 0x2000ull
#define ON_FIXED 0x3000ull
#define ON_NMI 0x3800ull
#define AP_CODE 0x6000u
#define AP_STARTED 0x4000u

/* RSI: LDR for xAPIC (ignored in x2APIC mode, where it cannot be written). */
GUEST64(receiver_x,
	"mov $0xfee00000, %ebx\n movl $0x1ff, 0xf0(%rbx)\n mov %esi, 0xd0(%rbx)\n"
	"lock incl %gs:0\n sti\n 1: hlt\n jmp 1b\n");
GUEST64(receiver_2, "mov $0x80f, %ecx\n xor %edx, %edx\n mov $0x1ff, %eax\n wrmsr\n lock incl %gs:0\n sti\n 1: hlt\n jmp 1b\n");
/* EAX, EDX: the low and high halves of the ICR (xAPIC: destination in bits 24 and up). Interrupts are let in for a while after it. */
GUEST64(send_x, "mov $0xfee00000, %ebx\n mov %edx, 0x310(%rbx)\n mov %eax, 0x300(%rbx)\n sti\n nop\n nop\n pause\n cli\n out %al, $0x10\n");
GUEST64(send_2, "mov $0x830, %ecx\n wrmsr\n sti\n nop\n nop\n pause\n cli\n out %al, $0x10\n");
GUEST64(send_self, "mov $0x83f, %ecx\n wrmsr\n sti\n nop\n nop\n pause\n cli\n out %al, $0x10\n");
GUEST64(init_x, "mov $0xfee00000, %ebx\n movl $0x1ff, 0xf0(%rbx)\n mov %esi, 0xd0(%rbx)\n out %al, $0x11\n");
GUEST64(init_2, "mov $0x80f, %ecx\n xor %edx, %edx\n mov $0x1ff, %eax\n wrmsr\n out %al, $0x11\n");
GUEST64(fixed_x, "lock incl %gs:0x10\n push %rbx\n mov $0xfee00000, %ebx\n movl $0, 0xb0(%rbx)\n pop %rbx\n iretq\n");
GUEST64(fixed_2, "lock incl %gs:0x10\n push %rax\n push %rcx\n push %rdx\n mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n"
		 "pop %rdx\n pop %rcx\n pop %rax\n iretq\n");
GUEST64(on_nmi, "lock incl %gs:0x18\n iretq\n");
GUEST16(ap, "xor %ax, %ax\n mov %ax, %ds\n lock incl 0x4000\n 1: hlt\n jmp 1b\n");

struct cpu {
	pthread_t thread;
	int fd;
	struct kvm_run *run;
};

static u32 word(const struct vm *v, u64 at)
{
	return __atomic_load_n((u32 *)(v->mem + at), __ATOMIC_SEQ_CST);
}

static bool becomes(const struct vm *v, u64 at, u32 want)
{
	for (int i = 0; i < 3000 && word(v, at) != want; i++)
		kt_sleep_ms(1);
	return word(v, at) == want;
}

static void nothing(int sig)
{
}

static void *receive(void *arg)
{
	struct cpu *c = arg;
	int r = ioctl(c->fd, KVM_RUN, 0ul);

	while (r < 0 && errno == EAGAIN)
		r = ioctl(c->fd, KVM_RUN, 0ul);
	CHECK_EQ(r, -1);
	CHECK_EQ(r < 0 ? errno : (int)c->run->exit_reason, EINTR);
	return NULL;
}

static void tables(struct vm *v, bool x2)
{
	u64 *gdt = (u64 *)(v->mem + GDT);

	gdt[1] = 0x00af9b000000ffffull;
	gdt[2] = 0x00cf93000000ffffull;
	for (unsigned i = 0; i < 256; i++) {
		u64 *gate = (u64 *)(v->mem + IDT + i * 16), to = i == 2 ? ON_NMI : ON_FIXED;

		if (i == 2 || i >= 0x40) /* an exception is a triple fault */
			gate[0] = (to & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (to >> 16) << 48;
	}
	if (x2)
		memcpy(v->mem + ON_FIXED, fixed_2, GUEST_SIZE(fixed_2));
	else
		memcpy(v->mem + ON_FIXED, fixed_x, GUEST_SIZE(fixed_x));
	memcpy(v->mem + ON_NMI, on_nmi, GUEST_SIZE(on_nmi));
	if (x2)
		memcpy(v->mem + RECEIVER, receiver_2, GUEST_SIZE(receiver_2));
	else
		memcpy(v->mem + RECEIVER, receiver_x, GUEST_SIZE(receiver_x));
	memcpy(v->mem + AP_CODE, ap, GUEST_SIZE(ap));
}

static void make_cpu(struct vm *v, struct cpu *c, unsigned id, bool x2, const struct kvm_cpuid2 *cpuid)
{
	struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = id ? RECEIVER : KT_CODE, .rsp = PAGE_OF(id) + 0x1000, .rflags = 2, .rsi = 1u << (24 + id) };

	c->fd = ioctl(v->vm, KVM_CREATE_VCPU, (unsigned long)id);
	REQUIRE(c->fd >= 0);
	c->run = kt_map_run(v, c->fd);
	REQUIRE(ioctl(c->fd, KVM_SET_CPUID2, cpuid) == 0);
	kt_long(v, c->fd, r.rip);
	REQUIRE(ioctl(c->fd, KVM_GET_SREGS, &s) == 0);
	s.gs.base = PAGE_OF(id);
	s.idt.base = IDT;
	s.idt.limit = 0xfff;
	s.gdt.base = GDT;
	s.gdt.limit = 0x17;
	if (x2)
		s.apic_base |= 0xc00;
	REQUIRE(ioctl(c->fd, KVM_SET_SREGS, &s) == 0);
	REQUIRE(ioctl(c->fd, KVM_SET_REGS, &r) == 0);
	REQUIRE(ioctl(c->fd, KVM_SET_MP_STATE, &mp) == 0);
}

/* vCPU 0 runs the code at `from` with these registers, to its OUT. */
static void sender(struct vm *v, struct cpu *c, const u8 *from, const u8 *to, u32 eax, u32 edx, u32 port)
{
	struct kvm_regs r = { .rip = KT_CODE, .rsp = PAGE_OF(1), .rflags = 2, .rax = eax, .rdx = edx, .rsi = 1u << 24 };

	kt_code(v, from, to);
	REQUIRE(ioctl(c->fd, KVM_SET_REGS, &r) == 0);
	CHECK_EXIT(c->fd, c->run, KVM_EXIT_IO);
	CHECK_EQ(c->run->io.port, port);
	c->run->immediate_exit = 1; /* the OUT is complete: its bytes may be replaced */
	CHECK_ERR(ioctl(c->fd, KVM_RUN, 0ul), EINTR);
	c->run->immediate_exit = 0;
}

static const struct ipi {
	const char *name;
	u32 low, dest_x, dest_2;
	u8 fixed, nmi; /* bit n: vCPU n takes it */
} ipis[] = {
	{ "physical, 1", 0x4040, 1u << 24, 1, 2, 0 },
	{ "physical, 2", 0x4041, 2u << 24, 2, 4, 0 },
	{ "physical, 0", 0x4041, 0, 0, 1, 0 },
	{ "nobody", 0x4041, 9u << 24, 9, 0, 0 },
	{ "broadcast", 0x4050, 0xffu << 24, 0xffffffff, 7, 0 },
	{ "self", 0x44050, 0, 0, 1, 0 },
	{ "all", 0x840ff, 0, 0, 7, 0 },
	{ "all but self", 0xc4060, 0, 0, 6, 0 },
	{ "logical, 1 and 2", 0x4870, 6u << 24, 6, 6, 0 },
	{ "logical, 0 and 2", 0x4870, 5u << 24, 5, 5, 0 },
	{ "NMI to 1", 0x4400, 1u << 24, 1, 0, 2 },
	{ "NMI, all but self", 0xc4400, 0, 0, 0, 6 },
	{ "NMI, all", 0x84400, 0, 0, 0, 7 },
};

static void send_all(struct vm *v, struct cpu *cpu, bool x2)
{
	u32 fixed[CPUS] = { 0 }, nmi[CPUS] = { 0 };

	for (unsigned n = 0; n < 3 * sizeof(ipis) / sizeof(ipis[0]); n++) {
		const struct ipi *i = &ipis[n % (sizeof(ipis) / sizeof(ipis[0]))];
		int before = kt_failures;

		if (x2)
			sender(v, cpu, send_2, send_2_end, i->low, i->dest_2, 0x10);
		else
			sender(v, cpu, send_x, send_x_end, i->low, i->dest_x, 0x10);
		for (int c = 0; c < CPUS; c++) {
			fixed[c] += i->fixed >> c & 1;
			nmi[c] += i->nmi >> c & 1;
			CHECK(becomes(v, PAGE_OF(c) + 0x10, fixed[c]));
			CHECK(becomes(v, PAGE_OF(c) + 0x18, nmi[c]));
		}
		kt_sleep_ms(1);
		for (int c = 0; c < CPUS; c++) { /* and not twice, nor somebody else */
			CHECK_EQ(word(v, PAGE_OF(c) + 0x10), fixed[c]);
			CHECK_EQ(word(v, PAGE_OF(c) + 0x18), nmi[c]);
			fixed[c] = word(v, PAGE_OF(c) + 0x10);
			nmi[c] = word(v, PAGE_OF(c) + 0x18);
		}
		if (kt_failures != before)
			printf("  ... in %s mode: %s\n", x2 ? "x2APIC" : "xAPIC", i->name);
	}
	/* lowest priority: one of the two */
	for (int n = 0; n < 10; n++) {
		if (x2)
			sender(v, cpu, send_2, send_2_end, 0x4970, 6, 0x10);
		else
			sender(v, cpu, send_x, send_x_end, 0x4970, 6u << 24, 0x10);
		for (int k = 0; k < 3000 && word(v, PAGE_OF(1) + 0x10) + word(v, PAGE_OF(2) + 0x10) == fixed[1] + fixed[2]; k++)
			kt_sleep_ms(1);
		fixed[1]++; /* the sum is what counts */
		CHECK_EQ(word(v, PAGE_OF(1) + 0x10) + word(v, PAGE_OF(2) + 0x10), fixed[1] + fixed[2]);
	}
	if (x2) {
		sender(v, cpu, send_self, send_self_end, 0x55, 0, 0x10);
		CHECK(becomes(v, PAGE_OF(0) + 0x10, fixed[0] + 1));
	}
}

/* INIT sends 1 and 2 to sleep, out of everything but SIPI; they start in real mode. */
static void restart(struct vm *v, struct cpu *cpu, bool x2)
{
	static const u32 icr[] = { 0xc4500, 0xc4606 };
	struct kvm_mp_state mp;
	struct kvm_sregs s;

	for (int round = 1; round <= 10; round++) {
		for (int i = 0; i < 2; i++) {
			if (x2)
				sender(v, cpu, send_2, send_2_end, icr[i], 0, 0x10);
			else
				sender(v, cpu, send_x, send_x_end, icr[i], 0, 0x10);
			if (i == 0) {
				kt_sleep_ms(2);
				CHECK_EQ(word(v, AP_STARTED), 2 * (round - 1));
			}
		}
		CHECK(becomes(v, AP_STARTED, (u32)(2 * round)));
	}
	for (int i = 1; i < CPUS; i++) {
		pthread_kill(cpu[i].thread, SIGUSR1);
		pthread_join(cpu[i].thread, NULL);
		CHECK_OK(ioctl(cpu[i].fd, KVM_GET_SREGS, &s));
		CHECK_EQ(s.cs.base, AP_CODE);
		CHECK_EQ(s.cr0 & 1, 0);
		CHECK_EQ(s.apic_base & 0xc00, x2 ? 0xc00 : 0x800); /* INIT leaves the mode */
		CHECK_OK(ioctl(cpu[i].fd, KVM_GET_MP_STATE, &mp));
		CHECK(mp.mp_state == KVM_MP_STATE_HALTED || mp.mp_state == KVM_MP_STATE_RUNNABLE);
	}
}

static void mode(bool x2, const struct kvm_cpuid2 *cpuid)
{
	struct cpu cpu[CPUS];
	struct vm v;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	tables(&v, x2);
	for (unsigned i = 0; i < CPUS; i++)
		make_cpu(&v, &cpu[i], i, x2, cpuid);
	if (x2)
		sender(&v, cpu, init_2, init_2_end, 0, 0, 0x11);
	else
		sender(&v, cpu, init_x, init_x_end, 0, 0, 0x11);
	for (int i = 1; i < CPUS; i++) {
		REQUIRE(pthread_create(&cpu[i].thread, NULL, receive, &cpu[i]) == 0);
		REQUIRE(becomes(&v, PAGE_OF(i), 1));
	}
	send_all(&v, cpu, x2);
	restart(&v, cpu, x2);
	for (int i = 0; i < CPUS; i++) {
		munmap(cpu[i].run, v.run_size);
		close(cpu[i].fd);
	}
	close(v.vm);
	close(v.sys);
}

int main(void)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	struct sigaction sa = { .sa_handler = nothing };
	int sys = kt_open();

	sigaction(SIGUSR1, &sa, NULL);
	cpuid->nent = 256;
	REQUIRE(ioctl(sys, KVM_GET_SUPPORTED_CPUID, cpuid) == 0);
	mode(false, cpuid);
	mode(true, cpuid);
	return kt_end();
}
