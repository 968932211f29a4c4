/* SPDX-License-Identifier: MIT */
/*
 * Runs a bare guest program (tests/guest/lib/guest.h) through the KVM API: the image at 1 MiB, 32-bit flat protected mode, a full
 * in-kernel irqchip and PIT. The program's lines come on port 0x3f8, its exit code on port 0xf4. Wrong: a FAIL line, another exit
 * code than 0, no PASS line at all, any other exit.
 */
#include "../harness/kvmtest.h"

#define RAM (16u << 20)
#define LOAD 0x100000u

static char line[512];
static unsigned line_len, passes, fails;

static void text(u8 b)
{
	if (b != '\n' && line_len < sizeof(line) - 1) {
		line[line_len++] = (char)b;
		return;
	}
	line[line_len] = 0;
	line_len = 0;
	puts(line);
	passes += !strncmp(line, "PASS ", 5);
	fails += !strncmp(line, "FAIL ", 5);
}

static void flat(struct kvm_segment *s, u16 sel, u8 type)
{
	*s = (struct kvm_segment){ .limit = ~0u, .selector = sel, .type = type, .present = 1, .s = 1, .db = 1, .g = 1 };
}

/* As PC firmware and VMMs have it: the PIT's IRQ 0 is also pin 2 of the IOAPIC. */
static void route(int vm)
{
	static struct { struct kvm_irq_routing head; struct kvm_irq_routing_entry e[64]; } t;

	for (u32 gsi = 0; gsi < 24; gsi++) {
		if (gsi < 16 && gsi != 2)
			t.e[t.head.nr++] = (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = { gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi & 7 } };
		if (gsi != 2)
			t.e[t.head.nr++] = (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = { KVM_IRQCHIP_IOAPIC, gsi ? gsi : 2 } };
	}
	REQUIRE(!ioctl(vm, KVM_SET_GSI_ROUTING, &t));
}

static void start_state(int vcpu)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rflags = 2 };

	REQUIRE(!ioctl(vcpu, KVM_GET_SREGS, &s));
	flat(&s.cs, 0x10, 0xb);
	flat(&s.ds, 0x18, 3);
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.cr0 = 0x11;
	REQUIRE(!ioctl(vcpu, KVM_SET_SREGS, &s));
	r.rip = LOAD;
	r.rsp = 0x9000;
	REQUIRE(!ioctl(vcpu, KVM_SET_REGS, &r));
}

int main(int argc, char **argv)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[128]; } cpuid;
	struct kvm_pit_config pit = { 0 };
	int sys = kt_open(), vm, vcpu, size;
	u8 *mem = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (argc < 2) {
		fprintf(stderr, "usage: %s IMAGE [intel]\n", argv[0]);
		return 2;
	}
	FILE *f = fopen(argv[1], "rb");
	REQUIRE(f && mem != MAP_FAILED);
	REQUIRE(fread(mem + LOAD, 1, RAM - LOAD, f) > 64);
	REQUIRE((vm = ioctl(sys, KVM_CREATE_VM, 0)) >= 0);
	REQUIRE(!ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000));
	REQUIRE(!ioctl(vm, KVM_CREATE_IRQCHIP, 0));
	REQUIRE(!ioctl(vm, KVM_CREATE_PIT2, &pit));
	route(vm);
	REQUIRE(!kt_slot(vm, 0, 0, 0, RAM, mem));
	REQUIRE((vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) >= 0);
	cpuid.head.nent = 128;
	REQUIRE(!ioctl(sys, KVM_GET_SUPPORTED_CPUID, &cpuid));
	for (u32 n = 0; n < cpuid.head.nent; n++) {
		if (argc > 2 && !cpuid.e[n].function) { /* "GenuineIntel": SYSENTER in long mode */
			cpuid.e[n].ebx = 0x756e6547;
			cpuid.e[n].edx = 0x49656e69;
			cpuid.e[n].ecx = 0x6c65746e;
		}
		if (cpuid.e[n].function == 1) {
			cpuid.e[n].ecx |= 1u << 24; /* TSC deadline: for the VMM to add */
			cpuid.e[n].ebx &= 0xffffff;
		}
	}
	REQUIRE(!ioctl(vcpu, KVM_SET_CPUID2, &cpuid));
	size = ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	REQUIRE(run != MAP_FAILED);
	start_state(vcpu);
	for (;;) {
		REQUIRE(!ioctl(vcpu, KVM_RUN, 0));
		u8 *data = (u8 *)run + run->io.data_offset;

		if (run->exit_reason == KVM_EXIT_MMIO) { /* nothing there */
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, 8);
			continue;
		}
		if (run->exit_reason != KVM_EXIT_IO) {
			struct kvm_regs r;

			ioctl(vcpu, KVM_GET_REGS, &r);
			printf("exit reason %u at rip 0x%llx after %u passed\n", run->exit_reason, r.rip, passes);
			return 1;
		}
		if (run->io.direction == KVM_EXIT_IO_IN) {
			memset(data, 0xff, (size_t)run->io.size * run->io.count);
			continue;
		}
		if (run->io.port == 0xf4) {
			printf("%u passed, %u failed, exit code %u\n", passes, fails, data[0]);
			return fails || !passes || data[0];
		}
		if (run->io.port == 0x3f8)
			for (u32 n = 0; n < run->io.size * run->io.count; n++)
				text(data[n]);
	}
}
