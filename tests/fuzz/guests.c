/* SPDX-License-Identifier: MIT */
/*
 * Guest code, state and page tables, run by both engines from the same beginning. The first record is the mode and what memory holds; the others
 * append code (bytes as they are, instructions with memory operands, loops), change registers, page tables, memory, slots, and queue events.
 *
 * RAM is slots of four pages whose host pages lie apart, each between pages that hold a pattern. Wrong is: a pattern that changed, an exit that is not
 * one, an error of KVM_RUN other than EINTR, and another end under the translator than under the interpreter: exits on the way, registers,
 * memory. A guest that a tick stopped, or that ends differently when it runs again (it reads the time), has no end to compare. Arithmetic
 * flags that the translator knows to be dead may differ in the frame of an exception (docs/translate.md); so with one exception such
 * differences do not count, and after more of them only the rest of the rules does.
 */
#include "session.h"

#include "base/log.h"
#include "base/process.h"
#include "usekvm/device.h"
#include "usekvm/stats.h"

#define PG 4096u
#define SLOT_PAGES 4u
#define SLOTS 16u
#define RAM (SLOTS * SLOT_PAGES * PG)
#define PITCH ((SLOT_PAGES + 1) * PG)
#define TOP 0xfffff000u /* one page more */
#define CODE 0x4000u
#define CODE_SIZE 0x3000u
#define HANDLERS 0x8000u
#define TABLES 0x30000u /* eight pages: of each mode, top level last */
#define IDT 0x3c000u
#define GDT 0x3d000u
#define TSS 0x3e000u
#define EXITS 64u

enum mode { REAL, V86, PROT16, PROT32, PAGED, PAE, LONG, COMPAT, MODES };
#define STEP_TICKS 3

struct outcome {
	bool finished;
	unsigned nexits, exceptions;
	u32 exit[EXITS + 1];
	u64 detail[EXITS + 1]; /* address, size, data of ports */
	u64 written[EXITS + 1]; /* to MMIO: maybe the frame of an exception */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_debugregs debug;
	u8 ram[RAM + PG];
};

static struct outcome out[2];
static u8 *host, *image;
static int sys_fd, stat_exceptions = -1;
static struct kvm_cpuid2 *cpuid;
static size_t run_size;

/* ---- memory ---- */

static u8 pattern(size_t at)
{
	return (u8)(at * 31 + (at >> 12) * 7 + 0x5a);
}

/* Where guest page n is: the slots' host memory is not in order. */
static u8 *slot_host(unsigned slot)
{
	return host + PG + (size_t)(slot == SLOTS ? SLOTS : slot * 7 % SLOTS) * PITCH;
}

static u8 *ram(u32 gpa)
{
	return image + gpa % (RAM + PG);
}

static void check_patterns(void)
{
	for (unsigned s = 0; s <= SLOTS + 1; s++) {
		size_t at = s * (size_t)PITCH;

		for (size_t k = at; k < at + PG; k++)
			if (host[k] != pattern(k))
				fuzz_fail("memory beside the slots changed, at %#zx of the host's", k);
	}
}

static u64 state;

static u64 rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static u64 entry(unsigned width)
{
	u64 e = (rnd() % (RAM / PG)) * PG | (rnd() & 0x67) | 1;

	switch (rnd() % 24) {
	case 0: return width == 4 ? (u32)rnd() : rnd();
	case 1: return e | 0x80;
	case 2: return e & ~1ull;
	case 3: return TOP | 7;
	case 4: return 0xfee00000 | 7;
	case 5: return width == 8 ? e | 1ull << (rnd() & 1 ? 63 : 40 + rnd() % 12) : e;
	}
	return e | 6;
}

