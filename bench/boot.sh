#!/bin/sh
# SPDX-License-Identifier: MIT
# boot.sh [ROUNDS]: the same kernel and initramfs to power-off under usekvm, QEMU's TCG and (if installed, with grub-mkrescue) Bochs, in turn;
# medians and ratios. Needs what ./demo.sh has fetched.
. "$(dirname "$0")/../tools/common.sh"
rounds=${1:-5}
kernel=$cache/kernel/vmlinuz initrd=$cache/initramfs.gz dir=$cache/bench
mkdir -p "$dir"
rm -f "$dir"/*.ms
[ -f "$kernel" ] && [ -f "$initrd" ] || die "run ./demo.sh first"
append="console=ttyS0 panic=-1"
systems="usekvm tcg"
if command -v bochs >/dev/null && command -v grub-mkrescue >/dev/null; then
	systems="$systems bochs"
	mkdir -p "$dir/iso/boot/grub"
	cp "$kernel" "$dir/iso/boot/vmlinuz"
	cp "$initrd" "$dir/iso/boot/initrd"
	printf 'set timeout=0\nmenuentry l {\nlinux /boot/vmlinuz %s\ninitrd /boot/initrd\n}\n' "$append" >"$dir/iso/boot/grub/grub.cfg"
	grub-mkrescue -o "$dir/bench.iso" "$dir/iso" >/dev/null 2>&1 || die "grub-mkrescue failed (it needs grub-pc-bin, xorriso, mtools)"
	cat >"$dir/bochsrc" <<-RC
		megs: 512
		romimage: file=/usr/share/bochs/BIOS-bochs-latest
		vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
		ata0-master: type=cdrom, path=$dir/bench.iso, status=inserted
		boot: cdrom
		com1: enabled=1, mode=file, dev=$dir/bochs.console
		display_library: nogui
		log: $dir/bochs.log
	RC
fi
one()
{
	q="-M q35 -m 512 -nographic -no-reboot -nodefaults -serial stdio -kernel $kernel -initrd $initrd"
	case $1 in
	usekvm) "$build/usekvm" -- qemu-system-x86_64 -accel kvm -cpu host $q -append "$append" ;;
	tcg) qemu-system-x86_64 -accel tcg -cpu max $q -append "$append" ;;
	bochs) bochs -q -f "$dir/bochsrc" ;;
	esac >"$dir/$1.console" 2>&1 </dev/null
}
for i in $(seq 1 "$rounds"); do
	for s in $systems; do
		t=$(now_ms)
		one "$s"
		ms=$(($(now_ms) - t))
		grep -aq 'usekvm-guest: done' "$dir/$s.console" || { say "round $i: $s did not finish ($dir/$s.console)"; continue; }
		echo "$ms" >>"$dir/$s.ms"
		say "round $i: $s $(secs $ms) s"
	done
done
median()
{
	[ -f "$dir/$1.ms" ] && sort -n "$dir/$1.ms" | sed -n "$((($(wc -l <"$dir/$1.ms") + 1) / 2))p"
}
base=$(median usekvm)
for s in $systems; do
	m=$(median "$s")
	[ -n "$m" ] || { echo "$s: no result"; continue; }
	[ -n "$base" ] && ratio=$((100 * m / base)) || ratio=0
	echo "$s: median $(secs "$m") s, $((ratio / 100)).$(printf %02d $((ratio % 100))) times usekvm"
done
