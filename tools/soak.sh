#!/bin/sh
# SPDX-License-Identifier: MIT
# soak.sh [--minutes=60] [--seed=N] [--inject=LIST] [--code-cache=BYTES] [--machine=M]: Debian's kernel with two CPUs under Debian's stress-ng, while it is
# stopped, migrated to nowhere, squeezed, given a CPU and deprived of it (tests/qemu/soak.py says all of it). A line a minute. 0: nothing was wrong.
# Fetches stress-ng and the libraries it needs (12 MB) into .cache/ as demo.sh fetches the kernel; nothing of that is installed.
. "$(dirname "$0")/common.sh"
for a in "$@"; do
	case $a in
	--minutes=* | --seed=* | --inject=* | --code-cache=* | --machine=*) ;;
	*) die "unknown option $a: see the head of this file" ;;
	esac
done
mkdir -p "$cache"
need qemu-system-x86 busybox-static cpio python3
[ -n "$BUILD" ] || build_usekvm
get_kernel

# All packages that stress-ng needs, libc too, whatever is installed here.
get_stress()
{
	[ -x "$cache/stress/usr/bin/stress-ng" ] && return
	apt_update stress-ng
	say "fetching stress-ng and its libraries"
	mkdir -p "$cache/stress-deb/partial"
	rm -rf "$cache/stress.new"
	apt-get -qq install -y --no-install-recommends --download-only -o Dir::State::status=/dev/null -o "Dir::Cache::archives=$cache/stress-deb" \
		-o Debug::NoLocking=1 stress-ng >"$cache/stress.log" 2>&1 || { tail -n 5 "$cache/stress.log" >&2; die "stress-ng could not be downloaded"; }
	for d in "$cache"/stress-deb/*.deb; do dpkg-deb -x "$d" "$cache/stress.new" || die "$d is no Debian package"; done
	rm -rf "$cache/stress.new/usr/share" "$cache/stress"
	mv "$cache/stress.new" "$cache/stress"
}

# module NAME: after those that its own "depends=" names, each once, in loading order.
module()
{
	file=$(find "$cache/kernel/lib/modules" -name "$1.ko" | head -n 1)
	[ -n "$file" ] || die "the kernel has no module $1"
	[ -f "$root/modules/${file##*/}" ] && return
	for dep in $(tr '\0' '\n' <"$file" | sed -n 's/^depends=//p' | tr , ' '); do (module "$dep") || exit 1; done
	cp "$file" "$root/modules/"
	echo "${file##*/}" >>"$root/modules/order"
}

make_initrd()
{
	root=$(mktemp -d)
	mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/modules"
	cp "$(command -v busybox)" "$root/bin/busybox"
	for a in sh mount cat insmod poweroff echo ls dmesg grep tail head sed sleep seq kill rm; do ln -s busybox "$root/bin/$a"; done
	cp -a "$cache/stress/usr" "$cache/stress/lib" "$cache/stress/lib64" "$root/" || die "stress-ng's packages are not as expected"
	module virtio_pci
	module virtio_balloon
	cp "$top/tests/qemu/soak-init.sh" "$root/init"
	chmod 755 "$root/init"
	(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -1n) >"$1.new" || die "the initramfs could not be made"
	rm -rf "$root"
	mv "$1.new" "$1"
}

get_stress
make_initrd "$cache/soak-initramfs.gz"
exec python3 "$top/tests/qemu/soak.py" --build="$build" --kernel="$cache/kernel/vmlinuz" --initrd="$cache/soak-initramfs.gz" --folder="$cache/soak" "$@"
