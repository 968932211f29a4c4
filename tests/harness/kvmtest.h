/* SPDX-License-Identifier: MIT */
/*
 * What the API conformance programs share. Each program checks one behaviour, prints what differs (file:line, the expression, the
 * values) and goes on; it exits 0 if all was as wanted, 1 if not, 77 if this host cannot show the behaviour (with the reason).
 * The same program runs under usekvm and on the kernel's /dev/kvm; nothing here knows which, except kt_usekvm().
 *
 * A guest program is written as assembly text: GUEST16(name, "..."), GUEST32, GUEST64 put its bytes at name .. name_end.
 */
#ifndef KVMTEST_H
#define KVMTEST_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

static int kt_failures;

#define KT_UNUSED __attribute__((unused))

#define SKIP(...)                                                                                                                          \
	do {                                                                                                                               \
		printf("skip: " __VA_ARGS__);                                                                                              \
		printf("\n");                                                                                                              \
		exit(77);                                                                                                                  \
	} while (0)
/* Without this the rest makes no sense. */
#define REQUIRE(cond)                                                                                                                      \
	do {                                                                                                                               \
		if (!(cond)) {                                                                                                             \
			printf("%s:%d: cannot go on: %s (errno %d, %s)\n", __FILE__, __LINE__, #cond, errno, strerror(errno));              \
			exit(1);                                                                                                           \
		}                                                                                                                          \
	} while (0)
#define CHECK(cond)                                                                                                                        \
	do {                                                                                                                               \
		if (!(cond)) {                                                                                                             \
			printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);                                                           \
			kt_failures++;                                                                                                     \
		}                                                                                                                          \
	} while (0)
#define CHECK_EQ(got, want)                                                                                                                \
	do {                                                                                                                               \
		u64 kt_g = (u64)(got), kt_w = (u64)(want);                                                                                 \
		if (kt_g != kt_w) {                                                                                                        \
			printf("%s:%d: %s is 0x%llx, want 0x%llx\n", __FILE__, __LINE__, #got, (unsigned long long)kt_g,                    \
				(unsigned long long)kt_w);                                                                                 \
			kt_failures++;                                                                                                     \
		}                                                                                                                          \
	} while (0)
