/* SPDX-License-Identifier: MIT */
/* vmap: errors, what the pointer shows, dirty marks, slots deleted and changed under it, sections that hold a slot change up, references. */
#include "kvmtest.h"
#include "usekvm/xinterface.h"

#define HIGH 0x40000000ull

GUEST16(prog, "incb 0x2000\n mov 0x2001, %al\n out %al, $0x10\n hlt\n");

static struct vm v;
static struct kvm_xinterface *x;

static void check_error(u64 gpa, unsigned long len, int want)
{
	struct kvm_xvmap *m;

	errno = 0;
	m = kvm_xinterface_vmap(x, gpa, len);
	CHECK(!m);
	CHECK_EQ(errno, want);
	if (m)
		kvm_xvmap_put(m);
}

static u64 dirty(u32 slot)
{
	u64 bits[64] = {0};
	struct kvm_dirty_log d = {.slot = slot, .dirty_bitmap = bits};

	CHECK_OK(ioctl(v.vm, KVM_GET_DIRTY_LOG, &d));
	return bits[0];
}

static void errors(void)
{
	u8 *a = kt_pages(0x2000);

	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0x1000, a));
	CHECK_OK(kt_slot(v.vm, 2, 0, HIGH + 0x1000, 0x1000, a + 0x1000));
	check_error(HIGH, 0, EINVAL);
	check_error(~0ull - 7, 16, EINVAL);
	check_error(HIGH - 8, 8, EFAULT);
	check_error(HIGH - 8, 16, EFAULT);
	check_error(HIGH, 0x1001, EFAULT); /* two slots, though side by side in both worlds */
	check_error(HIGH + 0x1ff8, 16, EFAULT);
	check_error(HIGH, ~0ul - HIGH, EFAULT);
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 2, 0, HIGH, 0, NULL));
	munmap(a, 0x2000);
}

static void pointer(void)
{
	struct kvm_xvmap *m = kvm_xinterface_vmap(x, 0x2000, 0x1000);

	REQUIRE(m);
	CHECK(m->addr == v.mem + 0x2000 && m->gpa == 0x2000 && m->len == 0x1000 && !m->flags && m->intf == x);
	((u8 *)m->addr)[0] = 41;
	((u8 *)m->addr)[1] = 0x77;
	CHECK_OUT(v.vcpu, v.run, 0x10, 0x77);
	CHECK_EQ(((u8 *)m->addr)[0], 42);
	/* Code changed through the pointer: dirty() makes the guest see it. */
	struct kvm_xvmap *c = kvm_xinterface_vmap(x, KT_CODE, 0x100);
	REQUIRE(c);
	for (u8 port = 0x20; port < 0x24; port++) {
		u8 *at = memchr(c->addr, 0xe6, GUEST_SIZE(prog));

		REQUIRE(at);
		at[1] = port;
		CHECK_OK(kvm_xvmap_dirty(c, (unsigned long)(at - (u8 *)c->addr), 2));
		kt_set_rip(v.vcpu, KT_CODE);
		CHECK_OUT(v.vcpu, v.run, port, 0x77);
	}
	kvm_xvmap_put(c);
	kvm_xvmap_put(m);
}

static void marks(void)
{
	u8 *a = kt_pages(0x4000), data[0x1800];
	struct kvm_xvmap *m;

	memset(data, 9, sizeof(data));
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, HIGH, 0x4000, a));
	m = kvm_xinterface_vmap(x, HIGH + 0x800, 0x3000);
	REQUIRE(m);
	CHECK_EQ(dirty(1), 0);
	memset(m->addr, 1, 0x3000);
	CHECK_EQ(dirty(1), 0); /* what goes past the interface is not seen... */
	CHECK_OK(kvm_xvmap_dirty(m, 0x7ff, 2));
	CHECK_EQ(dirty(1), 3); /* ...until it is said */
	CHECK_OK(kvm_xvmap_dirty(m, 0x2fff, 1));
	CHECK_EQ(dirty(1), 8);
	CHECK_OK(kvm_xvmap_dirty(m, 0x3000, 0));
	CHECK_EQ(dirty(1), 0);
	CHECK_ERR(kvm_xvmap_dirty(m, 0x2fff, 2), ERANGE);
	CHECK_ERR(kvm_xvmap_dirty(m, ~0ul, 2), ERANGE);
	CHECK_EQ(kvm_xvmap_copy_to(m, 0x800, data, sizeof(data)), 0);
	CHECK_EQ(dirty(1), 6);
	CHECK(!memcmp(a + 0x1000, data, sizeof(data)) && a[0xfff] == 1 && a[0x2800] == 1);
	CHECK_EQ(kvm_xvmap_copy_from(m, data, 0x7ff, 2), 0);
	CHECK(data[0] == 1 && data[1] == 9);
	CHECK_EQ(kvm_xvmap_copy_to(m, 0x2fff, data, 2), 2);
	CHECK_EQ(kvm_xvmap_copy_from(m, data, ~0ul, 8), 8);
	kvm_xvmap_put(m);
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_READONLY, HIGH, 0x4000, a));
	m = kvm_xinterface_vmap(x, HIGH, 0x4000);
	REQUIRE(m);
	CHECK_EQ(m->flags, KVM_XVMAP_READONLY);
	CHECK_EQ(kvm_xvmap_copy_to(m, 0, data, 8), 8);
	CHECK_EQ(kvm_xvmap_copy_from(m, data, 0, 8), 0);
	CHECK_ERR(kvm_xvmap_dirty(m, 0, 8), EROFS);
	kvm_xvmap_put(m);
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0, NULL));
	munmap(a, 0x4000);
}

