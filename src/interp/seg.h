/* SPDX-License-Identifier: MIT */
/*
 * Descriptors and segment registers for the system instructions: reading the tables, the checks that loads have in common, task switch.
 */
#ifndef USEKVM_INTERP_SEG_H
#define USEKVM_INTERP_SEG_H

#include "cpu/cpu.h"

/* System descriptor types (SDM 3, table 3-2). */
enum { SYS_TSS16 = 1, SYS_LDT, SYS_TSS16_BUSY, SYS_CALL16, SYS_TASK, SYS_INT16, SYS_TRAP16, SYS_TSS32 = 9, SYS_TSS32_BUSY = 11, SYS_CALL32,
       SYS_INT32 = 14, SYS_TRAP32 };

#define SEL_RPL(s) ((s)&3)
#define SEL_NULL(s) (!((s) & ~3))
#define SEL_ERR(s) ((s) & ~3u)

/* A descriptor's attributes in the layout of cpu_seg.ar. */
#define DESC_AR(d) ((u32)((d) >> 40) & 0xf0ff)
static inline unsigned ar_dpl(u32 ar)
{
	return (ar & AR_DPL) >> AR_DPL_SHIFT;
}
static inline bool ar_is_code(u32 ar)
{
	return (ar & (AR_S | AR_CODE)) == (AR_S | AR_CODE);
}
static inline bool ar_is_wdata(u32 ar)
{
	return (ar & (AR_S | AR_CODE | AR_RW)) == (AR_S | AR_RW);
}

/* Read the 8 bytes of sel's descriptor. False: sel is outside its table (no fault raised for that; #PF may be). */
bool desc_read(struct cpu *c, u16 sel, u64 *d) hidden;
/* The upper 8 bytes of a 16-byte system descriptor (long mode). False as above. */
bool desc_read_hi(struct cpu *c, u16 sel, u64 *hi) hidden;
/* As desc_read, raising `vector` with the selector. */
u64 desc_get(struct cpu *c, u16 sel, unsigned vector) hidden;
void desc_set_accessed(struct cpu *c, u16 sel, u64 *d) hidden;
void desc_set_busy(struct cpu *c, u16 sel, bool busy) hidden;
struct cpu_seg desc_seg(u16 sel, u64 d) hidden;

/* Privilege of stack accesses of level cpl. */
static inline unsigned mmu_idx_of(const struct cpu *c, unsigned cpl)
{
	return cpl == 3 ? MMU_USER : c->rflags & X86_AC ? MMU_KERNEL_AC : MMU_KERNEL;
}

/* Real and virtual-8086 mode values. */
void seg_load_real(struct cpu *c, unsigned seg, u16 sel) hidden;
/* MOV/POP to ES, SS, DS, FS, GS in any mode. Raises, or loads it (SS: cpl is not changed by it, mode needs no update but the stack size). */
void seg_load(struct cpu *c, unsigned seg, u16 sel) hidden;
/* Checks of a stack segment for level cpl, raising `vector` (#GP or #TS; not present: #SS). Null: as 64-bit mode allows. */
struct cpu_seg seg_check_ss(struct cpu *c, u16 sel, unsigned cpl, unsigned vector, bool null_ok) hidden;
/* A null selector in seg, as this vendor's CPU does it. */
void seg_set_null(struct cpu *c, unsigned seg, u16 sel) hidden;
/* Flat segments of SYSCALL and friends. */
void seg_set_flat_cs(struct cpu *c, u16 sel, unsigned cpl, bool is64) hidden;
void seg_set_flat_ss(struct cpu *c, u16 sel, unsigned cpl) hidden;

/* SS:SP or ESP/RSP of level cpl from the TSS; raises #TS. 64-bit: *ss is 0. */
void tss_stack(struct cpu *c, unsigned cpl, u16 *ss, u64 *sp) hidden;
u64 tss_ist(struct cpu *c, unsigned ist) hidden;

/* A stack other than the current one, being filled before it is switched to. Raises #SS(error). */
struct stack {
	struct cpu_seg seg;
	u64 sp, mask;
	unsigned idx;
	bool is64;
	u32 error; /* of #SS */
};
struct stack stack_current(struct cpu *c) hidden;
struct stack stack_new(struct cpu *c, const struct cpu_seg *ss, u64 sp, unsigned cpl, bool is64) hidden;
void stack_push(struct cpu *c, struct stack *s, unsigned size, u64 val) hidden;
u64 stack_pop(struct cpu *c, struct stack *s, unsigned size) hidden;
/* The stack pointer register's new value for this stack. */
void stack_commit_sp(struct cpu *c, const struct stack *s) hidden;

/* Is rip a legal instruction pointer in code segment cs? Raises #GP(0). */
void check_target(struct cpu *c, const struct cpu_seg *cs, bool is64, u64 rip) hidden;

/* task.c */
enum task_reason { TASK_JMP, TASK_CALL, TASK_GATE /* interrupt or exception */, TASK_IRET };
/* Switch to the TSS of sel; ret_rip is saved as the old task's EIP. Sets c->next_rip. */
void task_switch(struct cpu *c, u16 sel, enum task_reason why, u64 ret_rip, bool has_error, u32 error) hidden;

#endif
