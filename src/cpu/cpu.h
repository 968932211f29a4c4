/* SPDX-License-Identifier: MIT */
/*
 * struct cpu: the architectural state of one vCPU and what an engine needs beside it.
 *
 * This struct is the contract between the engines (interp/, later translate/), the mmu, and the code that gets and sets state for
 * the VMM. It is embedded in struct kvm_vcpu; nothing at this level knows of struct kvm or struct kvm_vcpu. An engine reaches the
 * rest of the machine only through `ops`.
 *
 * Rules:
 *  - State is read and written by the thread that owns the vCPU only (in KVM_RUN, or in an ioctl of its fd). `requests` is the one
 *    word that others write.
 *  - While an engine runs, the guest's FPU state may be live in the host's registers (`fpu_live`). Code that runs in that window is
 *    compiled without vector registers and calls no C library function. An engine calls cpu_fpu_put() before every ops call.
 *  - Arithmetic flags live in `af` while an engine runs and always: use cpu_get_rflags()/cpu_set_rflags() for the whole image.
 */
#ifndef USEKVM_CPU_CPU_H
#define USEKVM_CPU_CPU_H

#include <linux/kvm.h>

#include <sys/syscall.h>

#include "base/sys.h"
#include "base/types.h"

/* ---- registers ---- */

enum { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI, R_8, R_9, R_10, R_11, R_12, R_13, R_14, R_15 };
enum { S_ES, S_CS, S_SS, S_DS, S_FS, S_GS, S_COUNT, S_LDTR = S_COUNT, S_TR, S_ALL };

/* Descriptor attributes, in the layout of bits 8..15 and 20..23 of a descriptor's second half (SDM 3, 3.4.5), shifted down by 8. */
enum {
	AR_TYPE = 0xf,
	AR_ACCESSED = 1,
	AR_RW = 2,     /* data: writable; code: readable */
	AR_DC = 4,     /* data: expand-down; code: conforming */
	AR_CODE = 8,
	AR_S = 1 << 4, /* code or data */
	AR_DPL_SHIFT = 5,
	AR_DPL = 3 << 5,
	AR_P = 1 << 7,
	AR_AVL = 1 << 12,
	AR_L = 1 << 13,
	AR_DB = 1 << 14,
	AR_G = 1 << 15,
	AR_UNUSABLE = 1 << 16, /* null selector loaded */
};

struct cpu_seg {
	u64 base;
	u32 limit; /* in bytes, granularity applied: the last valid offset */
	u32 ar;    /* AR_* */
	u16 sel;
};

struct cpu_dtable {
	u64 base;
	u16 limit;
};

#define X86_CF 0x1u
#define X86_PF 0x4u
#define X86_AF 0x10u
#define X86_ZF 0x40u
#define X86_SF 0x80u
#define X86_TF 0x100u
#define X86_IF 0x200u
#define X86_DF 0x400u
#define X86_OF 0x800u
#define X86_IOPL 0x3000u
#define X86_NT 0x4000u
#define X86_RF 0x10000u
#define X86_VM 0x20000u
#define X86_AC 0x40000u
#define X86_VIF 0x80000u
#define X86_VIP 0x100000u
#define X86_ID 0x200000u
#define X86_ARITH (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF)

#define CR0_PE 0x1ull
#define CR0_MP 0x2ull
#define CR0_EM 0x4ull
#define CR0_TS 0x8ull
#define CR0_ET 0x10ull
#define CR0_NE 0x20ull
#define CR0_WP 0x10000ull
#define CR0_AM 0x40000ull
#define CR0_NW 0x20000000ull
#define CR0_CD 0x40000000ull
#define CR0_PG 0x80000000ull

#define CR4_VME 0x1ull
#define CR4_PVI 0x2ull
#define CR4_TSD 0x4ull
#define CR4_DE 0x8ull
#define CR4_PSE 0x10ull
#define CR4_PAE 0x20ull
#define CR4_MCE 0x40ull
#define CR4_PGE 0x80ull
#define CR4_PCE 0x100ull
#define CR4_OSFXSR 0x200ull
#define CR4_OSXMMEXCPT 0x400ull
#define CR4_UMIP 0x800ull
#define CR4_LA57 0x1000ull
#define CR4_FSGSBASE 0x10000ull
#define CR4_PCIDE 0x20000ull
#define CR4_OSXSAVE 0x40000ull
#define CR4_SMEP 0x100000ull
#define CR4_SMAP 0x200000ull
#define CR4_PKE 0x400000ull

