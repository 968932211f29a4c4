#!/bin/sh
# SPDX-License-Identifier: MIT
# check-status.sh [SOURCE]: docs/status.md has a row for each request of src/api/table.h and each capability of src/api/caps.c, and names no test
# that there is not; each device type of src/devices/device.c has its page.
src=${1:-$(dirname "$0")/..}
cd "$src" || exit 2
bad=0 n=0 s=0
for name in $(sed -n 's/^X(\(KVM_[A-Z0-9_]*\),.*/\1/p' src/api/table.h | sort -u) $(grep -o 'X(KVM_CAP_[A-Z0-9_]*,' src/api/caps.c | sed 's/X(//; s/,//'); do
	n=$((n + 1))
	grep -q "^|.*\`$name\` |" docs/status.md || { echo "docs/status.md has no row for $name"; bad=1; }
done
for t in $(sed -n '/^## Requests/,/^## Instructions/s/^| .* | .* | .* | \(.*\) |$/\1/p' docs/status.md | grep -v -e 'its requests' -e 'every API test' -e 'none yet' -e 'shown by' | tr -d ',' | tr ' ' '\n' | sort -u); do
	[ "$t" = --- ] || ls tests/*/"$t".c >/dev/null 2>&1 || { echo "docs/status.md names a test $t that there is not"; bad=1; }
done
for t in $(sed -n '/^| statement | test |/,/^$/s/^| .* | \(.*\) |$/\1/p' docs/status.md | grep -oE '\b(api|unit|smp|debug|devices|xinterface)/[a-z0-9_-]+' | sort -u); do
	kind=${t%/*} name=${t#*/} s=$((s + 1))
	grep -qs "^$t " tests/"$kind"/list || [ -f tests/"$kind"/"$name".c ] || [ -f tests/"$kind"/test_"$name".c ] ||
		[ -f tests/"$kind"/plugins/"$name".sh ] || { echo "docs/status.md names a test $t that there is not"; bad=1; }
done
[ "$s" -gt 30 ] || { echo "only $s tests stand beside statements"; bad=1; }
for type in $(sed -n '/^const struct usekvm_device_ops \*device_type/,/^}/s/.*case \([A-Z_]*\):.*/\1/p' src/devices/device.c); do
	page=$(sed -n "s/^| \`$type\` | .* | \[\(.*\.md\)\](.*/\1/p" docs/devices/README.md)
	{ [ -n "$page" ] && grep -q "^#.*$type" "docs/devices/$page"; } || { echo "$type has no page under docs/devices"; bad=1; }
done
[ $n -gt 50 ] || { echo "only $n requests and capabilities found"; bad=1; }
[ $bad = 0 ] && echo "$n requests and capabilities have rows"
exit $bad
