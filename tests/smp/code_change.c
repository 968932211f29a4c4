/* SPDX-License-Identifier: MIT */
/*
 * Code that changes while it is hot: written and run in turn by the guest (in the writer's own page, in another, across a page end, through
 * a second linear address), by another vCPU with and without a serializing instruction, by the VMM between two KVM_RUNs (store, read(),
 * another mapping of the same memory), and so much code that what has been made of it is dropped and made again.
 */
#include "kvmtest.h"

#define JIT 0x5000ull        /* a page of its own */
#define OWN 0x1800ull        /* in the page of the loops */
#define CROSS (JIT + 0x1000 - 3) /* the immediate lies in both pages */
#define ALIAS 0x40000000ull  /* added to a linear address: the same memory */
#define SHARED 0x9000ull     /* 0: generation, 64: acknowledged, 128: stop, 192: rounds */
#define MANY (16ull << 20)   /* functions of 32 bytes */
#define NMANY 90000u

/* EDI: where the immediate is, RSI: the function, ECX: rounds. */
GUEST64(by_pointer, "1: mov %ecx, (%rdi)\n call *%rsi\n cmp %eax, %ecx\n jne 2f\n dec %ecx\n jnz 1b\n out %al, $0x10\n 2: out %al, $0x11\n");
GUEST64(by_call, "1: mov %ecx, (%rdi)\n call by_call + 0x4000\n cmp %eax, %ecx\n jne 2f\n dec %ecx\n jnz 1b\n out %al, $0x10\n 2: out %al, $0x11\n");
GUEST64(by_own_call, "1: mov %ecx, (%rdi)\n call by_own_call + 0x800\n cmp %eax, %ecx\n jne 2f\n dec %ecx\n jnz 1b\n out %al, $0x10\n 2: out %al, $0x11\n");
/* A byte at a time, by a string instruction from RDX, and by an exchange. */
GUEST64(by_string, "mov %rdi, %r8\n 1: mov %ecx, (%rdx)\n mov %rdx, %r9\n mov %ecx, %r10d\n mov %rsi, %r11\n mov %r8, %rdi\n mov %rdx, %rsi\n mov $4, %ecx\n"
		   "rep movsb\n mov %r10d, %ecx\n mov %r11, %rsi\n call *%rsi\n cmp %eax, %ecx\n jne 2f\n dec %ecx\n jnz 1b\n out %al, $0x10\n 2: out %al, $0x11\n");
GUEST64(by_xchg, "1: mov %ecx, %ebx\n lock xchg %ebx, (%rdi)\n call *%rsi\n cmp %eax, %ecx\n jne 2f\n dec %ecx\n jnz 1b\n out %al, $0x10\n 2: out %al, $0x11\n");
/* The immediate of the next instruction, of this very loop. */
GUEST64(inside, "1: lea 2f+1(%rip), %rdi\n mov %ecx, (%rdi)\n 2: mov $0, %eax\n cmp %eax, %ecx\n jne 3f\n dec %ecx\n jnz 1b\n out %al, $0x10\n 3: out %al, $0x11\n");

/* RBX: SHARED, RDI: the immediate. One writes, waits for the other, ... */
GUEST64(writer, "1: inc %ecx\n mov %ecx, (%rdi)\n mov %ecx, (%rbx)\n 2: pause\n cmpl $0, 128(%rbx)\n jne 3f\n cmp %ecx, 64(%rbx)\n jne 2b\n jmp 1b\n"
		"3: mov %ecx, 192(%rbx)\n out %al, $0x10\n");
GUEST64(runner, "mov %rbx, %r8\n 1: pause\n cmpl $0, 128(%r8)\n jne 3f\n mov (%r8), %r9d\n cmp %r9d, 64(%r8)\n je 1b\n xor %eax, %eax\n cpuid\n"
		"call *%rsi\n cmp %eax, %r9d\n jne 4f\n mov %r9d, 64(%r8)\n jmp 1b\n 3: out %al, $0x10\n 4: out %al, $0x11\n");
