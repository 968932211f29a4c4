#!/bin/sh
# SPDX-License-Identifier: MIT
# demo.sh with bad input: which, what to do, non-zero; and before it has installed, built or started anything. The missing tools are
# made missing by a PATH with only some programs in it.
. "$(dirname "$0")/common.inc"
demo=$src/demo.sh
refused nonzero 'is no Linux kernel image' "$demo" --kernel=/etc/passwd
refused nonzero 'cannot be read' "$demo" --kernel="$tmp/nowhere"
: >"$tmp/empty"
refused nonzero 'is no Linux kernel image' "$demo" --kernel="$tmp/empty"
refused nonzero 'is no Linux kernel image' "$demo" --kernel="$tmp"
refused nonzero 'cannot be read' "$demo" --initrd="$tmp/nowhere"
refused nonzero 'too little.*128' "$demo" --mem=16
refused nonzero 'do not fit.*--mem=128' "$demo" --mem=99999999
refused nonzero 'no number' "$demo" --mem=lots
refused nonzero 'no number' "$demo" --mem=
refused nonzero 'kvm or tcg' "$demo" --accel=xen
refused nonzero 'no machine' "$demo" --machine=toaster
refused 2 'usage' "$demo" --nonsense

basic="sh dash bash uname sed grep mkdir cat date dirname tail head dd env tr rm cut sort basename mktemp mv"
tools $basic
refused nonzero 'no apt-get.*qemu-system-x86' env PATH="$tmp/bin" "$demo"
refused nonzero 'no apt-get.*gcc' env PATH="$tmp/bin" "$src/test.sh"

# An apt-get whose sources do not work, and one that lacks a package.
# Removed first: what stands there may be a link to the real program.
fake()
{
	rm -f "$tmp/bin/$1"
	printf '#!/bin/sh\n%s\n' "$2" >"$tmp/bin/$1"
	chmod 755 "$tmp/bin/$1"
}
fake dpkg-query 'exit 1'
fake apt-get 'exit 100'
fake id 'echo 0'
refused nonzero 'apt-get update failed' env PATH="$tmp/bin" "$demo"
fake apt-get 'case "$*" in *update*) exit 0 ;; esac; echo "E: Unable to locate package libzydis-dev"; exit 100'
refused nonzero 'could not be installed:.*libzydis-dev' env PATH="$tmp/bin" "$demo"
refused nonzero 'Unable to locate package' env PATH="$tmp/bin" "$demo"
fake id 'echo 1000'
refused nonzero 'needs root.*sudo' env PATH="$tmp/bin" "$demo"
finish
