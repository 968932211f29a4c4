/* SPDX-License-Identifier: MIT */
/*
 * The launcher's parts: main.c (options), check.c (can COMMAND be preloaded?), library.c (where is libusekvm.so?), doctor.c,
 * sanitizer.c (builds with ThreadSanitizer).
 */
#ifndef USEKVM_CLI_CLI_H
#define USEKVM_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#define CLI_PATH 4096

/* "usekvm: " and the message on stderr. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Absolute path of libusekvm.so into path. 0, or -1 with nothing said. */
int find_library(char *path, size_t room);

/* Look COMMAND up as execvp would. 0, or -1 after complaining. */
int find_command(const char *name, char *path, size_t room);
/* Whatever makes preloading impossible. 0, or -1 after complaining. */
int check_command(const char *path);

/* Is it a shared object of this machine's kind? 0, or -1 after complaining. */
int check_plugin(const char *path);

/* CPU features without which the library cannot work: NULL, or the name of the first that is missing. */
const char *cpu_missing(void);

/* What a sanitizer's runtime wants of the environment, which holds the library by then. 0, or -1. */
int sanitizer_prepare(void);

int doctor(void); /* the exit status */

#endif
