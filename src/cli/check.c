/* SPDX-License-Identifier: MIT */
/*
 * Before anything starts: can this command be given KVM by preloading? The dynamic loader ignores LD_PRELOAD, or never runs, for static,
 * setuid, setgid, capability-carrying and 32-bit programs; then the program would find no KVM and the reason would be
 * hard to see. Scripts are judged by their interpreter.
 */
#include "cli/cli.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_SCRIPTS 4 /* the kernel's own limit of nested interpreters */
#define MAX_PHDRS 512

static int is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

static int found(const char *name, char *path, size_t room)
{
	if ((size_t)snprintf(path, room, "%s", name) >= room) {
		complain("%s: the path is too long", name);
		return -1;
	}
	return 0;
}

int find_command(const char *name, char *path, size_t room)
{
	const char *dirs = getenv("PATH");
	struct stat st;

	if (strchr(name, '/')) {
		if (stat(name, &st)) {
			complain("%s: %s", name, strerror(errno));
			return -1;
		}
		if (!is_program(name)) {
			complain("%s: not a program that you may execute", name);
			return -1;
		}
		return found(name, path, room);
	}
	if (!dirs)
		dirs = "/usr/local/bin:/usr/bin:/bin";
	for (;;) {
		size_t n = strcspn(dirs, ":");

		if ((size_t)snprintf(path, room, "%.*s%s%s", (int)n, dirs, n ? "/" : "./", name) < room && *name && is_program(path))
			return 0;
		if (!dirs[n])
			break;
		dirs += n + 1;
	}
	complain("%s: command not found in PATH; is its package installed?", name);
	return -1;
}

static int check_privileges(const char *path, const struct stat *st)
{
	if ((st->st_mode & S_ISUID && st->st_uid != geteuid()) || (st->st_mode & S_ISGID && (st->st_mode & S_IXGRP) && st->st_gid != getegid())) {
		complain("%s is setuid or setgid: the loader ignores preloaded libraries there; run a copy without these bits", path);
		return -1;
	}
	if (getxattr(path, "security.capability", NULL, 0) > 0 && geteuid() != 0) {
		complain("%s carries file capabilities: the loader ignores preloaded libraries there; run a copy without them", path);
		return -1;
	}
	return 0;
}

static int has_loader(int fd, const Elf64_Ehdr *eh)
{
	Elf64_Phdr ph;

	if (eh->e_phentsize != sizeof(ph) || eh->e_phnum > MAX_PHDRS)
		return -1;
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(eh->e_phoff + i * sizeof(ph))) != sizeof(ph))
			return -1;
		if (ph.p_type == PT_INTERP)
			return 1;
	}
	return 0;
}

static int check_elf(const char *path, int fd, const Elf64_Ehdr *eh)
{
	int loader;

	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_machine != EM_X86_64) {
		complain("%s is not a 64-bit x86 program: usekvm can only enter those; use its x86-64 build", path);
		return -1;
	}
	loader = has_loader(fd, eh);
	if (loader < 0) {
		complain("%s: the ELF file is damaged", path);
		return -1;
	}
	if (!loader) {
		complain("%s is statically linked: nothing can be preloaded into it; use a dynamically linked build", path);
		return -1;
	}
	return 0;
}

/* The program a script's first line names; behind /usr/bin/env the one that PATH has. */
static int script_interpreter(const char *path, char *line, char *out, size_t room)
{
	char *s = line + 2, *word, *save = NULL, *base;

	s[strcspn(s, "\n")] = 0;
	word = strtok_r(s, " \t\r", &save);
	if (!word) {
		complain("%s: the script names no interpreter", path);
		return -1;
	}
	base = strrchr(word, '/');
	if (base && !strcmp(base, "/env")) {
		char *arg;

		while ((arg = strtok_r(NULL, " \t\r", &save)) && (*arg == '-' || strchr(arg, '=')))
			;
		if (arg)
			return find_command(arg, out, room);
	}
	if (!is_program(word)) {
		complain("%s: its interpreter %s is not there", path, word);
		return -1;
	}
	return found(word, out, room);
}

static int check_file(const char *path, unsigned depth)
{
	char head[256 + 1] = "", interpreter[CLI_PATH];
	Elf64_Ehdr eh;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = -1;
	ssize_t n;

	if (fd < 0) { /* may be executed but not read: the kernel makes such a process undumpable, but the loader still preloads */
		return errno == EACCES ? 0 : (complain("%s: %s", path, strerror(errno)), -1);
	}
	n = pread(fd, head, sizeof(head) - 1, 0);
	if (fstat(fd, &st) || n < 0) {
		complain("%s: %s", path, strerror(errno));
	} else if (n > 2 && !memcmp(head, "#!", 2)) {
		if (depth >= MAX_SCRIPTS)
			complain("%s: too many interpreters behind one another", path);
		else if (!script_interpreter(path, head, interpreter, sizeof(interpreter)))
			r = check_file(interpreter, depth + 1);
	} else if ((size_t)n >= sizeof(eh) && !memcmp(head, ELFMAG, SELFMAG)) {
		memcpy(&eh, head, sizeof(eh));
		r = check_privileges(path, &st) ?: check_elf(path, fd, &eh);
	} else {
		complain("%s is neither an ELF program nor a script with #!", path);
	}
	close(fd);
	return r;
}

int check_plugin(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr eh = {0};
	ssize_t n = fd < 0 ? -1 : pread(fd, &eh, sizeof(eh), 0);
	bool ok = n == sizeof(eh) && !memcmp(eh.e_ident, ELFMAG, SELFMAG) && eh.e_ident[EI_CLASS] == ELFCLASS64 && eh.e_type == ET_DYN &&
		  eh.e_machine == EM_X86_64;

	if (fd >= 0)
		close(fd);
	if (!ok)
		complain("plug-in '%s' is not a 64-bit x86 shared object", path);
	return ok ? 0 : -1;
}

int check_command(const char *path)
{
	return check_file(path, 0);
}

const char *cpu_missing(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d))
		return "cpuid";
	if (!(c & bit_SSE4_2))
		return "sse4.2";
	if (!(c & bit_CMPXCHG16B))
		return "cx16";
	if (!(c & bit_XSAVE) || !(c & bit_OSXSAVE))
		return "xsave (enabled by the operating system)";
	if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(c & bit_LAHF_LM))
		return "lahf_lm";
	return NULL;
}
