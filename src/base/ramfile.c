/* SPDX-License-Identifier: MIT */
/*
 * See ramfile.h. A few records under one lock, which nobody holds for long: a range is copied before it is in the table.
 */
#include "base/ramfile.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/agent.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/sys.h"

#define RECORDS 64

static struct {
	struct mutex lock;
	u32 n, generation;
	struct ramfile r[RECORDS];
} table = { .lock = MUTEX_INIT("ramfile") };

/* ---- the table ---- */

bool ramfile_first(u64 start, u64 len, struct ramfile *r)
{
	bool found = false;

	mutex_lock(&table.lock);
	for (u32 k = 0; k < table.n; k++) {
		const struct ramfile *t = &table.r[k];

		if (start < t->start + t->len && t->start < start + len && (!found || t->start < r->start))
			*r = *t, found = true;
	}
	mutex_unlock(&table.lock);
	return found;
}

bool ramfile_find(u64 addr, struct ramfile *r)
{
	return ramfile_first(addr, 1, r);
}

bool ramfile_meets(u64 start, u64 len)
{
	struct ramfile r;

	return unlikely(load_acquire(&table.n)) && ramfile_first(start, len, &r);
}

u32 ramfile_generation(void)
{
	return load_acquire(&table.generation);
}

static bool fd_used(int fd)
{
	for (u32 k = 0; k < table.n; k++)
		if (table.r[k].fd == fd)
			return true;
	return false;
}

static bool add(struct ramfile r)
{
	if (table.n == RECORDS)
		return false;
	table.r[table.n] = r;
	store_release(&table.n, table.n + 1);
	store_release(&table.generation, table.generation + 1);
	return true;
}

static void del(u32 k)
{
	table.r[k] = table.r[table.n - 1];
	store_release(&table.n, table.n - 1);
	store_release(&table.generation, table.generation + 1);
}

bool ramfile_forget(u64 start, u64 len)
{
	u64 end = start + len;
	bool any = false;

	if (!ramfile_meets(start, len))
		return false;
	mutex_lock(&table.lock);
	for (u32 k = 0; k < table.n;) {
		struct ramfile r = table.r[k];
		u64 rend = r.start + r.len;

		if (start >= rend || r.start >= end) {
			k++;
			continue;
		}
		any = true;
		del(k);
		if (r.start < start)
			add((struct ramfile){ r.start, start - r.start, r.fd, r.off });
		if (end < rend)
			add((struct ramfile){ end, rend - end, r.fd, r.off + (end - r.start) });
		if (!fd_used(r.fd))
			sys_close(r.fd);
	}
	mutex_unlock(&table.lock);
	return any;
}

unsigned ramfile_fds(int *fds, unsigned max)
{
	unsigned n = 0;

	mutex_lock(&table.lock);
	for (u32 k = 0; k < table.n; k++) {
		bool known = false;

		for (unsigned j = 0; j < MIN(n, max) && !known; j++)
			known = fds[j] == table.r[k].fd;
		if (known)
			continue;
		if (n < max)
			fds[n] = table.r[k].fd;
		n++;
	}
	mutex_unlock(&table.lock);
	return n;
}

void ramfile_forked(void)
{
	mutex_init(&table.lock, "ramfile");
	for (u32 k = 0; k < table.n; k++)
		if (table.r[k].fd >= 0)
			sys_close(table.r[k].fd); /* several may have one: then it is closed already */
	table.n = 0;
}

/* ---- /proc/self/smaps ---- */

struct vma {
	u64 start, end;
	bool plain; /* anonymous, private, readable, writable, not executable, and nothing special about it */
	bool no_dump;
};

static u64 hex(const char **p)
{
	u64 v = 0;

	for (;; (*p)++) {
		char ch = **p;

		if (ch >= '0' && ch <= '9')
			v = v << 4 | (u64)(ch - '0');
		else if (ch >= 'a' && ch <= 'f')
			v = v << 4 | (u64)(ch - 'a' + 10);
		else
			return v;
	}
}

static const char *word(const char *p)
{
	while (*p && *p != ' ')
		p++;
	while (*p == ' ')
		p++;
	return p;
}

/* start-end perms offset device inode [name], the first line of a mapping. */
static bool parse_head(const char *line, struct vma *v)
{
	const char *p = line, *perms;
	u64 start = hex(&p), end;

	if (p == line || *p++ != '-')
		return false;
	end = hex(&p);
	if (*p++ != ' ')
		return false;
	v->start = start;
	v->end = end;
	perms = p;
	p = word(word(word(p)));
	v->plain = !strncmp(perms, "rw-p", 4) && p[0] == '0' && (!p[1] || (p[1] == ' ' && (!*word(p) || *word(p) == '[')));
	if (v->plain && (strstr(p, "[heap]") || strstr(p, "[stack")))
		v->plain = false;
	v->no_dump = false;
	return true;
}

