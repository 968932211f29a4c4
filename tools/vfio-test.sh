#!/bin/sh
# SPDX-License-Identifier: MIT
# vfio-test.sh [MODE...]: the KVM-VFIO device against the real VFIO driver. Boots Debian's kernel in QEMU's emulator (never /dev/kvm) with an
# Intel IOMMU and a PCI device, binds that to vfio-pci, and runs tests/vfio/vfio-real under usekvm in there, and vfio-inject under the library's
# debug build. MODE: coherent (the IOMMU has snoop control), noncoherent (it has not); both by default. Fetches the kernel and QEMU as demo.sh
# does; about a minute a mode.
# BUILD=DIR: a build folder that is ready. 0: all passed; 1: what failed is printed.
. "$(dirname "$0")/common.sh"
[ $# -gt 0 ] || set -- noncoherent coherent
mkdir -p "$cache"
need qemu-system-x86 busybox-static cpio
[ -n "$BUILD" ] || build_usekvm
get_kernel
tests="$build/tests/vfio/vfio-real $build/tests/vfio/vfio-inject"
for t in $tests; do [ -x "$t" ] || die "$t has not been built"; done
debug_lib=$("$top/tests/debug/with.sh" "$build") || die "the debug build of the library cannot be made: $debug_lib"
root=$(mktemp -d) initrd=$(mktemp)
trap 'rm -rf "$root" "$initrd"' EXIT

# copy_program FILE: and the libraries it is linked with, at the same places.
copy_program()
{
	ldd "$1" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p' | while read -r lib; do
		[ -e "$root$lib" ] && continue
		mkdir -p "$root${lib%/*}"
		cp -L "$lib" "$root$lib"
	done
}

# copy_module NAME: after those that its own "depends=" names, each once, in loading order.
copy_module()
{
	file=$(find "$cache/kernel/lib/modules" -name "$(echo "$1" | tr _ '?' | tr - '?').ko" | head -n 1)
	[ -n "$file" ] || die "the kernel has no module $1"
	[ -f "$root/modules/${file##*/}" ] && return
	for dep in $(tr '\0' '\n' <"$file" | sed -n 's/^depends=//p' | tr , ' '); do (copy_module "$dep") || exit 1; done
	cp "$file" "$root/modules/"
	echo "${file##*/}" >>"$root/modules/order"
}

mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/usekvm/debug"
cp "$(command -v busybox)" "$root/bin/busybox"
for a in sh mount cat insmod poweroff echo ls dmesg grep tail; do ln -s busybox "$root/bin/$a"; done
cp "$build/usekvm" "$build/libusekvm.so" $tests "$root/usekvm/"
cp "$debug_lib" "$root/usekvm/debug/"
for f in "$build/usekvm" "$build/libusekvm.so" "$debug_lib" $tests; do copy_program "$f"; done
mkdir -p "$root/modules"
copy_module vfio_iommu_type1
copy_module vfio-pci
cat >"$root/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r m; do insmod "/modules/$m" || echo "vfio-test: module $m cannot be loaded"; done </modules/order
dev=
for d in /sys/bus/pci/devices/*; do
	[ "$(cat $d/vendor):$(cat $d/device)" = 0x1234:0x11e8 ] && dev=${d##*/}
done
echo "vfio-test: device $dev in group $(ls -l /sys/bus/pci/devices/$dev/iommu_group)"
echo vfio-pci >/sys/bus/pci/devices/$dev/driver_override
echo $dev >/sys/bus/pci/drivers/vfio-pci/bind
ls /dev/vfio
mode=$(grep -o 'vfio.mode=[a-z]*' /proc/cmdline)
/usekvm/usekvm -- /usekvm/vfio-real "$dev" "${mode#*=}"
echo "vfio-test: exit code $?"
USEKVM_LEAK_CHECK=1 LD_PRELOAD=/usekvm/debug/libusekvm.so /usekvm/vfio-inject "$dev"
echo "vfio-test: injection: exit code $?"
dmesg | grep -E -i 'BUG:|WARNING:|Oops' | grep -v hw-vuln
poweroff -f
INIT
chmod 755 "$root/init"
(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -1n) >"$initrd" || die "the initramfs could not be made"

# -smap: QEMU before 9.1 lets an IRET of user mode read its stack as the supervisor, which then faults.
# no_timer_check: on a busy host the emulator's ticks come too late for the kernel's test of them, which would make it panic.
bad=0
for mode in "$@"; do
	case $mode in
	coherent) snoop=on ;;
	noncoherent) snoop=off ;;
	*) die "unknown mode $mode: coherent or noncoherent" ;;
	esac
	console=$cache/vfio-$mode.log
	start=$(now_ms)
	timeout -k 5 "${VFIO_LIMIT:-900}" qemu-system-x86_64 -accel tcg -cpu max,-smap -M q35,kernel-irqchip=split -m 1024 -nographic -no-reboot -nodefaults \
		-serial stdio -device "intel-iommu,intremap=on,snoop-control=$snoop" -device edu -kernel "$cache/kernel/vmlinuz" -initrd "$initrd" \
		-append "console=ttyS0 panic=-1 oops=panic no_timer_check intel_iommu=on vfio.mode=$mode" >"$console" 2>&1 </dev/null
	rc=$?
	if [ $rc = 0 ] && tr -d '\r' <"$console" | grep -qx 'vfio-test: exit code 0' &&
		tr -d '\r' <"$console" | grep -qx 'vfio-test: injection: exit code 0' && ! grep -E 'BUG:|Oops|cannot be loaded' "$console" | grep -v hw-vuln; then
		echo "vfio $mode: passed in $(secs $(($(now_ms) - start))) s"
	else
		bad=1
		echo "vfio $mode: FAILED (QEMU's exit code $rc); the console's last lines ($console):"
		tail -n 40 "$console" | tr -d '\r'
	fi
done
exit $bad