static void fill(const struct record *r)
{
	state = field32(r->data) * 0x9e3779b97f4a7c15ull | 1;
	memset(image, 0, RAM + PG);
	for (u32 p = 0; p < RAM / PG + 1; p++) {
		u64 *q = (u64 *)(image + p * PG);

		switch (r->pick & 8 ? (unsigned)(rnd() % 4) : r->pick & 7) {
		case 0: break;
		case 1:
			for (u32 k = 0; k < PG / 8; k++)
				q[k] = rnd();
			break;
		case 2:
			for (u32 k = 0; k < PG / 8; k++)
				q[k] = entry(8);
			break;
		case 3:
			for (u32 k = 0; k < PG / 4; k++)
				((u32 *)q)[k] = (u32)entry(4);
			break;
		default: /* descriptors and gates with plausible types */
			for (u32 k = 0; k < PG / 8; k++)
				q[k] = (rnd() & ~(0xf0ull << 40)) | 0x80ull << 40 | (rnd() & 0x70ull << 40);
		}
	}
}

static void put64(u32 at, u64 v)
{
	memcpy(ram(at), &v, 8);
}

static void put32(u32 at, u64 v)
{
	memcpy(ram(at), &v, 4);
}

/* RAM one to one, and the rest of the first 2 MiB where nothing is, which are MMIO; 4 KiB pages. */
static void tables(enum mode mode)
{
	bool wide = mode >= PAE;

	memset(ram(TABLES), 0, 8 * PG);
	for (u32 k = 0; k < 512; k++)
		if (wide)
			put64(TABLES + k * 8, k * PG | 7);
		else
			put32(TABLES + k * 4, k * PG | 7);
	if (!wide) {
		put32(TABLES + PG, TABLES | 7);
		put32(TABLES + PG + 4, TABLES | 7);
		put32(TABLES + 2 * PG - 4, TABLES | 7);
		return;
	}
	put64(TABLES + PG, TABLES | 7);
	put64(TABLES + 2 * PG - 8, TABLES | 7);
	put64(TABLES + 2 * PG, (TABLES + PG) | (mode == PAE ? 1 : 7));
	put64(TABLES + 3 * PG - 8, (TABLES + PG) | 7);
	put64(TABLES + 3 * PG, (TABLES + 2 * PG) | 7);
	put64(TABLES + 4 * PG - 8, (TABLES + 2 * PG) | 7);
}

/* 0x08 code, 0x10 data, 0x1b and 0x23 the user's, of the mode's size; 0x28 the TSS. Each exception stops at a HLT of its own, ring 0. */
static void descriptors(enum mode mode)
{
	u64 size = mode == PROT16 ? 0 : mode == LONG ? 1ull << 53 : 1ull << 54;
	bool wide = mode >= LONG;

	put64(GDT + 8, 0x008f9b000000ffff | (wide ? 1ull << 53 : size));
	put64(GDT + 16, 0x008f93000000ffff | (mode == PROT16 ? 0 : 1ull << 54));
	put64(GDT + 24, 0x008ffb000000ffff | size);
	put64(GDT + 32, 0x008ff3000000ffff | (mode == PROT16 ? 0 : 1ull << 54));
	put64(GDT + 40, 0x00008b0000000067 | (u64)(TSS & 0xffffff) << 16);
	put64(GDT + 48, 0);
	memset(ram(TSS), 0, 0x68);
	put32(TSS + 4, 0x2f000); /* ESP0, RSP0 */
	if (wide)
		put64(TSS + 4, 0x2f000);
	put32(TSS + 8, 0x10);
	for (u32 v = 0; v < 32; v++) {
		u32 at = HANDLERS + v * 4;

		put32(at, 0x00fdebf4); /* hlt; jmp back */
		if (mode == REAL)
			put32(v * 4, at & 0xffff);
		else if (wide)
			put64(IDT + v * 16, (at & 0xffff) | 8ull << 16 | 0x8eull << 40), put64(IDT + v * 16 + 8, 0);
		else
			put64(IDT + v * 8, (at & 0xffff) | 8ull << 16 | (mode == PROT16 ? 0x86ull : 0x8eull) << 40);
	}
}

/* ---- code ---- */

static u32 code_at;

static void emit(const u8 *b, u32 n)
{
	if (n > CODE + CODE_SIZE - code_at)
		n = CODE + CODE_SIZE - code_at;
	memcpy(ram(code_at), b, n);
	code_at += n;
}

