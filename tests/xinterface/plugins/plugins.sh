#!/bin/sh
# SPDX-License-Identifier: MIT
# The example plug-ins in an unmodified VMM, and what a user gets wrong. Argument: the build folder.
b=$1
p=$b/tests/xinterface/plugins
out=$(mktemp) err=$(mktemp)
trap 'rm -f "$out" "$err"' EXIT
bad=0

fail()
{
	echo "not so: $1"
	cat "$out" "$err"
	bad=1
}
has()
{
	grep -q "$2" "$1" || fail "$2"
}

"$b/usekvm" --plugin="$b/examples/doorbell.so" --plugin="$b/examples/ring.so,0xfed20000" -- "$p/guest" >"$out" 2>"$err" || fail "the guest ends well"
has "$out" '^consumed 3, sum 3048$'
has "$out" '^exit at 0xfed10000, 2 bytes$'
[ "$(grep -c '^exit at' "$out")" = 1 ] || fail "one exit only"
# Two VMs: the second one rang nothing. The first is done later.
has "$err" '^doorbell: rung 102 times, 1 wrong$'
has "$err" '^doorbell: rung 0 times, 0 wrong$'
has "$err" '^ring: 3 buffers, 1008 bytes, sum 3048, 1 bad$'

# Without the plug-ins it is the VMM's.
"$b/usekvm" -- "$p/guest" >"$out" 2>"$err" || fail "the guest ends well alone"
[ "$(grep -c '^exit at' "$out")" = 105 ] || fail "105 exits"

# A plug-in that does not want a VM: said, and the VM goes on.
"$b/usekvm" --plugin="$b/examples/doorbell.so,0x10:3" -- "$p/guest" >"$out" 2>"$err" || fail "a plug-in may refuse"
has "$err" 'doorbell: does not take this VM: Invalid argument'

# Errors that are known before the start.
"$b/usekvm" --plugin=/nowhere/x.so -- "$p/guest" >"$out" 2>"$err"
[ $? = 126 ] || fail "exit status 126"
has "$err" "plug-in '/nowhere/x.so': No such file"
"$b/usekvm" --plugin="$0" -- "$p/guest" >"$out" 2>"$err"
[ $? = 126 ] || fail "exit status 126"
has "$err" 'is not a 64-bit x86 shared object'
"$b/usekvm" --plugin -- "$p/guest" >"$out" 2>"$err"
[ $? = 2 ] || fail "exit status 2"

# Errors that only loading shows: no VM.
"$b/usekvm" --plugin="$p/bad.so" -- "$p/guest" >"$out" 2>"$err" && fail "a wrong version"
has "$err" 'bad.so: is made for another version'
"$b/usekvm" --plugin="$b/libusekvm.so" -- "$p/guest" >"$out" 2>"$err" && fail "no plug-in"
has "$err" 'has no symbol usekvm_plugin'
exit $bad
