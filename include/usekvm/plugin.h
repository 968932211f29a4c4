/* SPDX-License-Identifier: MIT */
/*
 * Plug-ins: `usekvm --plugin=FILE.so[,ARGS] COMMAND` loads FILE.so into COMMAND's process, an unmodified VMM, and tells it of each VM that is
 * made there. With usekvm/xinterface.h it can then be a device for the guest. A plug-in is a shared object that defines
 *
 *     const struct usekvm_plugin usekvm_plugin = { USEKVM_PLUGIN_VERSION, "name", vm_made, vm_gone };
 *
 * (with default visibility). It need not be linked with libusekvm. It is loaded when the VMM makes its first VM and never unloaded. A file that
 * cannot be loaded, lacks the symbol or has another version is named on stderr, and KVM_CREATE_VM fails with ELIBACC.
 */
#ifndef USEKVM_PLUGIN_H
#define USEKVM_PLUGIN_H

#ifdef __cplusplus
extern "C" {
#endif

#define USEKVM_PLUGIN_VERSION 1u

struct usekvm_plugin {
	unsigned version;
	const char *name; /* for messages */
	/*
	 * A VM was made: it has no memory and no vCPUs yet, and KVM_CREATE_VM has not returned to the VMM, on whose thread this runs, without
	 * locks. vm_fd is the VMM's: do not close it; kvm_xinterface_bind(vm_fd) to reach the VM later. args is what stood behind the
	 * comma, "" if nothing did. *vm is handed to vm_gone.
	 * Returns 0, or an errno number: not interested; a line is logged, vm_gone is not called for this VM.
	 */
	int (*vm_made)(int vm_fd, const char *args, void **vm);
	/*
	 * The VMM has closed the last descriptor of the VM (its own, vCPUs', devices'): no guest code runs any more. Called on the thread that closed it, without
	 * locks. Events and references that the plug-in holds keep the rest of the VM alive until it gives them back here or later.
	 * Not called when the process ends with the VM open. May be NULL.
	 */
	void (*vm_gone)(void *vm);
};

#ifdef __cplusplus
}
#endif

#endif
