/* SPDX-License-Identifier: MIT */
/*
 * The guest's side: one vCPU in long mode, code at CPL 3, through the KVM API and nothing else. A case is entered by IRETQ from a frame
 * that is written into guest memory and left by whatever exception it ends in: the handler says which by a port write, with the
 * general registers untouched.
 *
 * Selectors are those of 64-bit Linux, so that code that reads them sees the same on both sides.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "fuzz.h"

#define MEM_SIZE 0x200000
#define HIGH 0xffff800000000000ull
#define G_GDT 0x9000
#define G_TSS 0x9800
#define G_IDT 0xa000
#define G_HANDLERS 0xb000
#define G_ENTER 0xb800
#define G_CR2 0xbf00
#define G_STACK 0xd000
#define G_DATA 0x10000
#define G_CODE 0x20000
#define K_CS 0x10
#define K_SS 0x18
#define TSS_SEL 0x40

static int kvm, vm, vcpu;
static u8 *mem;
static volatile struct kvm_run *run;
static struct kvm_sregs sregs0;
static struct kvm_cpuid2 *cpuid;
static u64 cur_fs, cur_gs;
static bool fresh;

static void put64(u32 gpa, u64 v)
{
	memcpy(mem + gpa, &v, 8);
}

static void page_tables(void)
{
	put64(0x1000, 0x2007);
	put64(0x1000 + 256 * 8, 0x6003);
	put64(0x2000, 0x3007);
	put64(0x3000 + (DATA_BASE >> 21) * 8, 0x4007);
	put64(0x3000 + (CODE_BASE >> 21) * 8, 0x5007);
	put64(0x6000, 0x7003);
	put64(0x7000, 0x83); /* 2 MiB */
	for (int i = 0; i < DATA_MAPPED; i++)
		put64(0x4000 + (i + 1) * 8, (G_DATA + i * PG) | (i == 2 ? 0x25 : 0x67) | 1ull << 63);
	for (unsigned i = 0; i < CODE_PAGES; i++)
		put64(0x5000 + i * 8, (G_CODE + i * PG) | 0x25);
}

static void gate(int v, u64 target)
{
	u64 lo = (target & 0xffff) | (u64)K_CS << 16 | 0xee00ull << 32 | (target >> 16 & 0xffff) << 48;
	if (v != 3 && v != 4)
		lo &= ~(3ull << 45);
	put64(G_IDT + v * 16, lo);
	put64(G_IDT + v * 16 + 8, target >> 32);
}

static void handlers(void)
{
	static const u32 with_error = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
	static const u8 tail[] = {0x48, 0x83, 0xc4, 8, 0x48, 0xcf};

	for (int v = 0; v < 32; v++) {
		u8 *p = mem + G_HANDLERS + v * 32;
		gate(v, HIGH + G_HANDLERS + v * 32);
		if (v == 14) {
			u64 a = HIGH + G_CR2;
			static const u8 head[] = {0x50, 0x0f, 0x20, 0xd0, 0x48, 0xa3};
			memcpy(p, head, 6);
			memcpy(p + 6, &a, 8);
			p[14] = 0x58;
			p += 15;
		} else if (!(with_error >> v & 1)) {
			*p++ = 0x6a;
			*p++ = 0;
		}
		*p++ = 0xe6;
		*p++ = 0x80 + v;
		memcpy(p, tail, sizeof(tail));
	}
	mem[G_ENTER] = 0x48;
	mem[G_ENTER + 1] = 0xcf;
}

static struct kvm_segment seg(u16 sel, u8 type, u8 dpl, bool l, bool db, bool s)
{
	struct kvm_segment k = {.limit = 0xffffffff, .selector = sel, .type = type, .present = 1, .dpl = dpl, .db = db, .s = s, .l = l, .g = 1};
	return k;
}

