#!/bin/sh
# SPDX-License-Identifier: MIT
# What programs read about KVM's modules: the files are there for them whatever the host has, cannot be written to, and say what usekvm has.
. "$(dirname "$0")/common.inc"
dir=/sys/module/kvm/parameters
gives '^0$' "$usekvm" cat $dir/force_emulation_prefix
gives '^N$' "$usekvm" cat $dir/enable_pmu
case $(sed -n 's/^vendor_id[^:]*: //p' /proc/cpuinfo | head -n 1) in
GenuineIntel) gives '^Y$' "$usekvm" cat /sys/module/kvm_intel/parameters/unrestricted_guest ;;
*) gives '^N$' "$usekvm" cat /sys/module/kvm_amd/parameters/avic ;;
esac
gives '^a file to read$' "$usekvm" bash -c "[ -f $dir/enable_pmu ] && [ -s $dir/enable_pmu ] && echo a file to read"
refused nonzero 'ermission denied' "$usekvm" dd if=/dev/null of=$dir/enable_pmu conv=notrunc
refused nonzero 'No such file' "$usekvm" cat $dir/no_such_parameter
refused nonzero . "$usekvm" sh -c "[ -e $dir/no_such_parameter ] || { echo no >&2; exit 1; }"
gives '^there$' "$usekvm" sh -c "[ -d /sys/module ] && echo there"
finish
