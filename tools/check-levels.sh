#!/bin/sh
# SPDX-License-Identifier: MIT
# A folder of src/ includes only its own level and lower ones (docs/ARCHITECTURE.md). Prints each arrow that points up.
cd "${1:-$(dirname "$0")/..}/src" || exit 2
find . -name '*.[chS]' | sort | xargs grep -Hn '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[a-z0-9_]*/' | awk -F: '
BEGIN {
	level["base"] = 0
	level["cpu"] = level["decode"] = level["vfile"] = 1
	level["mem"] = level["iobus"] = 2
	level["mmu"] = level["irqchip"] = 3
	level["interp"] = 4; level["translate"] = 4.5; level["direct"] = 4.7
	level["kvm"] = 5
	level["devices"] = level["xinterface"] = 6
	level["api"] = 7
	level["preload"] = level["cli"] = 8
}
{
	split($1, part, "/"); from = part[2]
	to = $3; sub(/^[^"]*"/, "", to); sub(/\/.*/, "", to)
	if (to == "usekvm") next # public headers
	n++
	if (!(from in level)) { print $1 ":" $2 ": folder " from " has no level"; bad++; next }
	if (!(to in level)) { print $1 ":" $2 ": folder " to " has no level"; bad++; next }
	if (level[to] > level[from]) { print $1 ":" $2 ": " from "/ includes " to "/, which is above it"; bad++ }
}
END {
	if (n == 0) { print "no includes found"; exit 1 }
	if (bad) exit 1
	print n " includes point down or stay"
}'
