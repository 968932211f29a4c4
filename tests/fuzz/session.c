/* SPDX-License-Identifier: MIT */
/*
 * The driver of calls.c and guests.c.
 *
 *	BUILD/tests/fuzz/NAME [--seconds=N] [--count=N] [--seed=N] [--first=N] [--corpus=DIR] [--save=DIR] [--verbose] [FILE...]
 *
 * FILEs are replayed, and that is all. Otherwise the files of --corpus are run, then random inputs, half of them mutations of those, until the time
 * is over, counted from the corpus' end, or the number (default: 10000). Input N of a seed is always the same.
 *
 * A child process runs them and notes each in shared memory first. When it dies, or is on one input for too long, that input is tried alone in
 * a fresh child, made smaller by taking out records as long as it goes on failing, and saved; the last line is the command that replays it.
 *
 * Built with USEKVM_LIBFUZZER there is no main(): libFuzzer runs the inputs, with our mutations.
 */
#include "session.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define BYTES_MAX (RECORDS_MAX * sizeof(struct record))

bool fuzz_verbose;
__thread volatile unsigned fuzz_ticked;

void fuzz_fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", fuzzer.name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	abort();
}

#ifdef USEKVM_SANITIZE
/* The four fault signals are the library's (tests/harness/run.sh). */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:use_sigaltstack=0:allocator_may_return_null=1";
}
__attribute__((visibility("default"))) const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "halt_on_error=1:print_stacktrace=1";
}
#endif

/* ---- ticks ---- */

#define TICK (SIGRTMIN + 3)

static void tick(int sig)
{
	fuzz_ticked++;
}

void fuzz_ticks(unsigned us)
{
	static __thread bool have;
	static __thread timer_t timer;
	struct itimerspec t = {{0, us * 1000l}, {0, us * 1000l}};

	if (!have) {
		struct sigaction sa = {.sa_handler = tick};
		struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK};

		if (!us)
			return;
		ev._sigev_un._tid = (int)syscall(SYS_gettid);
		sigaction(TICK, &sa, NULL);
		REQUIRE(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0);
		have = true;
	}
	fuzz_ticked = 0;
	timer_settime(timer, 0, &t, NULL);
}

/* ---- random inputs and mutations ---- */

static u64 state;

static u64 rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dull;
}

static u32 below(u32 n)
{
	return (u32)(rnd() >> 32) % n;
}

static void seed_with(u64 a, u64 b)
{
	state = (a * 0x9e3779b97f4a7c15ull ^ (b + 1) * 0xbf58476d1ce4e5b9ull) | 1;
	for (int i = 0; i < 4; i++)
		rnd();
}

static void random_record(struct record *r)
{
	for (unsigned i = 0; i < sizeof(*r); i += 8) {
		u64 v = rnd();

		memcpy((u8 *)r + i, &v, 8);
	}
	if (below(2)) /* most steps go well */
		r->how = 0;
}

/* One change; `other`, of no records or some, is where records may come from. The new number. */
static unsigned mutate(struct record *r, unsigned n, unsigned max, const struct record *other, unsigned nother)
{
	unsigned at = n ? below(n) : 0;

	switch (below(8)) {
	case 0: /* one more */
		if (n >= max)
			break;
		memmove(r + at + 1, r + at, (n - at) * sizeof(*r));
		if (nother && below(2))
			r[at] = other[below(nother)];
		else if (n && below(2))
			r[at] = r[at + 1 + below(n - at)];
		else
			random_record(&r[at]);
		return n + 1;
	case 1:
		if (n < 2)
			break;
		memmove(r + at, r + at + 1, (n - at - 1) * sizeof(*r));
		return n - 1;
	case 2:
		if (n) {
			unsigned b = below(n);
			struct record t = r[at];

			r[at] = r[b];
			r[b] = t;
		}
		return n;
	case 3:
		if (!nother)
			break;
		{ /* the beginning of one, the end of the other */
			unsigned from = below(nother), len = nother - from;

			if (len > max - at)
				len = max - at;
			memcpy(r + at, other + from, len * sizeof(*r));
			return at + len;
		}
	}
	if (!n) {
		random_record(r);
		return 1;
	}
	u8 *p = (u8 *)&r[at] + below(sizeof(*r));
	switch (below(4)) {
	case 0: *p ^= (u8)(1u << below(8)); break;
	case 1: *p = (u8)rnd(); break;
	case 2: *p = (u8)(*p + below(9) - 4); break;
	default: random_record(&r[at]);
	}
	return n;
}

