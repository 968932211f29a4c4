#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh BUILD CPUS: boots a Linux guest whose only program is user.c, all of whose user code runs as it is (USEKVM_DIRECT=always), and looks at what it
# says, and that it did run so. 77: this host cannot.
. "$(dirname "$0")/../../tools/common.sh"
build=$1 cpus=$2
kernel=$cache/kernel/vmlinuz
command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64 (Debian: qemu-system-x86)"; exit 77; }
[ -f "$kernel" ] || { echo "skip: no guest kernel ($kernel): ./demo.sh fetches it"; exit 77; }
need gcc libc6-dev cpio
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/root/dev"
gcc -O1 -static -pthread -mavx2 -D_GNU_SOURCE -o "$dir/root/init" "$(dirname "$0")/user.c" || die "user.c does not compile"
[ -c /dev/console ] && mknod "$dir/root/dev/console" c 5 1 2>/dev/null
(cd "$dir/root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$dir/initrd"
USEKVM_DIRECT=always USEKVM_LOG=direct:info timeout -k 5 280 "$build/usekvm" --stats="$dir/stats" -- qemu-system-x86_64 -accel kvm -cpu host,migratable=off,+invtsc -M q35 -m 512 \
	-smp "$cpus" -nographic -no-reboot -nodefaults -serial stdio -kernel "$kernel" -initrd "$dir/initrd" -append "console=ttyS0 panic=-1" >"$dir/console" 2>&1 </dev/null
rc=$?
tr -d '\r' <"$dir/console" | grep -a 'direct: \|direct info' | cut -c1-200
reason=$(grep -a 'cannot be run directly here' "$dir/console" | head -n 1)
[ -z "$reason" ] || { echo "skip: ${reason#*info: }"; exit 77; }
entries=$(awk '$1 == "direct_entries" { print $2 }' "$dir/stats")
echo "$entries entries"
grep -aq 'direct: done' "$dir/console" || { echo "the guest did not come to its end (exit code $rc)"; tail -n 5 "$dir/console"; exit 1; }
[ "${entries:-0}" -gt 2000 ] || { echo "its code was not run directly"; exit 1; }
! grep -aq 'FAILED' "$dir/console"