static int set_sregs(void)
{
	struct kvm_sregs s = sregs0;
	struct kvm_segment null = {.unusable = 1, .type = 3, .s = 1};
	u64 tss = HIGH + G_TSS;

	put64(G_GDT + K_CS, 0x00af9b000000ffff);
	put64(G_GDT + K_SS, 0x00cf93000000ffff);
	put64(G_GDT + 0x20, 0x00cffb000000ffff);
	put64(G_GDT + 0x28, 0x00cff3000000ffff);
	put64(G_GDT + 0x30, 0x00affb000000ffff);
	put64(G_GDT + TSS_SEL, 0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
	put64(G_GDT + TSS_SEL + 8, tss >> 32);
	put64(G_TSS + 4, HIGH + G_STACK);
	put64(G_TSS + 0x60, 0x68ull << 48); /* the I/O bit map lies beyond the limit: every port faults */
	s.cs = seg(K_CS, 11, 0, true, false, true);
	s.ss = seg(K_SS, 3, 0, false, true, true);
	s.ds = s.es = s.fs = s.gs = null;
	if (code_bits == 32) {
		s.ds = s.es = seg(SEL_DATA, 3, 3, false, true, true);
		s.fs = seg(SEL_FS32, 3, 3, false, true, true);
	}
	s.tr = (struct kvm_segment){.base = tss, .limit = 0x67, .selector = TSS_SEL, .type = 11, .present = 1};
	s.ldt = (struct kvm_segment){.unusable = 1, .type = 2};
	s.gdt.base = HIGH + G_GDT;
	s.gdt.limit = 0x4f;
	s.idt.base = HIGH + G_IDT;
	s.idt.limit = 0x1ff;
	s.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	s.cr3 = 0x1000;
	s.cr4 = 0x6a0; /* PAE PGE OSFXSR OSXMMEXCPT */
	if (vcpu_has(1, 2, 26))
		s.cr4 |= 0x40000;
	if (vcpu_has(7, 1, 0) && host_has_fsgsbase())
		s.cr4 |= 0x10000;
	s.efer = 0xd01;
	sregs0 = s;
	return ioctl(vcpu, KVM_SET_SREGS, &s);
}

bool vcpu_has(int leaf, int reg, int bit)
{
	u32 want = leaf == 71 ? 7 : leaf == 0xd1 ? 0xd : leaf >= 0x8000 ? 0x80000000u | (leaf & 0xfff) : (u32)leaf;
	u32 sub = leaf == 71 || leaf == 0xd1 ? 1 : 0;

	if (!cpuid) /* before a vCPU exists, or without one: the host's */ {
		u32 r[4] = {0};
		if (!__get_cpuid_count(want, sub, &r[0], &r[1], &r[2], &r[3]))
			return false;
		return r[reg] >> bit & 1;
	}
	for (u32 i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		u32 r[4] = {e->eax, e->ebx, e->ecx, e->edx};
		if (e->function == want && (!(e->flags & 1) || e->index == sub))
			return r[reg] >> bit & 1;
	}
	return false;
}

static void on_alarm(int sig)
{
	if (run)
		run->immediate_exit = 1;
}

static int boot(void)
{
	struct kvm_xcrs x = {.nr_xcrs = 1};

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs0) || set_sregs())
		return -1;
	x.xcrs[0].value = host_xcr0;
	if (host_xcr0 > 3 && ioctl(vcpu, KVM_SET_XCRS, &x))
		return -1;
	cur_fs = cur_gs = 0;
	fresh = true;
	return 0;
}

int vcpu_start(void)
{
	struct kvm_userspace_memory_region r = {.memory_size = MEM_SIZE};
	struct sigaction sa = {.sa_handler = on_alarm};
	int sz;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0 || (vm = ioctl(kvm, KVM_CREATE_VM, 0)) < 0)
		return -1;
	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (mem == MAP_FAILED)
		return -1;
	r.userspace_addr = (u64)mem;
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r) || (vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) < 0)
		return -1;
	sz = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (sz < 0 || (run = mmap(NULL, sz, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0)) == MAP_FAILED)
		return -1;
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	c->nent = 256;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c) || ioctl(vcpu, KVM_SET_CPUID2, c))
		return -1;
	cpuid = c;
	page_tables();
	handlers();
	sigaction(SIGALRM, &sa, NULL);
	return boot();
}

static void leave(struct outcome *o, const struct kvm_regs *k)
{
	u64 f[6];
	u32 at = (u32)(k->rsp - HIGH);
	u64 cr2;

	if (k->rsp < HIGH || at > MEM_SIZE - sizeof(f)) {
		o->kvm_exit = 1000;
		return;
	}
	memcpy(f, mem + at, sizeof(f));
	memcpy(&cr2, mem + G_CR2, 8);
	o->error = (u32)f[0];
	o->rip = f[1];
	o->rflags = f[3];
	o->gpr[G_SP] = f[4];
	o->cr2 = o->vector == 14 ? cr2 : 0;
}

