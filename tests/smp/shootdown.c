/* SPDX-License-Identifier: MIT */
/*
 * TLB shoot-down as an operating system does it. vCPU 1 writes through a page all the time; vCPU 0 points the page's entry at other
 * memory and sends an interrupt; 1 invalidates the address and acknowledges. From then on nothing may be written to the old memory.
 */
#include "kvmtest.h"

#define ROUNDS 500 /* on one host CPU each may cost a time slice: the writer does not yield */
#define PAGE_A 0x100000ull
#define PAGE_B 0x101000ull
#define LINEAR 0x40000000ull
#define PD 0x13000ull /* of kt_long(): the second GiB */
#define PT 0x22000ull
#define IDT 0x20000ull
#define GDT 0x21000ull
#define ON_IPI 0x3800ull
#define WRITER 0x2000ull
#define GEN 0x3000ull
#define ACK 0x3040ull

/* RDI: the linear address, RBX: the LAPIC. */
GUEST64(writer, "movl $0x1ff, 0xf0(%rbx)\n sti\n 1: incq (%rdi)\n jmp 1b\n");
/* The same with a string instruction that takes many stores between two interrupt windows. */
GUEST64(strings, "movl $0x1ff, 0xf0(%rbx)\n sti\n mov %rdi, %r9\n 1: mov %r9, %rdi\n inc %rax\n mov $500, %ecx\n rep stosq\n jmp 1b\n");
GUEST64(on_ipi, "push %rax\n invlpg (%r8)\n mov 0x3000, %eax\n movl $0, 0xb0(%rbx)\n mov %eax, 0x3040\n pop %rax\n iretq\n");
GUEST64(on_cr3, "push %rax\n mov %cr3, %rax\n mov %rax, %cr3\n mov 0x3000, %eax\n movl $0, 0xb0(%rbx)\n mov %eax, 0x3040\n pop %rax\n iretq\n");
/* RSI: the page table entry, R11: A xor B, ECX: rounds. */
GUEST64(chief,
	"movl $0x1ff, 0xf0(%rbx)\n xor %r12d, %r12d\n"
	"1: mov (%rsi), %r10\n and $0xfffff000, %r10d\n mov %r10, %r13\n xor %r11, %r13\n" /* R10: the old memory, R13: the new */
	"mov (%r13), %r14\n"
	"lock xor %r11, (%rsi)\n"
	"inc %r12d\n mov %r12d, 0x3000\n"
	"movl $0x01000000, 0x310(%rbx)\n movl $0x4040, 0x300(%rbx)\n"
	"2: pause\n cmp %r12d, 0x3040\n jne 2b\n"
	"mov (%r10), %rax\n"
	"3: pause\n cmp %r14, (%r13)\n je 3b\n" /* the writer has gone on */
	"cmp (%r10), %rax\n jne 4f\n"
	"dec %ecx\n jnz 1b\n"
	"mov $0, %al\n out %al, $0x10\n"
	"4: mov $1, %al\n out %al, $0x10\n");

static void nothing(int sig)
{
}

static void *write_thread(void *arg)
{
	int fd = *(int *)arg, r = ioctl(fd, KVM_RUN, 0ul);

	CHECK_EQ(r, -1);
	CHECK_EQ(errno, EINTR);
	return NULL;
}

static void set_up(struct vm *v, int fd, bool chief_cpu)
{
	struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = chief_cpu ? KT_CODE : WRITER, .rsp = chief_cpu ? 0x8000 : 0x9000, .rflags = 2, .rbx = 0xfee00000,
		.rcx = ROUNDS, .rdi = LINEAR, .rsi = PT, .r8 = LINEAR, .r11 = PAGE_A ^ PAGE_B };

	kt_long(v, fd, r.rip);
	REQUIRE(ioctl(fd, KVM_GET_SREGS, &s) == 0);
	s.idt.base = IDT;
	s.idt.limit = 0xfff;
	s.gdt.base = GDT;
	s.gdt.limit = 0x17;
	REQUIRE(ioctl(fd, KVM_SET_SREGS, &s) == 0);
	REQUIRE(ioctl(fd, KVM_SET_REGS, &r) == 0);
	REQUIRE(ioctl(fd, KVM_SET_MP_STATE, &mp) == 0);
}

static void shoot(const char *name, const u8 *from, const u8 *to, const u8 *ipi, const u8 *ipi_end)
{
	struct vm v;
	pthread_t t;
	u64 *gate;
	int other;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(&v);
	other = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(other >= 0);
	set_up(&v, v.vcpu, true);
	set_up(&v, other, false);
	((u64 *)(v.mem + GDT))[1] = 0x00af9b000000ffffull;
	((u64 *)(v.mem + GDT))[2] = 0x00cf93000000ffffull;
	gate = (u64 *)(v.mem + IDT + 0x40 * 16);
	gate[0] = ON_IPI | 8ull << 16 | 0x8e00ull << 32;
	*(u64 *)(v.mem + PD) = PT | 3;
	*(u64 *)(v.mem + PT) = PAGE_A | 3;
	kt_load(&v, chief);
	memcpy(v.mem + WRITER, from, (size_t)(to - from));
	memcpy(v.mem + ON_IPI, ipi, (size_t)(ipi_end - ipi));
	REQUIRE(pthread_create(&t, NULL, write_thread, &other) == 0);
	for (int i = 0; i < 5000 && !__atomic_load_n((u64 *)(v.mem + PAGE_A), __ATOMIC_SEQ_CST); i++)
		kt_sleep_ms(1);
	CHECK_OUT(v.vcpu, v.run, 0x10, 0); /* 1: the old page was written after the acknowledgement */
	CHECK_EQ(*(u32 *)(v.mem + GEN), ROUNDS);
	CHECK(*(u64 *)(v.mem + PAGE_B) != 0);
	pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
	printf("%s: %u rounds\n", name, *(u32 *)(v.mem + ACK));
	munmap(v.run, v.run_size);
	close(other);
	close(v.vcpu);
	close(v.vm);
	close(v.sys);
}

int main(void)
{
	struct sigaction sa = { .sa_handler = nothing };

	sigaction(SIGUSR1, &sa, NULL);
	shoot("INVLPG", writer, writer_end, on_ipi, on_ipi_end);
	shoot("CR3", writer, writer_end, on_cr3, on_cr3_end);
	shoot("INVLPG, string stores", strings, strings_end, on_ipi, on_ipi_end);
	return kt_end();
}
