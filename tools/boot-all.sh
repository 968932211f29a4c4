#!/bin/sh
# SPDX-License-Identifier: MIT
# boot-all.sh [N]: every machine N times (20), in turn, and each time the 32-bit kernels, UEFI firmware, memtest86+, the installer, and the disk
# images if tools/make-disk.sh has made them. Stops at nothing; ends with "N passed, N failed". At the end q35 with 4 and with 64 CPUs, once each,
# N live migrations to and fro and N snapshots on each of three machines, and tools/soak.sh for two minutes, plain and with faults injected.
. "$(dirname "$0")/common.sh"
n=${1:-20} pass=0 fail=0
for i in $(seq 1 "$n"); do
	for m in q35 pc microvm microvm,kernel-irqchip=on q35,kernel-irqchip=split pc,kernel-irqchip=split; do
		case $m in microvm) m=microvm,kernel-irqchip=split ;; esac
		if "$top/tools/boot.sh" "$m"; then pass=$((pass + 1)); else fail=$((fail + 1)); fi
	done
	for m in 686-pae 686; do
		if "$top/tools/boot.sh" --i386=$m q35; then pass=$((pass + 1)); else fail=$((fail + 1)); fi
	done
	for other in ovmf memtest installer; do
		if "$top/tools/boot-$other.sh"; then pass=$((pass + 1)); else fail=$((fail + 1)); fi
	done
	for efi in '' --efi; do
		[ -f "$cache/disk${efi:+-efi}.img" ] || continue
		if "$top/tools/boot-disk.sh" $efi; then pass=$((pass + 1)); else fail=$((fail + 1)); fi
	done
	say "round $i of $n: $pass passed, $fail failed"
done
for smp in 4 64; do
	if "$top/tools/boot.sh" --smp=$smp --limit=1800 q35; then pass=$((pass + 1)); else fail=$((fail + 1)); fi
done
for m in q35 q35,kernel-irqchip=split pc; do
	say "$n migrations and snapshots on $m"
	if python3 "$top/tests/qemu/migrate.py" --build="$build" --machine=$m --engines=auto,interp,translate --migrations="$n" --snapshots="$n"; then
		pass=$((pass + 1))
	else
		fail=$((fail + 1))
	fi
done
for more in --seed=1 --inject=eintr,wake,kick; do
	if "$top/tools/soak.sh" --minutes=2 $more; then pass=$((pass + 1)); else fail=$((fail + 1)); fi
done
echo "$pass passed, $fail failed"
[ $fail = 0 ]
