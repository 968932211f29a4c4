# SPDX-License-Identifier: MIT
# The table of bench/workloads.sh: first file the list of rows (NAME GROUP CPUS), second the lines SYSTEM ROW SECONDS CHECKSUM, or a word for
# SECONDS. A row has a median where all its rounds have a time and the same checksum.
function median(key,    n, i, k, t, v)
{
	n = count[key]
	for (i = 1; i <= n; i++)
		v[i] = value[key, i]
	for (i = 2; i <= n; i++)
		for (k = i; k > 1 && v[k] < v[k - 1]; k--) {
			t = v[k]
			v[k] = v[k - 1]
			v[k - 1] = t
		}
	return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
# The ratio of two systems in a row, which counts for the means of its group and of all.
function ratio(row, group, a, b,    r, k)
{
	if (!((a, row) in time) || !((b, row) in time))
		return "-"
	r = time[a, row] / time[b, row]
	k = a "/" b
	logs[group, k] += log(r)
	number[group, k]++
	if (group != "boot") {
		logs["all", k] += log(r)
		number["all", k]++
	}
	return sprintf("%.2f", r)
}
function mean(group, k)
{
	return number[group, k] ? sprintf("%.2f", exp(logs[group, k] / number[group, k])) : "-"
}
function cell(s, row)
{
	return (s, row) in time ? sprintf("%.3f", time[s, row]) : (s, row) in why ? why[s, row] : "-"
}
function line(name, a, b, c, d, e, f)
{
	printf "| %-16s | %8s | %8s | %8s | %8s | %8s | %8s |\n", name, a, b, c, d, e, f
}
BEGIN { title["app"] = "applications, CPU"; title["vector"] = "vector, float, crypto"; title["kernel"] = "kernel-bound" }
FNR == NR {
	order[++rows] = $1
	group[$1] = $2
	next
}
$3 ~ /^[0-9]/ {
	value[$1 SUBSEP $2, ++count[$1 SUBSEP $2]] = $3
	if ($2 in sum && sum[$2] != $4)
		differs[$2] = 1
	sum[$2] = $4
	next
}
{
	why[$1, $2] = $3
	if ($3 != "absent") {
		bad++
		print "error: " $0 >"/dev/stderr"
	}
}
END {
	n = split(systems, system_names, " ")
	order[++rows] = "boot"
	group["boot"] = "boot"
	for (i = 1; i <= rows; i++) {
		row = order[i]
		for (k = 1; k <= n; k++) {
			s = system_names[k]
			key = s SUBSEP row
			if (row in differs)
				why[s, row] = "sums"
			else if (count[key] == rounds)
				time[s, row] = median(key)
			else if (!(key in why) && !(row == "boot" && s == "native")) {
				why[s, row] = "missing"
				if (row != "boot" || count[key])
					bad++
			}
		}
	}
	for (row in differs) {
		bad++
		print "error: " row ": the checksums of the systems or rounds differ" >"/dev/stderr"
	}
	line("seconds", "native", "usekvm", "tcg", "use/nat", "tcg/nat", "tcg/use")
	print "|---|---|---|---|---|---|---|"
	m = split("app vector kernel boot", groups, " ")
	for (g = 1; g <= m; g++) {
		shown = 0
		for (i = 1; i <= rows; i++) {
			row = order[i]
			if (group[row] != groups[g])
				continue
			line(row, cell("native", row), cell("usekvm", row), cell("tcg", row), ratio(row, groups[g], "usekvm", "native"),
				ratio(row, groups[g], "tcg", "native"), ratio(row, groups[g], "tcg", "usekvm"))
			shown++
		}
		if (shown && groups[g] != "boot")
			line("*" title[groups[g]] "*", "", "", "", mean(groups[g], "usekvm/native"), mean(groups[g], "tcg/native"), mean(groups[g], "tcg/usekvm"))
	}
	line("*all but boot*", "", "", "", mean("all", "usekvm/native"), mean("all", "tcg/native"), mean("all", "tcg/usekvm"))
	exit bad > 0
}