#define EFER_SCE 0x1ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define EFER_NXE 0x800ull
#define EFER_FFXSR 0x4000ull

enum { EX_DE, EX_DB, EX_NMI, EX_BP, EX_OF, EX_BR, EX_UD, EX_NM, EX_DF, EX_CSO, EX_TS, EX_NP, EX_SS, EX_GP, EX_PF, EX_MF = 16, EX_AC, EX_MC, EX_XM };

/* Page fault error code, SDM 3, 4.7. */
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16, PF_PK = 32 };

/* ---- requests: bits others set in cpu.requests to get an engine back to its caller (KVM's vcpu->requests) ---- */

enum cpu_request {
	CPU_REQ_EVENT = 1u << 0,      /* an interrupt, NMI, window or state change to look at */
	CPU_REQ_KICK = 1u << 1,       /* a signal was caught, or immediate_exit was set: leave KVM_RUN */
	CPU_REQ_TLB_FLUSH = 1u << 2,  /* memory slots changed: drop all translations and pointers to host memory */
	CPU_REQ_TLB_WRITE = 1u << 3,  /* drop write permission of all translations (dirty log, code pages) */
	CPU_REQ_SYNC = 1u << 4,       /* pass through a quiescent state (base/qsbr.h) */
	CPU_REQ_CODE = 1u << 5,       /* drop all decoded or translated code */
	CPU_REQ_TIMER = 1u << 6,      /* LAPIC timer expired */
	CPU_REQ_CLOCK = 1u << 7,      /* kvmclock page must be rewritten */
	CPU_REQ_STEAL = 1u << 8,
	CPU_REQ_XID = 1u << 9,        /* a page of code was written to */
};

/* ---- why an engine returned ---- */

enum cpu_exit {
	CPU_EXIT_REQUEST,   /* `requests` is not zero; at an instruction boundary */
	CPU_EXIT_IO,        /* c->io describes a port access that ops->pio did not handle */
	CPU_EXIT_MMIO,      /* c->mmio.frag[c->mmio.n - 1] is an access that ops->mmio did not handle */
	CPU_EXIT_HLT,       /* HLT was executed; rip is past it */
	CPU_EXIT_SHUTDOWN,  /* triple fault */
	CPU_EXIT_DEBUG,     /* a debug event that the VMM asked for; c->dbg_exit */
	CPU_EXIT_EMULATION, /* an instruction that we do not implement; c->insn_bytes, c->insn_len, rip on it */
	CPU_EXIT_FAULT,     /* host memory behind a memslot is not there; c->fault_gpa; KVM_RUN says EFAULT */
	CPU_EXIT_USER,      /* an ops call asked to leave (e.g. an MSR or hypercall exit): it filled kvm_run itself */
};

struct cpu;

/*
 * What an engine asks of the machine around it. All are called on the vCPU's thread at an instruction boundary or inside an
 * instruction that can still be restarted, with the FPU put. No locks are held. `c` is the embedded struct cpu.
 */
/* What the VMM has chosen for the VM, where KVM offers a choice. */
enum cpu_policy {
	CPU_POLICY_FIX_HYPERCALL = 1u << 0, /* the other maker's hypercall instruction is rewritten; else #UD */
	CPU_POLICY_MWAIT_NOP = 1u << 1,     /* MONITOR and MWAIT do nothing though CPUID lacks them; else #UD */
	CPU_POLICY_MWAIT_MSR = 1u << 2,     /* CPUID shows them when MISC_ENABLE bit 18 is set */
	CPU_POLICY_STRICT = 1u << 3,        /* an instruction that KVM's emulator lacks is an emulation failure when it meets MMIO */
	CPU_POLICY_NO_PLATFORM_INFO = 1u << 4, /* the guest may not read MSR_PLATFORM_INFO */
};

