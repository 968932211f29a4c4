#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every test in its own process with a time limit. The last line is "N passed, N failed"; what was left out stands before it.
#
#   tests/harness/run.sh BUILD [WORD...]      only tests whose name has one of the words
#
# Kinds: house/..., unit/NAME, api/NAME and xinterface/NAME (under usekvm), referee/NAME (API tests on the kernel's /dev/kvm, with
# KVM_REFEREE=1), regress/NAME, debug/NAME (the library's debug build), cli/NAME (tests/cli/NAME.sh BUILD SOURCE), guest/..., fuzz/GROUP,
# boot/MACHINE or another thing that boots, vfio/MODE, qemu/NAME (guests of QEMU that are debugged or draw).
# A file tests/*/list adds more: one test a line, "NAME TIMEOUT COMMAND...", where @B@ is the build folder and @S@ the source.
# Tests of what guests see (api, guest, hostile, smp, xinterface, fuzz, qemu) run once more for each engine of $ENGINES: "guest/real [translate]".
# A test is skipped (exit code 77, "skip: REASON" on its output) only for something that this machine lacks.
# Environment: KVM_REFEREE=1, NO_BOOT=1, NO_FUZZ=1, FUZZ_COUNT (100000), FUZZ_SEED (1), FUZZ_SECONDS (10, fuzz/calls and guests), BOOT_MACHINES,
# ENGINES (interp translate; empty for the default engine alone).
build=${1:?usage: run.sh BUILD [WORD...]}
shift
src=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$build" && pwd) || exit 2
words="$*"
engines=${ENGINES-interp translate}
usekvm=$build/usekvm
# How a command gets KVM. AddressSanitizer's library must come before ours to see the heap, so the launcher is left out then.
kvm="$usekvm --"
asan=$(ldd "$build/libusekvm.so" 2>/dev/null | sed -n 's/.*libasan[^ ]* => \([^ ]*\).*/\1/p')
if [ -n "$asan" ]; then
	kvm="env LD_PRELOAD=$asan:$build/libusekvm.so"
	# The four fault signals are the library's; programs under test leave things to exit().
	export ASAN_OPTIONS="${ASAN_OPTIONS:-verify_asan_link_order=0:detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:use_sigaltstack=0:allocator_may_return_null=1}"
fi
# The same for ThreadSanitizer, which wants an address space without surprises, sees no translated code, and takes ten times as long.
tsan=$(ldd "$build/libusekvm.so" 2>/dev/null | sed -n 's/.*libtsan[^ ]* => \([^ ]*\).*/\1/p')
if [ -n "$tsan" ]; then
	export TSAN_OPTIONS="${TSAN_OPTIONS:-exitcode=66:die_after_fork=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:use_sigaltstack=0}"
	kvm="setarch -R env LD_PRELOAD=$tsan:$build/libusekvm.so"
	engines=
	export USEKVM_ENGINE=interp
fi
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}"
log=$build/test-logs
mkdir -p "$log"
pass=0 fail=0 skip=0 failed=
tty=0
[ -t 1 ] && tty=1
export BUILD="$build"

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
	[ $tty = 0 ] || printf '\r\033[K'
}

