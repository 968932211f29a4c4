/* SPDX-License-Identifier: MIT */
/*
 * KVM_CAP_DISABLE_QUIRKS2: what the first KVMs did, and the hardware's behaviour without it: the page of a LAPIC that is off, RIP at OUT to port
 * 0x7e, the other maker's hypercall instruction, MONITOR and MWAIT, LINT0 at reset. And the emulation failures that a VMM may ask for.
 */
#include "kvmtest.h"

#ifndef KVM_CAP_DISABLE_QUIRKS2
#define KVM_CAP_DISABLE_QUIRKS2 213
#endif
#define MWAIT_NEVER_UD (1u << 6)
#define APIC 0xfee00000u
#define MSR_APICBASE 0x1b
#define ENOSYS_OF_KVM ((u64)-1000)

GUEST64(page, "mov (%rsi), %eax\n out %eax, $0x10\n movl %eax, (%rsi)\n hlt\n");
GUEST64(out7e, "nop\n out %al, $0x7e\n hlt\n");
GUEST64(vmcall, "mov $0x1000000, %eax\n vmcall\n hlt\n");
GUEST64(vmmcall, "mov $0x1000000, %eax\n vmmcall\n hlt\n");
GUEST64(wait_insn, "xor %ecx, %ecx\n xor %edx, %edx\n mov %rsi, %rax\n monitor\n mwait\n hlt\n");
GUEST64(flds, "flds (%rsi)\n hlt\n");

static int enable(int vm, u32 cap, u64 arg)
{
	struct kvm_enable_cap c = {.cap = cap, .args = {arg}};

	return ioctl(vm, KVM_ENABLE_CAP, &c);
}

static void start(struct vm *v, const u8 *code, const u8 *end, u64 rsi)
{
	struct kvm_regs r;

	kt_code(v, code, end);
	kt_long(v, v->vcpu, KT_CODE);
	kt_get_regs(v->vcpu, &r);
	r.rsi = rsi;
	CHECK_OK(ioctl(v->vcpu, KVM_SET_REGS, &r));
}

static void with_chip(struct vm *v, u64 quirks_off)
{
	vm_open(v);
	CHECK_OK(ioctl(v->vm, KVM_CREATE_IRQCHIP, 0ul));
	if (quirks_off)
		CHECK_OK(enable(v->vm, KVM_CAP_DISABLE_QUIRKS2, quirks_off));
	vm_vcpu(v);
}

static void lapic_off(struct vm *v)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry e; } m = {{.nmsrs = 1}, {.index = MSR_APICBASE, .data = APIC | 1 << 8}};

	REQUIRE(ioctl(v->vcpu, KVM_SET_MSRS, &m) == 1);
}

static void apic_page(void)
{
	struct vm v;

	with_chip(&v, 0);
	lapic_off(&v);
	start(&v, page, page_end, APIC + 0x30);
	CHECK_OUT(v.vcpu, v.run, 0x10, ~0u);
	v.run->immediate_exit = 0;
	with_chip(&v, KVM_X86_QUIRK_LAPIC_MMIO_HOLE);
	lapic_off(&v);
	start(&v, page, page_end, APIC + 0x30);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_MMIO);
	CHECK_EQ(v.run->mmio.phys_addr, APIC + 0x30);
}

static void port_7e(void)
{
	for (unsigned off = 0; off < 2; off++) {
		struct kvm_regs r;
		struct vm v;

		vm_open(&v);
		if (off)
			CHECK_OK(enable(v.vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_OUT_7E_INC_RIP));
		vm_vcpu(&v);
		start(&v, out7e, out7e_end, 0);
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
		kt_get_regs(v.vcpu, &r);
		CHECK_EQ(r.rip, KT_CODE + (off ? 1 : 3));
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	}
}

static void hypercall(void)
{
	const u8 *const code[2] = {vmcall, vmmcall}, *const end[2] = {vmcall_end, vmmcall_end};
	unsigned rewritten = 0, refused = 0;
	struct kvm_regs r;
	struct vm v;

	for (unsigned i = 0; i < 2; i++) {
		vm_open(&v);
		vm_vcpu(&v);
		start(&v, code[i], end[i], 0);
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
		kt_get_regs(v.vcpu, &r);
		CHECK_EQ(r.rax, ENOSYS_OF_KVM);
		rewritten += !!memcmp(v.mem + KT_CODE, code[i], (size_t)(end[i] - code[i]));
		vm_open(&v);
		CHECK_OK(enable(v.vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_FIX_HYPERCALL_INSN));
		vm_vcpu(&v);
		start(&v, code[i], end[i], 0);
		REQUIRE(kt_run(v.vcpu) == 0);
		refused += v.run->exit_reason == KVM_EXIT_SHUTDOWN; /* #UD without an IDT */
		CHECK(!memcmp(v.mem + KT_CODE, code[i], (size_t)(end[i] - code[i])));
	}
	CHECK_EQ(rewritten, 1);
	CHECK_EQ(refused, 1);
}

static void monitor(void)
{
	struct vm v;

	vm_open(&v);
	vm_vcpu(&v);
	start(&v, wait_insn, wait_insn_end, 0x8000);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	vm_open(&v);
	CHECK_OK(enable(v.vm, KVM_CAP_DISABLE_QUIRKS2, MWAIT_NEVER_UD));
	vm_vcpu(&v);
	start(&v, wait_insn, wait_insn_end, 0x8000);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_SHUTDOWN);
}

static void lint0(void)
{
	for (unsigned off = 0; off < 2; off++) {
		struct kvm_lapic_state s;
		struct vm v;

		with_chip(&v, off ? KVM_X86_QUIRK_LINT0_REENABLED : 0);
		CHECK_OK(ioctl(v.vcpu, KVM_GET_LAPIC, &s));
		CHECK_EQ(*(u32 *)(s.regs + 0x350), off ? 0x10000 : 0x700);
	}
}

static void emulation(void)
{
	struct kvm_regs r;
	struct vm v;

	vm_open(&v);
	vm_vcpu(&v);
	CHECK_ERR(enable(v.vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 2), EINVAL);
	CHECK_OK(enable(v.vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1));
	start(&v, flds, flds_end, 0x40000000);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_INTERNAL_ERROR);
	CHECK_EQ(v.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	CHECK_EQ(v.run->emulation_failure.insn_size, 2);
	CHECK(!memcmp(v.run->emulation_failure.insn_bytes, "\xd9\x06", 2));
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(r.rip, KT_CODE);
	kt_set_rip(v.vcpu, KT_CODE + 2);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	/* With the operand in memory nothing is emulated. */
	start(&v, flds, flds_end, 0x8000);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
}

int main(void)
{
	int sys = kt_open();
	u64 known = (u64)kt_cap(sys, KVM_CAP_DISABLE_QUIRKS2);
	struct vm v;

	if ((known & 0x7f) != 0x7f)
		SKIP("this KVM lets few quirks be disabled");
	vm_open(&v);
	CHECK_ERR(enable(v.vm, KVM_CAP_DISABLE_QUIRKS2, 1u << 30), EINVAL);
	apic_page();
	port_7e();
	hypercall();
	monitor();
	lint0();
	emulation();
	return kt_end();
}