struct cpu_ops {
	/* Port access of count items of size bytes (1, 2, 4). 0: done. 1: leave with CPU_EXIT_IO. */
	int (*pio)(struct cpu *c, u16 port, unsigned size, unsigned count, void *data, bool write);
	/* Access of len (1..8) bytes at a gpa that no writable memslot takes. 0: done. 1: leave with CPU_EXIT_MMIO. */
	int (*mmio)(struct cpu *c, gpa_t gpa, unsigned len, void *data, bool write);
	/* MSRs that cpu/msr.c does not own. 0, -ENOENT (no such MSR), -EINVAL (#GP), or 1: leave with CPU_EXIT_USER. */
	int (*rdmsr)(struct cpu *c, u32 index, u64 *value);
	int (*wrmsr)(struct cpu *c, u32 index, u64 value);
	/* May the guest's RDMSR or WRMSR be tried? And one that was not (-EPERM), or that failed: the error, or 1: leave with CPU_EXIT_USER. May be NULL. */
	bool (*msr_allowed)(struct cpu *c, u32 index, bool write);
	int (*msr_failed)(struct cpu *c, u32 index, bool write, u64 value, int error);
	u64 (*get_tpr)(struct cpu *c);          /* CR8 */
	void (*set_tpr)(struct cpu *c, u64 tpr); /* value 0..15; may raise CPU_REQ_EVENT */
	/* VMCALL/VMMCALL. 0: rax set. 1: leave with CPU_EXIT_USER, rip already past the instruction. */
	int (*hypercall)(struct cpu *c);
	void (*wbinvd)(struct cpu *c);
	/*
	 * A page has become a page of code (fresh: it was none for any vCPU). Other vCPUs may hold write translations for it until they
	 * have dropped them: asks them to and returns a token, or 0 if there are none. May be NULL. _done: have they all?
	 */
	u64 (*write_flush_start)(struct cpu *c, bool fresh);
	bool (*write_flush_done)(struct cpu *c, u64 token);
	void (*pause)(struct cpu *c); /* a spinning guest: may yield the host CPU */
	/* The guest's segment limit, mode or paging changed in a way the outside must know (CR0, CR4, EFER, APIC base). May be NULL. */
	void (*mode_changed)(struct cpu *c);
};

/* ---- events to deliver, and where the vCPU stands with them (KVM_GET_VCPU_EVENTS) ---- */

struct cpu_events {
	bool exc_pending;     /* raised, side effects (CR2, DR6) not yet applied */
	bool exc_injected;    /* to be delivered before the next instruction */
	bool exc_has_error;
	u8 exc_vector;
	u32 exc_error;
	bool intr_injected;   /* interrupt accepted, to be delivered before the next instruction */
	bool intr_soft;
	u8 intr_vector;
	bool nmi_injected;
	bool nmi_masked;      /* between NMI delivery and IRET */
	u32 nmi_pending;      /* 0..2 */
	u8 shadow;            /* KVM_X86_SHADOW_INT_MOV_SS, KVM_X86_SHADOW_INT_STI */
	bool want_irq_window; /* raise CPU_REQ_EVENT when interrupts become acceptable */
	bool want_nmi_window; /* raise CPU_REQ_EVENT on IRET */
};

/* A port access in flight, or waiting for the VMM. */
struct cpu_io {
	enum { IO_NONE, IO_WAIT, IO_DONE } state; /* WAIT: the VMM has it. DONE: the engine must complete it before anything else */
	bool write, string, rep;
	u8 size;     /* 1, 2, 4 */
	u8 insn_len;
	u8 asz;      /* address size of a string form, bytes */
	u8 seg;      /* segment of an OUTS source */
	u16 port;
	u32 count;   /* items in data */
	u64 rip;     /* of the instruction: if the VMM moved rip meanwhile, the completion is dropped */
	u8 data[PAGE_SIZE];
};

/*
 * MMIO: an instruction with an access that must go outside is run alone and restarted from its beginning when the VMM has answered;
 * the accesses that it has already made are answered from this log. The log lives for one instruction.
 */
#define CPU_MMIO_FRAGS 360 /* a 64-byte operand is 8; XSAVE with all of AVX-512 340 */
struct cpu_mmio_frag {
	gpa_t gpa;
	u8 len;
	bool write, done;
	u8 data[8];
};
struct cpu_mmio {
	unsigned n, replay; /* fragments in the log; the next to be answered from it */
	u64 rip;            /* of the instruction */
	struct cpu_mmio_frag frag[CPU_MMIO_FRAGS];
};