static void deleted_under_it(void)
{
	u8 *a = kt_pages(0x2000), *b = kt_pages(0x2000), byte = 5;
	struct kvm_xvmap *m;
	int s;

	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, HIGH, 0x2000, a));
	m = kvm_xinterface_vmap(x, HIGH, 0x2000);
	REQUIRE(m);
	CHECK(kvm_xvmap_valid(m));
	CHECK_OK(kt_slot(v.vm, 2, 0, HIGH + 0x100000, 0x2000, b)); /* another slot's business */
	CHECK(kvm_xvmap_valid(m));
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0, NULL));
	CHECK(!kvm_xvmap_valid(m));
	CHECK_ERR(kvm_xvmap_enter(m), ESTALE);
	CHECK_ERR(kvm_xvmap_dirty(m, 0, 1), ESTALE);
	CHECK_EQ(kvm_xvmap_copy_to(m, 0, &byte, 1), 1);
	CHECK_EQ(kvm_xvmap_copy_from(m, &byte, 0, 1), 1);
	/* Other memory there; moved away; shorter; read-only: stale. The same again: valid. */
	CHECK_OK(kt_slot(v.vm, 2, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0x2000, b));
	CHECK(!kvm_xvmap_valid(m));
	CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0x1000, a));
	CHECK(!kvm_xvmap_valid(m));
	CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 1, KVM_MEM_READONLY, HIGH, 0x2000, a));
	CHECK(!kvm_xvmap_valid(m));
	CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL));
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0x2000, a));
	CHECK(kvm_xvmap_valid(m));
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH + 0x10000, 0x2000, a));
	CHECK(!kvm_xvmap_valid(m));
	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0x2000, a));
	s = kvm_xvmap_enter(m);
	CHECK(s >= 0);
	kvm_xvmap_leave(m, s);
	/* Unmapped under the slot: the slot says yes, the copies notice. */
	munmap(a, 0x1000);
	CHECK(kvm_xvmap_valid(m));
	CHECK_EQ(kvm_xvmap_copy_to(m, 0xff0, &byte, 1), 1);
	CHECK_EQ(kvm_xvmap_copy_from(m, &byte, 0x1000, 1), 0);
	CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL));
	munmap(a + 0x1000, 0x1000);
	CHECK_EQ(kvm_xvmap_copy_from(m, &byte, 0x1000, 1), 1);
	kvm_xvmap_get(m);
	kvm_xvmap_put(m);
	CHECK(!kvm_xvmap_valid(m));
	kvm_xvmap_put(m);
	munmap(b, 0x2000);
}

static int deleted;

static void *delete_slot(void *arg)
{
	CHECK_OK(kt_slot(v.vm, 1, 0, 0, 0, NULL));
	munmap(arg, 0x1000);
	__atomic_store_n(&deleted, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void section(void)
{
	u8 *a = kt_pages(0x1000);
	struct kvm_xvmap *m;
	pthread_t t;
	int s;

	CHECK_OK(kt_slot(v.vm, 1, 0, HIGH, 0x1000, a));
	m = kvm_xinterface_vmap(x, HIGH, 0x1000);
	REQUIRE(m);
	s = kvm_xvmap_enter(m);
	CHECK(s >= 0);
	REQUIRE(pthread_create(&t, NULL, delete_slot, a) == 0);
	for (int i = 0; i < 100; i++) {
		memset(m->addr, i, 0x1000);
		CHECK(!__atomic_load_n(&deleted, __ATOMIC_SEQ_CST));
		kt_sleep_ms(1);
	}
	kvm_xvmap_leave(m, s);
	pthread_join(t, NULL);
	CHECK(deleted);
	CHECK_ERR(kvm_xvmap_enter(m), ESTALE);
	kvm_xvmap_put(m);
}

/* Memory that usekvm has mapped itself (KVM_SET_MEMORY_REGION) stays with the mapping. */
static void kept_memory(void)
{
	struct kvm_memory_region r = {.slot = 7, .guest_phys_addr = HIGH + 0x200000, .memory_size = 0x3000};
	struct kvm_xvmap *m;
	u64 val = 0xabcdef;

	if (ioctl(v.vm, KVM_SET_MEMORY_REGION, &r) < 0) {
		CHECK(!"KVM_SET_MEMORY_REGION");
		return;
	}
	m = kvm_xinterface_vmap(x, r.guest_phys_addr, 0x3000);
	REQUIRE(m);
	CHECK_EQ(kvm_xinterface_copy_to(x, r.guest_phys_addr + 0x2000, &val, 8), 0);
	r.memory_size = 0;
	CHECK_OK(ioctl(v.vm, KVM_SET_MEMORY_REGION, &r));
	CHECK(!kvm_xvmap_valid(m));
	CHECK_EQ(*(u64 *)((u8 *)m->addr + 0x2000), val);
	*(u64 *)m->addr = val;
	kvm_xvmap_put(m);
}

int main(void)
{
	struct kvm_xvmap *m;
	u64 val = 3, got = 0;

	vm_real(&v, prog, prog_end);
	x = kvm_xinterface_bind(v.vm);
	REQUIRE(x);
	errors();
	pointer();
	marks();
	deleted_under_it();
	section();
	kept_memory();
	/* The mapping keeps the interface, and that the VM. */
	m = kvm_xinterface_vmap(x, 0x3000, 8);
	REQUIRE(m);
	kvm_xinterface_put(x);
	munmap(v.run, v.run_size);
	close(v.vm);
	close(v.vcpu);
	CHECK(kvm_xvmap_valid(m));
	CHECK_EQ(kvm_xvmap_copy_to(m, 0, &val, 8), 0);
	CHECK_EQ(kvm_xinterface_copy_from(m->intf, &got, 0x3000, 8), 0);
	CHECK_EQ(got, 3);
	kvm_xvmap_put(m);
	return kt_end();
}
