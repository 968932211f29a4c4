/* SPDX-License-Identifier: MIT */
/*
 * The page walk: modes, page sizes, rights, reserved bits, error codes, accessed and dirty bits.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/cpuid.h"
#include "mem/mem.h"
#include "mmu/mmu.h"

static void none(struct guest_mem *m) {}
static const struct mem_ops ops = { none, none };
static struct guest_mem mem;
static struct cpu *c;
static char *ram;
static struct mmu_result r;
#define RAM_SIZE 0x20000

#define P 1ull
#define W 2ull
#define U 4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define G 0x100ull
#define NX BIT(63)

static u64 *q(gpa_t gpa) { return (u64 *)(ram + gpa); }
static u32 *d(gpa_t gpa) { return (u32 *)(ram + gpa); }

static void feature(unsigned f, bool on)
{
	if (on)
		c->feat[f / 32] |= 1u << (f % 32);
	else
		c->feat[f / 32] &= ~(1u << (f % 32));
}

static void set_ram(u32 flags)
{
	struct kvm_userspace_memory_region m = { 0, 0, 0, 0, 0 };

	mem_set_region(&mem, &m);
	m = (struct kvm_userspace_memory_region){ 0, flags, 0, RAM_SIZE, (u64)ram };
	assert_int_equal(mem_set_region(&mem, &m), 0);
}

/* 4-level tables at 0x1000..0x4000 that map va 0x8080604000 to 0x5000. */
#define VA 0x8080605000ull
#define PML4E q(0x1000 + 1 * 8)
#define PDPTE q(0x2000 + 2 * 8)
#define PDE q(0x3000 + 3 * 8)
#define PTE q(0x4000 + 5 * 8)

static void tables(void)
{
	memset(ram, 0, RAM_SIZE);
	*PML4E = 0x2000 | P | W | U;
	*PDPTE = 0x3000 | P | W | U;
	*PDE = 0x4000 | P | W | U;
	*PTE = 0x5000 | P | W | U;
}

static int setup(void **state)
{
	ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	c = aligned_alloc(64, ALIGN_UP(sizeof(*c), 64));
	memset(c, 0, sizeof(*c));
	mem_init(&mem, &ops);
	set_ram(0);
	c->mem = &mem;
	c->maxphyaddr = 40;
	c->rsvd_pa = (BIT(52) - 1) & ~(BIT(40) - 1);
	c->cr0 = CR0_PE | CR0_PG | CR0_WP;
	c->cr4 = CR4_PAE;
	c->efer = EFER_LME | EFER_LMA | EFER_NXE;
	c->cr3 = 0x1000;
	tables();
	return 0;
}

static int teardown(void **state)
{
	mem_destroy(&mem);
	munmap(ram, RAM_SIZE);
	free(c);
	return 0;
}

static void good(gva_t va, int kind, unsigned idx, gpa_t gpa, unsigned shift)
{
	assert_int_equal(mmu_walk(c, va, kind, idx, &r), 0);
	assert_int_equal(r.gpa, gpa);
	assert_int_equal(r.page_shift, shift);
}

static void bad(gva_t va, int kind, unsigned idx, u32 err)
{
	assert_int_equal(mmu_walk(c, va, kind, idx, &r), -EFAULT);
	assert_int_equal(r.error, err);
}

static void test_off(void **state)
{
	c->cr0 = CR0_PE;
	c->efer = 0;
	good(0x123456789a, MMU_W, MMU_USER, 0x3456789a, 30);
	assert_true(r.read && r.write && r.exec);
}

static void test_4level(void **state)
{
	good(VA + 0x123, MMU_R, MMU_USER, 0x5123, 12);
	assert_true(r.read && r.exec && r.user && !r.global && !r.write);
	assert_true((*PML4E & A) && (*PDPTE & A) && (*PDE & A) && (*PTE & A));
	assert_false(*PTE & D);
	assert_false(*PDE & D);
	good(VA, MMU_W, MMU_USER, 0x5000, 12);
	assert_true(r.write);
	assert_true(*PTE & D);
	good(VA, MMU_R, MMU_USER, 0x5000, 12);
	assert_true(r.write);
	*PTE |= G;
	good(VA, MMU_R, MMU_USER, 0x5000, 12);
	assert_false(r.global);
	c->cr4 |= CR4_PGE;
	good(VA, MMU_R, MMU_USER, 0x5000, 12);
	assert_true(r.global);

	tables();
	*PDE = 0x600000 | P | W | U | PS;
	good(VA + 0x123, MMU_W, MMU_KERNEL, 0x605123, 21);
	assert_true(*PDE & D);
	*PDE |= 0x2000;
	bad(VA, MMU_R, MMU_KERNEL, PF_P | PF_RSVD);
	tables();
	*PDPTE = 0xc0000000 | P | W | U | PS;
	bad(VA, MMU_R, MMU_USER, PF_P | PF_RSVD | PF_U);
	feature(CPUID_PDPE1GB, true);
	good(VA + 0x123, MMU_R, MMU_USER, 0xc0605123, 30);
	*PDPTE |= BIT(29);
	bad(VA, MMU_W, MMU_USER, PF_P | PF_RSVD | PF_U | PF_W);
	tables();
	*PML4E |= PS;
	bad(VA, MMU_X, MMU_USER, PF_P | PF_RSVD | PF_U | PF_I);
	assert_false(*PML4E & A);
}

