#!/bin/sh
# SPDX-License-Identifier: MIT
# boot.sh [ROUNDS]: the same kernel and initramfs to power-off under usekvm, QEMU's TCG and (if installed) Bochs, in turn;
# medians and ratios, and the guest instructions of a usekvm boot. Needs what ./demo.sh has fetched. SYSTEMS="usekvm tcg" chooses.
. "$(dirname "$0")/../tools/common.sh"
. "$(dirname "$0")/systems.sh"
rounds=${1:-5}
kernel=$cache/kernel/vmlinuz initrd=$cache/initramfs.gz
[ -f "$kernel" ] && [ -f "$initrd" ] && [ -x "$build/usekvm" ] || die "run ./demo.sh first"
find_systems
[ -z "$SYSTEMS" ] || systems=$SYSTEMS
rm -f "$dir"/*.ms
make_cd "$kernel" "$initrd"
for i in $(seq 1 "$rounds"); do
	for s in $systems; do
		rm -f "$dir/$s.console"
		t=$(now_ms)
		start_system "$s" "$kernel" "$initrd" "$dir/$s.console"
		ms=$(($(now_ms) - t))
		grep -aq 'usekvm-guest: done' "$dir/$s.console" || { say "round $i: $s did not finish ($dir/$s.console)"; continue; }
		echo "$ms" >>"$dir/$s.ms"
		say "round $i: $s $(secs $ms) s"
	done
done
failed=0
for s in $systems; do
	m=$(median "$dir/$s.ms")
	[ -n "$m" ] || { echo "$s: no result"; failed=1; continue; }
	case $s in usekvm | tcg) base=usekvm ;; *) base=usekvm-cd ;; esac
	b=$(median "$dir/$base.ms")
	echo "$s: median $(secs "$m") s of $(wc -l <"$dir/$s.ms"), $(ratio "$m" "${b:-0}") times $base"
done
usekvm_options="--stats=$dir/stats.txt"
start_system usekvm "$kernel" "$initrd" "$dir/usekvm.console"
grep -i -m 3 -E 'instructions|guest|time' "$dir/stats.txt"
exit $failed
