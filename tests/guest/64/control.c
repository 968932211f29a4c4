/* SPDX-License-Identifier: MIT */
/*
 * Control registers, EFER and MSRs: what may be set, what may change when, and what #GP answers; XSETBV and XSAVE; CPUID.OSXSAVE;
 * IRET and far transfers between 64-bit, compatibility and 16-bit code; interrupt stacks (IST), double fault.
 */
#include "guest.h"

#define EFER 0xc0000080
static ulong v1;
static long cr0(ulong v) { v1 = v; return TRY(ulong c = read_cr0(); write_cr0(v1); write_cr0(c)); }
static long cr3(ulong v) { v1 = v; return TRY(write_cr3(v1)); }
static long cr4(ulong v) { v1 = v; return TRY(write_cr4(v1)); }
static u32 m1;
static u64 mv;
static long msr(u32 m, u64 v) { m1 = m; mv = v; return TRY(wrmsr(m1, mv)); }
static long msr_read(u32 m) { m1 = m; return TRY(mv = rdmsr(m1)); }
static long xcr(u32 n, u64 v) { m1 = n; mv = v; return TRY(asmv("xsetbv" : : "c"(m1), "a"((u32)mv), "d"((u32)(mv >> 32)))); }
static void u_xsetbv(void) { asmv("xsetbv" : : "c"(0), "a"(1), "d"(0)); }
static void u_fpu(void) { asmv("fnop"); }

static void control(void)
{
	ulong c0 = read_cr0(), c4 = read_cr4(), c3 = read_cr3();

	check_exc("CR0 high half", cr0(c0 | 1ul << 32), GP, 0);
	if (cpuid(0x40000000, 0).b == 0x54474354) { /* QEMU's emulator checks none of these, and is lost then */
		skip("CR3 reserved bits");
		skip("CR0 PG without PE");
		skip("CR0 paging off in 64-bit mode");
	} else {
		check_exc("CR3 reserved bits", cr3(c3 | 1ul << 52), GP, 0);
		check_exc("CR0 PG without PE", cr0(c0 & ~1ul), GP, 0);
		check_exc("CR0 paging off in 64-bit mode", cr0(c0 & ~0x80000000ul), GP, 0);
	}
	check_exc("CR0 NW without CD", cr0(c0 | 1ul << 29), GP, 0);
	check_exc("CR0 CD", cr0(c0 | 1ul << 30), NONE, 0);
	write_cr0(c0);
	check("CR0 ET stays", (write_cr0(c0 & ~0x10ul), read_cr0()), c0 | 0x10);
	check_exc("CR4 reserved bit", cr4(c4 | 1ul << 31), GP, 0);
	check_exc("CR4 high half", cr4(c4 | 1ul << 40), GP, 0);
	check_exc("CR4 PAE off in long mode", cr4(c4 & ~0x20ul), GP, 0);
	check_exc("CR4 VMXE", cpuid(1, 0).c & 1 << 5 ? GP : cr4(c4 | 1ul << 13), GP, 0);
	check_exc("MOV CR1", TRY(asmv(".byte 0x0f, 0x20, 0xc8")), UD, 0);
	check_exc("MOV CR5", TRY(asmv(".byte 0x0f, 0x20, 0xe8")), UD, 0);
	check_exc("EFER reserved bit", msr(EFER, rdmsr(EFER) | 1ull << 40), GP, 0);
	check_exc("EFER LME off with paging", msr(EFER, rdmsr(EFER) & ~0x100ull), GP, 0);
	check("EFER LMA", rdmsr(EFER) >> 10 & 1, 1);
	check_exc("EFER LMA cannot be written", msr(EFER, rdmsr(EFER) & ~0x400ull), NONE, 0);
	check("EFER LMA stays", rdmsr(EFER) >> 10 & 1, 1);
	check_exc("MSR unknown, read", msr_read(0x4321), GP, 0);
	check_exc("MSR unknown, write", msr(0x4321, 0), GP, 0);
	check_exc("FS base non-canonical", msr(0xc0000100, 1ull << 55), GP, 0);
	check_exc("KERNEL_GS non-canonical", msr(0xc0000102, 1ull << 47), GP, 0);
	check_exc("PAT reserved type", msr(0x277, 2), GP, 0);
	check_exc("PAT", msr(0x277, 0x0007040600070406ull), NONE, 0);
	check_exc("APIC base reserved bit", msr(0x1b, rdmsr(0x1b) | 1), GP, 0);
	check_exc("MTRR default type 2", msr(0x2ff, 2), GP, 0);
	wrmsr(0xc0000102, 0x1234);
	wrmsr(0xc0000101, 0x5678);
	asmv("swapgs");
	check("SWAPGS", rdmsr(0xc0000101) << 16 | rdmsr(0xc0000102), 0x12345678);
	wrmsr(0xc0000101, 0);
	wrmsr(0xc0000103, 0xabcdef);
	if (cpuid(0x80000001, 0).d & 1u << 27) {
		u32 c;
		asmv("rdtscp" : "=c"(c) : : "eax", "edx");
		check("TSC_AUX", c, 0xabcdef);
	}
	u64 t = rdtsc();
	check("TSC goes on", rdtsc() > t, 1);
	wrmsr(0x10, 0x1000);
	check("TSC written", rdtsc() < 0x100000000000ull, 1);
	if (cpuid(7, 0).b & 1) {
		check_exc("FSGSBASE off", TRY(asmv("rdfsbase %%rax" : : : "rax")), UD, 0);
		write_cr4(c4 | 1 << 16);
		asmv("wrfsbase %0" : : "r"(0x7777ul));
		check("WRFSBASE", rdmsr(0xc0000100), 0x7777);
		check_exc("WRFSBASE non-canonical", TRY(asmv("wrfsbase %0" : : "r"(1ul << 50))), GP, 0);
		write_cr4(c4);
	} else {
		skip("FSGSBASE");
	}
}

