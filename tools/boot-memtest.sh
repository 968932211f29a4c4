#!/bin/sh
# SPDX-License-Identifier: MIT
# boot-memtest.sh [--accel=kvm|tcg] [--limit=SECONDS] [--smp=N] [--mem=MiB] [--until=TEST] [--keep-log=F] [x64|ia32]: Debian's memtest86+, which tests the
# guest's memory with each of its tests up to number TEST (7) and must find no error; then it is told to end. Fetches the package.
. "$(dirname "$0")/common.sh"
accel=${DEMO_ACCEL:-kvm} limit=900 smp=2 mem=16 until=7 keep=
while :; do
	case $1 in
	--accel=*) accel=${1#*=} ;;
	--limit=*) limit=${1#*=} ;;
	--smp=*) smp=${1#*=} ;;
	--mem=*) mem=${1#*=} ;;
	--until=*) until=${1#*=} ;;
	--keep-log=*) keep=${1#*=} ;;
	*) break ;;
	esac
	shift
done
bits=${1:-x64}
with_qemu "$accel"
get_package memtest86+
image=$cache/memtest86+/boot/memtest86+$bits.bin
[ -f "$image" ] || die "the package memtest86+ has no $image"
serial_line
timeout -k 5 "$limit" $launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M q35 -m "$mem" -smp "$smp" -nodefaults -display none -vga std -no-reboot \
	-serial stdio -kernel "$image" -append console=ttyS0,115200 <"$dir/in" >"$console" 2>&1 &
serial_open
# What the screen says, each update of a field on a line of its own.
screen()
{
	sed 's/\x1b\[[0-9;?]*[A-Za-z]/\n/g' "$console"
}
tests()
{
	screen | grep -a -o '^ *#[0-9]* *\[.*\]' | sed 's/^ *//' | uniq
}
while kill -0 $qemu 2>/dev/null; do
	screen | grep -aq 'Errors: *[1-9]' && break
	[ "$(tests | tail -n 1 | sed 's/#\([0-9]*\).*/\1/')" -ge "$until" ] 2>/dev/null && break
	sleep 1
done
took=$(($(now_ms) - start))
printf '\033' >&3 # it ends with a reset
wait $qemu
rc=$?
qemu=
exec 3>&-
[ -z "$keep" ] || cp "$console" "$keep"
bad=0
[ $rc = 0 ] || { echo "QEMU ends with exit code $rc (124: time limit)"; bad=1; }
screen | grep -a 'Errors: *[1-9]' && bad=1
screen | grep -aq 'Errors: *0' || { echo "it says nothing of errors"; bad=1; }
screen | grep -aq "CPU: $smp Cores" || { echo "it does not see $smp CPUs"; bad=1; }
[ "$(tests | tail -n 1 | sed 's/#\([0-9]*\).*/\1/')" -ge "$until" ] 2>/dev/null || { echo "test $until was not reached"; bad=1; }
[ $bad = 0 ] && echo "memtest86+ $bits: $(tests | tail -n 1) after $(secs $took) s, no errors"
[ $bad = 0 ] || screen | grep -av '^ *$' | tail -n 15
exit $bad
