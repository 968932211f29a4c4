#!/bin/sh
# SPDX-License-Identifier: MIT
# gdb.sh BUILD [kvm|tcg] [MACHINE]: gdb on QEMU's stub, with gdb.py as its script and debugged.c as its guest. tcg: what the script expects
# holds with QEMU's own emulator as well.
build=${1:?usage: gdb.sh BUILD [kvm|tcg] [MACHINE]} accel=${2:-kvm} MACHINE=${3:-q35}
here=$(cd "$(dirname "$0")" && pwd)
for p in qemu-system-x86_64:qemu-system-x86 gdb:gdb; do
	command -v "${p%:*}" >/dev/null || { echo "skip: no ${p%:*} (Debian: ${p#*:})"; exit 77; }
done
if ldd "$build/usekvm" 2>/dev/null | grep -q libtsan; then
	echo "skip: QEMU's coroutines jump from stack to stack, which ThreadSanitizer takes for an error"
	exit 77
fi
launcher="$build/usekvm --" cpu=host
[ "$accel" = kvm ] || launcher= cpu=max
dir=$(mktemp -d)
qemu= gdb=
trap 'kill $qemu $gdb 2>/dev/null; rm -rf "$dir"' EXIT
export STUB="$dir/stub" MACHINE HERE="$here"
$launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M "$MACHINE" -m 64 -kernel "$build/tests/qemu/debugged.img" -nodefaults -display none \
	-no-reboot -chardev "file,id=c,path=$dir/console" -device isa-debugcon,iobase=0x3f8,chardev=c -device isa-debug-exit,iobase=0xf4,iosize=1 \
	-S -gdb "unix:$STUB,server=on,wait=off" >"$dir/qemu" 2>&1 </dev/null &
qemu=$!
while [ ! -S "$STUB" ] && kill -0 $qemu 2>/dev/null; do sleep 0.1; done
gdb -nx -nh -batch -x "$here/gdb.py" "$build/tests/qemu/debugged.img.d/elf" >"$dir/gdb" 2>&1 </dev/null &
gdb=$!
sent=
while kill -0 $gdb 2>/dev/null; do
	if [ -z "$sent" ] && grep -q '^spinning' "$dir/console" 2>/dev/null; then
		sent=1
		kill -INT $gdb
	fi
	sleep 0.1
done
wait $gdb
gdb_rc=$?
grep -q '^gdb: [0-9]* checks' "$dir/gdb" || kill $qemu 2>/dev/null
wait $qemu
rc=$?
gdb= qemu=
bad=0
[ $gdb_rc = 0 ] || { echo "gdb ends with exit code $gdb_rc"; bad=1; }
grep '^gdb: [0-9]* checks' "$dir/gdb" || bad=1
[ $rc = 1 ] || { echo "QEMU ends with exit code $rc: the guest's own checks did not all pass, or it did not end"; bad=1; } # isa-debug-exit: 2 * 0 + 1
grep '^FAIL' "$dir/console" && bad=1
[ $bad = 0 ] || { echo "--- gdb"; tail -n 20 "$dir/gdb"; echo "--- QEMU"; tail -n 5 "$dir/qemu"; echo "--- guest"; tail -n 20 "$dir/console"; }
exit $bad
