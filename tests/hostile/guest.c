/* SPDX-License-Identifier: MIT */
/*
 * Hostile guests. Every run starts a vCPU in a mode with random registers, garbage page tables and descriptor tables (in RAM, outside
 * it, in MMIO) and code that is half random bytes, half instructions with memory operands, so that most accesses are near page ends.
 *
 * RAM is hundreds of slots of one page each, back to back for the guest; their host pages are far apart and between pages that are
 * filled with a pattern (or not accessible: argument "none"). One slot is at the top of the physical address space, one below 4 GiB. Wrong:
 * the process dies, a pattern changes, KVM_RUN answers an error other than EINTR, or does not come back when a timer strikes.
 *
 *	usekvm guest MODE canary|none [--ms=N] [--seed=N]     MODE: real prot paged pae long v86
 */
#include <sys/time.h>

#include "../harness/kvmtest.h"
#include "random.h"

#define PAGES 192u
#define PG 4096u
#define OTHER (1u << 20)

static u64 below(u64 n) { return rnd() % n; }
static bool one_in(unsigned n) { return !below(n); }

static u8 *host, *other, *guest[PAGES + 2];
static u64 top;
static bool no_access;
static unsigned exits[64], eintr, runs;
static volatile sig_atomic_t ticks;

static u8 pattern(size_t at) { return (u8)(at * 31 + (at >> 12) * 7 + 0x5a); }

static void make_memory(int vm)
{
	size_t size = (PAGES + 2) * 3 * PG;

	host = kt_pages(size);
	other = kt_pages(OTHER);
	for (size_t k = 0; k < OTHER; k++)
		other[k] = pattern(k);
	for (size_t k = 0; k < size; k++)
		host[k] = pattern(k);
	for (u32 n = 0; n < PAGES + 2; n++) {
		u8 *p = host + ((n * 97 % (PAGES + 2)) * 3 + 1) * PG;
		u64 gpa = n < PAGES ? (u64)n * PG : n == PAGES ? top - PG : 0xfffff000;

		guest[n] = p;
		if (no_access) {
			REQUIRE(!mprotect(p - PG, PG, PROT_NONE));
			REQUIRE(!mprotect(p + PG, PG, PROT_NONE));
		}
		REQUIRE(!kt_slot(vm, n, one_in(20) ? KVM_MEM_READONLY : one_in(4) ? KVM_MEM_LOG_DIRTY_PAGES : 0, gpa, PG, p));
	}
}

static void check_memory(void)
{
	for (size_t k = 0; k < OTHER; k++)
		if (other[k] != pattern(k)) {
			printf("unrelated memory changed at offset 0x%zx\n", k);
			kt_failures++;
			break;
		}
	for (u32 n = 0; !no_access && n < PAGES + 2; n++)
		for (int side = -1; side <= 1; side += 2) {
			u8 *p = guest[n] + side * (int)PG;

			for (u32 k = 0; k < PG; k++)
				if (p[k] != pattern((size_t)(p - host) + k)) {
					printf("memory %s the host page of guest page %u changed at 0x%x\n", side < 0 ? "before" : "behind", n, k);
					kt_failures++;
					break;
				}
		}
}

/* An address that is likely to be awkward. */
static u64 address(void)
{
	switch (below(12)) {
	case 0: return rnd();
	case 1: return top - below(64);
	case 2: return 0xfffff000 + below(PG) ;
	case 3: return 0xfee00000 + below(0x1000);
	case 4: return (u64)PAGES * PG - below(80);
	case 5: return 0xfffffffffffffff0ull + below(16);
	case 6: return 0x7ffffffffff0ull + below(32);
	case 7: return (u32)rnd();
	default: return below(PAGES) * PG + (one_in(2) ? PG - below(72) : below(PG));
	}
}

/* ---- code ---- */

