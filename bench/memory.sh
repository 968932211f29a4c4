#!/bin/sh
# SPDX-License-Identifier: MIT
# memory.sh [MiB]: what usekvm needs beyond the guest's RAM during a boot (MiB of guest RAM: 512), against the 32 MiB that it may. The most that
# QEMU has resident outside the guest's RAM, under usekvm, less the same of QEMU with TCG without its translation buffer.
. "$(dirname "$0")/../tools/common.sh"
mem=${1:-512} limit=32768
kernel=$cache/kernel/vmlinuz initrd=$cache/initramfs.gz
[ -f "$kernel" ] && [ -f "$initrd" ] && [ -x "$build/usekvm" ] || die "run ./demo.sh first"

# outside PID: resident KiB besides mappings of exactly the guest's size and of mappings that are writable and executable
outside()
{
	awk -v guest=$((mem * 1024)) '
		/^[0-9a-f]+-[0-9a-f]+ / { perms = $2 }
		/^Size:/ { size = $2 }
		/^Rss:/ { if (size != guest && perms !~ /wx/) sum += $2; if (size == guest) seen = 1 }
		END { if (seen) print sum }' "/proc/$1/smaps" 2>/dev/null
}
peak()
{
	max=0
	"$@" qemu-system-x86_64 $accel -M q35 -m "$mem" -nographic -no-reboot -nodefaults -serial stdio -kernel "$kernel" -initrd "$initrd" \
		-append "console=ttyS0 panic=-1" >"$cache/memory.console" 2>&1 </dev/null &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		now=$(outside $pid)
		[ "${now:-0}" -le $max ] || max=$now
		sleep 0.2
	done
	wait $pid
	grep -q 'usekvm-guest: done' "$cache/memory.console" && [ $max -gt 0 ] || die "the guest did not finish ($cache/memory.console)"
}
accel="-accel kvm -cpu host"
peak "$build/usekvm" --
ours=$max
accel="-accel tcg -cpu max"
peak env
own=$((ours - max))
echo "resident outside the guest's $mem MiB: $ours KiB under usekvm, $max KiB with TCG; usekvm's own: $own KiB of the $limit KiB allowed"
[ $own -le $limit ]