/* ---- MSRs that are plain CPU state ---- */

#define CPU_MTRR_VAR 8
#define CPU_MCE_BANKS 32
struct cpu_msrs {
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
	u64 pat, mtrr_def, mtrr_fix[11], mtrr_base[CPU_MTRR_VAR], mtrr_mask[CPU_MTRR_VAR];
	u64 tsc_adjust, misc_enable, spec_ctrl, xss, debugctl, feature_control;
	u64 mcg_cap, mcg_status, mcg_ctl, mce[CPU_MCE_BANKS][4];
	u64 hwcr, platform_info, arch_capabilities, ucode_rev, misc_features_enables, virt_ssbd, smi_count, syscfg, power_ctl;
	u64 pkrs, umwait, tsx_ctrl, ls_cfg, de_cfg, mci_ctl2[CPU_MCE_BANKS];
};

/* ---- TLB of the engines: tags carry permission by being present ---- */

#define CPU_TLB_BITS 12
#define CPU_TLB_SIZE (1u << CPU_TLB_BITS)
/*
 * The tag of entry n of a table when it is not present. Its page is one that has another place in the table, far from n, so that no
 * address that is looked up at n, nor the page after it, can equal it however it is compared: there is no address left that could stand
 * for "none" in all of them.
 *
 * Translated code also goes through an entry that it guesses, which may be another than the address's own (translate/memory.c). There the
 * tag of none could match: so it is of a page that is not canonical, and an entry without that tag adds nothing to the address. What is
 * accessed then faults on the host as it should in the guest, by #GP.
 */
#define CPU_TLB_NOWHERE 0x4000000000000000ull
static always_inline u64 cpu_tlb_none(size_t n)
{
	return CPU_TLB_NOWHERE | (u64)((n & (CPU_TLB_SIZE - 1)) ^ (CPU_TLB_SIZE / 2)) << PAGE_SHIFT | 1;
}
struct cpu_tlbe {
	u64 rtag, wtag;  /* guest linear page address, or cpu_tlb_none(): not present for that use. What may be written may be read */
	u64 radd, wadd;  /* the host's address minus the guest's, for reading (there is rtag) and for writing (wtag); or 0 */
};
static always_inline struct cpu_tlbe cpu_tlbe_none(size_t n)
{
	return (struct cpu_tlbe){ cpu_tlb_none(n), cpu_tlb_none(n), 0, 0 };
}
static always_inline void cpu_tlbe_read_only(struct cpu_tlbe *e, size_t n)
{
	e->wtag = cpu_tlb_none(n);
	e->wadd = 0;
}
static always_inline void *cpu_tlbe_ptr(const struct cpu_tlbe *e, gva_t la)
{
	return (void *)(la + e->radd);
}
/* Of an entry that is present. */
static always_inline u64 cpu_tlbe_host_page(const struct cpu_tlbe *e)
{
	return e->rtag + e->radd;
}
/* For fetching, which is C's alone. */
struct cpu_tlbx {
	u64 tag, host;
};
/* One table per kind of access; which one data accesses use follows from CPL, CR4.SMAP and EFLAGS.AC. */
enum cpu_mmu_idx { MMU_USER, MMU_KERNEL, MMU_KERNEL_AC, MMU_COUNT };
#define CPU_TLBX 2u                       /* tables for fetching: of MMU_USER and MMU_KERNEL */
#define CPU_TLBS ((unsigned)MMU_COUNT + CPU_TLBX) /* all: those for data first */

/* What was known of another PCID when it was left (cpu/tlb.c). */
#define CPU_TLB_CTXS 6u
#define CPU_TLB_CTX_MAX 768u
struct cpu_tlb_ctx {
	bool valid;
	u16 pcid;
	u8 shift[MMU_COUNT]; /* as cpu.tlb_shift */
	u32 n;
	u64 stamp;
	u64 protects; /* cpu.tlb_protects when it was put away */
	u16 where[CPU_TLB_CTX_MAX]; /* table * CPU_TLB_SIZE + entry */
	union {
		struct cpu_tlbe data;
		struct cpu_tlbx x;
	} e[CPU_TLB_CTX_MAX];
};

