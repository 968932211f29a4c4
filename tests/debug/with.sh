#!/bin/sh
# SPDX-License-Identifier: MIT
# with.sh BUILD [COMMAND...]: COMMAND under the debug build of the library: BUILD's own, or the one that a release build makes beside it. Without
# COMMAND it prints where that is.
build=${1:?usage: with.sh BUILD [COMMAND...]}
shift
lib=$build/libusekvm.so
if ! grep -q usekvm_inject "$lib"; then
	ninja -C "$build" tests/debug/libusekvm.so >"$build/debug.log" 2>&1 || { tail -n 20 "$build/debug.log"; exit 1; }
	lib=$build/tests/debug/libusekvm.so
fi
[ $# -gt 0 ] || { echo "$lib"; exit; }
# AddressSanitizer's library must come first to see the heap (tests/harness/run.sh).
asan=$(ldd "$lib" | sed -n 's/.*libasan[^ ]* => \([^ ]*\).*/\1/p')
exec env LD_PRELOAD="${asan:+$asan:}$lib" "$@"
