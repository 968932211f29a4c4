/* SPDX-License-Identifier: MIT */
/*
 * KVM_RUN: finish what the VMM has answered, then requests -> inject -> engine -> exit, round and round until something is the VMM's.
 *
 * The read section (base/qsbr.h) spans the whole of it but sleeping. Requests are taken after quiescing, never before (requests.c).
 * An access that waits for the VMM's answer is completed by the engine itself when it is entered; only when an event or a kick is to be
 * looked at first is it completed alone (interp_complete), since an interrupt must not come between the two halves of an instruction.
 */
#include "kvm/kvm.h"

#include <errno.h>

#include "base/inject.h"
#include "base/log.h"
#include "base/process.h"
#include "base/string.h"
#include "interp/event.h"
#include "interp/interp.h"

/* Not by cpu_request(), which ThreadSanitizer would watch. */
static signal_safe void kick(struct sig_run *r)
{
	struct vcpu_sig *s = container_of(r, struct vcpu_sig, sig);

	__atomic_fetch_or(&s->vcpu->cpu.requests, CPU_REQ_KICK, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&s->vcpu->cpu.away, __ATOMIC_SEQ_CST))
		cpu_wake(&s->vcpu->cpu);
}

static bool fault(struct sig_run *r, int sig, siginfo_t *info, ucontext_t *uc)
{
	struct vcpu_sig *s = container_of(r, struct vcpu_sig, sig);

	return interp_fault(&s->vcpu->cpu, sig, info, uc);
}

void vcpu_sig_init(struct vcpu_sig *s, struct kvm_vcpu *v)
{
	s->vcpu = v;
	s->sig.kick = kick;
	s->sig.fault = fault;
}

static struct kvm_vcpu *run_vcpu(struct sig_run *r)
{
	return r->kick == kick ? container_of(r, struct vcpu_sig, sig)->vcpu : NULL;
}

bool vcpu_is_mine(const struct kvm_vcpu *v)
{
	for (struct sig_run *r = sig_current(); r; r = r->outer)
		if (run_vcpu(r) == v)
			return true;
	return false;
}

bool kvm_in_client(void)
{
	for (struct sig_run *r = sig_current(); r; r = r->outer) {
		struct kvm_vcpu *v = run_vcpu(r);

		if (v && load_relaxed(&v->client))
			return true;
	}
	return false;
}

/* ---- requests ---- */

u32 vcpu_process_requests(struct kvm_vcpu *v)
{
	struct cpu *c = &v->cpu;
	u32 all = 0;

	for (;;) {
		qsbr_quiesce(&v->kvm->qsbr, &v->reader);
		if (!(__atomic_load_n(&c->requests, __ATOMIC_SEQ_CST) & ~(u32)CPU_REQ_CODE))
			return all;
		inject_slow_kick();
		u32 req = __atomic_fetch_and(&c->requests, CPU_REQ_CODE, __ATOMIC_SEQ_CST);
		all |= req;
		if (req & CPU_REQ_TLB_FLUSH)
			cpu_tlb_flush(c);
		else if (req & CPU_REQ_TLB_WRITE)
			cpu_tlb_flush_write(c);
		if (req & CPU_REQ_TIMER && v->lapic.present)
			lapic_run_timer(&v->lapic);
		if (req & CPU_REQ_CLOCK)
			vcpu_write_clock(v);
		if (req & CPU_REQ_TIMER && unlikely(v->pv.steal_time & 1))
			vcpu_steal_tick(v); /* guests ask in their timer interrupt */
	}
}

/* ---- injection ---- */

static void inject_nmi(struct kvm_vcpu *v)
{
	struct cpu_events *ev = &v->cpu.ev;

	vcpu_collect_nmi(v);
	if (!ev->nmi_pending)
		return;
	if (event_can_nmi(&v->cpu)) {
		ev->nmi_pending--;
		ev->nmi_injected = true;
	}
	ev->want_nmi_window = ev->nmi_pending;
}

