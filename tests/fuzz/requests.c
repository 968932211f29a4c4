/* SPDX-License-Identifier: MIT */
/*
 * Every ioctl of src/api/table.h: its structure, filled so that it often goes deep, and the errors that it may give, by the kernel's documentation
 * and source. A request that the library has and this table lacks is an error at the start. Append only: inputs name them by their place.
 */
#include "calls.h"

#include "kvm/kvm.h"
#include "usekvm/device.h"
#include "usekvm/stats.h"

/* ---- values ---- */

static const u64 some[] = {0, 1, 2, 3, 4, 8, 15, 16, 23, 24, 31, 32, 48, 63, 64, 121, 127, 128, 168, 188, 255, 256, 0x1000, 0xffff, 0x10000, 0xa0000,
	0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 36, 1ull << 47, 1ull << 52, 1ull << 63, ~0ull, 0xfee00000, 0xfec00000, 0xfed00000,
	0xfee00900, 0xd0000000, 0x1b, 0x10, 0x6e0, 0x277, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000100, 0x4b564d00, 0x4b564d01, 0x4b564d03, 0x80050033,
	0xd01, 0x100, 0x600, 0x407, 0x0007040600070406, 0x8000000000000000 - 1, 0xffff800000000000};
#define NSOME (sizeof(some) / sizeof(some[0]))

/* n changes of 7 bytes each: where, how wide and in what way, a value. */
void change(u8 *buf, unsigned size, const u8 *data, unsigned n)
{
	for (; n && size; n--, data += 7) {
		unsigned width = 1u << (data[2] & 3), at;
		u64 v = field32(data + 3), was = 0;

		if (width > size)
			width = 1;
		/* the first fields are the ones that matter more often */
		at = data[2] & 0x80 ? field16(data) % size : data[0] % size;
		at &= ~(width - 1);
		if (at + width > size)
			continue;
		memcpy(&was, buf + at, width);
		switch (data[2] >> 2 & 7) {
		case 0: break;
		case 1: v = some[v % NSOME]; break;
		case 2: v = was ^ 1ull << (v & 63); break;
		case 3: v = was + (v & 7) - 3; break;
		case 4: v = ~0ull; break;
		case 5: v = 0; break;
		case 6: v = was | some[v % NSOME]; break;
		default: v = v << 32 | v; break;
		}
		memcpy(buf + at, &v, width);
	}
}

static u64 gpa_of(const u8 *d)
{
	static const u64 bases[] = {0, 0x10000, 0x40000, 0xa0000, 0x100000, 0xd0000000, 0xfec00000, 0xfee00000, 0xfffff000, 1ull << 32, 1ull << 36,
		(1ull << 40) - PG, (1ull << 52) - PG, ~0xfffull, 1ull << 63, 0x7f000};
	u64 base = bases[d[0] & 15] + (u64)(d[1] & 63) * PG;

	return d[0] & 0x80 && d[0] & 0x40 ? base + d[1] * 8u : base;
}

static u64 events(unsigned n)
{
	return (u64)(unsigned)call_fd(n & 0x30 ? K_EVENT : n & 0x40 ? K_VM : K_SYSTEM, n);
}

/* ---- structures ---- */

static void value(struct call *c)
{
	c->size = 0;
	c->value = c->r->pick & 1 ? some[c->r->data[0] % NSOME] : c->r->pick & 2 ? field32(c->r->data) : c->r->data[0] & 15;
}

static void zero_value(struct call *c)
{
	c->size = 0;
	c->value = c->r->pick & 0x80 ? field32(c->r->data) : 0;
}

static void vcpu_id(struct call *c)
{
	c->size = 0;
	c->value = c->r->pick < 16 ? some[c->r->data[0] % NSOME] : c->r->pick & 7;
}

