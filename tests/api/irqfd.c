/* SPDX-License-Identifier: MIT */
/* irqfd: a write to the eventfd raises the GSI as an edge, also when it was written before; deassign; double use; bad arguments. */
#include "irqguest.h"

static int irqfd(struct vm *v, int fd, u32 gsi, u32 flags)
{
	struct kvm_irqfd a = {.fd = (u32)fd, .gsi = gsi, .flags = flags};

	return ioctl(v->vm, KVM_IRQFD, &a);
}

static void signal_event(int fd)
{
	u64 one = 1;

	REQUIRE(write(fd, &one, 8) == 8);
}

static void *later(void *arg)
{
	kt_sleep_ms(50);
	signal_event(*(int *)arg);
	return NULL;
}

int main(void)
{
	struct vm v;
	int e = eventfd(0, EFD_NONBLOCK), f = eventfd(0, 0), null = open("/dev/null", O_RDWR);
	pthread_t t;

	vm_open(&v);
	CHECK_OK(ioctl(v.vm, KVM_CREATE_IRQCHIP, 0ul));
	irq_guest(&v, false);
	CHECK_ERR(irqfd(&v, -1, 4, 0), EBADF);
	CHECK_ERR(irqfd(&v, null, 4, 0), EINVAL);
	CHECK_ERR(irqfd(&v, e, 4, 0x80), EINVAL);
	CHECK_OK(irqfd(&v, e, 4, 0));
	CHECK_ERR(irqfd(&v, e, 5, 0), EBUSY);
	signal_event(e);
	CHECK_IRQ(&v, 8 + 4);
	signal_event(e);
	CHECK_IRQ(&v, 8 + 4);
	pthread_create(&t, NULL, later, &e); /* while the vCPU sleeps */
	CHECK_IRQ(&v, 8 + 4);
	pthread_join(t, NULL);
	CHECK_QUIET(&v);
	/* The number may be closed: the eventfd stays connected through another descriptor. */
	{
		int other = dup(e);

		close(e);
		signal_event(other);
		CHECK_IRQ(&v, 8 + 4);
		CHECK_OK(irqfd(&v, other, 4, KVM_IRQFD_FLAG_DEASSIGN));
		signal_event(other);
		CHECK_QUIET(&v);
		CHECK_OK(irqfd(&v, other, 4, KVM_IRQFD_FLAG_DEASSIGN)); /* not there: fine */
	}
	signal_event(f);
	CHECK_OK(irqfd(&v, f, 6, 0)); /* was written before */
	CHECK_IRQ(&v, 8 + 6);
	return kt_end();
}
