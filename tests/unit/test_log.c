/* SPDX-License-Identifier: MIT */
/* Levels and their grammar; lines reach the file even after the program closed our descriptor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static void test_configure(void **state)
{
	const char *spec = "irq:debug,mmux:trace", *bad = NULL;

	assert_int_equal(log_levels[LOG_irq], LOG_WARN);
	assert_int_equal(log_configure("irq:debug,mmu:trace", &bad), 0);
	assert_int_equal(log_levels[LOG_irq], LOG_DEBUG);
	assert_int_equal(log_levels[LOG_mmu], LOG_TRACE);
	assert_int_equal(log_levels[LOG_api], LOG_WARN);
	assert_int_equal(log_configure("all:info", &bad), 0);
	assert_int_equal(log_levels[LOG_api], LOG_INFO);
	assert_int_equal(log_configure("error", NULL), 0);
	assert_int_equal(log_levels[LOG_timer], LOG_ERROR);
	assert_int_equal(log_configure(spec, &bad), -EINVAL);
	assert_ptr_equal(bad, spec + 10);
	assert_int_equal(log_levels[LOG_irq], LOG_ERROR); /* nothing of it was taken */
	assert_int_equal(log_configure("irq:loud", &bad), -EINVAL);
	assert_string_equal(bad, "loud");
	assert_int_equal(log_configure("irq:", &bad), -EINVAL);
	assert_int_equal(log_configure("", &bad), 0);
}

static void test_file(void **state)
{
	char name[] = "/tmp/usekvm-test-log-XXXXXX", line[200] = "";
	int fd = mkstemp(name), lines = 0;
	FILE *f;

	assert_true(fd >= 0);
	assert_int_equal(log_set_file(name), 0);
	assert_int_equal(log_configure("irq:info", NULL), 0);
	errno = 5;
	log_info(irq, "first %d", 1);
	log_debug(irq, "not this one");
	assert_int_equal(errno, 5);
	closefrom(fd + 1);
	log_error(irq, "second");
	f = fopen(name, "r");
	while (fgets(line, sizeof(line), f)) {
		lines++;
		assert_non_null(strstr(line, lines == 1 ? "irq info: first 1\n" : "irq error: second\n"));
	}
	assert_int_equal(lines, 2);
	fclose(f);
	unlink(name);
	log_set_file(NULL);
	assert_int_equal(log_set_file("/nonexistent/x"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_configure), cmocka_unit_test(test_file) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