static void fpu(void)
{
	ulong c0 = read_cr0(), c4 = read_cr4();

	write_cr0(c0 | 8);
	check_exc("TS: x87", TRY(asmv("fnop")), NM, 0);
	check_exc("TS: SSE", TRY(asmv("movaps %%xmm0, %%xmm1" : : )), NM, 0);
	check_exc("TS: WAIT with MP", TRY(asmv("fwait")), NM, 0);
	check_exc("TS: user", try_user(u_fpu, 0), NM, 0);
	write_cr0((c0 | 8) & ~2ul);
	check_exc("TS: WAIT without MP", TRY(asmv("fwait")), NONE, 0);
	write_cr0(c0 | 4);
	check_exc("EM: x87", TRY(asmv("fnop")), NM, 0);
	check_exc("EM: SSE", TRY(asmv("movaps %%xmm0, %%xmm1" : : )), UD, 0);
	write_cr0(c0);
	write_cr4(c4 & ~0x200ul);
	check_exc("no OSFXSR: SSE", TRY(asmv("movaps %%xmm0, %%xmm1" : : )), UD, 0);
	write_cr4(c4);
	static u32 mx = 0xffffffff;
	check_exc("LDMXCSR reserved", TRY(asmv("ldmxcsr %0" : : "m"(mx))), GP, 0);
	static u8 buf[32] __attribute__((aligned(16)));
	check_exc("MOVAPS misaligned", TRY(asmv("movaps %%xmm0, (%0)" : : "r"(buf + 1))), GP, 0);
	asmv("fninit");
	u16 cw = 0x37b; /* zero divide unmasked */
	asmv("fldcw %0" : : "m"(cw));
	check_exc("x87 error with NE", TRY(asmv("fld1; fldz; fdivrp; fwait")), MF, 0);
	asmv("fninit");
	asmv("fldcw %0" : : "m"(cw));
	check_exc("x87 error before MASKMOVQ", TRY(asmv("fld1; fldz; fdivrp; maskmovq %%mm1, %%mm0" : : "D"(buf) : "memory")), MF, 0);
	asmv("fninit");
	mx = 0x1d80; /* zero divide unmasked */
	asmv("ldmxcsr %0" : : "m"(mx));
	check_exc("SIMD error", TRY(asmv("xorps %%xmm1, %%xmm1; pcmpeqd %%xmm0, %%xmm0; psrld $25, %%xmm0; pslld $23, %%xmm0; divss %%xmm1, %%xmm0" : : )), XM, 0);
	write_cr4(c4 & ~0x400ul);
	check_exc("SIMD error without OSXMMEXCPT", TRY(asmv("xorps %%xmm1, %%xmm1; pcmpeqd %%xmm0, %%xmm0; psrld $25, %%xmm0; pslld $23, %%xmm0; divss %%xmm1, %%xmm0" : : )), UD, 0);
	write_cr4(c4);
	mx = 0x1f80;
	asmv("ldmxcsr %0" : : "m"(mx));
	if (!(cpuid(1, 0).c & 1 << 26)) {
		skip("XSAVE");
		return;
	}
	check("OSXSAVE is clear", cpuid(1, 0).c >> 27 & 1, 0);
	check_exc("XGETBV without OSXSAVE", TRY(asmv("xgetbv" : : "c"(0) : "eax", "edx")), UD, 0);
	check_exc("XSETBV without OSXSAVE", xcr(0, 1), UD, 0);
	write_cr4(c4 | 1 << 18);
	check("OSXSAVE follows", cpuid(1, 0).c >> 27 & 1, 1);
	check_exc("XCR0 x87 only", xcr(0, 1), NONE, 0);
	check_exc("XCR0 0", xcr(0, 0), GP, 0);
	check_exc("XCR0 SSE without x87", xcr(0, 2), GP, 0);
	check_exc("XCR0 AVX without SSE", xcr(0, 5), GP, 0);
	check_exc("XCR0 reserved", xcr(0, 1ull << 62 | 3), GP, 0);
	check_exc("XCR1", xcr(1, 1), GP, 0);
	check_exc("XSETBV in ring 3", try_user(u_xsetbv, 0), GP, 0);
	check_exc("XCR0 SSE", xcr(0, 3), NONE, 0);
	check("CPUID.D size of XCR0 3", cpuid(0xd, 0).b, 576);
	if (cpuid(1, 0).c & 1 << 28) {
		check_exc("AVX without XCR0", TRY(asmv("vxorps %%ymm0, %%ymm0, %%ymm0" : : )), UD, 0);
		check_exc("XCR0 AVX", xcr(0, 7), NONE, 0);
		check_exc("AVX", TRY(asmv("vxorps %%ymm0, %%ymm0, %%ymm0" : : )), NONE, 0);
		check("CPUID.D size of XCR0 7", cpuid(0xd, 0).b, 832);
	}
	static u8 area[1024] __attribute__((aligned(64)));
	check_exc("XSAVE misaligned", TRY(asmv("xsave (%0)" : : "r"(area + 8), "a"(3), "d"(0))), GP, 0);
	check_exc("XSAVE", TRY(asmv("xsave (%0)" : : "r"(area), "a"(3), "d"(0) : "memory")), NONE, 0);
	area[512 + 8] = 1;
	check_exc("XRSTOR with a bad header", TRY(asmv("xrstor (%0)" : : "r"(area), "a"(3), "d"(0))), GP, 0);
	area[512 + 8] = 0;
	area[512 + 7] = 0x40;
	check_exc("XRSTOR of a state not in XCR0", TRY(asmv("xrstor (%0)" : : "r"(area), "a"(3), "d"(0))), GP, 0);
	area[512 + 7] = 0;
	check_exc("XRSTOR", TRY(asmv("xrstor (%0)" : : "r"(area), "a"(3), "d"(0))), NONE, 0);
	xcr(0, 1);
	write_cr4(c4);
}

