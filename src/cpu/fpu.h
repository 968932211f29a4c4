/* SPDX-License-Identifier: MIT */
/*
 * The guest's x87 and vector state: where it is kept, how it gets into the host's registers and back, and its layouts for the VMM.
 *
 * c->xsave holds it in the host's standard XSAVE format whenever !c->fpu_live; then XSTATE_BV says which components are not in their
 * initial configuration. A component whose bit is clear counts as initial whatever its bytes are; MXCSR is always valid. Only bits of
 * c->fpu_mask (and PKRU) are ever set, so loading it cannot fault.
 *
 * The last x87 instruction's pointers are kept in c->x87_fip/fdp/fop while the state is live: the hardware's own would be addresses
 * of the host's stubs.
 */
#ifndef USEKVM_CPU_FPU_H
#define USEKVM_CPU_FPU_H

#include "cpu/cpu.h"

/* Bits of c->fpu_ok: which kinds of instructions may run as CR0, CR4, XCR0 and the mode are now. */
enum {
	FPU_OK_X87 = 1,   /* no EM, no TS */
	FPU_OK_WAIT = 2,  /* FWAIT: not both MP and TS */
	FPU_OK_MMX = 4,
	FPU_OK_SSE = 8,   /* and OSFXSR */
	FPU_OK_VEX = 16,  /* protected mode */
	FPU_OK_AVX = 32,
	FPU_OK_AVX512 = 64,
};

enum { XC_X87, XC_SSE, XC_AVX, XC_BNDREGS, XC_BNDCSR, XC_OPMASK, XC_ZMM_HI, XC_HI16_ZMM, XC_PT, XC_PKRU, XC_COUNT = 19 };
#define XFEATURES_AVX512 (BIT(XC_OPMASK) | BIT(XC_ZMM_HI) | BIT(XC_HI16_ZMM))
#define XSAVE_HDR 512u
#define XSAVE_EXT 576u

/* Host facts; before anything else here. Called by cpu_init. */
void cpu_fpu_init(struct cpu *c) hidden;
/* Every component in its power-on state. */
void cpu_fpu_reset(struct cpu *c) hidden;
/* Recompute c->fpu_ok. After every change of CR0, CR4, XCR0, EFLAGS.VM: cpu_update_mode() and cpu_set_xcr0() call it. */
void cpu_fpu_update(struct cpu *c) hidden;

/* KVM_GET/SET_FPU. */
void cpu_get_fpu(struct cpu *c, struct kvm_fpu *f) hidden;
int cpu_set_fpu(struct cpu *c, const struct kvm_fpu *f) hidden; /* 0 or -EINVAL */
/* KVM_GET/SET_XSAVE, XSAVE2: standard format, CPU_XSAVE_SIZE bytes (memory of ours: the caller copies from and to the VMM). */
void cpu_get_xsave(struct cpu *c, void *buf) hidden;
int cpu_set_xsave(struct cpu *c, const void *buf) hidden; /* 0 or -EINVAL */

/* For code that works on the spilled state: call cpu_fpu_put() first. */
static inline u64 *xs_bv(struct cpu *c)
{
	return (u64 *)(c->xsave + XSAVE_HDR);
}
/* Make a component's bytes valid (initial values if it was in its initial configuration); marks it in use. */
void xs_materialise(struct cpu *c, unsigned comp) hidden;
/* Vector register n (0..31), bytes 0..63. Reading gives zeros for components in their initial state. */
void xs_vec_read(struct cpu *c, unsigned n, void *buf, unsigned bytes) hidden;
/* Writes bytes, and zeroes the register above them. */
void xs_vec_write(struct cpu *c, unsigned n, const void *buf, unsigned bytes) hidden;
u64 xs_kreg_read(struct cpu *c, unsigned n) hidden;
void xs_kreg_write(struct cpu *c, unsigned n, u64 v) hidden;

#endif