static const struct { u8 n, b[4]; } opcodes[] = {
	{1, {0x8b}}, {1, {0x89}}, {1, {0x01}}, {1, {0x03}}, {1, {0x29}}, {1, {0x39}}, {1, {0x31}}, {1, {0x87}}, {2, {0xf0, 0x01}}, {2, {0xf0, 0x87}}, {1, {0xff}},
	{1, {0x8f}}, {1, {0x8e}}, {1, {0x8c}}, {2, {0x0f, 0x01}}, {2, {0x0f, 0x00}}, {2, {0x0f, 0xae}}, {2, {0x0f, 0xc7}}, {3, {0xf0, 0x0f, 0xc7}},
	{3, {0x48, 0x0f, 0xc7}}, {2, {0x0f, 0xab}}, {2, {0x0f, 0xa3}}, {2, {0x0f, 0xbb}}, {2, {0x0f, 0x10}}, {2, {0x0f, 0x11}}, {2, {0x0f, 0x29}},
	{3, {0x66, 0x0f, 0x7f}}, {3, {0xf3, 0x0f, 0x6f}}, {3, {0xc5, 0xfe, 0x7f}}, {3, {0xc5, 0xfc, 0x10}}, {1, {0xd9}}, {1, {0xdd}}, {1, {0xdb}}, {1, {0xdf}},
	{2, {0x0f, 0xb0}}, {2, {0x0f, 0xb1}}, {2, {0x0f, 0xc1}}, {2, {0x66, 0x89}}, {2, {0x48, 0x89}}, {2, {0x48, 0x8b}}, {2, {0x48, 0x01}}, {2, {0x48, 0xff}},
	{2, {0x0f, 0xb6}}, {2, {0x0f, 0xbe}}, {2, {0x0f, 0xb7}}, {2, {0x0f, 0xaf}}, {2, {0x48, 0x63}}, {1, {0x8d}}, {2, {0x48, 0x8d}}, {1, {0x69}}, {1, {0x81}},
	{1, {0x83}}, {1, {0xc1}}, {1, {0xd3}}, {1, {0xf7}}, {1, {0xc7}}, {1, {0x88}}, {1, {0x8a}}, {1, {0x84}}, {2, {0x0f, 0x44}}, {2, {0x0f, 0x4c}},
	{2, {0x0f, 0x95}}, {3, {0x0f, 0x38, 0xf0}}, {2, {0x0f, 0xc3}}, {2, {0x0f, 0xba}}, {1, {0x62}}, {1, {0xc4}}, {2, {0x0f, 0xb2}}, {2, {0x0f, 0x22}},
	{2, {0x0f, 0x20}}, {2, {0x0f, 0x23}}, {2, {0x0f, 0x02}}, {3, {0x66, 0x0f, 0xef}}, {3, {0x66, 0x0f, 0x6f}}, {3, {0xf3, 0x0f, 0xb8}}, {2, {0x0f, 0xbc}},
};
static const u8 singles[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f, 0x50, 0x58, 0x51, 0x5b, 0x60, 0x61, 0x9c, 0x9d, 0xc3,
	0xcb, 0xcf, 0xcc, 0xce, 0xc9, 0xd7, 0xfa, 0xfb, 0xfc, 0xfd, 0xf1, 0xec, 0xee, 0x54, 0x5c, 0x90, 0x06, 0x07, 0x1e, 0x1f, 0x98, 0x99, 0xf5, 0xf8, 0xf9,
	0x9e, 0x9f, 0x40, 0x4b, 0x37, 0x3f};

static void instruction(const struct record *r)
{
	static const u8 prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3, 0x48, 0x44, 0x4c, 0x41, 0x66, 0x66};
	const u8 *d = r->data;
	u8 b[24];
	u32 n = 0;

	if (d[0] < 50)
		b[n++] = prefixes[d[1] & 15];
	if (r->pick < 64) {
		if (d[0] > 200)
			b[n++] = d[0] & 1 ? 0xf3 : 0xf2;
		b[n++] = singles[d[2] % sizeof(singles)];
	} else {
		u32 o = r->pick % (sizeof(opcodes) / sizeof(opcodes[0]));

		memcpy(b + n, opcodes[o].b, opcodes[o].n);
		n += opcodes[o].n;
		memcpy(b + n, d + 3, 1 + (d[2] & 7));
		if (d[2] & 0x40)
			b[n] &= 0x7f;
		n += 1 + (d[2] & 7);
	}
	emit(b, n);
}

