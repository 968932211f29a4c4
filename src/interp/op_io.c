/* SPDX-License-Identifier: MIT */
/*
 * Port I/O. Data always stands in c->io.data, so an access that the VMM must answer needs no copying: c->io goes to IO_WAIT, and
 * interp_complete_io() does what is left when it is IO_DONE. String forms go in batches inside one page of memory; a batch's memory is
 * checked before the port is touched, since a device must not be asked twice.
 */
#include "interp/access.h"
#include "interp/debug.h"
#include "interp/interp.h"
#include "interp/ops.h"
#include "interp/seg.h"

static void check_permission(struct cpu *c, u16 port, unsigned size)
{
	const struct cpu_seg *tr = &c->seg[S_TR];

	if (cpu_is_real(c) || (!cpu_is_v86(c) && c->cpl <= cpu_iopl(c)))
		return;
	/* The bit map of a 32- or 64-bit TSS (SDM 1, 18.5.2). Two bytes are read always, so that a crossing access needs no case. */
	if (tr->ar & AR_UNUSABLE || !(tr->ar & 8) || tr->limit < 103)
		cpu_gp(c, 0);
	u32 off = (u32)lin_ld(c, cpu_is_long(c) ? tr->base + 102 : (u32)(tr->base + 102), 2, MMU_IMPLICIT) + port / 8;
	if (off + 1 > tr->limit)
		cpu_gp(c, 0);
	u32 bits = (u32)lin_ld(c, cpu_is_long(c) ? tr->base + off : (u32)(tr->base + off), 2, MMU_IMPLICIT);
	if (bits >> (port & 7) & ((1u << size) - 1))
		cpu_gp(c, 0);
}

static u64 count_mask(unsigned asz)
{
	return asz == 8 ? ~0ull : asz == 4 ? 0xffffffff : 0xffff;
}

static void put_reg(struct cpu *c, unsigned r, unsigned asz, u64 v)
{
	gpr_write(c, r * 8, asz, v);
}

static void put_acc(struct cpu *c)
{
	u64 v = 0;

	for (unsigned n = 0; n < c->io.size; n++)
		v |= (u64)c->io.data[n] << (8 * n);
	gpr_write(c, R_AX * 8, c->io.size, v);
}

/* Run the access that c->io describes. Returns when it is done; otherwise leaves for the VMM. */
static void access_port(struct cpu *c, const struct insn *i)
{
	struct cpu_io *io = &c->io;

	io->rip = c->rip;
	io->insn_len = i->len;
	io->asz = i->asz;
	io->seg = i->seg;
	io->rep = i->rep != REP_NONE;
	stat_add(&c->stat.pio, 1);
	cpu_fpu_put(c);
	if (c->ops->pio(c, io->port, io->size, io->count, io->data, io->write)) {
		io->state = IO_WAIT;
		cpu_exit(c, CPU_EXIT_IO);
	}
}

/* While breakpoints are set an instruction runs alone, and who ran it raises what it met. */
static void trap_io(struct cpu *c, u16 port, unsigned size)
{
	if (unlikely(debug_active(c)))
		c->interp->watch_hits |= debug_match_data(c, port, size, DEBUG_IO);
}

static void in_out(struct cpu *c, const struct insn *i, u16 port, bool write)
{
	struct cpu_io *io = &c->io;

	check_permission(c, port, i->osz);
	io->write = write;
	io->string = false;
	io->size = i->osz;
	io->port = port;
	io->count = 1;
	if (write) {
		for (unsigned n = 0; n < i->osz; n++)
			io->data[n] = (u8)(c->gpr[R_AX] >> (8 * n));
	}
	access_port(c, i);
	if (!write)
		put_acc(c);
	trap_io(c, port, i->osz);
}

void op_in_dx(struct cpu *c, const struct insn *i)
{
	in_out(c, i, GPR16(c, R_DX * 8), false);
}

void op_in_imm(struct cpu *c, const struct insn *i)
{
	in_out(c, i, (u8)i->imm, false);
}

void op_out_dx(struct cpu *c, const struct insn *i)
{
	in_out(c, i, GPR16(c, R_DX * 8), true);
}

void op_out_imm(struct cpu *c, const struct insn *i)
{
	in_out(c, i, (u8)i->imm, true);
}