/* ---- other code sizes ---- */

extern u8 code32[], code32u[], code16[];
ulong r_esp, r_eax;
__asm__(".globl code32\ncode32: .code32\n"
	"mov $0x11111111, %eax; inc %eax\n" /* INC is a REX prefix in 64-bit code */
	"push %eax; pop %ecx; lret\n"
	".globl code32u\ncode32u: mov $0x7fffffff, %eax; inc %eax; int $0x80\n"
	".globl code16\ncode16: .code16\n mov $0x1111, %eax; inc %ax; lretl\n .code64\n");
static u32 call32(u16 sel, void *p)
{
	struct { u32 off; u16 sel; } __attribute__((packed)) f = { (u32)(ulong)p, sel };
	u32 r;

	asmv("lcalll *%1" : "=a"(r) : "m"(f) : "rcx", "memory");
	return r;
}

static void modes(void)
{
	check("compatibility mode by far call", call32(SEL_CODE32, code32), 0x11111112);
	gdt[SEL_OWN / 8] = desc(0, 0xfffff, 0x9b, 8);
	check("16-bit code by far call", call32(SEL_OWN, code16), 0x1112);
	check_exc("32-bit code in ring 3", try_user32(code32u), INT_DONE, 0);
	check("its result", caught.ax & 0xffffffff, 0x80000000);
	check("its cs", caught.cs, SEL_UCODE32);
	gdt[SEL_OWN / 8] = desc(0, 0xfffff, 0x9b, 8 | 4 | 2);
	check_exc("far call to L and D", TRY(call32(SEL_OWN, code32)), GP, SEL_OWN);
	check_exc("IRETQ to a non-canonical address", TRY(asmv("mov %%rsp, %%rax; push $0x18; push %%rax; push $2; push $0x10; push %0; iretq" : : "r"(1ul << 60) : "rax")), GP, 0);
	check_exc("IRETQ with a null SS in ring 0", TRY(asmv("mov %%rsp, %%rax; push $0; push %%rax; push $2; push $0x10; lea 1f(%%rip), %%rcx; push %%rcx; iretq; 1:" : : : "rax", "rcx", "memory")), NONE, 0);
	asmv("mov %0, %%ss" : : "r"(SEL_DATA));
	check_exc("IRETQ to ring 3 with a null SS", TRY(asmv("push $3; push $0x1000; push $2; push $0x33; push $0; iretq")), GP, 0);
	check_exc("IRETQ to 32-bit ring 3 with a null SS", TRY(asmv("push $3; push $0x1000; push $2; push $0x23; push $0; iretq")), GP, 0);
	check_exc("IRETQ with NT", TRY(asmv("push $0x4002; popf; iretq")), GP, 0);
	check_exc("PUSH ES is undefined", TRY(asmv(".byte 0x06")), UD, 0);
	check_exc("far JMP imm is undefined", TRY(asmv(".byte 0xea, 0, 0, 0, 0, 0, 0")), UD, 0);
	check_exc("a 16 byte instruction", TRY(asmv(".fill 15, 1, 0x66; nop")), GP, 0);
	check_exc("a 15 byte instruction", TRY(asmv(".fill 14, 1, 0x66; nop")), NONE, 0);
	check_exc("LOCK of a register", TRY(asmv(".byte 0xf0, 0x01, 0xc0")), UD, 0);
	check_exc("LOCK NOP", TRY(asmv(".byte 0xf0, 0x90")), UD, 0);
	check_exc("JMP non-canonical", TRY(asmv("jmp *%0" : : "r"(1ul << 60))), GP, 0);
}

