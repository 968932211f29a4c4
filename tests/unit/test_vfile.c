/* SPDX-License-Identifier: MIT */
/* Life of objects: last fd or last call releases, numbers are never mistaken, forks, and look-ups racing with close. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vfile/vfile.h"

struct object {
	struct vfile vf;
	u64 magic;
};
static int released, torn;

static void release(struct vfile *vf)
{
	struct object *o = container_of(vf, struct object, vf);

	store_relaxed(&o->magic, 0);
	__atomic_fetch_add(&released, 1, __ATOMIC_RELAXED);
	free(o);
}
static const struct vfile_ops ops = { VFILE_VM, release };

static int make(void)
{
	struct object *o = calloc(1, sizeof(*o));

	o->magic = 1234;
	return vfile_create(&o->vf, &ops, "kvm-test", 4096, true);
}

static void shut(int fd)
{
	vfile_closing(fd);
	close(fd);
}

static void test_life(void **state)
{
	int fd = make(), d;
	struct vfile *a, *b;

	assert_true(fd >= 0);
	released = 0;
	assert_true(vfile_is_ours(fd));
	assert_false(vfile_is_ours(-1) || vfile_is_ours(0) || vfile_is_ours(1 << 30));
	d = dup(fd);
	vfile_duped(fd, d);
	a = vfile_get(fd);
	b = vfile_get_fast(d);
	assert_ptr_equal(a, b);
	vfile_put(b);
	shut(fd);
	shut(d);
	assert_int_equal(released, 0); /* the call is still in flight */
	assert_null(vfile_get_fast(d));
	vfile_put(a);
	assert_int_equal(released, 1);
}

static void test_many_nested(void **state)
{
	int fd = make();
	struct vfile *v[20];

	released = 0;
	for (int i = 0; i < 20; i++)
		assert_non_null(v[i] = vfile_get_fast(fd));
	shut(fd);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(released, 0);
		vfile_put(v[i]);
	}
	assert_int_equal(released, 1);
}

static void test_reused_number(void **state)
{
	int fd = make(), other;

	released = 0;
	close(fd); /* behind our back */
	other = open("/dev/null", O_RDONLY);
	assert_int_equal(other, fd);
	assert_null(vfile_get(fd));
	assert_false(vfile_is_ours(fd));
	assert_int_equal(released, 1);
	close(other);
}

static void test_adopt_and_range(void **state)
{
	int fd = make(), d = dup(fd);

	released = 0;
	assert_false(vfile_is_ours(d));
	assert_true(vfile_adopt(d));
	assert_true(vfile_is_ours(d));
	assert_false(vfile_adopt(0));
	vfile_closing_range((unsigned)fd, ~0u);
	assert_int_equal(released, 1);
	close(fd);
	close(d);
}

static void test_fork(void **state)
{
	int fd = make(), status;
	pid_t pid;

	released = 0;
	pid = fork(); /* nobody tells: the page does */
	if (!pid) {
		int fresh, ok = vfile_is_forked() && vfile_is_stale(fd);

		fresh = make();
		ok = ok && fresh >= 0 && !vfile_is_forked() && vfile_is_stale(fd) && !vfile_get_fast(fd) && vfile_get(fresh);
		_exit(ok ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_false(vfile_is_forked());
	pid = vfork();
	if (!pid) {
		shut(fd);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(vfile_is_ours(fd));
	shut(fd);
	assert_int_equal(released, 1);
}

static int shared_fd = -1;
static bool stop;

static void *user(void *arg)
{
	while (!load_relaxed(&stop)) {
		struct vfile *vf = vfile_get_fast(load_relaxed(&shared_fd));

		if (!vf)
			continue;
		for (int i = 0; i < 50; i++)
			if (load_relaxed(&container_of(vf, struct object, vf)->magic) != 1234)
				__atomic_fetch_add(&torn, 1, __ATOMIC_RELAXED);
		vfile_put(vf);
	}
	return arg;
}

static void test_race(void **state)
{
	pthread_t t[2];

	released = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, user, NULL), 0);
	for (int i = 0; i < 500; i++) {
		int fd = make();

		store_relaxed(&shared_fd, fd);
		sched_yield();
		shut(fd);
	}
	store_relaxed(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(torn, 0);
	assert_int_equal(released, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_many_nested),
		cmocka_unit_test(test_reused_number),
		cmocka_unit_test(test_adopt_and_range),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
