/* SPDX-License-Identifier: MIT */
/*
 * Interrupts: STI and MOV SS shadows, NMI and its masking, LAPIC timer in its modes, PIT through the PIC and the IOAPIC, TPR, and
 * string instructions that an interrupt stops. LAPIC registers at 0xfee00000.
 */
#include "guest.h"

#define LAPIC 0xfee00000ul
#define IOAPIC 0xfec00000ul
enum { ID = 0x20, VER = 0x30, TPR = 0x80, EOI = 0xb0, SVR = 0xf0, ISR = 0x100, IRR = 0x200, ICR = 0x300, ICR2 = 0x310, LVTT = 0x320, LINT0 = 0x350,
	LINT1 = 0x360, TMICT = 0x380, TMCCT = 0x390, TDCR = 0x3e0 };

static u32 lr(u32 r) { return read32(LAPIC + r); }
static void lw(u32 r, u32 v) { write32(LAPIC + r, v); }
static void io_write(u32 r, u32 v) { write32(IOAPIC, r); write32(IOAPIC + 16, v); }
static u32 io_read(u32 r) { write32(IOAPIC, r); return read32(IOAPIC + 16); }

static volatile u32 count[256];
static volatile ulong last_ip, last_cx;
static bool on_irq(struct frame *f) { count[f->vec]++; last_ip = f->ip; last_cx = f->cx; lw(EOI, 0); return true; }
static bool on_pic(struct frame *f) { count[f->vec]++; outb(0x20, 0x20); return true; }

static void self(u32 vec) { lw(ICR, 0x40000 | vec); }
static bool wait(unsigned vec, u32 n)
{
	u64 t = rdtsc();

	while (count[vec] < n && rdtsc() - t < 6000000000ull)
		asmv("sti; nop; nop; cli");
	return count[vec] >= n;
}

extern u8 i_sti[], i_ss[], i_rep[];
static volatile u32 nmi_depth, nmi_max, nmi_n;
static bool on_nmi(struct frame *f)
{
	nmi_depth++;
	nmi_n++;
	if (nmi_depth > nmi_max)
		nmi_max = nmi_depth;
	if (nmi_n == 1) {
		lw(ICR, 0x40400); /* another one: waits for IRET */
		for (volatile int n = 0; n < 100; n++)
			;
	}
	nmi_depth--;
	return true;
}

static void shadows(void)
{
	hooks[0x50] = hooks[0x51] = hooks[0x60] = on_irq;
	self(0x50);
	check("IRR", lr(IRR + 0x20) >> 16 & 1, 1);
	asmv(".globl i_sti\ni_sti: sti; nop; nop; cli");
	check("after STI", count[0x50], 1);
	check("one instruction behind STI", last_ip, (ulong)i_sti + 2);
	self(0x50);
	asmv("sti; cli");
	check("STI; CLI lets nothing through", count[0x50], 1);
	asmv("sti; nop; cli");
	check("STI; NOP lets it through", count[0x50], 2);
	self(0x50);
	asmv("mov %%ss, %%eax; pushf; pop %%rcx; or $0x200, %%ecx; push %%rcx; popf\n nop; cli" : : : "eax", "rcx", "cc", "memory");
	check("POPF has no shadow", count[0x50], 3);
	asmv("mov %%ss, %%eax; sti; nop; movl $0x40050, (%0)\n.globl i_ss\ni_ss: nop; cli" : : "r"(LAPIC + ICR) : "eax", "memory");
	check("self IPI while enabled", count[0x50], 4);
	/* Priorities. */
	u32 n = count[0x50];
	self(0x50);
	self(0x60);
	asmv("sti; nop; nop; nop; cli");
	check("both priorities", (count[0x50] - n) * 16 + count[0x60], 16 + 1);
	lw(TPR, 0x50);
	self(0x51);
	asmv("sti; nop; nop; cli");
	check("TPR holds back", count[0x51], 0);
	lw(TPR, 0x4f);
	asmv("sti; nop; nop; cli");
	check("TPR lowered", count[0x51], 1);
	lw(TPR, 0x50);
	self(0x51);
	asmv("mov %0, %%cr8; sti; nop; nop; cli" : : "r"(0ul));
	check("CR8 lowered", count[0x51], 2);
	check("TPR follows CR8", lr(TPR), 0);
}

