#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every test in its own process with a time limit and ends with "N passed, N failed[, N skipped]".
#
#   tests/harness/run.sh BUILD [WORD...]      only tests whose name has one of the words
#
# Kinds: unit/NAME, api/NAME (under usekvm), referee/NAME (the same program on the kernel's /dev/kvm, with KVM_REFEREE=1),
# guest/... (lines of tests/guest/list), regress/NAME, fuzz/GROUP, boot/MACHINE, house/levels.
# Environment: KVM_REFEREE=1, NO_BOOT=1, NO_FUZZ=1, FUZZ_COUNT (100000), FUZZ_SEED (1), BOOT_MACHINES.
# tests/guest/list and tests/fuzz/list: one test a line, "NAME TIMEOUT COMMAND..."; @B@ is the build folder, @S@ the source.
build=${1:?usage: run.sh BUILD [WORD...]}
shift
src=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$build" && pwd) || exit 2
words="$*"
usekvm=$build/usekvm
log=$build/test-logs
mkdir -p "$log"
pass=0 fail=0 skip=0 failed=
tty=0
[ -t 1 ] && tty=1

wanted()
{
	[ -z "$words" ] && return 0
	for w in $words; do
		case $1 in *"$w"*) return 0 ;; esac
	done
	return 1
}

clear_line()
{
	[ $tty = 1 ] && printf '\r\033[K'
}

# run NAME SECONDS COMMAND...
run()
{
	name=$1 limit=$2
	shift 2
	wanted "$name" || return 0
	out=$log/$(echo "$name" | tr '/ ' '__')
	[ $tty = 1 ] && printf '\r\033[K[%d passed, %d failed] %s' $pass $fail "$name"
	start=$(date +%s)
	timeout -k 5 "$limit" "$@" >"$out" 2>&1 </dev/null
	rc=$?
	took=$(($(date +%s) - start))
	case $rc in
	0)
		pass=$((pass + 1))
		[ $tty = 1 ] || echo "ok      $name (${took}s)"
		;;
	77)
		skip=$((skip + 1))
		clear_line
		echo "skip    $name: $(sed -n 's/^skip: //p' "$out" | head -n 1)"
		;;
	*)
		fail=$((fail + 1))
		failed="$failed $name"
		clear_line
		[ $rc = 124 ] && echo "FAILED  $name: still running after ${limit}s" || echo "FAILED  $name: exit code $rc"
		tail -n 25 "$out" | sed 's/^/        /'
		;;
	esac
}

run_list()
{
	while read -r name limit command; do
		case $name in '' | '#'*) continue ;; esac
		command=$(echo "$command" | sed "s|@B@|$build|g; s|@S@|$src|g")
		eval "run \"\$name\" \"\$limit\" $command"
	done <"$1"
}

[ -x "$usekvm" ] || { echo "$usekvm is not there: build first (meson setup build && ninja -C build)"; exit 2; }

run house/levels 60 "$src/tools/check-levels.sh" "$src"
for t in "$build"/tests/unit/test_*; do
	[ -f "$t" ] && [ -x "$t" ] && run "unit/${t##*/test_}" 120 "$t"
done
for t in "$build"/tests/api/*; do
	[ -f "$t" ] && [ -x "$t" ] || continue
	run "api/${t##*/}" 60 "$usekvm" -- "$t"
	# What differs from the kernel shows as a failure of one side.
	[ "${KVM_REFEREE:-0}" = 1 ] && [ -c /dev/kvm ] && run "referee/${t##*/}" 60 "$t"
done
for t in "$build"/tests/regress/*; do
	[ -f "$t" ] && [ -x "$t" ] && run "regress/${t##*/}" 120 "$usekvm" -- "$t"
done
[ -f "$src/tests/guest/list" ] && run_list "$src/tests/guest/list"
if [ -z "$NO_FUZZ" ]; then
	if [ -f "$src/tests/fuzz/list" ]; then
		run_list "$src/tests/fuzz/list"
	elif [ -x "$build/tests/fuzz/insn" ]; then
		for g in $("$build/tests/fuzz/insn" --list 2>/dev/null); do
			run "fuzz/$g" 900 "$build/tests/fuzz/insn" --group="$g" --count="${FUZZ_COUNT:-100000}" --seed="${FUZZ_SEED:-1}"
		done
	fi
fi
if [ -z "$NO_BOOT" ]; then
	for m in ${BOOT_MACHINES:-q35 pc microvm microvm,kernel-irqchip=split q35,kernel-irqchip=split}; do
		run "boot/$m" 900 env BUILD="$build" "$src/tools/boot.sh" "$m"
	done
fi

clear_line
[ -n "$failed" ] && echo "failed:$failed"
if [ $skip -gt 0 ]; then
	echo "$pass passed, $fail failed, $skip skipped"
else
	echo "$pass passed, $fail failed"
fi
[ $fail -eq 0 ] && [ $pass -gt 0 ]
