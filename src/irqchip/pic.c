/* SPDX-License-Identifier: MIT */
/*
 * The two cascaded 8259A interrupt controllers (Intel 8259A data sheet) with the edge/level registers at 4d0/4d1.
 *
 * The state of each is struct kvm_pic_state, so that KVM_GET_IRQCHIP and KVM_SET_IRQCHIP are copies. `output` is INTR towards the CPU; it
 * is recomputed after every change, and a rise kicks the first vCPU whose LAPIC lets it through. vCPUs read it without the lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "irqchip/chips.h"

#define PIC_CASCADE 2

struct pic {
	struct io_dev dev;
	struct irqchip *chip;
	struct kvm_pic_state s[2]; /* master, slave */
	u32 lines[16];             /* sources that hold each line up */
	u32 output;                /* atomic */
};

/* Latch a level on one input: 1 new request, 0 it was already requested, -1 masked. */
static int half_set_irq(struct kvm_pic_state *s, unsigned irq, bool level)
{
	u8 mask = (u8)(1u << irq);
	int ret = 1;

	if (level && ((s->elcr & mask) || !(s->last_irr & mask))) {
		ret = !(s->irr & mask);
		s->irr |= mask;
	}
	if (!level && (s->elcr & mask))
		s->irr &= ~mask;
	if (level)
		s->last_irr |= mask;
	else
		s->last_irr &= ~mask;
	return (s->imr & mask) ? -1 : ret;
}

/* Distance of the highest-priority bit from the top priority; 8 if there is none. */
static unsigned half_priority(const struct kvm_pic_state *s, u8 bits)
{
	unsigned p = 0;

	while (p < 8 && !(bits & (1u << ((p + s->priority_add) & 7))))
		p++;
	return p;
}

/* The request that the CPU should see, or -1. */
static int half_get_irq(const struct pic *pic, const struct kvm_pic_state *s)
{
	unsigned request = half_priority(s, s->irr & ~s->imr);
	u8 service = s->isr;

	if (request == 8)
		return -1;
	if (s->special_mask)
		service &= ~s->imr;
	/* In special fully nested mode the slave's requests are told apart by the slave. */
	if (s->special_fully_nested_mode && s == &pic->s[0])
		service &= ~(1u << PIC_CASCADE);
	return request < half_priority(s, service) ? (int)((request + s->priority_add) & 7) : -1;
}

static void pic_kick(struct irqchip *c)
{
	u32 n = load_acquire(&c->nlapics);

	for (u32 i = 0; i < n; i++) {
		struct lapic *l = irqchip_lapic(c, i);

		if (l && lapic_accepts_pic(l)) {
			c->ops->kick(l);
			return;
		}
	}
}

static void pic_update(struct pic *pic)
{
	bool out;

	if (half_get_irq(pic, &pic->s[1]) >= 0) {
		half_set_irq(&pic->s[0], PIC_CASCADE, true);
		half_set_irq(&pic->s[0], PIC_CASCADE, false);
	}
	out = half_get_irq(pic, &pic->s[0]) >= 0;
	if (out == load_relaxed(&pic->output))
		return;
	__atomic_store_n(&pic->output, out, __ATOMIC_SEQ_CST);
	if (out)
		pic_kick(pic->chip);
}

static void half_clear_isr(struct pic *pic, struct kvm_pic_state *s, unsigned irq)
{
	unsigned half = s == &pic->s[1];

	s->isr &= ~(1u << irq);
	irq_notify_ack_locked(pic->chip, half, irq + half * 8);
}

static void half_intack(struct pic *pic, struct kvm_pic_state *s, unsigned irq)
{
	s->isr |= 1u << irq;
	if (!(s->elcr & (1u << irq)))
		s->irr &= ~(1u << irq);
	if (s->auto_eoi) {
		if (s->rotate_on_auto_eoi)
			s->priority_add = (irq + 1) & 7;
		half_clear_isr(pic, s, irq);
	}
}

bool pic_intr(struct irqchip *c)
{
	return c->pic && load_relaxed(&c->pic->output);
}

