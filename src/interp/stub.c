/* SPDX-License-Identifier: MIT */
/*
 * The stubs of one vCPU, and the decision which instructions become stubs.
 *
 * Code stands in a memfd mapped twice, writable and executable; nothing is ever both at one address. Stubs are never freed one by one:
 * when the arena or the table is nearly full (stub_full) the interpreter drops all its decoded code and calls stub_reset.
 */
#include "interp/stub_int.h"
#include "base/code.h"
#include "base/string.h"
#include "base/sys.h"
#include "cpu/cpuid.h"
#include "decode/memo.h"

#include <errno.h>
#include <sys/mman.h>

#define ARENA_SIZE (2u << 20)
#define MAX_STUBS 24576u
#define BUCKETS 8192u
#define BLOCK_ROOM 72u /* stubs a block may need */

struct stub_cache {
	u8 *rw, *rx;
	u32 pos, n;
	u32 bucket[BUCKETS]; /* index + 1 */
	struct stub stub[MAX_STUBS];
};

int stub_init(struct cpu *c)
{
	struct stub_cache *sc = sys_mmap(NULL, sizeof(*sc), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (sys_is_err(sc))
		return -ENOMEM;
	int r = code_map("usekvm-stubs", ARENA_SIZE, &sc->rw, &sc->rx);
	if (r) {
		sys_munmap(sc, sizeof(*sc));
		return r;
	}
	c->stubs = sc;
	return 0;
}

void stub_destroy(struct cpu *c)
{
	struct stub_cache *sc = c->stubs;

	if (!sc)
		return;
	code_unmap(sc->rw, sc->rx, ARENA_SIZE);
	sys_munmap(sc, sizeof(*sc));
	c->stubs = NULL;
}

void stub_reset(struct cpu *c)
{
	struct stub_cache *sc = c->stubs;

	if (!sc)
		return;
	memset(sc->bucket, 0, sizeof(sc->bucket));
	sc->pos = sc->n = 0;
}

bool stub_full(const struct cpu *c)
{
	const struct stub_cache *sc = c->stubs;
	return sc->n + BLOCK_ROOM > MAX_STUBS || sc->pos + BLOCK_ROOM * STUB_MAX > ARENA_SIZE;
}

bool stub_owns(const struct cpu *c, u64 host_rip)
{
	const struct stub_cache *sc = c->stubs;
	return sc && host_rip - (u64)sc->rx < ARENA_SIZE;
}

/* The stub with this code, made if there is none. proto: its other fields. NULL: full. */
static struct stub *get(struct cpu *c, const u8 *code, unsigned len, const struct stub *proto)
{
	struct stub_cache *sc = c->stubs;
	u32 h = 2166136261u;

	for (unsigned k = 0; k < len; k++)
		h = (h ^ code[k]) * 16777619u;
	u32 *b = &sc->bucket[(h ^ h >> 16) & (BUCKETS - 1)];
	for (u32 x = *b; x; x = sc->stub[x - 1].next) {
		struct stub *s = &sc->stub[x - 1];
		if (s->hash == h && s->len == len && s->need == proto->need && s->size == proto->size && !memcmp((void *)s->code, code, len))
			return s;
	}
	if (sc->n == MAX_STUBS || sc->pos + len > ARENA_SIZE)
		return NULL;
	struct stub *s = &sc->stub[sc->n++];
	*s = *proto;
	memcpy(sc->rw + sc->pos, code, len);
	code_serialize();
	s->code = (void (*)(struct cpu *, void *))(sc->rx + sc->pos);
	s->hash = h;
	s->len = (u16)len;
	s->next = *b;
	*b = sc->n;
	sc->pos += ALIGN_UP(len, 16);
	stat_add(&c->stat.stubs, 1);
	return s;
}

/* ---- which instructions, and what they need ---- */

static bool ext_ok(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_X87: case ZYDIS_ISA_EXT_MMX: case ZYDIS_ISA_EXT_SSE: case ZYDIS_ISA_EXT_SSE2: case ZYDIS_ISA_EXT_SSE3:
	case ZYDIS_ISA_EXT_SSSE3: case ZYDIS_ISA_EXT_SSE4: case ZYDIS_ISA_EXT_SSE4A: case ZYDIS_ISA_EXT_AES: case ZYDIS_ISA_EXT_PCLMULQDQ:
	case ZYDIS_ISA_EXT_SHA: case ZYDIS_ISA_EXT_GFNI: case ZYDIS_ISA_EXT_AVX: case ZYDIS_ISA_EXT_AVX2: case ZYDIS_ISA_EXT_AVXAES:
	case ZYDIS_ISA_EXT_VAES: case ZYDIS_ISA_EXT_VPCLMULQDQ: case ZYDIS_ISA_EXT_F16C: case ZYDIS_ISA_EXT_FMA:
	case ZYDIS_ISA_EXT_AVX_VNNI: case ZYDIS_ISA_EXT_AVX512EVEX: case ZYDIS_ISA_EXT_AVX512VEX: case ZYDIS_ISA_EXT_BMI1:
	case ZYDIS_ISA_EXT_BMI2: case ZYDIS_ISA_EXT_LZCNT: case ZYDIS_ISA_EXT_ADOX_ADCX: case ZYDIS_ISA_EXT_MOVBE:
	case ZYDIS_ISA_EXT_RDRAND: case ZYDIS_ISA_EXT_RDSEED: return true;
	default: return z->meta.isa_set == ZYDIS_ISA_SET_POPCNT || z->meta.isa_set == ZYDIS_ISA_SET_FCMOV || z->mnemonic == ZYDIS_MNEMONIC_MOVDIRI;
	}
}