/* Back to where the code began, or to the middle of it, while a counter runs. */
static void loop_back(const struct record *r, enum mode mode, u32 begin)
{
	u32 to = begin + (r->pick & 1 ? 0 : field16(r->data) % (code_at - begin + 1));
	s32 off;
	u8 b[8] = {0};
	u32 n = 0;

	if (mode < PROT32)
		b[n++] = 0x66;
	b[n++] = 0xff; /* dec ebx */
	b[n++] = 0xcb;
	if (mode < PROT32)
		b[n++] = 0x66;
	b[n++] = 0x0f;
	b[n++] = (u8)(r->pick & 2 ? 0x85 : 0x80 | (r->pick >> 4));
	off = (s32)to - (s32)(code_at + n + 4);
	emit(b, n);
	emit((u8 *)&off, 4);
}

static u64 address(const u8 *d)
{
	switch (d[0] & 15) {
	case 0: return field64(d + 1);
	case 1: return TOP + field16(d + 1) % PG;
	case 2: return 0xfee00000 + (field16(d + 1) & 0xfff);
	case 3: return RAM - (d[1] & 63);
	case 4: return ~0ull - (d[1] & 63);
	case 5: return 0x7ffffffffff0 + (d[1] & 31);
	case 6: return field32(d + 1);
	case 7: return CODE + field16(d + 1) % CODE_SIZE;
	case 8: return TABLES + (field16(d + 1) & 0x7fff);
	case 9: return d[1];
	case 10: return (u64)RAM + field16(d + 1);
	default: return (u64)(d[1] & 63) * PG + (d[0] & 0x80 ? PG - (d[2] & 31) : field16(d + 2) & 0xfff);
	}
}

/* ---- an input ---- */

static struct kvm_regs regs;
static struct kvm_sregs sregs;
static struct kvm_vcpu_events ev;
static struct kvm_fpu fpu;
static enum mode mode;
static u32 slot_flags[SLOTS + 1];
static struct { struct kvm_msrs h; struct kvm_msr_entry e[8]; } msr;

static void begin_state(const struct record *r)
{
	struct kvm_segment data = kt_seg(3, r->how & 1 && mode != PROT16 ? 0x23 : 0x10, mode != PROT16, 0);
	bool user = r->how & 1 && mode >= PROT32;

	regs = (struct kvm_regs){.rip = CODE, .rsp = 0x2e000, .rflags = 2 | (r->how & 0x80 ? 0x100 : 0), .rbx = 3 + r->data[5] % 60u};
	for (unsigned i = 0; i < 7; i++) /* the others are pointers to begin with */
		((u64 *)&regs)[(const u8[]){0, 2, 3, 4, 5, 8, 9}[i]] = address(r->data + 6 + 3 * i);
	sregs.cs = kt_seg(11, user ? 0x1b : 8, mode != PROT16 && mode != LONG, mode == LONG);
	if (user)
		sregs.cs.dpl = data.dpl = 3;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0xfff;
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 0x7f;
	sregs.tr = (struct kvm_segment){.base = TSS, .limit = 0x67, .selector = 0x28, .type = 0xb, .present = 1};
	sregs.ldt = (struct kvm_segment){.unusable = 1};
	sregs.cr0 = 0x31;
	sregs.cr4 = 0x600;
	sregs.efer = r->how & 0x40 ? 0x800 : 0;
	if (mode == REAL || mode == V86) {
		struct kvm_segment *all[] = {&sregs.cs, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss};

		for (unsigned k = 0; k < 6; k++)
			*all[k] = (struct kvm_segment){.limit = 0xffff, .type = 3, .present = 1, .s = 1, .dpl = mode == V86 ? 3 : 0};
		sregs.ss.selector = 0x2000, sregs.ss.base = 0x20000;
		sregs.idt.base = mode == REAL ? 0 : IDT;
		regs.rsp &= 0xffff;
		sregs.cr0 = mode == REAL ? 0x10 : 0x31;
		regs.rflags |= mode == V86 ? 0x20000 : 0;
	}
	if (mode >= PAGED || mode == V86) {
		sregs.cr0 |= 0x80000000 | (r->how & 0x10 ? 0x10000 : 0);
		sregs.cr4 |= (mode >= PAE ? 0x20 : 0) | (r->how & 0x20 ? 0x90 : 0);
		sregs.cr3 = TABLES + (mode < PAE ? PG : mode == PAE ? 2 * PG : 3 * PG);
		if (mode >= LONG)
			sregs.efer |= 0x501;
	}
}