/* ---- what the engines count beside cpu.stat, in the order of devices/counters.c ---- */

enum cpu_xstat {
	XS_UNITS,           /* translated */
	XS_BYTES,           /* of host code */
	XS_MAKE_TSC,        /* spent on that */
	XS_RECYCLINGS,      /* all units dropped: no room, or other code of the interpreter's */
	XS_RUN_TSC,         /* in units and what they call, if process_timing */
	XS_ENTRIES,         /* from C */
	XS_LINKS,           /* jumps that lead to another unit from now on */
	XS_INDIRECT,        /* indirect jumps whose target was not at hand */
	XS_POLLS,           /* ways out because something was requested */
	XS_SLOW,            /* accesses that missed the TLB's tags */
	XS_PLAIN,           /* of these, looked up for several, which was not to be had */
	XS_FPU,             /* guest vector state brought into registers for a unit */
	XS_FALL_INSN,       /* to the interpreter: no host form */
	XS_FALL_ACCESS,     /* ...: operand across pages, outside RAM, of several parts */
	XS_FALL_FPU,        /* ...: vector instruction that raises */
	XS_FALL_MODE,       /* ...: hot code in a mode without translation */
	XS_FALL_CROSSING,   /* ...: hot instruction that lies in two pages */
	XS_FALL_ALONE,      /* ...: run alone for an access outside RAM or a write to code */
	XS_FALL_DEBUG,      /* ...: run alone for single step, breakpoints, an interrupt shadow */
	XS_DIRECT,          /* user code entered as it is, in a process of its own (direct/) */
	XS_DIRECT_TSC,      /* in there, with the way there and back */
	XS_DIRECT_PAGES,    /* pages mapped for it */
	XS_COUNT
};

/* ---- the vCPU as an engine sees it ---- */

#define CPU_XSAVE_SIZE 4096
#define CPU_GPR_SLOTS 18
enum { SLOT_ZERO = 16, SLOT_BLOCK_RIP = 17 };

struct direct;
struct insn;
struct guest_mem;
struct interp;
struct stub_cache;
struct translate;

/*
 * Translated code keeps its stack pointer at `gpr`: state is at hand without a register, and so is what stands in the 128 bytes below
 * (the red zone, which signals leave alone). A signal's frame lies on x_stack then; translated code itself pushes nothing.
 */
#define CPU_XSTACK (64u << 10)
#define CPU_XID_SLOTS 4096u
#define CPU_XID_LIST 2048u
#define CPU_JC_BITS 13u
#define CPU_SPANS 8u
#define CPU_TLB_WRITERS 4096u
#define CPU_TLB_PROTECTED 16u
#define CPU_TLB_LARGE 256u
#define CPU_DROPS 16u
#define CPU_ROOT_MASK 0x000ffffffffff000ull /* of CR3 */
#define CPU_SPACES 4u /* of code addresses: supervisor, user; 64-bit, 32-bit */

