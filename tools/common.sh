# SPDX-License-Identifier: MIT
# Shared by the scripts (read with `.`): where things are, progress, errors, packages, the guest kernel.
top=$(cd "$(dirname "$0")" && while [ ! -f meson.build ] || [ ! -d tools ]; do [ "$PWD" = / ] && break; cd ..; done && pwd)
cache=$top/.cache
build=${BUILD:-$top/build}

say()
{
	printf '==> %s\n' "$*" >&2
}
die()
{
	printf '%s: error: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		die "this needs root for apt-get: run it as root, or install sudo"
	fi
}

apt_updated=
apt_update()
{
	[ -n "$apt_updated" ] && return
	command -v apt-get >/dev/null 2>&1 || die "no apt-get here: this script knows Debian only. Needed packages: $*"
	say "apt-get update"
	as_root apt-get -qq update >&2 || die "apt-get update failed: no network, or no package source in /etc/apt?"
	apt_updated=1
}

# need PACKAGE...: installs what is missing.
need()
{
	missing=
	for p in "$@"; do
		dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
	done
	[ -z "$missing" ] && return
	apt_update $missing
	say "installing$missing"
	mkdir -p "$cache"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >"$cache/apt.log" 2>&1 </dev/null ||
		{ tail -n 5 "$cache/apt.log" >&2; die "these packages could not be installed:$missing"; }
}

# Debian's cloud kernel, unpacked and not installed: $cache/kernel/vmlinuz, $cache/kernel/lib/modules.
get_kernel()
{
	[ -f "$cache/kernel/vmlinuz" ] && return
	apt_update linux-image-cloud-amd64
	say "fetching Debian's cloud kernel"
	mkdir -p "$cache/deb"
	real=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*cloud-amd64.*\)/\1/p' | head -n 1)
	[ -n "$real" ] || die "apt knows no linux-image-cloud-amd64: is this Debian with its main archive?"
	(cd "$cache/deb" && apt-get -qq download "$real" >&2) || die "$real could not be downloaded"
	unpack_kernel kernel "$cache"/deb/"${real%-unsigned}"*_amd64.deb
}

# get_package NAME: a Debian package, unpacked and not installed, in $cache/NAME.
get_package()
{
	[ -d "$cache/$1" ] && return
	say "fetching $1"
	mkdir -p "$cache/deb"
	rm -rf "$cache/$1.new"
	(cd "$cache/deb" && apt-get -qq download "$1" >&2) || { apt_update "$1" && (cd "$cache/deb" && apt-get -qq download "$1" >&2); } ||
		die "$1 could not be downloaded"
	dpkg-deb -x "$cache/deb/$1"_*.deb "$cache/$1.new" && rm "$cache/deb/$1"_*.deb && mv "$cache/$1.new" "$cache/$1" ||
		die "$1 could not be unpacked"
}

# unpack_kernel NAME PACKAGE-FILE...: $cache/NAME/vmlinuz, $cache/NAME/lib/modules.
unpack_kernel()
{
	to=$cache/$1
	shift
	rm -rf "$to.new"
	mkdir -p "$to.new"
	for d in "$@"; do
		dpkg-deb -x "$d" "$to.new" || die "$d is no Debian package"
	done
	mv "$to".new/boot/vmlinuz-* "$to.new/vmlinuz" || die "no vmlinuz in $*"
	[ -d "$to.new/lib" ] || mv "$to.new/usr/lib" "$to.new/lib"
	rm -rf "$to"
	mv "$to.new" "$to"
}

debian_mirror()
{
	sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p; s/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep debian | head -n 1
}

