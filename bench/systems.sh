# SPDX-License-Identifier: MIT
# Read by the scripts here: the systems that are compared and how each boots. `start_system SYSTEM KERNEL INITRD CONSOLE` runs to power-off.
#   usekvm, tcg              QEMU -M q35 with -kernel, under usekvm and with QEMU's own translator
#                            (qemu_options, cpu_options: more for QEMU, for its -cpu)
#   usekvm-cd, tcg-cd, bochs the same kernel and initramfs from one GRUB CD image, since Bochs has no -kernel
dir=$cache/bench
mkdir -p "$dir"
append="console=ttyS0 panic=-1"

find_systems()
{
	systems="usekvm tcg"
	if ! command -v grub-mkrescue >/dev/null || ! command -v xorriso >/dev/null || ! command -v mformat >/dev/null; then
		say "no CD image: apt-get install grub-pc-bin grub-common xorriso mtools"
		return
	fi
	systems="$systems usekvm-cd tcg-cd"
	if command -v bochs >/dev/null && [ -f /usr/share/bochs/VGABIOS-lgpl-latest ]; then
		systems="$systems bochs"
	else
		say "no Bochs: apt-get install bochs bochsbios"
	fi
}

# make_cd KERNEL INITRD
make_cd()
{
	case $systems in *-cd*) ;; *) return ;; esac
	rm -rf "$dir/iso"
	mkdir -p "$dir/iso/boot/grub"
	cp "$1" "$dir/iso/boot/vmlinuz" && cp "$2" "$dir/iso/boot/initrd" || die "the CD's files could not be copied"
	printf 'set timeout=0\nmenuentry l {\nlinux /boot/vmlinuz %s\ninitrd /boot/initrd\n}\n' "$append" >"$dir/iso/boot/grub/grub.cfg"
	grub-mkrescue -o "$dir/bench.iso" "$dir/iso" >"$dir/grub-mkrescue.log" 2>&1 || die "grub-mkrescue failed ($dir/grub-mkrescue.log)"
}

# Debian's Bochs has its debugger built in, so that it is told to continue; its VNC display waits for nobody.
bochs_files()
{
	echo c >"$dir/bochs.commands"
	cat >"$dir/bochsrc" <<-RC
		megs: 512
		cpu: model=corei7_skylake_x, ips=50000000
		romimage: file=/usr/share/bochs/BIOS-bochs-latest
		vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
		ata0-master: type=cdrom, path=$dir/bench.iso, status=inserted
		boot: cdrom
		com1: enabled=1, mode=file, dev=$1
		display_library: rfb, options="timeout=0"
		plugin_ctrl: speaker=0
		log: $dir/bochs.log
		panic: action=fatal
		info: action=ignore
	RC
}

start_system()
{
	q="-m 512 -M q35 -nographic -no-reboot -nodefaults -serial stdio $qemu_options"
	case $1 in
	*-cd) q="$q -cdrom $dir/bench.iso" ;;
	*) q="$q -kernel $2 -initrd $3" ;;
	esac
	case $1 in
	usekvm*) launcher="$build/usekvm $usekvm_options --" accel="-accel kvm -cpu host$cpu_options" ;;
	tcg*) launcher= accel="-accel tcg -cpu max$cpu_options" ;;
	bochs)
		bochs_files "$4"
		timeout 900 bochs -q -f "$dir/bochsrc" -rc "$dir/bochs.commands" >"$dir/bochs.out" 2>&1 </dev/null
		return
		;;
	esac
	case $1 in
	*-cd) timeout --foreground -k 5 ${boot_limit:-900} $launcher qemu-system-x86_64 $accel $q >"$4" 2>&1 </dev/null ;;
	*) timeout --foreground -k 5 ${boot_limit:-900} $launcher qemu-system-x86_64 $accel $q -append "$append" >"$4" 2>&1 </dev/null ;;
	esac
}

# ratio A B: A/B with two decimals
ratio()
{
	r=$((100 * $1 / ($2 > 0 ? $2 : 1)))
	printf '%d.%02d' $((r / 100)) $((r % 100))
}

# median FILE: of its lines, numbers
median()
{
	[ -f "$1" ] && sort -n "$1" | sed -n "$((($(wc -l <"$1") + 1) / 2))p"
}
