/* SPDX-License-Identifier: MIT */
/*
 * What is known of the process's VFIO files from the ioctls it makes on them: which container a group is in, which group a device's descriptor came
 * from. Only the interposers see that. A container is known by its number: holding it open would keep the VMM's DMA mappings alive.
 */
#ifndef USEKVM_BASE_VFIOGROUPS_H
#define USEKVM_BASE_VFIOGROUPS_H

#include "base/types.h"

/* group: st_rdev of its character device. container: descriptor, or -1: taken out of its container. */
void vfio_group_set(u64 group, int container) hidden;
/* A device's descriptor was made from a group. 0: no such group. */
void vfio_device_set(int fd, u64 group) hidden;
u64 vfio_device_group(int fd) hidden;
/* Is DMA of the group coherent with the CPU's caches? Asks the container; if that has been closed since, what it said last. Unknown: false. */
bool vfio_group_coherent(u64 group) hidden;
/* Numbers are being closed. */
void vfio_closing(unsigned lo, unsigned hi) hidden;

/* Who wants to know that an answer may have changed; changed() is called under the table's lock, by vfio_changed() only. */
struct vfio_watcher {
	struct vfio_watcher *next;
	void (*changed)(struct vfio_watcher *w);
};
void vfio_watch(struct vfio_watcher *w) hidden;
void vfio_unwatch(struct vfio_watcher *w) hidden;
void vfio_changed(void) hidden;
void vfio_groups_forked(void) hidden;

#endif