# apt_i386 COMMAND...: apt-get or apt-cache for Debian 12's 32-bit packages, with lists of its own, and so without root.
apt_i386()
{
	tool=$1
	shift
	dir=$cache/apt-i386
	if [ ! -f "$dir/sources" ]; then
		mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
		mirror=$(debian_mirror)
		echo "deb ${mirror:-http://deb.debian.org/debian} bookworm main" >"$dir/sources"
	fi
	"$tool" -qq -o APT::Architecture=i386 -o APT::Architectures=i386 -o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" \
		-o Dir::State::status=/dev/null -o Dir::Etc::sourcelist="$dir/sources" -o Dir::Etc::sourceparts=- -o Acquire::Languages=none \
		-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

# get_kernel_i386 FLAVOUR: Debian's 32-bit kernel in $cache/kernel-FLAVOUR (686-pae, or 686: no PAE), and $cache/busybox-i386.
get_kernel_i386()
{
	[ -f "$cache/kernel-$1/vmlinuz" ] && [ -f "$cache/busybox-i386" ] && return
	say "fetching Debian's $1 kernel"
	mkdir -p "$cache/deb"
	apt_i386 apt-get update >&2 || die "the list of 32-bit packages could not be had"
	real=$(apt_i386 apt-cache depends "linux-image-$1" | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\)/\1/p' | head -n 1)
	[ -n "$real" ] || die "apt knows no linux-image-$1 for i386"
	(cd "$cache/deb" && apt_i386 apt-get download "$real" busybox-static >&2) || die "$real and busybox-static could not be downloaded for i386"
	unpack_kernel "kernel-$1" "$cache/deb/$real"_*_i386.deb
	dpkg-deb --fsys-tarfile "$cache"/deb/busybox-static_*_i386.deb | tar -xO ./bin/busybox >"$cache/busybox-i386" && chmod 755 "$cache/busybox-i386" ||
		die "no busybox in busybox-static"
}

# ovmf_firmware DIR: Debian's OVMF, with variables of its own in DIR; QEMU's options for it in $ovmf_options.
ovmf_firmware()
{
	cp /usr/share/OVMF/OVMF_VARS.fd "$1/vars.fd" 2>/dev/null || { echo "skip: no UEFI firmware (Debian: ovmf)"; exit 77; }
	ovmf_options="-drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd -drive if=pflash,format=raw,unit=1,file=$1/vars.fd"
}

# A bzImage has "HdrS" at 0x202.
check_kernel()
{
	[ -r "$1" ] || die "kernel image $1 cannot be read"
	[ "$(dd if="$1" bs=1 skip=514 count=4 2>/dev/null)" = HdrS ] || die "$1 is no Linux kernel image (no bzImage header)"
}

build_usekvm()
{
	need gcc libc6-dev linux-libc-dev meson ninja-build pkg-config libzydis-dev libcmocka-dev
	say "building"
	[ -f "$build/build.ninja" ] || meson setup "$build" "$top" >"$top/.cache/meson.log" 2>&1 ||
		{ tail -n 20 "$top/.cache/meson.log" >&2; die "meson setup failed (.cache/meson.log)"; }
	ninja -C "$build" >"$top/.cache/ninja.log" 2>&1 || { tail -n 30 "$top/.cache/ninja.log" >&2; die "the build failed (.cache/ninja.log)"; }
}

# with_qemu kvm|tcg: what QEMU is started with: $launcher before its name, $cpu as the model. Ends the script as skipped if there is no QEMU.
with_qemu()
{
	command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64 (Debian: qemu-system-x86)"; exit 77; }
	launcher="$build/usekvm --" cpu=host
	[ "$1" = kvm ] || launcher= cpu=max
}

now_ms()
{
	t=$(date +%s%N)
	echo $((t / 1000000))
}
secs()
{
	printf '%d.%d' $(($1 / 1000)) $((($1 % 1000) / 100))
}

# A guest whose serial line is answered: serial_line makes $dir (which goes with the script, as the guest does), $dir/in to be its input and $console its output;
# serial_open, behind the command that starts it in the background, makes $qemu and descriptor 3 to write to it. $start: when.
serial_line()
{
	dir=$(mktemp -d)
	qemu=
	trap 'kill $qemu 2>/dev/null; rm -rf "$dir"' EXIT
	mkfifo "$dir/in"
	console=$dir/console
	: >"$console"
	start=$(now_ms)
}

serial_open()
{
	qemu=$!
	exec 3>"$dir/in"
	trap "" PIPE # QEMU may end first
}
