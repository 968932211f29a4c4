#!/bin/sh
# SPDX-License-Identifier: MIT
# make-disk.sh [--efi] [OUT]: a Debian 12 disk image (one ext4 partition, GRUB) with a root shell on the serial line, for tools/boot-disk.sh. For a
# BIOS, or with --efi for UEFI firmware: a GPT with a system partition that has Debian's own GRUB program.
# Needs root. No loop device and no mount: debootstrap into a folder, mke2fs -d, mtools, GRUB's BIOS images written by hand.
. "$(dirname "$0")/common.sh"
efi=
[ "$1" != --efi ] || { efi=1; shift; }
out=${1:-$cache/disk${efi:+-efi}.img} root=$cache/disk-root size=1536 first=1 # MiB in front of the ext4 partition
[ -z "$efi" ] || first=33
[ "$(id -u)" = 0 ] || die "run it as root: debootstrap needs chroot"
mkdir -p "$cache"
need debootstrap e2fsprogs fdisk
if [ -n "$efi" ]; then need grub-efi-amd64-bin mtools; else need grub-pc-bin grub-common; fi
if [ ! -f "$root/.done" ]; then
	say "debootstrap (some minutes)"
	rm -rf "$root"
	mirror=$(debian_mirror)
	debootstrap --variant=minbase --include=linux-image-cloud-amd64,systemd-sysv,udev,iproute2,isc-dhcp-client,ifupdown \
		bookworm "$root" ${mirror:+"$mirror"} >"$cache/debootstrap.log" 2>&1 || die "debootstrap failed (.cache/debootstrap.log)"
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/locale/*
	echo usekvm >"$root/etc/hostname"
	sed -i 's/^root:[^:]*:/root::/' "$root/etc/shadow"
	mkdir -p "$root/etc/network"
	printf 'auto lo\niface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n' >"$root/etc/network/interfaces"
	mkdir -p "$root/etc/systemd/system/serial-getty@ttyS0.service.d"
	printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --keep-baud 115200 %%I vt220\n' \
		>"$root/etc/systemd/system/serial-getty@ttyS0.service.d/auto.conf"
	touch "$root/.done"
fi
k=$(cd "$root/boot" && ls vmlinuz-* | tail -n 1)
i=$(cd "$root/boot" && ls initrd.img-* | tail -n 1)
echo 'LABEL=usekvm / ext4 defaults 0 1' >"$root/etc/fstab"
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry Debian {
	linux /boot/$k root=LABEL=usekvm console=ttyS0 net.ifnames=0 panic=-1
	initrd /boot/$i
}
CFG
say "file system"
rm -f "$out.part" "$out.new"
truncate -s "$((size - first - 1))M" "$out.part" # the last one has the second copy of a GPT
mke2fs -q -F -t ext4 -O ^metadata_csum_seed -L usekvm -d "$root" "$out.part" || die "mke2fs failed"
truncate -s "${size}M" "$out.new"
if [ -n "$efi" ]; then
	printf 'label: gpt\nstart=2048, size=%d, type=U\nstart=%d, size=%d, type=L\n' $((2048 * (first - 1))) $((2048 * first)) $((2048 * (size - first - 1)))
else
	echo '2048,,83,*'
fi | sfdisk -q "$out.new" || die "sfdisk failed"
dd if="$out.part" of="$out.new" bs=1M seek=$first conv=notrunc,sparse status=none
rm -f "$out.part"
say "GRUB"
if [ -n "$efi" ]; then
	esp="$out.new@@1M"
	printf 'search --label usekvm --set=root\nconfigfile ($root)/boot/grub/grub.cfg\n' >"$cache/esp.cfg"
	mformat -i "$esp" -T $((2048 * (first - 1))) -v ESP :: && mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/EFI/debian &&
		mcopy -i "$esp" /usr/lib/grub/x86_64-efi/monolithic/grubx64.efi ::/EFI/BOOT/BOOTX64.EFI &&
		mcopy -i "$esp" "$cache/esp.cfg" ::/EFI/debian/grub.cfg || die "the system partition could not be made"
else
	mod=/usr/lib/grub/i386-pc
	grub-mkimage -O i386-pc -o "$cache/core.img" -p '(hd0,msdos1)/boot/grub' biosdisk part_msdos ext2 normal linux serial terminal configfile ||
		die "grub-mkimage failed"
	[ "$(stat -c %s "$cache/core.img")" -lt 1047552 ] || die "GRUB's image does not fit in front of the partition"
	dd if="$mod/boot.img" of="$out.new" bs=1 count=440 conv=notrunc status=none
	dd if="$cache/core.img" of="$out.new" bs=512 seek=1 conv=notrunc status=none
	# boot.img loads core.img's first sector from sector 1, where its own default points; core.img's block list starts at sector 2.
fi
mv "$out.new" "$out"
say "$out is ready"
