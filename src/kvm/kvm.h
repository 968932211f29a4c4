/* SPDX-License-Identifier: MIT */
/*
 * struct kvm and struct kvm_vcpu: a virtual machine and its processors, made of the small objects that the lower folders own.
 *
 * Read in this order: vm.c and vcpu.c (making and ending), run.c (KVM_RUN: requests, injection, engine, exit), block.c (sleeping in HLT,
 * INIT and SIPI), requests.c (how one thread gets another out of the engine), ops.c (what the engine asks), then one file for each
 * group of state that the VMM gets and sets.
 *
 * Lifetime: a VM has one reference (`refs`) for its fd, one for each vCPU fd and one for each device fd. With the last of them the VMM is done with it:
 * clients in the process are told (`gone`), and the object stays until they let go of it too (`pins`, one of which all the refs have together). vCPUs live as long as their VM, so that an id
 * stays taken when its fd is closed, as with the kernel. A call in flight holds its fd's vfile (vfile/vfile.h).
 *
 * Locks, outer first: kvm_vcpu.lock (one call on a vCPU at a time), kvm.lock (creation, clock), then those of mem, iobus and irqchip. A
 * vCPU's state is touched with its lock held only; others reach it through vcpu_kick() and the atomic words of cpu and lapic.
 */
#ifndef USEKVM_KVM_KVM_H
#define USEKVM_KVM_KVM_H

#include <linux/kvm.h>

#include "base/lock.h"
#include "base/process.h"
#include "base/qsbr.h"
#include "base/service.h"
#include "base/sig.h"
#include "cpu/cpu.h"
#include "iobus/iobus.h"
#include "irqchip/irqchip.h"
#include "mem/mem.h"
#include "vfile/vfile.h"

#define KVM_VCPUS_MAX 1024
#define KVM_VCPU_IDS_MAX 4096
#define KVM_VCPU_MMAP_PAGES 3
#define KVM_PIO_PAGE 1
#define KVM_RING_PAGE 2
#define KVM_EXIT_REASONS 48

/* What <linux/kvm.h> of older systems lacks. */
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#define KVM_CAP_MEMORY_FAULT_INFO 232
#endif
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_CAP_USER_MEMORY2 231
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
struct kvm_userspace_memory_region2 {
	u32 slot, flags;
	u64 guest_phys_addr, memory_size, userspace_addr, guest_memfd_offset;
	u32 guest_memfd, pad1;
	u64 pad2[14];
};
#endif

#ifndef KVM_CAP_VM_TSC_CONTROL
#define KVM_CAP_VM_TSC_CONTROL 214
#endif
#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
struct kvm_pre_fault_memory {
	u64 gpa, size, flags, padding[5];
};
#endif
#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS 237
#endif
#ifndef KVM_CAP_DISABLE_QUIRKS2
#define KVM_CAP_DISABLE_QUIRKS2 213
#endif
#ifndef KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS
#define KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS (1 << 6)
#endif
#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL (1 << 7)
#endif
/*
 * Behaviour of the first KVMs that is kept unless a VMM asks for the hardware's. Of CD_NW_CLEARED (what CR0.CD means for memory types) and
 * SLOT_ZAP_ALL (which translations go with a slot) nothing can be seen here, either way.
 */
#define KVM_QUIRKS                                                                                                                         \
	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_CD_NW_CLEARED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE | KVM_X86_QUIRK_OUT_7E_INC_RIP |      \
	 KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN | KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS |                     \
	 KVM_X86_QUIRK_SLOT_ZAP_ALL)
#define KVM_DISABLE_EXITS (KVM_X86_DISABLE_EXITS_MWAIT | KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_CSTATE)

struct kvm;

/* What the VM knows of a device (devices/): a list, and how one ends that is still there when the VM does. */
struct kvm_device {
	struct kvm_device *next;
	void (*end)(struct kvm_device *d);
};

/* kvmclock of the VM: guest time is a pure function of the host's TSC, so that every vCPU sees the same one. */
struct kvm_clock {
	u64 base_tsc;  /* host TSC at which kvmclock would read `offset` */
	s64 offset;    /* ns */
	u32 khz;       /* host TSC */
	u32 vcpu_khz;  /* KVM_SET_TSC_KHZ of the VM: what new vCPUs begin with */
	u32 mul;       /* ns = ((tsc << shift) * mul) >> 32 */
	s8 shift;
	bool stable;   /* the host says its TSC is invariant */
	u32 tsc_khz;   /* as the following: */
	u64 tsc_offset, tsc_write, tsc_write_host; /* the last time a TSC was set: vCPUs set alike run alike */
	bool tsc_set;
};

