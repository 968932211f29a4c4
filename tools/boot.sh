#!/bin/sh
# SPDX-License-Identifier: MIT
# boot.sh [--kernel=F] [--initrd=F] [--mem=MiB] [--accel=kvm|tcg] [--limit=SECONDS] [--keep-log=F] MACHINE...
# Boots kernel and initramfs under usekvm on each machine (q35, pc, microvm, "q35,kernel-irqchip=split", ...) and checks what the
# guest says. 0: all as wanted; 77: something to run it with is missing; 1: what is wrong is printed, with the end of the console.
. "$(dirname "$0")/common.sh"
kernel=$cache/kernel/vmlinuz initrd=$cache/initramfs.gz mem=512 accel=${DEMO_ACCEL:-kvm} limit=600 keep=
while :; do
	case $1 in
	--kernel=*) kernel=${1#*=} ;;
	--initrd=*) initrd=${1#*=} ;;
	--mem=*) mem=${1#*=} ;;
	--accel=*) accel=${1#*=} ;;
	--limit=*) limit=${1#*=} ;;
	--keep-log=*) keep=${1#*=} ;;
	-*) die "unknown option $1" ;;
	*) break ;;
	esac
	shift
done
[ $# -gt 0 ] || die "usage: boot.sh [options] MACHINE..."
command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64 (Debian: qemu-system-x86)"; exit 77; }
[ -f "$kernel" ] || { echo "skip: no guest kernel ($kernel): ./demo.sh fetches it"; exit 77; }
check_kernel "$kernel"
[ -f "$initrd" ] || "$top/tools/make-initramfs.sh" "$initrd" || exit 1
bad=0
for machine in "$@"; do
	console=${keep:-$cache/console-$$.log}
	mkdir -p "$(dirname "$console")"
	append="console=ttyS0 panic=-1 $BOOT_APPEND"
	case $machine in microvm*) append="$append reboot=t" ;; esac
	cpu=host
	launcher="$build/usekvm --"
	[ "$accel" = tcg ] && cpu=max launcher=
	start=$(now_ms)
	timeout -k 5 "$limit" $launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M "$machine" -m "$mem" -nographic -no-reboot \
		-nodefaults -serial stdio -kernel "$kernel" -initrd "$initrd" -append "$append" $BOOT_EXTRA >"$console" 2>&1 </dev/null
	rc=$?
	took=$(($(now_ms) - start))
	wrong=
	say_wrong()
	{
		wrong=1
		echo "$machine: $*"
	}
	if [ $rc = 124 ]; then
		say_wrong "hangs: not done after $limit s"
	elif [ $rc != 0 ]; then
		say_wrong "QEMU ends with exit code $rc"
	fi
	for want in 'init runs' 'uname Linux' 'sum 20100' 'sha256 8a39d2abd3999ab7' 'sleep works' 'bad lines 0' 'done at'; do
		grep -q "usekvm-guest: $want" "$console" || say_wrong "the guest does not say '$want'"
	done
	if [ "$accel" = kvm ]; then
		grep -q 'Hypervisor detected: KVM' "$console" || say_wrong "no 'Hypervisor detected: KVM'"
		grep -q 'usekvm-guest: clocksource kvm-clock' "$console" || say_wrong "the clock source is not kvm-clock"
	fi
	# What the kernel says of its host CPU's side-channel mitigations (hw-vuln) is not about us.
	grep -E -i 'Kernel panic|BUG:|WARNING:|unstable|lost tick|stuck for' "$console" | grep -v -e 'bad lines' -e hw-vuln && say_wrong "bad lines on the console"
	if [ -n "$wrong" ]; then
		bad=1
		echo "--- the console's last lines"
		tail -n 15 "$console" | tr -d '\r'
		[ -n "$keep" ] || cp "$console" "$cache/console-failed.log"
	else
		echo "$machine: booted and powered off in $(secs $took) s"
	fi
	[ -n "$keep" ] || rm -f "$console"
done
exit $bad
