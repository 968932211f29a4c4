#!/bin/sh
# SPDX-License-Identifier: MIT
# tcg.sh IMAGE: the same guest program under QEMU's emulator, so that a wrong expectation shows. What that emulator is known to get
# wrong stands with its reason in the file tcg-differs ("PROGRAM CHECK-NAME = reason"); any other FAIL line is an error, and so is
# a check listed there that passes after all.
image=$1
here=$(dirname "$0")
prog=$(basename "$image" .img)
command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64"; exit 77; }
out=$(timeout -k 1 ${TCG_LIMIT:-100} env -u LD_PRELOAD qemu-system-x86_64 -accel tcg -cpu max,vendor=GenuineIntel -machine pc -m 64 -kernel "$image" -nodefaults -display none \
	-no-reboot -chardev stdio,id=c -device isa-debugcon,iobase=0x3f8,chardev=c -device isa-debug-exit,iobase=0xf4,iosize=1 2>&1 </dev/null | tr -d '\r')
echo "$out" | grep -a -E '^(PASS|FAIL|SKIP) ' >/dev/null || { echo "$out"; echo "no result lines"; exit 1; }
# known FAIL|PASS: the listed names of this program
echo "$out" | awk -v prog="$prog" -v list="$here/tcg-differs" '
	BEGIN { while ((getline l < list) > 0) if (index(l, prog " ") == 1 && (p = index(l, " = "))) known[substr(l, length(prog) + 2, p - length(prog) - 2)] = 1 }
	/^PASS / { pass++; n = substr($0, 6); if (n in known) { print "listed in tcg-differs, but passes: " n; bad = 1 } }
	/^FAIL / { n = substr($0, 6); if (p = index(n, " got ")) n = substr(n, 1, p - 1); if (!(n in known)) { print; bad = 1 } }
	END { print pass " passed"; exit bad || !pass }'