/* A read section for threads that run no vCPU: claimed by setting `seen`, for one copy or so (xinterface/). */
#define KVM_CLIENT_READERS 32
struct kvm_client_reader {
	struct qsbr_reader reader;
	u32 hint; /* of memslot_find(): the claimer's */
} aligned(128);

struct kvm {
	struct guest_mem mem;
	struct iobus bus;
	struct irqchip irq;
	struct qsbr qsbr;
	struct service *svc;
	struct vfile vf;
	u32 refs, pins;
	void (*gone)(struct kvm *kvm, void *arg); /* on the thread that dropped the last ref, without locks; set before the VMM knows the fd */
	void *gone_arg;
	struct kvm_client_reader clients[KVM_CLIENT_READERS];
	int fd;              /* number at creation, for KVM_SET_MEMORY_REGION; may be closed later */
	struct mutex lock;
	struct kvm_clock clock;
	u32 nvcpus;          /* store_release after the slot */
	struct kvm_vcpu *vcpus[KVM_VCPUS_MAX];
	u32 max_vcpu_id;     /* KVM_CAP_MAX_VCPU_ID, 0: not set */
	u64 tss_addr, identity_map;
	u32 mmu_pages;
	u32 msr_exits;       /* atomic: KVM_MSR_EXIT_REASON_* (KVM_CAP_X86_USER_SPACE_MSR) */
	struct msr_filter *msr_filter; /* load_acquire; NULL: none */
	bool memory_owned;
	bool hlt_in_guest;   /* KVM_CAP_X86_DISABLE_EXITS: HLT is no exit, whoever has the LAPIC */
	u32 policy;          /* enum cpu_policy of its vCPUs; changed under lock (kvm_set_policy) */
	u64 quirks_off;      /* atomic: KVM_X86_QUIRK_* that the VMM does not want */
	struct mutex dev_lock; /* outside `lock`: devices are made and ended one at a time */
	struct kvm_device *devices;
	u32 noncoherent;     /* atomic, changed under lock: users of DMA past the caches (kvm_noncoherent_dma) */
	struct process_node node;
};

struct kvm_pvclock {
	u64 system_time, wall_clock; /* MSRs */
	u64 async_pf_en, steal_time, pv_eoi, poll_control; /* kept for VMMs that write them without asking CPUID */
	bool stopped;
	u64 seen_tsc_offset;
	u64 stolen, steal_due; /* what has been reported; the host TSC from which on it is to be looked at again */
	u64 steal_left;        /* the host TSC when KVM_RUN was left */
	int steal_tid;         /* the thread that runs the vCPU; 0: not known yet */
};

struct kvm_vcpu {
	struct cpu cpu;
	struct lapic lapic;
	struct qsbr_reader reader;
	struct kvm *kvm;
	u32 id, idx;
	struct mutex lock;
	struct kvm_run *run;     /* the first of the three pages of the vCPU's memfd */
	u8 *pio_data;
	const struct cpu_engine *engine;
	u32 sleeping;            /* atomic: in futex_wait on cpu.requests */
	u32 mp_state;
	int eoi_exit;            /* vector to tell the VMM of (split irqchip), or -1 */
	int user_irq;            /* KVM_INTERRUPT's vector waiting, or -1 */
	enum { MSR_PENDING_NONE, MSR_PENDING_READ, MSR_PENDING_WRITE } pending_msr;
	u8 msr_insn_len;
	bool pending_io, pending_mmio; /* the VMM has an access to answer */
	bool ran;                /* KVM_RUN was called: CPUID is fixed */
	bool triple_fault;       /* a machine check that cannot be delivered: KVM_EXIT_SHUTDOWN */
	bool run_ready;          /* made: its TSC has been set once */
	bool tpr_reporting;
	bool masked;             /* KVM_SET_SIGNAL_MASK in force */
	u64 sig_mask;
	u64 cr8;                 /* without LAPIC */
	u32 tsc_khz;             /* that the guest sees */
	u32 unhalt;              /* atomic: another vCPU's KVM_HC_KICK_CPU ends the HLT, or the next one */
	bool pv_enforced;        /* KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
	u64 vapic_addr;
	u32 pauses;
	void *client;            /* atomic: the client's event whose signal() this vCPU's thread runs (xinterface/) */
	struct kvm_pvclock pv;
	struct vfile vf;
	struct {
		u64 exits[KVM_EXIT_REASONS], runs, intr, halts, guest_tsc, vmm_tsc, left_at;
		u64 wbinvd, flushes, lines; /* WBINVD and INVD of the guest, those that did work, cache lines written back */
	} stat;
};

