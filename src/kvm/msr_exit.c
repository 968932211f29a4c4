/* SPDX-License-Identifier: MIT */
/*
 * MSR accesses of the guest that the VMM wants to see: KVM_X86_SET_MSR_FILTER says which may be done at all, KVM_CAP_X86_USER_SPACE_MSR which
 * of those that fail end with KVM_EXIT_X86_RDMSR or WRMSR instead of #GP.
 *
 * The filter is replaced as a whole; vCPUs look at it inside their read section. At the exit RIP stands on the instruction; the answer, taken
 * at the next KVM_RUN, completes it or makes it #GP.
 */
#include "kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>

#include "base/string.h"
#include "base/sys.h"
#include "interp/debug.h"

#define BITMAP_BYTES(nmsrs) (((u64)(nmsrs) + 63) / 64 * 8)

struct filter_range {
	u32 flags, nmsrs, base;
	u8 *bitmap;
};

struct msr_filter {
	bool allow; /* what no range names */
	u32 n;
	struct filter_range range[KVM_MSR_FILTER_MAX_RANGES];
};

void msr_filter_free(struct msr_filter *f)
{
	for (u32 i = 0; f && i < f->n; i++)
		free(f->range[i].bitmap);
	free(f);
}

static int add_range(struct msr_filter *f, const struct kvm_msr_filter_range *user)
{
	struct filter_range *r = &f->range[f->n];
	u64 bytes = BITMAP_BYTES(user->nmsrs);

	if (!user->nmsrs)
		return 0;
	if (user->flags & ~(u32)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) || bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
		return -EINVAL;
	*r = (struct filter_range){ .flags = user->flags, .nmsrs = user->nmsrs, .base = user->base, .bitmap = malloc(bytes) };
	if (!r->bitmap)
		return -ENOMEM;
	f->n++; /* the bitmap is the filter's to free */
	return copy_from_user(r->bitmap, user->bitmap, bytes) ? -EFAULT : 0;
}

int kvm_set_msr_filter(struct kvm *kvm, const struct kvm_msr_filter *user)
{
	bool empty = true, deny = user->flags & KVM_MSR_FILTER_DEFAULT_DENY;
	int r = 0;

	if (user->flags & ~(u32)KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	for (u32 i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		empty &= !user->ranges[i].nmsrs;
	if (empty && deny)
		return -EINVAL;
	struct msr_filter *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->allow = !deny;
	for (u32 i = 0; !r && i < KVM_MSR_FILTER_MAX_RANGES; i++)
		r = add_range(f, &user->ranges[i]);
	if (r) {
		msr_filter_free(f);
		return r;
	}
	mutex_lock(&kvm->lock);
	struct msr_filter *old = kvm->msr_filter;
	store_release(&kvm->msr_filter, f);
	mutex_unlock(&kvm->lock);
	if (old)
		kvm_synchronize(kvm);
	msr_filter_free(old);
	return 0;
}

int kvm_enable_msr_exits(struct kvm *kvm, u64 reasons)
{
	if (reasons & ~(u64)(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER))
		return -EINVAL;
	store_relaxed(&kvm->msr_exits, (u32)reasons);
	return 0;
}

bool vcpu_msr_allowed(struct kvm_vcpu *v, u32 index, bool write)
{
	const struct msr_filter *f = load_acquire(&v->kvm->msr_filter);

	if (likely(!f) || (index >= 0x800 && index <= 0x8ff)) /* the LAPIC's are never denied */
		return true;
	for (u32 i = 0; i < f->n; i++) {
		const struct filter_range *r = &f->range[i];
		u32 n = index - r->base;

		if (n < r->nmsrs && r->flags & (write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ))
			return r->bitmap[n / 8] >> (n & 7) & 1;
	}
	return f->allow;
}

int vcpu_msr_failed(struct kvm_vcpu *v, u32 index, bool write, u64 value, int error)
{
	u32 reason = error == -EPERM    ? KVM_MSR_EXIT_REASON_FILTER
		     : error == -ENOENT ? KVM_MSR_EXIT_REASON_UNKNOWN
					: KVM_MSR_EXIT_REASON_INVAL;
	struct kvm_run *run = v->run;

	if (likely(!(load_relaxed(&v->kvm->msr_exits) & reason)))
		return error;
	run->exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	run->msr.error = 0;
	memset(run->msr.pad, 0, sizeof(run->msr.pad));
	run->msr.reason = reason;
	run->msr.index = index;
	run->msr.data = write ? value : 0;
	v->pending_msr = write ? MSR_PENDING_WRITE : MSR_PENDING_READ;
	v->msr_insn_len = v->cpu.insn_len;
	return 1;
}

static void inject(struct cpu *c, u8 vector, bool has_error)
{
	c->ev.exc_injected = true;
	c->ev.exc_vector = vector;
	c->ev.exc_has_error = has_error;
	c->ev.exc_error = 0;
}

void vcpu_take_msr_answer(struct kvm_vcpu *v)
{
	const struct kvm_run *run = v->run;
	struct cpu *c = &v->cpu;
	bool read = v->pending_msr == MSR_PENDING_READ;

	v->pending_msr = MSR_PENDING_NONE;
	if (load_relaxed(&run->msr.error)) {
		inject(c, EX_GP, true);
		return;
	}
	if (read) {
		u64 data = run->msr.data;

		c->gpr[R_AX] = (u32)data;
		c->gpr[R_DX] = data >> 32;
	}
	c->rip += v->msr_insn_len;
	if (!cpu_is_64(c))
		c->rip = (u32)c->rip;
	c->ev.shadow = 0;
	if (c->rflags & X86_TF) {
		c->dr6 |= DR6_BS;
		inject(c, EX_DB, false);
	}
}
