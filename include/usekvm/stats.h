/* SPDX-License-Identifier: MIT */
/*
 * The attributes of USEKVM_DEV_TYPE_STATS (usekvm/device.h): the counters of a VM and its vCPUs. docs/devices/stats.md lists them.
 * All are read with KVM_GET_DEVICE_ATTR; addr is where the answer goes. Unknown ones are ENXIO, flags must be 0.
 */
#ifndef USEKVM_STATS_H
#define USEKVM_STATS_H

#ifdef __cplusplus
extern "C" {
#endif

#define USEKVM_STATS_INFO 0 /* uint64_t: */
#define USEKVM_STATS_INFO_COUNT 0 /* number of counters */
#define USEKVM_STATS_INFO_VCPUS 1 /* number of vCPUs */
#define USEKVM_STATS_NAME 1 /* attr: a counter's index. char[48] */
#define USEKVM_STATS_VM 2   /* attr: index, or USEKVM_STATS_ALL. Sums over the vCPUs. uint64_t, or as many as there are counters */
#define USEKVM_STATS_VCPU 3 /* the same of one vCPU, whose id is in the upper half of attr */
#define USEKVM_STATS_ALL 0xffffffffull

#ifdef __cplusplus
}
#endif

#endif