/* One KVM_RUN: what the signal wrapper finds. On the caller's stack, since a vCPU may be gone when the VMM's handlers run. */
struct vcpu_sig {
	struct sig_run sig;
	struct kvm_vcpu *vcpu;
};

static inline struct kvm_vcpu *cpu_vcpu(struct cpu *c)
{
	return container_of(c, struct kvm_vcpu, cpu);
}
static inline struct kvm_vcpu *lapic_vcpu(struct lapic *l)
{
	return container_of(l, struct kvm_vcpu, lapic);
}
static inline bool kvm_pic_in_kernel(const struct kvm *kvm)
{
	return kvm->irq.kernel;
}
static inline bool kvm_lapics_in_kernel(const struct kvm *kvm)
{
	return kvm->irq.kernel || kvm->irq.split;
}
static inline bool kvm_has_quirk(const struct kvm *kvm, u64 quirk)
{
	return !(load_relaxed(&kvm->quirks_off) & quirk);
}
static inline bool vcpu_is_bsp(const struct kvm_vcpu *v)
{
	return v->id == v->kvm->irq.boot_id;
}

/* vm.c */
extern const struct vfile_ops kvm_vm_ops hidden;
/* Every vCPU comes out of guest code: what it had mapped elsewhere may be another now. */
void kvm_memory_changed(void) hidden;
int kvm_create_vm(void) hidden; /* fd or -errno */
void kvm_get(struct kvm *kvm) hidden;
void kvm_put(struct kvm *kvm) hidden;
void kvm_pin(struct kvm *kvm) hidden; /* by who holds a ref or a pin */
void kvm_unpin(struct kvm *kvm) hidden;
int kvm_create_irqchip(struct kvm *kvm) hidden;
int kvm_split_irqchip(struct kvm *kvm, u64 pins) hidden;
int kvm_set_memory_region(struct kvm *kvm, const struct kvm_memory_region *r) hidden;
/* Counters of all VMs of the process, those that are gone included. */
enum { KSTAT_EXIT0, KSTAT_RUNS = KVM_EXIT_REASONS, KSTAT_INTR, KSTAT_HALTS, KSTAT_GUEST_TSC, KSTAT_VMM_TSC, KSTAT_CPU0, KSTAT_WBINVD = KSTAT_CPU0 + 10, KSTAT_FLUSHES, KSTAT_LINES, KSTAT_X0, KSTAT_COUNT = KSTAT_X0 + XS_COUNT };
void kvm_stats_sum(u64 sum[KSTAT_COUNT], unsigned *vms, unsigned *vcpus) hidden;
/* Adds those of one vCPU; of all vCPUs of a VM. */
void vcpu_stats_add(const struct kvm_vcpu *v, u64 sum[KSTAT_COUNT]) hidden;
void kvm_stats_add(struct kvm *kvm, u64 sum[KSTAT_COUNT]) hidden;
/* Bits `set` on, bits `clear` off, for every vCPU there is and will be. */
void kvm_set_policy(struct kvm *kvm, u32 set, u32 clear) hidden;
void kvm_disable_quirks(struct kvm *kvm, u64 quirks) hidden;
int kvm_set_apic_bus(struct kvm *kvm, u64 ns) hidden; /* KVM_CAP_X86_APIC_BUS_CYCLES_NS */
/* One more, or one fewer, whose DMA the host's caches do not see: while there is any, WBINVD and CLFLUSH reach the host's caches. */
void kvm_noncoherent_dma(struct kvm *kvm, bool start) hidden;

/* vcpu.c */
extern const struct vfile_ops kvm_vcpu_ops hidden;
int kvm_create_vcpu(struct kvm *kvm, u32 id) hidden; /* fd or -errno */
void vcpu_free(struct kvm_vcpu *v) hidden;
void vcpu_reset(struct kvm_vcpu *v, bool init) hidden;
int vcpu_set_cpuid(struct kvm_vcpu *v, const struct kvm_cpuid_entry2 *e, u32 n) hidden;
void vcpu_update_features(struct kvm_vcpu *v) hidden; /* what CPUID and MCG_CAP say to the LAPIC */
/* The VMM has mapped `len` bytes of the vCPU's file from `offset` on at `addr`: put the VM's coalesced ring where it belongs there. */
int vcpu_map_ring(struct kvm_vcpu *v, void *addr, u64 len, u64 offset, int prot) hidden;