#define CHECK_OK(call)                                                                                                                     \
	do {                                                                                                                               \
		errno = 0;                                                                                                                 \
		long kt_r = (long)(call);                                                                                                  \
		if (kt_r < 0) {                                                                                                            \
			printf("%s:%d: %s fails with %d (%s)\n", __FILE__, __LINE__, #call, errno, strerror(errno));                        \
			kt_failures++;                                                                                                     \
		}                                                                                                                          \
	} while (0)
#define CHECK_ERR(call, want)                                                                                                              \
	do {                                                                                                                               \
		errno = 0;                                                                                                                 \
		long kt_r = (long)(call);                                                                                                  \
		int kt_e = errno;                                                                                                          \
		if (kt_r >= 0) {                                                                                                           \
			printf("%s:%d: %s gives %ld, want errno %d (%s)\n", __FILE__, __LINE__, #call, kt_r, want, strerror(want));         \
			kt_failures++;                                                                                                     \
		} else if (kt_e != (want)) {                                                                                               \
			printf("%s:%d: %s gives errno %d (%s), want %d (%s)\n", __FILE__, __LINE__, #call, kt_e, strerror(kt_e), want,      \
				strerror(want));                                                                                           \
			kt_failures++;                                                                                                     \
		}                                                                                                                          \
	} while (0)

#define KT_GUEST(bits, name, text)                                                                                                         \
	__asm__(".pushsection .rodata\n\t.code" #bits "\n" #name ":\n" text "\n" #name "_end:\n\t.code64\n\t.popsection\n");              \
	extern const u8 name[], name##_end[]
#define GUEST16(name, text) KT_GUEST(16, name, text)
#define GUEST32(name, text) KT_GUEST(32, name, text)
#define GUEST64(name, text) KT_GUEST(64, name, text)
#define GUEST_SIZE(name) ((size_t)(name##_end - name))

/* Runs under usekvm? Only for reasons in messages and for documented differences (docs/status.md). */
static KT_UNUSED bool kt_usekvm(void)
{
	const char *p = getenv("LD_PRELOAD");

	return p && strstr(p, "libusekvm");
}

static KT_UNUSED int kt_end(void)
{
	if (kt_failures)
		printf("%d checks failed\n", kt_failures);
	fflush(stdout);
	return kt_failures ? 1 : 0;
}

static KT_UNUSED int kt_open(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (fd < 0)
		SKIP("/dev/kvm cannot be opened: %s", strerror(errno));
	/* A hang is a failure; the runner has a limit too. */
#ifdef USEKVM_SANITIZE
	alarm(240);
#else
	alarm(40);
#endif
	return fd;
}

static KT_UNUSED int kt_cap(int fd, int cap)
{
	return ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)cap);
}

#define KT_CODE 0x1000ull     /* guest-physical address where kt_code() puts a program */
#define KT_MEM (2ull << 20)   /* default RAM */

struct vm {
	int sys, vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	u8 *mem;
	size_t mem_size;
};

static KT_UNUSED int kt_slot(int vm, u32 slot, u32 flags, u64 gpa, u64 size, void *hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (u64)hva};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static KT_UNUSED void *kt_pages(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(p != MAP_FAILED);
	return p;
}

/* A VM with RAM at 0, no vCPU yet. */
static KT_UNUSED void vm_open(struct vm *v)
{
	memset(v, 0, sizeof(*v));
	v->vcpu = -1;
	v->sys = kt_open();
	v->vm = ioctl(v->sys, KVM_CREATE_VM, 0ul);
	REQUIRE(v->vm >= 0);
	v->run_size = (size_t)ioctl(v->sys, KVM_GET_VCPU_MMAP_SIZE, 0ul);
	ioctl(v->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	v->mem_size = KT_MEM;
	v->mem = kt_pages(v->mem_size);
	REQUIRE(kt_slot(v->vm, 0, 0, 0, v->mem_size, v->mem) == 0);
}

static KT_UNUSED struct kvm_run *kt_map_run(struct vm *v, int vcpu)
{
	void *p = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	REQUIRE(p != MAP_FAILED);
	return p;
}

/* vCPU 0 with the supported CPUID. */
static KT_UNUSED void vm_vcpu(struct vm *v)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));

	v->vcpu = ioctl(v->vm, KVM_CREATE_VCPU, 0ul);
	REQUIRE(v->vcpu >= 0);
	v->run = kt_map_run(v, v->vcpu);
	c->nent = 256;
	REQUIRE(ioctl(v->sys, KVM_GET_SUPPORTED_CPUID, c) == 0);
	REQUIRE(ioctl(v->vcpu, KVM_SET_CPUID2, c) == 0);
	free(c);
}

static KT_UNUSED void kt_set_rip(int vcpu, u64 rip)
{
	struct kvm_regs r;

	REQUIRE(ioctl(vcpu, KVM_GET_REGS, &r) == 0);
	r.rip = rip;
	REQUIRE(ioctl(vcpu, KVM_SET_REGS, &r) == 0);
}

/* 16-bit real mode, all segments at 0, stack below KT_CODE, at rip. */
static KT_UNUSED void kt_real(int vcpu, u64 rip)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = rip, .rsp = KT_CODE, .rflags = 2};

	REQUIRE(ioctl(vcpu, KVM_GET_SREGS, &s) == 0);
	s.cs.base = s.ds.base = s.es.base = s.ss.base = s.fs.base = s.gs.base = 0;
	s.cs.selector = s.ds.selector = s.es.selector = s.ss.selector = s.fs.selector = s.gs.selector = 0;
	REQUIRE(ioctl(vcpu, KVM_SET_SREGS, &s) == 0);
	REQUIRE(ioctl(vcpu, KVM_SET_REGS, &r) == 0);
}

