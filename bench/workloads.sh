#!/bin/sh
# SPDX-License-Identifier: MIT
# workloads.sh [--quick] [--rounds=N] [--scale=PERCENT] [--limit=SECONDS] [--list] [NAME...]: the workloads of bench/work, each the same work on the
# host itself (native), in a Linux guest under usekvm and in the same guest under QEMU's TCG, in turn; medians, ratios, geometric means by group.
#   NAME...               only rows of which a NAME is a part of the name, or that are of a group of that name (app, vector, kernel)
#   --quick               one round at scale 20: a look, no measurement
#   --limit=SECONDS       of one row of one system (60); the row then says "timeout"
#   SYSTEMS="usekvm native"   chooses systems; usekvm_options="--stats=F" is for the launcher; BUILD=FOLDER is another build's
# A row whose checksums differ, or whose time by the guest's clock is not that of the host's, says so and has no ratio; the exit code is then 1.
# Needs what ./demo.sh has fetched; perl, python3 and sqlite3 are the host's Debian packages.
. "$(dirname "$0")/../tools/common.sh"
. "$(dirname "$0")/systems.sh"
src=$(cd "$(dirname "$0")" && pwd)
rounds=3 scale=100 limit=60 list= names=
for a in "$@"; do
	case $a in
	--quick) rounds=1 scale=20 ;;
	--rounds=*) rounds=${a#*=} ;;
	--scale=*) scale=${a#*=} ;;
	--limit=*) limit=${a#*=} ;;
	--list) list=1 ;;
	-*) die "unknown option $a (see the start of $0)" ;;
	*) names="$names $a" ;;
	esac
done
systems=${SYSTEMS:-usekvm tcg native}
kernel=$cache/kernel/vmlinuz out=$dir/workloads root=$dir/workloads/root initrd=$dir/workloads/initrd
mkdir -p "$root/dev" "$root/work" "$root/usr/bin"
need gcc libc6-dev perl-base python3-minimal sqlite3 busybox-static cpio
gcc -O2 -static -pthread -D_GNU_SOURCE -o "$root/init" "$src"/work/*.c -lm || die "bench/work does not compile"
"$root/init" --list >"$out/list"
if [ -n "$names" ]; then
	awk -v names="$names" '
		BEGIN { n = split(names, want, " ") }
		{ for (i = 1; i <= n; i++) if (index($1, want[i]) || $2 == want[i]) { print; next } }' "$out/list" >"$out/list.new"
	mv "$out/list.new" "$out/list"
	[ -s "$out/list" ] || die "no row's name has:$names"
fi
[ -z "$list" ] || { cat "$out/list"; exit 0; }
case $systems in *usekvm* | *tcg*) [ -f "$kernel" ] || die "no guest kernel: run ./demo.sh first" ;; esac
case $systems in *usekvm*) [ -x "$build/usekvm" ] || die "no $build/usekvm: run ./demo.sh first" ;; esac

# The guest's programs are the host's, with their libraries; python also needs a few modules before it runs anything.
cp "$src"/work/bench.* "$root/work/"
python=$(readlink -f /usr/bin/python3)
for f in /usr/bin/perl /usr/bin/sqlite3 "$python"; do
	for l in $(ldd "$f" | grep -o '/[^ ]*'); do
		[ -f "$root$l" ] || { mkdir -p "$root${l%/*}" && cp -L "$l" "$root$l"; }
	done
	cp "$f" "$root$f"
done
[ "$python" = /usr/bin/python3 ] || ln -sf "${python##*/}" "$root/usr/bin/python3"
lib=/usr/lib/${python##*/}
mkdir -p "$root$lib"
cp -r "$lib/encodings" "$lib"/codecs.py "$lib"/io.py "$lib"/abc.py "$lib"/os.py "$lib"/stat.py "$lib"/posixpath.py "$lib"/genericpath.py \
	"$lib"/_collections_abc.py "$root$lib/" 2>/dev/null
# Byte code that does not look at the source's time, so that nothing is compiled in the guest, as nothing is on the host.
"$python" -ISB -c 'import sys, py_compile
for f in sys.argv[1:]: py_compile.compile(f, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)' \
	"$root$lib"/*.py "$root$lib"/encodings/*.py || die "python's modules could not be compiled"
cp "$(command -v busybox)" "$root/usr/bin/busybox"
[ -c "$root/dev/console" ] || mknod "$root/dev/console" c 5 1 2>/dev/null || say "no device node made (not root): the guest's /dev comes from devtmpfs"
(cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$initrd"

# rows CPUS: their names with commas
rows()
{
	awk -v cpus="$1" '$3 == cpus { printf "%s%s", n++ ? "," : "", $1 }' "$out/list"
}

# watch SYSTEM: lines of the console or the program into "$out/raw": SYSTEM ROW SECONDS CHECKSUM, and "boot"
watch()
{
	while IFS= read -r line; do
		case $line in *'work: '*) ;; *) continue ;; esac
		line=$(printf '%s' "${line#*work: }" | tr -d '\r')
		now=$(date +%s%N)
		set -- "$1" $line
		case $2 in
		init) [ "$cpus" != 1 ] || echo "$1 boot $(((now - started) / 1000000000)).$(printf '%09d' $(((now - started) % 1000000000))) 0" >>"$out/raw" ;;
		start) t=$now ;;
		row)
			case $4 in
			[0-9]*)
				took=$(((now - t) / 1000000))
				if awk -v host=$took -v guest="$6" 'BEGIN { guest *= 1000; d = host - guest; exit !(d > 150 + host / 10 || -d > 150 + host / 10) }'; then
					echo "$1 $3 clock $took ms of the host, $6 s of the guest" >>"$out/raw"
				else
					echo "$1 $3 $4 $5" >>"$out/raw"
				fi
				;;
			*) echo "$1 $3 $4 $5 $6 $7" >>"$out/raw" ;;
			esac
			say "round $round/$rounds $1: $3 $4 $5"
			;;
		esac
	done
}

