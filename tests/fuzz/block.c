/* SPDX-License-Identifier: MIT */
/* Random straight-line blocks of 1..20 instructions; even cases integer, odd ones with vector code. */
#include "fuzz.h"

int main(int argc, char **argv)
{
	return drive(argc, argv, true);
}