/* Guests get the pool or what is nowhere, and never the fuzzer's own memory. */
static void place(const u8 *d, u64 *size, u64 *hva, u64 *nowhere_size)
{
	u64 off = (u64)(d[0] & 127) * PG, len = (u64)(1 + (d[1] & 63)) * PG;

	*nowhere_size = 0;
	switch (d[2] & 31) {
	case 0: len = 0; break;
	case 1: len = field32(d + 3); break;
	case 2: len = (u64)field32(d + 3) << 12; break;
	case 3: len += d[3]; break;
	case 4: len = ~0xfffull; break;
	}
	*hva = (u64)world.pool + off;
	if ((d[2] >> 5) == 7) {
		*hva = d[3] & 1 ? (u64)world.nowhere + off : d[3] & 2 ? 0 : d[3] & 4 ? 0xffff800000000000 : d[3] & 8 ? ~0xfffull : *hva + d[4];
		if (*hva == (u64)world.nowhere + off && len > NOWHERE / 2)
			len = NOWHERE / 2 + (len & 0xfff);
	}
	if (*hva >= (u64)world.pool && *hva < (u64)world.pool + POOL && len < 1ull << 47 && len > (u64)world.pool + POOL - *hva)
		len = ((u64)world.pool + POOL - *hva) & ~0xfffull;
	if (!*hva && len < 1ull << 47 && len > 16 * PG)
		len = 16 * PG; /* below vm.mmap_min_addr */
	*size = len;
}

static void region(struct call *c)
{
	struct kvm_userspace_memory_region2 *m = (void *)c->buf;
	const u8 *d = c->r->data;
	u64 size, hva, unused;

	place(d, &size, &hva, &unused);
	m->slot = d[10] & 0x80 ? field32(d + 12) : d[10] & 7;
	m->flags = d[11] & 0x80 ? field32(d + 16) : d[11] & 3;
	m->guest_phys_addr = gpa_of(d + 8);
	m->memory_size = size;
	m->userspace_addr = hva;
	c->nomem = true;
}

static void region2(struct call *c)
{
	region(c);
	change(c->buf + 32, c->size - 32, c->r->data + 20, c->r->pick & 1);
}

static void old_region(struct call *c)
{
	struct kvm_memory_region *m = (void *)c->buf;
	const u8 *d = c->r->data;

	m->slot = d[10] & 0x80 ? field32(d + 12) : d[10] & 7;
	m->flags = d[11] & 0x80 ? field32(d + 16) : d[11] & 1;
	m->guest_phys_addr = gpa_of(d + 8);
	m->memory_size = d[0] & 0x80 ? (u64)field16(d + 1) << 12 : d[0] & 0x40 ? field32(d + 1) : (u64)(d[1] & 63) * PG;
	c->nomem = true;
}

static void bitmap_pointer(struct call *c, void **p)
{
	const u8 *d = c->r->data;

	*p = world.bitmap;
	if (d[4] > 230) {
		*p = d[4] & 1 ? world.bitmap + BITMAP - d[5] : d[4] & 2 ? NULL : world.nowhere;
		c->efault = true;
	}
}

static void dirty_log(struct call *c)
{
	struct kvm_dirty_log *l = (void *)c->buf;

	l->slot = c->r->data[0] & 0x80 ? field32(c->r->data) : c->r->data[0] & 7;
	bitmap_pointer(c, &l->dirty_bitmap);
	c->efault = true; /* the slot may be larger than the bitmap */
}

static void clear_log(struct call *c)
{
	struct kvm_clear_dirty_log *l = (void *)c->buf;
	const u8 *d = c->r->data;

	l->slot = d[0] & 0x80 ? field32(d) : d[0] & 7;
	l->num_pages = d[6] & 0x80 ? field32(d + 8) : d[6] & 0x40 ? 64 : d[6] & 63;
	l->first_page = d[7] & 0x80 ? field64(d + 8) : d[7] & 0x40 ? 0 : (d[7] & 1) * 64;
	bitmap_pointer(c, &l->dirty_bitmap);
	c->efault = true;
	for (unsigned i = 0; i < 64; i++)
		world.bitmap[i] = d[20 + (i & 7)];
}

static void irqchip(struct call *c)
{
	struct kvm_irqchip *i = (void *)c->buf;

	i->chip_id = c->r->obj >> 4 > 13 ? field32(c->r->data) : (c->r->obj >> 4) % 3;
}

static void set_irqchip(struct call *c)
{
	irqchip(c);
	ioctl(c->fd, KVM_GET_IRQCHIP, c->buf);
	change(c->buf + 8, c->size - 8, c->r->data, c->r->pick & 3);
	if (c->r->pick & 4)
		change(c->buf, c->size, c->r->data + 21, 1);
}

static void irq_line(struct call *c)
{
	struct kvm_irq_level *l = (void *)c->buf;

	l->irq = c->r->data[0] < 224 ? c->r->data[0] % 25 : field32(c->r->data);
	l->level = c->r->data[5] & 0x80 ? field32(c->r->data + 8) : c->r->data[5] & 1;
}

