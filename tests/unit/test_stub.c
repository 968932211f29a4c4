/* SPDX-License-Identifier: MIT */
/*
 * Stubs against the machine: each instruction below is assembled by the compiler inside this program, decoded, made into a stub and run
 * on a struct cpu, and run as it is by a trampoline of our own; registers, flags, memory and the whole vector state must agree.
 * LINK: interp/stub.c interp/stub_emit.c interp/encode.c interp/stub_mem.c interp/stub_vsib.c interp/op_xsave.c cpu/fpu.c cpu/cpuid.c decode/feature.c decode/decode.c decode/memo.c base/code.c base/sys.c base/string.c base/process.c base/agent.c base/lock.c base/log.c
 * Guest memory is a flat buffer: the fakes below stand for interp/access.c. Bytes, page crossings and masked faults have their cases.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/fpu.h"
#include "decode/feature.h"
#include "interp/fast.h"
#include "interp/stub.h"

static struct cpu *C;
static u8 *ram; /* page 0, page 1 mapped by the fakes; page 2 faults */
static jmp_buf catch_buf;
static int raised;
static bool no_ptr;

_Noreturn void cpu_raise(struct cpu *c, unsigned v, bool e, u32 err)
{
	raised = (int)v;
	longjmp(catch_buf, 1);
}
_Noreturn void cpu_exit(struct cpu *c, int e)
{
	abort();
}
const struct insn *h_op(struct cpu *c, const struct insn *i)
{
	c->cur = i;
	i->op(c, i);
	return NULL;
}
u64 ea_of(struct cpu *c, const struct insn *i)
{
	u64 ea = fast_ea(c, i);
	return i->asz == 8 ? ea : i->asz == 4 ? (u32)ea : (u16)ea;
}
gva_t seg_linear_noac(struct cpu *c, unsigned seg, u64 off, unsigned size, enum access acc)
{
	return seg_linear(c, seg, off, size, acc);
}
gva_t seg_linear(struct cpu *c, unsigned seg, u64 off, unsigned size, enum access acc)
{
	return off;
}
static void check(u64 la, unsigned n)
{
	if (la < (u64)ram || la + n > (u64)ram + 8192) {
		raised = EX_PF;
		longjmp(catch_buf, 1);
	}
}
void *lin_ptr(struct cpu *c, gva_t la, unsigned len, bool write, unsigned idx)
{
	check(la, 1);
	if (no_ptr || (la & 4095) + len > 4096)
		return NULL;
	check(la, len);
	return (void *)la;
}
void lin_ld_bytes(struct cpu *c, gva_t la, void *buf, unsigned len, unsigned idx)
{
	check(la, len);
	memcpy(buf, (void *)la, len);
}
void lin_st_bytes(struct cpu *c, gva_t la, const void *buf, unsigned len, unsigned idx)
{
	check(la, len);
	memcpy((void *)la, buf, len);
}
void lin_check_write(struct cpu *c, gva_t la, unsigned len, unsigned idx)
{
	check(la, len);
}
void ld_bytes(struct cpu *c, unsigned s, u64 off, void *buf, unsigned len)
{
	lin_ld_bytes(c, off, buf, len, 0);
}
void st_bytes(struct cpu *c, unsigned s, u64 off, const void *buf, unsigned len)
{
	lin_st_bytes(c, off, buf, len, 0);
}
u64 ld(struct cpu *c, unsigned s, u64 off, unsigned size)
{
	u64 v = 0;
	lin_ld_bytes(c, off, &v, size, 0);
	return v;
}
void st(struct cpu *c, unsigned s, u64 off, unsigned size, u64 v)
{
	lin_st_bytes(c, off, &v, size, 0);
}
u64 lin_ld(struct cpu *c, gva_t la, unsigned size, unsigned idx)
{
	return ld(c, 0, la, size);
}
void lin_st(struct cpu *c, gva_t la, unsigned size, u64 v, unsigned idx)
{
	st(c, 0, la, size, v);
}
void cpu_tlb_flush(struct cpu *c)
{
}

/* ---- the instructions: memory operands use rbx, rbx + rcx * 4 + disp, r13 ---- */

