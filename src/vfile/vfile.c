/* SPDX-License-Identifier: MIT */
/*
 * The descriptor table. Owns: the array fd -> object (chunks that are never freed), the threads' hazard records, and the list of
 * objects whose last fd is gone while a call still uses them.
 *
 * How a look-up without lock and without a shared write is safe against close: the reader stores the object's address into a slot of its
 * own thread's record (full barrier), then reads the table again. The closer empties the table entry, and when that was the last one puts
 * the object on the `gone` list (full barrier) and looks through all records. So either the reader finds the entry
 * empty, or the closer finds the slot. An object in somebody's slot stays on the list; vfile_put empties its slot (full barrier) and
 * looks at the list's length, so the last of the two to move sees the other and releases. Nobody touches an object after emptying his slot.
 *
 * The lock covers writers of the table, `refs` and the list. It is held with signals blocked: a VMM may close in a signal handler.
 * release() runs without it.
 *
 * Forks: a page that the kernel clears in children tells, whatever call made the child. There nothing is ever released: the objects'
 * threads are missing. System descriptors hold no state and go on working. A child that makes a VM of its own starts with a table of only
 * those, where the other old numbers are marked STALE. A vfork child shares our memory but not our descriptors: what it closes before
 * exec is not closed here.
 */
#include "vfile/vfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/inject.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/process.h"
#include "base/string.h"
#include "base/sys.h"

#define CHUNK_BITS 12
#define CHUNK_SIZE (1u << CHUNK_BITS)
#define MAX_FD (1u << 20) /* fs.nr_open's default */
#define HAZARDS 7         /* nested calls on one thread: handlers inside handlers */
#define STALE ((struct vfile *)1)
#define ALIVE 0x6b766d21u

struct chunk {
	struct vfile *entry[CHUNK_SIZE];
};

struct hazard { /* a cache line */
	struct vfile *slot[HAZARDS] aligned(64);
	u32 used;
	u32 index;
};

#define RECORDS_PER_BLOCK 63
struct record_block {
	struct record_block *next aligned(64);
	struct hazard record[RECORDS_PER_BLOCK];
};

struct vfile_priv {
	struct vfile *next_gone;
};
_Static_assert(sizeof(struct vfile_priv) <= sizeof(((struct vfile *)0)->priv), "struct vfile.priv is too small");

static struct {
	struct chunk *chunk[MAX_FD / CHUNK_SIZE];
	struct mutex lock;
	struct vfile *gone;
	u32 gone_count;
	int pid;
	u32 *alive; /* ALIVE, or 0 in a child of a fork */
	struct record_block *blocks;
	pthread_key_t exit_key;
	bool have_exit_key;
} tab = { .lock = MUTEX_INIT("vfile") };

static __thread struct hazard *my_record __attribute__((tls_model("initial-exec")));

static void tab_lock(u64 *mask)
{
	u64 all = ~0ull;

	sys_sigprocmask(SIG_SETMASK, &all, mask);
	mutex_lock(&tab.lock);
}

static void tab_unlock(const u64 *mask)
{
	mutex_unlock(&tab.lock);
	sys_sigprocmask(SIG_SETMASK, mask, NULL);
}

static void *map_zeroed(size_t n)
{
	void *p = sys_mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (sys_is_err(p))
		return NULL;
	live_add(LIVE_MAPPING, -1); /* kept for good */
	return p;
}

static always_inline struct vfile **entry_of(int fd)
{
	struct chunk *c;

	if ((unsigned)fd >= MAX_FD)
		return NULL;
	c = load_acquire(&tab.chunk[(unsigned)fd >> CHUNK_BITS]);
	return c ? &c->entry[(unsigned)fd & (CHUNK_SIZE - 1)] : NULL;
}

static always_inline struct vfile *look(int fd)
{
	struct vfile **e = entry_of(fd);

	return e ? load_acquire(e) : NULL;
}

/* Lock held. */
static struct vfile **entry_make(int fd)
{
	struct chunk **c;

	if ((unsigned)fd >= MAX_FD)
		return NULL;
	c = &tab.chunk[(unsigned)fd >> CHUNK_BITS];
	if (!*c) {
		struct chunk *fresh = map_zeroed(sizeof(*fresh));

		if (!fresh)
			return NULL;
		store_release(c, fresh);
	}
	return entry_of(fd);
}

/* ---- hazard records ---- */