struct cpu {
	u8 x_stack[CPU_XSTACK] aligned(64);
	u64 x_sp;                /* the C stack, while translated code runs */
	u64 x_ret;
	u64 x_tmp, x_tmp2;
	u64 x_span[CPU_SPANS];   /* host addresses that accesses of the running unit share (translate/share.c) */
	u32 requests aligned(8); /* enum cpu_request; atomic */
	u32 stop;                /* engine's own, read together with requests: end the run of linked blocks */
	u32 af;                  /* arithmetic flags as LAHF/SETO leave them: bits 0..7 OF (0 or 1), bits 8..15 SF:ZF:0:AF:0:PF:1:CF */
	u32 rflags;              /* every flag but the arithmetic ones (those bits are 0 here); bit 1 set */
	u32 fpu_missing;         /* what of fpu_ok may not run in translated code now: everything while !fpu_live */
	u32 x_site;              /* the indirect jump that translated code made last */
	u64 rip;                 /* exact at instruction boundaries outside a block; inside one see interp/ */
	/* Hot: what nearly every instruction touches. gpr[SLOT_ZERO] is always 0, gpr[SLOT_BLOCK_RIP] the linear-offset (rip) of the
	 * running block's first byte, so that effective addresses need no branches. */
	u64 gpr[CPU_GPR_SLOTS];
	u64 next_rip;  /* for op functions: where execution goes on */
	u32 tlb_epoch aligned(8); /* bumped by every cpu_tlb_flush*() and change of mode: what was derived from translations is stale */
	u32 code_key;  /* engine's own: mode bits that decoding and fetching depend on */
	u8 cpl;
	u8 mmu_idx;    /* enum cpu_mmu_idx for data accesses now */
	u8 code_size;  /* 2, 4, 8: default operand/address size class of CS (8: 64-bit mode) */
	bool look_all; /* engine's own: no data access may take the TLB's fast path (breakpoints) */
	bool single;   /* run one instruction, then return to the loop */
	const struct insn *cur; /* the instruction that is accessing memory: where a fault belongs */
	struct cpu_tlbe *tlb;   /* tlbs[mmu_idx], or tlbs[MMU_COUNT], always empty, while every data access must be looked at (#AC, DR7) */
	/* Largest page size (as a shift) behind any entry of each table since its last flush; a TLB fill raises it. 0: not known, then INVLPG
	 * drops the whole gigabyte. */
	u8 tlb_shift[MMU_COUNT];
	u64 tlb_large[MMU_COUNT][CPU_TLB_LARGE / 64]; /* by a hash of gigabytes: whether part of a large page was filled there since the last full flush */
	struct cpu_seg seg[S_ALL];

	/* Control state. Change only through cpu_set_*(), which keep cpl, mmu_idx, code_size and tlb right. */
	struct cpu_dtable gdtr, idtr;
	u64 cr0, cr2, cr3, cr4, efer, xcr0;
	u64 pdptr[4]; /* PAE: loaded by MOV CR3 and task switch, SDM 3, 4.4.1 */
	u64 dr[4], dr6, dr7;
	u32 pkru_soft; /* PKRU lives in the xsave area; this is its copy for the page walk when PKE is on */
	struct cpu_msrs msr;
	u64 tsc_offset;  /* guest TSC = host TSC, scaled, + tsc_offset */
	u64 tsc_ratio;   /* guest ticks for each of the host's, 48 bits of fraction; 0: one */
	struct cpu_events ev;

	/* FPU and vector state, in the host's standard XSAVE format. */
	bool fpu_live;     /* the guest's state is in the host's registers, `xsave` is stale */
	u64 fpu_mask;      /* what XSAVE/XRSTOR of the guest's state cover: host XCR0 & ~PKRU */
	u32 host_mxcsr;
	u16 host_fcw;
	u16 x87_fop;       /* last x87 instruction, while live (cpu/fpu.h) */
	u32 fpu_ok;        /* FPU_OK_*: what may run now; cpu_fpu_update() */
	u32 mxcsr_mask;    /* of the host */
	u64 x87_fip, x87_fdp;
	u64 host_xcr0;     /* components that have a place in xsave */
	bool host_xsave;
	u16 xs_off[19], xs_size[19]; /* of the standard format, by component */
	u32 xs_align64;    /* components that the compacted format aligns */
	u8 xsave[CPU_XSAVE_SIZE] aligned(64);

	/* CPUID as the VMM set it, and the feature words from it (cpu/cpuid.h). */
	struct kvm_cpuid_entry2 *cpuid;
	unsigned ncpuid;
	bool cpuid_set; /* KVM_SET_CPUID(2) was called */
	u32 feat[16];
	u8 maxphyaddr;
	u64 rsvd_pa; /* page-table bits above maxphyaddr, up to bit 51 */

