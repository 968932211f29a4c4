#!/bin/sh
# SPDX-License-Identifier: MIT
# check-headers.sh [SOURCE]: each public header compiles alone, in C and, where there is a C++ compiler, in C++; twice over too.
src=${1:-$(dirname "$0")/..}
bad=0 n=0
for h in "$src"/include/usekvm/*.h; do
	n=$((n + 1))
	unit=$(printf '#include <usekvm/%s>\n#include <usekvm/%s>\nint usekvm_header_check;\n' "${h##*/}" "${h##*/}")
	for std in c11 gnu11; do
		echo "$unit" | ${CC:-cc} -x c -std=$std -Wall -Wextra -Werror -I"$src/include" -fsyntax-only - || bad=1
	done
	if command -v c++ >/dev/null; then
		echo "$unit" | c++ -x c++ -Wall -Wextra -Werror -I"$src/include" -fsyntax-only - || bad=1
	fi
done
[ $n -gt 0 ] || { echo "no public headers found"; exit 1; }
[ $bad = 0 ] && echo "$n public headers compile alone"
exit $bad