static void first(const struct record *r)
{
	static const u32 rooms[] = {0, 0, 0, 0, 0, 1, 4000, 20000};

	mode = (enum mode)(r->obj % MODES);
	process_code_cache = rooms[r->obj >> 3 & 7];
	process_tlb_drop = r->obj >> 6 == 3 ? 3 : 0;
	fill(r);
	if (mode >= PAGED || mode == V86)
		tables(mode);
	descriptors(mode);
	code_at = CODE;
	memset(ram(CODE), 0xf4, CODE_SIZE);
	memset(&sregs, 0, sizeof(sregs));
	memset(&ev, 0, sizeof(ev));
	memset(&fpu, 0, sizeof(fpu));
	fpu.fcw = 0x37f;
	fpu.mxcsr = 0x1f80;
	memset(slot_flags, 0, sizeof(slot_flags));
	msr.h.nmsrs = 0;
	begin_state(r);
}

static void table_change(const struct record *r)
{
	u32 width = mode >= PAE ? 8 : 4, at = TABLES + (u32)(r->obj & 3) * PG + (field16(r->data) % (r->obj & 4 ? 8 : PG / width)) * width;
	u64 e = r->data[2] & 1 ? field64(r->data + 4) : ((u64)(r->data[3] & 63) * PG | (r->data[4] | 1));

	if (r->data[2] & 2)
		e |= (u64)r->data[5] << 56;
	memcpy(ram(at), &e, width);
}

/* A segment, a control register or a table register: what KVM_SET_SREGS does not take is left as it was. */
static void state_change(const struct record *r)
{
	const u8 *d = r->data;
	struct kvm_segment *g = &sregs.cs + d[0] % 8;

	switch (r->obj & 7) {
	case 0: g->base = mode >= LONG ? address(d + 1) : (u32)address(d + 1); break;
	case 1: g->limit = (u32)address(d + 1), g->g = g->limit > 0xfffff, g->limit |= g->g ? 0xfff : 0; break;
	case 2: g->selector = field16(d + 1); break;
	case 3: g->type = d[1] & 15; break;
	case 4: sregs.cr4 ^= 1ull << (d[1] % 23); break;
	case 5: sregs.cr0 ^= 1ull << (d[1] & 31); break;
	case 6: (d[0] & 1 ? &sregs.idt : &sregs.gdt)->base = address(d + 1), (d[0] & 1 ? &sregs.idt : &sregs.gdt)->limit = field16(d + 10); break;
	default: sregs.cr3 = address(d + 1) & 0xfffff000;
	}
}

static void event_change(const struct record *r)
{
	const u8 *d = r->data;

	switch (r->obj & 3) {
	case 0:
		ev.exception.injected = 1;
		ev.exception.nr = d[0] % 31;
		ev.exception.has_error_code = d[1] & 1;
		ev.exception.error_code = d[2];
		break;
	case 1: ev.nmi.pending = 1, ev.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING; break;
	case 2: ev.interrupt.injected = 1, ev.interrupt.nr = d[0], ev.interrupt.soft = d[1] & 1; break;
	default: ev.interrupt.shadow = d[0] & 3, ev.flags |= KVM_VCPUEVENT_VALID_SHADOW;
	}
}

