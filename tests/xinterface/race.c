/* SPDX-License-Identifier: MIT */
/*
 * Everything at once, for some seconds: two vCPUs ring doorbells, threads bind and put, map and unmap, copy, assign and deassign, while the VMM
 * deletes and makes slots and in the end closes the VM under them. Nothing may crash, hang, or be signalled after its deassign.
 */
#include "kvmtest.h"
#include "usekvm/xinterface.h"

#define BAR 0x40000000ull
#define SLOT 0x60000000ull
#define DOORS 16
#define SECONDS 3

/* Rings all doorbells again and again; what nobody takes goes to the VMM. */
GUEST64(prog, "1: mov $0x40000000, %ebx\n mov $16, %ecx\n 2: mov %ecx, (%rbx)\n add $64, %ebx\n dec %ecx\n jnz 2b\n incq 0x60000000\n jmp 1b\n");

static int stop, vm_fd = -1;
static u64 signals, stale_reads, binds;
static u8 *ram;

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_SEQ_CST);
}

static void nothing(int sig)
{
}

static void *run(void *arg)
{
	int vcpu = *(int *)arg;

	while (!stopped())
		if (ioctl(vcpu, KVM_RUN, 0ul) < 0 && errno != EINTR && errno != EFAULT && errno != EAGAIN) {
			printf("KVM_RUN: %s\n", strerror(errno));
			kt_failures++;
			break;
		}
	return NULL;
}

struct door {
	u32 alive; /* set and cleared by its owner, around the event's life */
	bool suicide;
	u32 ended; /* 1: somebody ends it; 2: its own signal has */
};

