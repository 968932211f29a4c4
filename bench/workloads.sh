#!/bin/sh
# SPDX-License-Identifier: MIT
# workloads.sh [--quick] [--rounds=N] [--scale=PERCENT] [--limit=SECONDS] [--cpu] [--best] [--table] [--list] [NAME...]: workloads of bench/work, each
# the same work on the host itself (native), in a Linux guest under usekvm and in the same guest under QEMU's TCG, in turn; medians, ratios, and
# geometric means by group.
#   NAME...               only rows of which a NAME is a part of the name, or that are of a group of that name (app, vector, kernel)
#   --quick               one round at scale 20: a look, no measurement
#   --cpu                 the table of CPU time: on the host, what the program used; of a guest, its time by the part of it that QEMU's threads ran.
#                         For a machine with other work; the spread tells whether the times are to be trusted
#   --best                the table of the fastest rounds, not of medians: what other work on the machine disturbs least
#   --table               only the table of the last run again (with --cpu, --best: another one)
#   --limit=SECONDS       of one row of one system (60); the row then says "timeout"
#   SYSTEMS="usekvm native"   chooses systems. NAME=FOLDER is usekvm of another build, NAME=--OPTION is usekvm with an option of the launcher:
#                         SYSTEMS="usekvm before=OLD/build interp=--engine=interp native" (columns for all of them)
# A row whose checksums differ, or whose time by the guest's clock is not that of the host's, says so and has no ratio; the exit code is then 1.
# Needs what ./demo.sh has fetched; perl, python3 and sqlite3 are the host's Debian packages.
. "$(dirname "$0")/../tools/common.sh"
. "$(dirname "$0")/systems.sh"
src=$(cd "$(dirname "$0")" && pwd)
rounds=3 scale=100 limit=60 list= table= names= field=3 best=0
for a in "$@"; do
	case $a in
	--quick) rounds=1 scale=20 ;;
	--rounds=*) rounds=${a#*=} ;;
	--scale=*) scale=${a#*=} ;;
	--limit=*) limit=${a#*=} ;;
	--list) list=1 ;;
	--cpu) field=5 ;;
	--best) best=1 ;;
	--table) table=1 ;;
	-*) die "unknown option $a (see the start of $0)" ;;
	*) names="$names $a" ;;
	esac
done
systems=${SYSTEMS:-usekvm tcg native}
own_build=$build own_options=$usekvm_options
kernel=$cache/kernel/vmlinuz out=$dir/workloads root=$dir/workloads/root initrd=$dir/workloads/initrd
print_table()
{
	. "$out/run"
	awk -v systems="$columns" -v rounds="$rounds" -v field=$field -v best=$best -f "$src/workloads.awk" "$out/list" "$out/raw"
}
if [ -n "$table" ]; then
	[ -f "$out/raw" ] && [ -f "$out/run" ] || die "nothing has run yet"
	print_table
	exit
