/* SPDX-License-Identifier: MIT */
/*
 * Where libusekvm.so is: USEKVM_LIB, else beside this executable, else in the library folders next to its bin folder.
 */
#include "cli/cli.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int find_library(char *path, size_t room)
{
	static const char *const places[] = { "", "../lib/", "../lib/x86_64-linux-gnu/", "../lib64/" };
	const char *env = getenv("USEKVM_LIB");
	char self[CLI_PATH], candidate[2 * CLI_PATH], *real;
	ssize_t n;

	if (env && *env) {
		real = realpath(env, NULL);
		n = real && !access(real, R_OK) ? snprintf(path, room, "%s", real) : -1;
		free(real);
		return n > 0 && (size_t)n < room ? 0 : -1;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return -1;
	self[n] = 0;
	*(strrchr(self, '/') + 1) = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		snprintf(candidate, sizeof(candidate), "%s%slibusekvm.so", self, places[i]);
		real = realpath(candidate, NULL);
		if (!real)
			continue;
		n = snprintf(path, room, "%s", real);
		free(real);
		if ((size_t)n < room && !access(path, R_OK))
			return 0;
	}
	return -1;
}
