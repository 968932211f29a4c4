/* SPDX-License-Identifier: MIT */
/*
 * Segments, descriptor tables and control registers: KVM_GET/SET_SREGS and SREGS2. Everything is checked before anything is changed.
 */
#include "kvm/kvm.h"

#include <errno.h>

#include "base/string.h"
#include "cpu/cr.h"
#include "mmu/mmu.h"

static void get_seg(const struct cpu_seg *s, struct kvm_segment *k)
{
	u32 ar = s->ar;

	memset(k, 0, sizeof(*k));
	k->base = s->base;
	k->limit = s->limit;
	k->selector = s->sel;
	k->type = ar & AR_TYPE;
	k->s = !!(ar & AR_S);
	k->dpl = (ar & AR_DPL) >> AR_DPL_SHIFT;
	k->present = !!(ar & AR_P);
	k->avl = !!(ar & AR_AVL);
	k->l = !!(ar & AR_L);
	k->db = !!(ar & AR_DB);
	k->g = !!(ar & AR_G);
	k->unusable = !!(ar & AR_UNUSABLE) || !k->present;
}

static void set_seg(struct cpu_seg *s, const struct kvm_segment *k)
{
	s->base = k->base;
	s->limit = k->limit;
	s->sel = k->selector;
	s->ar = (k->type & AR_TYPE) | (k->s ? AR_S : 0) | ((u32)(k->dpl & 3) << AR_DPL_SHIFT) | (k->present ? AR_P : 0) | (k->avl ? AR_AVL : 0) |
		(k->l ? AR_L : 0) | (k->db ? AR_DB : 0) | (k->g ? AR_G : 0) | (k->unusable || !k->present ? AR_UNUSABLE : 0);
}

/* The two structs begin alike, up to apic_base. */
#define GET_COMMON(v, s)                                                                                                                   \
	do {                                                                                                                               \
		struct cpu *c_ = &(v)->cpu;                                                                                                \
		get_seg(&c_->seg[S_CS], &(s)->cs);                                                                                         \
		get_seg(&c_->seg[S_DS], &(s)->ds);                                                                                         \
		get_seg(&c_->seg[S_ES], &(s)->es);                                                                                         \
		get_seg(&c_->seg[S_FS], &(s)->fs);                                                                                         \
		get_seg(&c_->seg[S_GS], &(s)->gs);                                                                                         \
		get_seg(&c_->seg[S_SS], &(s)->ss);                                                                                         \
		get_seg(&c_->seg[S_TR], &(s)->tr);                                                                                         \
		get_seg(&c_->seg[S_LDTR], &(s)->ldt);                                                                                      \
		(s)->gdt.base = c_->gdtr.base;                                                                                             \
		(s)->gdt.limit = c_->gdtr.limit;                                                                                           \
		(s)->idt.base = c_->idtr.base;                                                                                             \
		(s)->idt.limit = c_->idtr.limit;                                                                                           \
		(s)->cr0 = c_->cr0;                                                                                                        \
		(s)->cr2 = c_->cr2;                                                                                                        \
		(s)->cr3 = c_->cr3;                                                                                                        \
		(s)->cr4 = c_->cr4;                                                                                                        \
		(s)->cr8 = vcpu_get_cr8(v);                                                                                                \
		(s)->efer = c_->efer;                                                                                                      \
		(s)->apic_base = (v)->lapic.base;                                                                                          \
	} while (0)

static bool pae_paging(const struct cpu *c)
{
	return (c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE) && !(c->efer & EFER_LMA);
}

void vcpu_get_sregs(struct kvm_vcpu *v, struct kvm_sregs *s)
{
	memset(s, 0, sizeof(*s));
	GET_COMMON(v, s);
	if (v->user_irq >= 0 && !v->lapic.present)
		s->interrupt_bitmap[v->user_irq / 64] |= BIT(v->user_irq % 64);
	else if (v->cpu.ev.intr_injected && !v->cpu.ev.intr_soft)
		s->interrupt_bitmap[v->cpu.ev.intr_vector / 64] |= BIT(v->cpu.ev.intr_vector % 64);
}

