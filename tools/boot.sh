#!/bin/sh
# SPDX-License-Identifier: MIT
# boot.sh [--kernel=F] [--initrd=F] [--mem=MiB] [--accel=kvm|tcg] [--limit=SECONDS] [--keep-log=F] [--smp=N] [--hotplug] [--i386=686-pae|686] [--inject=LIST] MACHINE...
# Boots kernel and initramfs under usekvm on each machine (q35, pc, microvm, "q35,kernel-irqchip=split", ...) and checks what the
# guest says; with --inject=KIND[=N][,...] (usekvm's) also that each kind happened. 0: all as wanted; 77: something to run it with is missing; 1: what is wrong is printed, with the end of the console.
. "$(dirname "$0")/common.sh"
kernel=$cache/kernel/vmlinuz initrd=$cache/initramfs.gz mem=512 accel=${DEMO_ACCEL:-kvm} limit=600 keep= smp=1 hotplug= inject= i386=
while :; do
	case $1 in
	--kernel=*) kernel=${1#*=} ;;
	--initrd=*) initrd=${1#*=} ;;
	--mem=*) mem=${1#*=} ;;
	--accel=*) accel=${1#*=} ;;
	--limit=*) limit=${1#*=} ;;
	--keep-log=*) keep=${1#*=} ;;
	--smp=*) smp=${1#*=} ;;
	--inject=*) inject=${1#*=} ;;
	--i386=*) i386=${1#*=} ;; # Debian's 32-bit kernel of that name
	--hotplug) hotplug=1 ;; # the guest takes CPU 1 off line and back ten times
	-*) die "unknown option $1" ;;
	*) break ;;
	esac
	shift
done
[ $# -gt 0 ] || die "usage: boot.sh [options] MACHINE..."
command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64 (Debian: qemu-system-x86)"; exit 77; }
if [ -n "$i386" ]; then
	get_kernel_i386 "$i386"
	kernel=$cache/kernel-$i386/vmlinuz initrd=$cache/initramfs-i386.gz
	export BUSYBOX="$cache/busybox-i386"
fi
[ -f "$kernel" ] || { echo "skip: no guest kernel ($kernel): ./demo.sh fetches it"; exit 77; }
check_kernel "$kernel"
[ -f "$initrd" ] && { [ "${initrd#"$cache/initramfs"}" = "$initrd" ] || [ "$initrd" -nt "$top/tools/make-initramfs.sh" ]; } || "$top/tools/make-initramfs.sh" "$initrd" || exit 1
bad=0
for machine in "$@"; do
	console=${keep:-$cache/console-$$.log}
	mkdir -p "$(dirname "$console")"
	append="console=ttyS0 panic=-1 $BOOT_APPEND"
	[ -z "$hotplug" ] || append="$append usekvm.hotplug"
	case $machine in microvm*) append="$append reboot=t" ;; esac
	cpu=host
	launcher="$build/usekvm --" stats=$cache/stats-$$.txt
	[ -z "$inject" ] || launcher="$build/usekvm --inject=$inject --stats=$stats --"
	# With several CPUs an AMD guest distrusts a TSC that is not said to be invariant, and QEMU hides that from guests that may migrate.
	[ "$smp" = 1 ] || cpu=host,migratable=off,+invtsc
	[ "$accel" = tcg ] && cpu=max launcher=
	start=$(now_ms)
	timeout -k 5 "$limit" $launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M "$machine" -m "$mem" -smp "$smp" -nographic -no-reboot \
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
	grep -q "usekvm-guest: cpus $smp\b" "$console" || say_wrong "the guest does not say 'cpus $smp'"
	[ -z "$i386" ] || grep -q "usekvm-guest: uname .*-$i386 .* i686" "$console" || say_wrong "the guest's kernel is not the $i386 one"
	[ -z "$hotplug" ] || grep -q 'usekvm-guest: hotplug 10 of 10' "$console" || say_wrong "CPU 1 does not go off line and back ten times"
	if [ "$accel" = kvm ]; then
		grep -q 'Hypervisor detected: KVM' "$console" || say_wrong "no 'Hypervisor detected: KVM'"
		clock=kvm-clock # Linux prefers a TSC that is invariant and the same on all CPUs
		[ "$smp" = 1 ] || clock=tsc
		grep -q "usekvm-guest: clocksource $clock" "$console" || say_wrong "the clock source is not $clock"
	fi
	if [ -n "$inject" ]; then
		for kind in eintr wake kick nomem; do
			case ",$inject" in *",$kind"*) ;; *) continue ;; esac
			n=$(sed -n "s/^injected_$kind *//p" "$stats" 2>/dev/null)
			echo "$machine: $kind happened ${n:-0} times"
			[ "${n:-0}" -gt 0 ] || say_wrong "--inject=$inject does nothing"
		done
		rm -f "$stats"
	fi
	# What the kernel says of its host CPU's side-channel mitigations (hw-vuln, and what it was compiled without) is not about us.
	grep -a -E 'Kernel panic|BUG:|WARNING:|unstable|lost tick|stuck for' "$console" | grep -v -e 'bad lines' -e hw-vuln -e 'kernel not compiled with' && say_wrong "bad lines on the console"
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