#ifdef USEKVM_LIBFUZZER

/* ---- libFuzzer ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
size_t LLVMFuzzerMutate(u8 *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const u8 *a, size_t na, const u8 *b, size_t nb, u8 *out, size_t max, unsigned seed);

#define HANG_SECONDS 60
static unsigned inputs; /* even: none is running */

/* libFuzzer's own alarm is a signal, which the library puts off until the call that hangs has returned. */
static void *watch(void *arg)
{
	for (unsigned seen = 0, same = 0;; same = seen == inputs && seen & 1 ? same + 1 : 0, seen = inputs) {
		sleep(1);
		if (same > HANG_SECONDS)
			fuzz_fail("an input takes more than %d s", HANG_SECONDS);
	}
	return NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	pthread_t t;

	fuzzer.start();
	pthread_create(&t, NULL, watch, NULL);
	return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct record r[RECORDS_MAX];
	unsigned n = (unsigned)(size / sizeof(*r));

	if (n > RECORDS_MAX)
		n = RECORDS_MAX;
	memcpy(r, data, n * sizeof(*r));
	__atomic_fetch_add(&inputs, 1, __ATOMIC_RELAXED);
	fuzzer.run(r, n);
	__atomic_fetch_add(&inputs, 1, __ATOMIC_RELAXED);
	return 0;
}

size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t max, unsigned seed)
{
	unsigned n = (unsigned)(size / sizeof(struct record)), m = (unsigned)(max / sizeof(struct record));

	if (!m)
		return size;
	seed_with(seed, size);
	if (n && below(2)) { /* with libFuzzer's knowledge of compared values */
		LLVMFuzzerMutate(data + below(n) * sizeof(struct record), sizeof(struct record), sizeof(struct record));
		return n * sizeof(struct record);
	}
	return mutate((struct record *)data, n, m > RECORDS_MAX ? RECORDS_MAX : m, NULL, 0) * sizeof(struct record);
}

size_t LLVMFuzzerCustomCrossOver(const u8 *a, size_t na, const u8 *b, size_t nb, u8 *out, size_t max, unsigned seed)
{
	const size_t one = sizeof(struct record);
	unsigned n = 0;

	seed_with(seed, na);
	max = max / one < RECORDS_MAX ? max / one : RECORDS_MAX;
	for (unsigned i = 0, j = 0; n < max && (i < na / one || j < nb / one);) {
		bool first = j >= nb / one || (i < na / one && below(2));

		memcpy(out + n++ * one, first ? a + i++ * one : b + j++ * one, one);
	}
	return n * one;
}

#else

/* ---- the plain program ---- */

struct input {
	unsigned n;
	struct record r[RECORDS_MAX];
};

static struct {
	u64 index;  /* which input */
	u64 done;   /* how many were finished, by all children */
	u64 until;  /* ms */
	struct input in;
} *shared;

static u64 opt_seconds, opt_count, opt_seed = 1, opt_first;
static const char *opt_corpus, *opt_save = ".", *self;
static struct input *corpus;
static unsigned ncorpus;

#ifdef USEKVM_SANITIZE
#define HANG_MS 30000u
#else
#define HANG_MS 20000u
#endif
#define BATCH 4000u

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static bool read_input(const char *path, struct input *in)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, in->r, sizeof(in->r));

	if (fd >= 0)
		close(fd);
	in->n = n < 0 ? 0 : (unsigned)((size_t)n / sizeof(in->r[0]));
	return n >= 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_corpus(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char **name = NULL;
	unsigned n = 0;

	if (!d) {
		printf("corpus %s: %s\n", dir, strerror(errno));
		return -1;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		name = realloc(name, (n + 1) * sizeof(*name));
		REQUIRE(name && asprintf(&name[n], "%s/%s", dir, e->d_name) > 0);
		n++;
	}
	closedir(d);
	qsort(name, n, sizeof(*name), by_name);
	corpus = calloc(n + 1, sizeof(*corpus));
	REQUIRE(corpus);
	for (unsigned i = 0; i < n; i++)
		if (read_input(name[i], &corpus[ncorpus]))
			ncorpus++;
	return 0;
}

