# SPDX-License-Identifier: MIT
# bench.awk, -v n=N: numbers, arrays, strings.
BEGIN {
	s = 1
	for (i = 0; i < n; i++) {
		for (k = 0; k < 150; k++) {
			s = (s * 16807) % 2147483647
			w = substr("abcdefghijklmnopqrstuvwxyz", s % 20 + 1, 5)
			count[w] += k
			if (w ~ /^[a-m].*k/)
				hits++
			line = line w
		}
		parts = split(line, a, "h")
		total += parts + length(line)
		line = ""
	}
	for (w in count)
		total += count[w]
	printf "%d %d %d\n", s, total, hits
}