/* ---- strings ---- */

/* How many items from off on can go at once: in one page, not past the address size, upwards only. */
static u32 batch(struct cpu *c, const struct insn *i, unsigned seg, u64 off, u64 count)
{
	u64 mask = count_mask(i->asz), room;

	if (c->rflags & X86_DF || count < 2)
		return 1;
	room = PAGE_SIZE - ((off + c->seg[seg].base) & ~PAGE_MASK);
	if (i->asz < 8)
		room = MIN(room, mask + 1 - off);
	if (!cpu_is_64(c) && !(c->seg[seg].ar & AR_DC && !(c->seg[seg].ar & AR_CODE)))
		room = off <= c->seg[seg].limit ? MIN(room, (u64)c->seg[seg].limit + 1 - off) : 0;
	room /= i->osz;
	return (u32)(room < 1 ? 1 : MIN(room, count));
}

static void advance(struct cpu *c, unsigned reg)
{
	struct cpu_io *io = &c->io;
	s64 step = (s64)io->size * io->count * (c->rflags & X86_DF ? -1 : 1);
	unsigned asz = io->asz;

	put_reg(c, reg, asz, gpr_read(c, reg * 8, asz) + (u64)step);
	if (io->rep) {
		put_reg(c, R_CX, asz, gpr_read(c, R_CX * 8, asz) - io->count);
		if (gpr_read(c, R_CX * 8, asz))
			c->next_rip = c->rip;
	}
}

static bool start_string(struct cpu *c, const struct insn *i, bool write, unsigned seg, u64 off)
{
	struct cpu_io *io = &c->io;
	u64 count = i->rep ? gpr_read(c, R_CX * 8, i->asz) : 1;

	check_permission(c, GPR16(c, R_DX * 8), i->osz); /* even if there is nothing to do */
	if (!count)
		return false;
	io->write = write;
	io->string = true;
	io->size = i->osz;
	io->port = GPR16(c, R_DX * 8);
	io->count = batch(c, i, seg, off, count);
	return true;
}

static void finish_ins(struct cpu *c)
{
	struct cpu_io *io = &c->io;

	st_bytes(c, S_ES, gpr_read(c, R_DI * 8, io->asz), io->data, io->size * io->count);
	advance(c, R_DI);
}

void op_ins(struct cpu *c, const struct insn *i)
{
	u64 off = gpr_read(c, R_DI * 8, i->asz);

	if (!start_string(c, i, false, S_ES, off))
		return;
	unsigned len = c->io.size * c->io.count;
	lin_check_write(c, seg_linear(c, S_ES, off, len, ACC_WRITE), len, c->mmu_idx);
	access_port(c, i);
	finish_ins(c);
	trap_io(c, c->io.port, c->io.size);
}

void op_outs(struct cpu *c, const struct insn *i)
{
	u64 off = gpr_read(c, R_SI * 8, i->asz);

	if (!start_string(c, i, true, i->seg, off))
		return;
	ld_bytes(c, i->seg, off, c->io.data, c->io.size * c->io.count);
	access_port(c, i);
	advance(c, R_SI);
	trap_io(c, c->io.port, c->io.size);
}

/* The VMM may have set the registers meanwhile: no more items than the count register says now. */
static void recount(struct cpu *c)
{
	u64 left = gpr_read(c, R_CX * 8, c->io.asz);

	if (c->io.rep && left < c->io.count)
		c->io.count = (u32)left;
}

bool interp_complete_io(struct cpu *c)
{
	struct cpu_io *io = &c->io;
	u64 mask = c->code_size == 8 ? ~0ull : c->code_size == 4 ? 0xffffffff : 0xffff;

	if (io->state != IO_DONE)
		return false;
	if (c->rip != io->rip) {
		io->state = IO_NONE;
		return false;
	}
	c->cur = NULL;
	c->next_rip = (c->rip + io->insn_len) & mask;
	if (io->string)
		recount(c);
	if (io->string && !io->write)
		finish_ins(c);
	else if (io->string)
		advance(c, R_SI);
	else if (!io->write)
		put_acc(c);
	io->state = IO_NONE;
	c->rip = c->next_rip;
	trap_io(c, io->port, io->size);
	return true;
}
