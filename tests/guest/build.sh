#!/bin/sh
# SPDX-License-Identifier: MIT
# build.sh CC BITS OUTPUT SOURCE-FOLDER PROGRAM.c: one flat guest image.
cc=$1 bits=$2 out=$3 lib=$4/lib prog=$5
tmp=$out.d
mkdir -p "$tmp" || exit 1
flags="-m$bits -std=gnu11 -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing
	-mno-red-zone -mgeneral-regs-only -fvisibility=hidden -O1 -Wall -Wno-unused-function -nostdlib -static -I$lib"
if [ "$bits" = 64 ]; then flags="$flags -fpie"; else flags="$flags -fno-pie -march=i686"; fi
emulation=elf_x86_64
[ "$bits" = 64 ] || emulation=elf_i386
for s in "$lib/start.S" "$lib/guest.c" "$prog"; do
	# shellcheck disable=SC2086
	"$cc" $flags -c "$s" -o "$tmp/$(basename "$s").o" || exit 1
done
ld -m $emulation -static -z noexecstack --no-warn-rwx-segments -T "$lib/link.ld" -o "$tmp/elf" \
	"$tmp/start.S.o" "$tmp/guest.c.o" "$tmp/$(basename "$prog").o" || exit 1
objcopy -O binary "$tmp/elf" "$out"
