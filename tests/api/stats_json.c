/* SPDX-License-Identifier: MIT */
/* USEKVM_STATS=FILE.json (usekvm --stats=FILE.json): valid JSON, and the numbers are those of what was run. */
#include "kvmtest.h"

GUEST16(prog, "mov $100, %cx\n1: out %al, $0x10\n loop 1b\n hlt\n");

/* ---- a checker for JSON of objects and numbers ---- */

static const char *at;

static void blanks(void)
{
	while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')
		at++;
}

static bool eat(char c)
{
	blanks();
	if (*at != c)
		return false;
	at++;
	return true;
}

static bool string(void)
{
	if (!eat('"'))
		return false;
	while (*at && *at != '"' && *at != '\\' && (unsigned char)*at >= ' ')
		at++;
	return *at++ == '"';
}

static bool value(void)
{
	blanks();
	if (*at >= '0' && *at <= '9') {
		bool zero = *at == '0';

		at++;
		if (zero && *at >= '0' && *at <= '9')
			return false;
		while (*at >= '0' && *at <= '9')
			at++;
		return true;
	}
	if (!eat('{'))
		return false;
	if (eat('}'))
		return true;
	do {
		if (!string() || !eat(':') || !value())
			return false;
	} while (eat(','));
	return eat('}');
}

static u64 number(const char *text, const char *name)
{
	char key[64];
	const char *p;

	snprintf(key, sizeof(key), "\"%s\":", name);
	p = strstr(text, key);
	if (!p)
		printf("no \"%s\"\n", name);
	CHECK(p != NULL);
	return p ? strtoull(p + strlen(key), NULL, 10) : ~0ull;
}

static int guest(void)
{
	struct vm v;

	vm_real(&v, prog, prog_end);
	for (int i = 0; i < 100; i++)
		CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_IO);
	CHECK_EXIT(v.vcpu, v.run, KVM_EXIT_HLT);
	return kt_end();
}

int main(int argc, char **argv)
{
	char path[] = "/tmp/usekvm-stats-XXXXXX.json", text[8192] = "";
	int fd, status;
	ssize_t n;
	pid_t pid;

	if (argc > 1)
		return guest();
	if (!kt_usekvm())
		SKIP("statistics are usekvm's");
	fd = mkstemps(path, 5);
	REQUIRE(fd >= 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		setenv("USEKVM_STATS", path, 1);
		execl("/proc/self/exe", argv[0], "guest", (char *)NULL);
		_exit(99);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	n = read(fd, text, sizeof(text) - 1);
	unlink(path);
	CHECK(n > 0);
	at = text;
	CHECK(value());
	blanks();
	CHECK_EQ(*at, 0);
	CHECK_EQ(number(text, "vms"), 1);
	CHECK_EQ(number(text, "vcpus"), 1);
	CHECK_EQ(number(text, "kvm_run_calls"), 101);
	CHECK_EQ(number(text, "io"), 100);
	CHECK_EQ(number(text, "hlt"), 1);
	CHECK_EQ(number(text, "mmio"), 0);
	CHECK_EQ(number(text, "instructions"), 202);
	CHECK(number(text, "guest_us") < 40000000);
	CHECK(number(text, "vmm_us") < 40000000);
	if (kt_failures)
		printf("%s\n", text);
	return kt_end();
}