static const struct { u8 n, b[5]; } opcodes[] = {
	{ 1, { 0x8b } }, { 1, { 0x89 } }, { 1, { 0x01 } }, { 1, { 0x87 } }, { 2, { 0xf0, 0x01 } }, { 2, { 0xf0, 0x87 } }, { 1, { 0xff } }, { 1, { 0x8f } },
	{ 1, { 0x8e } }, { 1, { 0x8c } }, { 1, { 0x62 } }, { 2, { 0x0f, 0x01 } }, { 2, { 0x0f, 0x00 } }, { 2, { 0x0f, 0xae } }, { 2, { 0x0f, 0xc7 } },
	{ 3, { 0xf0, 0x0f, 0xc7 } }, { 3, { 0x48, 0x0f, 0xc7 } }, { 2, { 0x0f, 0xab } }, { 2, { 0x0f, 0xb3 } }, { 2, { 0x0f, 0xa3 } }, { 2, { 0x0f, 0x10 } },
	{ 2, { 0x0f, 0x11 } }, { 2, { 0x0f, 0x29 } }, { 3, { 0x66, 0x0f, 0x7f } }, { 3, { 0xf3, 0x0f, 0x6f } }, { 3, { 0xc5, 0xfe, 0x7f } },
	{ 3, { 0xc5, 0xfc, 0x10 } }, { 1, { 0xd9 } }, { 1, { 0xdd } }, { 1, { 0xdb } }, { 1, { 0xdf } }, { 2, { 0x0f, 0xb0 } }, { 2, { 0x0f, 0xc1 } },
	{ 2, { 0x66, 0x89 } }, { 2, { 0x67, 0x89 } }, { 2, { 0x48, 0x89 } }, { 2, { 0x48, 0x8b } }, { 1, { 0xc4 } }, { 1, { 0xc5 } }, { 2, { 0x0f, 0xb2 } },
	{ 3, { 0x0f, 0x38, 0xf0 } }, { 3, { 0x66, 0x0f, 0xf7 } }, { 2, { 0x0f, 0xc3 } }, { 2, { 0x0f, 0xe7 } }, { 1, { 0x63 } }, { 2, { 0x0f, 0x0d } },
};
static const u8 single_ops[] = { 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f, 0x50, 0x58, 0x60, 0x61, 0x9c, 0x9d,
	0xc3, 0xcb, 0xcf, 0xcc, 0xce, 0xc9, 0xd7, 0xfa, 0xfb, 0xfc, 0xfd, 0xf1, 0xec, 0xee, 0x54, 0x5c, 0x90, 0x06, 0x07, 0x1e, 0x1f };

static void emit_code(u8 *p, u32 n)
{
	u32 k = 0;

	while (k < n) {
		u8 b[24];
		u32 len = 0;

		switch (below(5)) {
		case 0:
			for (len = 0; len < 6; len++)
				b[len] = (u8)rnd();
			break;
		case 1:
			if (one_in(3))
				b[len++] = one_in(2) ? 0xf3 : 0xf2;
			if (one_in(4))
				b[len++] = one_in(2) ? 0x66 : 0x67;
			b[len++] = single_ops[below(sizeof(single_ops))];
			break;
		default: {
			u32 o = (u32)below(sizeof(opcodes) / sizeof(opcodes[0]));

			if (one_in(6))
				b[len++] = (const u8[]){ 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67 }[below(8)];
			memcpy(b + len, opcodes[o].b, opcodes[o].n);
			len += opcodes[o].n;
			b[len++] = (u8)(one_in(5) ? rnd() : rnd() & 0x7f);
			b[len++] = (u8)rnd();
			b[len++] = (u8)(one_in(2) ? 0xf0 + below(16) : below(16));
			break;
		}
		}
		for (u32 j = 0; j < len && k < n; j++)
			p[k++] = b[j];
	}
}

static u64 table_entry(unsigned width)
{
	if (one_in(12))
		return width == 4 ? (u32)rnd() : rnd();
	u64 e = below(PAGES) * PG | (rnd() & 0x67) | 1;
	if (one_in(10))
		e |= 0x80;
	if (one_in(30))
		e &= ~1ull;
	if (one_in(40))
		e = (top - PG) | 7;
	if (one_in(40))
		e = 0xfee00000 | 7;
	if (one_in(60) && width == 8)
		e |= 1ull << (one_in(2) ? 63 : 40 + below(12));
	return e | (one_in(2) ? 6 : 0);
}

