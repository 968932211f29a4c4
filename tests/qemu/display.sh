#!/bin/sh
# SPDX-License-Identifier: MIT
# display.sh BUILD screen|sector [kvm|tcg]: the guest of that name draws on QEMU's VGA card; after each of its steps a screenshot must show
# exactly that. QEMU draws again what the dirty log says: a lost page stays as it was. Keys go to the guest through QEMU's keyboard.
build=${1:?usage: display.sh BUILD screen|sector [kvm|tcg]} guest=${2:?} accel=${3:-kvm}
command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64 (Debian: qemu-system-x86)"; exit 77; }
if ldd "$build/usekvm" 2>/dev/null | grep -q libtsan; then
	echo "skip: QEMU's coroutines jump from stack to stack, which ThreadSanitizer takes for an error"
	exit 77
fi
launcher="$build/usekvm --" cpu=host
[ "$accel" = kvm ] || launcher= cpu=max
steps=8
image="-kernel $build/tests/qemu/screen.img"
[ "$guest" = screen ] || { steps=3; image="-drive file=$build/tests/qemu/sector.img,format=raw,if=floppy,readonly=on"; }
dir=$(mktemp -d)
qemu=
trap 'kill $qemu 2>/dev/null; rm -rf "$dir"' EXIT
mkfifo "$dir/in"
: >"$dir/qmp"
: >"$dir/console"
$launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M pc -m 64 $image -nodefaults -display none -vga std -no-reboot \
	-chardev "file,id=c,path=$dir/console" -device isa-debugcon,iobase=0x3f8,chardev=c -device isa-debug-exit,iobase=0xf4,iosize=1 \
	-qmp stdio <"$dir/in" >"$dir/qmp" 2>&1 &
qemu=$!
exec 3>"$dir/in"
trap "" PIPE # QEMU may end first
wrong()
{
	echo "$*"
	echo "--- guest"
	cat "$dir/console"
	echo "--- QEMU"
	tail -n 5 "$dir/qmp" | cut -c1-300
	exit 1
}
# wait_for FILE TEXT
wait_for()
{
	until grep -q "$2" "$1"; do
		kill -0 $qemu 2>/dev/null || grep -q "$2" "$1" || wrong "QEMU has ended before '$2'"
		sleep 0.05
	done
}
id=0
# qmp COMMAND: waits for the answer.
qmp()
{
	id=$((id + 1))
	echo "{$1, \"id\": \"n$id\"}" >&3
	wait_for "$dir/qmp" "\"id\": \"n$id\""
	grep "\"id\": \"n$id\"" "$dir/qmp" | grep -q '"return"' || wrong "QMP refuses $1"
}
shot()
{
	qmp "\"execute\": \"screendump\", \"arguments\": {\"filename\": \"$dir/$1.ppm\"}"
}
qmp '"execute": "qmp_capabilities"'
shots=0
for step in $(seq 0 $steps); do
	# The last step of the big screen draws for a while: screenshots all the time, of which none may clear what the next must see.
	while [ $step = 8 ] && ! grep -q "drawn $step" "$dir/console"; do
		shot busy
		shots=$((shots + 1))
	done
	wait_for "$dir/console" "drawn $step"
	shot "$step"
	"$build/tests/qemu/picture" "$guest" "$step" "$dir/$step.ppm" || wrong "the screenshot of step $step is wrong"
	[ $step = 0 ] || ! cmp -s "$dir/$step.ppm" "$dir/$((step - 1)).ppm" || wrong "step $step changes nothing"
	echo '{"execute": "send-key", "arguments": {"keys": [{"type": "qcode", "data": "a"}]}}' >&3 # the last one ends QEMU, maybe before it answers
done
exec 3>&-
wait $qemu
rc=$?
qemu=
[ $rc = 1 ] || wrong "QEMU ends with exit code $rc" # isa-debug-exit: 2 * 0 + 1
[ "$guest" = sector ] || grep -q '^PASS' "$dir/console" || wrong "the guest says nothing"
echo "$((steps + 1)) screenshots as drawn, $shots while it was drawing"