static void next(const struct record *r)
{
	static const u32 msrs[] = {0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000102, 0xc0000103};
	const u8 *d = r->data;

	switch (r->op & 15) {
	case 0:
	case 1: emit(d, 1 + r->pick % 24u); break;
	case 2:
	case 3:
	case 4:
	case 5:
	case 6: instruction(r); break;
	case 7: loop_back(r, mode, CODE); break;
	case 8:
	case 9: ((u64 *)&regs)[r->obj & 15] = address(d); break;
	case 10:
		if (mode >= PAGED || mode == V86)
			table_change(r);
		break;
	case 11: memcpy(ram((u32)address(d) % (RAM + PG - 16)), d + 10, 16); break;
	case 12: state_change(r); break;
	case 13: event_change(r); break;
	case 14:
		if (r->pick & 1)
			slot_flags[d[0] % (SLOTS + 1)] = d[1] & 3;
		else if (msr.h.nmsrs < 8)
			msr.e[msr.h.nmsrs++] = (struct kvm_msr_entry){.index = msrs[d[0] & 7], .data = address(d + 1)};
		break;
	default:
		if (r->pick & 1)
			regs.rflags = (regs.rflags & 0x20002) | (field32(d) & 0x240dd5) | (r->pick & 2 ? field32(d) & 0x7000 : 0);
		else
			memcpy((u8 *)&fpu + (d[0] & 1 ? 160 : 0) + d[1] % 100, d + 8, 16);
	}
}

/* ---- a run ---- */

static int exceptions_of(int vm)
{
	struct kvm_create_device cd = {.type = USEKVM_DEV_TYPE_STATS};
	u64 n = 0;
	struct kvm_device_attr a = {.group = USEKVM_STATS_VM, .attr = (u64)stat_exceptions, .addr = (u64)&n};

	REQUIRE(ioctl(vm, KVM_CREATE_DEVICE, &cd) == 0);
	if (stat_exceptions < 0) {
		char name[48];
		struct kvm_device_attr q = {.group = USEKVM_STATS_NAME, .addr = (u64)name};

		while (ioctl((int)cd.fd, KVM_GET_DEVICE_ATTR, &q) == 0 && strcmp(name, "exceptions"))
			q.attr++;
		REQUIRE(!strcmp(name, "exceptions"));
		stat_exceptions = (int)q.attr;
		a.attr = q.attr;
	}
	REQUIRE(ioctl((int)cd.fd, KVM_GET_DEVICE_ATTR, &a) == 0);
	close((int)cd.fd);
	return (int)n;
}

/* True: go on. */
static bool answer(struct kvm_run *run, struct outcome *o)
{
	u64 what = 0;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		if (!run->mmio.len || run->mmio.len > 8)
			fuzz_fail("MMIO of %u bytes", run->mmio.len);
		if (run->mmio.is_write)
			memcpy(&o->written[o->nexits], run->mmio.data, run->mmio.len);
		what = run->mmio.phys_addr * 7 + run->mmio.len + (u64)run->mmio.is_write * 1000;
		memset(run->mmio.data, (int)(o->nexits * 37 + 11), 8);
		break;
	case KVM_EXIT_IO:
		if (run->io.data_offset + (u64)run->io.size * run->io.count > run_size || !run->io.count || !run->io.size || run->io.size > 4 || run->io.size == 3)
			fuzz_fail("I/O of %u times %u bytes at %#llx", run->io.count, run->io.size, run->io.data_offset);
		what = run->io.port | (u64)run->io.size << 16 | (u64)run->io.direction << 24 | (u64)run->io.count << 32;
		if (run->io.direction == KVM_EXIT_IO_OUT)
			for (u32 k = 0; k < run->io.size * run->io.count; k++)
				what = what * 31 + ((u8 *)run)[run->io.data_offset + k];
		else
			memset((u8 *)run + run->io.data_offset, (int)(o->nexits * 37 + 11), (size_t)run->io.size * run->io.count);
		break;
	case KVM_EXIT_HLT:
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_DEBUG:
	case KVM_EXIT_INTERNAL_ERROR:
		o->finished = true;
		break;
	default:
		fuzz_fail("exit reason %u", run->exit_reason);
	}
	o->exit[o->nexits] = run->exit_reason;
	o->detail[o->nexits++] = what;
	return !o->finished && o->nexits < EXITS;
}

static void load(int vm)
{
	for (unsigned s = 0; s <= SLOTS; s++) {
		u32 size = (s < SLOTS ? SLOT_PAGES : 1) * PG, gpa = s < SLOTS ? s * SLOT_PAGES * PG : TOP;

		memcpy(slot_host(s), image + s * SLOT_PAGES * PG, size);
		REQUIRE(kt_slot(vm, s, slot_flags[s], gpa, size, slot_host(s)) == 0);
	}
}