/* External interrupts first (KVM_INTERRUPT, PIC), then the LAPIC's. -1: it went away. */
static int take_vector(struct kvm_vcpu *v)
{
	struct irqchip *irq = &v->kvm->irq;
	int vec = v->user_irq;

	if (vcpu_has_user_irq(v)) {
		v->user_irq = -1;
		return vec;
	}
	if (irq->kernel && lapic_accepts_pic(&v->lapic) && pic_intr(irq))
		return pic_inta(irq);
	vec = lapic_pending(&v->lapic);
	if (vec >= 0)
		lapic_ack(&v->lapic, vec);
	return vec;
}

static void inject_intr(struct kvm_vcpu *v)
{
	struct cpu *c = &v->cpu;
	struct cpu_events *ev = &c->ev;

	ev->want_irq_window = false;
	if (!vcpu_has_interrupt(v)) {
		ev->want_irq_window = v->run->request_interrupt_window && !kvm_pic_in_kernel(v->kvm);
		return;
	}
	/* Without in-kernel chips the VMM has looked at if_flag itself, and KVM delivers what it says. */
	bool forced = v->user_irq >= 0 && !v->lapic.present && !event_injected(c);
	if (!forced && !event_can_intr(c)) {
		ev->want_irq_window = true;
		return;
	}
	int vec = take_vector(v);
	if (vec < 0)
		return;
	ev->intr_injected = true;
	ev->intr_soft = false;
	ev->intr_vector = (u8)vec;
	ev->want_irq_window = vcpu_has_interrupt(v) || (v->run->request_interrupt_window && !kvm_pic_in_kernel(v->kvm));
}

static void inject(struct kvm_vcpu *v)
{
	if (v->cpu.gdbg.flags & KVM_GUESTDBG_BLOCKIRQ)
		return;
	inject_nmi(v);
	inject_intr(v);
}

/* May the VMM queue an interrupt that would be taken at once? */
static bool ready_for_interrupt(struct kvm_vcpu *v)
{
	if (v->user_irq >= 0 || !event_can_intr(&v->cpu))
		return false;
	return !v->lapic.present || lapic_accepts_pic(&v->lapic);
}

static bool window_open(struct kvm_vcpu *v)
{
	return unlikely(v->run->request_interrupt_window) && !kvm_pic_in_kernel(v->kvm) && ready_for_interrupt(v);
}

/* ---- exits ---- */

/* What handle_exit answers. */
enum { GO_ON = 1, TO_VMM = 0 };

static int exit_io(struct kvm_vcpu *v)
{
	struct cpu_io *io = &v->cpu.io;
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = io->write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = io->size;
	run->io.port = io->port;
	run->io.count = io->count;
	run->io.data_offset = KVM_PIO_PAGE * PAGE_SIZE;
	if (io->write) {
		u32 n = io->size * io->count;

		if (likely(n <= 4))
			*(u32 *)v->pio_data = *(const u32 *)io->data;
		else
			memcpy(v->pio_data, io->data, MIN(n, PAGE_SIZE));
	}
	io->state = IO_WAIT;
	v->pending_io = true;
	/* The port of QEMU's and others' APIC option ROM: they expect RIP behind the OUT. */
	if (unlikely(io->port == 0x7e && io->write && !io->string && kvm_has_quirk(v->kvm, KVM_X86_QUIRK_OUT_7E_INC_RIP))) {
		io->state = IO_NONE;
		v->pending_io = false;
		v->cpu.rip += io->insn_len;
	}
	return TO_VMM;
}

static int exit_mmio(struct kvm_vcpu *v)
{
	const struct cpu_mmio *m = &v->cpu.mmio;
	const struct cpu_mmio_frag *f = &m->frag[m->n - 1];
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = f->gpa;
	run->mmio.len = f->len;
	run->mmio.is_write = f->write;
	if (f->write)
		memcpy(run->mmio.data, f->data, sizeof(f->data));
	v->pending_mmio = true;
	return TO_VMM;
}

static int exit_hlt(struct kvm_vcpu *v)
{
	if (v->lapic.present || v->kvm->hlt_in_guest) {
		v->mp_state = KVM_MP_STATE_HALTED;
		return GO_ON;
	}
	/* An event that is already there ends the HLT at once. */
	if (v->cpu.ev.nmi_pending && !v->cpu.ev.nmi_masked)
		return GO_ON;
	if (v->user_irq >= 0 && v->cpu.rflags & X86_IF)
		return GO_ON;
	v->run->exit_reason = KVM_EXIT_HLT;
	return TO_VMM;
}

