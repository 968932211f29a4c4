/* SPDX-License-Identifier: MIT */
/*
 * A guest is stopped in the middle of its work and carried into a new VM, as migration does: every group of state reads back bit for bit as it
 * was set, and the guest's result there is what it is when nobody carries it.
 */
#include "kvmtest.h"

/* Works on integers, x87, SSE and (if shown) AVX registers over a port exit in the middle; all of it goes into the sum in RAX. */
GUEST64(prog,
	"mov $0x123456789abcdef1, %rax\n mov %rax, %rbx\n mov $0x11, %r8\n mov $0x99, %r15\n movq %rax, %xmm3\n movq %rax, %mm2\n"
	"fninit\n fld1\n fldpi\n fldl2e\n movq %rbx, %xmm9\n paddq %xmm3, %xmm9\n"
	"mov $0x7, %ecx\n mov %rcx, %dr0\n"
	"std\n stc\n out %al, $0x10\n" /* stopped here */
	"pushf\n pop %rdx\n cld\n add %rdx, %rax\n fmulp\n faddp\n sub $16, %rsp\n fstpl (%rsp)\n add (%rsp), %rax\n"
	"movq %xmm9, %rdx\n add %rdx, %rax\n add %r15, %rax\n add %rbx, %rax\n"
	"mov %dr0, %rdx\n add %rdx, %rax\n mov $0xc0000102, %ecx\n mov %rax, %r9\n rdmsr\n add %r9, %rax\n"
	"out %eax, $0x11\n shr $32, %rax\n out %eax, $0x12\n");

struct all {
	struct kvm_regs regs;
	struct kvm_sregs2 sregs2;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;
	struct kvm_fpu fpu;
};


static void get_all(int vcpu, struct all *a)
{
	memset(a, 0, sizeof(*a));
	CHECK_OK(ioctl(vcpu, KVM_GET_MP_STATE, &a->mp));
	CHECK_OK(ioctl(vcpu, KVM_GET_REGS, &a->regs));
	CHECK_OK(ioctl(vcpu, KVM_GET_SREGS2, &a->sregs2));
	CHECK_OK(ioctl(vcpu, KVM_GET_XSAVE, &a->xsave));
	CHECK_OK(ioctl(vcpu, KVM_GET_XCRS, &a->xcrs));
	CHECK_OK(ioctl(vcpu, KVM_GET_DEBUGREGS, &a->debug));
	CHECK_OK(ioctl(vcpu, KVM_GET_LAPIC, &a->lapic));
	CHECK_OK(ioctl(vcpu, KVM_GET_VCPU_EVENTS, &a->events));
	CHECK_OK(ioctl(vcpu, KVM_GET_FPU, &a->fpu));
}

static void set_all(int vcpu, struct all *a)
{
	CHECK_OK(ioctl(vcpu, KVM_SET_SREGS2, &a->sregs2));
	CHECK_OK(ioctl(vcpu, KVM_SET_REGS, &a->regs));
	CHECK_OK(ioctl(vcpu, KVM_SET_XCRS, &a->xcrs));
	CHECK_OK(ioctl(vcpu, KVM_SET_XSAVE, &a->xsave));
	CHECK_OK(ioctl(vcpu, KVM_SET_LAPIC, &a->lapic));
	CHECK_OK(ioctl(vcpu, KVM_SET_DEBUGREGS, &a->debug));
	CHECK_OK(ioctl(vcpu, KVM_SET_VCPU_EVENTS, &a->events));
	CHECK_OK(ioctl(vcpu, KVM_SET_MP_STATE, &a->mp));
}

struct msr_set {
	struct kvm_msrs h;
	struct kvm_msr_entry e[256];
};

static void list_msrs(int sys, struct msr_set *m)
{
	struct {
		struct kvm_msr_list h;
		u32 index[256];
	} l = {.h = {.nmsrs = 256}};

	CHECK_OK(ioctl(sys, KVM_GET_MSR_INDEX_LIST, &l));
	memset(m, 0, sizeof(*m));
	for (u32 i = 0; i < l.h.nmsrs && i < 255; i++)
		m->e[m->h.nmsrs++].index = l.index[i];
}

/* One group: name what differs. */
static void same(const char *name, const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (size_t i = 0; i < n; i++) {
		if (x[i] == y[i])
			continue;
		printf("%s differs at byte 0x%zx: set 0x%02x, got 0x%02x\n", name, i, x[i], y[i]);
		kt_failures++;
		return;
	}
}

