/* SPDX-License-Identifier: MIT */
/*
 * Log lines: formatted into one buffer on the stack, written by one write, so lines of several threads do not mix.
 *
 * The VMM owns the descriptor table: it may close ours (close_range, daemon()) and reuse the number. So the file is known by device
 * and inode, checked before each write, and opened again when it is not the one.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "base/lock.h"
#include "base/string.h"
#include "base/sys.h"

#define LINE_MAX_LEN 1024
#define FD_FLOOR 200 /* VMMs expect the low numbers to come in their own order */

u8 log_levels[LOG_COUNT] = { [0 ... LOG_COUNT - 1] = LOG_WARN };

static const char *const subsystem_names[LOG_COUNT] = {
#define X(n) #n,
	LOG_SUBSYSTEMS(X)
#undef X
};
static const char *const level_names[] = { "none", "error", "warn", "info", "debug", "trace" };

static struct {
	struct mutex lock;
	char path[512];
	int fd;
	u64 dev, ino;
} log_file = { .lock = MUTEX_INIT("log"), .fd = -1 };

static bool word_is(const char *s, size_t n, const char *name)
{
	return strlen(name) == n && !memcmp(s, name, n);
}

static size_t word_len(const char *s, const char *stops)
{
	size_t n = 0;

	for (; s[n]; n++)
		for (const char *p = stops; *p; p++)
			if (s[n] == *p)
				return n;
	return n;
}

static int find_level(const char *s, size_t n)
{
	for (unsigned i = 0; i < ARRAY_SIZE(level_names); i++)
		if (word_is(s, n, level_names[i]))
			return (int)i;
	return -EINVAL;
}

/* One "SUBSYSTEM:LEVEL" or "LEVEL" (for all). */
static int configure_one(const char *s, size_t n, u8 *levels, const char **bad)
{
	size_t name_len = word_len(s, ":,");
	const char *level = name_len < n ? s + name_len + 1 : s;
	int value = find_level(level, (size_t)(s + n - level));
	bool all = level == s || word_is(s, name_len, "all");
	bool found = all;

	if (value < 0) {
		*bad = level;
		return value;
	}
	for (unsigned i = 0; i < LOG_COUNT; i++) {
		if (all || word_is(s, name_len, subsystem_names[i])) {
			levels[i] = (u8)value;
			found = true;
		}
	}
	*bad = s;
	return found ? 0 : -EINVAL;
}

int log_configure(const char *spec, const char **bad)
{
	u8 levels[LOG_COUNT];
	const char *dummy;

	if (!bad)
		bad = &dummy;
	memcpy(levels, log_levels, sizeof(levels));
	for (const char *s = spec; *s;) {
		size_t n = word_len(s, ",");

		if (n) {
			int r = configure_one(s, n, levels, bad);

			if (r < 0)
				return r;
		}
		s += n;
		if (*s == ',')
			s++;
	}
	for (unsigned i = 0; i < LOG_COUNT; i++)
		store_relaxed(&log_levels[i], levels[i]);
	return 0;
}

static int open_log_file(void)
{
	int low = sys_open(log_file.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
	int fd;

	if (low < 0)
		return low;
	fd = (int)sys3(SYS_fcntl, low, F_DUPFD_CLOEXEC, FD_FLOOR);
	if (fd < 0)
		fd = low;
	else
		sys_close(low);
	if (sys_fstat_id(fd, &log_file.dev, &log_file.ino) < 0)
		return -EIO;
	log_file.fd = fd;
	return fd;
}

int log_set_file(const char *path)
{
	size_t n = path ? strlen(path) : 0;
	int r = 0;

	if (n >= sizeof(log_file.path))
		return -ENAMETOOLONG;
	mutex_lock(&log_file.lock);
	memcpy(log_file.path, path ? path : "", n + 1);
	log_file.fd = -1;
	if (n)
		r = open_log_file();
	mutex_unlock(&log_file.lock);
	return r < 0 ? r : 0;
}

static void write_line(const char *line, size_t n)
{
	int fd = 2;

	if (log_file.path[0]) {
		u64 dev, ino;

		mutex_lock(&log_file.lock);
		fd = log_file.fd;
		if (fd < 0 || sys_fstat_id(fd, &dev, &ino) < 0 || dev != log_file.dev || ino != log_file.ino)
			fd = open_log_file();
		mutex_unlock(&log_file.lock);
	}
	if (fd >= 0)
		sys_write(fd, line, n);
}

void log_write(enum log_subsystem s, enum log_level l, const char *fmt, ...)
{
	char line[LINE_MAX_LEN];
	int saved = errno;
	size_t room = sizeof(line) - 1;
	va_list ap;
	int n, m;

	n = snprintf(line, room, "usekvm[%d] %s %s: ", sys_gettid(), subsystem_names[s], level_names[l]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, room - (size_t)n, fmt, ap);
	va_end(ap);
	if (m > 0)
		n = MIN(n + m, (int)room - 1);
	if (line[n - 1] != '\n')
		line[n++] = '\n';
	write_line(line, (size_t)n);
	errno = saved;
}
