#!/bin/sh
# SPDX-License-Identifier: MIT
# The launcher says why a COMMAND cannot be reached by preloading, before anything of it runs.
. "$(dirname "$0")/common.inc"
cat >"$tmp/p.c" <<'C'
#include <stdio.h>
int main(void) { puts("ran"); return 0; }
C
cc=${CC:-cc}
$cc -o "$tmp/dynamic" "$tmp/p.c" || exit 1
gives '^ran$' "$usekvm" -- "$tmp/dynamic"
gives '^ran$' "$usekvm" "$tmp/dynamic"

$cc -static -o "$tmp/static" "$tmp/p.c" || exit 1
refused 126 'static' "$usekvm" -- "$tmp/static"
if $cc -static-pie -o "$tmp/static-pie" "$tmp/p.c" 2>/dev/null; then
	refused 126 'static' "$usekvm" -- "$tmp/static-pie"
fi

# Another user's (or root's own) set-id bit: not honoured where the file system says nosuid, but the launcher need not know that.
cp "$tmp/dynamic" "$tmp/setuid"
chmod 4755 "$tmp/setuid"
if [ "$(id -u)" = 0 ]; then
	chown 65534 "$tmp/setuid" && chmod 4755 "$tmp/setuid"
	refused 126 'setuid' "$usekvm" -- "$tmp/setuid"
	cp "$tmp/dynamic" "$tmp/setgid"
	chgrp 65534 "$tmp/setgid" && chmod 2755 "$tmp/setgid"
	refused 126 'setgid' "$usekvm" -- "$tmp/setgid"
fi

# ELFCLASS32, EM_386: the first 52 bytes of a 32-bit program are enough to see it.
{
	printf '\177ELF\001\001\001\000\000\000\000\000\000\000\000\000\002\000\003\000\001\000\000\000'
	head -c 200 /dev/zero
} >"$tmp/elf32"
chmod 755 "$tmp/elf32"
refused 126 'not a 64-bit x86 program' "$usekvm" -- "$tmp/elf32"
# EM_AARCH64
{
	printf '\177ELF\002\001\001\000\000\000\000\000\000\000\000\000\002\000\267\000\001\000\000\000'
	head -c 200 /dev/zero
} >"$tmp/arm"
chmod 755 "$tmp/arm"
refused 126 "$tmp/arm" "$usekvm" -- "$tmp/arm"

echo 'just text' >"$tmp/text"
refused nonzero 'not a program' "$usekvm" -- "$tmp/text"
chmod 755 "$tmp/text"
refused 126 'neither an ELF program nor a script' "$usekvm" -- "$tmp/text"
printf '#!%s\n' "$tmp/static" >"$tmp/script"
chmod 755 "$tmp/script"
refused 126 'static' "$usekvm" -- "$tmp/script"
printf '#!%s/nowhere\n' "$tmp" >"$tmp/script2"
chmod 755 "$tmp/script2"
refused 126 'interpreter' "$usekvm" -- "$tmp/script2"
printf '#!/bin/sh\necho ran\n' >"$tmp/script3"
chmod 755 "$tmp/script3"
gives '^ran$' "$usekvm" -- "$tmp/script3"

refused 127 'usekvm-no-such-command' "$usekvm" -- usekvm-no-such-command
refused 127 'No such file' "$usekvm" -- "$tmp/nowhere"
refused nonzero "$tmp" "$usekvm" -- "$tmp"
refused 126 'libusekvm.so' env USEKVM_LIB="$tmp/nowhere.so" "$usekvm" -- "$tmp/dynamic"
finish