void vcpu_get_sregs2(struct kvm_vcpu *v, struct kvm_sregs2 *s)
{
	memset(s, 0, sizeof(*s));
	GET_COMMON(v, s);
	if (pae_paging(&v->cpu)) {
		memcpy(s->pdptrs, v->cpu.pdptr, sizeof(s->pdptrs));
		s->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
}

static int check_and_set_base(struct kvm_vcpu *v, const struct kvm_sregs2 *s)
{
	int r = cpu_check_sregs(&v->cpu, s->cr0, s->cr3, s->cr4, s->efer, s->cs.l, s->cs.db);

	if (r)
		return r;
	return lapic_set_base(&v->lapic, s->apic_base, true) ? -EINVAL : 0;
}

/* Cannot fail. */
static void store(struct kvm_vcpu *v, const struct kvm_sregs2 *s)
{
	struct cpu *c = &v->cpu;

	set_seg(&c->seg[S_CS], &s->cs);
	set_seg(&c->seg[S_DS], &s->ds);
	set_seg(&c->seg[S_ES], &s->es);
	set_seg(&c->seg[S_FS], &s->fs);
	set_seg(&c->seg[S_GS], &s->gs);
	set_seg(&c->seg[S_SS], &s->ss);
	set_seg(&c->seg[S_TR], &s->tr);
	set_seg(&c->seg[S_LDTR], &s->ldt);
	c->gdtr.base = s->gdt.base;
	c->gdtr.limit = s->gdt.limit;
	c->idtr.base = s->idt.base;
	c->idtr.limit = s->idt.limit;
	c->cr2 = s->cr2;
	c->cr3 = s->cr3;
	c->cr4 = s->cr4;
	c->cr0 = s->cr0 | CR0_ET;
	c->efer = s->efer;
	vcpu_set_cr8(v, s->cr8 & 15);
	cpu_update_mode(c);
	cpu_tlb_flush(c);
	/* VMMs that know no mp_state reset a halted BSP by its registers. */
	if (vcpu_is_bsp(v) && c->rip == 0xfff0 && s->cs.selector == 0xf000 && s->cs.base == 0xffff0000 && !(c->cr0 & CR0_PE))
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	cpu_request(c, CPU_REQ_EVENT);
}

int vcpu_set_sregs2(struct kvm_vcpu *v, const struct kvm_sregs2 *s)
{
	struct cpu *c = &v->cpu;
	bool valid = s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;
	bool pae = (s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE) && !(s->efer & EFER_LMA);

	if (s->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID || (valid && !pae))
		return -EINVAL;
	int r = check_and_set_base(v, s);
	if (r)
		return r;
	store(v, s);
	if (valid) {
		memcpy(c->pdptr, s->pdptrs, sizeof(c->pdptr));
	} else if (pae) {
		qsbr_enter(&v->kvm->qsbr, &v->reader);
		mmu_load_pdptrs(c, c->cr3);
		qsbr_leave(&v->reader);
	}
	return 0;
}

_Static_assert(offsetof(struct kvm_sregs, apic_base) == offsetof(struct kvm_sregs2, apic_base), "sregs and sregs2 begin alike");

int vcpu_set_sregs(struct kvm_vcpu *v, const struct kvm_sregs *s)
{
	struct kvm_sregs2 s2 = { 0 };

	memcpy(&s2, s, offsetof(struct kvm_sregs2, flags));
	int r = vcpu_set_sregs2(v, &s2);
	if (r)
		return r;
	for (unsigned i = 0; i < 256; i++) {
		if (s->interrupt_bitmap[i / 64] & BIT(i % 64)) {
			v->cpu.ev.intr_injected = true;
			v->cpu.ev.intr_soft = false;
			v->cpu.ev.intr_vector = (u8)i;
			break;
		}
	}
	return 0;
}