static u64 acbuf[2];
static void u_ac(void) { asmv("movl (%0), %%eax" : : "r"((u8 *)acbuf + 1) : "eax"); }
static void stacks(void)
{
	ulong c0 = read_cr0();
	static u8 ist[4096] __attribute__((aligned(16)));
	struct gate save = idt[DF];

	write_cr0(c0 | 0x40000);
	check_exc("alignment check", try_user(u_ac, 0x40002), AC, 0);
	check_exc("alignment without AC", try_user(u_ac, 2), INT_DONE, 0);
	write_cr0(c0);
	tss.ist[0] = (ulong)ist + sizeof(ist) - 3;
	set_gate(0x60, (ulong)(exc_stubs + 16 * 0x60), SEL_CODE, 0x8e, 1);
	check_exc("IST", TRY(asmv("int $0x60")), 0x60, 0);
	check("IST stack, aligned", caught.handler_sp, ((ulong)ist + sizeof(ist) - 16) - 56);
	set_gate(DF, (ulong)(exc_stubs + 16 * DF), SEL_CODE, 0x8e, 1);
	check_exc("double fault by a bad stack", TRY(asmv("mov %0, %%rsp; push %%rax" : : "r"(0x700000000000ul))), DF, 0);
	set_gate(GP, 0, 0, 0x8e, 0); /* null code segment: #GP in #GP */
	check_exc("double fault by a bad gate", TRY(asmv("mov %0, %%ds" : : "r"(0x1f8))), DF, 0);
	set_gate(GP, (ulong)(exc_stubs + 16 * GP), SEL_CODE, 0x8e, 0);
	set_gate(0x61, (ulong)exc_stubs, SEL_CODE, 0x0e, 0);
	check_exc("INT to a gate not present", TRY(asmv("int $0x61")), NP, 0x61 * 8 + 2);
	set_gate(0x61, (ulong)exc_stubs, SEL_CODE, 0x85, 0);
	check_exc("INT to a task gate", TRY(asmv("int $0x61")), GP, 0x61 * 8 + 2);
	set_gate(0x61, (ulong)exc_stubs, SEL_CODE32, 0x8e, 0);
	check_exc("INT to 32-bit code", TRY(asmv("int $0x61")), GP, SEL_CODE32);
	set_gate(0x61, (ulong)exc_stubs, SEL_DATA, 0x8e, 0);
	check_exc("INT to data", TRY(asmv("int $0x61")), GP, SEL_DATA);
	set_gate(0x61, (ulong)exc_stubs, 0x1f8, 0x8e, 0);
	check_exc("INT to nothing", TRY(asmv("int $0x61")), GP, 0x1f8);
	struct dtr shorter = { 0x61 * 16 + 14, (ulong)idt };
	asmv("lidt %0" : : "m"(shorter));
	check_exc("INT beyond the table", TRY(asmv("int $0x61")), GP, 0x61 * 8 + 2);
	asmv("lidt %0" : : "m"(idtr));
	idt[DF] = save;
}

void test(void)
{
	control();
	fpu();
	modes();
	stacks();
}
