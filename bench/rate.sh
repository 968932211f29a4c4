#!/bin/sh
# SPDX-License-Identifier: MIT
# rate.sh [ROUNDS]: loops with known numbers of instructions (bench/loops.c) in the same Linux guest under usekvm, TCG and Bochs; the time is the
# host's, between the guest's lines on its serial port. Millions a second, medians, and usekvm's part of each. Needs what ./demo.sh has fetched.
. "$(dirname "$0")/../tools/common.sh"
. "$(dirname "$0")/systems.sh"
rounds=${1:-3}
kernel=$cache/kernel/vmlinuz initrd=$dir/loops.gz
[ -f "$kernel" ] && [ -x "$build/usekvm" ] || die "run ./demo.sh first"
find_systems
case $systems in *bochs) systems="usekvm tcg bochs" ;; *) systems="usekvm tcg" ;; esac
[ -z "$SYSTEMS" ] || systems=$SYSTEMS
mkdir -p "$dir/loops/dev"
gcc -O2 -static -o "$dir/loops/init" "$(dirname "$0")/loops.c" || die "bench/loops.c does not compile"
[ -c "$dir/loops/dev/console" ] || mknod "$dir/loops/dev/console" c 5 1 2>/dev/null || say "no device node made (not root): the guest's /dev comes from devtmpfs"
(cd "$dir/loops" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1) >"$initrd"
saved=$systems
systems="$systems x-cd"
make_cd "$kernel" "$initrd"
systems=$saved
rm -f "$dir"/rate.*
for i in $(seq 1 "$rounds"); do
	for s in $systems; do
		rm -f "$dir/pipe"
		mkfifo "$dir/pipe"
		while IFS= read -r line; do
			case $line in
			'mark '*) t=$(date +%s%N) ;;
			'done '*)
				now=$(date +%s%N)
				set -- $line
				n=$(echo "$3" | tr -d "\r")
				echo $((n * 1000000 / ((now - t) / 1000))) >>"$dir/rate.$s.$2"
				;;
			esac
		done <"$dir/pipe" &
		start_system "$s" "$kernel" "$initrd" "$dir/pipe"
		wait
		say "round $i: $s"
	done
done
failed=0
printf '%-10s' 'a second'
printf '%14s' $systems
echo
for l in alu memory calls vector vecmem syscalls faults forks; do
	printf '%-10s' $l
	for s in $systems; do
		m=$(median "$dir/rate.$s.$l")
		[ -n "$m" ] || failed=1
		case $l in
		alu | memory | calls | vector | vecmem) printf '%12s M' "$(secs $((${m:-0} / 1000)))" ;;
		*) printf '%14s' "${m:-?}" ;;
		esac
	done
	echo
done
exit $failed
