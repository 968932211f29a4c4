/* SPDX-License-Identifier: MIT */
/*
 * Calls on different vCPUs write no cache line in common. Two threads, a vCPU each, do KVM_GET_REGS and KVM_RUN of a guest that exits at once; the
 * kernel says which pages of the process each of them has written (PAGEMAP_SCAN). A page that both have is looked at while they run: the
 * lines that change must be different ones. First the same with a word that both do write, which must be found.
 *
 * Linux 6.7; on older ones unit/layout has to do.
 */
#include <linux/userfaultfd.h>
#include <stdatomic.h>

#include "kvmtest.h"

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif

struct region {
	u64 start, end, categories;
};
struct scan {
	u64 size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof, give;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct scan)
#define WRITTEN 2ull
#define WP_MATCHING 1ull

#define PAGE 4096ul
#define MAX_PAGES 4096
#define CALLS 2000

GUEST16(prog, "1: out %al, $0x10\n jmp 1b\n");

struct set {
	unsigned n;
	u64 page[MAX_PAGES];
};

static struct worker {
	pthread_t thread;
	int fd, go[2], done[2];
} worker[2];

static bool share;      /* both write *common as well */
static u32 *common;
static int pagemap, faults;
static struct region area[512];
static unsigned areas;
static _Atomic bool endless;

static void *work(void *arg)
{
	struct worker *w = arg;
	struct kvm_regs r;
	int n;

	while (read(w->go[0], &n, sizeof(n)) == sizeof(n)) {
		for (int i = 0; n < 0 ? endless : i < n; i++) {
			if (ioctl(w->fd, KVM_GET_REGS, &r) || ioctl(w->fd, KVM_RUN, 0ul))
				abort();
			if (share)
				__atomic_fetch_add(common, 1, __ATOMIC_RELAXED);
		}
		if (write(w->done[1], &n, sizeof(n)) != sizeof(n))
			abort();
	}
	return NULL;
}

static void start(struct worker *w, int calls)
{
	REQUIRE(write(w->go[1], &calls, sizeof(calls)) == sizeof(calls));
}

static void wait_for(struct worker *w)
{
	int n;

	REQUIRE(read(w->done[0], &n, sizeof(n)) == sizeof(n));
}

/* Every writable mapping is watched from now on. */
static void watch_all(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED};
	unsigned long start, end, total = 0;
	bool library = false;
	char line[512], perm[8];
	FILE *f;

	/* A sanitizer's shadow: written by all, and more than page tables should be made for. */
	f = fopen("/proc/self/maps", "re");
	REQUIRE(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %7s", &start, &end, perm) == 3 && perm[1] == 'w')
			total += end - start;
	if (total >> 40)
		SKIP("%lu GiB of writable mappings are too many to watch (a sanitizer's)", total >> 30);
	rewind(f);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (pagemap < 0 || faults < 0 || ioctl(faults, UFFDIO_API, &api))
		SKIP("no userfaultfd() that notes writes: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_WP};

		if (sscanf(line, "%lx-%lx %7s", &start, &end, perm) != 3 || perm[1] != 'w')
			continue;
		reg.range.start = start;
		reg.range.len = end - start;
		if (ioctl(faults, UFFDIO_REGISTER, &reg)) {
			printf("not watched: %s", line);
			kt_failures++;
			continue;
		}
		library = library || strstr(line, "libusekvm");
		REQUIRE(areas < sizeof(area) / sizeof(area[0]));
		area[areas++] = (struct region){.start = start, .end = end};
	}
	fclose(f);
	CHECK(library || !kt_usekvm());
}

/* What was written since the last time. */
static void written(struct set *s)
{
	static struct region found[1024];

	if (s)
		s->n = 0;
	for (unsigned i = 0; i < areas; i++) {
		struct scan q = {.size = sizeof(q), .flags = WP_MATCHING, .start = area[i].start, .end = area[i].end, .vec = (u64)found,
			.vec_len = 1024, .mask = WRITTEN, .give = WRITTEN};

		while (q.start < q.end) {
			long n = ioctl(pagemap, PAGEMAP_SCAN, &q);

			REQUIRE(n >= 0);
			for (long k = 0; s && k < n; k++)
				for (u64 p = found[k].start; p < found[k].end; p += PAGE) {
					REQUIRE(s->n < MAX_PAGES);
					s->page[s->n++] = p;
				}
			q.start = q.walk_end;
		}
	}
}

static bool has(const struct set *s, u64 page)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->page[i] == page)
			return true;
	return false;
}

static void calls_of(struct worker *w, int calls, struct set *s)
{
	written(NULL);
	start(w, calls);
	wait_for(w);
	written(s);
}

/* The lines of the page that this worker changes, if only for the time of a call: bit by bit. */
static u64 lines(struct worker *w, const u8 *page)
{
	struct timespec t0, t;
	u8 was[PAGE];
	u64 seen = 0;

	memcpy(was, page, PAGE);
	endless = true;
	start(w, -1);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	do {
		for (unsigned i = 0; i < PAGE / 64; i++)
			for (unsigned k = 0; k < 64; k += 4)
				if (*(volatile u32 *)(page + 64 * i + k) != *(u32 *)(was + 64 * i + k))
					seen |= 1ull << i;
		clock_gettime(CLOCK_MONOTONIC, &t);
	} while (t.tv_sec - t0.tv_sec < 2 && !(seen && t.tv_sec > t0.tv_sec));
	endless = false;
	wait_for(w);
	return seen;
}

/* How many lines both write. */
static unsigned shared_lines(void)
{
	static struct set none[2], mine[2];
	unsigned n = 0, pages = 0;

	for (int i = 0; i < 2; i++)
		calls_of(&worker[i], 0, &none[i]); /* what the test itself writes */
	for (int i = 0; i < 2; i++) {
		calls_of(&worker[i], CALLS, &mine[i]);
		CHECK(mine[i].n > none[i].n);
	}
	for (unsigned i = 0; i < mine[0].n; i++) {
		u64 p = mine[0].page[i], by[2];

		if (!has(&mine[1], p) || has(&none[0], p) || has(&none[1], p))
			continue;
		pages++;
		for (int k = 0; k < 2; k++)
			by[k] = lines(&worker[k], (const u8 *)p);
		printf("page %#llx is written by both: lines %#llx and %#llx\n", (unsigned long long)p, (unsigned long long)by[0], (unsigned long long)by[1]);
		CHECK(by[0] && by[1]); /* or nothing is known of it */
		n += (unsigned)__builtin_popcountll(by[0] & by[1]);
	}
	printf("%u and %u pages written, %u of them by both\n", mine[0].n - none[0].n, mine[1].n - none[1].n, pages);
	return n;
}

int main(void)
{
	struct vm v;

	vm_real(&v, prog, prog_end);
	common = kt_pages(PAGE);
	for (int i = 0; i < 2; i++) {
		struct worker *w = &worker[i];

		w->fd = i ? ioctl(v.vm, KVM_CREATE_VCPU, 1ul) : v.vcpu;
		REQUIRE(w->fd >= 0 && !pipe(w->go) && !pipe(w->done));
		kt_real(w->fd, KT_CODE);
		REQUIRE(!pthread_create(&w->thread, NULL, work, w));
		start(w, CALLS); /* what is made once is made now */
		wait_for(w);
	}
	watch_all();
	share = true;
	printf("with a word in common:\n");
	CHECK_EQ(shared_lines(), 1);
	share = false;
	printf("without:\n");
	CHECK_EQ(shared_lines(), 0);
	return kt_end();
}
