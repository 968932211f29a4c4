# SPDX-License-Identifier: MIT
# The table of bench/workloads.sh: first file the list of rows (NAME GROUP CPUS), second the lines SYSTEM ROW SECONDS CHECKSUM CPU-SECONDS, or a word
# for SECONDS; `field` is 3 or 5, which of the times; `best` the fastest and not the median. A row has a time where all its rounds have one and
# the same checksum. Columns: the systems, native first; each system's ratio to native; each further system's ratio to the first that is not
# native; the spread.
function sort_values(key,    n, i, k, t)
{
	n = count[key]
	for (i = 1; i <= n; i++)
		sorted[i] = value[key, i]
	for (i = 2; i <= n; i++)
		for (k = i; k > 1 && sorted[k] < sorted[k - 1]; k--) {
			t = sorted[k]
			sorted[k] = sorted[k - 1]
			sorted[k - 1] = t
		}
	return n
}
function measure(s, row,    n, key, middle, spread)
{
	key = s SUBSEP row
	n = sort_values(key)
	middle = best ? sorted[1] : n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
	time[s, row] = middle
	spread = n > 1 && middle > 0 ? 100 * (sorted[n] - sorted[1]) / middle : 0
	if (spread > spreads[row])
		spreads[row] = spread
}
# The ratio in column c, which counts for the means of its group and of all.
function ratio(row, c,    r)
{
	if (!((above[c], row) in time) || !((below[c], row) in time) || time[below[c], row] <= 0)
		return "-"
	r = time[above[c], row] / time[below[c], row]
	logs[group[row], c] += log(r)
	number[group[row], c]++
	if (group[row] != "boot") {
		logs["all", c] += log(r)
		number["all", c]++
	}
	return sprintf("%.2f", r)
}
function cell(s, row)
{
	return (s, row) in time ? sprintf("%.3f", time[s, row]) : (s, row) in why ? why[s, row] : "-"
}
function put(c, text)
{
	printf " %" width[c] "s |", text
}
function print_row(row,    c)
{
	printf "| %-23s |", row
	for (c = 1; c <= times; c++)
		put(c, cell(shown[c], row))
	for (; c <= columns; c++)
		put(c, ratio(row, c))
	put(c, rounds > 1 && row in spreads ? sprintf("%d %%", spreads[row] + 0.5) : "")
	print ""
}
function print_mean(title, g,    c)
{
	printf "| %-23s |", "*" title "*"
	for (c = 1; c <= columns; c++)
		put(c, c <= times ? "" : number[g, c] ? sprintf("%.2f", exp(logs[g, c] / number[g, c])) : "-")
	put(c, "")
	print ""
}
function add_column(a, b, title)
{
	columns++
	above[columns] = a
	below[columns] = b
	head[columns] = title
	width[columns] = length(title) > 7 ? length(title) : 7
}
FNR == NR {
	order[++rows] = $1
	group[$1] = $2
	next
}
$3 ~ /^[0-9]/ {
	value[$1 SUBSEP $2, ++count[$1 SUBSEP $2]] = $field
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
	n = split(systems, given, " ")
	for (i = 1; i <= n; i++)
		if (given[i] == "native")
			shown[++times] = "native"
	native = times
	for (i = 1; i <= n; i++)
		if (given[i] != "native")
			shown[++times] = given[i]
	for (i = 1; i <= times; i++)
		add_column("", "", shown[i])
	for (i = native + 1; native && i <= times; i++)
		add_column(shown[i], "native", shown[i] "/native")
	for (i = native + 2; i <= times; i++)
		add_column(shown[i], shown[native + 1], shown[i] "/" shown[native + 1])
	head[columns + 1] = rounds > 1 ? "spread" : ""
	width[columns + 1] = 6

	order[++rows] = "boot"
	group["boot"] = "boot"
	for (i = 1; i <= rows; i++) {
		row = order[i]
		for (k = 1; k <= times; k++) {
			key = shown[k] SUBSEP row
			if (row in differs)
				why[key] = "sums"
			else if (!(key in why) && count[key] >= rounds)
				measure(shown[k], row)
			else if (!(key in why) && row != "boot") {
				why[key] = "missing"
				bad++
			}
		}
	}
	for (row in differs) {
		bad++
		print "error: " row ": the checksums of the systems or rounds differ" >"/dev/stderr"
	}

	printf "| %-23s |", (best ? "best " : "median ") (field == 5 ? "CPU s, ratios" : "s, ratios")
	for (c = 1; c <= columns + 1; c++)
		put(c, head[c])
	printf "\n|---|"
	for (c = 1; c <= columns + 1; c++)
		printf "---:|"
	print ""
	m = split("app vector kernel boot", groups, " ")
	title["app"] = "applications, CPU"
	title["vector"] = "vector, float, crypto"
	title["kernel"] = "kernel-bound"
	for (g = 1; g <= m; g++) {
		some = 0
		for (i = 1; i <= rows; i++)
			if (group[order[i]] == groups[g] && (groups[g] != "boot" || times > native)) {
				print_row(order[i])
				some++
			}
		if (some && groups[g] != "boot")
			print_mean(title[groups[g]], groups[g])
	}
	print_mean("all but boot", "all")
	exit bad > 0
}
