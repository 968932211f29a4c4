/* SPDX-License-Identifier: MIT */
/* Round trips of REGS, SREGS, SREGS2, FPU, XSAVE, XCRS, DEBUGREGS, VCPU_EVENTS, MP_STATE; the state of a new vCPU; refused values. */
#include "kvmtest.h"

#define TRIP(get, set, type)                                                                                                               \
	do {                                                                                                                               \
		static type a, b;                                                                                                          \
		CHECK_OK(ioctl(v.vcpu, get, &a));                                                                                          \
		CHECK_OK(ioctl(v.vcpu, set, &a));                                                                                          \
		CHECK_OK(ioctl(v.vcpu, get, &b));                                                                                          \
		CHECK(!memcmp(&a, &b, sizeof(a)));                                                                                         \
	} while (0)

int main(void)
{
	struct vm v;
	struct kvm_regs r, r2;
	struct kvm_sregs s, s2;
	struct kvm_fpu f;
	static struct kvm_xsave x;
	struct kvm_xcrs xc;
	struct kvm_debugregs d;
	struct kvm_mp_state mp;

	vm_open(&v);
	vm_vcpu(&v);
	kt_get_regs(v.vcpu, &r);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_SREGS, &s));
	CHECK_EQ(s.cs.selector, 0xf000);
	CHECK_EQ(s.cs.base, 0xffff0000);
	CHECK_EQ(s.cs.limit, 0xffff);
	CHECK_EQ(r.rip, 0xfff0);
	CHECK_EQ(r.rflags, 2);
	CHECK_EQ(s.cr0, 0x60000010);
	CHECK_EQ(s.apic_base, 0xfee00900);
	CHECK_EQ(s.idt.limit, 0xffff);
	for (int i = 0; i < 16; i++)
		((u64 *)&r)[i] = 0x1111111111111111ull * (unsigned)i;
	r.rip = 0x123456789a;
	r.rflags = 0x246;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_REGS, &r));
	kt_get_regs(v.vcpu, &r2);
	CHECK(!memcmp(&r, &r2, sizeof(r)));
	s.cr2 = 0x123456789abc;
	s.gdt.base = 0x1000;
	s.gdt.limit = 0x27;
	s.fs.base = 0x5000;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_SREGS, &s));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_SREGS, &s2));
	CHECK_EQ(s2.cr2, s.cr2);
	CHECK_EQ(s2.gdt.base, 0x1000);
	CHECK_EQ(s2.gdt.limit, 0x27);
	CHECK_EQ(s2.fs.base, 0x5000);
	s2.cr4 |= 1ull << 31; /* reserved */
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_SREGS, &s2), EINVAL);
	TRIP(KVM_GET_SREGS, KVM_SET_SREGS, struct kvm_sregs);
	/* Before it has said which CPU this is, a VMM may set what any could have. */
	int plain = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	struct kvm_sregs first;
	REQUIRE(plain >= 0);
	CHECK_OK(ioctl(plain, KVM_GET_SREGS, &first));
	first.cr4 = 0x7ff;
	CHECK_OK(ioctl(plain, KVM_SET_SREGS, &first));
	first.cr4 = 1ull << 40;
	CHECK_ERR(ioctl(plain, KVM_SET_SREGS, &first), EINVAL);
	if (__builtin_cpu_supports("avx")) {
		first.cr4 = 1 << 18; /* OSXSAVE */
		CHECK_OK(ioctl(plain, KVM_SET_SREGS, &first));
	}
	TRIP(KVM_GET_SREGS2, KVM_SET_SREGS2, struct kvm_sregs2);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_FPU, &f));
	CHECK_EQ(f.fcw, 0x37f);
	CHECK(f.mxcsr == 0x1f80 || !kt_usekvm()); /* a kernel backend shows 0 before the first use */
	f.mxcsr = 0x1f80;
	f.xmm[3][5] = 0x5a;
	f.fpr[2][1] = 0xa5;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_FPU, &f));
	memset(&f, 0, sizeof(f));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_FPU, &f));
	CHECK_EQ(f.xmm[3][5], 0x5a);
	CHECK_EQ(f.fpr[2][1], 0xa5);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_XSAVE, &x));
	((u8 *)&x)[160 + 3 * 16 + 5] = 0x5b;
	((u8 *)&x)[512] |= 3; /* XSTATE_BV: x87 and SSE */
	((u32 *)&x)[6] = 0x1f80;
	CHECK_OK(ioctl(v.vcpu, KVM_SET_XSAVE, &x));
	CHECK_OK(ioctl(v.vcpu, KVM_GET_FPU, &f));
	CHECK_EQ(f.xmm[3][5], 0x5b);
	TRIP(KVM_GET_XSAVE, KVM_SET_XSAVE, struct kvm_xsave);
	((u32 *)&x)[6] = 0xffffffff; /* MXCSR with reserved bits */
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_XSAVE, &x), EINVAL);
	TRIP(KVM_GET_XCRS, KVM_SET_XCRS, struct kvm_xcrs);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_XCRS, &xc));
	CHECK_EQ(xc.xcrs[0].value, 1);
	xc.xcrs[0].value = 4; /* AVX without SSE and x87 */
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_XCRS, &xc), EINVAL);
	TRIP(KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, struct kvm_debugregs);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_DEBUGREGS, &d));
	CHECK_EQ(d.dr6, 0xffff0ff0);
	CHECK_EQ(d.dr7, 0x400);
	d.flags = 1;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_DEBUGREGS, &d), EINVAL);
	TRIP(KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, struct kvm_vcpu_events);
	CHECK_OK(ioctl(v.vcpu, KVM_GET_MP_STATE, &mp));
	CHECK_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	mp.mp_state = 99;
	CHECK_ERR(ioctl(v.vcpu, KVM_SET_MP_STATE, &mp), EINVAL);
	return kt_end();
}