static void make_input(u64 index, struct input *in)
{
	if (index < ncorpus) {
		*in = corpus[index];
		return;
	}
	seed_with(opt_seed, index);
	if (ncorpus && below(2)) {
		const struct input *other = &corpus[below(ncorpus)];

		*in = corpus[below(ncorpus)];
		for (unsigned k = 1 + below(12); k; k--)
			in->n = mutate(in->r, in->n, RECORDS_MAX, other->r, other->n);
		return;
	}
	in->n = 1 + below(below(4) ? 12 : RECORDS_MAX);
	for (unsigned i = 0; i < in->n; i++)
		random_record(&in->r[i]);
}

static void set_end(void)
{
	shared->until = opt_seconds ? now_ms() + opt_seconds * 1000 : ~0ull;
}

/* What a child does: inputs first.. until `last` or until the time is over, or the one in shared memory. */
static void child(u64 first, u64 last, bool quiet)
{
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	if (quiet) {
		int fd = open("/dev/null", O_WRONLY);

		dup2(fd, 1);
		dup2(fd, 2);
		close(fd);
	}
	fuzzer.start();
	if (first == last)
		fuzzer.run(shared->in.r, shared->in.n);
	for (u64 i = first; i < last && (i < ncorpus || now_ms() < shared->until); i++) {
		make_input(i, &shared->in);
		shared->index = i;
		fuzzer.run(shared->in.r, shared->in.n);
		shared->done++;
		if (i < ncorpus)
			set_end();
	}
	setenv("USEKVM_LEAK_CHECK", "1", 1); /* preload/init.c: 86 */
	exit(0);
}

static void progress(void)
{
	static u64 last, done;
	u64 now = now_ms();

	if (!last)
		last = now;
	if (now - last < 10000)
		return;
	fprintf(stderr, "%s: %llu inputs, %llu a second", fuzzer.name, (unsigned long long)shared->done,
		(unsigned long long)((shared->done - done) * 1000 / (now - last)));
	last = now;
	done = shared->done;
	if (opt_seconds)
		fprintf(stderr, ", %llu s left", (unsigned long long)(shared->until > now ? (shared->until - now) / 1000 : 0));
	fprintf(stderr, "\n");
}

/* Where it hangs, if there is a debugger. */
static void where(pid_t pid)
{
	char cmd[160];

	snprintf(cmd, sizeof(cmd), "timeout 100 gdb -batch -p %d -ex 'thread apply all bt 14' 2>/dev/null | grep -E '^(Thread|#)' >&2", (int)pid);
	if (system(cmd))
		fprintf(stderr, "%s: gdb says nothing about process %d\n", fuzzer.name, (int)pid);
}

