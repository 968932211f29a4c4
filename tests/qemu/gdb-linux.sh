#!/bin/sh
# SPDX-License-Identifier: MIT
# gdb-linux.sh BUILD [kvm|tcg]: gdb on QEMU's stub while Debian's kernel runs with two CPUs, linux.py its script. The guest says where two of its
# symbols are, then sets its hostname over and over until gdb has put another one into the system call.
. "$(dirname "$0")/../../tools/common.sh"
build=${1:?usage: gdb-linux.sh BUILD [kvm|tcg]} accel=${2:-kvm}
HERE=$top/tests/qemu kernel=$cache/kernel/vmlinuz initrd=$cache/initramfs.gz
command -v gdb >/dev/null || { echo "skip: no gdb (Debian: gdb)"; exit 77; }
with_qemu "$accel"
[ "$accel" = tcg ] || cpu=host,migratable=off,+invtsc # as boot.sh with several CPUs
[ -f "$kernel" ] || { echo "skip: no guest kernel ($kernel): ./demo.sh fetches it"; exit 77; }
[ "$initrd" -nt "$top/tools/make-initramfs.sh" ] || "$top/tools/make-initramfs.sh" "$initrd" || exit 1
dir=$(mktemp -d) lines=
qemu=
trap 'kill $qemu 2>/dev/null; rm -rf "$dir"' EXIT
: >"$dir/console"
export HERE STUB="$dir/stub" SETHOSTNAME UTS_NS
$launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M q35 -m 512 -smp 2 -nodefaults -display none -no-reboot -serial stdio -kernel "$kernel" \
	-initrd "$initrd" -append "console=ttyS0 panic=-1 usekvm.gdb" -gdb "unix:$STUB,server=on,wait=off" >"$dir/console" 2>&1 </dev/null &
qemu=$!
# symbol NAME
symbol()
{
	tr -d '\r' <"$dir/console" | sed -n "s/^usekvm-guest: symbol $1 //p"
}
until grep -aq 'symbol init_uts_ns.*[0-9a-f]' "$dir/console" || ! kill -0 $qemu 2>/dev/null; do sleep 0.2; done
SETHOSTNAME=$(symbol __x64_sys_sethostname) UTS_NS=$(symbol init_uts_ns)
gdb -nx -nh -batch -x "$HERE/linux.py" >"$dir/gdb" 2>&1 </dev/null
grep -q '^gdb: [0-9]* checks' "$dir/gdb" || kill $qemu 2>/dev/null
wait $qemu
rc=$?
qemu=
bad=0
grep '^gdb: [0-9]* checks' "$dir/gdb" || bad=1
[ $rc = 0 ] || { echo "QEMU ends with exit code $rc"; bad=1; }
[ "$accel" = tcg ] || lines='bad lines 0' # an emulator's TSC is bad
for want in enough "$lines" 'done at'; do
	grep -aq "usekvm-guest: $want" "$dir/console" || { echo "the guest does not say '$want'"; bad=1; }
done
[ $bad = 0 ] || { echo "--- gdb"; tail -n 15 "$dir/gdb"; echo "--- console"; tail -n 15 "$dir/console" | tr -d '\r'; }
exit $bad
