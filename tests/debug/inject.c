/* SPDX-License-Identifier: MIT */
/*
 * No memory, no descriptor, no thread: at each step of each call that makes something (walk.h), and at each step of the first calls in a process,
 * which set up what stays for its life. At the end no object is left (USEKVM_LEAK_CHECK).
 */
#include "walk.h"

#include "usekvm/device.h"
#include "usekvm/stats.h"

#define CLEAN 10  /* the child: nothing failed, N is beyond the last step */
#define FAILED 11 /* one step failed, and the call with it */
#define SPARE 12  /* one step failed, which the call can do without */
#define TYPE_MINE USEKVM_DEV_TYPE_USER
#define RAM (4ul << 20)

static int sys_fd = -1, vm = -1, vcpu = -1, event[3] = {-1, -1, -1}, made = -1;
static void *ram, *map = MAP_FAILED;

/* ---- what a call needs ---- */

static void have_vm(void)
{
	vm = ioctl(sys_fd, KVM_CREATE_VM, 0ul);
	REQUIRE(vm >= 0);
}

static void have_chip(void)
{
	have_vm();
	REQUIRE(ioctl(vm, KVM_CREATE_IRQCHIP, 0ul) == 0);
}

static void have_vcpu(void)
{
	have_chip();
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
	REQUIRE(vcpu >= 0);
}

static void have_two(void)
{
	have_vcpu();
	made = ioctl(vm, KVM_CREATE_VCPU, 1ul);
	REQUIRE(made >= 0);
}

/* The list of irqfds and the service's table stay once they are made. */
static void have_events(void)
{
	struct kvm_irqfd q = {.gsi = 9};

	have_chip();
	for (int i = 0; i < 3; i++) {
		event[i] = eventfd(0, EFD_CLOEXEC);
		REQUIRE(event[i] >= 0);
	}
	q.fd = (u32)event[2];
	REQUIRE(ioctl(vm, KVM_IRQFD, &q) == 0);
}

static void gone(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void end(void)
{
	if (map != MAP_FAILED)
		munmap(map, (size_t)ioctl(sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0ul));
	map = MAP_FAILED;
	gone(&made);
	gone(&vcpu);
	gone(&vm);
	for (int i = 0; i < 3; i++)
		gone(&event[i]);
}

/* ---- calls ---- */

static int keep(int fd)
{
	if (fd >= 0)
		made = fd;
	return fd;
}

static int open_system(void)
{
	return keep(open("/dev/kvm", O_RDWR | O_CLOEXEC));
}

static int create_vm(void)
{
	return keep(ioctl(sys_fd, KVM_CREATE_VM, 0ul));
}

static int create_vcpu(void)
{
	return keep(ioctl(vm, KVM_CREATE_VCPU, 0ul));
}

static int create_second(void)
{
	return keep(ioctl(vm, KVM_CREATE_VCPU, 1ul));
}

static int create_device(u32 type)
{
	struct kvm_create_device cd = {.type = type};

	return ioctl(vm, KVM_CREATE_DEVICE, &cd) ? -1 : keep((int)cd.fd);
}

static int create_vfio(void)
{
	return create_device(KVM_DEV_TYPE_VFIO);
}

static int create_stats(void)
{
	return create_device(USEKVM_DEV_TYPE_STATS);
}

/* A program's own type: destroyed whenever its create has succeeded. */
static volatile int mine; /* the compiler believes that ioctl() calls nothing here */

static int mine_create(struct usekvm_device *dev, uint32_t type)
{
	mine++;
	return 0;
}

static void mine_destroy(struct usekvm_device *dev)
{
	mine--;
}

/* The type has one, so that a device ends with its descriptor. */
static void mine_release(struct usekvm_device *dev)
{
}

static int create_mine(void)
{
	int before = mine, r = create_device(TYPE_MINE);

	CHECK_EQ(mine, before + (r >= 0));
	return r;
}

static int vm_stats(void)
{
	return keep(ioctl(vm, KVM_GET_STATS_FD, 0ul));
}

static int vcpu_stats(void)
{
	return keep(ioctl(vcpu, KVM_GET_STATS_FD, 0ul));
}

/* The second vCPU's: its ring is the first one's. */
static int map_vcpu(void)
{
	map = mmap(NULL, (size_t)ioctl(sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0ul), PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
	return map == MAP_FAILED ? -1 : 0;
}

static int create_irqchip(void)
{
	return ioctl(vm, KVM_CREATE_IRQCHIP, 0ul);
}

static int split_irqchip(void)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

	return ioctl(vm, KVM_ENABLE_CAP, &cap);
}

static int create_pit(void)
{
	struct kvm_pit_config cfg = {0};

	return ioctl(vm, KVM_CREATE_PIT2, &cfg);
}

static int memory_slot(void)
{
	struct kvm_userspace_memory_region r = {.flags = KVM_MEM_LOG_DIRTY_PAGES, .memory_size = RAM, .userspace_addr = (u64)ram};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static int old_memory_slot(void)
{
	struct kvm_memory_region r = {.memory_size = RAM};

	return ioctl(vm, KVM_SET_MEMORY_REGION, &r);
}

static int set_irqfd(void)
{
	struct kvm_irqfd q = {.fd = (u32)event[0], .gsi = 10, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = (u32)event[1]};

	return ioctl(vm, KVM_IRQFD, &q);
}

static int set_ioeventfd(void)
{
	struct kvm_ioeventfd e = {.addr = 0xd0000000, .len = 4, .fd = event[0]};

	return ioctl(vm, KVM_IOEVENTFD, &e);
}

static int set_routing(void)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[1];
	} r = {.head.nr = 1, .e[0] = {.gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {KVM_IRQCHIP_IOAPIC, 5}}};

	return ioctl(vm, KVM_SET_GSI_ROUTING, &r);
}

