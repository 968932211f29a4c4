/* SPDX-License-Identifier: MIT */
#ifndef USEKVM_API_STATS_H
#define USEKVM_API_STATS_H

/* Write what all VMs of the process have counted to the file `dest` ("-": stderr); as JSON if its name ends in .json. */
void api_stats_dump(const char *dest) __attribute__((visibility("hidden")));

#endif
