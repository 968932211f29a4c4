/* SPDX-License-Identifier: MIT */
/* REP OUTS and REP INS: all data arrives in order whatever the exits' counts; direction flag; registers afterwards. */
#include "kvmtest.h"

GUEST16(prog,
	"mov $0x3000, %si\n mov $0x3100, %di\n mov $5, %cx\n mov $0x70, %dx\n cld\n"
	"rep outsb\n"
	"mov $3, %cx\n rep insw\n"
	"std\n mov $0x3003, %si\n mov $4, %cx\n rep outsb\n cld\n"
	"xor %cx, %cx\n rep outsb\n" /* nothing */
	"mov $2, %cx\n mov $0x3200, %di\n rep insl\n"
	"hlt\n");

static unsigned out(struct vm *v, unsigned size, unsigned n, u8 *buf)
{
	unsigned got = 0;

	while (got < n) {
		CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
		if (v->run->exit_reason != KVM_EXIT_IO || v->run->io.direction != KVM_EXIT_IO_OUT || v->run->io.size != size ||
			v->run->io.port != 0x70 || got + v->run->io.count > n) {
			CHECK(!"the expected string output");
			break;
		}
		memcpy(buf + got * size, kt_io_data(v->run), size * v->run->io.count);
		got += v->run->io.count;
	}
	return got;
}

static void in(struct vm *v, unsigned size, unsigned n, const u8 *buf)
{
	unsigned got = 0;

	while (got < n) {
		CHECK_EXIT(v->vcpu, v->run, KVM_EXIT_IO);
		if (v->run->exit_reason != KVM_EXIT_IO || v->run->io.direction != KVM_EXIT_IO_IN || v->run->io.size != size ||
			got + v->run->io.count > n) {
			CHECK(!"the expected string input");
			break;
		}
		memcpy(kt_io_data(v->run), buf + got * size, size * v->run->io.count);
		got += v->run->io.count;
	}
}

int main(void)
{
	struct vm v;
	struct kvm_regs r;
	u8 buf[16];

	vm_real(&v, prog, prog_end);
	memcpy(v.mem + 0x3000, "hello", 5);
	CHECK_EQ(out(&v, 1, 5, buf), 5);
	CHECK(!memcmp(buf, "hello", 5));
	in(&v, 2, 3, (const u8 *)"ABCDEF");
	CHECK_EQ(out(&v, 1, 4, buf), 4);
	CHECK(!memcmp(buf, "lleh", 4));
	CHECK(!memcmp(v.mem + 0x3100, "ABCDEF", 6));
	in(&v, 4, 2, (const u8 *)"abcdefgh");
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	CHECK(!memcmp(v.mem + 0x3200, "abcdefgh", 8));
	kt_get_regs(v.vcpu, &r);
	CHECK_EQ(r.rcx & 0xffff, 0);
	CHECK_EQ(r.rdi & 0xffff, 0x3208);
	CHECK_EQ(r.rsi & 0xffff, 0x2fff);
	/* The VMM changes the count while it has an INS to answer: no more items than that are taken. */
	for (u32 left = 0; left < 2; left++) {
		r.rip = KT_CODE;
		CHECK_OK(ioctl(v.vcpu, KVM_SET_REGS, &r));
		memcpy(v.mem + KT_CODE, "\xb9\x03\x00\xf3\x6c\xf4", 6); /* mov $3, %cx; rep insb; hlt */
		memset(v.mem + 0x3208, 0, 4);
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
		memset(kt_io_data(v.run), 'x', v.run->io.count);
		kt_get_regs(v.vcpu, &r);
		r.rcx = left;
		CHECK_OK(ioctl(v.vcpu, KVM_SET_REGS, &r));
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
		kt_get_regs(v.vcpu, &r);
		CHECK_EQ(r.rcx & 0xffff, 0);
		CHECK_EQ(r.rdi & 0xffff, 0x3208 + left);
		CHECK_EQ(v.mem[0x3208 + left], 0);
	}
	return kt_end();
}
