#!/bin/sh
# SPDX-License-Identifier: MIT
# `meson install` into a folder: the launcher finds its library there, and programs compile and link by the pkg-config file, with either library.
. "$(dirname "$0")/common.inc"
command -v meson >/dev/null || { echo "skip: no meson"; exit 77; }
DESTDIR=$tmp/root meson install -C "$build" --no-rebuild >"$tmp/log" 2>&1 || { tail "$tmp/log"; exit 1; }
bin=$(find "$tmp/root" -type f -name usekvm)
so=$(find "$tmp/root" -name libusekvm.so)
a=$(find "$tmp/root" -name libusekvm.a)
pc=$(find "$tmp/root" -name usekvm.pc)
for f in "$bin" "$so" "$a" "$pc"; do
	[ -f "$f" ] || { echo "not installed: launcher '$bin', shared '$so', static '$a', pkg-config '$pc'"; exit 1; }
done
for h in "$src"/include/usekvm/*.h; do
	[ -f "$(find "$tmp/root" -path "*/include/usekvm/${h##*/}")" ] || { echo "${h##*/} is not installed"; bad=1; }
done
gives "$so" env -u USEKVM_LIB "$bin" doctor
"$bin" -- "$build/tests/api/hello_real" >"$tmp/out" 2>&1 || { echo "a VM under the installed launcher fails:"; cat "$tmp/out"; bad=1; }

cat >"$tmp/p.c" <<'C'
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <unistd.h>
#include <usekvm/usekvm.h>
int main(void)
{
	int fd = usekvm_open(O_RDWR | O_CLOEXEC), vm = usekvm_ioctl(fd, KVM_CREATE_VM, 0);

	printf("version %d, vm %s\n", usekvm_ioctl(fd, KVM_GET_API_VERSION, 0), vm >= 0 ? "made" : "not made");
	return close(vm) | close(fd);
}
C
pkg()
{
	PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=$tmp/root pkg-config "$@" usekvm
}
flags=$(pkg --cflags) && libs=$(pkg --libs) && more=$(pkg --libs --static) || exit 1
cc=${CC:-cc}
$cc -o "$tmp/shared" "$tmp/p.c" $flags $libs || bad=1
gives '^version 12, vm made$' env LD_LIBRARY_PATH="$(dirname "$so")" "$tmp/shared"
rm "$so"
$cc -o "$tmp/with-archive" "$tmp/p.c" $flags $more || bad=1
gives '^version 12, vm made$' "$tmp/with-archive"
finish
