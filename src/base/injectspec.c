/* SPDX-License-Identifier: MIT */
/*
 * What --inject and USEKVM_INJECT are given: a list, separated by commas, of
 *
 *   KIND[=N]   eintr, wake, kick or nomem happens once in N places where it may (a default of its own without N)
 *   seed=S     another sequence (1)
 *   delay=US   a slow kick takes up to so many microseconds (1000)
 *
 * No state and no C library's heap: compiled into the library and into the launcher.
 */
#include <stdlib.h>
#include <string.h>

#include "base/inject.h"

#define DEFAULT_DELAY_US 1000
#define MAX_DELAY_US 10000000
#define MAX_ONE_IN 1000000000

const char *const inject_name[INJECT_KINDS] = { "eintr", "wake", "kick", "nomem" };
static const u32 default_one_in[INJECT_KINDS] = { 50, 20, 50, 100 };

/* Decimal digits only, all n of them. */
static bool number(const char *p, size_t n, u64 max, u64 *out)
{
	u64 val = 0;

	if (!n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		u32 digit = (u32)(p[i] - '0');
		if (val > (max - digit) / 10)
			return false;
		val = val * 10 + digit;
	}
	*out = val;
	return true;
}

static bool is(const char *name, const char *p, size_t n)
{
	return strlen(name) == n && !strncmp(name, p, n);
}

/* NAME[=VALUE], `name` bytes of name and, if `eq`, `value` bytes after it. */
static bool item(struct inject_spec *s, const char *p, size_t name, bool eq, size_t value)
{
	const char *v = p + name + 1;
	u64 val;

	if (is("seed", p, name))
		return eq && number(v, value, ~0ull, &s->seed);
	if (is("delay", p, name)) {
		if (!eq || !number(v, value, MAX_DELAY_US, &val))
			return false;
		s->delay_us = (u32)val;
		return true;
	}
	for (unsigned k = 0; k < INJECT_KINDS; k++) {
		if (!is(inject_name[k], p, name))
			continue;
		val = default_one_in[k];
		if (eq && (!number(v, value, MAX_ONE_IN, &val) || !val))
			return false;
		s->one_in[k] = (u32)val;
		return true;
	}
	return false;
}

int inject_parse(const char *text, struct inject_spec *out, const char **bad)
{
	struct inject_spec s = { .delay_us = DEFAULT_DELAY_US, .seed = 1 };
	const char *p = text;

	for (;;) {
		size_t n = strcspn(p, ","), name = strcspn(p, "=,");

		if (!item(&s, p, name, name < n, name < n ? n - name - 1 : 0)) {
			*bad = p;
			return -1;
		}
		if (!p[n])
			break;
		p += n + 1;
	}
	*out = s;
	return 0;
}