/* Nothing serializes: the loop ends when its own immediate is not 0 any more. */
GUEST64(spin, "jmp 2f\n 1: .byte 0xb8\n .long 0\n test %eax, %eax\n jz 1b\n out %al, $0x10\n 2: movl $1, 64(%rbx)\n jmp 1b\n");
GUEST64(spin_call, "movl $1, 64(%rbx)\n 1: call *%rsi\n test %eax, %eax\n jz 1b\n out %al, $0x10\n");
GUEST64(poke, "2: pause\n cmpl $1, 64(%rbx)\n jne 2b\n mov $2000000, %ecx\n 1: dec %ecx\n jnz 1b\n movl $1, (%rdi)\n out %al, $0x10\n");

GUEST64(call_hlt, "1: call *%rsi\n hlt\n jmp 1b\n");
GUEST32(call_out, "1: call *%esi\n out %al, $0x12\n jmp 1b\n");

/* RSI: functions, RCX: how many; the sum of their immediates in RAX. */
GUEST64(many, "xor %eax, %eax\n 1: call *%rsi\n add $32, %rsi\n dec %ecx\n jnz 1b\n hlt\n");

static void put(struct vm *v, u64 at, u32 imm) /* mov $imm, %eax; ret */
{
	u8 b[6] = { 0xb8, 0, 0, 0, 0, 0xc3 };

	memcpy(b + 1, &imm, 4);
	memcpy(v->mem + at, b, 6);
}

static void long_mode(struct vm *v, int vcpu)
{
	kt_long(v, vcpu, KT_CODE);
	((u64 *)(v->mem + KT_PML4 + 0x3000))[0] = 0x83; /* ALIAS */
}

static void regs(int vcpu, u64 rip, u64 rdi, u64 rsi, u64 rcx)
{
	struct kvm_regs r = { .rip = rip, .rsp = KT_CODE, .rflags = 2, .rdi = rdi, .rsi = rsi, .rcx = rcx, .rdx = 0xa000, .rbx = SHARED };

	REQUIRE(ioctl(vcpu, KVM_SET_REGS, &r) == 0);
}

static void in_turn(struct vm *v, const char *what, const u8 *from, const u8 *to, u64 fn, u64 write_at, u64 call_at, u32 rounds)
{
	int failed = kt_failures;

	long_mode(v, v->vcpu);
	kt_code(v, from, to);
	put(v, fn, 0);
	regs(v->vcpu, KT_CODE, write_at, call_at, rounds);
	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	CHECK_EQ(v->run->io.port, 0x10);
	if (failed != kt_failures) {
		struct kvm_regs r;

		kt_get_regs(v->vcpu, &r);
		printf("in turn, %s: round %llu, got %llu\n", what, r.rcx, r.rax);
	}
}
#define IN_TURN(code, ...) in_turn(v, #code " " #__VA_ARGS__, code, code##_end, __VA_ARGS__)

static void alone(struct vm *v)
{
	for (u64 w = 0; w <= ALIAS; w += ALIAS)
		for (u64 r = 0; r <= ALIAS; r += ALIAS) {
			IN_TURN(by_pointer, JIT, w + JIT + 1, r + JIT, 5000);
			IN_TURN(by_pointer, OWN, w + OWN + 1, r + OWN, 3000);
			IN_TURN(by_pointer, CROSS, w + CROSS + 1, r + CROSS, 3000);
			IN_TURN(by_xchg, JIT, w + JIT + 1, r + JIT, 3000);
			IN_TURN(by_xchg, CROSS, w + CROSS + 1, r + CROSS, 3000);
			IN_TURN(by_string, JIT, w + JIT + 1, r + JIT, 3000);
			IN_TURN(by_string, CROSS, w + CROSS + 1, r + CROSS, 2000);
		}
	IN_TURN(by_call, JIT, JIT + 1, 0, 20000);
	IN_TURN(by_call, JIT, ALIAS + JIT + 1, 0, 5000);
	IN_TURN(by_own_call, OWN, OWN + 1, 0, 5000);
	IN_TURN(by_own_call, OWN, ALIAS + OWN + 1, 0, 5000);
	IN_TURN(inside, JIT, 0, 0, 5000);
}

