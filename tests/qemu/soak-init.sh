#!/bin/sh
# SPDX-License-Identifier: MIT
# /init of the guest of tools/soak.sh: sets of stressors one after the other for as many seconds as usekvm.soak=N says; CPU 1 off line and back all the time;
# a CPU that is plugged in is brought on line.
export PATH=/bin:/usr/bin LD_LIBRARY_PATH=/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm /tmp 2>/dev/null
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm 2>/dev/null
while read -r m; do insmod "/modules/$m" || echo "soak: FAILED: module $m cannot be loaded"; done </modules/order
limit=$(sed -n 's/.*usekvm\.soak=\([0-9]*\).*/\1/p' /proc/cmdline)
uptime()
{
	read -r up rest </proc/uptime
	echo "${up%.*}"
}
cd /tmp || exit 1
echo "soak: begins, $(grep -c ^processor /proc/cpuinfo) CPUs, clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource), $limit s"
begin=$(uptime)

n=0
while :; do
	sleep 3
	echo 0 >/sys/devices/system/cpu/cpu1/online || echo "soak: FAILED: CPU 1 does not go"
	sleep 1
	echo 1 >/sys/devices/system/cpu/cpu1/online || echo "soak: FAILED: CPU 1 does not come back"
	n=$((n + 1))
	[ $((n % 5)) != 0 ] || echo "soak: cpu 1 off and on $n"
done &
toggler=$!
# Between a CPU's appearing and its going it is brought on line once.
there=
while :; do
	if [ -e /sys/devices/system/cpu/cpu2/online ]; then
		if [ -z "$there" ] && echo 1 >/sys/devices/system/cpu/cpu2/online 2>/dev/null; then
			there=1
			echo "soak: cpu 2 is there"
		fi
	else
		[ -z "$there" ] || echo "soak: cpu 2 is gone"
		there=
	fi
	sleep 1
done &
plugger=$!

set_no=0
stress()
{
	[ $(($(uptime) - begin)) -lt "$limit" ] || return
	set_no=$((set_no + 1))
	stress-ng --quiet --temp-path /tmp --verify --timeout 12 --oomable "$@" >/tmp/out 2>&1
	rc=$?
	if [ $rc = 0 ]; then
		echo "soak: set $set_no ok: $*"
	elif [ $rc = 3 ]; then # out of resources: memory is squeezed, CPUs are taken away
		echo "soak: set $set_no lacked resources: $*"
	else
		echo "soak: FAILED: set $set_no: exit code $rc: $*"
		cat /tmp/out
	fi
}
while [ $(($(uptime) - begin)) -lt "$limit" ]; do
	stress --cpu 2 --cpu-method all --vm 2 --vm-bytes 48m
	stress --switch 2 --pipe 2 --futex 2 --sem 2
	stress --fork 2 --exec 1 --vfork 1 --clone 1
	stress --mmap 2 --mmap-bytes 32m --mremap 1 --mremap-bytes 16m --tlb-shootdown 2
	stress --vecmath 1 --matrix 1 --fp-error 1 --vecwide 1
	stress --timer 2 --nanosleep 1 --itimer 1 --clock 1
	stress --icache 1 --bsearch 1 --qsort 1 --hash 1
	stress --memcpy 1 --stream 1 --cache 2
	stress --sigsegv 1 --sigfpe 1 --sigtrap 1 --sigfd 1
	stress --eventfd 1 --poll 1 --epoll 1 --sock 1
	stress --shm 1 --shm-bytes 8m --madvise 1 --fault 1 --vm-rw 1 --vm-rw-bytes 8m
	stress --getrandom 1 --tsc 1 --atomic 2 --peterson 1 --dekker 1
	stress --funccall 1 --longjmp 1 --bad-altstack 1 --stack 1
	stress --hdd 1 --hdd-bytes 16m --filename 1 --dentry 1
	stress --membarrier 1 --yield 2 --affinity 1
done
echo "soak: stressors done"
kill $toggler $plugger
wait
echo "soak: bad lines $(dmesg | grep -v -e hw-vuln -e 'Marking TSC unstable due to TSCs' | grep -c -E 'unstable|lost tick|stuck for|BUG:|WARNING:|soft lockup|stall|blocked for more')"
echo "soak: done, $set_no sets in $(($(uptime) - begin)) s"
poweroff -f