static int set_cpuid(void)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 e[256];
	} id;

	id.head.nent = 256;
	return ioctl(sys_fd, KVM_GET_SUPPORTED_CPUID, &id) ? -1 : ioctl(vcpu, KVM_SET_CPUID2, &id);
}

static int set_msr_filter(void)
{
	u8 bits[8] = {0};
	struct kvm_msr_filter f = {.ranges[0] = {.flags = KVM_MSR_FILTER_READ, .nmsrs = 64, .base = 0x10, .bitmap = bits}};

	return ioctl(vm, KVM_X86_SET_MSR_FILTER, &f);
}

/* The spare ones: the tables of code pages can do with a smaller reserve; kcmp() tells eventfds apart where fdinfo cannot be opened. */
static const struct walk all[] = {
	{"open", NULL, open_system, end, 2, 0},
	{"KVM_CREATE_VM", NULL, create_vm, end, 15, 1},
	{"KVM_CREATE_VCPU", have_vm, create_vcpu, end, 8, 0},
	{"KVM_CREATE_VCPU with a LAPIC", have_chip, create_vcpu, end, 8, 0},
	{"the second KVM_CREATE_VCPU", have_vcpu, create_second, end, 8, 0},
	{"mmap of a vCPU", have_two, map_vcpu, end, 1, 0},
	{"KVM_CREATE_DEVICE, VFIO", have_vm, create_vfio, end, 3, 0},
	{"KVM_CREATE_DEVICE, statistics", have_vm, create_stats, end, 2, 0},
	{"KVM_CREATE_DEVICE, a program's type", have_vm, create_mine, end, 2, 0},
	{"KVM_GET_STATS_FD of a VM", have_vm, vm_stats, end, 4, 0},
	{"KVM_GET_STATS_FD of a vCPU", have_vcpu, vcpu_stats, end, 4, 0},
	{"KVM_CREATE_IRQCHIP", have_vm, create_irqchip, end, 3, 0},
	{"KVM_CAP_SPLIT_IRQCHIP", have_vm, split_irqchip, end, 1, 0},
	{"KVM_CREATE_PIT2", have_chip, create_pit, end, 1, 0},
	{"KVM_SET_USER_MEMORY_REGION", have_vm, memory_slot, end, 2, 0},
	{"KVM_SET_MEMORY_REGION", have_vm, old_memory_slot, end, 3, 0},
	{"KVM_IRQFD", have_events, set_irqfd, end, 4, 2},
	{"KVM_IOEVENTFD", have_events, set_ioeventfd, end, 2, 0},
	{"KVM_SET_GSI_ROUTING", have_chip, set_routing, end, 1, 0},
	{"KVM_SET_CPUID2", have_vcpu, set_cpuid, end, 2, 0},
	{"KVM_X86_SET_MSR_FILTER", have_vm, set_msr_filter, end, 2, 0},
};