# run SYSTEM CPUS
run()
{
	cpus=$2
	names=$(rows "$2")
	[ -n "$names" ] || return
	rm -f "$out/pipe"
	mkfifo "$out/pipe"
	started=$(date +%s%N)
	tee "$out/$1-$2.console" <"$out/pipe" | watch "$1" &
	case $1 in
	native)
		tmp=$(mktemp -d /dev/shm/workloads.XXXXXX) || exit 1
		"$root/init" --scale="$scale" --limit="$limit" --scripts="$src/work" --tmp="$tmp" "$names" >"$out/pipe"
		rm -rf "$tmp"
		;;
	*)
		qemu_options="-smp $2" cpu_options=
		# With several CPUs an AMD guest distrusts a TSC that is not said to be invariant, and QEMU hides that from guests that may migrate.
		[ "$2" = 1 ] || [ "$1" = tcg ] || cpu_options=,migratable=off,+invtsc
		append="console=ttyS0 panic=-1 work.scale=$scale work.limit=$limit work.rows=$names"
		boot_limit=$(($(echo "$names" | tr ',' '\n' | wc -l) * limit + 120))
		start_system "$1" "$kernel" "$initrd" "$out/pipe"
		grep -aq 'work: done' "$out/$1-$2.console" || say "$1: the guest did not come to its end ($out/$1-$2.console)"
		;;
	esac
	wait
}

rm -f "$out/raw"
for round in $(seq 1 "$rounds"); do
	for s in $systems; do
		run "$s" 1
		run "$s" 2
	done
done
say "all lines are in $out/raw; load average $(cut -d' ' -f1-3 /proc/loadavg)"
awk -v systems="$systems" -v rounds="$rounds" -f "$src/workloads.awk" "$out/list" "$out/raw"
