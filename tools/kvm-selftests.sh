#!/bin/sh
# SPDX-License-Identifier: MIT
# kvm-selftests.sh [--engine=ENGINE] [--limit=SECONDS] [--table=FILE] [TEST...]: Linux's own KVM selftests, unmodified, under usekvm.
#
# The source is Debian's linux-source package, the newest of 6.12 and 6.1 that apt offers (downloaded, not installed), built in
# .cache/kvm-selftests. Each x86-64 program runs with a time limit (300 seconds; hardware_disable_test and memslot_perf_test get more, since they
# are as slow on the kernel's KVM with few CPUs). The table goes to stdout, or to FILE as rows of Markdown too: pass, skip with the program's
# own reason, FAIL with the assertion. Exit code 1 if any failed. TEST: names or parts of names.
. "$(dirname "$0")/common.sh"
engine=auto limit=300 table=
while [ $# -gt 0 ]; do
	case $1 in
	--engine=*) engine=${1#*=} ;;
	--limit=*) limit=${1#*=} ;;
	--table=*) table=${1#*=} ;;
	-*) die "unknown option $1 (--engine=, --limit=, --table=)" ;;
	*) break ;;
	esac
	shift
done
dir=$cache/kvm-selftests
mkdir -p "$dir/log"

# Sets $version: the newest source package that apt knows.
find_source()
{
	for version in 6.12 6.1; do
		apt-cache show "linux-source-$version" >/dev/null 2>&1 && return
	done
	apt_update "linux-source-6.12 (bookworm-backports or bookworm-security) or linux-source-6.1"
	for version in 6.12 6.1; do
		apt-cache show "linux-source-$version" >/dev/null 2>&1 && return
	done
	die "apt offers neither linux-source-6.12 nor linux-source-6.1: is this Debian with its main archive?"
}

# Only the folders that headers_install and the tests need.
unpack()
{
	say "downloading linux-source-$version"
	rm -rf "$dir/deb"
	mkdir -p "$dir/deb"
	(cd "$dir/deb" && apt-get -qq download "linux-source-$version" >&2) || die "linux-source-$version could not be downloaded"
	dpkg-deb -x "$dir"/deb/linux-source-*.deb "$dir/deb/root" || die "the package cannot be unpacked"
	say "unpacking"
	s=linux-source-$version
	tar -C "$dir" -xJf "$dir/deb/root/usr/src/$s.tar.xz" "$s/Makefile" "$s/Kbuild" "$s/Kconfig" "$s/arch/x86" "$s/include" "$s/scripts" "$s/tools" ||
		die "the source cannot be unpacked"
	rm -rf "$dir/deb"
}

build_tests()
{
	flags=
	# 6.1: two programs do not compile with this C library's headers otherwise.
	[ "$version" = 6.1 ] && flags="-include linux/stddef.h -DTEST_ASSERT_EQ=ASSERT_EQ"
	say "building the selftests of $version"
	(make -C "$src" headers_install && CFLAGS="$flags" make -C "$tests" -j"$(nproc)" ARCH=x86_64) >"$dir/build.log" 2>&1 ||
		{ tail -n 20 "$dir/build.log" >&2; die "the selftests do not build ($dir/build.log)"; }
	touch "$dir/built-$version"
}

need apt dpkg gcc libc6-dev make rsync xz-utils flex bison
find_source
src=$dir/linux-source-$version
tests=$src/tools/testing/selftests/kvm
[ -d "$tests" ] || unpack
[ -f "$dir/built-$version" ] || build_tests
build_usekvm
usekvm=$build/usekvm

wanted()
{
	[ -z "$words" ] && return 0
	for w in $words; do
		case $1 in *"$w"*) return 0 ;; esac
	done
	return 1
}
words="$*"

# What the program says itself, in one line.
reason()
{
	case $1 in
	skip) sed -n 's/^1\.\.0 # SKIP - //p; s/^\(.*\), skipping test$/\1/p; s/^Skipping test: //p' "$2" | head -n 1 ;;
	limit) echo "still running after ${3}s" ;;
	*) awk '/Assertion Failure/ { getline; print; exit }' "$2" | sed 's/^ *//' ;;
	esac | tr '|' '/' | cut -c 1-150
}

[ -t 2 ] && tty=1 || tty=0
pass=0 fail=0 skip=0 failed=
list=$(cd "$tests" && find . -type f -perm -100 ! -name '*.sh' ! -name '*.so' | sed 's|^\./||' | LC_ALL=C sort)
total=$(echo "$list" | while read -r t; do wanted "$t" && echo; done | wc -l)
[ "$total" -gt 0 ] || die "no test has a name with: $words"
[ -z "$table" ] || : >"$table"
n=0
cd "$tests" || exit 1
for t in $list; do
	wanted "$t" || continue
	n=$((n + 1)) allowed=$limit args=
	[ $tty = 0 ] || printf '\r\033[K[%d of %d: %d passed, %d skipped, %d failed] %s' $n "$total" $pass $skip $fail "$t" >&2
	case $t in
	# Its script gives it this number, by which it knows that the parameters of the module are set.
	*/nx_huge_pages_test) args="-t 887563923 -p 100" ;;
	hardware_disable_test | memslot_perf_test) allowed=$((limit * 6)) ;;
	esac
	log=$dir/log/$(echo "$t" | tr / _).$engine
	start=$(now_ms)
	timeout -k 5 "$allowed" "$usekvm" --engine="$engine" "./$t" $args >"$log" 2>&1 </dev/null
	rc=$?
	took=$(secs $(($(now_ms) - start)))
	case $rc in
	0) result=pass pass=$((pass + 1)) why= ;;
	4) result=skip skip=$((skip + 1)) why=$(reason skip "$log") ;;
	124 | 137) result=FAIL fail=$((fail + 1)) why=$(reason limit "$log" "$allowed") failed="$failed $t" ;;
	*) result=FAIL fail=$((fail + 1)) why="exit code $rc: $(reason fail "$log")" failed="$failed $t" ;;
	esac
	[ $tty = 0 ] || printf '\r\033[K' >&2
	printf '%-4s  %-46s %6ss  %s\n' $result "$t" "$took" "$why"
	[ -z "$table" ] || echo "| $t | $result | $why |" >>"$table"
done
echo "linux-source-$version, engine $engine: $pass passed, $skip skipped, $fail failed"
[ -z "$failed" ] || echo "failed:$failed (logs in $dir/log)"
[ $fail = 0 ]
