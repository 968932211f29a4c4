/* SPDX-License-Identifier: MIT */
/* Output, exceptions and descriptors of the bare guest programs: see guest.h. */
#include "guest.h"

struct caught caught;
hook_fn hooks[256];
struct gate idt[256] __attribute__((aligned(16)));
struct dtr idtr = { sizeof(idt) - 1, (ulong)idt };
struct tss tss __attribute__((aligned(256)));
ulong try_sp;
static bool trying;
static unsigned failures, passes;

void try_enter(void (*fn)(void));
void try_leave(void) __attribute__((noreturn));
void user_enter(ulong fn, ulong sp);
void user_enter32(ulong fn, ulong sp);
void exc_entry(struct frame *f);

void *memcpy(void *d, const void *s, ulong n)
{
	void *r = d;

	asmv("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	return r;
}

void *memset(void *d, int c, ulong n)
{
	void *r = d;

	asmv("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return r;
}

void print(const char *s)
{
	while (*s)
		outb(0x3f8, (u8)*s++);
}

static void print_hex(u64 v)
{
	char buf[20], *p = buf + 19;

	*p = 0;
	do
		*--p = "0123456789abcdef"[v & 15];
	while (v >>= 4);
	print("0x");
	print(p);
}

static void result(const char *name, bool ok)
{
	print(ok ? "PASS " : "FAIL ");
	print(name);
	if (ok)
		passes++;
	else
		failures++;
}

void check(const char *name, u64 got, u64 want)
{
	result(name, got == want);
	if (got != want) {
		print(" got ");
		print_hex(got);
		print(" want ");
		print_hex(want);
	}
	print("\n");
}

void check_exc(const char *name, long vec, long want_vec, ulong want_err)
{
	bool ok = vec == want_vec && (vec < 0 || caught.err == want_err);

	result(name, ok);
	if (!ok) {
		print(" got vector ");
		print_hex((u32)vec);
		print(" error ");
		print_hex(vec < 0 ? 0 : caught.err);
		print(" want vector ");
		print_hex((u32)want_vec);
		print(" error ");
		print_hex(want_err);
	}
	print("\n");
}

void skip(const char *name)
{
	print("SKIP ");
	print(name);
	print("\n");
}

void finish(void)
{
	outb(0xf4, failures || !passes);
	for (;;)
		asmv("cli; hlt");
}

void exc_entry(struct frame *f)
{
	if (f->vec < 256 && hooks[f->vec] && hooks[f->vec](f))
		return;
	caught = (struct caught){ .vec = f->vec, .err = f->err, .ip = f->ip, .cs = f->cs, .flags = f->flags, .cr2 = read_cr2(),
		.dr6 = read_dr6(), .ax = f->ax, .dx = f->dx, .handler_sp = (ulong)&f->vec };
#ifdef __x86_64__
	caught.sp = f->sp;
	caught.ss = f->ss;
#else
	caught.ds = f->ds;
	if (f->cs & 3 || f->flags & F_VM) {
		caught.sp = f->sp;
		caught.ss = f->ss;
	}
#endif
	if (trying) {
		trying = false;
		try_leave();
	}
	print("FAIL unexpected exception got ");
	print_hex(f->vec);
	print(" error ");
	print_hex(f->err);
	print(" at ");
	print_hex(f->ip);
	print(" cr2 ");
	print_hex(read_cr2());
	print("\n");
	failures++;
	finish();
}

static long try_end(void)
{
	trying = false;
	return (long)caught.vec;
}

static void try_begin(void)
{
	caught = (struct caught){ .vec = (ulong)NONE };
	trying = true;
}

long try_fn(void (*fn)(void))
{
	try_begin();
	try_enter(fn);
	return try_end();
}

static ulong user_fn, user_flags;
static void user_return(void)
{
	asmv("int $0x80");
}

static void enter_user(void)
{
	ulong *sp = (ulong *)USER(user_stack_top) - 2;

	((ulong *)(user_stack_top))[-2] = (ulong)USER(user_return);
	if (user_flags) {
		asmv(
#ifdef __x86_64__
			"push $0x2b; push %0; push %2; push $0x33; push %1; iretq"
#else
			"mov $0x2b, %%eax; mov %%eax, %%ds; mov %%eax, %%es\n"
			"push $0x2b; push %0; push %2; push $0x23; push %1; iret"
#endif
			: : "r"(sp), "r"(user_fn), "r"(user_flags) : "eax", "memory");
	}
	user_enter(user_fn, (ulong)sp);
}

long try_user(void (*fn)(void), ulong flags)
{
	user_fn = (ulong)USER(fn);
	user_flags = flags;
	return try_fn(enter_user);
}

#ifdef __x86_64__
static void enter_user32(void)
{
	user_enter32(user_fn, (ulong)USER(user_stack_top) - 64);
}

long try_user32(const void *code)
{
	user_fn = (ulong)USER(code);
	return try_fn(enter_user32);
}
#endif

u64 desc(ulong base, u32 limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 | (u64)(limit >> 16 & 15) << 48 | (u64)flags << 52 |
		(u64)(base >> 24 & 0xff) << 56;
}

void set_gate(unsigned vec, ulong handler, u16 sel, unsigned type_dpl, unsigned ist)
{
	idt[vec].lo = (handler & 0xffff) | (u64)sel << 16 | (u64)ist << 32 | (u64)type_dpl << 40 | (u64)(handler >> 16 & 0xffff) << 48;
#ifdef __x86_64__
	idt[vec].hi = handler >> 32;
#endif
}

void set_tss(void)
{
	u64 *d = gdt + SEL_TSS / 8;

	*d = desc((ulong)&tss, sizeof(tss) - 1, 0x89, 0);
	tss.iomap = sizeof(tss); /* no map */
#ifdef __x86_64__
	d[1] = (ulong)&tss >> 32;
	tss.rsp[0] = (ulong)kernel_stack_top;
#else
	tss.esp0 = (ulong)kernel_stack_top;
	tss.ss0 = SEL_DATA;
#endif
	asmv("ltr %w0" : : "r"(SEL_TSS));
}

/* Under QEMU the firmware's timer still runs: its interrupt would come, on the vector of a double fault, as soon as a test sets IF. */
static void mask_pics(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

void guest_main(void)
{
	for (unsigned n = 0; n < 256; n++)
		set_gate(n, (ulong)(exc_stubs + 16 * n), SEL_CODE, n == 0x80 || n == BP || n == OF ? 0xee : 0x8e, 0);
	asmv("lidt %0" : : "m"(idtr));
	set_tss();
	mask_pics();
	test();
	finish();
}