static void set_state(int vcpu)
{
	struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{0, 0, 7}}};
	struct kvm_sregs plain, s = sregs;

	REQUIRE(ioctl(vcpu, KVM_SET_CPUID2, cpuid) == 0);
	ioctl(vcpu, KVM_SET_XCRS, &x);
	ioctl(vcpu, KVM_GET_SREGS, &plain);
	s.apic_base = plain.apic_base;
	ioctl(vcpu, KVM_SET_MSRS, &msr);
	if (ioctl(vcpu, KVM_SET_SREGS, &s) && errno != EINVAL)
		fuzz_fail("KVM_SET_SREGS gives errno %d (%s)", errno, strerror(errno));
	REQUIRE(ioctl(vcpu, KVM_SET_REGS, &regs) == 0);
	REQUIRE(ioctl(vcpu, KVM_SET_FPU, &fpu) == 0);
	if (ioctl(vcpu, KVM_SET_VCPU_EVENTS, &ev) && errno != EINVAL)
		fuzz_fail("KVM_SET_VCPU_EVENTS gives errno %d (%s)", errno, strerror(errno));
}

static void run_once(enum process_engine engine, struct outcome *o)
{
	int vm, vcpu, r;
	struct kvm_run *run;

	process_engine = engine;
	memset(o, 0, offsetof(struct outcome, ram));
	vm = ioctl(sys_fd, KVM_CREATE_VM, 0ul);
	REQUIRE(vm >= 0);
	load(vm);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
	REQUIRE(vcpu >= 0);
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	REQUIRE(run != MAP_FAILED);
	set_state(vcpu);
	fuzz_ticks(2000);
	do {
		r = ioctl(vcpu, KVM_RUN, 0ul);
		if (r < 0 && errno != EINTR)
			fuzz_fail("KVM_RUN gives errno %d (%s)", errno, strerror(errno));
	} while (r < 0 ? fuzz_ticked < STEP_TICKS : answer(run, o));
	fuzz_ticks(0);
	ioctl(vcpu, KVM_GET_REGS, &o->regs);
	ioctl(vcpu, KVM_GET_SREGS, &o->sregs);
	ioctl(vcpu, KVM_GET_FPU, &o->fpu);
	ioctl(vcpu, KVM_GET_DEBUGREGS, &o->debug);
	o->exceptions = (unsigned)exceptions_of(vm);
	/* What the CPU itself does not keep, or only while an exception waits. */
	o->fpu.last_ip = o->fpu.last_dp = 0;
	o->fpu.last_opcode = 0;
	o->fpu.pad1 = 0;
	o->fpu.pad2 = 0;
	for (unsigned k = 0; k < 8; k++)
		memset(o->fpu.fpr[k] + 10, 0, 6);
	for (unsigned s = 0; s <= SLOTS; s++)
		memcpy(o->ram + s * SLOT_PAGES * PG, slot_host(s), (s < SLOTS ? SLOT_PAGES : 1) * PG);
	munmap(run, run_size);
	close(vcpu);
	close(vm);
	check_patterns();
	fuzz_say("%s: %s after %u exits (%s), %u exceptions, rip %#llx\n", engine == ENGINE_INTERP ? "interp" : "translate", o->finished ? "finished" : "stopped",
		o->nexits, o->nexits ? kt_exit_name(o->exit[o->nexits - 1]) : "none", o->exceptions, o->regs.rip);
}

/* ---- the comparison ---- */

#define DEAD 0x8d5u

static bool dead_byte(u8 x)
{
	return !(x & ~(DEAD & 0xff)) || !(x & ~(DEAD >> 8));
}

static bool bytes_differ(const char *name, const void *a, const void *b, size_t n, char *text, size_t room)
{
	const u8 *p = a, *q = b;

	for (size_t k = 0; k < n; k++)
		if (p[k] != q[k]) {
			snprintf(text, room, "byte %zu of %s: %#x and %#x", k, name, p[k], q[k]);
			return true;
		}
	return false;
}