int pic_inta(struct irqchip *c)
{
	struct pic *pic = c->pic;
	struct kvm_pic_state *m, *s;
	int irq, vector;

	if (!pic)
		return 0;
	m = &pic->s[0];
	s = &pic->s[1];
	mutex_lock(&c->lock);
	store_relaxed(&pic->output, 0);
	irq = half_get_irq(pic, m);
	if (irq < 0) {
		vector = m->irq_base + 7; /* spurious: nothing goes in service */
	} else if (irq == PIC_CASCADE) {
		half_intack(pic, m, PIC_CASCADE);
		irq = half_get_irq(pic, s);
		if (irq >= 0)
			half_intack(pic, s, (unsigned)irq);
		vector = s->irq_base + (irq >= 0 ? irq : 7);
	} else {
		half_intack(pic, m, (unsigned)irq);
		vector = m->irq_base + irq;
	}
	pic_update(pic);
	irqchip_unlock(c);
	return vector & 0xff;
}

int pic_set_pin_locked(struct irqchip *c, unsigned pin, enum irq_source src, int level)
{
	struct pic *pic = c->pic;
	int ret;

	if (!pic || pin >= 16)
		return -1;
	ret = half_set_irq(&pic->s[pin >> 3], pin & 7, irq_line_state(&pic->lines[pin], src, level));
	pic_update(pic);
	return ret;
}

/* ---- commands ---- */

/* ICW1 starts the initialisation: edge latches, mask and service registers are cleared. */
static void half_init(struct pic *pic, struct kvm_pic_state *s, u8 icw1)
{
	unsigned half = s == &pic->s[1];
	u8 dropped = (s->irr & ~s->elcr) | s->isr;

	s->init4 = icw1 & 1;
	s->last_irr = 0;
	s->irr &= s->elcr;
	s->imr = 0;
	s->isr = 0;
	s->priority_add = 0;
	s->special_mask = 0;
	s->read_reg_select = 0;
	s->poll = 0;
	if (!s->init4) {
		s->special_fully_nested_mode = 0;
		s->auto_eoi = 0;
	}
	s->init_state = 1;
	for (unsigned i = 0; i < 8; i++)
		if (dropped & (1u << i))
			irq_notify_ack_locked(pic->chip, half, i + half * 8);
	pic_update(pic);
}

static void half_ocw2(struct pic *pic, struct kvm_pic_state *s, u8 val)
{
	unsigned cmd = val >> 5, irq = val & 7, p;
	u8 service = s->isr;

	switch (cmd) {
	case 0: /* rotate in automatic EOI mode: clear, set */
	case 4: s->rotate_on_auto_eoi = cmd >> 2; return;
	case 1: /* non-specific EOI, with rotation */
	case 5:
		if (s->special_mask)
			service &= ~s->imr;
		p = half_priority(s, service);
		if (p == 8)
			return;
		irq = (p + s->priority_add) & 7;
		break;
	case 3: /* specific EOI, with rotation */
	case 7: break;
	case 6: /* set priority */
		s->priority_add = (irq + 1) & 7;
		pic_update(pic);
		return;
	default: return;
	}
	if (cmd & 4)
		s->priority_add = (irq + 1) & 7;
	half_clear_isr(pic, s, irq);
	pic_update(pic);
}

static void half_command(struct pic *pic, struct kvm_pic_state *s, u8 val)
{
	if (val & 0x10) {
		half_init(pic, s, val);
	} else if (val & 0x08) { /* OCW3 */
		if (val & 0x04)
			s->poll = 1;
		if (val & 0x02)
			s->read_reg_select = val & 1;
		if (val & 0x40) {
			s->special_mask = (val >> 5) & 1;
			pic_update(pic);
		}
	} else {
		half_ocw2(pic, s, val);
	}
}