/* ---- the first calls in a process ---- */

static int failures;

static int again(int (*call)(void))
{
	int r = call(), failed;

	if (r >= 0)
		return r;
	failed = inject(0);
	failures++;
	if (errno != failed)
		printf("fails with %d (%s), want %d (%s)\n", errno, strerror(errno), failed, strerror(failed)), exit(1);
	r = call();
	if (r < 0)
		printf("fails again, with %d (%s)\n", errno, strerror(errno)), exit(1);
	return r;
}

static int child(unsigned n)
{
	int before, spare;

	alarm(40);
	walk_init();
	before = census().fds;
	inject(n);
	sys_fd = again(open_system);
	made = -1;
	vm = again(create_vm);
	made = -1;
	vcpu = again(create_vcpu);
	made = -1;
	again(create_vfio);
	spare = inject(0) != 0;
	end();
	gone(&sys_fd);
	if (census().fds != before)
		printf("descriptors are left\n"), exit(1);
	return failures + spare > 1 ? 1 : failures ? FAILED : spare ? SPARE : CLEAN;
}

/* Each in a process of its own, which USEKVM_LEAK_CHECK lets end well only if nothing is left. */
static void first_calls(const char *self)
{
	int n, spare = 0, status;

	for (n = 1; n < 200; n++) {
		char num[16];
		pid_t pid;

		snprintf(num, sizeof(num), "%d", n);
		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			setenv("USEKVM_LEAK_CHECK", "1", 1);
			execl("/proc/self/exe", self, num, (char *)NULL);
			_exit(99);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == CLEAN)
			break;
		if (WIFEXITED(status) && WEXITSTATUS(status) == SPARE) {
			spare++;
		} else if (!WIFEXITED(status) || WEXITSTATUS(status) != FAILED) {
			printf("first calls, step %d: status %#x%s\n", n, status, WIFEXITED(status) && WEXITSTATUS(status) == 86 ? " (a leak)" : "");
			kt_failures++;
		}
	}
	printf("first calls: %d steps\n", n - 1);
	CHECK(n > 30 && n < 200);
	CHECK_EQ(spare, 2); /* beside the one of KVM_CREATE_VM: the thread's record of what it looks at (vfile/vfile.c) */
}

/* "leak": an interface that is not given back, which USEKVM_LEAK_CHECK has to find (leaks.sh). */
static int leave_one(void)
{
	struct kvm_xinterface *(*bind)(int fd);

	*(void **)&bind = dlsym(RTLD_DEFAULT, "kvm_xinterface_bind");
	sys_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	have_vm();
	REQUIRE(bind && bind(vm));
	return 0;
}

int main(int argc, char **argv)
{
	static const struct usekvm_device_ops ops = {.name = "mine", .create = mine_create, .destroy = mine_destroy, .release = mine_release};
	int (*add)(uint32_t, const struct usekvm_device_ops *);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && !strcmp(argv[1], "leak"))
		return leave_one();
	if (argc > 1)
		return child((unsigned)atoi(argv[1]));
	walk_init();
	first_calls(argv[0]);
	alarm(60);
	*(void **)&add = dlsym(RTLD_DEFAULT, "usekvm_device_register");
	REQUIRE(add && add(TYPE_MINE, &ops) == 0);
	ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(ram != MAP_FAILED);
	sys_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	REQUIRE(sys_fd >= 0);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		walk(&all[i]);
	close(sys_fd);
	return kt_end();
}
