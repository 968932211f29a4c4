#!/bin/sh
# SPDX-License-Identifier: MIT
# boot-ovmf.sh [--accel=kvm|tcg] [--limit=SECONDS] [--smp=N] [--keep-log=F] [MACHINE]: Debian's UEFI firmware to its shell, on the serial line. There a variable
# is written to the flash, the machine reset, the variable read again in a second shell, the machine switched off.
. "$(dirname "$0")/common.sh"
accel=${DEMO_ACCEL:-kvm} limit=900 smp=2 keep=
while :; do
	case $1 in
	--accel=*) accel=${1#*=} ;;
	--limit=*) limit=${1#*=} ;;
	--smp=*) smp=${1#*=} ;;
	--keep-log=*) keep=${1#*=} ;;
	*) break ;;
	esac
	shift
done
machine=${1:-q35}
with_qemu "$accel"
serial_line
ovmf_firmware "$dir"
timeout -k 5 "$limit" $launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M "$machine" -m 256 -smp "$smp" $ovmf_options \
	-nodefaults -display none -serial stdio <"$dir/in" >"$console" 2>&1 &
serial_open
# shells TEXT N: waits until TEXT has come N times.
shells()
{
	while [ "$(tr '\r' '\n' <"$console" | grep -a -o "$1" | wc -l)" -lt "$2" ]; do
		kill -0 $qemu 2>/dev/null || return 1
		sleep 0.2
	done
}
# boot N COMMAND: waits for the Nth shell, types.
boot()
{
	shells 'in 5 seconds to skip' "$1" || return 1
	printf '\033' >&3
	shells 'Shell> ' "$2" || return 1
	say "shell $1 after $(secs $(($(now_ms) - start))) s"
}
guid=5d1a2f0c-9f1b-4f43-8d55-6b5d3a0c7e11
boot 1 1 && printf 'setvar UsekvmTest -guid %s -bs -rt -nv =4c616e64\r' $guid >&3 && shells 'Shell> ' 2 && printf 'reset\r' >&3 &&
	boot 2 3 && printf 'setvar UsekvmTest -guid %s\r' $guid >&3 && shells 'Shell> ' 4 && printf 'reset -s\r' >&3
wait $qemu
rc=$?
qemu=
exec 3>&-
bad=0
[ -z "$keep" ] || cp "$console" "$keep"
[ $rc = 0 ] || { echo "QEMU ends with exit code $rc (124: time limit)"; bad=1; }
[ "$(grep -a -c 'UEFI Interactive Shell' "$console")" = 2 ] || { echo "not two shells"; bad=1; }
# The second shell's answer: the bytes that the first one wrote.
tr -d '\r' <"$console" | grep -aq '4C 61 6E 64' || { echo "the variable is not what was written before the reset"; bad=1; }
[ $bad = 0 ] && echo "OVMF: two shells, a variable in flash, off in $(secs $(($(now_ms) - start))) s"
[ $bad = 0 ] || sed 's/\x1b\[[0-9;]*[A-Za-z]//g' "$console" | tr -d '\r' | tail -n 15
exit $bad