static void routing(struct call *c)
{
	struct kvm_irq_routing *t = (void *)c->buf;
	const u8 *d = c->r->data;

	t->nr = d[0] & 15;
	t->flags = d[1] > 250;
	for (unsigned i = 0; i < t->nr; i++) {
		struct kvm_irq_routing_entry *e = &t->entries[i];
		const u8 *s = d + 2 + (i * 5) % 22;

		memset(e, 0, sizeof(*e));
		e->gsi = s[0] < 250 ? s[0] % 28 : field32(s);
		e->type = s[1] < 200 ? 1 + s[1] % 2 : s[1] % 8;
		e->flags = s[2] > 240 ? s[2] : 0;
		if (e->type == KVM_IRQ_ROUTING_MSI) {
			e->u.msi.address_lo = 0xfee00000 | (u32)(s[3] & 3) << 12 | (u32)(s[3] & 0x0c);
			e->u.msi.address_hi = s[4] > 200 ? (u32)s[4] << 8 : 0;
			e->u.msi.data = (u32)s[4] | (u32)(s[3] >> 4) << 8 | (u32)(s[2] & 3) << 14;
		} else {
			e->u.irqchip.irqchip = s[3] % 5;
			e->u.irqchip.pin = s[4] > 240 ? field32(s) : s[4] % 25;
		}
	}
	c->size = (unsigned)(sizeof(*t) + t->nr * sizeof(t->entries[0]));
	if (d[1] > 225) {
		t->nr = d[1] & 1 ? 4097 : d[1] & 2 ? 0xffffffff : 4096;
		c->efault = true;
	}
}

static void msi(struct call *c)
{
	struct kvm_msi *m = (void *)c->buf;
	const u8 *d = c->r->data;

	m->address_lo = 0xfee00000 | (u32)d[0] << 12 | (u32)(d[1] & 0x0c);
	m->address_hi = d[1] & 0x80 ? field32(d + 4) : 0;
	m->data = d[2] | (u32)(d[3] & 7) << 8 | (u32)(d[3] >> 6) << 14;
	change(c->buf, c->size, d + 8, c->r->pick > 200);
}

static void irqfd(struct call *c)
{
	struct kvm_irqfd *q = (void *)c->buf;
	const u8 *d = c->r->data;

	q->fd = (u32)events(d[0]);
	q->gsi = d[1] < 240 ? d[1] % 25 : field32(d + 4);
	q->flags = d[2] & 0x80 ? d[3] : d[2] & 3;
	q->resamplefd = (u32)events(d[8]);
	change(c->buf, c->size, d + 12, c->r->pick > 240);
}

static void ioeventfd(struct call *c)
{
	struct kvm_ioeventfd *e = (void *)c->buf;
	const u8 *d = c->r->data;

	e->flags = d[0] & 0x80 ? d[0] : d[0] & 7;
	e->len = d[1] < 230 ? (u32)(1u << (d[1] & 3)) : d[1] & 15;
	e->addr = e->flags & KVM_IOEVENTFD_FLAG_PIO ? (u64)(0x10 + (d[2] & 3)) : 0xd0000000 + (d[2] & 12);
	e->datamatch = d[3] & 3;
	e->fd = (s32)(u32)events(d[4]);
	change(c->buf, c->size, d + 12, c->r->pick > 230);
}

static void coalesced(struct call *c)
{
	struct kvm_coalesced_mmio_zone *z = (void *)c->buf;
	const u8 *d = c->r->data;

	z->pio = d[0] & 0x80 ? d[1] : d[0] & 1;
	z->addr = z->pio ? (u64)(d[2] & 0x7f) : 0xd0000000 + d[2];
	z->size = d[3];
	change(c->buf, c->size, d + 12, c->r->pick > 230);
}

static void pit2(struct call *c)
{
	change(c->buf, c->size, c->r->data, c->r->pick > 128);
}

static void enable_cap(struct call *c)
{
	static const u32 caps[] = {KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_MAX_VCPU_ID, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_X86_USER_SPACE_MSR,
		KVM_CAP_EXIT_ON_EMULATION_FAILURE, KVM_CAP_DISABLE_QUIRKS2, KVM_CAP_DISABLE_QUIRKS, KVM_CAP_X86_DISABLE_EXITS, KVM_CAP_MSR_PLATFORM_INFO,
		KVM_CAP_X2APIC_API, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 237 /* KVM_CAP_X86_APIC_BUS_CYCLES_NS */, KVM_CAP_HYPERV_SYNIC, KVM_CAP_DIRTY_LOG_RING};
	struct kvm_enable_cap *e = (void *)c->buf;
	const u8 *d = c->r->data;

	e->cap = d[0] < 240 ? caps[d[0] % (sizeof(caps) / sizeof(caps[0]))] : field32(d);
	e->args[0] = d[1] & 0x80 ? some[d[4] % NSOME] : d[4] & 31;
	change(c->buf, c->size, d + 8, c->r->pick > 230);
}

