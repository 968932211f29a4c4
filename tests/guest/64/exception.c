/* SPDX-License-Identifier: MIT */
/* Exceptions in 64-bit mode: vector, error code, return address and stack of each; from ring 3; double fault; stack alignment. */
#include "guest.h"

static void user_ud(void) { asmv("ud2"); }
static void user_nothing(void) { }
static void user_cli(void) { asmv("cli"); }

static void errors(void)
{
	check_exc("ud2", TRY(asmv("ud2")), UD, 0);
	check_exc("none", TRY(asmv("nop")), NONE, 0);
	check_exc("div by zero", TRY(asmv("xor %%edx, %%edx; mov $1, %%eax; div %%edx" : : : "eax", "edx")), DE, 0);
	check_exc("int3", TRY(asmv("int3")), BP, 0);
	check_exc("int 0x41", TRY(asmv("int $0x41")), 0x41, 0);
	check_exc("ds bad selector", TRY(asmv("mov %0, %%ds" : : "r"(0x1f8))), GP, 0x1f8);
	check_exc("ds beyond the table", TRY(asmv("mov %0, %%ds" : : "r"(0x1000))), GP, 0x1000);
	check_exc("non-canonical read", TRY(asmv("mov (%0), %%eax" : : "r"(0x800000000000ul) : "eax")), GP, 0);
	check_exc("non-canonical stack", TRY(asmv("mov %%rsp, %%rbx; mov %0, %%rbp; mov 8(%%rbp), %%eax" : : "r"(0x800000000000ul) : "eax", "rbx")), SS, 0);
	check_exc("user ud2", try_user(user_ud, 0), UD, 0);
	check("user ud2 cs", caught.cs, SEL_UCODE64);
	check("user ud2 frame on rsp0", caught.handler_sp, (ulong)kernel_stack_top - 56);
	check_exc("user returns", try_user(user_nothing, 0), INT_DONE, 0);
	check_exc("user cli", try_user(user_cli, 0), GP, 0);
}

void test(void)
{
	errors();
}
