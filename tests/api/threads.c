/* SPDX-License-Identifier: MIT */
/* /proc/self/task names the program's threads alone, as readdir shows it: monitors count them before they fork. */
#include "kvmtest.h"

#include <dirent.h>
#include <dlfcn.h>

GUEST16(prog, "out %al, $0x10\n hlt\n");

/* Linux marks threads of its own that it shows there. */
static bool is_kernel_thread(const char *tid)
{
	char path[64], buf[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", tid);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);
	buf[n > 0 ? n : 0] = 0;
	close(fd);
	return strstr(buf, "\nKthread:\t1\n");
}

static unsigned threads(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	unsigned n = 0;

	REQUIRE(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.' && !is_kernel_thread(e->d_name);
	closedir(d);
	return n;
}

static void *waits(void *arg)
{
	pthread_barrier_wait(arg);
	pthread_barrier_wait(arg);
	return NULL;
}

int main(void)
{
	struct vm v, w;
	pthread_barrier_t b;
	pthread_t t;
	int status;
	pid_t pid;

	if (dlsym(RTLD_DEFAULT, "__tsan_init"))
		SKIP("ThreadSanitizer has a thread of its own");
	CHECK_EQ(threads(), 1);
	vm_real(&v, prog, prog_end);
	CHECK_EQ(threads(), 1);
	vm_open(&w);
	CHECK_EQ(threads(), 1);
	pthread_barrier_init(&b, NULL, 2);
	pthread_create(&t, NULL, waits, &b);
	pthread_barrier_wait(&b);
	CHECK_EQ(threads(), 2);
	pthread_barrier_wait(&b);
	pthread_join(t, NULL);
	pid = fork();
	if (!pid)
		_exit(threads() == 1 ? 0 : 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	close(w.vm);
	return kt_end();
}
