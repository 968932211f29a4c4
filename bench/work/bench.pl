# SPDX-License-Identifier: MIT
# bench.pl N: strings, hashes, regular expressions, sorting.
my $n = shift;
my $s = 12345;
my (%count, @words);
for my $round (1 .. $n) {
	@words = ();
	for (1 .. 300) {
		$s = ($s * 1103515245 + 12345) % 2147483648;
		push @words, join('', map { chr(97 + ($s >> $_) % 26) } (3, 7, 11, 15));
	}
	$count{$_}++ for @words;
	my $text = join(' ', sort @words);
	$s += () = $text =~ /\b[aeiou]\w*?([b-d])\w*\b/g;
	(my $t = $text) =~ s/(\w)(\w)/$2$1/g;
	$s += length($t) + unpack('%32C*', $t);
}
my $sum = 0;
$sum = ($sum * 31 + $count{$_} * ord) % 1000000007 for sort keys %count;
print "$s $sum\n";