static void thread_exits(void *record)
{
	struct hazard *h = record;

	for (int i = 0; i < HAZARDS; i++)
		store_relaxed(&h->slot[i], NULL);
	my_record = NULL;
	store_release(&h->used, 0);
}

/* Lock held. */
static struct hazard *record_find_free(void)
{
	struct record_block *b;

	for (b = tab.blocks; b; b = b->next) {
		for (int i = 0; i < RECORDS_PER_BLOCK; i++) {
			if (!load_acquire(&b->record[i].used)) {
				store_relaxed(&b->record[i].used, 1);
				return &b->record[i];
			}
		}
	}
	b = map_zeroed(sizeof(*b));
	if (!b)
		return NULL;
	b->next = tab.blocks;
	b->record[0].used = 1;
	tab.blocks = b;
	return &b->record[0];
}

static noinline struct hazard *record_make(void)
{
	struct hazard *h;
	u64 mask;

	tab_lock(&mask);
	if (!tab.have_exit_key)
		tab.have_exit_key = pthread_key_create(&tab.exit_key, thread_exits) == 0;
	h = record_find_free();
	tab_unlock(&mask);
	if (!h)
		return NULL;
	if (tab.have_exit_key)
		pthread_setspecific(tab.exit_key, h);
	my_record = h;
	return h;
}

/* Lock held. */
static bool in_use(const struct vfile *vf)
{
	for (struct record_block *b = tab.blocks; b; b = b->next)
		for (int i = 0; i < RECORDS_PER_BLOCK; i++)
			for (int k = 0; k < HAZARDS; k++)
				if (__atomic_load_n(&b->record[i].slot[k], __ATOMIC_SEQ_CST) == vf)
					return true;
	return false;
}

static struct vfile **next_gone(struct vfile *vf)
{
	return &((struct vfile_priv *)(void *)vf->priv)->next_gone;
}

/* Release what is gone and unused. */
static noinline void reap(void)
{
	struct vfile *done = NULL, **p;
	u64 mask;

	tab_lock(&mask);
	for (p = &tab.gone; *p;) {
		struct vfile *vf = *p;

		if (in_use(vf)) {
			p = next_gone(vf);
			continue;
		}
		*p = *next_gone(vf);
		*next_gone(vf) = done;
		done = vf;
		store_relaxed(&tab.gone_count, tab.gone_count - 1);
	}
	tab_unlock(&mask);
	while (done) {
		struct vfile *vf = done;

		done = *next_gone(vf);
		if (!vfile_is_forked())
			vf->ops->release(vf);
	}
}

/* Lock held. */
static void drop_ref(struct vfile *vf)
{
	if (--vf->refs)
		return;
	*next_gone(vf) = tab.gone;
	tab.gone = vf;
	__atomic_store_n(&tab.gone_count, tab.gone_count + 1, __ATOMIC_SEQ_CST);
}

/* Lock held. */
static void entry_clear(struct vfile **e)
{
	struct vfile *vf = *e;

	if (!vf)
		return;
	__atomic_store_n(e, NULL, __ATOMIC_SEQ_CST);
	if (vf != STALE)
		drop_ref(vf);
}

/* ---- look-up ---- */

static struct vfile *get_by_ref(int fd)
{
	struct vfile *vf;
	u64 mask;

	tab_lock(&mask);
	vf = look(fd);
	if (vf == STALE)
		vf = NULL;
	if (vf)
		vf->refs++;
	tab_unlock(&mask);
	return vf;
}

struct vfile *vfile_get_fast(int fd)
{
	struct hazard *h = my_record;
	struct vfile *vf = look(fd);
	int k;

	if (!vf || vf == STALE)
		return NULL;
	if (unlikely(!h)) {
		h = record_make();
		if (!h)
			return get_by_ref(fd);
	}
	for (k = 0; h->slot[k]; k++)
		if (k == HAZARDS - 1)
			return get_by_ref(fd);
	for (;;) {
		struct vfile *again;

		__atomic_store_n(&h->slot[k], vf, __ATOMIC_SEQ_CST);
		again = look(fd);
		if (likely(again == vf))
			return vf;
		vf = again;
		if (!vf || vf == STALE)
			break;
	}
	__atomic_store_n(&h->slot[k], NULL, __ATOMIC_SEQ_CST);
	if (load_relaxed(&tab.gone_count))
		reap();
	return NULL;
}

