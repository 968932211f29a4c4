/* SPDX-License-Identifier: MIT */
/*
 * The op functions of the system instructions, for the lowering's table. The contract is in interp/insn.h. Every function checks mode,
 * privilege and CPUID itself and raises #UD/#GP as the manuals say: the lowering needs to know no rule but "E": lower with ends_block.
 *
 * Operands unless noted: i->reg, i->rm byte offsets into gpr; memory operand if i->has_mem; i->osz operand size. "sreg": i->reg is the
 * segment register's number (S_ES..S_GS). "cr"/"dr": i->reg is the control/debug register's number, i->rm the GPR's byte offset.
 * Far pointer immediates: i->imm = offset | selector << 32.
 */
#ifndef USEKVM_INTERP_OPS_H
#define USEKVM_INTERP_OPS_H

#include "interp/insn.h"

#define OP(name) void op_##name(struct cpu *c, const struct insn *i) hidden

/* op_far.c */
OP(call_far_imm);  /* E  CALL ptr16:16/32 (osz 2, 4) */
OP(jmp_far_imm);   /* E  JMP ptr16:16/32 */
OP(call_far_mem);  /* E  CALL m16:16/32/64: osz is the OFFSET's size (2, 4, 8) */
OP(jmp_far_mem);   /* E  JMP m16:16/32/64 */
OP(ret_far);       /* E  RETF [imm16]: imm 0 if none; osz 2, 4, 8 */
OP(iret);          /* E  IRET, IRETD, IRETQ: osz 2, 4, 8 */
OP(int_n);         /* E  INT imm8 */
OP(int3);          /* E  INT3 */
OP(into);          /* E  INTO (#UD in 64-bit mode) */
OP(int1);          /* E  INT1 (F1) */
OP(syscall);       /* E  SYSCALL */
OP(sysret);        /* E  SYSRET: osz 8 with REX.W */
OP(sysenter);      /* E  SYSENTER */
OP(sysexit);       /* E  SYSEXIT: osz 8 with REX.W */

/* op_seg.c */
OP(mov_to_sreg);   /* E  MOV Sreg, r/m16: sreg; source rm or memory (2 bytes) */
OP(mov_from_sreg); /*    MOV r/m, Sreg: sreg; osz is 2, 4, 8 (a memory destination is always 2 bytes) */
OP(push_sreg);     /*    PUSH Sreg: sreg; osz 2, 4, 8 */
OP(pop_sreg);      /* E  POP Sreg: sreg; osz 2, 4, 8 */
OP(load_far_ptr);  /* E  LES LDS LSS LFS LGS: i->reg is the GPR, i->imm the segment register's number; osz 2, 4, 8 */
OP(lar);           /*    LAR */
OP(lsl);           /*    LSL */
OP(verr);          /*    VERR */
OP(verw);          /*    VERW */
OP(arpl);          /*    ARPL (not in 64-bit mode: there 63 is MOVSXD) */
OP(lldt);          /*    LLDT */
OP(ltr);           /*    LTR */
OP(sldt);          /*    SLDT: osz 2, 4, 8 */
OP(str);           /*    STR */
OP(swapgs);        /*    SWAPGS */
OP(rdfsbase);      /*    RDFSBASE: i->rm, osz 4, 8 */
OP(rdgsbase);      /*    RDGSBASE */
OP(wrfsbase);      /*    WRFSBASE */
OP(wrgsbase);      /*    WRGSBASE */

/* op_sys.c */
OP(mov_from_cr);   /*    MOV r, CRn: cr */
OP(mov_to_cr);     /* E  MOV CRn, r: cr */
OP(mov_from_dr);   /*    MOV r, DRn: dr */
OP(mov_to_dr);     /* E  MOV DRn, r: dr */
OP(lmsw);          /* E  LMSW: source rm or memory */
OP(smsw);          /*    SMSW: osz 2, 4, 8; memory 2 bytes */
OP(clts);          /* E  CLTS */
OP(lgdt);          /* E  LGDT: osz 2: 24-bit base, 4, 8 */
OP(lidt);          /* E  LIDT */
OP(sgdt);          /*    SGDT */
OP(sidt);          /*    SIDT */
OP(invlpg);        /* E  INVLPG: memory operand */
OP(invlpga);       /*    INVLPGA: always #UD (no SVM) */
OP(invpcid);       /* E  INVPCID: reg, memory */
OP(invd);          /*    INVD, WBINVD, WBNOINVD */
OP(hlt);           /* E  HLT */
OP(mwait);         /*    MONITOR and MWAIT */
OP(hypercall);     /* E  VMCALL, VMMCALL */
OP(ud);            /*    RSM, UD0, UD1, UD2, VMX and SVM instructions: #UD */
OP(cli);           /*    CLI */
OP(sti);           /* E  STI */
OP(clac);          /* E  CLAC */
OP(stac);          /* E  STAC */
OP(pushf);         /*    PUSHF: osz 2, 4, 8 */
OP(popf);          /* E  POPF */
OP(lahf);          /*    LAHF */
OP(sahf);          /*    SAHF */
OP(clflush);       /*    CLFLUSH, CLFLUSHOPT, CLWB, CLDEMOTE: memory operand */
OP(clzero);        /*    CLZERO: i->seg the segment, asz */
OP(rdpkru);        /*    RDPKRU: #UD without CR4.PKE */
OP(wrpkru);        /* E  WRPKRU */

/* op_msr.c */
OP(cpuid);         /*    CPUID */
OP(rdmsr);         /*    RDMSR */
OP(wrmsr);         /* E  WRMSR */
OP(rdtsc);         /*    RDTSC */
OP(rdtscp);        /*    RDTSCP */
OP(rdpmc);         /*    RDPMC */
OP(rdpid);         /*    RDPID: i->rm */
OP(xgetbv);        /*    XGETBV */
OP(xsetbv);        /* E  XSETBV */

/* op_io.c; the port comes from DX or, for the _imm forms, from i->imm; osz 1, 2, 4 */
OP(in_dx);         /* E  IN AL/AX/EAX, DX */
OP(in_imm);        /* E  IN AL/AX/EAX, imm8 */
OP(out_dx);        /* E  OUT DX, AL/AX/EAX */
OP(out_imm);       /* E  OUT imm8, AL/AX/EAX */
OP(ins);           /* E  [REP] INS: ES:rDI, asz, rep. Sets next_rip = rip when REP has more to do */
OP(outs);          /* E  [REP] OUTS: i->seg:rSI, asz, rep */

#undef OP

/*
 * Finish the port access that the VMM answered (c->io.state == IO_DONE): writes the register or memory, moves the counters and c->rip.
 * The loop calls it before anything else, with a catch point set: an INS whose memory went away raises. Drops the answer if rip moved.
 */
bool interp_complete_io(struct cpu *c) hidden; /* false: the VMM has moved RIP, and it is dropped */

#endif