static void msr_filter(struct call *c)
{
	static u8 bits[2048]; /* for reading only */
	struct kvm_msr_filter *f = (void *)c->buf;
	const u8 *d = c->r->data;

	f->flags = d[0] & 1;
	for (unsigned i = 0; i < 4; i++) {
		const u8 *s = d + 4 + i * 6;

		if (s[0] & 0x80)
			continue;
		f->ranges[i].flags = s[0] & 0x40 ? s[0] : 1 + (s[0] & 1);
		f->ranges[i].nmsrs = s[1] > 250 ? field32(s) : s[1];
		f->ranges[i].base = s[2] & 1 ? (u32)some[s[3] % NSOME] : field16(s + 2);
		f->ranges[i].bitmap = s[4] > 250 ? world.nowhere : bits;
		c->efault |= s[4] > 250 || f->ranges[i].nmsrs > sizeof(bits) * 8;
	}
	c->nomem = true;
	change(c->buf, c->size, d + 8, c->r->pick > 240);
	c->efault |= c->r->pick > 240;
}

static void device(struct call *c)
{
	static const u32 types[] = {KVM_DEV_TYPE_VFIO, USEKVM_DEV_TYPE_STATS, USEKVM_DEV_TYPE_USER, 0, 1};
	struct kvm_create_device *d = (void *)c->buf;

	d->type = c->r->data[0] < 240 ? types[c->r->data[0] % 2] : c->r->data[0] < 250 ? types[c->r->data[1] % 5] : field32(c->r->data);
	d->fd = field32(c->r->data + 4);
	d->flags = c->r->data[8] & 0x80 ? c->r->data[8] : 0;
}

static void attr(struct call *c)
{
	struct kvm_device_attr *a = (void *)c->buf;
	const u8 *d = c->r->data;

	a->group = d[0] & 0x80 ? field32(d) : d[0] & 3;
	a->attr = d[4] & 0x80 ? field64(d + 4) : d[4] & 0x40 ? USEKVM_STATS_ALL : d[4] & 0x20 ? (u64)(d[5] & 3) << 32 | (d[6] & 63) : d[4] & 7;
	a->flags = d[12] > 240 ? d[12] : 0;
	a->addr = (u64)(d[13] > 230 ? world.nowhere : world.bitmap + (d[13] & 7));
	c->efault = d[13] > 230;
	if (d[14] & 1) /* a descriptor for KVM-VFIO */
		*(s32 *)world.bitmap = (s32)(u32)events(d[15]);
}

static void set_cpuid(struct call *c)
{
	struct kvm_cpuid2 *id = (void *)c->buf;
	const u8 *d = c->r->data;
	unsigned n = world.cpuid->nent;

	if (d[0] & 0x40)
		n = d[1] % (n + 1);
	memcpy(id, world.cpuid, sizeof(*id) + n * sizeof(id->entries[0]));
	id->nent = n;
	c->size = (unsigned)(sizeof(*id) + n * sizeof(id->entries[0]));
	for (unsigned i = 0; i < (c->r->pick & 3); i++) { /* what is in a leaf */
		const u8 *s = d + 2 + i * 6;

		if (n)
			change((u8 *)&id->entries[s[0] % n], sizeof(id->entries[0]), s, 1);
	}
	if (d[0] > 245) {
		id->nent = d[1] & 1 ? field32(d + 20) : 257;
		c->efault = true;
	}
}

static void set_cpuid_old(struct call *c)
{
	struct kvm_cpuid *id = (void *)c->buf;

	id->nent = c->r->data[0] & 31;
	for (unsigned i = 0; i < id->nent; i++)
		id->entries[i] = (struct kvm_cpuid_entry){.function = world.cpuid->entries[i].function, .eax = world.cpuid->entries[i].eax,
			.ebx = world.cpuid->entries[i].ebx, .ecx = world.cpuid->entries[i].ecx, .edx = world.cpuid->entries[i].edx};
	c->size = (unsigned)(sizeof(*id) + id->nent * sizeof(id->entries[0]));
	change(c->buf, c->size, c->r->data + 1, c->r->pick & 1);
	c->efault = c->r->pick & 1;
}

