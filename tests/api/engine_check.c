/* SPDX-License-Identifier: MIT */
/*
 * --engine=check: a guest that both engines agree about runs to its end; a difference (here: memory that a thread of the VMM changes all the
 * time) ends it with KVM_EXIT_INTERNAL_ERROR at the instruction, with its bytes.
 */
#include <pthread.h>

#include "kvmtest.h"

GUEST64(calm,
	"mov $0x8000, %ebx\n mov $300, %ecx\n fldpi\n"
	"1: mov %rcx, (%rbx)\n add (%rbx), %rax\n imul %rax, %rdx\n adc %rdx, 0xffc(%rbx)\n push %rax\n pop %r10\n lea (%r10,%rcx,4), %r11\n"
	" fadd %st(0)\n fstpl 16(%rbx)\n fldpi\n cmpxchg %r11, (%rbx)\n rol %cl, %rdx\n xchg %rdx, 8(%rbx)\n call 2f\n dec %ecx\n jnz 1b\n jmp 3f\n"
	"2: bswap %rdx\n shld $3, %rax, %rdx\n setc %r12b\n movsbl %r12b, %r13d\n lock incl 32(%rbx)\n ret\n"
	"3: push %rbp\n mov %rsp, %rbp\n push %rdx\n leave\n mov 32(%rbx), %eax\n hlt\n");
GUEST64(restless, "mov $0x8000, %ebx\n mov $50000000, %ecx\n1: mov (%rbx), %rax\n dec %ecx\n jnz 1b\n hlt\n");

static volatile bool stop;

static void *writer(void *p)
{
	for (volatile u64 *n = p; !stop;)
		++*n;
	return NULL;
}

static int guest(bool calmly)
{
	struct kvm_regs r;
	pthread_t thread;
	struct vm v;

	vm_open(&v);
	vm_vcpu(&v);
	if (calmly)
		kt_load(&v, calm);
	else
		kt_load(&v, restless);
	kt_long(&v, v.vcpu, KT_CODE);
	if (calmly) {
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
		kt_get_regs(v.vcpu, &r);
		CHECK_EQ(r.rax, 300);
		return kt_end();
	}
	REQUIRE(!pthread_create(&thread, NULL, writer, v.mem + 0x8000));
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_INTERNAL_ERROR);
	stop = true;
	pthread_join(thread, NULL);
	CHECK_EQ(v.run->emulation_failure.insn_size, 3);
	CHECK(!memcmp(v.run->emulation_failure.insn_bytes, "\x48\x8b\x03", 3));
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(r.rip, KT_CODE + 10);
	return kt_end();
}

static void run(const char *what)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		setenv("USEKVM_ENGINE", "check", 1);
		execl("/proc/self/exe", "engine_check", what, (char *)NULL);
		_exit(99);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return guest(argv[1][0] == 'c');
	if (!kt_usekvm())
		SKIP("engines are usekvm's");
	run("calm");
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		run("restless");
	return kt_end();
}
