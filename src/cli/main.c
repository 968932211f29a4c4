/* SPDX-License-Identifier: MIT */
/*
 * usekvm [options] [--] COMMAND...: check COMMAND, put the library in front of LD_PRELOAD and the options into USEKVM_* variables, and
 * become COMMAND. Exit status: 2 wrong usage, 126 COMMAND cannot be run under usekvm, 127 COMMAND not found.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/inject.h"
#include "usekvm/usekvm.h"

#define EXIT_USAGE 2
#define EXIT_CANNOT 126
#define EXIT_NOT_FOUND 127

static const char help[] =
	"usage: usekvm [options] [--] COMMAND [ARGUMENT...]\n"
	"       usekvm doctor\n"
	"\n"
	"Runs COMMAND with a /dev/kvm of its own, made in user space: no hardware virtualization is needed.\n"
	"\n"
	"  --engine=NAME     auto (default: hot code translated, the rest interpreted), interp, translate (all code is hot),\n"
	"                    or check (each instruction by both; stops at a difference; one vCPU, slow)\n"
	"  --direct=WHEN     user code of the guest run as it is, in a process of its own: auto (default: where it runs for\n"
	"                    long), off, always (where it can; for tests); with the engine auto only\n"
	"  --log=SPEC        SUBSYSTEM:LEVEL[,...] or LEVEL; levels: none error warn info debug trace;\n"
	"                    subsystems: all api kvm mem mmu cpu interp irq timer io dev preload translate direct\n"
	"  --stats[=FILE]    at exit, write statistics to FILE (stderr without it)\n"
	"  --inject=LIST     faults by chance, to try COMMAND with: eintr (KVM_RUN returns it without a signal), wake (sleeps end\n"
	"                    early), kick (kicks are seen late), nomem (ioctls lack memory); KIND=N: once in N places;\n"
	"                    seed=S, delay=US (of kicks); --stats has the counts. Example: --inject=eintr=20,kick,seed=3\n"
	"  --perf-map[=FILE] write /tmp/perf-PID.map, for perf to name the guest's code; FILE: the guest's System.map\n"
	"  --host-cpuid      COMMAND's CPUID instructions show no VMX or SVM that the host's CPU lacks\n"
	"  --plugin=FILE.so[,ARGS]\n"
	"                    load a plug-in into COMMAND (usekvm/plugin.h); may be given several times\n"
	"  --help            this text\n"
	"  --version         the version\n"
	"\n"
	"usekvm doctor       what this machine has and lacks\n"
	"\n"
	"Example: usekvm qemu-system-x86_64 -accel kvm -M q35 -m 512 -nographic -kernel VMLINUZ -initrd INITRD\n";

void complain(const char *fmt, ...)
{
	va_list ap;

	fputs("usekvm: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

struct options {
	const char *engine, *direct, *log, *stats, *perf_map, *host_cpuid, *inject;
	char *plugins; /* as USEKVM_PLUGINS has them: one a line, FILE[,ARGS] */
};

/* "--name=value": the value, "" for "--name" where that is allowed, NULL if it is another option. */
static const char *value_of(const char *arg, const char *name, bool optional)
{
	size_t n = strlen(name);

	if (strncmp(arg, name, n))
		return NULL;
	if (arg[n] == '=' && arg[n + 1])
		return arg + n + 1;
	return !arg[n] && optional ? "" : NULL;
}

/* FILE becomes absolute, since COMMAND may change its folder. */
static int add_plugin(char **all, const char *value)
{
	size_t n = strcspn(value, ",");
	char *name = strndup(value, n), *path = name ? realpath(name, NULL) : NULL, *joined = NULL;
	int r = -1;

	if (!path || access(path, R_OK))
		complain("plug-in '%s': %s", name ? name : value, strerror(errno));
	else if (strpbrk(path, ",\n") || strchr(value, '\n'))
		complain("plug-in '%s': neither a comma in its path nor a line feed can be handed on", path);
	else if (!check_plugin(path) && asprintf(&joined, "%s%s%s%s", *all ? *all : "", *all ? "\n" : "", path, value + n) >= 0)
		r = 0;
	free(name);
	free(path);
	if (r)
		return r;
	free(*all);
	*all = joined;
	return 0;
}

/* "-" stands for no file. It becomes absolute, since COMMAND may change its folder. */
static int add_perf_map(const char **out, const char *value)
{
	*out = *value ? realpath(value, NULL) : "-";
	if (!*value || (*out && !access(*out, R_OK)))
		return 0;
	complain("System.map '%s': %s", value, strerror(errno));
	return -1;
}

static int usage_error(const char *arg)
{
	complain("option '%s' is unknown or lacks its value; see usekvm --help", arg);
	return -EXIT_USAGE;
}