static void fill(void)
{
	for (u32 n = 0; n < PAGES + 2; n++) {
		u8 *p = guest[n];
		unsigned kind = n < PAGES / 2 ? 0 : (unsigned)below(4);

		if (kind == 0)
			emit_code(p, PG);
		else if (kind == 1)
			for (u32 k = 0; k < PG / 8; k++)
				((u64 *)p)[k] = table_entry(8);
		else if (kind == 2)
			for (u32 k = 0; k < PG / 4; k++)
				((u32 *)p)[k] = (u32)table_entry(4);
		else /* descriptors and gates with plausible types */
			for (u32 k = 0; k < PG / 8; k++)
				((u64 *)p)[k] = (rnd() & ~(0xf0ull << 40)) | 0x80ull << 40 | (rnd() & 0x70ull << 40);
	}
}

/* Page tables that map 0..PAGES one to one in their first entries, so that runs last a while; the rest is garbage. */
static u64 some_tables(const char *mode)
{
	u32 base = PAGES - 8;
	bool wide = strcmp(mode, "paged") && strcmp(mode, "v86");

	for (u32 k = 0; k < 512; k++) {
		u64 e = (u64)k * PG | 7;

		if (k >= PAGES || one_in(9))
			e = table_entry(wide ? 8 : 4);
		if (wide)
			((u64 *)guest[base])[k] = e;
		else
			((u32 *)guest[base])[k] = (u32)e;
	}
	if (!wide) {
		((u32 *)guest[base + 1])[0] = base * PG | 7;
		return (base + 1) * PG;
	}
	((u64 *)guest[base + 1])[0] = (u64)base * PG | 7;
	((u64 *)guest[base + 2])[0] = (u64)(base + 1) * PG | (strcmp(mode, "pae") ? 7 : 1);
	if (!strcmp(mode, "pae"))
		for (unsigned k = 1; k < 4; k++)
			((u64 *)guest[base + 2])[k] = one_in(2) ? 0 : below(PAGES) * PG | 1;
	((u64 *)guest[base + 3])[0] = (u64)(base + 2) * PG | 7;
	return (strcmp(mode, "pae") ? base + 3 : base + 2) * (u64)PG;
}

/* ---- one run ---- */

