/* SPDX-License-Identifier: MIT */
/*
 * Memory slots, the dirty log, guest-physical copies and code tracking, with a fake VM that counts the flushes it is asked for.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/mem.h"

static unsigned all, writes;

static void flush_all(struct guest_mem *m) { all++; }
static void flush_write(struct guest_mem *m) { writes++; }
static const struct mem_ops ops = { flush_all, flush_write };

static struct guest_mem mem;
static char *ram; /* 64 pages */
#define RAM_PAGES 64

static int setup(void **state)
{
	ram = mmap(NULL, RAM_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	all = writes = 0;
	return mem_init(&mem, &ops);
}

static int teardown(void **state)
{
	mem_destroy(&mem);
	munmap(ram, RAM_PAGES * PAGE_SIZE);
	return 0;
}

static int set(u32 slot, u32 flags, u64 gpa, u64 size, const void *hva)
{
	struct kvm_userspace_memory_region r = { slot, flags, gpa, size, (u64)hva };

	return mem_set_region(&mem, &r);
}

static void test_errors(void **state)
{
	assert_int_equal(set(0x10000, 0, 0, 0x1000, ram), -EINVAL);
	assert_int_equal(set(MEM_MAX_SLOTS, 0, 0, 0x1000, ram), -EINVAL);
	assert_int_equal(set(0, 4, 0, 0x1000, ram), -EINVAL);
	assert_int_equal(set(0, 0, 0x10, 0x1000, ram), -EINVAL);
	assert_int_equal(set(0, 0, 0, 0x1010, ram), -EINVAL);
	assert_int_equal(set(0, 0, 0, 0x1000, ram + 8), -EINVAL);
	assert_int_equal(set(0, 0, 0, 0x1000, (void *)0xffff800000000000), -EINVAL);
	assert_int_equal(set(0, 0, ~0xfffull, 0x2000, ram), -EINVAL);
	assert_int_equal(set(0, 0, BIT(52), 0x1000, ram), -EINVAL);
	assert_int_equal(set(0, 0, 0, BIT(43), (void *)0), -EINVAL);
	assert_int_equal(set(0, 0, 0, 0, ram), -EINVAL);
	assert_int_equal(all, 0);
	assert_int_equal(set(MEM_MAX_SLOTS - 1, 0, BIT(52) - 0x1000, 0x1000, ram), 0);
}

static void test_changes(void **state)
{
	assert_int_equal(set(1, 0, 0x10000, 0x4000, ram), 0);
	assert_int_equal(all, 1);
	assert_int_equal(set(1, 0, 0x10000, 0x4000, ram), 0);
	assert_int_equal(all, 1);
	assert_int_equal(set(1, 0, 0x10000, 0x3000, ram), -EINVAL);
	assert_int_equal(set(1, 0, 0x10000, 0x4000, ram + 0x1000), -EINVAL);
	assert_int_equal(set(1, KVM_MEM_READONLY, 0x10000, 0x4000, ram), -EINVAL);
	assert_int_equal(set(2, 0, 0x13000, 0x1000, ram), -EEXIST);
	assert_int_equal(set(2, 0, 0xf000, 0x2000, ram), -EEXIST);
	assert_int_equal(set(2, 0, 0x8000, 0x20000, ram), -EEXIST);
	assert_int_equal(set(2, 0, 0xf000, 0x1000, ram), 0);
	assert_int_equal(set(3, 0, 0x14000, 0x1000, ram), 0);
	/* A move may overlap the slot's own former place, not another slot. */
	assert_int_equal(set(1, 0, 0x11000, 0x4000, ram), -EEXIST);
	assert_int_equal(set(3, 0, 0, 0, NULL), 0);
	assert_int_equal(set(1, 0, 0x11000, 0x4000, ram), 0);
	assert_null(memslot_find(mem_slots(&mem), 0x10, NULL));
	assert_int_equal(memslot_find(mem_slots(&mem), 0x14, NULL)->id, 1);
	assert_null(memslot_find(mem_slots(&mem), 0x15, NULL));
	assert_int_equal(set(1, 0, 0, 0, NULL), 0);
	assert_int_equal(set(1, 0, 0, 0, NULL), -EINVAL);
	assert_int_equal(mem_slots(&mem)->n, 1);
}

static void test_many(void **state)
{
	u32 hint = 0;

	/* Backwards and interleaved, so that slots are put in at every place. */
	for (u32 i = 0; i < 4000; i++)
		assert_int_equal(set(i, 0, (u64)((i * 1237) % 4000) * 0x2000, 0x1000, ram), 0);
	assert_int_equal(mem_slots(&mem)->n, 4000);
	for (u32 i = 0; i < 4000; i++) {
		gfn_t g = (i * 1237) % 4000 * 2;

		assert_int_equal(memslot_find(mem_slots(&mem), g, &hint)->id, i);
		assert_int_equal(memslot_find(mem_slots(&mem), g, &hint)->id, i);
		assert_null(memslot_find(mem_slots(&mem), g + 1, &hint));
	}
	for (u32 i = 0; i < 4000; i += 2)
		assert_int_equal(set(i, 0, 0, 0, NULL), 0);
	assert_int_equal(mem_slots(&mem)->n, 2000);
}

static void test_owned(void **state)
{
	int fd = memfd_create("vm", 0);
	char c = 'x', d = 0, *p;

	assert_int_equal(mem_set_region_owned(&mem, 0, 0, 0x100000, 0x4000, -1), 0);
	assert_int_equal(mem_write(&mem, 0x103fff, &c, 1), 0);
	assert_int_equal(mem_set_region_owned(&mem, 0, 0, 0x200000, 0x4000, -1), 0);
	assert_int_equal(mem_read(&mem, 0x203fff, &d, 1), 0);
	assert_int_equal(d, 'x');
	assert_int_equal(mem_set_region_owned(&mem, 0, 0, 0x200000, 0x8000, -1), -EINVAL);
	assert_int_equal(mem_set_region_owned(&mem, 0, 0, 0x200000, 0, -1), 0);
	assert_int_equal(mem_set_region_owned(&mem, 1, 0, 0x1000, 0x2000, fd), 0);
	assert_int_equal(mem_write(&mem, 0x2000, &c, 1), 0);
	p = mmap(NULL, 0x1000, PROT_READ, MAP_SHARED, fd, 0x2000);
	assert_int_equal(*p, 'x');
	munmap(p, 0x1000);
	assert_int_equal(mem_set_region_owned(&mem, 1, 0, 0x5000, 0x2000, fd), -EINVAL);
	close(fd);
}

static void test_copies(void **state)
{
	char buf[0x3000], in[0x3000];
	gpa_t gpa;

	memset(buf, 0x5a, sizeof(buf));
	assert_int_equal(set(0, 0, 0x1000, 0x2000, ram + 0x8000), 0);
	assert_int_equal(set(1, KVM_MEM_LOG_DIRTY_PAGES, 0x3000, 0x2000, ram), 0);
	assert_int_equal(set(2, KVM_MEM_READONLY, 0x10000, 0x1000, ram), 0);
	assert_int_equal(mem_write(&mem, 0x1800, buf, 0x3000), 0);
	assert_int_equal(ram[0x8800], 0x5a);
	assert_int_equal(ram[0x8800 - 1], 0);
	assert_int_equal(ram[0x17ff], 0x5a);
	assert_int_equal(ram[0x1800], 0);
	assert_int_equal(mem_read(&mem, 0x1800, in, 0x3000), 0);
	assert_memory_equal(in, buf, 0x3000);
	assert_int_equal(mem_slots(&mem)->slot[1].dirty[0], 3);
	assert_int_equal(mem_write(&mem, 0x4fff, buf, 2), -EFAULT);
	assert_int_equal(mem_write(&mem, 0x10000, buf, 1), -EFAULT);
	assert_int_equal(mem_read(&mem, 0x10000, in, 1), 0);
	assert_int_equal(mem_read(&mem, 0, in, 1), -EFAULT);
	assert_int_equal(mem_read(&mem, ~0ull, in, 2), -EFAULT);
	assert_true(mem_owns_hva(&mem, (u64)ram + 0x9004, &gpa));
	assert_int_equal(gpa, 0x2004);
	assert_false(mem_owns_hva(&mem, (u64)ram + 0xa000, NULL));
	/* The VMM takes its memory away under a live slot. */
	munmap(ram + 0x9000, 0x1000);
	assert_int_equal(mem_read(&mem, 0x1fff, in, 2), -EFAULT);
	assert_int_equal(mem_write(&mem, 0x1fff, buf, 2), -EFAULT);
}

static void test_dirty(void **state)
{
	const struct memslot *s;
	u64 bits = 9;

	assert_int_equal(mem_get_dirty_log(&mem, 0, &bits), -ENOENT);
	assert_int_equal(mem_get_dirty_log(&mem, 0x10000, &bits), -EINVAL);
	assert_int_equal(set(0, 0, 0, 0x8000, ram), 0);
	assert_int_equal(mem_get_dirty_log(&mem, 0, &bits), -ENOENT);
	assert_int_equal(set(0, KVM_MEM_LOG_DIRTY_PAGES, 0, 0x8000, ram), 0);
	assert_int_equal(all, 2);
	assert_int_equal(mem_get_dirty_log(&mem, 0, &bits), 0);
	assert_int_equal(bits, 0);
	assert_int_equal(writes, 0);
	s = memslot_find(mem_slots(&mem), 0, NULL);
	memslot_mark_dirty(s, 7);
	memslot_mark_dirty(s, 2);
	/* The bitmap outlives a change of the table, and a move. */
	assert_int_equal(set(0, KVM_MEM_LOG_DIRTY_PAGES, 0x100000, 0x8000, ram), 0);
	assert_int_equal(mem_get_dirty_log(&mem, 0, &bits), 0);
	assert_int_equal(bits, 0x84);
	assert_int_equal(writes, 1);
	assert_int_equal(mem_get_dirty_log(&mem, 0, &bits), 0);
	assert_int_equal(bits, 0);
	memslot_mark_dirty(memslot_find(mem_slots(&mem), 0x100, NULL), 0x100);
	assert_int_equal(mem_get_dirty_log(&mem, 0, (void *)8), -EFAULT);
	assert_int_equal(mem_get_dirty_log(&mem, 0, &bits), 0);
	assert_int_equal(bits, 0);
	assert_int_equal(set(0, 0, 0x100000, 0x8000, ram), 0);
	assert_int_equal(mem_get_dirty_log(&mem, 0, &bits), -ENOENT);
}

static void test_clear(void **state)
{
	u64 bits[4], mask[4] = { 0x80, ~0ull, 1, 0 };

	mem.manual_protect = mem.initially_set = true;
	assert_int_equal(set(0, KVM_MEM_LOG_DIRTY_PAGES, 0, 130 * PAGE_SIZE, ram), 0);
	assert_int_equal(mem_get_dirty_log(&mem, 0, bits), 0);
	assert_int_equal(mem_get_dirty_log(&mem, 0, bits), 0);
	assert_true(bits[0] == ~0ull && bits[1] == ~0ull && bits[2] == 3);
	assert_int_equal(writes, 0);
	assert_int_equal(mem_clear_dirty_log(&mem, 0, 1, 64, mask), -EINVAL);
	assert_int_equal(mem_clear_dirty_log(&mem, 1, 0, 64, mask), -ENOENT);
	assert_int_equal(mem_clear_dirty_log(&mem, 0, 0, 63, mask), -EINVAL);
	assert_int_equal(mem_clear_dirty_log(&mem, 0, 192, 0, mask), -EINVAL);
	assert_int_equal(mem_clear_dirty_log(&mem, 0, 128, 3, mask), -EINVAL);
	assert_int_equal(mem_clear_dirty_log(&mem, 0, 0, 64, (void *)8), -EFAULT);
	assert_int_equal(writes, 0);
	assert_int_equal(mem_clear_dirty_log(&mem, 0, 0, 130, mask), 0);
	assert_int_equal(writes, 1);
	assert_int_equal(mem_clear_dirty_log(&mem, 0, 0, 130, mask), 0);
	assert_int_equal(writes, 1);
	assert_int_equal(mem_get_dirty_log(&mem, 0, bits), 0);
	assert_true(bits[0] == ~0x80ull && bits[1] == 0 && bits[2] == 2);
	assert_int_equal(mem_clear_dirty_log(&mem, 0, 128, 2, &mask[1]), 0);
	assert_int_equal(mem_get_dirty_log(&mem, 0, bits), 0);
	assert_int_equal(bits[2], 0);
}

static void test_track(void **state)
{
	u64 page = (u64)ram + 0x2000, far = 0x7f0000000000;
	u32 *cell, v;
	bool new;

	assert_int_equal(set(0, 0, 0, 0x8000, ram), 0);
	assert_false(mem_is_code(&mem, page));
	mem_note_write(&mem, page);
	cell = mem_track_code(&mem, page, &new);
	assert_true(new);
	assert_ptr_equal(mem_track_code(&mem, page, &new), cell);
	assert_false(new);
	assert_true(mem_is_code(&mem, page));
	assert_false(mem_is_code(&mem, page + PAGE_SIZE));
	assert_false(mem_is_code(&mem, far));
	v = *cell;
	assert_int_equal(mem_write(&mem, 0x1fff, "ab", 2), 0);
	assert_int_equal(*cell, v + 1);
	assert_int_equal(mem_write(&mem, 0x3000, "ab", 2), 0);
	assert_int_equal(*cell, v + 1);
	mem_untrack_all(&mem);
	assert_false(mem_is_code(&mem, page));
	mem_note_write(&mem, page);
	assert_int_equal(*cell, v + 1);
	assert_ptr_equal(mem_track_code(&mem, page, &new), cell);
	assert_true(new);
	for (u64 i = 0; i < 100000; i++)
		mem_track_code(&mem, far + i * PAGE_SIZE, NULL);
	assert_true(mem_is_code(&mem, far + 99999 * PAGE_SIZE));
	assert_false(mem_is_code(&mem, far + 100000 * PAGE_SIZE));
}

/* More spread-out code pages than there is room for: still reported, all of them. */
static void test_track_overflow(void **state)
{
	u32 *cell = NULL, v;
	u64 last = 0;

	for (u64 i = 0; i < 200000; i++) {
		last = i << 21;
		cell = mem_track_code(&mem, last, NULL);
		assert_non_null(cell);
	}
	assert_true(mem_is_code(&mem, last));
	v = *cell;
	mem_note_write(&mem, last);
	assert_true(*cell != v);
	/* An address that no user mapping has. */
	assert_non_null(mem_track_code(&mem, ~0xfffull, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(n) cmocka_unit_test_setup_teardown(test_##n, setup, teardown)
		T(errors), T(changes), T(many), T(owned), T(copies), T(dirty), T(clear), T(track), T(track_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
