#!/bin/sh
# SPDX-License-Identifier: MIT
# Shows usekvm: installs what is missing, builds, and boots Debian's own kernel in Debian's own QEMU with -accel kvm.
# For Debian 12, as root or with sudo. Downloads stay in .cache/.
. "$(dirname "$0")/tools/common.sh"
usage="usage: ./demo.sh [--kernel=FILE] [--initrd=FILE] [--machine=q35|pc|microvm] [--mem=MiB] [--accel=kvm|tcg] [--shell]"
kernel= initrd= machine=q35 mem=512 accel=${DEMO_ACCEL:-kvm} extra=
for a in "$@"; do
	case $a in
	--kernel=*) kernel=${a#*=} ;;
	--initrd=*) initrd=${a#*=} ;;
	--machine=*) machine=${a#*=} ;;
	--mem=*) mem=${a#*=} ;;
	--accel=*) accel=${a#*=} ;;
	--shell) extra=usekvm.shell ;;
	-h | --help) echo "$usage"; exit 0 ;;
	*) echo "$usage" >&2; exit 2 ;;
	esac
done
case $mem in '' | *[!0-9]*) die "--mem=$mem is no number of MiB" ;; esac
[ "$mem" -ge 128 ] || die "--mem=$mem is too little: this kernel needs 128 MiB at least"
case $accel in kvm | tcg) ;; *) die "--accel=$accel: kvm or tcg" ;; esac
[ "$(uname -m)" = x86_64 ] || die "usekvm is for x86-64 Linux; this is $(uname -m)"
case $machine in q35* | pc* | microvm*) ;; *) die "--machine=$machine: no machine of this demo: q35, pc or microvm" ;; esac
[ -r /proc/meminfo ] || die "/proc is not mounted here: mount -t proc proc /proc"
avail=$(($(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1024))
[ "$avail" -gt $((mem + 200)) ] || die "the guest's $mem MiB and QEMU do not fit: $avail MiB are free. Try --mem=128"
[ -z "$kernel" ] || check_kernel "$kernel"
[ -z "$initrd" ] || [ -r "$initrd" ] || die "initrd $initrd cannot be read"
mkdir -p "$cache"

t0=$(now_ms)
need qemu-system-x86 busybox-static cpio gcc libc6-dev linux-libc-dev meson ninja-build pkg-config libzydis-dev libcmocka-dev
[ -n "$kernel" ] || { get_kernel; kernel=$cache/kernel/vmlinuz; }
t1=$(now_ms)
if [ "$accel" = kvm ]; then
	build_usekvm
	"$build/usekvm" doctor >"$cache/doctor.log" 2>&1 || { cat "$cache/doctor.log" >&2; die "usekvm cannot run here"; }
fi
t2=$(now_ms)
if [ -z "$initrd" ]; then
	initrd=$cache/initramfs.gz
	"$top/tools/make-initramfs.sh" "$initrd" || die "the initramfs could not be made"
fi
launcher="$build/usekvm --" cpu=host
[ "$accel" = tcg ] && launcher= cpu=max
append="console=ttyS0 panic=-1 $extra"
case $machine in microvm*) append="$append reboot=t" ;; esac
set -- qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M "$machine" -m "$mem" -nographic -no-reboot -nodefaults -serial mon:stdio \
	-kernel "$kernel" -initrd "$initrd" -append "$append"
say "$launcher $*"
log=$cache/demo-console.log
if [ -n "$extra" ]; then
	$launcher "$@"
	exit
fi
{ $launcher "$@" </dev/null 2>&1; echo "demo-exit $?"; } | tee "$log"
t3=$(now_ms)
tr -d '\r' <"$log" >"$log.txt"
rc=$(sed -n 's/^demo-exit //p' "$log.txt" | tail -n 1)
[ "$rc" = 0 ] || die "QEMU ended with exit code ${rc:-?} (console: $log)"
grep -q '^usekvm-guest: done' "$log.txt" || die "the guest did not reach the end of its script (console: $log)"
guest()
{
	sed -n "s/.*usekvm-guest: $1 //p" "$log.txt" | head -n 1
}
hv=$(grep -o 'Hypervisor detected: .*' "$log.txt" | head -n 1)
echo
echo "guest:      $(guest uname)"
echo "kernel:     ${hv:-no hypervisor line}"
echo "CPU model:  $(guest cpu)"
echo "clock:      $(guest clocksource)"
echo "seconds:    packages $(secs $((t1 - t0))), build $(secs $((t2 - t1))), boot to power-off $(secs $((t3 - t2)))"
echo "            (guest time: init after $(guest 'init runs at'), script done after $(guest 'done at'))"
if [ "$accel" = kvm ] && [ "$hv" != "Hypervisor detected: KVM" ]; then
	die "the guest did not find KVM"
fi