# run NAME SECONDS COMMAND...: with the engine that is the default and, where guest code is what is tested, with the others.
run()
{
	run_one "$@"
	case $1 in
	api/* | guest/* | hostile/* | smp/* | xinterface/* | fuzz/* | qemu/*)
		test_name=$1 seconds_allowed=$2
		shift 2
		for e in $engines; do
			fewer= # the default engine has run them all, nearly all in the interpreter
			case $test_name-$e in
			fuzz/blocks-*) ;;
			fuzz/*-32-*) fewer=--count=${FUZZ_COUNT:-10000} ;;
			fuzz/*-interp) fewer=--count=${FUZZ_COUNT:-10000} ;;
			fuzz/*) fewer=--count=${FUZZ_COUNT:-50000} ;;
			esac
			run_one "$test_name [$e]" "$seconds_allowed" env USEKVM_ENGINE="$e" "$@" ${fewer:+"$fewer"}
		done
		;;
	esac
}

# run_one NAME SECONDS COMMAND...
run_one()
{
	name=$1 limit=$2
	shift 2
	wanted "$name" || return 0
	[ -z "$tsan" ] || limit=$((limit * 5))
	out=$log/$(echo "$name" | tr '/ ' '__')
	[ $tty = 0 ] || printf '\r\033[K[%d passed, %d failed] %s' $pass $fail "$name"
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
		failed="$failed $(echo "$name" | tr -d ' ')"
		clear_line
		case $rc in
		124 | 137) echo "FAILED  $name: still running after ${limit}s" ;;
		*) echo "FAILED  $name: exit code $rc" ;;
		esac
		tail -n 25 "$out" | tr -d '\r' | sed 's/^/        /'
		;;
	esac
}

run_list()
{
	while read -r name limit command <&4; do
		case $name in '' | '#'*) continue ;; esac
		command=$(echo "$command" | sed "s|@B@|$build|g; s|@S@|$src|g")
		eval "run \"\$name\" \"\$limit\" $command"
	done 4<"$1"
}

# run_programs FOLDER KIND SECONDS [COMMAND...]: each program that the build has made there.
run_programs()
{
	dir=$build/tests/$1 kind=$2 seconds=$3
	shift 3
	for t in "$dir"/*; do
		[ -f "$t" ] && [ -x "$t" ] || continue
		case $t in *.so) continue ;; esac
		run "$kind/$(basename "$t" | sed 's/^test_//')" "$seconds" "$@" "$t"
	done
}

[ -x "$usekvm" ] || { echo "$usekvm is not there: build first (meson setup build && ninja -C build)"; exit 2; }

run house/levels 60 "$src/tools/check-levels.sh" "$src"
run house/headers 60 "$src/tools/check-headers.sh" "$src"
run house/status 60 "$src/tools/check-status.sh" "$src"
run_programs unit unit 120
run_programs api api 60 $kvm
# What differs from the kernel shows as a failure of one side.
[ "${KVM_REFEREE:-0}" != 1 ] || [ ! -c /dev/kvm ] || run_programs api referee 60
run_programs xinterface xinterface 60 $kvm
[ ! -x "$src/tests/xinterface/plugins/plugins.sh" ] || run xinterface/plugins 60 "$src/tests/xinterface/plugins/plugins.sh" "$build"
run_programs regress regress 120 $kvm
for t in "$src"/tests/cli/*.sh; do
	[ ! -x "$t" ] || run "cli/$(basename "$t" .sh)" 120 "$t" "$build" "$src"
done
for t in "$src"/tests/*/list; do
	[ ! -f "$t" ] || run_list "$t"
done
if [ -z "$NO_FUZZ" ]; then
	# Whole sessions: the corpus, then random ones. They choose the engines themselves; ThreadSanitizer does not know translated code.
	for f in calls guests; do
		[ -n "$tsan" ] || run_one "fuzz/$f" 900 "$build/tests/fuzz/$f" --corpus="$src/tests/fuzz/corpus/$f" --seconds="${FUZZ_SECONDS:-10}" \
			--seed="${FUZZ_SEED:-1}" --save="$log"
	done
	while read -r group <&4; do
		case $group in
		'' | '#'*) ;;
		*) run "fuzz/$group" 900 $kvm "$build/tests/fuzz/insn" --group="$group" --count="${FUZZ_COUNT:-100000}" --seed="${FUZZ_SEED:-1}" ;;
		esac
	done 4<"$src/tests/fuzz/groups"
	while read -r group <&4; do
		run "fuzz/$group-32" 900 $kvm "$build/tests/fuzz/insn" --bits=32 --group="$group" --count="${FUZZ_COUNT:-20000}" --seed="${FUZZ_SEED:-1}"
	done 4<"$src/tests/fuzz/groups32"
	run fuzz/blocks 900 $kvm "$build/tests/fuzz/block" --count="${FUZZ_COUNT:-20000}" --seed="${FUZZ_SEED:-1}"
	run fuzz/blocks-32 900 $kvm "$build/tests/fuzz/block" --bits=32 --count="${FUZZ_COUNT:-20000}" --seed="${FUZZ_SEED:-1}"
	# With room for one unit, and for a few: translated code is dropped all the time.
	for room in 1 4000; do
		run_one "fuzz/blocks-recycled-$room" 900 env USEKVM_ENGINE=translate USEKVM_CODE_CACHE=$room \
			$kvm "$build/tests/fuzz/block" --count="${FUZZ_COUNT:-20000}" --seed="${FUZZ_SEED:-1}"
		run_one "fuzz/blocks-32-recycled-$room" 900 env USEKVM_ENGINE=translate USEKVM_CODE_CACHE=$room \
			$kvm "$build/tests/fuzz/block" --bits=32 --count="${FUZZ_COUNT:-10000}" --seed="${FUZZ_SEED:-1}"
	done
	# Each, or one in three, new translations of an address drops all others.
	for one_in in 1 3; do
		for e in translate interp; do
			run_one "fuzz/blocks-dropped-$one_in [$e]" 900 env USEKVM_ENGINE=$e USEKVM_TLB_DROP=$one_in \
				$kvm "$build/tests/fuzz/block" --count="${FUZZ_COUNT:-10000}" --seed="${FUZZ_SEED:-1}"
			run_one "fuzz/blocks-32-dropped-$one_in [$e]" 900 env USEKVM_ENGINE=$e USEKVM_TLB_DROP=$one_in \
				$kvm "$build/tests/fuzz/block" --bits=32 --count="${FUZZ_COUNT:-10000}" --seed="${FUZZ_SEED:-1}"
		done
	done
	run_one fuzz/blocks-dropped-recycled 900 env USEKVM_ENGINE=translate USEKVM_TLB_DROP=2 USEKVM_CODE_CACHE=4000 \
		$kvm "$build/tests/fuzz/block" --count="${FUZZ_COUNT:-10000}" --seed="${FUZZ_SEED:-1}"
