/* SPDX-License-Identifier: MIT */
/*
 * The perf map: a line is appended by open, write and close, since descriptors are the VMM's, which may close and reuse ours; lines are as
 * rare as translations. A sandbox that forbids it is met once, and then no more is tried.
 *
 * The symbols of System.map are read once: an array of those that are code, sorted by address, that point into the text, which stays mapped.
 */
#include "base/perfmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/lock.h"
#include "base/log.h"
#include "base/string.h"
#include "base/sys.h"

struct symbol {
	u64 address;
	const char *name;
	u32 len;
};

static struct {
	struct mutex lock;
	bool wanted, failed, begun;
	struct symbol *sym;
	size_t nsym;
} map = { .lock = MUTEX_INIT("perf map") };

/* ---- System.map ---- */

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static bool hex(const char **p, const char *end, u64 *val)
{
	const char *start = *p;

	for (*val = 0; *p < end; ++*p) {
		char c = **p;
		unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
		if (digit == 16)
			break;
		*val = *val << 4 | digit;
	}
	return *p > start;
}

/* "ADDRESS TYPE NAME", TYPE t, T, w, W: code. */
static bool parse_line(const char *p, const char *end, struct symbol *s)
{
	if (!hex(&p, end, &s->address) || end - p < 4 || p[0] != ' ' || p[2] != ' ')
		return false;
	if (p[1] != 't' && p[1] != 'T' && p[1] != 'w' && p[1] != 'W')
		return false;
	s->name = p + 3;
	for (p += 3; p < end && *p > ' '; p++)
		;
	s->len = (u32)(p - s->name);
	return s->len > 0 && s->len < 256;
}

static size_t parse(const char *text, size_t n, struct symbol *out)
{
	const char *end = text + n;
	size_t found = 0;
	struct symbol s;

	for (const char *p = text, *eol; p < end; p = eol + 1) {
		for (eol = p; eol < end && *eol != '\n'; eol++)
			;
		if (!parse_line(p, eol, &s))
			continue;
		if (out)
			out[found] = s;
		found++;
	}
	return found;
}

/* The whole file, however it is had (/proc/kallsyms has no size). */
static ssize_t read_all(const char *path, char **text)
{
	size_t size = 1u << 20, n = 0;
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	ssize_t r = fd;

	*text = NULL;
	if (fd < 0)
		return fd;
	do {
		char *more = realloc(*text, size *= 2);
		if (!more) {
			r = -ENOMEM;
			break;
		}
		*text = more;
		while (n < size && (r = sys_read(fd, *text + n, size - n)) > 0)
			n += (size_t)r;
	} while (r > 0);
	sys_close(fd);
	return r < 0 ? r : (ssize_t)n;
}

static int load(const char *path)
{
	char *text;
	ssize_t n = read_all(path, &text);

	if (n < 0) {
		free(text);
		return (int)n;
	}
	size_t count = parse(text, (size_t)n, NULL);
	struct symbol *s = count ? malloc(count * sizeof(*s)) : NULL;
	if (!s) {
		free(text);
		return count ? -ENOMEM : -ENOEXEC;
	}
	parse(text, (size_t)n, s);
	qsort(s, count, sizeof(*s), by_address);
	map.sym = s;
	map.nsym = count;
	return 0;
}

int perf_map_start(const char *system_map)
{
	map.wanted = true;
	return *system_map ? load(system_map) : 0;
}

void perf_map_forked(void)
{
	mutex_init(&map.lock, "perf map");
	map.begun = false;
}

bool perf_map_wanted(void)
{
	return map.wanted;
}

/* ---- lines ---- */

/* The last symbol at or below the address, if it is near. */
static const struct symbol *symbol_of(u64 address)
{
	size_t lo = 0, hi = map.nsym;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (map.sym[mid].address <= address)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo && address - map.sym[lo - 1].address < 1u << 20 ? &map.sym[lo - 1] : NULL;
}

static void append(const char *line, size_t n)
{
	char path[64];
	int fd;
	ssize_t r;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", sys_getpid());
	mutex_lock(&map.lock);
	if (!map.failed) {
		fd = sys_open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (map.begun ? O_APPEND : O_TRUNC), 0644);
		r = fd;
		if (fd >= 0) {
			r = sys_write(fd, line, n);
			sys_close(fd);
			map.begun = true;
		}
		if (r < 0) {
			map.failed = true;
			log_error(translate, "%s cannot be written (error %d): no perf map", path, (int)-r);
		}
	}
	mutex_unlock(&map.lock);
}

void perf_map_add(const void *host, u64 size, u64 rip, const char *name)
{
	const struct symbol *s = name ? NULL : symbol_of(rip);
	char line[400];
	int n;

	n = snprintf(line, sizeof(line), "%llx %llx ", (unsigned long long)host, (unsigned long long)size);
	if (name)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%s\n", name);
	else if (s)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%.*s+0x%llx\n", (int)s->len, s->name, (unsigned long long)(rip - s->address));
	else
		n += snprintf(line + n, sizeof(line) - (size_t)n, "guest_%llx\n", (unsigned long long)rip);
	append(line, (size_t)n);
}