struct kvm_vcpu *kvm_vcpu_by_id(struct kvm *kvm, u32 id) hidden; /* or NULL. Any thread: vCPUs stay as long as their VM */
/* May the guest use this KVM_FEATURE_*? */
bool vcpu_pv_has(const struct kvm_vcpu *v, unsigned feature) hidden;

/* run.c: KVM_RUN, with the vCPU's lock held and `s` entered. */
void vcpu_sig_init(struct vcpu_sig *s, struct kvm_vcpu *v) hidden;
int vcpu_run(struct kvm_vcpu *v, struct vcpu_sig *s) hidden;
/* Is this thread inside a client's signal(), so within the read section of a vCPU? It must not wait for vCPUs. */
bool kvm_in_client(void) hidden;
/* Is this vCPU run by this thread (if need be, by a KVM_RUN that is interrupted by another one)? */
bool vcpu_is_mine(const struct kvm_vcpu *v) hidden;
/* Handle cpu.requests but KICK; returns the bits that were set. Inside the read section, between guest instructions. */
u32 vcpu_process_requests(struct kvm_vcpu *v) hidden;

/* ops.c */
extern const struct cpu_ops kvm_cpu_ops hidden;

/* block.c */
/* Is there something that ends HLT, or that this mp_state waits for? */
bool vcpu_runnable(struct kvm_vcpu *v) hidden;
/* Sleep until vcpu_runnable() or a kick. Called inside the read section, which it leaves meanwhile. 0, or -EINTR. */
int vcpu_block(struct kvm_vcpu *v, struct vcpu_sig *s) hidden;
/* INIT and SIPI that have arrived. */
void vcpu_accept_events(struct kvm_vcpu *v) hidden;
int vcpu_get_mp_state(struct kvm_vcpu *v, struct kvm_mp_state *m) hidden;
int vcpu_set_mp_state(struct kvm_vcpu *v, const struct kvm_mp_state *m) hidden;
/* Can an external interrupt be had from the in-kernel chips? */
bool vcpu_has_interrupt(struct kvm_vcpu *v) hidden;
/* KVM_INTERRUPT's: with an in-kernel LAPIC only when LINT0 lets it through. */
bool vcpu_has_user_irq(const struct kvm_vcpu *v) hidden;
void vcpu_collect_nmi(struct kvm_vcpu *v) hidden;

/* requests.c */
extern const struct mem_ops kvm_mem_ops hidden;
extern const struct iobus_ops kvm_iobus_ops hidden;
extern const struct irq_ops kvm_irq_ops hidden;
void vcpu_kick(struct kvm_vcpu *v, u32 bits) hidden;
void kvm_request_all(struct kvm *kvm, u32 bits) hidden;
void kvm_synchronize(struct kvm *kvm) hidden;

/* clock.c */
void kvm_clock_init(struct kvm *kvm) hidden;
u64 kvm_clock_ns(const struct kvm *kvm, u64 host_tsc) hidden;
u64 kvm_tsc_to_ns(const struct kvm *kvm, u64 delta) hidden;
bool kvm_tsc_khz_is_near(const struct kvm *kvm, u64 khz) hidden; /* as near to the host's as Linux lets a guest's be unscaled */
int kvm_get_clock(struct kvm *kvm, struct kvm_clock_data *d) hidden;
int kvm_set_clock(struct kvm *kvm, const struct kvm_clock_data *d) hidden;
void vcpu_write_clock(struct kvm_vcpu *v) hidden;
int vcpu_kvmclock_ctrl(struct kvm_vcpu *v) hidden;
void vcpu_sync_tsc(struct kvm_vcpu *v, u64 value) hidden; /* the VMM sets the guest's TSC */
#define KVM_TSC_KHZ_MAX 0x7fffffffu
void vcpu_init_tsc_khz(struct kvm_vcpu *v, u32 khz) hidden; /* while it is being made */
int vcpu_set_tsc_khz(struct kvm_vcpu *v, u64 khz) hidden;
void vcpu_set_tsc_offset(struct kvm_vcpu *v, u64 offset) hidden;
void vcpu_tsc_moved(struct kvm_vcpu *v) hidden;           /* the guest did */
/* 0x11, 0x12, 0x4b564d00..; -ENOENT: not these. */
int vcpu_clock_rdmsr(struct kvm_vcpu *v, u32 index, u64 *val, bool host) hidden;
int vcpu_clock_wrmsr(struct kvm_vcpu *v, u32 index, u64 val, bool host) hidden;