struct vfile *vfile_get(int fd)
{
	struct vfile *vf = vfile_get_fast(fd);
	struct vfile **e;
	u64 dev, ino, mask;

	if (!vf || (!sys_fstat_id(fd, &dev, &ino) && dev == vf->dev && ino == vf->ino))
		return vf;
	log_warn(api, "descriptor %d was closed behind our back", fd);
	tab_lock(&mask);
	e = entry_of(fd);
	if (e && *e == vf)
		entry_clear(e);
	tab_unlock(&mask);
	vfile_put(vf);
	return NULL;
}

void vfile_put(struct vfile *vf)
{
	struct hazard *h = my_record;
	u64 mask;

	for (int k = HAZARDS - 1; h && k >= 0; k--) {
		if (h->slot[k] == vf) {
			__atomic_store_n(&h->slot[k], NULL, __ATOMIC_SEQ_CST);
			if (unlikely(load_acquire(&tab.gone_count)))
				reap();
			return;
		}
	}
	tab_lock(&mask);
	drop_ref(vf);
	tab_unlock(&mask);
	if (load_acquire(&tab.gone_count))
		reap();
}

bool vfile_is_ours(int fd)
{
	return look(fd) != NULL;
}

/* ---- making ---- */

static bool outlives_fork(const struct vfile *vf)
{
	return vf != STALE && vf->ops->kind == VFILE_SYSTEM;
}

/* Lock held. The old numbers of VMs and vCPUs become STALE in a forked child, which counts as a process of its own from now on. */
static void begin_anew(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(tab.chunk); i++) {
		for (unsigned k = 0; tab.chunk[i] && k < CHUNK_SIZE; k++) {
			struct vfile **e = &tab.chunk[i]->entry[k];

			if (*e && !outlives_fork(*e))
				*e = STALE;
		}
	}
	tab.gone = NULL;
	tab.gone_count = 0;
	tab.pid = sys_getpid();
	store_relaxed(tab.alive, ALIVE);
}

static int setup_fork_page(void)
{
	u32 *page;

	if (tab.alive)
		return 0;
	page = map_zeroed(PAGE_SIZE);
	if (!page)
		return -ENOMEM;
	sys_madvise(page, PAGE_SIZE, MADV_WIPEONFORK); /* Linux 4.14; without it vfile_forked() is what tells */
	*page = ALIVE;
	tab.pid = sys_getpid();
	store_release(&tab.alive, page);
	return 0;
}

static int make_file(const char *name, u64 size, bool cloexec, u64 *dev, u64 *ino)
{
	int fd = sys_memfd(name, MFD_ALLOW_SEALING | (cloexec ? MFD_CLOEXEC : 0));
	int r;

	if (fd < 0)
		return fd;
	r = size ? sys_ftruncate(fd, size) : 0;
	if (!r)
		r = sys_fstat_id(fd, dev, ino);
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	/* A VMM that truncates a vCPU's file would take the mapped kvm_run away from under us. A VM's grows with KVM_SET_MEMORY_REGION. */
	if (size)
		sys3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return fd;
}

/* After this vfile_publish(., fd) cannot fail. */
static int reserve(int fd)
{
	u64 mask;
	int r;

	if (vfile_is_forked())
		mutex_init(&tab.lock, "vfile");
	tab_lock(&mask);
	r = setup_fork_page();
	if (!r && vfile_is_forked())
		begin_anew();
	if (!r && !entry_make(fd))
		r = (unsigned)fd >= MAX_FD ? -EMFILE : -ENOMEM;
	tab_unlock(&mask);
	return r;
}

int vfile_prepare(struct vfile *vf, const struct vfile_ops *ops, const char *name, u64 size, bool cloexec)
{
	int fd, r;

	*vf = (struct vfile){ .ops = ops, .refs = 1 };
	fd = make_file(name, size, cloexec, &vf->dev, &vf->ino);
	if (fd < 0)
		return fd;
	r = reserve(fd);
	if (r)
		sys_close(fd);
	return r ? r : fd;
}

bool vfile_has_name(int fd, const char *name)
{
	char path[32] = "/proc/self/fd/", link[64], want[64] = "/memfd:";
	unsigned n = (unsigned)strlen(path), div = 1;

	if (fd < 0)
		return false;
	while ((unsigned)fd / div > 9)
		div *= 10;
	for (; div; div /= 10)
		path[n++] = (char)('0' + (unsigned)fd / div % 10);
	n = (unsigned)strlen(want);
	for (const char *p = name; *p && n < 40; p++)
		want[n++] = *p;
	memcpy(want + n, " (deleted)", 10);
	n += 10;
	return sys3(SYS_readlink, path, link, sizeof(link)) == (long)n && !memcmp(link, want, n);
}

