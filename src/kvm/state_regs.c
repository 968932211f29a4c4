/* SPDX-License-Identifier: MIT */
/*
 * General registers, XCRs, address translation.
 */
#include "kvm/kvm.h"

#include <errno.h>

#include "base/string.h"
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/fpu.h"
#include "mmu/mmu.h"

void vcpu_get_regs(struct kvm_vcpu *v, struct kvm_regs *r)
{
	const u64 *g = v->cpu.gpr;

	r->rax = g[R_AX];
	r->rbx = g[R_BX];
	r->rcx = g[R_CX];
	r->rdx = g[R_DX];
	r->rsi = g[R_SI];
	r->rdi = g[R_DI];
	r->rsp = g[R_SP];
	r->rbp = g[R_BP];
	r->r8 = g[R_8];
	r->r9 = g[R_9];
	r->r10 = g[R_10];
	r->r11 = g[R_11];
	r->r12 = g[R_12];
	r->r13 = g[R_13];
	r->r14 = g[R_14];
	r->r15 = g[R_15];
	r->rip = v->cpu.rip;
	r->rflags = cpu_get_rflags(&v->cpu);
}

int vcpu_set_regs(struct kvm_vcpu *v, const struct kvm_regs *r)
{
	u64 *g = v->cpu.gpr;

	g[R_AX] = r->rax;
	g[R_BX] = r->rbx;
	g[R_CX] = r->rcx;
	g[R_DX] = r->rdx;
	g[R_SI] = r->rsi;
	g[R_DI] = r->rdi;
	g[R_SP] = r->rsp;
	g[R_BP] = r->rbp;
	g[R_8] = r->r8;
	g[R_9] = r->r9;
	g[R_10] = r->r10;
	g[R_11] = r->r11;
	g[R_12] = r->r12;
	g[R_13] = r->r13;
	g[R_14] = r->r14;
	g[R_15] = r->r15;
	v->cpu.rip = r->rip;
	cpu_set_rflags(&v->cpu, (r->rflags & 0x3fffffull & ~0x8028ull) | 2);
	v->cpu.ev.exc_pending = v->cpu.ev.exc_injected = false; /* as KVM: new registers, no old exception */
	return 0;
}

void vcpu_get_fpu(struct kvm_vcpu *v, struct kvm_fpu *f)
{
	memset(f, 0, sizeof(*f));
	cpu_get_fpu(&v->cpu, f);
}

int vcpu_set_fpu(struct kvm_vcpu *v, const struct kvm_fpu *f)
{
	return cpu_set_fpu(&v->cpu, f);
}

void vcpu_get_xsave(struct kvm_vcpu *v, void *area)
{
	cpu_get_xsave(&v->cpu, area);
}

int vcpu_set_xsave(struct kvm_vcpu *v, const void *area)
{
	return cpu_set_xsave(&v->cpu, area);
}

void vcpu_get_xcrs(struct kvm_vcpu *v, struct kvm_xcrs *x)
{
	memset(x, 0, sizeof(*x));
	x->nr_xcrs = 1;
	x->xcrs[0].xcr = 0;
	x->xcrs[0].value = v->cpu.xcr0;
}

int vcpu_set_xcrs(struct kvm_vcpu *v, const struct kvm_xcrs *x)
{
	if (x->nr_xcrs > KVM_MAX_XCRS || x->flags)
		return -EINVAL;
	for (u32 i = 0; i < x->nr_xcrs; i++)
		if (x->xcrs[i].xcr == 0)
			return cpu_set_xcr0(&v->cpu, x->xcrs[i].value);
	return 0;
}

int vcpu_translate(struct kvm_vcpu *v, struct kvm_translation *t)
{
	struct mmu_result res = { 0 };

	qsbr_enter(&v->kvm->qsbr, &v->reader);
	int r = mmu_probe(&v->cpu, t->linear_address, &res);
	qsbr_leave(&v->reader);
	/* Without paging KVM hands the address back as it is, all 64 bits of it; the last of all means invalid. */
	t->physical_address = r ? ~0ull : v->cpu.cr0 & CR0_PG ? res.gpa : t->linear_address;
	t->valid = t->physical_address != ~0ull;
	t->writeable = 1; /* what KVM says, whatever the tables say */
	t->usermode = 0;
	return 0;
}
