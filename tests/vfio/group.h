/* SPDX-License-Identifier: MIT */
/* The IOMMU group of a PCI device, as /dev/vfio names it. Read after harness/kvmtest.h. */
#ifndef VFIO_GROUP_H
#define VFIO_GROUP_H

static char group_path[64];

static void find_group(const char *pci)
{
	char path[128], link[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", pci);
	n = readlink(path, link, sizeof(link) - 1);
	REQUIRE(n > 0);
	link[n] = 0;
	snprintf(group_path, sizeof(group_path), "/dev/vfio/%s", strrchr(link, '/') + 1);
}

#endif
