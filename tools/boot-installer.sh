#!/bin/sh
# SPDX-License-Identifier: MIT
# boot-installer.sh [--accel=kvm|tcg] [--limit=SECONDS] [--keep-log=F]: kernel and initrd of Debian's installer, as the package debian-installer-12-netboot-amd64
# has them. It is answered on the serial line until it has found its network by DHCP and asks for the machine's name.
. "$(dirname "$0")/common.sh"
accel=${DEMO_ACCEL:-kvm} limit=900 keep=
for a in "$@"; do
	case $a in
	--accel=*) accel=${a#*=} ;;
	--limit=*) limit=${a#*=} ;;
	--keep-log=*) keep=${a#*=} ;;
	*) die "unknown option $a" ;;
	esac
done
with_qemu "$accel"
get_package debian-installer-12-netboot-amd64
images=$cache/debian-installer-12-netboot-amd64/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64
check_kernel "$images/linux"
serial_line
timeout -k 5 "$limit" $launcher qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -M q35 -m 1200 -nodefaults -display none -no-reboot -serial stdio \
	-netdev user,id=n -device virtio-net-pci,netdev=n -kernel "$images/linux" -initrd "$images/initrd.gz" \
	-append "console=ttyS0 DEBIAN_FRONTEND=text" <"$dir/in" >"$console" 2>&1 &
serial_open
# asks TEXT: waits for the question.
asks()
{
	until grep -aq "$1" "$console"; do
		kill -0 $qemu 2>/dev/null || return 1
		sleep 0.5
	done
	say "'$1' after $(secs $(($(now_ms) - start))) s"
}
answer()
{
	sleep 1
	printf '%s\r' "$1" >&3
}
bad=0
asks 'Select a language' && answer '' && asks 'Select your location' && answer '' && asks 'Configure the keyboard' && answer '' &&
	asks 'Configure the network' && asks 'Please enter the hostname' || { echo "the installer does not come that far"; bad=1; }
kill $qemu 2>/dev/null # it would go on to a mirror
wait $qemu
qemu=
exec 3>&-
[ -z "$keep" ] || cp "$console" "$keep"
[ "$accel" = tcg ] || grep -aq 'Hypervisor detected: KVM' "$console" || { echo "no 'Hypervisor detected: KVM'"; bad=1; }
grep -a -E 'Kernel panic|BUG:|WARNING:|unstable|lost tick|stuck for' "$console" | grep -v hw-vuln && bad=1
[ $bad = 0 ] && echo "installer: asks for the hostname after $(secs $(($(now_ms) - start))) s"
[ $bad = 0 ] || tail -n 15 "$console" | tr -d '\r'
exit $bad
