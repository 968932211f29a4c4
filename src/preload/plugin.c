/* SPDX-License-Identifier: MIT */
/*
 * Plug-ins (include/usekvm/plugin.h): USEKVM_PLUGINS names them, one a line, FILE[,ARGS]. They are loaded once, when the first VM is made: then the
 * process is known to be a VMM, and its seccomp filters are not in force yet.
 */
#include "usekvm/plugin.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "base/log.h"
#include "preload/preload.h"
#include "xinterface/xinterface.h"

struct plugin {
	struct plugin *next;
	const struct usekvm_plugin *ops;
	char *args;
};

/* One VM, and the plug-ins that want to hear of its end. */
struct told {
	struct told *next;
	const struct plugin *plugin;
	void *vm;
};

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static struct plugin *plugins;
static bool loaded;
static int load_error;

static int load_failed(void *handle, const char *file, const char *why)
{
	log_error(preload, "plug-in %s: %s", file, why ? why : "cannot be loaded");
	if (handle)
		dlclose(handle);
	return -ELIBACC;
}

static int load(char *file, struct plugin **link)
{
	char *args = strchr(file, ',');
	const struct usekvm_plugin *ops;
	struct plugin *p;
	void *handle;

	if (args)
		*args++ = 0;
	handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return load_failed(NULL, file, dlerror());
	ops = dlsym(handle, "usekvm_plugin");
	if (!ops)
		return load_failed(handle, file, "has no symbol usekvm_plugin: not a plug-in of usekvm");
	if (ops->version != USEKVM_PLUGIN_VERSION || !ops->vm_made)
		return load_failed(handle, file, "is made for another version of usekvm, or has no vm_made");
	p = calloc(1, sizeof(*p));
	if (!p)
		return load_failed(handle, file, "no memory");
	live_add(LIVE_HEAP, -1); /* kept for good */
	p->ops = ops;
	p->args = args ? args : file + strlen(file);
	*link = p;
	log_info(preload, "plug-in %s: %s", file, ops->name ? ops->name : "");
	return 0;
}

/* The copy of the list stays: the plug-ins' arguments stand in it. */
static int load_all(void)
{
	const char *env = getenv("USEKVM_PLUGINS");
	struct plugin **link = &plugins;
	char *list, *file, *save = NULL;
	int r = 0;

	if (!env || !*env)
		return 0;
	list = strdup(env);
	if (!list)
		return -ENOMEM;
	live_add(LIVE_HEAP, -1);
	for (file = strtok_r(list, "\n", &save); file && !r; file = strtok_r(NULL, "\n", &save)) {
		r = load(file, link);
		if (!r)
			link = &(*link)->next;
	}
	return r;
}

static void vm_gone(struct kvm *kvm, void *arg)
{
	struct told *t = arg;

	while (t) {
		struct told *next = t->next;

		if (t->plugin->ops->vm_gone)
			t->plugin->ops->vm_gone(t->vm);
		free(t);
		t = next;
	}
}

static struct told *tell(int fd)
{
	struct told *all = NULL;

	for (const struct plugin *p = plugins; p; p = p->next) {
		struct told *t = calloc(1, sizeof(*t));
		int r = t ? p->ops->vm_made(fd, p->args, &t->vm) : ENOMEM;

		if (r) {
			log_warn(preload, "plug-in %s: does not take this VM: %s", p->ops->name ? p->ops->name : "", strerror(r));
			free(t);
			continue;
		}
		t->plugin = p;
		t->next = all;
		all = t;
	}
	return all;
}

long plugins_vm_made(int fd)
{
	struct told *told;
	int saved = errno, r;

	pthread_mutex_lock(&load_lock);
	if (!loaded)
		load_error = load_all();
	loaded = true;
	r = load_error;
	pthread_mutex_unlock(&load_lock);
	if (r) {
		hook_close(fd);
	} else if (plugins) {
		told = tell(fd);
		if (told && xinterface_watch(fd, vm_gone, told))
			vm_gone(NULL, told); /* closed already, by another thread */
	}
	errno = saved;
	return r ? r : fd;
}
