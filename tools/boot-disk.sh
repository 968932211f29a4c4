#!/bin/sh
# SPDX-License-Identifier: MIT
# boot-disk.sh [--efi] [--make] [--accel=kvm|tcg] [--limit=SECONDS] [IMAGE]: boots the image of tools/make-disk.sh through SeaBIOS (--efi:
# OVMF) and GRUB on virtio-blk with virtio-net user networking, waits for the root shell, asks for the address, powers off. The image itself
# is not changed. --make: makes the image first if it is not there.
. "$(dirname "$0")/common.sh"
accel=${DEMO_ACCEL:-kvm} limit=1200 efi= make=
while :; do
	case $1 in
	--accel=*) accel=${1#*=} ;;
	--limit=*) limit=${1#*=} ;;
	--efi) efi=--efi ;;
	--make) make=1 ;;
	*) break ;;
	esac
	shift
done
with_qemu "$accel"
image=${1:-$cache/disk${efi:+-efi}.img}
if [ -n "$make" ] && [ ! -f "$image" ]; then
	[ "$(id -u)" = 0 ] || { echo "skip: no disk image, and only root can make it (tools/make-disk.sh $efi)"; exit 77; }
	"$top/tools/make-disk.sh" $efi "$image" || exit 1
fi
[ -f "$image" ] || { echo "skip: no disk image ($image): tools/make-disk.sh $efi makes it"; exit 77; }
serial_line
console=$cache/console-disk${efi:+-efi}.log
: >"$console"
firmware=
if [ -n "$efi" ]; then
	ovmf_firmware "$dir"
	firmware=$ovmf_options
fi
timeout -k 5 "$limit" $launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M q35 -m 512 $firmware -nographic -no-reboot -nodefaults -serial stdio -snapshot \
	-drive "file=$image,if=virtio,format=raw" -netdev user,id=n -device virtio-net-pci,netdev=n <"$dir/in" >"$console" 2>&1 &
serial_open
sent=
while kill -0 $qemu 2>/dev/null; do
	if [ -z "$sent" ] && grep -aq 'root@usekvm' "$console"; then
		sent=1
		say "a shell after $(secs $(($(now_ms) - start))) s"
		printf '[ ! -d /sys/firmware/efi ] || echo "boot by" firmware: efi; for i in 1 2 3 4 5 6 7 8 9; do ip -4 addr show eth0 | grep -q 10.0.2 && break; sleep 2; done; echo address: $(ip -4 -o addr show eth0); poweroff\n' >&3
	fi
	sleep 1
done
wait $qemu
rc=$?
exec 3>&-
bad=0
[ $rc = 0 ] || { echo "QEMU ends with exit code $rc (124: time limit)"; bad=1; }
[ -n "$sent" ] || { echo "no login shell"; bad=1; }
grep -aq 'address: .*inet 10\.0\.2\.' "$console" || { echo "no address by DHCP on virtio-net"; bad=1; }
[ -z "$efi" ] || grep -aq 'boot by firmware: efi' "$console" || { echo "not booted by UEFI"; bad=1; }
[ "$accel" = tcg ] || grep -aq 'Hypervisor detected: KVM' "$console" || { echo "no 'Hypervisor detected: KVM'"; bad=1; }
grep -a -E 'Kernel panic|BUG:|WARNING:|unstable|lost tick|stuck for' "$console" | grep -v hw-vuln && bad=1
[ $bad = 0 ] && echo "disk${efi:+ by UEFI}: booted and powered off in $(secs $(($(now_ms) - start))) s"
[ $bad = 0 ] || tail -n 15 "$console"
exit $bad