static void test_5level(void **state)
{
	c->cr4 |= CR4_LA57;
	c->cr3 = 0x6000;
	*q(0x6000 + 0x1ff * 8) = 0x1000 | P | W;
	good(VA | (0x1ffull << 48), MMU_W, MMU_KERNEL, 0x5000, 12);
	assert_false(r.user);
	bad(VA | (0x1ffull << 48), MMU_R, MMU_USER, PF_P | PF_U);
	bad(VA, MMU_R, MMU_USER, PF_U);
	*q(0x6000 + 0x1ff * 8) |= PS;
	bad(VA | (0x1ffull << 48), MMU_R, MMU_USER, PF_P | PF_U | PF_RSVD);
}

static void test_rights(void **state)
{
	*PDE &= ~W;
	bad(VA, MMU_W, MMU_USER, PF_P | PF_W | PF_U);
	bad(VA, MMU_W, MMU_KERNEL, PF_P | PF_W);
	assert_false(*PML4E & A);
	c->cr0 &= ~CR0_WP;
	bad(VA, MMU_W, MMU_USER, PF_P | PF_W | PF_U);
	good(VA, MMU_W, MMU_KERNEL, 0x5000, 12);
	assert_true(r.write);
	c->cr0 |= CR0_WP;
	good(VA, MMU_R, MMU_KERNEL, 0x5000, 12);
	assert_false(r.write); /* D is set, but W is not */

	tables();
	*PDPTE |= NX;
	bad(VA, MMU_X, MMU_USER, PF_P | PF_U | PF_I);
	good(VA, MMU_R, MMU_USER, 0x5000, 12);
	assert_false(r.exec);
	c->efer &= ~EFER_NXE;
	bad(VA, MMU_R, MMU_USER, PF_P | PF_U | PF_RSVD);
	bad(VA, MMU_X, MMU_USER, PF_P | PF_U | PF_RSVD); /* no I without NXE or SMEP */
	c->cr4 |= CR4_SMEP;
	bad(VA, MMU_X, MMU_USER, PF_P | PF_U | PF_RSVD | PF_I);

	tables();
	bad(VA, MMU_X, MMU_KERNEL, PF_P | PF_I);
	good(VA, MMU_X, MMU_USER, 0x5000, 12);
	c->cr4 |= CR4_SMAP;
	bad(VA, MMU_R, MMU_KERNEL, PF_P);
	bad(VA, MMU_W, MMU_KERNEL, PF_P | PF_W);
	good(VA, MMU_W, MMU_KERNEL_AC, 0x5000, 12);
	assert_true(r.read && r.write && !r.exec);
	good(VA, MMU_R, MMU_USER, 0x5000, 12);
	*PML4E &= ~U;
	good(VA, MMU_X, MMU_KERNEL, 0x5000, 12);
	assert_true(r.read && r.write && r.exec && !r.user);

	tables();
	*PTE = 0;
	bad(VA, MMU_W, MMU_KERNEL, PF_W);
	bad(VA, MMU_X, MMU_USER, PF_U | PF_I);
	*PTE = BIT(45) | P;
	bad(VA, MMU_R, MMU_KERNEL, PF_P | PF_RSVD);
	*PTE = 0x5000 | P | BIT(52) | BIT(62);
	good(VA, MMU_R, MMU_KERNEL, 0x5000, 12);
}

static void test_keys(void **state)
{
	*PTE |= 3ull << 59;
	c->pkru_soft = 1u << 6;
	good(VA, MMU_R, MMU_USER, 0x5000, 12);
	c->cr4 |= CR4_PKE;
	bad(VA, MMU_R, MMU_USER, PF_P | PF_U | PF_PK);
	bad(VA, MMU_W, MMU_KERNEL, PF_P | PF_W | PF_PK);
	good(VA, MMU_X, MMU_USER, 0x5000, 12);
	assert_true(!r.read && !r.write && r.exec);
	c->pkru_soft = 2u << 6;
	good(VA, MMU_R, MMU_USER, 0x5000, 12);
	bad(VA, MMU_W, MMU_USER, PF_P | PF_W | PF_U | PF_PK);
	bad(VA, MMU_W, MMU_KERNEL, PF_P | PF_W | PF_PK);
	c->cr0 &= ~CR0_WP;
	bad(VA, MMU_W, MMU_USER, PF_P | PF_W | PF_U | PF_PK);
	good(VA, MMU_W, MMU_KERNEL, 0x5000, 12);
	*PTE &= ~U;
	c->pkru_soft = 3u << 6;
	good(VA, MMU_W, MMU_KERNEL, 0x5000, 12);
	bad(VA, MMU_W, MMU_USER, PF_P | PF_W | PF_U);
}

