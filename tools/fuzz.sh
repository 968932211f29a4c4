#!/bin/sh
# SPDX-License-Identifier: MIT
# fuzz.sh [--seconds=N] [--seed=N] [--grow] [calls] [guests]: the fuzzers of whole sessions (tests/fuzz/session.c) under AddressSanitizer and
# UndefinedBehaviorSanitizer, N seconds in all (600), half for each: the corpus, then random inputs and mutations of it. An input that fails is made
# smaller and kept in .cache/fuzz; the command that replays it is printed. Exit code 1 then.
#   --grow: clang's libFuzzer instead, which keeps what reaches new code in .cache/fuzz/NAME. What it found beyond tests/fuzz/corpus/NAME goes there with
#       .cache/build-libfuzzer/tests/fuzz/NAME -merge=1 -use_counters=0 tests/fuzz/corpus/NAME .cache/fuzz/NAME
. "$(dirname "$0")/common.sh"
seconds=600 seed=$(date +%s) grow= which=
for a; do
	case $a in
	--seconds=*) seconds=${a#*=} ;;
	--seed=*) seed=${a#*=} ;;
	--grow) grow=1 ;;
	calls | guests) which="$which $a" ;;
	*) die "unknown argument '$a'; the first lines of tools/fuzz.sh say what there is" ;;
	esac
done
which=${which:-calls guests}
found=$cache/fuzz
mkdir -p "$found"
need gcc libc6-dev linux-libc-dev meson ninja-build pkg-config libzydis-dev gdb ${grow:+clang}
if [ -n "$grow" ]; then
	version=$(clang --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
	need "libclang-rt-$version-dev"
	export CC=clang
	dir=$cache/build-libfuzzer
	set -- -Dfuzzer=true -Db_lundef=false
else
	dir=$cache/build-asan
	set --
fi
[ -f "$dir/build.ninja" ] || meson setup "$dir" "$top" -Dmode=asan "$@" >"$cache/meson-fuzz.log" 2>&1 ||
	{ tail -n 20 "$cache/meson-fuzz.log" >&2; die "meson setup failed (.cache/meson-fuzz.log)"; }
say "building"
ninja -C "$dir" tests/fuzz/calls tests/fuzz/guests >"$cache/ninja-fuzz.log" 2>&1 ||
	{ tail -n 30 "$cache/ninja-fuzz.log" >&2; die "the build failed (.cache/ninja-fuzz.log)"; }
n=0 bad=0
for f in $which; do
	n=$((n + 1))
done
for f in $which; do
	say "$f, $((seconds / n)) s, seed $seed"
	if [ -n "$grow" ]; then
		mkdir -p "$found/$f"
		"$dir/tests/fuzz/$f" -max_len=1536 -max_total_time=$((seconds / n)) -timeout=200 -rss_limit_mb=4000 -detect_leaks=0 -seed="$((seed % 4294967296))" \
			-artifact_prefix="$found/$f-" "$found/$f" "$top/tests/fuzz/corpus/$f" || bad=1
	else
		"$dir/tests/fuzz/$f" --seconds=$((seconds / n)) --seed="$seed" --corpus="$top/tests/fuzz/corpus/$f" --save="$found" || bad=1
	fi
done
exit $bad
