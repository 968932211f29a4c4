/* SPDX-License-Identifier: MIT */
/*
 * cpu/: CPUID lists, MSR rules, control register rules.
 *
 * LINK: cpu/cpu.c cpu/tlb.c cpu/cr.c cpu/cpuid.c cpu/msr.c cpu/fpu.c
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "cpu/cpuid.h"
#include "base/process.h"
#include "cpu/cr.h"
#include "cpu/msr.h"

int mmu_load_pdptrs(struct cpu *c, u64 cr3)
{
	return cr3 == 0xbad000 ? -EINVAL : 0;
}
bool process_has_run_delay(void)
{
	return true;
}
static struct kvm_cpuid_entry2 list[CPUID_MAX_ENTRIES];
static u32 nlist;

static int setup(void **state)
{
	struct cpu *c = aligned_alloc(64, ALIGN_UP(sizeof(*c), (size_t)64));

	for (size_t n = 0; n < sizeof(*c); n++)
		((char *)c)[n] = 0;
	cpu_init(c, NULL, NULL);
	nlist = CPUID_MAX_ENTRIES;
	assert_int_equal(cpuid_supported(list, &nlist), 0);
	assert_int_equal(cpuid_set(c, list, nlist), 0);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	cpu_destroy(*state);
	free(*state);
	return 0;
}

static void test_reset(void **state)
{
	struct cpu *c = *state;

	assert_int_equal(c->rip, 0xfff0);
	assert_int_equal(c->seg[S_CS].sel, 0xf000);
	assert_int_equal(c->seg[S_CS].base, 0xffff0000);
	assert_int_equal(c->cr0, 0x60000010);
	assert_int_equal(c->gpr[R_DX], 0x600);
	assert_int_equal(cpu_get_rflags(c), 2);
	assert_int_equal(c->code_size, 2);
	assert_int_equal(c->mmu_idx, MMU_KERNEL);
}

static void test_cpuid(void **state)
{
	struct cpu *c = *state;
	u32 r[4], few = 3;

	assert_in_range(nlist, 20, 100);
	assert_int_equal(cpuid_supported(list, &few), -E2BIG);
	assert_int_equal(few, nlist);
	cpuid_query(c, 0x40000000, 0, r);
	assert_int_equal(r[0], 0x40000001);
	assert_int_equal(r[1], 0x4b4d564b);
	cpuid_query(c, 1, 0, r);
	assert_true(r[2] & 1u << 31);
	assert_false(r[2] & (1u << 27 | 1u << 5 | 1u << 3));
	if (!cpu_has(c, CPUID_XSAVE))
		return;
	assert_int_equal(cpu_set_cr4(c, CR4_OSXSAVE), 0);
	cpuid_query(c, 1, 0, r);
	assert_true(r[2] & 1u << 27);
	cpuid_query(c, 0xd, 0, r);
	assert_int_equal(r[1], 576);
	u32 max = r[2];
	assert_int_equal(cpu_set_xcr0(c, cpu_xcr0_supported(c)), 0);
	cpuid_query(c, 0xd, 0, r);
	assert_int_equal(r[1], max);
	assert_int_equal(cpu_set_xcr0(c, 0), -EINVAL);
	assert_int_equal(cpu_set_xcr0(c, 5), -EINVAL);
	assert_int_equal(cpu_set_xcr0(c, 0x20 | 7), -EINVAL);
	assert_int_equal(cpu_set_xcr0(c, 1u << 9 | 1), -EINVAL);
}

static void test_cpuid_out_of_range(void **state)
{
	struct cpu *c = *state;
	struct kvm_cpuid_entry2 intel[] = {
		{ .function = 0, .eax = 2, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69 },
		{ .function = 1, .eax = 0x1234 },
		{ .function = 2, .eax = 0x55 },
	};
	u32 r[4];

	assert_int_equal(cpuid_set(c, intel, 3), 0);
	assert_false(cpu_is_amd(c));
	cpuid_query(c, 0x77, 0, r);
	assert_int_equal(r[0], 0x55);
	intel[0].ebx = 0x68747541;
	assert_int_equal(cpuid_set(c, intel, 3), 0);
	assert_true(cpu_is_amd(c));
	cpuid_query(c, 0x77, 0, r);
	assert_int_equal(r[0], 0);
}

static void test_long_mode(void **state)
{
	struct cpu *c = *state;

	assert_int_equal(cpu_set_cr0(c, CR0_PG), -EINVAL);
	assert_int_equal(cpu_set_cr0(c, CR0_PE | CR0_NW), -EINVAL);
	assert_int_equal(cpu_set_cr0(c, CR0_PE | BIT(32)), -EINVAL);
	assert_int_equal(cpu_set_efer(c, EFER_LME | EFER_SCE), 0);
	assert_int_equal(cpu_set_efer(c, BIT(40)), -EINVAL);
	assert_int_equal(cpu_set_cr0(c, CR0_PE | CR0_PG), -EINVAL); /* no PAE */
	assert_int_equal(cpu_set_cr4(c, CR4_PAE), 0);
	assert_int_equal(cpu_set_cr4(c, CR4_PAE | BIT(31)), -EINVAL);
	assert_int_equal(cpu_set_cr4(c, CR4_PAE | CR4_PCIDE), -EINVAL);
	assert_int_equal(cpu_set_cr0(c, CR0_PE | CR0_PG), 0);
	assert_true(cpu_is_long(c));
	assert_int_equal(c->code_size, 2);
	c->seg[S_CS].ar |= AR_L;
	cpu_update_mode(c);
	assert_int_equal(c->code_size, 8);
	assert_int_equal(cpu_set_cr0(c, CR0_PE), -EINVAL);
	assert_int_equal(cpu_set_cr4(c, 0), -EINVAL);
	assert_int_equal(cpu_set_efer(c, EFER_SCE), -EINVAL);
	assert_int_equal(cpu_set_cr3(c, BIT(60)), -EINVAL);
	assert_int_equal(cpu_set_cr3(c, 0x1000), 0);
	if (cpu_has(c, CPUID_PCID)) {
		assert_int_equal(cpu_set_cr4(c, CR4_PAE | CR4_PCIDE), 0);
		assert_int_equal(cpu_set_cr3(c, BIT(63) | 0x2005), 0);
		assert_int_equal(c->cr3, 0x2005);
	}
	cpu_reset(c, true);
	assert_int_equal(c->efer, 0);
	assert_int_equal(c->code_size, 2);
}