static void outcome_regs(struct outcome *o, const struct kvm_regs *k)
{
	const u64 v[16] = {k->rax, k->rcx, k->rdx, k->rbx, k->rsp, k->rbp, k->rsi, k->rdi, k->r8, k->r9, k->r10, k->r11, k->r12, k->r13, k->r14,
		k->r15};
	memcpy(o->gpr, v, sizeof(v));
	o->rip = k->rip;
	o->rflags = k->rflags;
}

static int enter(const struct tcase *t)
{
	const u64 *g = t->gpr;
	u64 frame[5] = {t->entry, code_bits == 32 ? SEL_CODE32 : SEL_CODE64, t->rflags | 0x202, g[G_SP], SEL_DATA};
	struct kvm_regs k = {.rax = g[0], .rcx = g[1], .rdx = g[2], .rbx = g[3], .rbp = g[5], .rsi = g[6], .rdi = g[7], .r8 = g[8], .r9 = g[9],
		.r10 = g[10], .r11 = g[11], .r12 = g[12], .r13 = g[13], .r14 = g[14], .r15 = g[15], .rflags = 2};

	memcpy(mem + G_STACK - 0x100, frame, sizeof(frame));
	k.rsp = HIGH + G_STACK - 0x100;
	k.rip = HIGH + G_ENTER;
	for (unsigned i = 0; i < t->npoke; i++)
		memcpy(mem + G_DATA + t->poke[i].off, t->poke[i].data, t->poke[i].len);
	if (fresh || t->fs != cur_fs || t->gs != cur_gs) {
		struct kvm_sregs s = sregs0;
		s.fs.base = cur_fs = t->fs;
		s.gs.base = cur_gs = t->gs;
		fresh = false;
		if (ioctl(vcpu, KVM_SET_SREGS, &s))
			return -1;
	}
	if (ioctl(vcpu, KVM_SET_REGS, &k))
		return -1;
	return t->vec ? ioctl(vcpu, KVM_SET_XSAVE, t->xs) : 0;
}

void vcpu_case(const struct share *sh, const struct tcase *t, struct outcome *o)
{
	struct kvm_regs k;
	int r;

	o->kvm_exit = o->sub = 0;
	o->vector = o->error = 0;
	if (enter(t)) {
		o->kvm_exit = 1001;
		o->sub = errno;
		return;
	}
	run->immediate_exit = 0;
	r = ioctl(vcpu, KVM_RUN, 0);
	if (ioctl(vcpu, KVM_GET_REGS, &k)) {
		o->kvm_exit = 1002;
		return;
	}
	outcome_regs(o, &k);
	if (!r && run->exit_reason == KVM_EXIT_IO && run->io.port >= 0x80 && run->io.port < 0xa0) {
		o->vector = run->io.port - 0x80;
		leave(o, &k);
	} else {
		o->kvm_exit = r ? 1003 : run->exit_reason ? run->exit_reason : 1004;
		o->sub = r ? (u32)errno : run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0;
	}
	o->fs = cur_fs;
	o->gs = cur_gs;
	if (t->bases) {
		struct kvm_sregs s;
		ioctl(vcpu, KVM_GET_SREGS, &s);
		o->fs = s.fs.base;
		o->gs = s.gs.base;
		fresh = true;
	}
	if (t->vec)
		ioctl(vcpu, KVM_GET_XSAVE, o->xs);
	changed(sh->data, mem + G_DATA, o);
	if (o->lo < o->hi)
		memcpy(mem + G_DATA + o->lo, sh->data + o->lo, o->hi - o->lo);
	for (unsigned i = 0; i < t->npoke; i++)
		memcpy(mem + G_DATA + t->poke[i].off, sh->data + t->poke[i].off, t->poke[i].len);
	if (o->kvm_exit)
		boot();
}

void vcpu_batch(const struct share *sh)
{
	alarm(10);
	memcpy(mem + G_DATA, sh->data, DATA_SIZE);
	memcpy(mem + G_CODE, sh->code, CODE_SIZE);
	fresh = true;
}