static int exit_debug(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	const struct cpu *c = &v->cpu;

	run->exit_reason = KVM_EXIT_DEBUG;
	run->debug.arch.exception = c->dbg_exit.vector;
	run->debug.arch.pad = 0;
	run->debug.arch.pc = c->dbg_exit.pc;
	run->debug.arch.dr6 = c->dbg_exit.dr6;
	run->debug.arch.dr7 = c->dbg_exit.dr7;
	return TO_VMM;
}

static int exit_emulation(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	const struct cpu *c = &v->cpu;
	unsigned len = MIN(c->insn_len, 15u);
	char hex[46] = "";

	memset(&run->internal, 0, sizeof(run->internal));
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 0;
	if (len) {
		run->emulation_failure.ndata = 3; /* the flags and the two words of instruction bytes */
		run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = (u8)len;
		memset(run->emulation_failure.insn_bytes, 0x90, sizeof(run->emulation_failure.insn_bytes));
		memcpy(run->emulation_failure.insn_bytes, c->insn_bytes, len);
	}
	for (unsigned i = 0; i < len; i++) {
		hex[i * 3] = "0123456789abcdef"[c->insn_bytes[i] >> 4];
		hex[i * 3 + 1] = "0123456789abcdef"[c->insn_bytes[i] & 15];
		hex[i * 3 + 2] = i + 1 < len ? ' ' : 0;
	}
	log_error(kvm, "vcpu %u: %s [%s] at cs %04x rip %#llx linear %#llx cpl %u", v->id,
		  len && process_engine == ENGINE_CHECK ? "the engines differ, or instruction not implemented" : len ? "instruction not implemented" : "code fetched from where no memory is", hex, c->seg[S_CS].sel,
		  (unsigned long long)c->rip, (unsigned long long)(c->rip + (cpu_is_64(c) ? 0 : c->seg[S_CS].base)), c->cpl);
	return TO_VMM;
}

/* KVM_RUN fails with EFAULT, and says where (KVM_CAP_MEMORY_FAULT_INFO). */
static int exit_fault(struct kvm_vcpu *v)
{
	struct {
		u64 flags, gpa, size;
	} info = { 0, v->cpu.fault_gpa & PAGE_MASK, PAGE_SIZE };

	log_debug(kvm, "vcpu %u: no host memory behind gpa %#llx", v->id, (unsigned long long)v->cpu.fault_gpa);
	v->run->exit_reason = KVM_EXIT_MEMORY_FAULT;
	memcpy(v->run->padding, &info, sizeof(info));
	return -EFAULT;
}

static int handle_exit(struct kvm_vcpu *v, int why)
{
	switch (why) {
	case CPU_EXIT_REQUEST:
		return GO_ON;
	case CPU_EXIT_IO:
		return exit_io(v);
	case CPU_EXIT_MMIO:
		return exit_mmio(v);
	case CPU_EXIT_HLT:
		return exit_hlt(v);
	case CPU_EXIT_SHUTDOWN:
		v->run->exit_reason = KVM_EXIT_SHUTDOWN;
		return TO_VMM;
	case CPU_EXIT_DEBUG:
		return exit_debug(v);
	case CPU_EXIT_EMULATION:
		return exit_emulation(v);
	case CPU_EXIT_FAULT:
		return exit_fault(v);
	case CPU_EXIT_USER:
		return TO_VMM;
	}
	return -EINVAL;
}

/* ---- what the VMM answered ---- */

static void take_answers(struct kvm_vcpu *v)
{
	struct cpu *c = &v->cpu;

	if (v->pending_io) {
		struct cpu_io *io = &c->io;

		v->pending_io = false;
		if (io->state == IO_WAIT) {
			u32 n = io->size * io->count;

			if (!io->write && n <= 4)
				*(u32 *)io->data = *(const u32 *)v->pio_data;
			else if (!io->write)
				memcpy(io->data, v->pio_data, MIN(n, PAGE_SIZE));
			io->state = IO_DONE;
		}
	}
	if (v->pending_mmio) {
		v->pending_mmio = false;
		if (c->mmio.n) {
			struct cpu_mmio_frag *f = &c->mmio.frag[c->mmio.n - 1];

			if (!f->write)
				memcpy(f->data, v->run->mmio.data, sizeof(f->data));
			f->done = true;
		}
	}
}