static void test_pae(void **state)
{
	struct cpu *c = *state;

	assert_int_equal(cpu_set_cr3(c, 0xbad000), 0);
	assert_int_equal(cpu_set_cr4(c, CR4_PAE), 0);
	assert_int_equal(cpu_set_cr0(c, CR0_PE | CR0_PG), -EINVAL);
	assert_false(c->cr0 & CR0_PG);
	assert_int_equal(cpu_set_cr3(c, 0x1000), 0);
	assert_int_equal(cpu_set_cr0(c, CR0_PE | CR0_PG), 0);
	assert_int_equal(cpu_set_cr3(c, 0xbad000), -EINVAL);
	assert_int_equal(c->cr3, 0x1000);
}

static void test_msr(void **state)
{
	struct cpu *c = *state;
	u32 idx[64];
	u64 v;
	unsigned n = cpu_msr_list(idx, 64);

	for (unsigned k = 0; k < n; k++) {
		assert_int_equal(cpu_msr_get(c, idx[k], &v, true), 0);
		if (idx[k] != MSR_TSC)
			assert_int_equal(cpu_msr_set(c, idx[k], v, true), 0);
	}
	assert_int_equal(cpu_msr_get(c, 2, &v, true), -ENOENT);
	assert_int_equal(cpu_msr_set(c, 0x11, 0, true), -ENOENT);
	assert_int_equal(cpu_msr_set(c, MSR_LSTAR, BIT(50), false), -EINVAL);
	assert_int_equal(cpu_msr_set(c, MSR_PAT, 2, false), -EINVAL);
	assert_int_equal(cpu_msr_set(c, MSR_PAT, 0x0106, false), 0);
	assert_int_equal(cpu_msr_set(c, MSR_MTRR_DEF, 0xc06, false), 0);
	assert_int_equal(cpu_msr_set(c, MSR_MTRR_DEF, 0x1006, false), -EINVAL);
	assert_int_equal(cpu_msr_set(c, MSR_MTRR_BASE0, 6, false), 0);
	assert_int_equal(cpu_msr_set(c, MSR_MTRR_BASE0 + 1, 0x801, false), -EINVAL);
	assert_int_equal(cpu_msr_set(c, MSR_MC0_CTL, 5, true), -EINVAL);
	assert_int_equal(cpu_msr_set(c, MSR_MC0_CTL, ~0ull, true), 0);
	assert_int_equal(cpu_msr_set(c, MSR_MC0_CTL + 1, 5, false), -EINVAL);
	assert_int_equal(cpu_msr_set(c, MSR_MC0_CTL + 1, 5, true), 0);
}

static void test_tsc(void **state)
{
	struct cpu *c = *state;
	u64 v, adj;

	assert_int_equal(cpu_msr_set(c, MSR_TSC, 1000, true), 0);
	assert_int_equal(cpu_msr_get(c, MSR_TSC_ADJUST, &adj, true), 0);
	assert_int_equal(adj, 0);
	u64 off = c->tsc_offset;
	assert_int_equal(cpu_msr_set(c, MSR_TSC_ADJUST, 1u << 20, false), 0);
	assert_int_equal(c->tsc_offset - off, 1u << 20);
	assert_int_equal(cpu_msr_set(c, MSR_TSC_ADJUST, 0, true), 0);
	assert_int_equal(c->tsc_offset - off, 1u << 20);
	assert_int_equal(cpu_msr_set(c, MSR_TSC, 5, false), 0);
	assert_int_equal(cpu_msr_get(c, MSR_TSC_ADJUST, &v, true), 0);
	assert_int_equal(v, c->tsc_offset - off - (1u << 20));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_reset), T(test_cpuid), T(test_cpuid_out_of_range), T(test_long_mode), T(test_pae), T(test_msr), T(test_tsc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