static void start(int vcpu, const char *mode)
{
	struct kvm_sregs s;
	struct kvm_regs r;
	bool is_long = !strcmp(mode, "long"), real = !strcmp(mode, "real"), v86 = !strcmp(mode, "v86");
	u8 ring = one_in(3) ? 3 : 0;

	REQUIRE(!ioctl(vcpu, KVM_GET_SREGS, &s));
	for (u64 *q = (u64 *)&r; q < (u64 *)(&r + 1); q++)
		*q = one_in(4) ? below(300) : address();
	r.rip = below(PAGES / 2) * PG + below(PG);
	r.rflags = (rnd() & 0x47fd5) | 2;
	r.rflags &= one_in(4) ? ~0ull : ~0x4100ull;
	struct kvm_segment seg = { .limit = ~0u, .selector = (u16)(8 | ring), .type = 0xb, .present = 1, .dpl = ring, .s = 1, .g = 1, .db = !is_long, .l = is_long };
	s.cs = seg;
	seg = (struct kvm_segment){ .limit = ~0u, .selector = (u16)(16 | ring), .type = 3, .present = 1, .dpl = ring, .s = 1, .g = 1, .db = 1 };
	if (one_in(3)) {
		seg.limit = (u32)address();
		seg.type = one_in(3) ? 7 : 3;
		seg.g = seg.limit > 0xfffff;
		seg.limit |= seg.g ? 0xfff : 0;
	}
	s.ds = s.es = s.fs = s.gs = s.ss = seg;
	s.fs.base = one_in(2) ? address() : 0;
	s.gs.base = one_in(2) ? address() : 0;
	if (!is_long) {
		s.fs.base = (u32)s.fs.base;
		s.gs.base = (u32)s.gs.base;
	}
	s.idt.base = one_in(3) ? address() : below(PAGES) * PG;
	s.idt.limit = (u16)(one_in(3) ? rnd() : 0xfff);
	s.gdt.base = one_in(3) ? address() : below(PAGES) * PG;
	s.gdt.limit = (u16)(one_in(3) ? rnd() : 0xffff);
	s.tr = (struct kvm_segment){ .base = one_in(3) ? address() : below(PAGES) * PG, .limit = one_in(2) ? 0x67 : 0xffff, .selector = 0x30, .type = 0xb, .present = 1 };
	s.cr0 = 0x31;
	s.cr4 = 0x40600 & ~0x40000ull;
	s.efer = 0;
	if (real || v86) {
		struct kvm_segment *all[] = { &s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss };

		for (unsigned k = 0; k < 6; k++) {
			u16 sel = (u16)(one_in(4) ? rnd() : below(PAGES * PG / 16));

			*all[k] = (struct kvm_segment){ .base = (u64)sel << 4, .limit = 0xffff, .selector = sel, .type = 3, .present = 1, .dpl = v86 ? 3 : 0, .s = 1 };
		}
		s.cs.base = (s.cs.selector = (u16)(below(PAGES / 2) << 8)) << 4;
		r.rip &= 0xffff;
		if (v86)
			r.rflags |= 0x20000 | (one_in(2) ? 0x3000 : 0);
	}
	if (real)
		s.cr0 = 0x10;
	else if (strcmp(mode, "prot")) {
		s.cr0 |= 0x80000000 | (one_in(2) ? 0x10000 : 0);
		s.cr4 |= strcmp(mode, "paged") && !v86 ? 0x20 : 0;
		s.cr4 |= one_in(2) ? 0x10 : 0;
		s.cr3 = some_tables(mode);
		if (one_in(10))
			s.cr3 = address() & (top - 1) & ~0xfffull;
		if (is_long)
			s.efer = 0xd00;
	}
	if (ioctl(vcpu, KVM_SET_SREGS, &s)) { /* what it refuses is not a run */
		s.fs.base = s.gs.base = s.idt.base = s.gdt.base = s.tr.base = 0;
		if (ioctl(vcpu, KVM_SET_SREGS, &s)) {
			printf("KVM_SET_SREGS refuses a plain state: errno %d\n", errno);
			kt_failures++;
		}
	}
	struct kvm_vcpu_events ev = { 0 };
	ioctl(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	ioctl(vcpu, KVM_SET_REGS, &r);
	struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };
	ioctl(vcpu, KVM_SET_MP_STATE, &mp);
}

/* False: the run is over. */
static bool answer(struct kvm_run *run)
{
	exits[run->exit_reason & 63]++;
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		if (run->mmio.len > 8) {
			printf("MMIO of %u bytes\n", run->mmio.len);
			kt_failures++;
		}
		for (unsigned k = 0; k < 8 && !run->mmio.is_write; k++)
			run->mmio.data[k] = (u8)rnd();
		return true;
	case KVM_EXIT_IO:
		if ((u64)run->io.data_offset + (u64)run->io.size * run->io.count > 3 * PG || run->io.size > 4 || !run->io.size) {
			printf("I/O of %u times %u bytes at 0x%llx\n", run->io.count, run->io.size, run->io.data_offset);
			kt_failures++;
			return false;
		}
		if (run->io.direction == KVM_EXIT_IO_IN)
			memset((u8 *)run + run->io.data_offset, (int)rnd(), (size_t)run->io.size * run->io.count);
		return true;
	case KVM_EXIT_HLT:
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_INTERNAL_ERROR:
	case KVM_EXIT_DEBUG:
	case KVM_EXIT_INTR:
	case KVM_EXIT_SYSTEM_EVENT:
		return false;
	default:
		printf("exit reason %u\n", run->exit_reason);
		kt_failures++;
		return false;
	}
}

