/* SPDX-License-Identifier: MIT */
/*
 * The dirty log as a migration uses it: two vCPUs in a hot loop write to random pages by many kinds of instructions; meanwhile the VMM gets the
 * log again and again and copies the pages that are in it. Whenever the vCPUs have stopped, one more round makes the copy equal to the memory.
 * With the log that a get clears, and with the one that KVM_CLEAR_DIRTY_LOG clears.
 */
#include "kvmtest.h"

#define SLOT 0x40000000ull
#define PAGES 256u /* as many as the guest's masks say */
#define STOPS 60

/* RDI: the slot, RBX: this vCPU's bytes in each line, R9D: random. R8 is free. */
#define HOT(more)                                                                                                                          \
	"1: imul $0x19660d, %r9d\n add $0x3c6ef35f, %r9d\n mov %r9d, %eax\n mov %eax, %edx\n"                                           \
	"shr $11, %edx\n and $0xfefc0, %edx\n add %rdi, %rdx\n add %rbx, %rdx\n"                                                        \
	"incl (%rdx)\n mov %eax, 0x1000(%rdx)\n lock xadd %ecx, 4(%rdx)\n cmpxchg %ecx, 4(%rdx)\n rolb $1, 3(%rdx)\n"                       \
	"mov %edx, %r8d\n or $0xffe, %r8\n mov %eax, (%r8)\n" /* in two pages, or at the end of one */                                     \
	"lea 16(%rdx), %rsp\n push %rax\n"                                                                                                  \
	"mov %rdi, %r8\n lea 14(%rdx), %rdi\n mov $2, %ecx\n rep stosb\n mov %r8, %rdi\n" more "jmp 1b\n"
GUEST64(hot, HOT(""));
GUEST64(hot_sse, HOT("movq %rax, %xmm0\n movlps %xmm0, 0x40(%rdx)\n"));

static struct vm v;
static struct {
	int fd;
	struct kvm_run *run;
	pthread_t thread;
} cpu[2];
static bool stop;

static void kick(int sig)
{
}

static void *run(void *arg)
{
	int n = (int)(long)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		int r = ioctl(cpu[n].fd, KVM_RUN, 0ul);

		if (r == 0 || (errno != EINTR && errno != EAGAIN)) {
			printf("vCPU %d: KVM_RUN gives %d, errno %d, exit %u\n", n, r, errno, cpu[n].run->exit_reason);
			kt_failures++;
			break;
		}
	}
	return NULL;
}

static void make_cpu(int n)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	cpu[n].fd = n ? ioctl(v.vm, KVM_CREATE_VCPU, 1ul) : v.vcpu;
	REQUIRE(cpu[n].fd >= 0);
	cpu[n].run = n ? kt_map_run(&v, cpu[n].fd) : v.run;
	if (n) {
		struct kvm_cpuid2 *id = calloc(1, sizeof(*id) + 256 * sizeof(id->entries[0]));

		id->nent = 256;
		REQUIRE(ioctl(v.vcpu, KVM_GET_CPUID2, id) == 0 && ioctl(cpu[n].fd, KVM_SET_CPUID2, id) == 0);
		free(id);
	}
	kt_long(&v, cpu[n].fd, KT_CODE);
	REQUIRE(ioctl(cpu[n].fd, KVM_GET_SREGS, &s) == 0);
	s.cr4 |= 0x600;
	REQUIRE(ioctl(cpu[n].fd, KVM_SET_SREGS, &s) == 0);
	kt_get_regs(cpu[n].fd, &r);
	r.rdi = SLOT;
	r.rbx = (u64)n * 16;
	r.r9 = (u64)n + 1;
	REQUIRE(ioctl(cpu[n].fd, KVM_SET_REGS, &r) == 0);
}

/* While the guest may write there. */
static void copy_pages(u8 *to, const u8 *from, size_t n)
{
	for (size_t k = 0; k < n * 4096; k += 8)
		*(u64 *)(to + k) = __atomic_load_n((const u64 *)(from + k), __ATOMIC_RELAXED);
}

/* One round of the VMM's: how many pages there were. */
static unsigned harvest(const u8 *mem, u8 *copy, bool manual)
{
	u64 bits[PAGES / 64] = {0};
	struct kvm_dirty_log l = {.slot = 1, .dirty_bitmap = bits};
	struct kvm_clear_dirty_log c = {.slot = 1, .num_pages = PAGES, .dirty_bitmap = bits};
	unsigned n = 0;

	CHECK_OK(ioctl(v.vm, KVM_GET_DIRTY_LOG, &l));
	if (manual)
		CHECK_OK(ioctl(v.vm, KVM_CLEAR_DIRTY_LOG, &c));
	for (unsigned p = 0; p < PAGES; p++)
		if (bits[p / 64] >> p % 64 & 1) {
			copy_pages(copy + p * 4096, mem + p * 4096, 1);
			n++;
		}
	return n;
}

static void go(void)
{
	__atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
	for (long i = 0; i < 2; i++) {
		cpu[i].run->immediate_exit = 0;
		REQUIRE(pthread_create(&cpu[i].thread, NULL, run, (void *)i) == 0);
	}
}

static void halt(void)
{
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 2; i++) {
		cpu[i].run->immediate_exit = 1;
		pthread_kill(cpu[i].thread, SIGUSR1);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(cpu[i].thread, NULL);
}

static void migrate(bool manual)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {1}};
	unsigned stops = kt_usekvm() ? STOPS : 5, pages = 0, last = 0;
	u8 *mem = kt_pages(PAGES * 4096), *copy = kt_pages(PAGES * 4096);

	vm_open(&v);
	vm_vcpu(&v);
	if (manual)
		CHECK_OK(ioctl(v.vm, KVM_ENABLE_CAP, &cap));
	if (kt_usekvm())
		kt_load(&v, hot_sse);
	else
		kt_load(&v, hot); /* a backend that emulates everything has no vectors */
	CHECK_OK(kt_slot(v.vm, 1, 0, SLOT, PAGES * 4096, mem));
	for (int i = 0; i < 2; i++)
		make_cpu(i);
	go();
	kt_sleep_ms(20); /* hot, and everything is written to without a log */
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, SLOT, PAGES * 4096, mem));
	copy_pages(copy, mem, PAGES);
	for (unsigned i = 0; i < stops && !kt_failures; i++) {
		for (unsigned k = 0; k < 4; k++) {
			pages += harvest(mem, copy, manual);
			if (k < i % 4)
				kt_sleep_ms(1);
		}
		halt();
		last += harvest(mem, copy, manual);
		for (unsigned p = 0; p < PAGES; p++)
			if (memcmp(mem + p * 4096, copy + p * 4096, 4096)) {
				printf("stop %u: page %u was changed without being in the log\n", i, p);
				kt_failures++;
			}
		CHECK_EQ(harvest(mem, copy, manual), 0);
		go();
	}
	halt();
	CHECK(pages > PAGES && last > PAGES);
	printf("%s: %u pages while they ran, %u after %u stops\n", manual ? "cleared apart" : "cleared by a get", pages, last, stops);
	for (int i = 0; i < 2; i++) {
		munmap(cpu[i].run, v.run_size);
		close(cpu[i].fd);
	}
	close(v.vm);
	close(v.sys);
}

int main(void)
{
	struct sigaction sa = {.sa_handler = kick};

	sigaction(SIGUSR1, &sa, NULL);
	migrate(false);
	migrate(true);
	return kt_end();
}
