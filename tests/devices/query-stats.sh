#!/bin/sh
# SPDX-License-Identifier: MIT
# query-stats.sh USEKVM: QEMU's query-stats and query-stats-schemas over QMP show our counters, of the VM and of both vCPUs, and they move.
usekvm=${1:?usage: query-stats.sh USEKVM}
command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64 (Debian: qemu-system-x86)"; exit 77; }
if ldd "$usekvm" 2>/dev/null | grep -q libtsan; then
	echo "skip: QEMU's coroutines jump from stack to stack, which ThreadSanitizer takes for an error"
	exit 77
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
{
	echo '{"execute":"qmp_capabilities"}'
	echo '{"execute":"query-stats-schemas","id":"schemas"}'
	echo '{"execute":"query-stats","arguments":{"target":"vm"},"id":"before"}'
	echo '{"execute":"cont"}'
	sleep 3
	echo '{"execute":"query-stats","arguments":{"target":"vm"},"id":"vm"}'
	echo '{"execute":"query-stats","arguments":{"target":"vcpu","providers":[{"provider":"kvm","names":["instructions","exit_io"]}]},"id":"vcpu"}'
	sleep 1
	echo '{"execute":"quit"}'
} | timeout 60 "$usekvm" -- qemu-system-x86_64 -accel kvm -M q35 -cpu host -smp 2 -m 64 -display none -nodefaults -S -qmp stdio >"$out" 2>&1
bad=0
want()
{
	grep -E -q "$1" "$out" || { echo "the answers lack: $1"; bad=1; }
}
# number ID NAME: the value in that answer, summed over its objects; empty if it is not there
number()
{
	grep "\"id\": \"$1\"" "$out" | grep -o "\"name\": \"$2\", \"value\": [0-9]*\|\"value\": [0-9]*, \"name\": \"$2\"" | grep -o '[0-9][0-9]*' | awk '{ n += $1 } END { if (NR) print n }'
}
want '"provider": "kvm".*"id": "schemas"|"id": "schemas".*"provider": "kvm"'
want '"name": "tlb_fills"'
want '"name": "guest_time"'
want '/machine/unattached/device\[[0-9]*\].*/machine/unattached/device\[[0-9]*\]'
[ "$(number before instructions)" = 0 ] || { echo "a VM that has not run has executed '$(number before instructions)' instructions"; bad=1; }
[ "$(number vm instructions)" -gt 1000 ] 2>/dev/null || { echo "after 3 s '$(number vm instructions)' instructions"; bad=1; }
[ "$(number vcpu exit_io)" -gt 10 ] 2>/dev/null || { echo "after 3 s '$(number vcpu exit_io)' port exits"; bad=1; }
[ $bad = 0 ] || cut -c1-600 "$out"
exit $bad