	/* Engine scratch. */
	u32 policy;      /* atomic, set by other threads: enum cpu_policy */
	u32 noncoherent; /* atomic, set by other threads: a device reads memory past the caches, so CLFLUSH must reach the host's */
	const struct cpu_ops *ops;
	struct guest_mem *mem;
	struct interp *interp;
	struct stub_cache *stubs;
	void *jmp[32];         /* where the running loop catches (loop.c): __builtin_setjmp's buffer, or a jmp_buf */
	int unwind;            /* engine's own: why it jumped */
	int exit;              /* enum cpu_exit carried by the jump */
	bool in_engine;        /* between cpu_run's start and end on this thread: signal handlers look */
	struct cpu_io io;
	struct cpu_mmio mmio;
	gpa_t fault_gpa;
	u8 insn_bytes[15], insn_len;
	struct {
		u32 flags;         /* KVM_GUESTDBG_* of the VMM; 0: none */
		u64 dr[4], dr7;    /* KVM_GUESTDBG_USE_HW_BP: replace the guest's own */
	} gdbg;
	struct {
		u32 vector;
		u64 pc, dr6, dr7;
		u64 int3_rip, int3_next; /* the last INT3 that went to the VMM: handed back, it returns behind itself */
	} dbg_exit;
	struct {
		u64 insns, blocks, decodes, tlb_fills, code_flushes, mmio, pio, exceptions, interrupts, stubs;
	} stat;
	struct cpu_tlbe tlbs[MMU_COUNT + 1][CPU_TLB_SIZE] aligned(64);
	struct cpu_tlbx tlbx[CPU_TLBX][CPU_TLB_SIZE];
	u64 tlb_used[CPU_TLBS][CPU_TLB_SIZE / 64], tlb_global[CPU_TLBS][CPU_TLB_SIZE / 64];
	u16 tlb_writer[CPU_TLB_WRITERS][2]; /* by a hash of host pages, what write tags there are (cpu/tlb.c) */
	u64 tlb_protected[CPU_TLB_PROTECTED]; /* the host pages that became code last, a ring */
	u64 tlb_protects;                     /* how many there were */
	u64 tlb_stamp;
	struct cpu_tlb_ctx tlb_ctx[CPU_TLB_CTXS];
	/* Translated code: which code page (translate/'s number for it, 0: none) is known to stand at a linear page, in each space; and
	 * where an indirect jump goes on, by a hash of its target: only a hint. */
	u32 xid[CPU_SPACES][CPU_XID_SLOTS];
	u16 xid_used[2][CPU_XID_LIST]; /* which are not 0: of pages that are not global, and that are */
	u32 nxid[2];
	void *jc[CPU_SPACES][1u << CPU_JC_BITS];
	/* Guest code that runs as it is in a process of its own (direct/). away: the thread waits for it, and looks at requests when wake_fd, an
	 * eventfd, is written to. root: of the address space that shall; the number of returns to user code. What was dropped from the TLB, for who
	 * keeps translations elsewhere: how often everything may have been, and the last single pages, a ring. */
	struct direct *direct;
	u32 away;              /* atomic */
	int wake_fd;
	u64 direct_root;
	u64 direct_next;       /* what it becomes at the next return to user code */
	u64 user_entries;      /* and by IRET to wherever */
	u64 drops_all, drops_page;
	gva_t dropped[CPU_DROPS];
	bool code_stale;       /* the VMM has run freely: it may have written to code */
	struct translate *tr;
	u64 xstat[XS_COUNT];
	u64 x_since;           /* TSC when translated code was entered, if times are counted */
};

_Static_assert(offsetof(struct cpu, gpr) - sizeof(((struct cpu *)0)->x_stack) <= 128, "what stands below gpr is in the red zone");

/* ---- helpers every level above uses ---- */

static inline u32 cpu_af_to_flags(u32 af)
{
	return ((af >> 8) & (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF)) | ((af & 1) << 11);
}

static inline u32 cpu_flags_to_af(u32 fl)
{
	return ((fl & (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF)) << 8) | 0x200u | ((fl >> 11) & 1);
}

static inline u64 cpu_get_rflags(const struct cpu *c)
{
	return c->rflags | cpu_af_to_flags(c->af);
}

/* Sets the whole image as given, bit 1 forced; recomputes what depends on AC and VM. */
void cpu_set_rflags(struct cpu *c, u64 rflags);

static inline bool cpu_is_long(const struct cpu *c) /* EFER.LMA: long mode, 64-bit or compatibility */
{
	return c->efer & EFER_LMA;
}
static inline bool cpu_is_64(const struct cpu *c)
{
	return c->code_size == 8;
}
static inline bool cpu_is_v86(const struct cpu *c)
{
	return c->rflags & X86_VM;
}
static inline bool cpu_is_real(const struct cpu *c)
{
	return !(c->cr0 & CR0_PE);
}
static inline unsigned cpu_iopl(const struct cpu *c)
{
	return (c->rflags >> 12) & 3;
}