static void test_pae(void **state)
{
	c->efer = EFER_NXE;
	c->cr3 = 0x7020;
	*q(0x7020) = 0;
	*q(0x7028) = 0x3000 | P;
	assert_int_equal(mmu_load_pdptrs(c, c->cr3), 0);
	*q(0x7028) = 0x3000 | P | W;
	assert_int_equal(mmu_load_pdptrs(c, c->cr3), -EINVAL);
	assert_int_equal(c->pdptr[1], 0x3001);
	*q(0x7028) = 0x3000 | P | BIT(60);
	assert_int_equal(mmu_load_pdptrs(c, c->cr3), -EINVAL);
	assert_int_equal(mmu_load_pdptrs(c, 0xfffff000), -EINVAL);
	bad(0x605000, MMU_R, MMU_USER, PF_U);
	good(0x100000000 + 0x40605000, MMU_W, MMU_USER, 0x5000, 12);
	*PTE |= BIT(52);
	bad(0x40605000, MMU_R, MMU_USER, PF_P | PF_U | PF_RSVD);
	*PTE = 0x5000 | P | U | NX;
	bad(0x40605000, MMU_X, MMU_USER, PF_P | PF_U | PF_I);
	*PDE = 0xffffe00000 | P | PS;
	good(0x40605123, MMU_R, MMU_KERNEL, 0xffffe05123, 21);
}

static void test_32bit(void **state)
{
	c->efer = EFER_NXE;
	c->cr4 = 0;
	memset(ram, 0, RAM_SIZE);
	*d(0x1000 + 1 * 4) = 0x2000 | P | W | U;
	*d(0x2000 + 5 * 4) = 0xfffff000 | P | U;
	good(0x405123, MMU_R, MMU_USER, 0xfffff123, 12);
	assert_true(*d(0x1004) & A);
	bad(0x405123, MMU_W, MMU_USER, PF_P | PF_U | PF_W);
	bad(0x404123, MMU_X, MMU_USER, PF_U); /* NXE counts only with PAE */
	*d(0x1004) |= PS;
	good(0x405123, MMU_R, MMU_USER, 0xfffff123, 12);
	c->cr4 = CR4_PSE;
	feature(CPUID_PSE36, true);
	*d(0x1004) = 0x80000000 | 0x1fe000 | P | U | PS;
	good(0x405123, MMU_R, MMU_USER, 0xff80005123, 22);
	*d(0x1004) |= BIT(21);
	bad(0x405123, MMU_R, MMU_USER, PF_P | PF_U | PF_RSVD);
	c->maxphyaddr = 36;
	*d(0x1004) = 0x80000000 | 0x1e000 | P | U | PS;
	good(0x405123, MMU_R, MMU_USER, 0xf80005123, 22);
	*d(0x1004) |= BIT(17);
	bad(0x405123, MMU_R, MMU_USER, PF_P | PF_U | PF_RSVD);
	feature(CPUID_PSE36, false);
	*d(0x1004) = 0x80000000 | 0x2000 | P | U | PS;
	bad(0x405123, MMU_R, MMU_USER, PF_P | PF_U | PF_RSVD);
}

static void test_updates(void **state)
{
	u64 bits = 0;
	u32 *cell, v;

	/* The tables' own pages are written by the walk. */
	set_ram(KVM_MEM_LOG_DIRTY_PAGES);
	cell = mem_track_code(&mem, (u64)ram + 0x4000, NULL);
	v = *cell;
	good(VA, MMU_W, MMU_USER, 0x5000, 12);
	assert_int_equal(mem_get_dirty_log(&mem, 0, &bits), 0);
	assert_int_equal(bits, 0x1e);
	assert_int_equal(*cell, v + 1);
	good(VA, MMU_W, MMU_USER, 0x5000, 12);
	assert_int_equal(*cell, v + 1);

	tables();
	assert_int_equal(mmu_probe(c, VA + 1, &r), 0);
	assert_int_equal(r.gpa, 0x5001);
	assert_int_equal(*PTE, 0x5000 | P | W | U | A);
	c->cr4 |= CR4_SMAP;
	assert_int_equal(mmu_probe(c, VA, &r), -EFAULT);
	c->rflags = X86_AC;
	assert_int_equal(mmu_probe(c, VA, &r), 0);

	/* Tables in ROM: nothing is written, and the write goes on. */
	tables();
	set_ram(KVM_MEM_READONLY);
	good(VA, MMU_W, MMU_USER, 0x5000, 12);
	assert_true(r.write);
	assert_int_equal(*PTE, 0x5000 | P | W | U);
	/* Tables that nobody has read as ones: reserved bits. */
	c->cr3 = 0x10000000;
	bad(VA, MMU_R, MMU_KERNEL_AC, PF_P | PF_RSVD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(n) cmocka_unit_test_setup_teardown(test_##n, setup, teardown)
		T(off), T(4level), T(5level), T(rights), T(keys), T(pae), T(32bit), T(updates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
