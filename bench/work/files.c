/* SPDX-License-Identifier: MIT */
/* Files in memory: made, written, looked at, read, renamed and removed. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "work.h"

static uint64_t files(unsigned long rounds)
{
	char dir[400], name[450], other[450], buf[4096], back[4096];
	uint64_t sum = 0;

	snprintf(dir, sizeof(dir), "%s/files-%d", work_tmp, (int)getpid());
	if (mkdir(dir, 0700))
		work_fail("no folder for files");
	for (unsigned long i = 0; i < rounds * 10; i++) {
		struct stat st;
		int fd;

		snprintf(name, sizeof(name), "%s/f%lu", dir, i % 100);
		snprintf(other, sizeof(other), "%s/g%lu", dir, i % 100);
		memset(buf, (int)i, sizeof(buf));
		fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (fd < 0 || write(fd, buf, sizeof(buf)) != sizeof(buf) || write(fd, buf, 100) != 100 || fstat(fd, &st) ||
			pread(fd, back, sizeof(back), 50) != sizeof(back) || close(fd) || rename(name, other) || stat(name, &st) == 0)
			work_fail("a file");
		sum = work_mix(sum, (uint64_t)st.st_size + (unsigned char)back[77]);
		if (i % 2 && unlink(other))
			work_fail("unlink");
	}
	for (int i = 0; i < 100; i++) {
		snprintf(other, sizeof(other), "%s/g%d", dir, i);
		unlink(other);
	}
	rmdir(dir);
	return sum;
}
WORK(files_row, "files", KERNEL, files, 400, 0xb1b08ae7caefddb1);