/* Once for each door, by its owner or by its own signal. */
static bool may_end(struct door *d)
{
	u32 none = 0;

	return __atomic_compare_exchange_n(&d->ended, &none, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void on_door(struct kvm_xioevent *e, const void *val)
{
	struct door *d = e->priv;

	__atomic_fetch_add(&signals, 1, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&d->alive, __ATOMIC_SEQ_CST)) {
		printf("signal after deassign\n");
		kt_failures++;
	}
	if (d->suicide && may_end(d)) {
		kvm_xioevent_deassign(e);
		__atomic_store_n(&d->ended, 2, __ATOMIC_SEQ_CST);
	}
}

static void *doors(void *arg)
{
	u64 first = (u64)arg;
	struct kvm_xinterface *x = kvm_xinterface_bind(vm_fd);
	struct door d[DOORS / 2];

	REQUIRE(x);
	for (u64 round = 0; !stopped(); round++) {
		struct kvm_xioevent *e[DOORS / 2];

		for (u64 i = 0; i < DOORS / 2; i++) {
			d[i] = (struct door){.alive = 1, .suicide = i == round % 8};
			e[i] = kvm_xinterface_ioevent(x, BAR + 64 * (first + i), 4, 0);
			REQUIRE(e[i]);
			kvm_xioevent_arm(e[i], on_door, &d[i]);
		}
		if (round % 4 == 0)
			kt_sleep_ms(1);
		for (u64 i = 0; i < DOORS / 2; i++) {
			if (!d[i].suicide) {
				kvm_xioevent_deassign(e[i]);
				__atomic_store_n(&d[i].alive, 0, __ATOMIC_SEQ_CST);
			} else if (may_end(&d[i])) {
				kvm_xioevent_deassign(e[i]);
			} else {
				while (__atomic_load_n(&d[i].ended, __ATOMIC_SEQ_CST) != 2)
					kt_sleep_ms(1);
			}
		}
	}
	kvm_xinterface_put(x);
	return NULL;
}

static void *maps(void *arg)
{
	while (!stopped()) {
		struct kvm_xinterface *x = kvm_xinterface_bind(vm_fd);
		u8 buf[256];

		if (!x)
			continue;
		__atomic_fetch_add(&binds, 1, __ATOMIC_RELAXED);
		for (int i = 0; i < 20; i++) {
			struct kvm_xvmap *m = kvm_xinterface_vmap(x, SLOT, 0x2000);
			int s;

			kvm_xinterface_copy_to(x, SLOT + 0xff0, buf, sizeof(buf));
			kvm_xinterface_copy_from(x, buf, SLOT + 0x1ff0, sizeof(buf));
			if (!m)
				continue;
			s = kvm_xvmap_enter(m);
			if (s >= 0) {
				((volatile u8 *)m->addr)[0x1800]++;
				kvm_xvmap_dirty(m, 0x1800, 1);
				kvm_xvmap_leave(m, s);
			} else {
				__atomic_fetch_add(&stale_reads, 1, __ATOMIC_RELAXED);
			}
			kvm_xvmap_copy_to(m, 0x1f00, buf, 0x100);
			kvm_xvmap_copy_from(m, buf, 0, 0x100);
			kvm_xvmap_put(m);
		}
		kvm_xinterface_put(x);
	}
	return NULL;
}

/* The VMM: a slot with new memory, for a moment; unmapped at once when it is deleted. */
static void *slot_changes(void *arg)
{
	while (!stopped()) {
		u8 *p = kt_pages(0x4000);
		u64 bits[4];
		struct kvm_dirty_log log = {.slot = 3, .dirty_bitmap = bits};

		CHECK_OK(kt_slot(vm_fd, 3, KVM_MEM_LOG_DIRTY_PAGES, SLOT, 0x4000, p));
		kt_sleep_ms(1);
		CHECK_OK(ioctl(vm_fd, KVM_GET_DIRTY_LOG, &log));
		CHECK_OK(kt_slot(vm_fd, 3, 0, SLOT, 0, NULL));
		munmap(p, 0x4000);
	}
	return NULL;
}

/* Closing races with bind: a descriptor's number, again and again. */
static void *closes(void *arg)
{
	int *fd = arg;

	while (!stopped()) {
		struct kvm_xinterface *x = kvm_xinterface_bind(__atomic_load_n(fd, __ATOMIC_RELAXED));
		u64 val;

		if (!x)
			continue;
		kvm_xinterface_copy_from(x, &val, 0, 8);
		kvm_xinterface_put(x);
	}
	return NULL;
}

int main(void)
{
	int vcpu[2], short_fd = -1, sys;
	pthread_t t[8], r[2];
	struct kvm_run *run_page[2];
	struct vm v;

	signal(SIGUSR1, nothing);
	vm_open(&v);
	vm_vcpu(&v);
	kt_load(&v, prog);
	vm_fd = v.vm;
	sys = v.sys;
	ram = v.mem;
	vcpu[0] = v.vcpu;
	vcpu[1] = ioctl(v.vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(vcpu[1] >= 0);
	for (int i = 0; i < 2; i++) {
		run_page[i] = kt_map_run(&v, vcpu[i]);
		kt_long(&v, vcpu[i], KT_CODE);
		REQUIRE(pthread_create(&r[i], NULL, run, &vcpu[i]) == 0);
	}
	pthread_create(&t[0], NULL, doors, (void *)0ul);
	pthread_create(&t[1], NULL, doors, (void *)(u64)(DOORS / 2));
	pthread_create(&t[2], NULL, maps, NULL);
	pthread_create(&t[3], NULL, maps, NULL);
	pthread_create(&t[4], NULL, slot_changes, NULL);
	pthread_create(&t[5], NULL, closes, &short_fd);
	time_t end = time(NULL) + SECONDS;
	while (time(NULL) < end) {
		int fd = ioctl(sys, KVM_CREATE_VM, 0ul);

		REQUIRE(fd >= 0);
		__atomic_store_n(&short_fd, fd, __ATOMIC_RELAXED);
		kt_sleep_ms(2);
		close(fd);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 2; i++)
		run_page[i]->immediate_exit = 1;
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 2; i++) {
		pthread_kill(r[i], SIGUSR1);
		pthread_join(r[i], NULL);
	}
	printf("%llu signals, %llu binds, %llu times stale\n", (unsigned long long)signals, (unsigned long long)binds, (unsigned long long)stale_reads);
	CHECK(signals > 100 && binds > 10);
	return kt_end();
}
