#!/bin/sh
# SPDX-License-Identifier: MIT
# kvm-unit-tests.sh [--engine=ENGINE] [--source=FOLDER-OR-URL] [--table=FILE] [TEST...]: kvm-unit-tests, unmodified, with Debian's QEMU under usekvm.
#
# A clone of the source (of the project's repository if none is given) is built in .cache/kvm-unit-tests, once for x86_64 and once for i386, and its
# own run_tests.sh runs under usekvm, so that it and QEMU find usekvm's /dev/kvm: all x86_64 entries, and those that are for i386 only. The time
# limits are the suite's. The table (result, entry, the suite's own summary or reason) goes to stdout, or to FILE as rows of Markdown too; the
# logs stay in .cache/kvm-unit-tests/ARCH/logs. Exit code 1 if an entry failed. TEST: exact names of entries.
. "$(dirname "$0")/common.sh"
engine=auto source=https://github.com/kvm-unit-tests/kvm-unit-tests.git table=
while [ $# -gt 0 ]; do
	case $1 in
	--engine=*) engine=${1#*=} ;;
	--source=*) source=${1#*=} ;;
	--table=*) table=${1#*=} ;;
	-*) die "unknown option $1 (--engine=, --source=, --table=)" ;;
	*) break ;;
	esac
	shift
done
dir=$cache/kvm-unit-tests
mkdir -p "$dir"

# build_suite ARCH
build_suite()
{
	[ -f "$dir/$1/built" ] && return
	[ -d "$dir/$1" ] || git clone -q "$source" "$dir/$1" >&2 || die "$source cannot be cloned: name a copy with --source="
	say "building kvm-unit-tests for $1"
	(cd "$dir/$1" && ./configure --arch="$1" && make -j"$(nproc)") >"$dir/build-$1.log" 2>&1 ||
		{ tail -n 20 "$dir/build-$1.log" >&2; die "kvm-unit-tests does not build for $1 ($dir/build-$1.log)"; }
	touch "$dir/$1/built"
}

# run_suite ARCH [TEST...]: the suite's lines without their colours; its output is what progress there is.
run_suite()
{
	arch=$1
	shift
	(cd "$dir/$arch" && ACCEL=kvm QEMU=$(command -v qemu-system-x86_64) "$build/usekvm" --engine="$engine" ./run_tests.sh "$@" 2>&1 </dev/null) |
		sed -u "s/$(printf '\033')\\[[0-9;]*m//g" | grep --line-buffered -E '^(PASS|FAIL|SKIP) '
}

# The entries that skip in the guest say why in their logs only.
with_reasons()
{
	while read -r line; do
		set -- $line
		log=$dir/x86_64/logs/$2.log
		case $line in
		'SKIP '*' tests'*')') why=$(tr -d '\r' <"$log" | grep -v -e '^SUMMARY' -e '^$' | tail -n 1 | sed 's/^[A-Z]*: //') && echo "SKIP $2 ($why)" ;;
		*) echo "$line" ;;
		esac
	done <"$out"
}

need gcc libc6-dev make git qemu-system-x86
build_suite x86_64
build_suite i386
build_usekvm
out=$dir/results.$engine
only32=$(cd "$dir/i386" && awk '/^\[/ { n = substr($1, 2, length($1) - 2) } /^arch *= *i386/ { print n }' x86/unittests.cfg)
run_suite x86_64 "$@" | grep --line-buffered -v ' (i386 only)$' | tee "$out"
for t in $only32; do
	case " $* " in
	'  ' | *" $t "*) run_suite i386 "$t" | sed -u 's/^\([A-Z]*\) \([^ ]*\)/\1 \2 [i386]/' | tee -a "$out" ;;
	esac
done
[ -s "$out" ] || die "no entry has run ($dir/x86_64/logs)"
[ -z "$table" ] || with_reasons | sed 's/|/\//g; s/ \[i386\]/, i386/' | sed 's/^\([A-Z]*\) \([^(]*[^ (]\) *(\(.*\))$/| \2 | \1 | \3 |/; t; s/^\([A-Z]*\) \(.*[^ ]\) *$/| \2 | \1 | |/' >"$table"
echo "engine $engine: $(grep -c '^PASS' "$out") passed, $(grep -c '^SKIP' "$out") skipped, $(grep -c '^FAIL' "$out") failed"
! grep -q '^FAIL' "$out"