#define INSNS(X)                                                                                                                           \
	X("addps %xmm1, %xmm2") X("addps (%rbx), %xmm9") X("mulpd 16(%rbx), %xmm3") X("paddd %mm1, %mm2") X("paddb 8(%rbx), %mm3")            \
	X("pshufb 32(%rbx), %xmm4") X("pcmpistri $0x0c, %xmm1, %xmm2") X("pcmpestri $0x0c, 3(%rbx), %xmm2") X("aesenc %xmm3, %xmm8")          \
	X("pclmulqdq $0x11, (%rbx), %xmm8") X("sha256msg1 %xmm3, %xmm8") X("sha256rnds2 %xmm0, 16(%rbx), %xmm8")                              \
	X("movd %esi, %xmm7") X("movq %xmm7, %rsp") X("movq %rsp, %xmm7") X("pextrq $1, %xmm1, %rsp") X("pextrb $3, %xmm1, 5(%rbx)")           \
	X("pinsrw $2, %esp, %xmm1") X("cvtsi2sdq %r12, %xmm3") X("cvtsi2sdl 4(%rbx), %xmm3") X("cvttsd2si %xmm3, %rdi")                        \
	X("cvtss2si (%rbx), %r15d") X("movmskps %xmm3, %esp") X("pmovmskb %xmm3, %r9d") X("comisd %xmm1, %xmm2") X("ucomiss 8(%rbx), %xmm2")   \
	X("ptest %xmm1, %xmm2") X("movups %xmm3, 7(%rbx)") X("movdqa %xmm14, 48(%rbx)") X("movlps %xmm1, 8(%rbx)") X("movhpd 8(%rbx), %xmm5")  \
	X("movnti %rdx, 8(%rbx)") X("roundpd $1, %xmm1, %xmm5") X("blendvps %xmm0, %xmm1, %xmm5") X("crc32b %ah, %edx")                        \
	X("crc32q %rsp, %rdi") X("crc32w 4(%rbx), %edi") X("crc32b %spl, %edi") X("popcnt %rsi, %rsp") X("popcntw 2(%rbx), %si")                \
	X("lzcnt %rdi, %r11") X("tzcntl 4(%rbx), %r8d") X("movbe 8(%rbx), %rdi") X("movbe %sp, 8(%rbx)") X("movbe 8(%rbx), %r12w")             \
	X("adcx %rsi, %rdi") X("adox %rsp, %r15") X("adcx 8(%rbx), %rax") X("mulx %rsp, %rdi, %r8") X("mulxq 8(%rbx), %rsi, %rsp")             \
	X("pdep %rsp, %rdi, %rsi") X("pext 8(%rbx), %r8, %r9") X("andn %rsp, %rdi, %rsp") X("bextr %rsp, %rdi, %rax") X("blsr %rsp, %rdi")     \
	X("blsi %rdi, %rsp") X("bzhi %rax, 8(%rbx), %r14") X("rorx $7, %rsp, %rbp") X("sarx %r8, 8(%rbx), %r9") X("shlx %edi, %esi, %esp")     \
	X("vaddps %ymm1, %ymm2, %ymm3") X("vaddps 32(%rbx), %ymm12, %ymm13") X("vaddps 13(%rbx), %xmm12, %xmm13")                              \
	X("vfmadd231pd 32(%rbx), %ymm1, %ymm9") X("vfmadd213ss 4(%rbx), %xmm1, %xmm9") X("vcvtph2ps 8(%rbx), %ymm3")                           \
	X("vcvtps2ph $3, %ymm3, 8(%rbx)") X("vpermq $0x1b, %ymm3, %ymm14") X("vperm2i128 $0x21, 32(%rbx), %ymm3, %ymm14")                      \
	X("vblendvps %ymm3, %ymm4, %ymm5, %ymm6") X("vblendvps %ymm13, 32(%rbx), %ymm5, %ymm6") X("vpmaskmovd 32(%rbx), %ymm1, %ymm2")         \
	X("vmaskmovpd %ymm2, %ymm1, 32(%rbx)") X("vzeroupper") X("vzeroall") X("vextracti128 $1, %ymm2, 32(%rbx)") X("vmovd %xmm3, %esp")      \
	X("vpextrq $1, %xmm1, %rsp") X("vpinsrd $1, %esp, %xmm9, %xmm3") X("vpinsrq $1, 8(%rbx), %xmm9, %xmm3") X("vcvtsi2sd %rsp, %xmm1, %xmm2") \
	X("vmovdqu %ymm9, 1(%rbx,%rcx,4)") X("vbroadcastss 4(%rbx), %ymm3") X("vpgatherdd %ymm1, (%r13,%ymm15,4), %ymm2")                       \
	X("vpgatherqq %xmm1, (%r13,%xmm15,8), %xmm2") X("vgatherqps %xmm1, (%r13,%ymm15,4), %xmm2") X("vpdpbusd (%rbx), %zmm1, %zmm2{%k2}")     \
	X("vaddps %zmm1, %zmm22, %zmm31{%k1}") X("vaddps 64(%rbx), %zmm22, %zmm31{%k1}{z}") X("vaddps 4(%rbx){1to16}, %zmm22, %zmm31{%k2}")    \
	X("vaddpd {rz-sae}, %zmm1, %zmm22, %zmm31") X("vaddps 64(%rbx,%rcx,4), %zmm17, %zmm31") X("vaddss 4(%rbx), %xmm17, %xmm31{%k1}{z}")    \
	X("vmovdqu8 %zmm17, 3(%rbx){%k3}") X("vmovdqa64 %zmm17, 64(%rbx)") X("vmovups 5(%rbx), %zmm20{%k3}{z}") X("vpcompressd %zmm1, 64(%rbx){%k3}") \
	X("vpexpandd 64(%rbx), %zmm1{%k3}{z}") X("vpmovdb %zmm9, 16(%rbx){%k2}") X("vpmovzxbd 16(%rbx), %zmm9{%k2}{z}")                        \
	X("vpcmpud $1, 64(%rbx), %zmm1, %k5{%k2}") X("vptestmq 8(%rbx){1to8}, %zmm1, %k5") X("kmovq %k2, %rsp") X("kmovd %esp, %k4")           \
	X("kandq %k1, %k2, %k3") X("kortestw %k1, %k2") X("kmovw 8(%rbx), %k6") X("vpermt2d 64(%rbx), %zmm3, %zmm4{%k1}")                     \
	X("vpternlogq $0x96, 8(%rbx){1to8}, %zmm20, %zmm30") X("vbroadcasti32x4 16(%rbx), %zmm30{%k1}{z}") X("vpbroadcastq %rsp, %zmm30")      \
	X("vcvtps2pd 32(%rbx), %zmm30{%k1}{z}") X("vcvtpd2psx 16(%rbx), %xmm30{%k1}{z}") X("vcvtusi2sd %rsp, %xmm30, %xmm29")                  \
	X("vgf2p8affineqb $3, 64(%rbx), %zmm2, %zmm3{%k3}{z}") X("vpgatherdd (%r13,%zmm15,4), %zmm2{%k1}")                                      \
	X("vpscatterdd %zmm2, (%r13,%zmm15,4){%k1}") X("vscatterqpd %ymm2, (%r13,%ymm15,8){%k1}") X("vaesenc 64(%rbx), %zmm1, %zmm2")           \
	X("vfpclasspd $0x88, %zmm1, %k1{%k2}") X("vpopcntq 8(%rbx){1to8}, %zmm3{%k1}") X("vpconflictd 64(%rbx), %zmm3{%k1}")                  \
	X("fld1") X("fldpi") X("fadd %st(2), %st") X("faddp %st, %st(1)") X("fldl 8(%rbx)") X("fldt 7(%rbx)") X("fildll 8(%rbx)")              \
	X("fstl 8(%rbx)") X("fstpt 8(%rbx)") X("fistpll 8(%rbx)") X("fisttpl 8(%rbx)") X("fbstp 8(%rbx)") X("fsin") X("fxch %st(3)")           \
	X("fcmovbe %st(3), %st") X("fucomi %st(1), %st") X("fnstsw %ax") X("fnstcw 6(%rbx)") X("fcompp") X("fnclex")          \
	X("fninit") X("fwait") X("emms") X("stmxcsr 4(%rbx)") X("addsubps (%rbx), %xmm1") X("cvtpi2ps 8(%rbx), %xmm1") X("cvttps2pi %xmm2, %mm1") \
	X("movntdqa 16(%rbx), %xmm1") X("maskmovdqu %xmm1, %xmm2") X("maskmovq %mm1, %mm2") X("pinsrw $1, 6(%rbx), %mm2") X("extrq $4,$8,%xmm2")   \
	X("haddpd 16(%rbx), %xmm2") X("dpps $0xf1, 16(%rbx), %xmm2") X("sfence") X(".byte 0x26; addpd 16(%ebx), %xmm1")

