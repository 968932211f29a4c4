/* SPDX-License-Identifier: MIT */
/* A plug-in of a version that there is not. */
#include "usekvm/plugin.h"

static int vm_made(int vm_fd, const char *args, void **vm)
{
	return 0;
}

__attribute__((visibility("default"))) const struct usekvm_plugin usekvm_plugin = {USEKVM_PLUGIN_VERSION + 1, "bad", vm_made, 0};