static KT_UNUSED struct kvm_segment kt_seg(u8 type, u16 sel, u8 db, u8 l)
{
	return (struct kvm_segment){
		.base = 0, .limit = 0xffffffff, .selector = sel, .type = type, .present = 1, .dpl = 0, .db = db, .s = 1, .l = l, .g = 1};
}

/* 32-bit protected mode without paging, flat. */
static KT_UNUSED void kt_protected(int vcpu, u64 rip)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = rip, .rsp = KT_CODE, .rflags = 2};

	REQUIRE(ioctl(vcpu, KVM_GET_SREGS, &s) == 0);
	s.cs = kt_seg(11, 8, 1, 0);
	s.ds = s.es = s.ss = s.fs = s.gs = kt_seg(3, 16, 1, 0);
	s.cr0 |= 1;
	REQUIRE(ioctl(vcpu, KVM_SET_SREGS, &s) == 0);
	REQUIRE(ioctl(vcpu, KVM_SET_REGS, &r) == 0);
}

#define KT_PML4 0x10000ull /* page tables of kt_long: PML4, PDPT, four PDs at 0x12000.. */

/* 64-bit mode, the low 4 GiB mapped one to one with 2 MiB pages. */
static KT_UNUSED void kt_long(struct vm *v, int vcpu, u64 rip)
{
	u64 *pml4 = (u64 *)(v->mem + KT_PML4), *pdpt = (u64 *)(v->mem + KT_PML4 + 0x1000), *pd = (u64 *)(v->mem + KT_PML4 + 0x2000);
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = rip, .rsp = KT_CODE, .rflags = 2};

	pml4[0] = (KT_PML4 + 0x1000) | 3;
	for (int i = 0; i < 4; i++)
		pdpt[i] = (KT_PML4 + 0x2000 + (u64)i * 0x1000) | 3;
	for (u64 i = 0; i < 2048; i++)
		pd[i] = (i << 21) | 0x83;
	REQUIRE(ioctl(vcpu, KVM_GET_SREGS, &s) == 0);
	s.cs = kt_seg(11, 8, 0, 1);
	s.ds = s.es = s.ss = s.fs = s.gs = kt_seg(3, 16, 1, 0);
	s.cr3 = KT_PML4;
	s.cr4 |= 0x20;
	s.cr0 = 0x80050033;
	s.efer = 0x500;
	REQUIRE(ioctl(vcpu, KVM_SET_SREGS, &s) == 0);
	REQUIRE(ioctl(vcpu, KVM_SET_REGS, &r) == 0);
}

static KT_UNUSED void kt_code(struct vm *v, const u8 *start, const u8 *end)
{
	memcpy(v->mem + KT_CODE, start, (size_t)(end - start));
}
#define kt_load(v, name) kt_code(v, name, name##_end)

/* A VM with a vCPU in real mode at KT_CODE. */
static KT_UNUSED void vm_real(struct vm *v, const u8 *start, const u8 *end)
{
	vm_open(v);
	vm_vcpu(v);
	kt_code(v, start, end);
	kt_real(v->vcpu, KT_CODE);
}

/* The same in 64-bit mode. */
static KT_UNUSED void vm_long(struct vm *v, const u8 *start, const u8 *end)
{
	vm_open(v);
	vm_vcpu(v);
	kt_code(v, start, end);
	kt_long(v, v->vcpu, KT_CODE);
}

/* Retries what Linux lets a program retry. */
static KT_UNUSED int kt_run(int vcpu)
{
	int r;

	do
		r = ioctl(vcpu, KVM_RUN, 0ul);
	while (r < 0 && (errno == EAGAIN || errno == EINTR));
	return r;
}