/* A list to be filled in: room for `usual` entries or for few, or a number of them that is not so. */
static void list_of(struct call *c, u32 *n, u32 usual, size_t head, size_t each)
{
	*n = c->r->data[0] & 0x80 ? c->r->data[1] : usual;
	c->size = (unsigned)(head + *n * each);
	if (c->r->data[0] > 250) {
		*n = field32(c->r->data);
		c->efault = true;
	}
}

static void get_cpuid(struct call *c)
{
	struct kvm_cpuid2 *id = (void *)c->buf;

	list_of(c, &id->nent, 256, sizeof(*id), sizeof(id->entries[0]));
}

static void msr_list(struct call *c)
{
	struct kvm_msr_list *l = (void *)c->buf;

	list_of(c, &l->nmsrs, 512, sizeof(*l), sizeof(l->indices[0]));
}

static u32 msr_index(const u8 *d)
{
	static const u32 special[] = {0x10, 0x1b, 0x3a, 0x3b, 0x48, 0xfe, 0x174, 0x175, 0x176, 0x179, 0x17a, 0x17b, 0x1a0, 0x1d9, 0x200, 0x26f, 0x277, 0x2ff,
		0x400, 0x404, 0x6e0, 0x800, 0x802, 0x803, 0x808, 0x80b, 0x80d, 0x80f, 0x828, 0x830, 0x832, 0x838, 0x83f, 0xda0, 0xc0000080, 0xc0000081,
		0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0x11, 0x12, 0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03, 0x4b564d04,
		0x4b564d05, 0xce, 0x140, 0x8b, 0xc0010015, 0xc001001f, 0x40000000};

	return d[0] < 220 ? special[d[0] % (sizeof(special) / sizeof(special[0]))] : d[0] < 240 ? field16(d) : field32(d);
}

static void msrs(struct call *c)
{
	struct kvm_msrs *m = (void *)c->buf;
	const u8 *d = c->r->data;

	m->nmsrs = d[0] & 3;
	for (unsigned i = 0; i < m->nmsrs; i++) {
		const u8 *s = d + 1 + i * 9;

		m->entries[i].index = msr_index(s);
		m->entries[i].data = s[4] & 1 ? some[s[5] % NSOME] : field32(s + 4) & (s[8] & 1 ? ~0u : 0xfff);
	}
	c->size = (unsigned)(sizeof(*m) + m->nmsrs * sizeof(m->entries[0]));
	if (d[0] > 245) {
		m->nmsrs = d[0] & 1 ? 255 : 256;
		c->efault = true;
	}
}

static void mp_state(struct call *c)
{
	((struct kvm_mp_state *)c->buf)->mp_state = c->r->data[0] > 230 ? field32(c->r->data) : c->r->data[0] % 6;
}

static void guest_debug(struct call *c)
{
	struct kvm_guest_debug *g = (void *)c->buf;
	const u8 *d = c->r->data;

	g->control = d[0] & 0x80 ? field32(d) : (u32)(d[0] & 3) | (u32)d[1] << 16;
	for (unsigned i = 0; i < 4; i++)
		g->arch.debugreg[i] = 0x1000u + field16(d + 4 + 2 * i) % 0x400;
	g->arch.debugreg[7] = field32(d + 12);
	change(c->buf, c->size, d + 20, c->r->pick > 230);
}

static void debug_guest(struct call *c)
{
	change(c->buf, c->size, c->r->data, c->r->pick & 3);
}

static void interrupt(struct call *c)
{
	((struct kvm_interrupt *)c->buf)->irq = c->r->data[0] & 1 ? field32(c->r->data) : c->r->data[1];
}

static void signal_mask(struct call *c)
{
	struct kvm_signal_mask *m = (void *)c->buf;

	m->len = c->r->data[0] > 230 ? c->r->data[0] : 8;
	/* The ticks go through, or KVM_RUN might not end. */
	u64 mask = field64(c->r->data + 4) & ~(1ull << (SIGRTMIN + 3 - 1)) & ~(1ull << (SIGALRM - 1));
	memcpy(m->sigset, &mask, 8);
	c->size = 12;
	if (c->r->pick & 1) {
		c->size = 0;
		c->value = 0;
	}
}

