#!/bin/sh
# SPDX-License-Identifier: MIT
# memory.sh [MiB]: what usekvm needs beyond the guest's RAM during a boot (MiB of guest RAM: 512), against the 32 MiB that it may besides its
# translated code, which is mapped twice. The most that
# QEMU has resident outside the guest's RAM, under usekvm, less the same of QEMU with TCG without its translation buffer.
. "$(dirname "$0")/../tools/common.sh"
mem=${1:-512} limit=32768
kernel=$cache/kernel/vmlinuz initrd=$cache/initramfs.gz
[ -f "$kernel" ] && [ -f "$initrd" ] && [ -x "$build/usekvm" ] || die "run ./demo.sh first"

# outside PID: resident KiB besides mappings of exactly the guest's size, of mappings that are writable and executable, and of translated code; and
# those of translated code
outside()
{
	awk -v guest=$((mem * 1024)) '
		/^[0-9a-f]+-[0-9a-f]+ / { perms = $2; code = /usekvm-code/ }
		/^Size:/ { size = $2 }
		/^Rss:/ { if (code) translated += $2; else if (size != guest && perms !~ /wx/) sum += $2; if (size == guest) seen = 1 }
		END { if (seen) print sum, translated + 0 }' "/proc/$1/smaps" 2>/dev/null
}
peak()
{
	max=0 code=0
	"$@" qemu-system-x86_64 $accel -M q35 -m "$mem" -nographic -no-reboot -nodefaults -serial stdio -kernel "$kernel" -initrd "$initrd" \
		-append "console=ttyS0 panic=-1" >"$cache/memory.console" 2>&1 </dev/null &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		set -- $(outside $pid)
		[ "${1:-0}" -le $max ] || max=$1
		[ "${2:-0}" -le $code ] || code=$2
		sleep 0.2
	done
	wait $pid
	grep -q 'usekvm-guest: done' "$cache/memory.console" && [ $max -gt 0 ] || die "the guest did not finish ($cache/memory.console)"
}
accel="-accel kvm -cpu host"
peak "$build/usekvm" --
ours=$max translated=$code
accel="-accel tcg -cpu max"
peak env
own=$((ours - max))
echo "resident outside the guest's $mem MiB: $ours KiB under usekvm, $max KiB with TCG; usekvm's own: $own KiB of the $limit KiB allowed, and $translated KiB of translated code"
[ $own -le $limit ]