/* Its answer completes the instruction at once, or injects what that raises. */
static inline void take_msr(struct kvm_vcpu *v)
{
	if (unlikely(v->pending_msr))
		vcpu_take_msr_answer(v);
}

static inline bool answer_pending(const struct kvm_vcpu *v)
{
	return v->cpu.io.state == IO_DONE || v->cpu.mmio.n;
}

/* ---- shared registers in kvm_run ---- */

static int sync_in(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 dirty = run->kvm_dirty_regs, valid = run->kvm_valid_regs;
	int r = 0;

	if ((valid | dirty) & ~(u64)KVM_SYNC_X86_VALID_FIELDS)
		return -EINVAL;
	if (dirty & KVM_SYNC_X86_REGS) {
		struct kvm_regs regs = run->s.regs.regs;

		r = vcpu_set_regs(v, &regs);
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_REGS;
	}
	if (!r && dirty & KVM_SYNC_X86_SREGS) {
		struct kvm_sregs sregs = run->s.regs.sregs; /* a copy: another thread may write to the page */

		r = vcpu_set_sregs(v, &sregs);
		if (!r)
			run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_SREGS;
	}
	if (!r && dirty & KVM_SYNC_X86_EVENTS) {
		struct kvm_vcpu_events ev = run->s.regs.events;

		r = vcpu_set_events(v, &ev);
		if (!r)
			run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_EVENTS;
	}
	return r ? -EINVAL : 0;
}

static noinline void sync_out(struct kvm_vcpu *v, u64 valid)
{
	struct kvm_run *run = v->run;

	if (valid & KVM_SYNC_X86_REGS)
		vcpu_get_regs(v, &run->s.regs.regs);
	if (valid & KVM_SYNC_X86_SREGS)
		vcpu_get_sregs(v, &run->s.regs.sregs);
	if (valid & KVM_SYNC_X86_EVENTS)
		vcpu_get_events(v, &run->s.regs.events);
}

static void post_run(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;

	run->if_flag = !!(v->cpu.rflags & X86_IF);
	run->flags = 0;
	run->cr8 = vcpu_get_cr8(v);
	run->apic_base = v->lapic.base;
	run->ready_for_interrupt_injection = kvm_pic_in_kernel(v->kvm) || ready_for_interrupt(v);
	if (unlikely(run->kvm_valid_regs))
		sync_out(v, run->kvm_valid_regs);
}

/* ---- the loop ---- */

static int intr(struct kvm_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_INTR;
	stat_add(&v->stat.intr, 1);
	return -EINTR;
}

/* A halted or waiting vCPU. GO_ON, or -EINTR. */
static int not_runnable(struct kvm_vcpu *v, struct vcpu_sig *s)
{
	if (vcpu_block(v, s) < 0)
		return intr(v);
	vcpu_accept_events(v);
	if (v->mp_state == KVM_MP_STATE_HALTED)
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	store_relaxed(&v->unhalt, 0);
	return GO_ON;
}

static int run_loop(struct kvm_vcpu *v, struct vcpu_sig *s)
{
	struct cpu *c = &v->cpu;
	int r;

	for (;;) {
		u32 req = vcpu_process_requests(v);
		bool forced = inject_draw(INJECT_EINTR);

		if (forced)
			req |= CPU_REQ_KICK;
		if (unlikely(req && answer_pending(v))) {
			r = handle_exit(v, interp_complete(c));
			if (r <= 0)
				return r;
		}
		if (unlikely(v->eoi_exit >= 0)) {
			v->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
			v->run->eoi.vector = (u8)v->eoi_exit;
			v->eoi_exit = -1;
			return 0;
		}
		if (unlikely(v->triple_fault)) {
			v->triple_fault = false;
			v->run->exit_reason = KVM_EXIT_SHUTDOWN;
			return 0;
		}
		if (unlikely(req & CPU_REQ_KICK)) {
			if (s->sig.interrupted || forced)
				return intr(v);
			if (v->run->immediate_exit)
				return -EINTR;
		}
		vcpu_accept_events(v);
		if (unlikely(v->mp_state != KVM_MP_STATE_RUNNABLE)) {
			r = not_runnable(v, s);
			if (r <= 0)
				return r;
			continue;
		}
		if (!answer_pending(v))
			inject(v);
		else
			c->ev.want_irq_window = true; /* not looked at yet */
		if (unlikely(c->tsc_offset != v->pv.seen_tsc_offset))
			vcpu_tsc_moved(v);
		r = handle_exit(v, v->engine->run(c));
		if (r <= 0)
			return r;
		if (window_open(v)) {
			v->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			return 0;
		}
	}
}