static bool is_x87(const ZydisDecodedInstruction *z)
{
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && z->opcode >= 0xd8 && z->opcode <= 0xdf;
}

static u8 need_of(const struct decoded *d)
{
	const ZydisDecodedInstruction *z = &d->z;
	bool mmx = false, vec = false, k = false;

	for (unsigned n = 0; n < z->operand_count; n++) {
		if (d->op[n].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (ZydisRegisterGetClass(d->op[n].reg.value)) {
		case ZYDIS_REGCLASS_MMX: mmx = true; break;
		case ZYDIS_REGCLASS_MASK: k = true; break;
		case ZYDIS_REGCLASS_XMM: case ZYDIS_REGCLASS_YMM: case ZYDIS_REGCLASS_ZMM: vec = true; break;
		default: break;
		}
	}
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX || (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && k))
		return FPU_OK_AVX | FPU_OK_AVX512 | FPU_OK_VEX;
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		bool gpr = z->meta.isa_ext == ZYDIS_ISA_EXT_BMI1 || z->meta.isa_ext == ZYDIS_ISA_EXT_BMI2;
		return gpr ? FPU_OK_VEX : FPU_OK_AVX | FPU_OK_VEX;
	}
	if (z->mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return FPU_OK_WAIT;
	if (is_x87(z))
		return FPU_OK_X87;
	if (vec || z->mnemonic == ZYDIS_MNEMONIC_CVTSD2SI || z->mnemonic == ZYDIS_MNEMONIC_CVTTSD2SI || z->mnemonic == ZYDIS_MNEMONIC_CVTSS2SI ||
	    z->mnemonic == ZYDIS_MNEMONIC_CVTTSS2SI || z->mnemonic == ZYDIS_MNEMONIC_CVTPD2PI || z->mnemonic == ZYDIS_MNEMONIC_CVTTPD2PI ||
	    z->mnemonic == ZYDIS_MNEMONIC_LDMXCSR || z->mnemonic == ZYDIS_MNEMONIC_STMXCSR)
		return FPU_OK_SSE;
	return mmx || z->mnemonic == ZYDIS_MNEMONIC_EMMS ? FPU_OK_MMX : 0;
}

static u8 align_of(const ZydisDecodedInstruction *z, u8 need, unsigned size)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_VMOVAPS: case ZYDIS_MNEMONIC_VMOVAPD: case ZYDIS_MNEMONIC_VMOVDQA: case ZYDIS_MNEMONIC_VMOVDQA32:
	case ZYDIS_MNEMONIC_VMOVDQA64: case ZYDIS_MNEMONIC_VMOVNTPS: case ZYDIS_MNEMONIC_VMOVNTPD: case ZYDIS_MNEMONIC_VMOVNTDQ:
	case ZYDIS_MNEMONIC_VMOVNTDQA: return (u8)(size - 1);
	case ZYDIS_MNEMONIC_MOVUPS: case ZYDIS_MNEMONIC_MOVUPD: case ZYDIS_MNEMONIC_MOVDQU: case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_SHA1MSG1: case ZYDIS_MNEMONIC_SHA1MSG2: case ZYDIS_MNEMONIC_SHA1NEXTE: case ZYDIS_MNEMONIC_SHA1RNDS4:
	case ZYDIS_MNEMONIC_SHA256MSG1: case ZYDIS_MNEMONIC_SHA256MSG2: case ZYDIS_MNEMONIC_SHA256RNDS2: /* AMD does not; Intel's host says so itself */
	case ZYDIS_MNEMONIC_PCMPESTRI: case ZYDIS_MNEMONIC_PCMPESTRM: case ZYDIS_MNEMONIC_PCMPISTRI: case ZYDIS_MNEMONIC_PCMPISTRM:
		return 0;
	default: return need == FPU_OK_SSE && size == 16 ? 15 : 0;
	}
}

