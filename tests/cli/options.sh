#!/bin/sh
# SPDX-License-Identifier: MIT
# Options of the launcher, and `usekvm doctor`.
. "$(dirname "$0")/common.inc"
gives '^usage: usekvm' "$usekvm" --help
gives '^usekvm [0-9][0-9.]*$' "$usekvm" --version
gives 'Everything that usekvm needs is there' "$usekvm" doctor
refused 2 'COMMAND' "$usekvm"
refused 2 'COMMAND' "$usekvm" --
refused 2 "'--nonsense'" "$usekvm" --nonsense true
refused 2 "engine 'none'" "$usekvm" --engine=none true
refused 2 "not 'sometimes'" "$usekvm" --direct=sometimes true
refused 2 "not understood at .often,seed" "$usekvm" --inject=wake,often,seed=1 true
refused 2 "not understood at .eintr=0" "$usekvm" --inject=eintr=0 true
refused 2 "'--inject'" "$usekvm" --inject true
refused 2 "'--engine'" "$usekvm" --engine true
refused nonzero 'plug-in' "$usekvm" --plugin="$tmp/nowhere.so" true
gives '^--version$' "$usekvm" -- sh -c 'echo "$1"' x --version

# /dev/kvm is there for COMMAND, whether the host has one or not, and only there.
gives '^there$' "$usekvm" -- sh -c 'test -e /dev/kvm && test -c /dev/kvm && test -r /dev/kvm && test -w /dev/kvm && echo there'

# --stats as text and as JSON, to a file and to stderr; the VMM's stdout is its own.
run="$build/tests/api/hello_real"
"$usekvm" --stats="$tmp/stats.txt" -- "$run" >"$tmp/out" 2>"$tmp/err" || { echo "hello_real fails with --stats=FILE"; bad=1; }
grep -q -i 'instructions' "$tmp/stats.txt" || { echo "no instructions in --stats=FILE"; bad=1; }
"$usekvm" --stats -- "$run" >"$tmp/out" 2>"$tmp/err" || { echo "hello_real fails with --stats"; bad=1; }
grep -q -i 'instructions' "$tmp/err" || { echo "no instructions on stderr with --stats"; bad=1; }
if grep -q -i 'instructions' "$tmp/out"; then
	echo "statistics on stdout"
	bad=1
fi
finish