/* What differs, or NULL. */
static const char *difference(struct outcome *a, struct outcome *b)
{
	static char text[96];
	bool exc = a->exceptions || b->exceptions;

	for (unsigned k = 0; k < EXITS; k++)
		if (a->exit[k] != b->exit[k] || a->detail[k] != b->detail[k]) {
			snprintf(text, sizeof(text), "exit %u: %s, %#llx and %s, %#llx", k, kt_exit_name(a->exit[k]), (unsigned long long)a->detail[k],
				kt_exit_name(b->exit[k]), (unsigned long long)b->detail[k]);
			return text;
		}
	if (!exc && memcmp(a->written, b->written, sizeof(a->written)))
		return "what is written to MMIO";
	if (exc) {
		a->regs.rflags &= ~(u64)DEAD;
		b->regs.rflags &= ~(u64)DEAD;
	}
	for (unsigned k = 0; k < sizeof(a->regs) / 8; k++) {
		u64 x = ((u64 *)&a->regs)[k], y = ((u64 *)&b->regs)[k];

		/* The upper halves of the first eight are nobody's in 32-bit code. */
		if (k < 8 && mode != LONG ? (u32)(x ^ y) : x ^ y) {
			snprintf(text, sizeof(text), "word %u of struct kvm_regs: %#llx and %#llx", k, (unsigned long long)x, (unsigned long long)y);
			return text;
		}
	}
	if (bytes_differ("struct kvm_sregs", &a->sregs, &b->sregs, sizeof(a->sregs), text, sizeof(text)) ||
		bytes_differ("struct kvm_fpu", &a->fpu, &b->fpu, sizeof(a->fpu), text, sizeof(text)) ||
		bytes_differ("struct kvm_debugregs", &a->debug, &b->debug, sizeof(a->debug), text, sizeof(text)))
		return text;
	for (u32 k = 0; k < sizeof(a->ram); k++)
		if (a->ram[k] != b->ram[k] && !(exc && dead_byte(a->ram[k] ^ b->ram[k]))) {
			snprintf(text, sizeof(text), "memory at %#x: %#x and %#x", k, a->ram[k], b->ram[k]);
			return text;
		}
	return NULL;
}

static const char *both(void)
{
	run_once(ENGINE_INTERP, &out[0]);
	run_once(ENGINE_TRANSLATE, &out[1]);
	if (!out[0].finished || !out[1].finished || out[0].exceptions > 1 || out[1].exceptions > 1)
		return NULL;
	return difference(&out[0], &out[1]);
}

/* Does it always end so? */
static bool repeats(enum process_engine engine)
{
	run_once(engine, &out[0]);
	run_once(engine, &out[1]);
	return out[0].finished && out[1].finished && !difference(&out[0], &out[1]);
}

static void run(const struct record *r, unsigned n)
{
	char text[128];
	const char *what;

	if (!n)
		return;
	first(r);
	for (unsigned i = 1; i < n; i++)
		next(&r[i]);
	if (fuzz_verbose)
		for (u32 k = CODE; k < code_at; k++)
			fprintf(stderr, "%02x%s", *ram(k), k + 1 < code_at ? " " : "\n");
	what = both();
	if (!what)
		return;
	snprintf(text, sizeof(text), "%s", what);
	if (repeats(ENGINE_INTERP) && repeats(ENGINE_TRANSLATE) && both())
		fuzz_fail("the engines differ in %s (mode %d)", text, mode);
}

static void start(void)
{
	static u8 room[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
	size_t size = PG + (SLOTS + 2) * (size_t)PITCH;
	const char *bad;

	log_configure("none", &bad);
	host = kt_pages(size);
	for (size_t k = 0; k < size; k++)
		host[k] = pattern(k);
	image = kt_pages(RAM + PG);
	sys_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	REQUIRE(sys_fd >= 0);
	run_size = (size_t)ioctl(sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0ul);
	cpuid = (void *)room;
	cpuid->nent = 256;
	REQUIRE(ioctl(sys_fd, KVM_GET_SUPPORTED_CPUID, cpuid) == 0);
}

const struct fuzzer fuzzer = {"guests", start, run};
