/* SPDX-License-Identifier: MIT */
/*
 * The table of base/vfiogroups.h. Small and fixed: a group beyond its end is unknown, so its DMA counts as not coherent.
 *
 * Two locks: `watch_lock` around the list of watchers and their calls, `lock` around the table, inside it.
 */
#include <linux/vfio.h> /* before our macro aligned() */

#include "base/vfiogroups.h"

#include "base/lock.h"
#include "base/sys.h"

#define GROUPS 128
#define DEVICES 256

static struct {
	struct mutex lock, watch_lock;
	u32 used; /* atomic: anything in the table? */
	struct {
		u64 group;
		int container; /* -1: closed, or none */
		bool coherent; /* the last answer */
	} group[GROUPS];
	struct {
		u64 group; /* 0: free */
		int fd;
	} device[DEVICES];
	struct vfio_watcher *watchers;
} tab = { .lock = MUTEX_INIT("vfio groups"), .watch_lock = MUTEX_INIT("vfio watchers") };

/* Lock held. create: an empty place if it is not there. -1: none. */
static int find(u64 group, bool create)
{
	int free = -1;

	for (int i = 0; i < GROUPS; i++) {
		if (tab.group[i].group == group)
			return i;
		if (!tab.group[i].group && free < 0)
			free = i;
	}
	return create ? free : -1;
}

void vfio_group_set(u64 group, int container)
{
	mutex_lock(&tab.lock);
	int i = find(group, container >= 0);

	if (i >= 0) {
		tab.group[i].group = container >= 0 ? group : 0;
		tab.group[i].container = container;
		tab.group[i].coherent = false;
		store_relaxed(&tab.used, 1);
	}
	mutex_unlock(&tab.lock);
}

void vfio_device_set(int fd, u64 group)
{
	mutex_lock(&tab.lock);
	for (int i = 0; i < DEVICES; i++) {
		if (tab.device[i].group)
			continue;
		tab.device[i].group = group;
		tab.device[i].fd = fd;
		store_relaxed(&tab.used, 1);
		break;
	}
	mutex_unlock(&tab.lock);
}

u64 vfio_device_group(int fd)
{
	u64 group = 0;

	mutex_lock(&tab.lock);
	for (int i = 0; i < DEVICES; i++)
		if (tab.device[i].group && tab.device[i].fd == fd)
			group = tab.device[i].group;
	mutex_unlock(&tab.lock);
	return group;
}

bool vfio_group_coherent(u64 group)
{
	bool yes = false;

	if (!group)
		return false;
	mutex_lock(&tab.lock);
	int i = find(group, false);
	if (i >= 0) {
		if (tab.group[i].container >= 0)
			tab.group[i].coherent = sys_ioctl(tab.group[i].container, VFIO_CHECK_EXTENSION, (void *)VFIO_DMA_CC_IOMMU) > 0;
		yes = tab.group[i].coherent;
	}
	mutex_unlock(&tab.lock);
	return yes;
}

void vfio_closing(unsigned lo, unsigned hi)
{
	if (likely(!load_relaxed(&tab.used)))
		return;
	mutex_lock(&tab.lock);
	for (int i = 0; i < GROUPS; i++)
		if (tab.group[i].group && (unsigned)tab.group[i].container >= lo && (unsigned)tab.group[i].container <= hi)
			tab.group[i].container = -1;
	for (int i = 0; i < DEVICES; i++)
		if ((unsigned)tab.device[i].fd >= lo && (unsigned)tab.device[i].fd <= hi)
			tab.device[i].group = 0;
	mutex_unlock(&tab.lock);
}

void vfio_watch(struct vfio_watcher *w)
{
	mutex_lock(&tab.watch_lock);
	w->next = tab.watchers;
	tab.watchers = w;
	mutex_unlock(&tab.watch_lock);
}

void vfio_unwatch(struct vfio_watcher *w)
{
	mutex_lock(&tab.watch_lock);
	struct vfio_watcher **p = &tab.watchers;

	while (*p && *p != w)
		p = &(*p)->next;
	if (*p)
		*p = w->next;
	mutex_unlock(&tab.watch_lock);
}

void vfio_changed(void)
{
	mutex_lock(&tab.watch_lock);
	for (struct vfio_watcher *w = tab.watchers; w; w = w->next)
		w->changed(w);
	mutex_unlock(&tab.watch_lock);
}

void vfio_groups_forked(void)
{
	mutex_init(&tab.lock, "vfio groups");
	mutex_init(&tab.watch_lock, "vfio watchers");
	tab.watchers = NULL;
}