static void nested(struct call *c)
{
	struct kvm_nested_state *n = (void *)c->buf;

	n->size = c->r->data[0] & 0x80 ? field32(c->r->data) : sizeof(*n) + 0;
	n->format = c->r->data[4] & 3;
	n->flags = c->r->data[5] & 15;
	change(c->buf + 4, 124, c->r->data + 7, c->r->pick & 1);
	c->size = sizeof(*n);
	c->efault = true;
}

static void pre_fault(struct call *c)
{
	u64 *p = (u64 *)c->buf;

	p[0] = gpa_of(c->r->data);
	p[1] = c->r->data[2] & 0x80 ? field32(c->r->data + 4) : (u64)(c->r->data[2] & 15) * PG;
	change(c->buf, c->size, c->r->data + 8, c->r->pick > 230);
	c->efault = true; /* host memory may be gone */
	if (p[1] > 1ull << 32)
		p[1] = 1ull << 32;
}

static void vapic(struct call *c)
{
	*(u64 *)c->buf = gpa_of(c->r->data);
	c->efault = true;
}

static void tsc_khz(struct call *c)
{
	c->size = 0;
	c->value = c->r->pick & 1 ? field32(c->r->data) : c->r->pick & 2 ? some[c->r->data[0] % NSOME] : 1000000u + ((u64)c->r->data[0] << 14);
}

/* The number does not say the size. */
static void reinject(struct call *c)
{
	c->size = sizeof(struct kvm_reinject_control);
	c->buf[0] = c->r->data[0];
}

static void changed(struct call *c)
{
	change(c->buf, c->size, c->r->data, c->r->pick & 7 ? c->r->pick & 3 : 0);
}

/* ---- the table ---- */

#define R(kind, name, get, fill, ...) {K_##kind, (u32)name, #name, (u32)get, fill, {__VA_ARGS__}}

