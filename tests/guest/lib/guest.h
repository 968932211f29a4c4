/* SPDX-License-Identifier: MIT */
/*
 * What the bare guest programs share. A program is a flat image that starts in 32-bit protected mode without paging; those in 64/ are
 * switched to long mode first. It says "PASS name" or "FAIL name got .. want .." on port 0x3f8, one line a check, and ends with its
 * exit code on port 0xf4: 0 if all passed.
 *
 *	TRY({ code })        run code; the vector of the exception that ended it, or NONE. `caught` has the details.
 *	TRY_USER(fn)         run fn in ring 3; a function that returns gives INT_DONE.
 *	check("name", got, want)
 *
 * 64-bit programs: memory below 1 GiB is mapped for the supervisor at its own address and for users at USER(address).
 */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long ulong;
typedef int bool;
enum { false, true };

enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, XM = 19 };
#define NONE (-1L)
#define INT_DONE 0x80L

#define SEL_CODE16 0x08
#define SEL_CODE 0x10
#define SEL_DATA 0x18
#define SEL_UCODE32 0x23
#define SEL_UDATA 0x2b
#define SEL_UCODE64 0x33
#define SEL_TSS 0x38
#define SEL_CODE32 0x48
#define SEL_OWN 0x50 /* first selector for the program's own descriptors */

struct frame {
#ifdef __x86_64__
	ulong r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
#else
	ulong di, si, bp, sp0, bx, dx, cx, ax, gs, fs, es, ds;
#endif
	ulong vec, err, ip, cs, flags, sp, ss; /* 32-bit: sp and ss only from an outer ring */
	ulong v86_es, v86_ds, v86_fs, v86_gs;
};

struct caught {
	ulong vec, err, ip, cs, flags, sp, ss, cr2, dr6, ax, dx;
	ulong handler_sp; /* where the frame was */
	ulong ds;
};
extern struct caught caught;

/* An exception handler of the program's own: true means "return to the interrupted code". */
typedef bool (*hook_fn)(struct frame *f);
extern hook_fn hooks[256];

extern u64 gdt[];
struct gate {
#ifdef __x86_64__
	u64 lo, hi;
#else
	u64 lo;
#endif
};
extern struct gate idt[256];
struct dtr {
	u16 limit;
	ulong base;
} __attribute__((packed));
extern struct dtr idtr;
extern u8 gdtr[];
extern u8 exc_stubs[];

#ifdef __x86_64__
#define USER_OFF 0x40000000ul
struct tss {
	u32 r0;
	u64 rsp[3], r1, ist[7], r2;
	u16 r3, iomap;
	u8 io[128];
} __attribute__((packed));
extern u64 pml4[512], pdpt[512], pd_super[512], pd_user[512], pd_dev[512];
#else
#define USER_OFF 0ul
struct tss {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt;
	u16 trap, iomap;
	u8 io[8192 + 1];
} __attribute__((packed));
#endif
extern struct tss tss;
#define USER(p) ((void *)((ulong)(p) + USER_OFF))
extern u8 user_stack_top[], kernel_stack_top[];

void guest_main(void);
void test(void); /* the program */

void print(const char *s);
void check(const char *name, u64 got, u64 want);
void check_exc(const char *name, long vec, long want_vec, ulong want_err); /* vector and error code of `caught` */
void finish(void) __attribute__((noreturn));
void skip(const char *name); /* this CPU model has not got it: says "SKIP name" */
long try_fn(void (*fn)(void));
long try_user(void (*fn)(void), ulong flags);
long try_user32(const void *code);
void set_gate(unsigned vec, ulong handler, u16 sel, unsigned type_dpl, unsigned ist);
u64 desc(ulong base, u32 limit, unsigned access, unsigned flags); /* limit as in the descriptor; flags: G 8, D/B 4, L 2 */
void set_tss(void);

#define TRY(code)                                                                                                                          \
	({                                                                                                                                 \
		void try_body(void) { code; }                                                                                              \
		try_fn(try_body);                                                                                                          \
	})

#define asmv(...) __asm__ volatile(__VA_ARGS__)
static inline void outb(u16 port, u8 v) { asmv("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 v; asmv("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u64 rdmsr(u32 m) { u32 a, d; asmv("rdmsr" : "=a"(a), "=d"(d) : "c"(m) : "memory"); return a | (u64)d << 32; }
static inline void wrmsr(u32 m, u64 v) { asmv("wrmsr" : : "c"(m), "a"((u32)v), "d"((u32)(v >> 32)) : "memory"); }
static inline u64 rdtsc(void) { u32 a, d; asmv("rdtsc" : "=a"(a), "=d"(d)); return a | (u64)d << 32; }
struct regs { u32 a, b, c, d; };
static inline struct regs cpuid(u32 leaf, u32 sub)
{
	struct regs r;
	asmv("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
	return r;
}
#define READ_REG(name, insn) static inline ulong name(void) { ulong v; asmv("mov %%" insn ", %0" : "=r"(v) : : "memory"); return v; }
#define WRITE_REG(name, insn) static inline void name(ulong v) { asmv("mov %0, %%" insn : : "r"(v) : "memory"); }
READ_REG(read_cr0, "cr0") READ_REG(read_cr2, "cr2") READ_REG(read_cr3, "cr3") READ_REG(read_cr4, "cr4")
WRITE_REG(write_cr0, "cr0") WRITE_REG(write_cr2, "cr2") WRITE_REG(write_cr3, "cr3") WRITE_REG(write_cr4, "cr4")
READ_REG(read_dr6, "dr6") READ_REG(read_dr7, "dr7") READ_REG(read_dr0, "dr0")
WRITE_REG(write_dr0, "db0") WRITE_REG(write_dr1, "db1") WRITE_REG(write_dr2, "db2") WRITE_REG(write_dr3, "db3")
WRITE_REG(write_dr6, "db6") WRITE_REG(write_dr7, "db7")
static inline ulong read_flags(void) { ulong v; asmv("pushf; pop %0" : "=r"(v)); return v; }
static inline void write_flags(ulong v) { asmv("push %0; popf" : : "r"(v) : "memory", "cc"); }
static inline void invlpg(void *p) { asmv("invlpg (%0)" : : "r"(p) : "memory"); }
static inline void write32(ulong a, u32 v) { *(volatile u32 *)a = v; }
static inline u32 read32(ulong a) { return *(volatile u32 *)a; }
void *memcpy(void *d, const void *s, ulong n);
void *memset(void *d, int c, ulong n);

enum { F_CF = 1, F_PF = 4, F_ZF = 0x40, F_TF = 0x100, F_IF = 0x200, F_DF = 0x400, F_OF = 0x800, F_NT = 0x4000, F_RF = 0x10000, F_VM = 0x20000,
	F_AC = 0x40000, F_IOPL = 0x3000 };
#endif