/* steal.c */
int vcpu_set_steal_time(struct kvm_vcpu *v, u64 val) hidden;
/* If v->pv.steal_time & 1, on the thread that runs the vCPU, inside the read section. */
void vcpu_steal_enter(struct kvm_vcpu *v) hidden;
void vcpu_steal_tick(struct kvm_vcpu *v) hidden;

/* msrs.c */
int vcpu_get_msr(struct kvm_vcpu *v, u32 index, u64 *val) hidden; /* for the VMM; 0 or -errno */
int vcpu_set_msr(struct kvm_vcpu *v, u32 index, u64 val) hidden;
unsigned kvm_msr_list(u32 *index, unsigned n) hidden;

/* msr_exit.c */
int kvm_set_msr_filter(struct kvm *kvm, const struct kvm_msr_filter *user) hidden;
int kvm_enable_msr_exits(struct kvm *kvm, u64 reasons) hidden;
void msr_filter_free(struct msr_filter *f) hidden;
bool vcpu_msr_allowed(struct kvm_vcpu *v, u32 index, bool write) hidden;
int vcpu_msr_failed(struct kvm_vcpu *v, u32 index, bool write, u64 value, int error) hidden;
void vcpu_take_msr_answer(struct kvm_vcpu *v) hidden;

/* state_*.c. Inside the vCPU's lock. */
void vcpu_get_regs(struct kvm_vcpu *v, struct kvm_regs *r) hidden;
int vcpu_set_regs(struct kvm_vcpu *v, const struct kvm_regs *r) hidden;
void vcpu_get_sregs(struct kvm_vcpu *v, struct kvm_sregs *s) hidden;
int vcpu_set_sregs(struct kvm_vcpu *v, const struct kvm_sregs *s) hidden;
void vcpu_get_sregs2(struct kvm_vcpu *v, struct kvm_sregs2 *s) hidden;
int vcpu_set_sregs2(struct kvm_vcpu *v, const struct kvm_sregs2 *s) hidden;
void vcpu_get_fpu(struct kvm_vcpu *v, struct kvm_fpu *f) hidden;
int vcpu_set_fpu(struct kvm_vcpu *v, const struct kvm_fpu *f) hidden;
void vcpu_get_xsave(struct kvm_vcpu *v, void *area) hidden; /* CPU_XSAVE_SIZE bytes */
int vcpu_set_xsave(struct kvm_vcpu *v, const void *area) hidden;
void vcpu_get_xcrs(struct kvm_vcpu *v, struct kvm_xcrs *x) hidden;
int vcpu_set_xcrs(struct kvm_vcpu *v, const struct kvm_xcrs *x) hidden;
void vcpu_get_events(struct kvm_vcpu *v, struct kvm_vcpu_events *e) hidden;
int vcpu_set_events(struct kvm_vcpu *v, const struct kvm_vcpu_events *e) hidden;
int vcpu_interrupt(struct kvm_vcpu *v, u32 irq) hidden;
int vcpu_nmi(struct kvm_vcpu *v) hidden;
int vcpu_setup_mce(struct kvm_vcpu *v, u64 cap) hidden;
int vcpu_set_mce(struct kvm_vcpu *v, const struct kvm_x86_mce *m) hidden;
/* state_nested.c */
void vcpu_get_nested(const struct kvm_vcpu *v, struct kvm_nested_state *n) hidden;
int vcpu_set_nested(const struct kvm_vcpu *v, const struct kvm_nested_state *n) hidden;
void vcpu_get_debugregs(struct kvm_vcpu *v, struct kvm_debugregs *d) hidden;
int vcpu_set_debugregs(struct kvm_vcpu *v, const struct kvm_debugregs *d) hidden;
int vcpu_set_guest_debug(struct kvm_vcpu *v, const struct kvm_guest_debug *d) hidden;
int vcpu_debug_guest(struct kvm_vcpu *v, const struct kvm_debug_guest *d) hidden;
int vcpu_translate(struct kvm_vcpu *v, struct kvm_translation *t) hidden;
u64 vcpu_get_cr8(struct kvm_vcpu *v) hidden;
void vcpu_set_cr8(struct kvm_vcpu *v, u64 val) hidden;

#define KVM_MCG_CAP_SUPPORTED (BIT(24) | BIT(10) | BIT(8)) /* SER_P, CMCI_P, CTL_P */

#endif
