#!/bin/sh
# SPDX-License-Identifier: MIT
# The boot scripts can fail: what is not a kernel, a guest that never ends, a VMM that does not start. And QEMU's own complaints reach the user.
. "$(dirname "$0")/common.inc"
export BUILD="$build"
command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64 (Debian: qemu-system-x86)"; exit 77; }
refused nonzero 'is no Linux kernel image' "$src/tools/boot.sh" --kernel=/etc/passwd q35
# A boot sector that jumps to itself under a bzImage header is enough for the scripts' check.
{
	head -c 514 /dev/zero
	printf HdrS
	head -c 30000 /dev/zero
} >"$tmp/kernel"
: >"$tmp/initrd"
checks=$((checks + 1))
"$src/tools/boot.sh" --kernel="$tmp/kernel" --initrd="$tmp/initrd" --limit=5 q35 >"$tmp/out" 2>&1 && { echo "boot.sh passes a kernel that does nothing"; bad=1; }
grep -q "the guest does not say 'init runs'" "$tmp/out" || { echo "boot.sh does not say what is missing:"; cat "$tmp/out"; bad=1; }
checks=$((checks + 1))
"$src/tools/boot.sh" --kernel="$tmp/kernel" --initrd="$tmp/initrd" --limit=5 toaster >"$tmp/out" 2>&1 && { echo "boot.sh passes an unknown machine"; bad=1; }
grep -q 'unsupported machine type' "$tmp/out" || { echo "QEMU's message is lost:"; cat "$tmp/out"; bad=1; }
refused 1 'could not load kernel\|cannot open\|qemu' "$usekvm" -- qemu-system-x86_64 -accel kvm -display none -m 64 -kernel "$tmp/nowhere"
finish