fi
mkdir -p "$root/dev" "$root/work" "$root/usr/bin"
need gcc libc6-dev perl-base python3-minimal sqlite3 busybox-static cpio
gcc -O2 -static -pthread -D_GNU_SOURCE -o "$root/init" "$src"/work/*.c -lm || die "bench/work does not compile"
"$root/init" --list >"$out/list.all"
if [ -n "$names" ]; then
	awk -v names="$names" '
		BEGIN { n = split(names, want, " ") }
		{ for (i = 1; i <= n; i++) if (index($1, want[i]) || $2 == want[i]) { print; next } }' "$out/list.all" >"$out/list.new"
	[ -s "$out/list.new" ] || die "no row's name has:$names"
else
	mv "$out/list.all" "$out/list.new"
fi
[ -z "$list" ] || { cat "$out/list.new"; exit 0; }
for s in $systems; do
	case $s in
	native) continue ;;
	usekvm | *=-*) [ -x "$build/usekvm" ] || die "no $build/usekvm: run ./demo.sh first" ;;
	*=*) [ -x "${s#*=}/usekvm" ] || die "no ${s#*=}/usekvm" ;;
	tcg) ;;
	*) die "SYSTEMS: no system $s" ;;
	esac
	[ -f "$kernel" ] || die "no guest kernel: run ./demo.sh first"
done

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

# used: milliseconds that QEMU's threads have run, and those of its children and theirs: guest code that usekvm runs directly has processes of its own.
qemu_cpu()
{
	[ -n "$pid" ] || pid=$(cat "$out/pid" 2>/dev/null)
	used=$(for child in $pid $(cat /proc/[0-9]*/stat 2>/dev/null | sed 's/(.*) [A-Za-z]//' | awk -v pid="$pid" '
			{ parent[$1] = $2 }
			END { for (p in parent) for (q = parent[p]; q > 1; q = parent[q]) if (q == pid) { print p; break } }'); do
		cat /proc/"$child"/task/*/schedstat
	done 2>/dev/null | awk '{ sum += $1 } END { printf "%d", sum / 1000000 }')
}

# cpu_part SECONDS WHOLE RAN TOOK: of a row's SECONDS, the part in which QEMU ran: RAN of TOOK milliseconds. If its lines were read too late, so that
# TOOK is not the guest's WHOLE, nothing is known, and it is all of them.
cpu_part()
{
	awk -v s="$1" -v whole="$2" -v ran="$3" -v took="$4" 'BEGIN {
		d = took - whole * 1000
		known = took > 0 && ran > 0 && d < 20 + took / 10 && -d < 20 + took / 10
		printf "%.6f", known ? s * ran / took : s
	}'
}

# watch SYSTEM: lines of the console or the program into "$out/raw": SYSTEM ROW SECONDS CHECKSUM CPU-SECONDS, and "boot"
watch()
{
	pid= first= guest=0
	while IFS= read -r line; do
		case $line in *'work: '*) ;; *) continue ;; esac
		line=$(printf '%s' "${line#*work: }" | tr -d '\r')
		now=$(($(date +%s%N) / 1000000)) used=
		[ "$1" = native ] || qemu_cpu
		set -- "$1" $line
		case $2 in
		init) [ "$cpus" != 1 ] || echo "$1 boot $(ms $((now - started))) 0 $(ms "$used")" >>"$out/raw" ;;
		start)
			t=$now u=$used
			[ -n "$first" ] || first=$now
			;;
		row)
			case $4 in
			[0-9]*)
				took=$((now - t)) cpu=$7
				[ "$1" = native ] || cpu=$(cpu_part "$4" "$6" $((used - u)) $took)
				# All rows so far, since a loaded machine reads late what the guest has said, but not later and later.
				guest=$(awk -v a="$guest" -v b="$6" 'BEGIN { print a + b }') host=$((now - first))
				if [ "$1" != native ] && awk -v host=$host -v guest="$guest" 'BEGIN { d = host - guest * 1000; exit !(d > 2000 + host / 10 || -d > 2000 + host / 10) }'; then
					echo "$1 $3 clock $host ms of the host, $guest s of the guest" >>"$out/raw"
				else
					echo "$1 $3 $4 $5 $cpu" >>"$out/raw"
				fi
				;;
			*)
				echo "$1 $3 $4 $5 $6 $7" >>"$out/raw"
				first= guest=0
				;;
			esac
			say "round $round/$rounds $1: $3 $4 $5"
			;;
		esac
	done
}

ms()
{
	printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000))
}

# run SYSTEM CPUS. Natively each row runs three times: it is short.
run()
{
	cpus=$2 build=$own_build usekvm_options=$own_options
	case $1 in
	*=-*) usekvm_options="$own_options ${1#*=}" ;;
	*=*) build=${1#*=} ;;
	esac
	set -- "${1%%=*}" "$2" "${1#*=}"
	names=$(rows "$2")
	[ -n "$names" ] || return
	rm -f "$out/pipe" "$out/pid"
	mkfifo "$out/pipe"
	started=$(($(date +%s%N) / 1000000))
	tee "$out/$1-$2.console" <"$out/pipe" | watch "$1" &
	case $1 in
	native)
		tmp=$(mktemp -d /dev/shm/workloads.XXXXXX) || exit 1
		"$root/init" --scale="$scale" --limit="$limit" --scripts="$src/work" --tmp="$tmp" "$names" "$names" "$names" >"$out/pipe"
		rm -rf "$tmp"
		;;
	*)
		qemu_options="-smp $2 -pidfile $out/pid" cpu_options=
		# With several CPUs an AMD guest distrusts a TSC that is not said to be invariant, and QEMU hides that from guests that may migrate.
		[ "$2" = 1 ] || [ "$1" = tcg ] || cpu_options=,migratable=off,+invtsc
		append="console=ttyS0 panic=-1 work.scale=$scale work.limit=$limit work.rows=$names"
		boot_limit=$(($(echo "$names" | tr ',' '\n' | wc -l) * limit + 120))
		case $1 in tcg) s=tcg ;; *) s=usekvm ;; esac
		start_system $s "$kernel" "$initrd" "$out/pipe"
		grep -aq 'work: done' "$out/$1-$2.console" || {
			cp "$out/$1-$2.console" "$out/failed-$round-$1-$2.console"
			say "$1: the guest did not come to its end ($out/failed-$round-$1-$2.console): $(tail -n 1 "$out/$1-$2.console" | tr -d '\r')"
		}
		;;
	esac
	wait
}

rm -f "$out/raw" "$out"/failed-*
mv "$out/list.new" "$out/list"
echo "rounds=$rounds columns='$(for s in $systems; do printf '%s ' "${s%%=*}"; done)'" >"$out/run"
turn=$systems
for round in $(seq 1 "$rounds"); do
	for system in $turn; do
		run "$system" 1
		run "$system" 2
	done
	case $turn in *' '*) turn="${turn#* } ${turn%% *}" ;; esac # another comes first, right behind native work, which makes a boot slow
done
say "all lines are in $out/raw; load average $(cut -d' ' -f1-3 /proc/loadavg)"
print_table
