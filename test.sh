#!/bin/sh
# SPDX-License-Identifier: MIT
# All tests, after the same set-up as demo.sh. The last line is "N passed, N failed"; non-zero if any failed.
#   ./test.sh [WORD...]         only tests whose name has a word: api/ unit/ cli/ guest/ fuzz/ boot/ ...
#   KVM_REFEREE=1 ./test.sh     the API tests on the kernel's /dev/kvm as well; NO_BOOT=1, NO_FUZZ=1 leave those out
. "$(dirname "$0")/tools/common.sh"
mkdir -p "$cache"
need gcc libc6-dev linux-libc-dev meson ninja-build pkg-config libzydis-dev libcmocka-dev qemu-system-x86 busybox-static cpio gdb python3 ovmf
build_usekvm
if [ -z "$NO_BOOT" ]; then
	get_kernel
	"$top/tools/make-initramfs.sh" "$cache/initramfs.gz" || die "the initramfs could not be made"
fi
exec "$top/tests/harness/run.sh" "$build" "$@"