static void hlt_wakes(void)
{
	self(0x50);
	u32 before = count[0x50];
	asmv("sti; hlt; cli");
	check("STI; HLT wakes", count[0x50], before + 1);
}

static void nmi(void)
{
	hooks[NMI] = on_nmi;
	lw(ICR, 0x40400);
	for (volatile int n = 0; n < 100; n++)
		;
	check("NMIs", nmi_n, 2);
	check("NMI does not nest", nmi_max, 1);
	check("NMI in spite of IF", read_flags() & F_IF, 0);
}

static u8 big[1 << 20];
static void rep(void)
{
	u32 before = count[0x50];

	lw(TDCR, 3);
	lw(LVTT, 0x50 | 0x20000);
	lw(TMICT, 2000);
	ulong n = 0;
	u32 during = 0;
	unsigned k;
	for (k = 0; k < 60 || (!during && k < 40000); k++) { /* the host may be busy: until one came in the middle of it */
		u32 b = count[0x50];
		ulong di = (ulong)big, cx = sizeof(big);
		asmv("sti; nop\n.globl i_rep\ni_rep: rep stosb\n cli" : "+D"(di), "+c"(cx) : "a"(k) : "memory");
		n += di - (ulong)big;
		during += count[0x50] - b;
		for (ulong j = 0; j < sizeof(big); j += 4093)
			if (big[j] != (u8)k)
				n = 1;
	}
	lw(LVTT, 0x10000);
	lw(TMICT, 0);
	check("interrupted REP STOSB is whole", n, k * sizeof(big));
	check("interrupts came", count[0x50] > before && during > 0, 1);
	asmv("sti; nop; nop; cli");
}

static void timers(void)
{
	lw(TDCR, 0xb);
	lw(LVTT, 0x52);
	hooks[0x52] = on_irq;
	lw(TMICT, 1000000000);
	check("current count runs", lr(TMCCT) < 1000000000 && lr(TMCCT) > 0, 1);
	lw(TMICT, 100000);
	check("one-shot", wait(0x52, 1), 1);
	check("one-shot ends at 0", lr(TMCCT), 0);
	u64 t = rdtsc();
	while (rdtsc() - t < 3000000)
		;
	asmv("sti; nop; nop; cli");
	check("one-shot comes once", count[0x52], 1);
	lw(LVTT, 0x52 | 0x20000);
	lw(TMICT, 50000);
	check("periodic", wait(0x52, 5), 1);
	lw(TMICT, 0);
	asmv("sti; nop; nop; cli");
	u32 n = count[0x52];
	t = rdtsc();
	while (rdtsc() - t < 3000000)
		;
	asmv("sti; nop; nop; cli");
	check("count 0 stops it", count[0x52], n);
	lw(LVTT, 0x52 | 0x10000);
	lw(TMICT, 1000);
	t = rdtsc();
	while (rdtsc() - t < 3000000)
		;
	asmv("sti; nop; nop; cli");
	check("masked timer", count[0x52], n);
	if (cpuid(1, 0).c & 1 << 24) {
		lw(LVTT, 0x53 | 0x40000);
		hooks[0x53] = on_irq;
		wrmsr(0x6e0, rdtsc() + 200000000);
		check("TSC deadline armed", rdmsr(0x6e0) != 0, 1);
		check("TSC deadline", wait(0x53, 1), 1);
		check("TSC deadline cleared", rdmsr(0x6e0), 0);
		wrmsr(0x6e0, 1);
		check("TSC deadline in the past", wait(0x53, 2), 1);
		lw(LVTT, 0x10000);
	} else {
		skip("TSC deadline");
	}
}

static void pit_mode(u16 n)
{
	outb(0x43, 0x34);
	outb(0x40, (u8)n);
	outb(0x40, (u8)(n >> 8));
}