/* ---- two vCPUs ---- */

struct side {
	int fd;
	struct kvm_run *run;
	pthread_t thread;
};

static void *run_side(void *arg)
{
	struct side *s = arg;

	CHECK_EXIT(s->fd, s->run, KVM_EXIT_IO);
	CHECK_EQ(s->run->io.port, 0x10);
	return NULL;
}

static void both(struct vm *v, struct side *o, const u8 *a, const u8 *a_end, const u8 *b, const u8 *b_end, u64 imm, u64 fn, bool stop)
{
	struct side me = { v->vcpu, v->run, 0 };

	memset(v->mem + SHARED, 0, 0x1000);
	long_mode(v, v->vcpu);
	long_mode(v, o->fd);
	memcpy(v->mem + 0x2000, b, (size_t)(b_end - b));
	kt_code(v, a, a_end);
	regs(v->vcpu, KT_CODE, imm, fn, 0);
	regs(o->fd, 0x2000, imm, fn, 0);
	REQUIRE(!pthread_create(&o->thread, NULL, run_side, o));
	REQUIRE(!pthread_create(&me.thread, NULL, run_side, &me));
	if (stop) {
		kt_sleep_ms(300);
		/* On a busy host the two may seldom run at once. */
		for (int i = 0; i < 100 && __atomic_load_n((u32 *)(v->mem + SHARED + 64), __ATOMIC_RELAXED) < 5; i++)
			kt_sleep_ms(100);
		__atomic_store_n((u32 *)(v->mem + SHARED + 128), 1, __ATOMIC_SEQ_CST);
	}
	pthread_join(me.thread, NULL);
	pthread_join(o->thread, NULL); /* it hangs if the change is not seen: alarm() ends it */
}

static void two(struct vm *v, struct side *o)
{
	for (int k = 0; k < 4; k++) {
		u64 fn = k & 1 ? CROSS : JIT;

		put(v, fn, 0);
		both(v, o, writer, writer_end, runner, runner_end, (k & 2 ? ALIAS : 0) + fn + 1, fn, true);
		u32 rounds = *(u32 *)(v->mem + SHARED + 192);
		if (rounds < 5)
			printf("only %u rounds\n", rounds);
		CHECK(rounds >= 5);
	}
	for (int k = 0; k < 10; k++) {
		put(v, JIT, 0);
		both(v, o, poke, poke_end, spin, spin_end, (k & 1 ? ALIAS : 0) + 0x2003, 0, false);
		both(v, o, poke, poke_end, spin_call, spin_call_end, (k & 1 ? ALIAS : 0) + JIT + 1, JIT, false);
	}
}

/* ---- the VMM ---- */

static void write_code(struct vm *v, u8 *other, int way, u64 at, u32 imm)
{
	int p[2];

	switch (way) {
	case 0: memcpy(v->mem + at, &imm, 4); return;
	case 1: memcpy(other + at, &imm, 4); return;
	default:
		REQUIRE(!pipe(p) && write(p[1], &imm, 4) == 4 && read(p[0], v->mem + at, 4) == 4);
		close(p[0]);
		close(p[1]);
	}
}