/* Its thread waits outside the engine for guest code that runs elsewhere (direct/). Async-signal-safe. */
static signal_safe noinline void cpu_wake(const struct cpu *c)
{
	u64 one = 1;

	sys3(SYS_write, c->wake_fd, &one, sizeof(one));
}
static inline void cpu_request(struct cpu *c, u32 bits)
{
	__atomic_fetch_or(&c->requests, bits, __ATOMIC_SEQ_CST);
	if (unlikely(__atomic_load_n(&c->away, __ATOMIC_SEQ_CST)))
		cpu_wake(c);
}

/*
 * Recompute cpl, code_size, mmu_idx, tlb from CS/SS, CR0, CR4, EFER, RFLAGS. Call after changing any of them. CPL is SS.DPL in
 * protected mode, 3 in virtual-8086 mode, 0 in real mode.
 */
void cpu_update_mode(struct cpu *c);

/* Power-on state (SDM 3, table 9-1) or INIT (keeps FPU, MSRs, CR0.CD/NW, TSC). */
void cpu_reset(struct cpu *c, bool init);
/* Called once on zeroed memory. 0 or -errno. */
int cpu_init(struct cpu *c, const struct cpu_ops *ops, struct guest_mem *mem);
void cpu_destroy(struct cpu *c);

/* Drop translations. `page`: that linear page only (all contexts). */
void cpu_tlb_flush(struct cpu *c);
void cpu_tlb_flush_page(struct cpu *c, gva_t va);
void cpu_tlb_flush_write(struct cpu *c);
void cpu_tlb_flush_exec(struct cpu *c);
/* Code may have changed: translated code asks again what stands at a page before it goes there. */
void cpu_xid_flush(struct cpu *c);

/* The guest's FPU: bring into the host's registers, or back to c->xsave with the host's control words restored. */
void cpu_fpu_get_slow(struct cpu *c);
void cpu_fpu_put_slow(struct cpu *c);
static always_inline void cpu_fpu_get(struct cpu *c)
{
	if (unlikely(!c->fpu_live))
		cpu_fpu_get_slow(c);
}
static always_inline void cpu_fpu_put(struct cpu *c)
{
	if (unlikely(c->fpu_live))
		cpu_fpu_put_slow(c);
}

static always_inline u64 host_rdtsc(void)
{
	u32 lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return ((u64)hi << 32) | lo;
}
static always_inline u64 cpu_scale_tsc(const struct cpu *c, u64 host)
{
	return likely(!c->tsc_ratio) ? host : (u64)(((u128)host * c->tsc_ratio) >> 48);
}
static always_inline u64 cpu_guest_tsc(const struct cpu *c)
{
	return cpu_scale_tsc(c, host_rdtsc()) + c->tsc_offset;
}

/*
 * The engine. Runs guest code until something must be done outside it; returns enum cpu_exit. The caller has dealt with requests,
 * injected events into c->ev, and answered c->io / c->mmio. Never blocks.
 */
struct cpu_engine {
	const char *name;
	int (*init)(struct cpu *c); /* 0 or -errno */
	void (*destroy)(struct cpu *c);
	int (*run)(struct cpu *c);
};
extern const struct cpu_engine interp_engine hidden;

/* CPU faults raised by engine code: unwind to the engine's loop, which delivers them. rip must be where it should point. */
_Noreturn void cpu_raise(struct cpu *c, unsigned vector, bool has_error, u32 error);
_Noreturn void cpu_exit(struct cpu *c, int exit);

static inline void cpu_gp(struct cpu *c, u32 error) __attribute__((noreturn));
static inline void cpu_gp(struct cpu *c, u32 error)
{
	cpu_raise(c, EX_GP, true, error);
}
static inline void cpu_ud(struct cpu *c) __attribute__((noreturn));
static inline void cpu_ud(struct cpu *c)
{
	cpu_raise(c, EX_UD, false, 0);
}

#endif