/* Each between two marks in a section of its own, never executed. */
#define EMIT(s) __asm__(".pushsection .insns,\"ax\"\n.byte 0xcc\n" s "\n.popsection");
__asm__(".pushsection .insns,\"ax\"\n.globl insns_start\ninsns_start:\n.popsection");
INSNS(EMIT)
__asm__(".pushsection .insns,\"ax\"\n.byte 0xcc\n.popsection");
#define NAME(s) s,
static const char *const names[] = { INSNS(NAME) };
extern u8 insns_start[] hidden;

struct image {
	u64 gpr[16];
	u32 af;
	u8 ram[8192];
	u8 xsave[4096];
};

/* The native run: all registers from r->gpr, flags, then the instruction as it stands, then back. Built as code of our own. */
static u8 *tramp;

static void put_u64(u8 **p, u64 v)
{
	memcpy(*p, &v, 8);
	*p += 8;
}

static void native(struct image *r, const u8 *insn, unsigned len, u64 mask, u64 cell)
{
	static u64 host_rsp;
	static u64 flags;
	static u8 host_x[4096] aligned(64);
	u8 *p = tramp;
	u64 *g = r->gpr;
	flags = ((r->af >> 8) & 0xd5) | ((u64)(r->af & 1) << 11) | 0x202;
#define B(x) *p++ = (u8)(x)
#define Q(x) put_u64(&p, (u64)(x))
	B(0x53), B(0x55), B(0x41), B(0x54), B(0x41), B(0x55), B(0x41), B(0x56), B(0x41), B(0x57);
	B(0x48), B(0xb8), Q(&host_rsp), B(0x48), B(0x89), B(0x20); /* mov [rax], rsp */
	B(0x48), B(0xb8), Q(&flags), B(0xff), B(0x30), B(0x9d);    /* push [rax]; popf */
	for (int n = 15; n >= 1; n--) {                            /* movabs rax; mov rN, [rax] */
		B(0x48), B(0xb8), Q(&g[n]);
		B(0x48 | (n >= 8 ? 4 : 0)), B(0x8b), B((n & 7) << 3);
	}
	B(0x48), B(0xa1), Q(&g[0]); /* movabs rax, [moffs] */
	memcpy(p, insn, len);
	p += len;
	B(0x48), B(0xa3), Q(&g[0]);
	for (int n = 1; n < 16; n++) {
		B(0x48), B(0xb8), Q(&g[n]);
		B(0x48 | (n >= 8 ? 4 : 0)), B(0x89), B((n & 7) << 3);
	}
	B(0x48), B(0xb8), Q(&host_rsp), B(0x48), B(0x8b), B(0x20);
	B(0x9c), B(0x48), B(0xb8), Q(&flags), B(0x8f), B(0x00);
	B(0x41), B(0x5f), B(0x41), B(0x5e), B(0x41), B(0x5d), B(0x41), B(0x5c), B(0x5d), B(0x5b), B(0xc3);
	__asm__ volatile("xsave64 %0" : "+m"(host_x) : "a"((u32)mask), "d"(0));
	__asm__ volatile("xrstor64 %0" ::"m"(r->xsave[cell]), "a"((u32)mask), "d"(0));
	__asm__ volatile("call *%0" ::"r"(tramp) : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
	__asm__ volatile("xsave64 %0" : "+m"(r->xsave[cell]) : "a"((u32)mask), "d"(0));
	__asm__ volatile("xrstor64 %0" ::"m"(host_x), "a"((u32)mask), "d"(0));
	r->af = (u32)(((flags & 0xd5) | 2) << 8 | (flags >> 11 & 1));
}

static u64 rnd(void)
{
	static u64 s = 88172645463325252ull;
	s ^= s << 13, s ^= s >> 7, s ^= s << 17;
	return s;
}

/* The memory fields, as the lowering does it. */
static void mem_fields(const struct decoded *d, struct insn *i)
{
	for (unsigned k = 0; k < d->z.operand_count_visible; k++) {
		const ZydisDecodedOperand *o = &d->op[k];
		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		i->has_mem = true;
		i->base = (u8)ZydisRegisterGetId(o->mem.base);
		i->index = o->mem.index && o->mem.type == ZYDIS_MEMOP_TYPE_MEM ? (u8)ZydisRegisterGetId(o->mem.index) : SLOT_ZERO;
		i->scale = o->mem.scale ? (u8)__builtin_ctz(o->mem.scale) : 0;
		i->disp = (s32)o->mem.disp.value;
	}
	i->asz = d->z.address_width / 8;
	i->mnem = d->z.mnemonic;
}

static void fill_state(struct image *m, unsigned round, const char *name)
{
	for (unsigned n = 0; n < 16; n++)
		m->gpr[n] = rnd();
	u64 base = (u64)ram + 64 * (rnd() % 40);
	m->gpr[R_BX] = base;
	m->gpr[R_DI] = strstr(name, "maskmov") ? base : m->gpr[R_DI];
	m->gpr[R_CX] = 16 * (rnd() % 4);
	m->gpr[R_13] = (u64)ram + 2048;
	if (strstr(name, "pcmpestri"))
		m->gpr[R_AX] = rnd() % 20, m->gpr[R_DX] = rnd() % 20;
	m->af = cpu_flags_to_af((u32)rnd());
	for (unsigned n = 0; n < 8192; n++)
		m->ram[n] = (u8)rnd();
	if (round & 1) /* sane doubles and floats */
		for (unsigned n = 0; n < 8192; n += 8)
			*(double *)(m->ram + n) = (double)(s64)rnd() / 1e12;
	memset(m->xsave, 0, sizeof(m->xsave));
	*(u16 *)m->xsave = 0x37f;
	*(u16 *)(m->xsave + 2) = 3 << 11; /* TOP 3: five registers in use */
	m->xsave[4] = 0xf8;
	for (unsigned n = 0; n < 5; n++) {
		long double v = (long double)(s64)rnd() / 1e10L;
		memcpy(m->xsave + 32 + 16 * n, &v, 10);
	}
	*(u32 *)(m->xsave + 24) = 0x1f80;
	for (unsigned n = 160; n < 416; n++)
		m->xsave[n] = (u8)rnd();
	for (unsigned n = 2; n < 8; n++)
		if (C->host_xcr0 & BIT(n))
			for (unsigned b = 0; b < C->xs_size[n]; b++)
				m->xsave[C->xs_off[n] + b] = (u8)rnd();
	*(u64 *)(m->xsave + 512) = C->fpu_mask;
	/* register 15: small indices */
	u8 *x = m->xsave;
	bool q = strstr(name, "gatherq") || strstr(name, "scatterq");
	for (unsigned e = 0; e < 16; e++) {
		u32 v = q ? (e & 1 ? 0 : (u32)(rnd() % 60)) : (u32)((rnd() % 120) - 40);
		u8 *at = e < 4 ? x + 160 + 240 + 4 * e : e < 8 ? x + C->xs_off[2] + 240 + 4 * (e - 4) : x + C->xs_off[6] + 480 + 4 * (e - 8);
		*(u32 *)at = v;
	}
}

static const char *differ(const struct image *a, const struct image *b)
{
	if (memcmp(a->gpr, b->gpr, sizeof(a->gpr)))
		return "gpr";
	if (a->af != b->af)
		return "flags";
	if (memcmp(a->ram, b->ram, sizeof(a->ram)))
		return "memory";
	if (memcmp(a->xsave, b->xsave, 6) || memcmp(a->xsave + 24, b->xsave + 24, 4))
		return "control words";
	for (unsigned n = 0; n < 8; n++)
		if (memcmp(a->xsave + 32 + 16 * n, b->xsave + 32 + 16 * n, 10))
			return "x87";
	if (memcmp(a->xsave + 160, b->xsave + 160, 256))
		return "xmm";
	for (unsigned n = 2; n < 8; n++)
		if (C->fpu_mask & BIT(n) && memcmp(a->xsave + C->xs_off[n], b->xsave + C->xs_off[n], C->xs_size[n]))
			return n == 2 ? "ymm" : n == 5 ? "k" : "zmm";
	return NULL;
}

/* Components in their initial state are zeros. */
static void normalise(struct image *m)
{
	u64 bv = *(u64 *)(m->xsave + 512);
	if (!(bv & 1)) {
		memset(m->xsave, 0, 24);
		memset(m->xsave + 32, 0, 128);
		*(u16 *)m->xsave = 0x37f;
	}
	if (!(bv & 2))
		memset(m->xsave + 160, 0, 256);
	for (unsigned n = 2; n < 8; n++)
		if (!(bv & BIT(n)) && C->fpu_mask & BIT(n))
			memset(m->xsave + C->xs_off[n], 0, C->xs_size[n]);
}

static void set_tlb(bool hit)
{
	for (unsigned n = 0; n < CPU_TLB_SIZE; n++)
		C->tlbs[0][n] = cpu_tlbe_none(n);
	for (unsigned n = 0; hit && n < 2; n++) {
		u64 p = (u64)ram + 4096 * n;
		C->tlbs[0][p >> 12 & (CPU_TLB_SIZE - 1)] = (struct cpu_tlbe){ p, p, 0, 0 };
	}
}

bool sig_thread_ready(void) hidden;
bool sig_thread_ready(void) /* base/sys.c asks */
{
	return false;
}

static int failures, lowered, runs;

static const struct insn *stop_here(struct cpu *c, const struct insn *i) /* where NEXT of the handlers goes */
{
	return NULL;
}

static void one(const u8 *bytes, unsigned len, const char *name)
{
	static struct image in, a aligned(64), b aligned(64);
	static struct insn pair[2];
	struct decoded d;
	struct insn *i = pair;
	unsigned cell = (unsigned)(-(u64)a.xsave & 63);

	if (decode(&d, bytes, len, 8, false) != DECODE_OK || d.z.length != len) {
		printf("decode: %s\n", name);
		failures++;
		return;
	}
	memset(pair, 0, sizeof(pair));
	pair[1].fn = stop_here;
	mem_fields(&d, i);
	i->len = (u8)len;
	if (!stub_lower(C, &d, i)) {
		printf("not lowered: %s\n", name);
		failures++;
		return;
	}
	lowered++;
	for (unsigned round = 0; round < 16; round++) {
		fill_state(&in, round, name);
		a = in, b = in;
		/* natively, on a copy of the state with 64-byte alignment */
		static u8 tmp[4096 + 64];
		(void)cell;
		memcpy(ram, in.ram, 8192);
		static struct { struct image m; u8 pad[64]; } n2;
		n2.m = in;
		unsigned at = (unsigned)(-(u64)n2.m.xsave & 63);
		memmove(n2.m.xsave + at, in.xsave, 2600);
		native(&n2.m, bytes, len, C->fpu_mask, at);
		memmove(tmp, n2.m.xsave + at, 2600);
		memcpy(a.gpr, n2.m.gpr, sizeof(a.gpr));
		a.af = n2.m.af;
		memcpy(a.xsave, tmp, 2600);
		memcpy(a.ram, ram, 8192);
		/* as a stub */
		memcpy(ram, in.ram, 8192);
		memcpy(C->gpr, in.gpr, sizeof(in.gpr));
		C->af = in.af;
		memcpy(C->xsave, in.xsave, 4096);
		C->fpu_live = false;
		set_tlb(round & 2);
		no_ptr = round & 4;
		raised = -1;
		if (setjmp(catch_buf)) {
			printf("raised %d: %s\n", raised, name);
			failures++;
			cpu_fpu_put(C);
			return;
		}
		i->fn(C, i);
		cpu_fpu_put(C);
		memcpy(b.gpr, C->gpr, sizeof(b.gpr));
		b.af = C->af;
		memcpy(b.xsave, C->xsave, 4096);
		memcpy(b.ram, ram, 8192);
		normalise(&a);
		normalise(&b);
		runs++;
		const char *w = differ(&a, &b);
		if (w) {
			printf("differs in %s (round %u): %s\n", w, round, name);
			failures++;
			return;
		}
	}
}

int main(void)
{
	C = aligned_alloc(64, ALIGN_UP(sizeof(*C), 64));
	memset(C, 0, sizeof(*C));
	ram = mmap((void *)0x10000000, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	tramp = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu_fpu_init(C);
	if (stub_init(C))
		return 1;
	C->code_size = 8;
	C->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
	C->cr4 = CR4_OSFXSR | CR4_OSXSAVE | CR4_OSXMMEXCPT;
	C->xcr0 = C->host_xcr0;
	C->tlb = C->tlbs[0];
	cpu_fpu_update(C);
	/* Split the section at its marks: decode from each mark on. */
	const u8 *p = insns_start;
	for (unsigned k = 0; k < ARRAY_SIZE(names); k++) {
		struct decoded d;
		p++;
		if (decode(&d, p, 15, 8, false) != DECODE_OK) {
			printf("cannot decode %s\n", names[k]);
			return 1;
		}
		one(p, d.z.length, names[k]);
		p += d.z.length;
	}
	printf("%d lowered, %d runs, %d failures\n", lowered, runs, failures);
	return failures != 0;
}
