#!/bin/sh
# SPDX-License-Identifier: MIT
# Looking inside the translator: --log=translate:debug and --perf-map.
. "$(dirname "$0")/common.inc"
run="$build/tests/devices/device-units"
[ "$USEKVM_ENGINE" = interp ] && { echo "skip: the interpreter has no units"; exit 77; }

"$usekvm" --log=translate:debug --stats -- "$run" >"$tmp/out" 2>"$tmp/err" || { echo "the guest fails with --log=translate:debug"; bad=1; }
for want in 'unit [0-9]*: guest 100a, kernel' '(ways in) .*|' '100d sldt eax .*| .* mov r11d' '(ways out) .*|' 'done by the interpreter: sldt [0-9]* times'; do
	grep -q "$want" "$tmp/err" || { echo "no line '$want' with --log=translate:debug"; bad=1; }
done

# The guest's loop is at 100a.
printf '0000000000001000 T guest_start\n0000000000001008 d data\n00000000000a0000 T guest_end\n' >"$tmp/System.map"
sh -c 'echo $$ >"$1/pid"; exec "$2" --perf-map="$1/System.map" -- "$3"' x "$tmp" "$usekvm" "$run" >"$tmp/out" 2>&1 || { echo "the guest fails with --perf-map"; bad=1; }
map=/tmp/perf-$(cat "$tmp/pid").map
grep -q '^[0-9a-f]* [0-9a-f]* guest_start+0xa$' "$map" || { echo "no guest_start+0xa in the perf map"; bad=1; }
grep -q -v '^[0-9a-f]* [0-9a-f]* [a-z_]*\(+0x[0-9a-f]*\)\?$' "$map" && { echo "a strange line in the perf map"; bad=1; }
rm -f "$map"
sh -c 'echo $$ >"$1/pid"; exec "$2" --perf-map -- "$3"' x "$tmp" "$usekvm" "$run" >"$tmp/out" 2>&1 || { echo "the guest fails with --perf-map"; bad=1; }
map=/tmp/perf-$(cat "$tmp/pid").map
grep -q ' guest_100a$' "$map" || { echo "no guest_100a in the perf map"; bad=1; }
rm -f "$map"
# One that cannot be written: said once, and the guest runs.
sh -c 'mkdir "/tmp/perf-$$.map"; echo $$ >"$1/pid"; exec "$2" --perf-map -- "$3"' x "$tmp" "$usekvm" "$run" >"$tmp/out" 2>"$tmp/err" ||
	{ echo "the guest fails when the perf map cannot be written"; bad=1; }
rmdir "/tmp/perf-$(cat "$tmp/pid").map"
[ "$(grep -c 'no perf map' "$tmp/err")" = 1 ] || { echo "a perf map that cannot be written is not said once"; bad=1; }
refused nonzero 'System.map' "$usekvm" --perf-map="$tmp/nowhere" true
finish
