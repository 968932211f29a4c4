#!/bin/sh
# SPDX-License-Identifier: MIT
# leaks.sh BUILD: the API, device, xinterface and lifetime programs once more, under the debug build of the library with USEKVM_LEAK_CHECK: when the
# process exits and its descriptors are closed, no object, heap block or mapping may be left.
build=${1:?usage: leaks.sh BUILD}
with=$(dirname "$0")/with.sh
export USEKVM_LEAK_CHECK=1
out=$(mktemp) n=0 bad=0
trap 'rm -f "$out"' EXIT
"$with" "$build" "$build/tests/debug/inject" leak >"$out" 2>&1
rc=$?
[ $rc = 86 ] || { echo "a leak is not found (exit code $rc): the check does not work"; cat "$out"; exit 1; }
for t in "$build"/tests/api/* "$build"/tests/devices/device-* "$build"/tests/xinterface/* "$build"/tests/smp/fire; do
	[ -f "$t" ] && [ -x "$t" ] || continue
	n=$((n + 1))
	timeout 60 "$with" "$build" "$t" >"$out" 2>&1 </dev/null
	rc=$?
	[ $rc = 0 ] || [ $rc = 77 ] || { bad=1; echo "${t#"$build"/tests/}: exit code $rc"; tail -n 5 "$out"; }
done
[ $n -gt 50 ] || { echo "only $n programs found"; bad=1; }
[ $bad = 0 ] && echo "$n programs leave nothing"
exit $bad
