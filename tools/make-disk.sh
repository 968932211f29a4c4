#!/bin/sh
# SPDX-License-Identifier: MIT
# make-disk.sh [OUT]: a Debian 12 disk image (MBR, one ext4 partition, GRUB) with a root shell on the serial line, for tools/boot-disk.sh.
# Needs root. No loop device and no mount: debootstrap into a folder, mke2fs -d, GRUB's images written by hand.
. "$(dirname "$0")/common.sh"
out=${1:-$cache/disk.img} root=$cache/disk-root size=1536
[ "$(id -u)" = 0 ] || die "run it as root: debootstrap needs chroot"
mkdir -p "$cache"
need debootstrap e2fsprogs grub-pc-bin grub-common fdisk
if [ ! -f "$root/.done" ]; then
	say "debootstrap (some minutes)"
	rm -rf "$root"
	mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p; s/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
	debootstrap --variant=minbase --include=linux-image-cloud-amd64,systemd-sysv,udev,iproute2,isc-dhcp-client,ifupdown \
		bookworm "$root" ${mirror:+"$mirror"} >"$cache/debootstrap.log" 2>&1 || die "debootstrap failed (.cache/debootstrap.log)"
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/locale/*
	echo usekvm >"$root/etc/hostname"
	echo '/dev/vda1 / ext4 defaults 0 1' >"$root/etc/fstab"
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
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry Debian {
	linux /boot/$k root=/dev/vda1 console=ttyS0 net.ifnames=0 panic=-1
	initrd /boot/$i
}
CFG
say "file system"
rm -f "$out.part" "$out.new"
truncate -s "$((size - 1))M" "$out.part"
mke2fs -q -F -t ext4 -O ^metadata_csum_seed -L usekvm -d "$root" "$out.part" || die "mke2fs failed"
truncate -s "${size}M" "$out.new"
printf '2048,,83,*\n' | sfdisk -q "$out.new" || die "sfdisk failed"
dd if="$out.part" of="$out.new" bs=1M seek=1 conv=notrunc,sparse status=none
rm -f "$out.part"
say "GRUB"
mod=/usr/lib/grub/i386-pc
grub-mkimage -O i386-pc -o "$cache/core.img" -p '(hd0,msdos1)/boot/grub' biosdisk part_msdos ext2 normal linux serial terminal configfile ||
	die "grub-mkimage failed"
[ "$(stat -c %s "$cache/core.img")" -lt 1047552 ] || die "GRUB's image does not fit in front of the partition"
dd if="$mod/boot.img" of="$out.new" bs=1 count=440 conv=notrunc status=none
dd if="$cache/core.img" of="$out.new" bs=512 seek=1 conv=notrunc status=none
# boot.img loads core.img's first sector from sector 1, where its own default points; core.img's block list starts at sector 2.
mv "$out.new" "$out"
say "$out is ready"
