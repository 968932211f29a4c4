/* SPDX-License-Identifier: MIT */
/*
 * Requests on /dev/kvm.
 */
#include <errno.h>
#include <stdlib.h>

#include "api/call.h"
#include "base/string.h"
#include "base/sys.h"
#include "cpu/cpuid.h"
#include "cpu/msr.h"

long sys_api_version(struct api_call *call)
{
	return call->arg ? -EINVAL : KVM_API_VERSION;
}

long sys_create_vm(struct api_call *call)
{
	return call->arg ? -EINVAL : kvm_create_vm();
}

long sys_check_extension(struct api_call *call)
{
	return api_check_extension(call->arg);
}

long sys_mmap_size(struct api_call *call)
{
	return call->arg ? -EINVAL : (long)(KVM_VCPU_MMAP_PAGES * PAGE_SIZE);
}

long sys_mce_cap(struct api_call *call)
{
	call->u->u64 = KVM_MCG_CAP_SUPPORTED; /* how many banks: KVM_CAP_MCE */
	return 0;
}

/* The one attribute: which XSAVE components a guest may be given (the kernel's, with those that a process must ask for by arch_prctl). */
long sys_has_attr(struct api_call *call)
{
	return call->u->attr.group || call->u->attr.attr != KVM_X86_XCOMP_GUEST_SUPP ? -ENXIO : 0;
}

long sys_get_attr(struct api_call *call)
{
	u64 mask = cpuid_xcr0_mask();
	long r = sys_has_attr(call);

	if (r)
		return r;
	return copy_to_user((void *)call->u->attr.addr, &mask, sizeof(mask)) ? -EFAULT : 0;
}

/* n entries to the caller's list; its count is set. -E2BIG if it said it has less room. */
static long put_cpuid(struct api_call *call, const struct kvm_cpuid_entry2 *e, u32 n)
{
	struct kvm_cpuid2 *user = (struct kvm_cpuid2 *)call->arg, head;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.nent < n)
		return -E2BIG;
	if (copy_to_user(user->entries, e, n * sizeof(*e)))
		return -EFAULT;
	head.nent = n;
	return copy_to_user(user, &head, sizeof(head)) ? -EFAULT : 0;
}

long sys_supported_cpuid(struct api_call *call)
{
	struct kvm_cpuid_entry2 *e = calloc(CPUID_MAX_ENTRIES, sizeof(*e));
	u32 n = CPUID_MAX_ENTRIES;

	if (!e)
		return -ENOMEM;
	long r = cpuid_supported(e, &n);
	if (!r)
		r = put_cpuid(call, e, n);
	free(e);
	return r;
}

/* Features that work though the host may lack them: MOVBE. */
long sys_emulated_cpuid(struct api_call *call)
{
	static const struct kvm_cpuid_entry2 e[] = {
		{ .function = 0, .eax = 7 },
		{ .function = 1, .ecx = 1u << 22 },
		{ .function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX },
	};

	return put_cpuid(call, e, ARRAY_SIZE(e));
}

static long put_msr_list(struct api_call *call, unsigned (*list)(u32 *, unsigned))
{
	struct kvm_msr_list *user = (struct kvm_msr_list *)call->arg, head;
	u32 index[512];
	unsigned n = list(index, ARRAY_SIZE(index));

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	u32 room = head.nmsrs;
	head.nmsrs = n;
	if (copy_to_user(user, &head, sizeof(head)))
		return -EFAULT;
	if (room < n)
		return -E2BIG;
	return copy_to_user(user->indices, index, n * sizeof(u32)) ? -EFAULT : 0;
}

long sys_msr_list(struct api_call *call)
{
	return put_msr_list(call, kvm_msr_list);
}

long sys_msr_feature_list(struct api_call *call)
{
	return put_msr_list(call, cpu_msr_feature_list);
}

long sys_get_msrs(struct api_call *call)
{
	struct kvm_msrs *user = (struct kvm_msrs *)call->arg, head;
	u32 i;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.nmsrs >= 256)
		return -E2BIG;
	for (i = 0; i < head.nmsrs; i++) {
		struct kvm_msr_entry e;
		u64 val;

		if (copy_from_user(&e, &user->entries[i], sizeof(e)))
			return -EFAULT;
		if (cpu_msr_feature_get(e.index, &val))
			break;
		e.data = val;
		if (copy_to_user(&user->entries[i], &e, sizeof(e)))
			return -EFAULT;
	}
	return i;
}