/* No fault is suppressed for masked-off lanes in these classes (SDM 2, 2.8.8). */
static bool class_nf(ZydisExceptionClass k)
{
	switch (k) {
	case ZYDIS_EXCEPTION_CLASS_E1NF: case ZYDIS_EXCEPTION_CLASS_E2NF: case ZYDIS_EXCEPTION_CLASS_E3NF: case ZYDIS_EXCEPTION_CLASS_E4NF:
	case ZYDIS_EXCEPTION_CLASS_E5NF: case ZYDIS_EXCEPTION_CLASS_E6NF: case ZYDIS_EXCEPTION_CLASS_E9NF: case ZYDIS_EXCEPTION_CLASS_E10NF:
	case ZYDIS_EXCEPTION_CLASS_E11NF: return true;
	default: return false;
	}
}

static unsigned elements(const ZydisDecodedOperand *o)
{
	return o->element_count ? o->element_count : 1;
}

/* N of {1toN}; 0: a broadcast instruction, not an embedded broadcast of one element. */
static u8 broadcast_count(ZydisBroadcastMode m)
{
	switch (m) {
	case ZYDIS_BROADCAST_MODE_1_TO_2: return 2;
	case ZYDIS_BROADCAST_MODE_1_TO_4: return 4;
	case ZYDIS_BROADCAST_MODE_1_TO_8: return 8;
	case ZYDIS_BROADCAST_MODE_1_TO_16: return 16;
	case ZYDIS_BROADCAST_MODE_1_TO_32: return 32;
	case ZYDIS_BROADCAST_MODE_1_TO_64: return 64;
	default: return 0;
	}
}

/* Lanes of memory and of the mask. The register operand that is masked: the destination, or the source of a store or compare. */
static void lanes_of(const struct decoded *d, const ZydisDecodedOperand *mem, struct stub *s)
{
	const ZydisDecodedInstruction *z = &d->z;
	const ZydisDecodedOperand *r = NULL;

	for (unsigned n = 0; n < z->operand_count_visible && !r; n++)
		if (d->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER) {
			ZydisRegisterClass k = ZydisRegisterGetClass(d->op[n].reg.value);
			if (k == ZYDIS_REGCLASS_XMM || k == ZYDIS_REGCLASS_YMM || k == ZYDIS_REGCLASS_ZMM)
				r = &d->op[n];
		}
	if (!r) { /* VFPCLASS: only masks and memory */
		s->nlanes = (u8)elements(mem);
		s->nmask = z->avx.broadcast.mode ? broadcast_count(z->avx.broadcast.mode) : s->nlanes;
		s->lane_size = (u8)(s->size / s->nlanes);
		s->lanes = z->avx.broadcast.mode ? LANES_ANY : LANES_PLAIN;
		return;
	}
	unsigned lr = elements(r), lm = elements(mem);
	if (z->meta.category == ZYDIS_CATEGORY_EXPAND || z->meta.category == ZYDIS_CATEGORY_COMPRESS) {
		s->lanes = LANES_PACKED;
		s->nlanes = s->nmask = (u8)lr;
		s->lane_size = (u8)(s->size / lr);
		return;
	}
	if (z->mnemonic == ZYDIS_MNEMONIC_VGF2P8AFFINEQB || z->mnemonic == ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB) {
		s->nmask = (u8)(z->avx.vector_length / 8);
		s->nlanes = s->size / 8;
		s->lane_size = 8;
		s->masked_fold = 8;
		s->lanes = s->nlanes * 8 == s->nmask ? LANES_PLAIN : LANES_ANY;
		return;
	}
	s->nlanes = (u8)MIN(lr, lm);
	s->nmask = s->nlanes;
	s->lane_size = (u8)(s->size / s->nlanes);
	s->lanes = LANES_PLAIN;
	if (z->avx.broadcast.mode) { /* scalar forms have none: their mask is bit 0 */
		bool any = lm == 1 && broadcast_count(z->avx.broadcast.mode);
		s->nmask = any ? broadcast_count(z->avx.broadcast.mode) : (u8)lr;
		s->lanes = lm == 1 ? LANES_ANY : LANES_PLAIN;
	}
}

