#!/bin/sh
# SPDX-License-Identifier: MIT
# boot-disk.sh [--accel=kvm|tcg] [--limit=SECONDS] [IMAGE]: boots the image of tools/make-disk.sh through SeaBIOS and GRUB on virtio-blk with
# virtio-net user networking, waits for the root shell, asks for the address, powers off. The image itself is not changed.
. "$(dirname "$0")/common.sh"
accel=${DEMO_ACCEL:-kvm} limit=1200
while :; do
	case $1 in
	--accel=*) accel=${1#*=} ;;
	--limit=*) limit=${1#*=} ;;
	*) break ;;
	esac
	shift
done
image=${1:-$cache/disk.img}
[ -f "$image" ] || { echo "skip: no disk image ($image): tools/make-disk.sh makes it"; exit 77; }
console=$cache/console-disk.log launcher="$build/usekvm --" cpu=host
[ "$accel" = tcg ] && launcher= cpu=max
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkfifo "$dir/in"
: >"$console"
start=$(now_ms)
timeout -k 5 "$limit" $launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M q35 -m 512 -nographic -no-reboot -nodefaults -serial stdio -snapshot \
	-drive "file=$image,if=virtio,format=raw" -netdev user,id=n -device virtio-net-pci,netdev=n <"$dir/in" >"$console" 2>&1 &
qemu=$!
exec 3>"$dir/in"
sent=
while kill -0 $qemu 2>/dev/null; do
	if [ -z "$sent" ] && grep -aq 'root@usekvm' "$console"; then
		sent=1
		say "a shell after $(secs $(($(now_ms) - start))) s"
		printf 'for i in 1 2 3 4 5 6 7 8 9; do ip -4 addr show eth0 | grep -q 10.0.2 && break; sleep 2; done; echo address: $(ip -4 -o addr show eth0); poweroff\n' >&3
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
[ "$accel" = tcg ] || grep -aq 'Hypervisor detected: KVM' "$console" || { echo "no 'Hypervisor detected: KVM'"; bad=1; }
grep -a -E 'Kernel panic|BUG:|WARNING:|unstable|lost tick|stuck for' "$console" | grep -v hw-vuln && bad=1
[ $bad = 0 ] && echo "disk: booted and powered off in $(secs $(($(now_ms) - start))) s"
[ $bad = 0 ] || tail -n 15 "$console"
exit $bad
