/* SPDX-License-Identifier: MIT */
/*
 * Memory for code that we write: mapped twice, writable at one address and executable at another, never both at one.
 */
#ifndef USEKVM_BASE_CODE_H
#define USEKVM_BASE_CODE_H

#include "base/types.h"

/*
 * size: in bytes, of whole pages. name: of the memfd behind it; NULL: shared memory without a name (perf looks into its map only for code that is
 * in no file). 0, -ENOMEM or -EMFILE, and then nothing is mapped.
 */
int code_map(const char *name, size_t size, u8 **rw, u8 **rx) hidden;
void code_unmap(u8 *rw, u8 *rx, size_t size) hidden;
/* After code was written, before it runs. */
void code_serialize(void) hidden;

#endif