static void pit(void)
{
	static const u8 icw[][2] = { { 0x20, 0x11 }, { 0xa0, 0x11 }, { 0x21, 0x70 }, { 0xa1, 0x78 }, { 0x21, 4 }, { 0xa1, 2 }, { 0x21, 1 }, { 0xa1, 1 }, { 0x21, 0xfe }, { 0xa1, 0xff } };

	for (unsigned n = 0; n < sizeof(icw) / 2; n++)
		outb(icw[n][0], icw[n][1]);
	lw(LINT0, 0x700); /* ExtINT */
	hooks[0x70] = on_pic;
	pit_mode(2000);
	check("PIT through the PIC", wait(0x70, 5), 1);
	outb(0x21, 0xff);
	asmv("sti; nop; nop; cli");
	check("PIC mask reads back", inb(0x21), 0xff);
	lw(LINT0, 0x10700);
	check("IOAPIC pins", io_read(1) >> 16 & 0xff, 23);
	hooks[0x54] = on_irq;
	io_write(0x15, (lr(ID) >> 24) << 24);
	io_write(0x14, 0x54);
	check("PIT through the IOAPIC", wait(0x54, 5), 1);
	io_write(0x14, 0x10054);
	asmv("sti; nop; nop; cli");
	u32 n = count[0x54];
	u64 t = rdtsc();
	while (rdtsc() - t < 20000000)
		;
	asmv("sti; nop; nop; cli");
	check("IOAPIC mask", count[0x54], n);
	outb(0x43, 0x30);
}

/* Registers by every kind of access. */
static void mmio(void)
{
	ulong a = LAPIC + TPR, v, old;

	asmv("movl $0x20, (%0)" : : "r"(a) : "memory");
	check("TPR by MOV imm", lr(TPR), 0x20);
	v = 0x30;
	asmv("xchg %k0, (%1)" : "+r"(v) : "r"(a) : "memory");
	check("XCHG gives the old", v, 0x20);
	check("XCHG sets the new", lr(TPR), 0x30);
	asmv("orl $0xc0, (%0)" : : "r"(a) : "memory");
	check("OR", lr(TPR), 0xf0);
	asmv("andl $0x7f, (%0)" : : "r"(a) : "memory");
	check("AND", lr(TPR), 0x70);
	asmv("lock addl $0x10, (%0)" : : "r"(a) : "memory");
	check("LOCK ADD", lr(TPR), 0x80);
	asmv("lock cmpxchgl %2, (%1)" : "=a"(old) : "r"(a), "r"(0x40), "0"(0x80ul) : "memory");
	check("CMPXCHG", lr(TPR), 0x40);
	asmv("lock xaddl %k0, (%1)" : "=r"(v) : "r"(a), "0"(0x10ul) : "memory");
	check("XADD", lr(TPR) * 0x1000 + v, 0x50040);
	asmv("notl (%0)" : : "r"(a) : "memory");
	check("NOT: 8 bits are kept", lr(TPR), 0xaf);
	u32 buf[4] = { 0x10 };
	ulong si = (ulong)buf, di = a;
	asmv("movsl" : "+S"(si), "+D"(di) : : "memory");
	check("MOVS to", lr(TPR), 0x10);
	si = a;
	di = (ulong)(buf + 1);
	asmv("movsl" : "+S"(si), "+D"(di) : : "memory");
	check("MOVS from", buf[1], 0x10);
	di = a;
	asmv("stosl" : "+D"(di) : "a"(0x60) : "memory");
	check("STOS", lr(TPR), 0x60);
	si = a;
	asmv("lodsl" : "+S"(si), "=a"(v) : : "memory");
	check("LODS", (u32)v, 0x60);
	asmv("cmpl $0x60, (%1); sete %b0" : "=q"(v) : "r"(a));
	check("CMP", v & 1, 1);
	asmv("testl $0x20, (%1); setnz %b0" : "=q"(v) : "r"(a));
	check("TEST", v & 1, 1);
	asmv("btl $5, (%1); setc %b0" : "=q"(v) : "r"(a));
	check("BT", v & 1, 1);
	asmv("imul $2, (%1), %k0" : "=r"(v) : "r"(a));
	check("IMUL", (u32)v, 0xc0);
	asmv("xor %%eax, %%eax; cmp %%eax, %%eax; cmove (%1), %k0" : "=r"(v) : "r"(a) : "eax");
	check("CMOV", (u32)v, 0x60);
	lw(TPR, 0);
	check("version", (lr(VER) & 0xf0), 0x10);
	check("reserved register reads 0", lr(0x40), 0);
	check("IOAPIC select reads back", (write32(IOAPIC, 2), read32(IOAPIC)), 2);
}

void test(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	lw(SVR, 0x1ff);
	lw(LINT0, 0x10000);
	mmio();
	shadows();
	hlt_wakes();
	nmi();
	timers();
	pit();
	rep();
}
