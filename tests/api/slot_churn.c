/* SPDX-License-Identifier: MIT */
/*
 * Slots come, go, move and change flags while another vCPU reads and writes through them. Each page holds its own number: whatever the
 * guest reads is one of the pages that were ever there, or an MMIO exit; memory outside the slots is not written. In 32- and in 64-bit mode.
 */
#include "kvmtest.h"

#define GPA 0x40000000u
#define PAGES 4u
#define OTHER 0x48000000u

/* Reads the word at GPA, reports what is neither page's mark nor the VMM's answer; writes a word at GPA+0x800. */
#define PROG(bx)                                                                                                                           \
	"mov $0x40000000, %ebx\n"                                                                                                          \
	"1: mov (" bx "), %eax\n cmp $0x11111111, %eax\n je 2f\n cmp $0x22222222, %eax\n je 2f\n cmp $0xdeadbeef, %eax\n je 2f\n"           \
	"out %eax, $0x10\n"                                                                                                                \
	"2: mov %eax, 0x800(" bx ")\n incl 0x3000\n jmp 1b\n"
GUEST32(prog, PROG("%ebx"));
GUEST64(prog64, PROG("%rbx"));

static struct vm v;
static volatile bool stop;
static u32 mmio;

static void handler(int sig)
{
	v.run->immediate_exit = 1;
}

static void *run_vcpu(void *arg)
{
	const u32 answer = 0xdeadbeef;

	while (!stop) {
		int r = ioctl(v.vcpu, KVM_RUN, 0ul);

		if (r < 0 && errno == EINTR)
			continue;
		CHECK_EQ(r, 0);
		if (r < 0)
			return NULL;
		if (v.run->exit_reason != KVM_EXIT_MMIO) {
			u32 val = 0;

			if (v.run->exit_reason == KVM_EXIT_IO)
				memcpy(&val, kt_io_data(v.run), 4);
			printf("exit %u, value 0x%x\n", v.run->exit_reason, val);
			kt_failures++;
			return NULL;
		}
		mmio++;
		if (!v.run->mmio.is_write)
			memcpy(v.run->mmio.data, &answer, 4);
	}
	return NULL;
}

static void churn(bool is64)
{
	struct sigaction sa = {.sa_handler = handler};
	unsigned n = kt_usekvm() ? 3000 : 100;
	u8 *a, *b, *guard;
	pthread_t t;
	u32 rounds;

	sigaction(SIGUSR1, &sa, NULL);
	stop = false;
	mmio = 0;
	if (is64) {
		vm_long(&v, prog64, prog64_end);
	} else {
		vm_open(&v);
		vm_vcpu(&v);
		kt_load(&v, prog);
		kt_protected(v.vcpu, KT_CODE);
	}
	a = kt_pages(PAGES * 4096);
	guard = kt_pages(4096);
	b = kt_pages(PAGES * 4096);
	for (u32 i = 0; i < PAGES * 1024; i++)
		((u32 *)a)[i] = 0x11111111, ((u32 *)b)[i] = 0x22222222;
	pthread_create(&t, NULL, run_vcpu, NULL);
	for (unsigned i = 0; i < n && !kt_failures; i++) {
		switch (i % 6) {
		case 0: CHECK_OK(kt_slot(v.vm, 1, 0, GPA, PAGES * 4096, a)); break;
		case 1: CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, GPA, PAGES * 4096, a)); break;
		case 2: CHECK_OK(kt_slot(v.vm, 1, 0, GPA, PAGES * 4096, a)); break;
		case 3: CHECK_OK(kt_slot(v.vm, 1, 0, OTHER, PAGES * 4096, a)); break; /* moved away */
		case 4: CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL)); break;
		case 5:
			CHECK_OK(kt_slot(v.vm, 2, i % 12 == 5 ? KVM_MEM_READONLY : 0, GPA, PAGES * 4096, b));
			sched_yield();
			CHECK_OK(kt_slot(v.vm, 2, 0, 0, 0, NULL));
			break;
		}
		if (i % 6 == 4) {
			/* The slot is gone: nothing may write here any more. */
			a[0x800] = 0x77;
			sched_yield();
			CHECK_EQ(a[0x800], 0x77);
			memset(a + 0x800, 0x11, 4);
		}
	}
	memcpy(&rounds, v.mem + 0x3000, 4);
	for (int i = 0; i < 200 && *(volatile u32 *)(v.mem + 0x3000) == rounds; i++)
		kt_sleep_ms(10);
	CHECK(*(volatile u32 *)(v.mem + 0x3000) != rounds);
	stop = true;
	pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
	CHECK(mmio > 0);
	for (unsigned i = 0; i < 4096; i++)
		if (guard[i]) {
			CHECK_EQ(guard[i], 0);
			break;
		}
}

int main(void)
{
	churn(false);
	churn(true);
	return kt_end();
}