static KT_UNUSED const char *kt_exit_name(u32 reason)
{
	static const char *const names[] = {"UNKNOWN", "EXCEPTION", "IO", "HYPERCALL", "DEBUG", "HLT", "MMIO", "IRQ_WINDOW_OPEN", "SHUTDOWN",
		"FAIL_ENTRY", "INTR", "SET_TPR", "TPR_ACCESS", "", "", "", "NMI", "INTERNAL_ERROR"};

	return reason < sizeof(names) / sizeof(names[0]) ? names[reason] : reason == KVM_EXIT_IOAPIC_EOI ? "IOAPIC_EOI" : "?";
}

/* KVM_RUN must end with this exit. Says what came instead. */
#define CHECK_EXIT(vcpufd, runp, want)                                                                                                     \
	do {                                                                                                                               \
		int kt_rr = kt_run(vcpufd);                                                                                                \
		if (kt_rr < 0) {                                                                                                           \
			printf("%s:%d: KVM_RUN fails with %d (%s)\n", __FILE__, __LINE__, errno, strerror(errno));                          \
			kt_failures++;                                                                                                     \
		} else if ((runp)->exit_reason != (want)) {                                                                                \
			kt_wrong_exit(__FILE__, __LINE__, vcpufd, runp, want);                                                             \
		}                                                                                                                          \
	} while (0)

static KT_UNUSED void kt_wrong_exit(const char *file, int line, int vcpu, const struct kvm_run *run, u32 want)
{
	struct kvm_regs r = {0};

	kt_failures++;
	ioctl(vcpu, KVM_GET_REGS, &r);
	printf("%s:%d: exit %u (%s), want %s; rip 0x%llx", file, line, run->exit_reason, kt_exit_name(run->exit_reason), kt_exit_name(want),
		(unsigned long long)r.rip);
	if (run->exit_reason == KVM_EXIT_IO)
		printf(", port 0x%x size %u count %u %s", run->io.port, run->io.size, run->io.count, run->io.direction ? "out" : "in");
	if (run->exit_reason == KVM_EXIT_MMIO)
		printf(", gpa 0x%llx len %u %s", (unsigned long long)run->mmio.phys_addr, run->mmio.len, run->mmio.is_write ? "write" : "read");
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		printf(", suberror %u", run->internal.suberror);
	printf("\n");
}

static KT_UNUSED u8 *kt_io_data(struct kvm_run *run)
{
	return (u8 *)run + run->io.data_offset;
}

/* Run until OUT to `port`, then give the value written. */
#define CHECK_OUT(vcpufd, runp, portno, val)                                                                                               \
	do {                                                                                                                               \
		CHECK_EXIT(vcpufd, runp, KVM_EXIT_IO);                                                                                     \
		if ((runp)->exit_reason == KVM_EXIT_IO) {                                                                                  \
			u32 kt_v = 0;                                                                                                      \
			CHECK_EQ((runp)->io.port, portno);                                                                                 \
			CHECK_EQ((runp)->io.direction, KVM_EXIT_IO_OUT);                                                                   \
			memcpy(&kt_v, kt_io_data(runp), (runp)->io.size > 4 ? 4 : (runp)->io.size);                                        \
			CHECK_EQ(kt_v, val);                                                                                               \
		}                                                                                                                          \
	} while (0)

static KT_UNUSED void kt_get_regs(int vcpu, struct kvm_regs *r)
{
	REQUIRE(ioctl(vcpu, KVM_GET_REGS, r) == 0);
}

static KT_UNUSED int kt_set_msr(int vcpu, u32 index, u64 value)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} m = {.h = {.nmsrs = 1}, .e = {.index = index, .data = value}};

	return ioctl(vcpu, KVM_SET_MSRS, &m);
}

static KT_UNUSED int kt_get_msr(int vcpu, u32 index, u64 *value)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} m = {.h = {.nmsrs = 1}, .e = {.index = index}};
	int r = ioctl(vcpu, KVM_GET_MSRS, &m);

	*value = m.e.data;
	return r;
}

static KT_UNUSED void kt_sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

/* A bad address that is certainly not mapped. */
#define KT_BAD ((void *)8)

#endif