/* The last line. Somebody waits for its faults (userfaultfd), it is locked, a device's, or to be wiped by fork: then it is left alone. */
static bool parse_flags(const char *line, struct vma *v)
{
	static const char *const special[] = { " um", " uw", " ui", " lo", " io", " pf", " wf", " ht" };

	if (strncmp(line, "VmFlags:", 8))
		return false;
	for (unsigned k = 0; k < ARRAY_SIZE(special); k++)
		if (strstr(line, special[k]))
			v->plain = false;
	v->no_dump = strstr(line, " dd");
	return true;
}

/* ---- exchanging ---- */

/*
 * Raw calls, past base/inject.h: what fails here only leaves memory as it is, and no ioctl of the program's fails for it; and what is mapped is the
 * program's, not ours to unmap.
 */
static int raw_open(const char *path)
{
	return (int)sys6(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
}

#define PAGEMAP_THERE (3ull << 62) /* present, or swapped out */

/* Copies what has been written. -1: something has, and must not. */
static int copy(int fd, u64 start, u64 len, bool empty)
{
	int map = raw_open("/proc/self/pagemap");
	u64 bits[512], at = start;

	if (map < 0)
		return -1;
	while (at < start + len) {
		u64 n = MIN(ARRAY_SIZE(bits), (start + len - at) / PAGE_SIZE);

		if (sys_pread(map, bits, n * 8, (off_t)(at / PAGE_SIZE * 8)) != (ssize_t)(n * 8))
			goto fail;
		for (u64 k = 0; k < n;) {
			u64 run = 0;

			while (k + run < n && bits[k + run] & PAGEMAP_THERE)
				run++;
			if (!run) {
				k++;
				continue;
			}
			long want = (long)(run * PAGE_SIZE);
			if (empty || sys6(SYS_pwrite64, fd, (long)(at + k * PAGE_SIZE), want, (long)(at + k * PAGE_SIZE - start), 0, 0) != want)
				goto fail;
			k += run;
		}
		at += n * PAGE_SIZE;
	}
	sys_close(map);
	return 0;

fail:
	sys_close(map);
	return -1;
}

static bool exchange(u64 start, u64 len, bool empty, bool no_dump)
{
	int fd = (int)sys3(SYS_memfd_create, "usekvm-ram", MFD_CLOEXEC, 0);

	if (fd < 0)
		return false;
	if (sys_ftruncate(fd, len) || copy(fd, start, len, empty))
		goto fail;
	void *p = (void *)sys6(SYS_mmap, (long)start, (long)len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
	if (sys_is_err(p))
		goto fail;
	/* As monitors ask for it: a private copy of such memory was no child's, and large pages where the host has them for shared memory. */
	sys_madvise(p, len, MADV_DONTFORK);
	sys_madvise(p, len, MADV_HUGEPAGE);
	if (no_dump)
		sys_madvise(p, len, MADV_DONTDUMP);
	mutex_lock(&table.lock);
	bool known = add((struct ramfile){ start, len, fd, 0 });
	mutex_unlock(&table.lock);
	if (!known)
		sys_close(fd);
	log_debug(mem, "memory at %#llx, %llu KiB, is shared memory now", (unsigned long long)start, (unsigned long long)len >> 10);
	return true;

fail:
	sys_close(fd);
	return false;
}

struct job {
	u64 start, len;
	bool empty;
};

/* The pieces that can be exchanged are gathered first: exchanging changes what is being read. */
#define PIECES 16

static void share(void *arg)
{
	const struct job *j = arg;
	struct vma v = { 0 };
	struct vma piece[PIECES];
	unsigned n = 0;
	char buf[4096];
	size_t have = 0;
	int fd = raw_open("/proc/self/smaps");

	if (fd < 0)
		return;
	for (;;) {
		ssize_t got = sys_read(fd, buf + have, sizeof(buf) - 1 - have);
		char *line = buf, *end;

		if (got <= 0)
			break;
		have += (size_t)got;
		buf[have] = 0;
		while ((end = strchr(line, '\n'))) {
			*end = 0;
			if (!parse_head(line, &v) && parse_flags(line, &v) && v.plain && v.start < j->start + j->len && j->start < v.end && n < PIECES)
				piece[n++] = (struct vma){ MAX(v.start, j->start), MIN(v.end, j->start + j->len), true, v.no_dump };
			line = end + 1;
		}
		have = (size_t)(buf + have - line);
		memmove(buf, line, have);
		if (have == sizeof(buf) - 1)
			break; /* no line of that file */
	}
	sys_close(fd);
	for (unsigned k = 0; k < n; k++)
		if (piece[k].end - piece[k].start >= RAMFILE_MIN)
			exchange(piece[k].start, piece[k].end - piece[k].start, j->empty, piece[k].no_dump);
}

void ramfile_share(u64 start, u64 len, bool empty)
{
	struct job j = { start, len, empty };

	if (len >= RAMFILE_MIN)
		agent_call(share, &j);
}