int vfile_attach(struct vfile *vf, const struct vfile_ops *ops, int fd)
{
	*vf = (struct vfile){ .ops = ops, .refs = 1 };
	int r = sys_fstat_id(fd, &vf->dev, &vf->ino);

	if (r >= 0)
		r = reserve(fd);
	if (r >= 0)
		vfile_publish(vf, fd);
	return r;
}

void vfile_publish(struct vfile *vf, int fd)
{
	struct vfile **e = entry_of(fd);
	u64 mask;

	tab_lock(&mask);
	entry_clear(e); /* the number was closed behind our back */
	store_release(e, vf);
	tab_unlock(&mask);
	/* No reaping here: the caller may hold locks that a release takes. The end of its call does it. */
}

int vfile_create(struct vfile *vf, const struct vfile_ops *ops, const char *name, u64 size, bool cloexec)
{
	int fd = vfile_prepare(vf, ops, name, size, cloexec);

	if (fd >= 0)
		vfile_publish(vf, fd);
	return fd;
}

/* ---- what the interposers tell ---- */

/* In a vfork child: same memory, other descriptors. */
static bool is_borrowed(void)
{
	return !vfile_is_forked() && !process_is(tab.pid);
}

void vfile_closing(int fd)
{
	struct vfile **e = entry_of(fd);
	u64 mask;

	if (!e || !load_relaxed(e) || is_borrowed())
		return;
	tab_lock(&mask);
	entry_clear(e);
	tab_unlock(&mask);
	if (load_acquire(&tab.gone_count))
		reap();
}

void vfile_closing_range(unsigned lo, unsigned hi)
{
	hi = MIN(hi, MAX_FD - 1);
	for (unsigned fd = lo; fd <= hi; fd++) {
		if (!load_relaxed(&tab.chunk[fd >> CHUNK_BITS]))
			fd |= CHUNK_SIZE - 1;
		else
			vfile_closing((int)fd);
	}
}

void vfile_duped(int oldfd, int newfd)
{
	struct vfile *vf = look(oldfd), **e;
	u64 mask, dev = 0, ino = 0;

	if (!vf && !look(newfd))
		return;
	if (oldfd == newfd || is_borrowed())
		return;
	sys_fstat_id(newfd, &dev, &ino);
	tab_lock(&mask);
	e = entry_make(newfd);
	vf = look(oldfd);
	if (e) {
		if (vf && vf != STALE && (vf->dev != dev || vf->ino != ino))
			vf = NULL; /* oldfd was closed behind our back and is another file's */
		if (vf && vf != STALE)
			vf->refs++;
		entry_clear(e);
		store_release(e, vf);
	}
	tab_unlock(&mask);
	if (load_acquire(&tab.gone_count))
		reap();
}

bool vfile_adopt(int fd)
{
	u64 dev, ino, mask;
	bool found = false;

	if (!tab.alive || (unsigned)fd >= MAX_FD || sys_fstat_id(fd, &dev, &ino) < 0)
		return false;
	tab_lock(&mask);
	for (unsigned i = 0; i < MAX_FD && !found; i++) {
		struct vfile *vf;

		if (!tab.chunk[i >> CHUNK_BITS]) {
			i |= CHUNK_SIZE - 1;
			continue;
		}
		vf = look((int)i);
		if (vf && vf != STALE && vf->dev == dev && vf->ino == ino) {
			struct vfile **e = entry_make(fd);

			if (e && !*e) {
				vf->refs++;
				store_release(e, vf);
			}
			found = e != NULL;
		}
	}
	tab_unlock(&mask);
	return found;
}

void vfile_forked(void)
{
	mutex_init(&tab.lock, "vfile");
	if (tab.alive)
		store_relaxed(tab.alive, 0);
}

bool vfile_is_forked(void)
{
	u32 *alive = load_acquire(&tab.alive);

	return alive && !load_relaxed(alive);
}

bool vfile_is_stale(int fd)
{
	struct vfile *vf = look(fd);

	return vf && (vf == STALE || (vfile_is_forked() && !outlives_fork(vf)));
}
