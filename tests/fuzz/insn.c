/* SPDX-License-Identifier: MIT */
/* One random instruction a case. Run as: usekvm tests/fuzz/insn [options] */
#include "fuzz.h"

int main(int argc, char **argv)
{
	return drive(argc, argv, false);
}
