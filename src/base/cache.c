/* SPDX-License-Identifier: MIT */
/*
 * CLFLUSHOPT where CPUID shows it, else CLFLUSH (each CPU with 64-bit mode has it); CLWB would leave the lines valid. A fault in the
 * assembly is known to the fault handler by its address (cache_fixup). The step is the line size of CPUID leaf 1.
 *
 * mincore() says which pages are resident (or in the page cache, where another process may have written): flushing others would make the
 * kernel put pages there. If it may not be called, everything is flushed.
 */
#include "base/cache.h"

#include <cpuid.h>
#include <errno.h>
#include <sys/syscall.h>

#include "base/agent.h"
#include "base/sig.h"
#include "base/sys.h"

#define CHUNK_PAGES 512u

/* int flush_*_raw(u64 addr, u64 end, u64 step): 0 or -EFAULT */
extern int flush_opt_raw(u64 addr, u64 end, u64 step) hidden;
extern int flush_old_raw(u64 addr, u64 end, u64 step) hidden;
extern const char flush_begin[] hidden, flush_fault[] hidden;
__asm__(".pushsection .text\n"
	".p2align 4\n"
	".hidden flush_opt_raw\n.hidden flush_old_raw\n.hidden flush_begin\n.hidden flush_fault\n"
	".globl flush_opt_raw\n.globl flush_old_raw\n.globl flush_begin\n.globl flush_fault\n"
	".type flush_opt_raw, @function\n.type flush_old_raw, @function\n"
	"flush_begin:\n"
	"flush_opt_raw:\n"
	"	.cfi_startproc\n"
	"	cmp %rsi, %rdi\n"
	"	jae 1f\n"
	"	clflushopt (%rdi)\n"
	"	add %rdx, %rdi\n"
	"	jmp flush_opt_raw\n"
	"1:	xor %eax, %eax\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size flush_opt_raw, . - flush_opt_raw\n"
	"flush_old_raw:\n"
	"	.cfi_startproc\n"
	"	cmp %rsi, %rdi\n"
	"	jae 1f\n"
	"	clflush (%rdi)\n"
	"	add %rdx, %rdi\n"
	"	jmp flush_old_raw\n"
	"1:	xor %eax, %eax\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size flush_old_raw, . - flush_old_raw\n"
	"flush_fault:\n"
	"	mov $-14, %eax\n" /* -EFAULT */
	"	ret\n"
	".popsection\n");

u64 cache_fixup(u64 rip)
{
	return rip >= (u64)flush_begin && rip < (u64)flush_fault ? (u64)flush_fault : 0;
}

struct how {
	u64 step;
	int (*flush)(u64 addr, u64 end, u64 step);
};

static struct how how(void)
{
	struct how h = { 64, flush_old_raw };
	u32 a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (b >> 8 & 0xff))
		h.step = (b >> 8 & 0xff) * 8;
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & BIT(23))
		h.flush = flush_opt_raw;
	return h;
}

static u64 lines(const struct how *h, u64 addr, u64 end)
{
	return end > addr ? (end - addr + h->step - 1) / h->step : 0;
}

static u64 flush_page(const struct how *h, u64 addr, u64 end)
{
	return h->flush(addr, end, h->step) ? 0 : lines(h, addr, end);
}

/* At most CHUNK_PAGES pages. */
static u64 flush_chunk(const struct how *h, u64 addr, u64 end)
{
	u8 resident[CHUNK_PAGES];
	u64 base = addr & PAGE_MASK, n = 0;
	bool told = agent_sys3(SYS_mincore, base, end - base, resident) == 0;

	for (u64 a = addr; a < end;) {
		u64 stop = MIN((a & PAGE_MASK) + PAGE_SIZE, end);

		/* Not told: a hole, or the call is forbidden. */
		if (!told || resident[(a - base) / PAGE_SIZE] & 1)
			n += flush_page(h, a, stop);
		a = stop;
	}
	return n;
}

u64 cache_flush(u64 addr, u64 len)
{
	struct how h = how();
	u64 end = addr + len, n = 0;

	if (!sig_thread_ready())
		return 0;
	addr &= ~(h.step - 1);
	__asm__ volatile("mfence" : : : "memory"); /* earlier stores are in the lines that go; CLFLUSHOPT is ordered by fences only */
	while (addr < end) {
		u64 stop = MIN((addr & PAGE_MASK) + CHUNK_PAGES * PAGE_SIZE, end);

		n += flush_chunk(&h, addr, stop);
		addr = stop;
	}
	__asm__ volatile("mfence" : : : "memory");
	return n;
}

int cache_flush_line(u64 addr)
{
	return sig_thread_ready() ? flush_old_raw(addr, addr + 1, 1) : -EFAULT;
}