/* Index of COMMAND in argv, or -(exit status), or 0: all is done. */
static int parse(int argc, char **argv, struct options *o)
{
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		const char *arg = argv[i], *v;

		if (!strcmp(arg, "--"))
			return i + 1;
		if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
			fputs(help, stdout);
			return 0;
		}
		if (!strcmp(arg, "--version")) {
			puts("usekvm " USEKVM_VERSION);
			return 0;
		}
		if ((v = value_of(arg, "--engine", false)))
			o->engine = v;
		else if ((v = value_of(arg, "--direct", false)))
			o->direct = v;
		else if ((v = value_of(arg, "--log", false)))
			o->log = v;
		else if ((v = value_of(arg, "--stats", true)))
			o->stats = *v ? v : "-";
		else if ((v = value_of(arg, "--inject", false)))
			o->inject = v;
		else if (!strcmp(arg, "--host-cpuid"))
			o->host_cpuid = "1";
		else if ((v = value_of(arg, "--perf-map", true))) {
			if (add_perf_map(&o->perf_map, v))
				return -EXIT_CANNOT;
		} else if ((v = value_of(arg, "--plugin", false))) {
			if (add_plugin(&o->plugins, v))
				return -EXIT_CANNOT;
		} else
			return usage_error(arg);
	}
	return i;
}

static int check_options(const struct options *o)
{
	static const char *const engines[] = { "auto", "interp", "translate", "check" };
	struct inject_spec faults;
	const char *bad;

	if (o->inject && inject_parse(o->inject, &faults, &bad)) {
		complain("--inject: not understood at '%s': eintr, wake, kick, nomem (each with =N), seed=S, delay=US", bad);
		return -1;
	}

	if (o->direct && strcmp(o->direct, "auto") && strcmp(o->direct, "off") && strcmp(o->direct, "always")) {
		complain("--direct is auto, off or always, not '%s'", o->direct);
		return -1;
	}

	for (size_t k = 0; o->engine && k < sizeof(engines) / sizeof(engines[0]); k++)
		if (!strcmp(o->engine, engines[k]))
			return 0;
	if (!o->engine)
		return 0;
	complain("there is no engine '%s' in this version: auto, interp, translate or check", o->engine);
	return -1;
}

static void set(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
}

/* The loader takes spaces and colons for separators, so a path with one cannot be named. */
static int set_preload(const char *lib)
{
	const char *old = getenv("LD_PRELOAD");
	char *all;

	if (strpbrk(lib, " :")) {
		complain("the library's path '%s' has a space or colon in it, which LD_PRELOAD cannot hold; move it", lib);
		return -1;
	}
	if (asprintf(&all, "%s%s%s", lib, old && *old ? ":" : "", old ? old : "") < 0)
		return -1;
	setenv("LD_PRELOAD", all, 1);
	free(all);
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	char command[CLI_PATH], lib[CLI_PATH];
	int at = parse(argc, argv, &o);
	const char *missing;

	if (at <= 0)
		return -at;
	if (at >= argc) {
		complain("no COMMAND given; see usekvm --help");
		return EXIT_USAGE;
	}
	if (check_options(&o))
		return EXIT_USAGE;
	if (!strcmp(argv[at], "doctor") && at + 1 == argc && strcmp(argv[at - 1], "--"))
		return doctor();
	if (find_command(argv[at], command, sizeof(command)))
		return EXIT_NOT_FOUND;
	if (check_command(command))
		return EXIT_CANNOT;
	missing = cpu_missing();
	if (missing) {
		complain("this CPU lacks %s; usekvm doctor tells more", missing);
		return EXIT_CANNOT;
	}
	if (find_library(lib, sizeof(lib))) {
		complain("libusekvm.so is neither beside usekvm nor in ../lib; set USEKVM_LIB to its path");
		return EXIT_CANNOT;
	}
	if (set_preload(lib))
		return EXIT_CANNOT;
	if (sanitizer_prepare()) {
		complain("the sanitizer's runtime cannot be given to %s", command);
		return EXIT_CANNOT;
	}
	set("USEKVM_ENGINE", o.engine);
	set("USEKVM_DIRECT", o.direct);
	set("USEKVM_INJECT", o.inject);
	set("USEKVM_LOG", o.log);
	set("USEKVM_STATS", o.stats);
	set("USEKVM_PERF_MAP", o.perf_map);
	set("USEKVM_HOST_CPUID", o.host_cpuid);
	set("USEKVM_PLUGINS", o.plugins);
	execv(command, argv + at);
	complain("%s: %s", command, strerror(errno));
	return EXIT_CANNOT;
}
