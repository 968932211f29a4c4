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
	rm -rf "$cache/kernel.new"
	mkdir -p "$cache/kernel.new"
	for d in "$cache"/deb/"${real%-unsigned}"*_amd64.deb; do
		dpkg-deb -x "$d" "$cache/kernel.new" || die "$d is no Debian package"
	done
	mv "$cache"/kernel.new/boot/vmlinuz-* "$cache/kernel.new/vmlinuz" || die "no vmlinuz in $real"
	[ -d "$cache/kernel.new/lib" ] || mv "$cache/kernel.new/usr/lib" "$cache/kernel.new/lib"
	rm -rf "$cache/kernel"
	mv "$cache/kernel.new" "$cache/kernel"
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

now_ms()
{
	t=$(date +%s%N)
	echo $((t / 1000000))
}
secs()
{
	printf '%d.%d' $(($1 / 1000)) $((($1 % 1000) / 100))
}
