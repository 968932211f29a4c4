/* SPDX-License-Identifier: MIT */
/*
 * One ioctl on its way: what a handler gets, and the table that names it.
 *
 * A handler works on `u`, which the dispatcher has filled from the caller's memory and copies back, by the direction and size in the request
 * number (arg kinds below). Handlers with A_USER copy themselves, with copy_from_user and copy_to_user; nothing else in the project reads
 * or writes the caller's memory.
 */
#ifndef USEKVM_API_CALL_H
#define USEKVM_API_CALL_H

#include "kvm/kvm.h"

enum arg_kind {
	A_VALUE, /* arg is a value, or unused */
	A_IOC,   /* a struct of the request's size, copied as its direction bits say */
	A_IN,    /* copied in only, whatever the direction bits say */
	A_USER,  /* the handler copies */
};

#define API_BUF 4096

struct api_call {
	struct kvm *kvm;
	struct kvm_vcpu *vcpu;
	unsigned long arg;
	union api_buf {
		u8 bytes[API_BUF] aligned(64);
		u64 u64;
		struct kvm_regs regs;
		struct kvm_sregs sregs;
		struct kvm_sregs2 sregs2;
		struct kvm_fpu fpu;
		struct kvm_xcrs xcrs;
		struct kvm_translation translation;
		struct kvm_interrupt interrupt;
		struct kvm_lapic_state lapic;
		struct kvm_mp_state mp;
		struct kvm_vcpu_events events;
		struct kvm_debugregs debugregs;
		struct kvm_nested_state nested;
		struct kvm_pre_fault_memory pre_fault;
		struct kvm_guest_debug guest_debug;
		struct kvm_debug_guest debug_guest;
		struct kvm_tpr_access_ctl tpr_ctl;
		struct kvm_vapic_addr vapic;
		struct kvm_x86_mce mce;
		struct kvm_enable_cap cap;
		struct kvm_msr_filter msr_filter;
		struct kvm_userspace_memory_region region;
		struct kvm_userspace_memory_region2 region2;
		struct kvm_memory_region old_region;
		struct kvm_dirty_log dirty;
		struct kvm_clear_dirty_log clear;
		struct kvm_irqchip irqchip;
		struct kvm_irq_level irq_level;
		struct kvm_msi msi;
		struct kvm_irqfd irqfd;
		struct kvm_ioeventfd ioeventfd;
		struct kvm_coalesced_mmio_zone zone;
		struct kvm_pit_config pit_config;
		struct kvm_pit_state2 pit2;
		struct kvm_pit_state pit;
		struct kvm_reinject_control reinject;
		struct kvm_clock_data clock;
		struct kvm_create_device device;
		struct kvm_device_attr attr;
	} *u;
};

struct api_entry {
	u32 request;
	enum arg_kind kind;
	const char *name;
	long (*fn)(struct api_call *call);
};

/* NULL: no such request on this kind of fd. */
const struct api_entry *api_find(enum vfile_kind kind, u32 request) hidden;

/* device_calls.c: what is asked of a device's descriptor */
long api_device_ioctl(struct vfile *vf, u32 request, unsigned long arg) hidden;
long api_device_mapped(struct vfile *vf, void *addr, u64 len, int prot, int flags, u64 offset) hidden;

/* caps.c */
long api_check_extension(u64 cap) hidden;

/* Handlers: name(struct api_call *), one for each line of the table. */
#define X(request, kind, fn) long fn(struct api_call *call) hidden;
#include "api/table.h"
#undef X

#endif
