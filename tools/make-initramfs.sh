#!/bin/sh
# SPDX-License-Identifier: MIT
# make-initramfs.sh OUT: a busybox initramfs whose /init prints what the boot tests look for and powers off.
# Needs busybox-static and cpio; BUSYBOX=FILE for another busybox. Words on the kernel command line: "usekvm.shell": a shell instead of
# the power-off; "usekvm.hotplug": CPU 1 goes off line and comes back ten times; "usekvm.gdb": see tests/qemu/gdb-linux.sh.
set -e
out=${1:?usage: make-initramfs.sh OUT}
busybox=${BUSYBOX:-$(command -v busybox)} || { echo "make-initramfs.sh: error: no busybox: install busybox-static" >&2; exit 1; }
command -v cpio >/dev/null || { echo "make-initramfs.sh: error: no cpio: install cpio" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/bin" "$tmp/proc" "$tmp/sys" "$tmp/dev" "$tmp/root" "$(dirname "$out")"
cp "$busybox" "$tmp/bin/busybox"
for a in sh mount uname cat grep sed dmesg sleep poweroff reboot seq sha256sum dd wc head cut echo ls hostname; do
	ln -s busybox "$tmp/bin/$a"
done
cat >"$tmp/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
read up rest </proc/uptime
echo "usekvm-guest: init runs at $up s"
echo "usekvm-guest: uname $(uname -a)"
echo "usekvm-guest: hypervisor $(dmesg | grep -o 'Hypervisor detected: .*' | head -n 1)"
echo "usekvm-guest: clocksource $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "usekvm-guest: cpu $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"
echo "usekvm-guest: cpus $(grep -c ^processor /proc/cpuinfo)"
echo "usekvm-guest: memory $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
n=0
for i in $(seq 1 200); do n=$((n + i)); done
echo "usekvm-guest: sum $n"
echo "usekvm-guest: sha256 $(dd if=/dev/zero bs=4096 count=64 2>/dev/null | sha256sum | cut -c1-16)"
before=$(sed 's/\..*//' /proc/uptime)
sleep 1
after=$(sed 's/\..*//' /proc/uptime)
[ $((after - before)) -ge 1 ] && [ $((after - before)) -le 20 ] && echo "usekvm-guest: sleep works"
if grep -q usekvm.hotplug /proc/cmdline; then
	n=0
	cpu=/sys/devices/system/cpu/cpu1
	for i in $(seq 1 10); do
		echo 0 >$cpu/online
		gone=$(grep -c ^processor /proc/cpuinfo)
		echo 1 >$cpu/online
		[ $(($(grep -c ^processor /proc/cpuinfo) - gone)) = 1 ] && n=$((n + 1))
	done
	echo "usekvm-guest: hotplug $n of 10"
fi
if grep -q usekvm.gdb /proc/cmdline; then
	for s in __x64_sys_sethostname init_uts_ns; do
		echo "usekvm-guest: symbol $s $(sed -n "s/ [A-Za-z] $s\$//p" /proc/kallsyms)"
	done
	n=0
	until [ "$(hostname)" = enough ]; do
		n=$((n + 1))
		hostname "turn$n"
	done
	echo "usekvm-guest: enough"
fi
echo "usekvm-guest: bad lines $(dmesg | grep -v -e hw-vuln -e 'kernel not compiled with' | grep -c -i -E 'unstable|lost tick|stuck for|BUG:|WARNING:')"
read up rest </proc/uptime
echo "usekvm-guest: done at $up s"
if grep -q usekvm.shell /proc/cmdline; then
	echo "usekvm-guest: a shell; 'poweroff -f' ends it"
	exec sh
fi
poweroff -f
INIT
chmod 755 "$tmp/init"
(cd "$tmp" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -9n) >"$out.new"
mv "$out.new" "$out"