fi
if [ -z "$NO_BOOT" ]; then
	for m in ${BOOT_MACHINES:-q35 pc microvm,kernel-irqchip=on microvm,kernel-irqchip=split q35,kernel-irqchip=split}; do
		run "boot/$m" 900 "$src/tools/boot.sh" "$m"
	done
	# Two CPUs, of which one goes off line and back; tools/boot-all.sh has 4 and 64.
	run boot/q35,smp=2 900 "$src/tools/boot.sh" --smp=2 --hotplug q35
	# Live migration and snapshots while two CPUs write and check; from engine to engine. tools/boot-all.sh has more of them.
	run boot/migrate 300 python3 "$src/tests/qemu/migrate.py" --build="$build" --engines=auto,interp,translate --migrations=3 --snapshots=2
	run boot/migrate-inject 300 python3 "$src/tests/qemu/migrate.py" --build="$build" --machine=q35,kernel-irqchip=split --migrations=2 --snapshots=0 \
		--inject=eintr,wake,kick
	# What a kernel may do at any time and seldom does.
	run boot/inject 900 "$src/tools/boot.sh" --smp=2 --hotplug --inject=eintr,wake,kick q35
	run boot/inject-microvm 900 "$src/tools/boot.sh" --inject=eintr=10,wake=3,kick=10,delay=300,seed=2 microvm,kernel-irqchip=split
	run boot/gdb 900 "$src/tests/qemu/gdb-linux.sh" "$build"
	# Debian's 32-bit kernels: PAE with two CPUs, and page tables of two levels.
	run boot/686-pae 900 "$src/tools/boot.sh" --i386=686-pae --smp=2 --hotplug q35
	run boot/686 900 "$src/tools/boot.sh" --i386=686 pc
	# Debian's memtest86+ in long mode and in protected mode with PAE.
	run boot/memtest-x64 900 "$src/tools/boot-memtest.sh" x64
	run boot/memtest-ia32 900 "$src/tools/boot-memtest.sh" ia32
	# Debian's installer until it has its network.
	run boot/installer 1200 "$src/tools/boot-installer.sh"
	# UEFI firmware; a Debian disk by BIOS and by UEFI, which root can make.
	run boot/ovmf 900 "$src/tools/boot-ovmf.sh"
	run boot/disk 2400 "$src/tools/boot-disk.sh" --make
	run boot/disk-efi 2400 "$src/tools/boot-disk.sh" --efi --make
	# Each instruction of a boot by both engines, twenty times and then now and then. A difference stops the guest for good.
	run boot/check 900 env USEKVM_ENGINE=check USEKVM_CHECK_FIRST=20 "$src/tools/boot.sh" --limit=300 microvm,kernel-irqchip=on
	# The KVM-VFIO device in a guest of QEMU's emulator that has the real driver and an IOMMU.
	for m in noncoherent coherent; do
		run "vfio/$m" 900 env BUILD="$build" "$src/tools/vfio-test.sh" "$m"
	done
fi

clear_line
[ -z "$failed" ] || echo "failed:$failed"
[ $skip -eq 0 ] || echo "$skip left out (see skip lines)"
[ $((pass + fail)) -gt 0 ] || echo "no test has a name with: $words"
echo "$pass passed, $fail failed"
[ $fail -eq 0 ] && [ $pass -gt 0 ]