static const struct request requests[] = {
	R(SYSTEM, KVM_GET_API_VERSION, 0, zero_value, EINVAL),
	R(SYSTEM, KVM_CHECK_EXTENSION, 0, value, 0),
	R(SYSTEM, KVM_GET_VCPU_MMAP_SIZE, 0, zero_value, EINVAL),
	R(SYSTEM, KVM_GET_SUPPORTED_CPUID, 0, get_cpuid, E2BIG),
	R(SYSTEM, KVM_GET_EMULATED_CPUID, 0, get_cpuid, E2BIG),
	R(SYSTEM, KVM_GET_MSR_INDEX_LIST, 0, msr_list, E2BIG),
	R(SYSTEM, KVM_GET_MSR_FEATURE_INDEX_LIST, 0, msr_list, E2BIG),
	R(SYSTEM, KVM_GET_MSRS, 0, msrs, E2BIG),
	R(SYSTEM, KVM_X86_GET_MCE_CAP_SUPPORTED, 0, changed, 0),
	R(SYSTEM, KVM_GET_DEVICE_ATTR, 0, attr, ENXIO, EINVAL),
	R(SYSTEM, KVM_HAS_DEVICE_ATTR, 0, attr, ENXIO, EINVAL),
	R(VM, KVM_CHECK_EXTENSION, 0, value, 0),
	R(VM, KVM_SET_MEMORY_REGION, 0, old_region, EINVAL, EEXIST),
	R(VM, KVM_SET_USER_MEMORY_REGION, 0, region, EINVAL, EEXIST),
	R(VM, KVM_SET_USER_MEMORY_REGION2, 0, region2, EINVAL, EEXIST),
	R(VM, KVM_GET_DIRTY_LOG, 0, dirty_log, EINVAL, ENOENT),
	R(VM, KVM_CLEAR_DIRTY_LOG, 0, clear_log, EINVAL, ENOENT, ENXIO),
	R(VM, KVM_SET_TSS_ADDR, 0, value, EINVAL),
	R(VM, KVM_SET_IDENTITY_MAP_ADDR, 0, changed, EINVAL),
	R(VM, KVM_SET_NR_MMU_PAGES, 0, value, EINVAL),
	R(VM, KVM_CREATE_IRQCHIP, 0, zero_value, EEXIST, EINVAL),
	R(VM, KVM_GET_IRQCHIP, 0, irqchip, ENXIO, EINVAL),
	R(VM, KVM_SET_IRQCHIP, 0, set_irqchip, ENXIO, EINVAL),
	R(VM, KVM_IRQ_LINE, 0, irq_line, ENXIO),
	R(VM, KVM_IRQ_LINE_STATUS, 0, irq_line, ENXIO),
	R(VM, KVM_SET_GSI_ROUTING, 0, routing, EINVAL),
	R(VM, KVM_SIGNAL_MSI, 0, msi, EINVAL, EPERM),
	R(VM, KVM_IRQFD, 0, irqfd, EINVAL, EBADF, EBUSY),
	R(VM, KVM_IOEVENTFD, 0, ioeventfd, EINVAL, EBADF, EEXIST, ENOENT, ENOSPC),
	R(VM, KVM_REGISTER_COALESCED_MMIO, 0, coalesced, EINVAL, ENOSPC),
	R(VM, KVM_UNREGISTER_COALESCED_MMIO, 0, coalesced, EINVAL),
	R(VM, KVM_CREATE_PIT, 0, zero_value, EEXIST, ENOENT),
	R(VM, KVM_CREATE_PIT2, 0, pit2, EEXIST, ENOENT, EINVAL),
	R(VM, KVM_GET_PIT, 0, changed, ENXIO),
	R(VM, KVM_SET_PIT, KVM_GET_PIT, changed, ENXIO),
	R(VM, KVM_GET_PIT2, 0, changed, ENXIO),
	R(VM, KVM_SET_PIT2, KVM_GET_PIT2, changed, ENXIO),
	R(VM, KVM_REINJECT_CONTROL, 0, reinject, ENXIO),
	R(VM, KVM_SET_BOOT_CPU_ID, 0, vcpu_id, EBUSY, EINVAL),
	R(VM, KVM_GET_CLOCK, 0, changed, EINVAL),
	R(VM, KVM_SET_CLOCK, KVM_GET_CLOCK, changed, EINVAL),
	R(VM, KVM_GET_TSC_KHZ, 0, zero_value, EIO),
	R(VM, KVM_SET_TSC_KHZ, 0, tsc_khz, EINVAL),
	R(VM, KVM_ENABLE_CAP, 0, enable_cap, EINVAL, EEXIST, ENXIO, EBUSY),
	R(VM, KVM_X86_SET_MSR_FILTER, 0, msr_filter, EINVAL),
	R(VCPU, KVM_GET_REGS, 0, changed, 0),
	R(VCPU, KVM_SET_REGS, KVM_GET_REGS, changed, 0),
	R(VCPU, KVM_GET_SREGS, 0, changed, 0),
	R(VCPU, KVM_SET_SREGS, KVM_GET_SREGS, changed, EINVAL),
	R(VCPU, KVM_GET_SREGS2, 0, changed, 0),
	R(VCPU, KVM_SET_SREGS2, KVM_GET_SREGS2, changed, EINVAL),
	R(VCPU, KVM_GET_FPU, 0, changed, 0),
	R(VCPU, KVM_SET_FPU, KVM_GET_FPU, changed, 0),
	R(VCPU, KVM_GET_XSAVE, 0, changed, 0),
	R(VCPU, KVM_SET_XSAVE, KVM_GET_XSAVE, changed, EINVAL),
	R(VCPU, KVM_GET_XSAVE2, 0, changed, 0),
	R(VCPU, KVM_GET_XCRS, 0, changed, EINVAL),
	R(VCPU, KVM_SET_XCRS, KVM_GET_XCRS, changed, EINVAL),
	R(VCPU, KVM_GET_MSRS, 0, msrs, E2BIG),
	R(VCPU, KVM_SET_MSRS, 0, msrs, E2BIG),
	R(VCPU, KVM_SET_CPUID, 0, set_cpuid_old, E2BIG, EINVAL),
	R(VCPU, KVM_SET_CPUID2, 0, set_cpuid, E2BIG, EINVAL),
	R(VCPU, KVM_GET_CPUID2, 0, get_cpuid, E2BIG),
	R(VCPU, KVM_GET_LAPIC, 0, changed, EINVAL),
	R(VCPU, KVM_SET_LAPIC, KVM_GET_LAPIC, changed, EINVAL),
	R(VCPU, KVM_GET_MP_STATE, 0, changed, 0),
	R(VCPU, KVM_SET_MP_STATE, 0, mp_state, EINVAL),
	R(VCPU, KVM_GET_VCPU_EVENTS, 0, changed, 0),
	R(VCPU, KVM_SET_VCPU_EVENTS, KVM_GET_VCPU_EVENTS, changed, EINVAL),
	R(VCPU, KVM_GET_DEBUGREGS, 0, changed, 0),
	R(VCPU, KVM_SET_DEBUGREGS, KVM_GET_DEBUGREGS, changed, EINVAL),
	R(VCPU, KVM_SET_GUEST_DEBUG, 0, guest_debug, EINVAL, EBUSY),
	R(VCPU, KVM_DEBUG_GUEST, 0, debug_guest, EINVAL),
	R(VCPU, KVM_TRANSLATE, 0, changed, 0),
	R(VCPU, KVM_INTERRUPT, 0, interrupt, EINVAL, ENXIO, EEXIST),
	R(VCPU, KVM_NMI, 0, zero_value, 0),
	R(VCPU, KVM_SMI, 0, zero_value, ENOTTY),
	R(VCPU, KVM_SET_SIGNAL_MASK, 0, signal_mask, EINVAL),
	R(VCPU, KVM_TPR_ACCESS_REPORTING, 0, changed, EINVAL),
	R(VCPU, KVM_SET_VAPIC_ADDR, 0, vapic, EINVAL),
	R(VCPU, KVM_X86_SETUP_MCE, 0, changed, EINVAL),
	R(VCPU, KVM_X86_SET_MCE, 0, changed, EINVAL),
	R(VCPU, KVM_GET_TSC_KHZ, 0, zero_value, EIO),
	R(VCPU, KVM_SET_TSC_KHZ, 0, tsc_khz, EINVAL),
	R(VCPU, KVM_KVMCLOCK_CTRL, 0, zero_value, EINVAL),
	R(VCPU, KVM_ENABLE_CAP, 0, enable_cap, EINVAL),
	R(VCPU, KVM_PRE_FAULT_MEMORY, 0, pre_fault, EINVAL, ENOENT, EAGAIN, EOPNOTSUPP),
	R(VCPU, KVM_GET_DEVICE_ATTR, 0, attr, ENXIO),
	R(VCPU, KVM_SET_DEVICE_ATTR, 0, attr, ENXIO),
	R(VCPU, KVM_HAS_DEVICE_ATTR, 0, attr, ENXIO),
	R(VCPU, KVM_GET_NESTED_STATE, 0, nested, E2BIG, EINVAL),
	R(VCPU, KVM_SET_NESTED_STATE, 0, nested, E2BIG, EINVAL),
	R(DEVICE, KVM_SET_DEVICE_ATTR, 0, attr, ENXIO, EPERM, EINVAL, EBADF, EEXIST, ENOENT, ENODEV, ENOTTY),
	R(DEVICE, KVM_GET_DEVICE_ATTR, 0, attr, ENXIO, EPERM, EINVAL),
	R(DEVICE, KVM_HAS_DEVICE_ATTR, 0, attr, ENXIO, EPERM),
	/* these make descriptors: calls.c keeps them */
	R(SYSTEM, KVM_CREATE_VM, 0, zero_value, EINVAL),
	R(VM, KVM_CREATE_VCPU, 0, vcpu_id, EINVAL, EEXIST),
	R(VM, KVM_CREATE_DEVICE, 0, device, ENODEV, EBUSY),
	R(VM, KVM_GET_STATS_FD, 0, zero_value, 0),
	R(VCPU, KVM_GET_STATS_FD, 0, zero_value, 0),
	/* whatever the caller likes: the device types have none */
	R(DEVICE, KVM_GET_REGS, 0, changed, ENOTTY),
};
#define N_REQUESTS (sizeof(requests) / sizeof(requests[0]))

const struct request *request_at(unsigned n)
{
	return n < N_REQUESTS ? &requests[n] : NULL;
}

static void known(enum kind kind, u32 number, const char *name)
{
	for (unsigned i = 0; i < N_REQUESTS; i++)
		if (requests[i].kind == kind && requests[i].number == number)
			return;
	fuzz_fail("%s is in src/api/table.h and not in tests/fuzz/requests.c", name);
}

static __attribute__((constructor)) void check_table(void)
{
#define X(request, kind, fn) known(K_SYSTEM, (u32)request, #request);
#define API_SYSTEM
#include "api/table.h"
#undef API_SYSTEM
#undef X
#define X(request, kind, fn) known(K_VM, (u32)request, #request);
#define API_VM
#include "api/table.h"
#undef API_VM
#undef X
#define X(request, kind, fn) known(K_VCPU, (u32)request, #request);
#define API_VCPU
#include "api/table.h"
#undef API_VCPU
#undef X
	_Static_assert(REQUESTS_AT + N_REQUESTS <= 192, "steps 192.. are others (calls.c)");
}