static void masking_of(const struct decoded *d, const ZydisDecodedOperand *mem, struct stub *s, bool amd)
{
	const ZydisDecodedInstruction *z = &d->z;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_VMASKMOVPS: case ZYDIS_MNEMONIC_VMASKMOVPD: case ZYDIS_MNEMONIC_VPMASKMOVD: case ZYDIS_MNEMONIC_VPMASKMOVQ:
		s->lane_size = z->mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD || z->mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ ? 8 : 4;
		s->nlanes = s->nmask = s->size / s->lane_size;
		s->vreg = (u8)ZydisRegisterGetId(d->op[1].reg.value);
		s->lanes = LANES_PLAIN;
		return;
	default: break;
	}
	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX || !z->raw.evex.aaa)
		return;
	s->kreg = z->raw.evex.aaa;
	if (z->mnemonic == ZYDIS_MNEMONIC_VPSHUFBITQMB) {
		/* One byte of memory for each bit of the result. */
		s->nlanes = s->nmask = s->size;
		s->lane_size = 1;
		s->lanes = LANES_PLAIN;
		return;
	}
	if (class_nf(z->meta.exception_class) || z->mnemonic == ZYDIS_MNEMONIC_VCVTNE2PS2BF16 ||
	    z->mnemonic == ZYDIS_MNEMONIC_VDBPSADBW /* each result needs memory of other lanes */ ||
	    (amd && (z->mnemonic == ZYDIS_MNEMONIC_VGF2P8AFFINEQB || z->mnemonic == ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB)))
		return;
	lanes_of(d, mem, s);
}

static void describe(const struct decoded *d, const ZydisDecodedOperand *mem, struct stub *s, bool amd)
{
	const ZydisDecodedInstruction *z = &d->z;

	s->need = need_of(d);
	if (mem) {
		s->size = (u8)(mem->size / 8);
		s->write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		s->align = align_of(z, s->need, s->size);
		masking_of(d, mem, s, amd);
	}
	if (!is_x87(z))
		return;
	s->fop = (u16)((z->opcode & 7) << 8 | d->bytes[z->raw.modrm.offset]);
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT: case ZYDIS_MNEMONIC_FNCLEX: case ZYDIS_MNEMONIC_FLDCW: case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNSTSW: case ZYDIS_MNEMONIC_FSETPM287_NOP: s->control = true; break;
	default: break;
	}
}

static bool wanted(const ZydisDecodedInstruction *z)
{
	if (z->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED || !ext_ok(z))
		return false;
	if (z->meta.isa_set == ZYDIS_ISA_SET_AVX512PF_512 || z->meta.category == ZYDIS_CATEGORY_PREFETCH)
		return false;
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY || z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ||
	       z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
}

bool stub_lower(struct cpu *c, const struct decoded *given, struct insn *i)
{
	const ZydisDecodedOperand *mem = NULL;
	struct decoded copy;
	const struct decoded *d = &copy;
	struct stub proto = { .len = 0 };
	u8 code[STUB_MAX];

	cpu_fpu_put(c); /* the decoder is compiled with vector registers */
	decode_keep(&copy, given); /* it may be lent, and what is emitted is decoded again */
	/* Of x87 it knows FNINIT and the two stores below. */
	i->kvm_lacks = is_x87(&d->z) && d->z.mnemonic != ZYDIS_MNEMONIC_FNSTCW && d->z.mnemonic != ZYDIS_MNEMONIC_FNSTSW;
	if (xsave_lower(d, i) || vsib_lower(d, i) || maskmov_lower(d, i))
		return true;
	if (!wanted(&d->z))
		return false;
	for (unsigned k = 0; k < d->z.operand_count_visible; k++)
		if (d->op[k].type == ZYDIS_OPERAND_TYPE_MEMORY)
			mem = &d->op[k];
	if (mem && (mem->mem.type != ZYDIS_MEMOP_TYPE_MEM || mem->size % 8 || !mem->size || mem->size > 512))
		return false;
	describe(d, mem, &proto, cpu_is_amd(c));
	unsigned n = stub_emit(d, code);
	if (!n)
		return false;
	struct stub *s = get(c, code, n, &proto);
	if (!s) {
		cpu_request(c, CPU_REQ_CODE);
		return false;
	}
	i->stub = s;
	i->osz = mem ? s->size : i->osz;
	if (d->z.mnemonic == ZYDIS_MNEMONIC_FNINIT)
		i->fn = h_stub_fninit;
	else if (d->z.mnemonic == ZYDIS_MNEMONIC_LDMXCSR || d->z.mnemonic == ZYDIS_MNEMONIC_VLDMXCSR)
		i->fn = h_ldmxcsr;
	else
		i->fn = stub_handler(s, mem);
	return true;
}