/* A child from start to end: its status, or -1 if it hung. */
static int in_child(u64 first, u64 last, bool quiet)
{
	u64 since = now_ms(), seen = ~0ull;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	REQUIRE(pid >= 0);
	if (!pid)
		child(first, last, quiet);
	for (unsigned nap = 1; waitpid(pid, &status, WNOHANG) == 0; nap = nap < 50 ? nap + 1 : 50) {
		kt_sleep_ms(nap);
		if (!quiet && last > first)
			progress();
		if (seen != shared->done) {
			seen = shared->done;
			since = now_ms();
		} else if (now_ms() - since > HANG_MS) {
			if (!quiet)
				where(pid);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
	}
	return status;
}

static const char *status_text(int status)
{
	static char text[64];

	if (status == -1)
		return "hangs";
	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "ends by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == 86)
		return "leaves objects or memory of the library behind (exit code 86)";
	else
		snprintf(text, sizeof(text), "ends with exit code %d", WEXITSTATUS(status));
	return text;
}

/* The input in shared memory, alone; several times, since threads and timers may matter. */
static bool fails_alone(unsigned times)
{
	while (times--)
		if (in_child(0, 0, true))
			return true;
	return false;
}

static void make_smaller(void)
{
	struct input best = shared->in;
	unsigned times = 3;
	u64 end = now_ms() + 120000;

	for (unsigned step = (best.n + 1) / 2; step && now_ms() < end; step = step == 1 ? 0 : step / 2)
		for (unsigned at = 0; at < best.n && best.n > 1 && now_ms() < end;) {
			unsigned take = step < best.n - at ? step : best.n - at;

			shared->in.n = best.n - take;
			memcpy(shared->in.r, best.r, at * sizeof(best.r[0]));
			memcpy(shared->in.r + at, best.r + at + take, (best.n - at - take) * sizeof(best.r[0]));
			if (fails_alone(times))
				best = shared->in;
			else
				at += take;
		}
	shared->in = best;
}

static void save(char *path, size_t size)
{
	u64 hash = 0xcbf29ce484222325ull;
	int fd;

	for (size_t i = 0; i < shared->in.n * sizeof(struct record); i++)
		hash = (hash ^ ((u8 *)shared->in.r)[i]) * 0x100000001b3ull;
	snprintf(path, size, "%s/%s-%016llx", opt_save, fuzzer.name, (unsigned long long)hash);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, shared->in.r, shared->in.n * sizeof(struct record)) < 0)
		printf("%s cannot be written: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void failed(int status, u64 first)
{
	u64 index = shared->index;
	unsigned n = shared->in.n;
	char path[4096];

	printf("%s: input %llu of seed %llu %s\n", fuzzer.name, (unsigned long long)index, (unsigned long long)opt_seed, status_text(status));
	save(path, sizeof(path));
	if (fails_alone(10)) {
		make_smaller();
		save(path, sizeof(path));
		printf("%u of its %u records are enough\n", shared->in.n, n);
		printf("replay: %s --verbose %s\n", self, path);
		return;
	}
	/* Every input of the child's, one by one: what it left behind is only seen at its end. */
	for (u64 i = first; status != -1 && i <= index; i++) {
		make_input(i, &shared->in);
		if (in_child(0, 0, true)) {
			make_smaller();
			save(path, sizeof(path));
			printf("it was input %llu\nreplay: %s --verbose %s\n", (unsigned long long)i, self, path);
			return;
		}
	}
	printf("not alone. replay: %s --seed=%llu --first=%llu --count=%llu%s%s\n", self, (unsigned long long)opt_seed, (unsigned long long)first,
		(unsigned long long)(index - first + 1), opt_corpus ? " --corpus=" : "", opt_corpus ? opt_corpus : "");
}

static int replay(int argc, char **argv, int first)
{
	int bad = 0;

	for (int k = first; k < argc; k++) {
		int status;

		if (!read_input(argv[k], &shared->in)) {
			printf("%s: %s\n", argv[k], strerror(errno));
			return 2;
		}
		status = in_child(0, 0, false);
		if (status) {
			printf("%s %s\n", argv[k], status_text(status));
			bad = 1;
		}
	}
	printf("%s: %d files replayed\n", fuzzer.name, argc - first);
	return bad;
}

static bool number(const char *arg, const char *name, u64 *out)
{
	size_t n = strlen(name);

	if (strncmp(arg, name, n))
		return false;
	*out = strtoull(arg + n, NULL, 0);
	return true;
}

int main(int argc, char **argv)
{
	u64 began, last;
	int k;

	self = argv[0];
	setvbuf(stdout, NULL, _IOLBF, 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(shared != MAP_FAILED);
	for (k = 1; k < argc && argv[k][0] == '-'; k++) {
		const char *a = argv[k];

		if (number(a, "--seconds=", &opt_seconds) || number(a, "--count=", &opt_count) || number(a, "--seed=", &opt_seed) ||
			number(a, "--first=", &opt_first))
			continue;
		if (!strncmp(a, "--corpus=", 9))
			opt_corpus = a + 9;
		else if (!strncmp(a, "--save=", 7))
			opt_save = a + 7;
		else if (!strcmp(a, "--verbose"))
			fuzz_verbose = true;
		else {
			fprintf(stderr, "%s: unknown option %s; see tests/fuzz/session.c\n", argv[0], a);
			return 2;
		}
	}
	if (k < argc)
		return replay(argc, argv, k);
	if (opt_corpus && read_corpus(opt_corpus))
		return 2;
	mkdir(opt_save, 0777);
	began = now_ms();
	set_end();
	last = opt_count ? opt_first + opt_count : opt_seconds ? ~0ull : opt_first + ncorpus + 10000;
	for (u64 first = opt_first; first < last && now_ms() < shared->until;) {
		u64 end = last - first > BATCH ? first + BATCH : last, done = shared->done;
		int status = in_child(first, end, false);

		if (status) {
			failed(status, first);
			return 1;
		}
		first += shared->done - done;
	}
	printf("%s: %llu inputs, %u of them the corpus, in %llu s, seed %llu\n", fuzzer.name, (unsigned long long)shared->done, ncorpus,
		(unsigned long long)(now_ms() - began) / 1000, (unsigned long long)opt_seed);
	return 0;
}

#endif