static void tick(int sig) { ticks++; }

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static u64 option(int argc, char **argv, const char *name, u64 def)
{
	for (int k = 3; k < argc; k++)
		if (!strncmp(argv[k], name, strlen(name)))
			return strtoull(argv[k] + strlen(name), NULL, 0);
	return def;
}

int main(int argc, char **argv)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[128]; } cpuid;
	int sys = kt_open(), vm, vcpu;

	if (argc < 3) {
		fprintf(stderr, "usage: %s MODE canary|none [--ms=N] [--seed=N]\n", argv[0]);
		return 2;
	}
	no_access = !strcmp(argv[2], "none");
	rng = option(argc, argv, "--seed=", 1) * 0x9e3779b97f4a7c15ull + (u8)argv[1][0] + (u64)no_access * 77;
	REQUIRE((vm = ioctl(sys, KVM_CREATE_VM, 0)) >= 0);
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	if (one_in(2) || no_access)
		REQUIRE(!ioctl(vm, KVM_CREATE_IRQCHIP, 0));
	cpuid.head.nent = 128;
	REQUIRE(!ioctl(sys, KVM_GET_SUPPORTED_CPUID, &cpuid));
	top = 1ull << 36;
	for (u32 n = 0; n < cpuid.head.nent; n++)
		if (cpuid.e[n].function == 0x80000008)
			top = 1ull << (cpuid.e[n].eax & 0xff);
	make_memory(vm);
	REQUIRE((vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) >= 0);
	REQUIRE(!ioctl(vcpu, KVM_SET_CPUID2, &cpuid));
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs = { { 0, 0, 7 } } };
	ioctl(vcpu, KVM_SET_XCRS, &x);
	struct kvm_run *run = mmap(NULL, (size_t)ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	REQUIRE(run != MAP_FAILED);
	struct sigaction sa = { .sa_handler = tick };
	sigaction(SIGUSR1, &sa, NULL);
	struct sigevent se = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	timer_t timer;
	struct itimerspec it = { { 0, 10000000 }, { 0, 10000000 } };
	REQUIRE(!timer_create(CLOCK_MONOTONIC, &se, &timer) && !timer_settime(timer, 0, &it, NULL));
	u64 end = now_ms() + option(argc, argv, "--ms=", 1200);
	while (now_ms() < end && !kt_failures) {
		u64 began = now_ms();
		u32 first = (u32)ticks;

		if (runs % 16 == 0)
			fill();
		runs++;
		start(vcpu, argv[1]);
		for (unsigned n = 0; n < 3000; n++) {
			int r = ioctl(vcpu, KVM_RUN, 0);

			if (r < 0 && errno == EINTR) {
				eintr++;
				if ((u32)ticks - first > 3)
					break;
				continue;
			}
			if (r < 0) {
				struct kvm_regs regs;
				int e = errno;

				ioctl(vcpu, KVM_GET_REGS, &regs);
				printf("run %u: KVM_RUN fails with errno %d at rip 0x%llx\n", runs, e, regs.rip);
				kt_failures++;
				break;
			}
			if (!answer(run))
				break;
		}
		if (now_ms() - began > 8000) {
			printf("run %u took %llu ms\n", runs, (unsigned long long)(now_ms() - began));
			kt_failures++;
		}
	}
	check_memory();
	printf("%s %s: %u runs, interrupted %u, exits: io %u, mmio %u, hlt %u, shutdown %u, internal error %u\n", argv[1], argv[2], runs, eintr,
		exits[KVM_EXIT_IO], exits[KVM_EXIT_MMIO], exits[KVM_EXIT_HLT], exits[KVM_EXIT_SHUTDOWN], exits[KVM_EXIT_INTERNAL_ERROR]);
	if (runs < 10) {
		printf("too few runs\n");
		kt_failures++;
	}
	return kt_end();
}