static void half_data(struct pic *pic, struct kvm_pic_state *s, u8 val)
{
	unsigned half = s == &pic->s[1];
	u8 diff;

	switch (s->init_state) {
	case 0: /* OCW1 */
		diff = s->imr ^ val;
		s->imr = val;
		for (unsigned i = 0; i < 8; i++)
			if (diff & (1u << i))
				irq_notify_mask_locked(pic->chip, half, i + half * 8, val & (1u << i));
		pic_update(pic);
		break;
	case 1: /* ICW2 */
		s->irq_base = val & 0xf8;
		s->init_state = 2;
		break;
	case 2: /* ICW3: the cascade is wired as in a PC */
		s->init_state = s->init4 ? 3 : 0;
		break;
	default: /* ICW4 */
		s->special_fully_nested_mode = (val >> 4) & 1;
		s->auto_eoi = (val >> 1) & 1;
		s->init_state = 0;
	}
}

/* A read in poll mode is an interrupt acknowledge. */
static u8 half_poll(struct pic *pic, struct kvm_pic_state *s)
{
	int irq = half_get_irq(pic, s);

	s->poll = 0;
	if (irq >= 0)
		half_intack(pic, s, (unsigned)irq);
	pic_update(pic);
	return irq >= 0 ? 0x80 | (u8)irq : 0x07;
}

/* ---- ports ---- */

static int pic_read(struct io_dev *d, void *vcpu, u64 addr, unsigned len, void *data)
{
	struct pic *pic = container_of(d, struct pic, dev);
	struct kvm_pic_state *s = &pic->s[addr >= 0x4d0 ? addr & 1 : addr >> 7];
	u8 val;

	if (len != 1) {
		memset(data, 0, len);
		return 0;
	}
	mutex_lock(&pic->chip->lock);
	if (addr >= 0x4d0)
		val = s->elcr;
	else if (s->poll)
		val = half_poll(pic, s);
	else if (addr & 1)
		val = s->imr;
	else
		val = s->read_reg_select ? s->isr : s->irr;
	irqchip_unlock(pic->chip);
	*(u8 *)data = val;
	return 0;
}

static int pic_write(struct io_dev *d, void *vcpu, u64 addr, unsigned len, const void *data)
{
	struct pic *pic = container_of(d, struct pic, dev);
	struct kvm_pic_state *s = &pic->s[addr >= 0x4d0 ? addr & 1 : addr >> 7];
	u8 val = *(const u8 *)data;

	if (len != 1)
		return 0;
	mutex_lock(&pic->chip->lock);
	if (addr >= 0x4d0)
		s->elcr = val & s->elcr_mask;
	else if (addr & 1)
		half_data(pic, s, val);
	else
		half_command(pic, s, val);
	irqchip_unlock(pic->chip);
	return 0;
}

static const struct io_dev_ops pic_ops = { pic_read, pic_write };

/* ---- state ---- */

void pic_get_locked(struct irqchip *c, unsigned which, struct kvm_pic_state *s)
{
	*s = c->pic->s[which];
}

void pic_set_locked(struct irqchip *c, unsigned which, const struct kvm_pic_state *s)
{
	struct kvm_pic_state *p = &c->pic->s[which];

	*p = *s;
	p->priority_add &= 7;
	pic_update(c->pic);
}

int pic_create(struct irqchip *c)
{
	static const u16 ports[] = { 0x20, 0xa0, 0x4d0 };
	struct pic *pic = calloc(1, sizeof(*pic));
	int r = 0;

	if (!pic)
		return -ENOMEM;
	pic->dev.ops = &pic_ops;
	pic->chip = c;
	pic->s[0].elcr_mask = 0xf8;
	pic->s[1].elcr_mask = 0xde;
	c->pic = pic;
	for (unsigned i = 0; i < ARRAY_SIZE(ports) && !r; i++)
		r = iobus_add_dev(c->bus, IO_PIO, ports[i], 2, &pic->dev);
	if (r)
		pic_destroy(c);
	return r;
}

void pic_destroy(struct irqchip *c)
{
	struct pic *pic = c->pic;

	if (!pic)
		return;
	iobus_del_dev(c->bus, IO_PIO, &pic->dev);
	c->pic = NULL;
	free(pic);
}