static void carry_msrs(struct vm *from, struct vm *to, struct msr_set *m)
{
	static struct msr_set back;
	int n;

	list_msrs(from->sys, m);
	n = ioctl(from->vcpu, KVM_GET_MSRS, m);
	if (n < (int)m->h.nmsrs)
		printf("MSR 0x%x is listed and cannot be read\n", m->e[n < 0 ? 0 : n].index);
	CHECK_EQ(n, m->h.nmsrs);
	n = ioctl(to->vcpu, KVM_SET_MSRS, m);
	if (n < (int)m->h.nmsrs)
		printf("MSR 0x%x is listed and cannot be set to its value 0x%llx\n", m->e[n < 0 ? 0 : n].index,
			(unsigned long long)m->e[n < 0 ? 0 : n].data);
	CHECK_EQ(n, m->h.nmsrs);
	back = *m;
	CHECK_EQ(ioctl(to->vcpu, KVM_GET_MSRS, &back), m->h.nmsrs);
	for (u32 i = 0; i < m->h.nmsrs; i++) {
		if (m->e[i].index == 0x10 || m->e[i].data == back.e[i].data) /* the TSC runs */
			continue;
		printf("MSR 0x%x: set 0x%llx, got 0x%llx\n", m->e[i].index, (unsigned long long)m->e[i].data,
			(unsigned long long)back.e[i].data);
		kt_failures++;
	}
}

static void make(struct vm *v)
{
	vm_open(v);
	CHECK_OK(ioctl(v->vm, KVM_CREATE_IRQCHIP, 0ul));
	vm_vcpu(v);
}

static u64 result(struct vm *v)
{
	u32 lo = 0, hi = 0;

	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	CHECK_EQ(v->run->io.port, 0x11);
	memcpy(&lo, kt_io_data(v->run), 4);
	CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
	memcpy(&hi, kt_io_data(v->run), 4);
	return (u64)hi << 32 | lo;
}

static void start(struct vm *v)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	kt_load(v, prog);
	kt_long(v, v->vcpu, KT_CODE);
	CHECK_OK(ioctl(v->vcpu, KVM_GET_SREGS, &s));
	s.cr4 |= 0x600; /* SSE */
	CHECK_OK(ioctl(v->vcpu, KVM_SET_SREGS, &s));
	kt_get_regs(v->vcpu, &r);
	r.rsp = 0x8000;
	CHECK_OK(ioctl(v->vcpu, KVM_SET_REGS, &r));
	CHECK_EQ(kt_set_msr(v->vcpu, 0xc0000102, 0x7ff812345678), 1);
	CHECK_EQ(kt_set_msr(v->vcpu, 0xc0000081, 0x0023001000000000), 1);
	CHECK_EQ(kt_set_msr(v->vcpu, 0xc0000082, 0xffffffff81000000), 1);
	if (kt_run(v->vcpu) == 0 && v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR && !kt_usekvm())
		SKIP("this kernel's backend emulates no SSE");
	CHECK_EQ(v->run->exit_reason, KVM_EXIT_IO);
	CHECK_EQ(v->run->io.port, 0x10);
	v->run->immediate_exit = 1; /* finish the OUT */
	CHECK_ERR(ioctl(v->vcpu, KVM_RUN, 0ul), EINTR);
	v->run->immediate_exit = 0;
}

int main(void)
{
	static struct all a, b, c;
	static struct msr_set m;
	struct vm v, w;
	u64 want;

	make(&v);
	start(&v);
	get_all(v.vcpu, &a);
	get_all(v.vcpu, &c); /* reading changes nothing */
	same("reading twice", &a, &c, sizeof(a));
	make(&w);
	memcpy(w.mem, v.mem, v.mem_size);
	set_all(w.vcpu, &a);
	carry_msrs(&v, &w, &m);
	get_all(w.vcpu, &b);
	same("KVM_GET_REGS", &a.regs, &b.regs, sizeof(a.regs));
	same("KVM_GET_SREGS2", &a.sregs2, &b.sregs2, sizeof(a.sregs2));
	same("KVM_GET_XSAVE", &a.xsave, &b.xsave, sizeof(a.xsave));
	same("KVM_GET_XCRS", &a.xcrs, &b.xcrs, sizeof(a.xcrs));
	same("KVM_GET_DEBUGREGS", &a.debug, &b.debug, sizeof(a.debug));
	same("KVM_GET_VCPU_EVENTS", &a.events, &b.events, sizeof(a.events));
	same("KVM_GET_MP_STATE", &a.mp, &b.mp, sizeof(a.mp));
	same("KVM_GET_LAPIC", &a.lapic, &b.lapic, sizeof(a.lapic));
	same("KVM_GET_FPU", &a.fpu, &b.fpu, sizeof(a.fpu));
	want = result(&v);
	CHECK_EQ(result(&w), want);
	return kt_end();
}