/* An AP before its first INIT: the call returns EAGAIN when the state has changed, as the kernel's does. */
static int wait_for_init(struct kvm_vcpu *v, struct vcpu_sig *s)
{
	if (v->run->immediate_exit)
		return -EINTR;
	if (inject_draw(INJECT_EINTR))
		return intr(v);
	if (inject_draw(INJECT_WAKE))
		return -EAGAIN;
	int r = vcpu_block(v, s);
	vcpu_accept_events(v);
	return r < 0 ? intr(v) : -EAGAIN;
}

static int enter(struct kvm_vcpu *v, struct vcpu_sig *s)
{
	struct kvm_run *run = v->run;
	int r;

	if (unlikely(v->mp_state == KVM_MP_STATE_UNINITIALIZED))
		return wait_for_init(v, s);
	if (unlikely(run->kvm_valid_regs | run->kvm_dirty_regs)) {
		r = sync_in(v);
		if (r)
			return r;
	}
	if (!v->lapic.present && run->cr8 != v->cr8) {
		if (run->cr8 & ~15ull)
			return -EINVAL;
		vcpu_set_cr8(v, run->cr8);
	}
	take_answers(v);
	take_msr(v);
	if (unlikely(run->immediate_exit)) {
		vcpu_process_requests(v);
		if (answer_pending(v)) {
			r = handle_exit(v, interp_complete(&v->cpu));
			if (r <= 0)
				return r;
		}
		return -EINTR;
	}
	run->exit_reason = KVM_EXIT_UNKNOWN;
	if (unlikely(!load_relaxed(&v->kvm->mem.ran)))
		store_relaxed(&v->kvm->mem.ran, true);
	return run_loop(v, s);
}

int vcpu_run(struct kvm_vcpu *v, struct vcpu_sig *s)
{
	u64 t0 = 0;

	/*
	 * A kick of an earlier KVM_RUN that ended for another reason meanwhile is no business of this one; ours may have been taken by another
	 * thread's KVM_RUN while we waited for the lock.
	 */
	if (unlikely(load_relaxed(&v->cpu.requests) & CPU_REQ_KICK))
		__atomic_fetch_and(&v->cpu.requests, ~(u32)CPU_REQ_KICK, __ATOMIC_SEQ_CST);
	if (unlikely(load_relaxed(&s->sig.interrupted)))
		cpu_request(&v->cpu, CPU_REQ_KICK);
	v->ran = true;
	stat_add(&v->stat.runs, 1);
	if (unlikely(process_timing)) {
		t0 = host_rdtsc();
		if (v->stat.left_at)
			stat_add(&v->stat.vmm_tsc, t0 - v->stat.left_at);
	}
	qsbr_enter(&v->kvm->qsbr, &v->reader);
	if (unlikely(v->pv.steal_time & 1))
		vcpu_steal_enter(v);
	int r = enter(v, s);
	post_run(v);
	if (unlikely(v->pv.steal_time & 1))
		v->pv.steal_left = host_rdtsc();
	qsbr_leave(&v->reader);
	/* A VMM that answers an access may write to pages (a disk's DMA), but what it writes becomes code only by a change of mapping. */
	if (r || (v->run->exit_reason != KVM_EXIT_IO && v->run->exit_reason != KVM_EXIT_MMIO))
		v->cpu.code_stale = true;
	if (!r)
		stat_add(&v->stat.exits[v->run->exit_reason < KVM_EXIT_REASONS ? v->run->exit_reason : 0], 1);
	if (unlikely(process_timing)) {
		v->stat.left_at = host_rdtsc();
		stat_add(&v->stat.guest_tsc, v->stat.left_at - t0);
	}
	return r;
}