static void by_vmm(struct vm *v, u8 *other)
{
	struct kvm_regs r;

	for (int way = 0; way < 6; way++) {
		u64 fn = way & 1 ? CROSS : JIT;

		long_mode(v, v->vcpu);
		kt_load(v, call_hlt);
		put(v, fn, 0);
		regs(v->vcpu, KT_CODE, 0, fn, 0);
		for (u32 n = 0; n < 400 && !kt_failures; n++) {
			if (n % 4 == 0) /* and it stays in between */
				write_code(v, other, way / 2, fn + 1, n);
			CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_HLT);
			kt_get_regs(v->vcpu, &r);
			CHECK_EQ(r.rax, n & ~3u);
		}
		struct kvm_sregs s;
		REQUIRE(!ioctl(v->vcpu, KVM_GET_SREGS, &s));
		s.cs = kt_seg(11, 8, 1, 0);
		s.cr0 = 0x11;
		s.efer = 0;
		s.cr4 = 0;
		REQUIRE(!ioctl(v->vcpu, KVM_SET_SREGS, &s));
		kt_protected(v->vcpu, KT_CODE);
		kt_load(v, call_out);
		regs(v->vcpu, KT_CODE, 0, fn, 0);
		for (u32 n = 0; n < 400 && !kt_failures; n++) {
			if (n % 4 == 0)
				write_code(v, other, way / 2, fn + 1, n);
			CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
			CHECK_EQ(*kt_io_data(v->run), n & ~3u & 0xff);
		}
	}
}

static void much_code(struct vm *v)
{
	u64 sum = 0;
	u8 *p = kt_pages(NMANY * 32);
	struct kvm_regs r;

	REQUIRE(!kt_slot(v->vm, 1, 0, MANY, (NMANY * 32 + 4095) & ~4095u, p));
	for (u32 n = 0; n < NMANY; n++) { /* add $n, %rax; add $n, %rbx; ret */
		static const u8 text[] = { 0x48, 5, 0, 0, 0, 0, 0x48, 0x81, 0xc3, 0, 0, 0, 0, 0xc3 };

		memcpy(p + n * 32, text, sizeof(text));
		memcpy(p + n * 32 + 2, &n, 4);
		memcpy(p + n * 32 + 9, &n, 4);
		sum += n;
	}
	long_mode(v, v->vcpu);
	kt_load(v, many);
	for (int pass = 0; pass < 3; pass++) {
		regs(v->vcpu, KT_CODE, 0, MANY, NMANY);
		CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_HLT);
		kt_get_regs(v->vcpu, &r);
		CHECK_EQ(r.rax, sum);
		CHECK_EQ(r.rbx, sum + SHARED);
		for (u32 n = (u32)pass; n < NMANY; n += 977 + (u32)pass) {
			u32 was, more = n + 1000 + (u32)pass;

			memcpy(&was, p + n * 32 + 2, 4);
			memcpy(p + n * 32 + 2, &more, 4);
			memcpy(p + n * 32 + 9, &more, 4);
			sum += more - was;
		}
	}
}

int main(void)
{
	struct vm v = { 0 };
	struct side o = { 0 };
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	int fd = memfd_create("guest", MFD_CLOEXEC);

	vm_open(&v);
	v.mem = mmap(NULL, KT_MEM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	u8 *other = mmap(NULL, KT_MEM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(fd >= 0 && !ftruncate(fd, KT_MEM) && v.mem != MAP_FAILED && other != MAP_FAILED);
	REQUIRE(!kt_slot(v.vm, 0, 0, 0, 0, NULL) && !kt_slot(v.vm, 0, 0, 0, KT_MEM, v.mem));
	vm_vcpu(&v);
	REQUIRE((o.fd = ioctl(v.vm, KVM_CREATE_VCPU, 1ul)) >= 0);
	o.run = kt_map_run(&v, o.fd);
	c->nent = 256;
	REQUIRE(!ioctl(v.sys, KVM_GET_SUPPORTED_CPUID, c) && !ioctl(o.fd, KVM_SET_CPUID2, c));
	alone(&v);
	by_vmm(&v, other);
	two(&v, &o);
	much_code(&v);
	return kt_end();
}
