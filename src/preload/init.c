/* SPDX-License-Identifier: MIT */
/*
 * Start and end of the library in a program: settings from the environment, the fork handler, the statistics at exit. A program that never
 * opens /dev/kvm gets nothing but the interposers: no handler, thread or descriptor of ours (but see cpuid.c).
 */
#include "preload/preload.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/agent.h"
#include "base/log.h"
#include "base/perfmap.h"
#include "base/inject.h"
#include "base/process.h"
#include "base/ramfile.h"
#include "base/sig.h"
#include "base/vfiogroups.h"
#include "vfile/vfile.h"

/* Optional parts of api/. dest: a file name, or "-" for stderr. */
extern void api_stats_dump(const char *dest) __attribute__((weak)) hidden;

static bool kvm_used;
static char stats_dest[4096];

long open_kvm(int flags)
{
	int r = sig_install();

	if (r < 0)
		return r;
	r = agent_start();
	if (r < 0)
		return r;
	if (process_direct)
		process_note_filters();
	r = api_open(flags);
	if (r >= 0)
		store_relaxed(&kvm_used, true);
	return r;
}

static void in_child(void)
{
	vfile_forked();
	sig_forked();
	agent_forked();
	process_forked();
	perf_map_forked();
	ramfile_forked();
	vfio_groups_forked();
	live_forked();
	kvm_used = false;
}

static __attribute__((constructor)) void usekvm_start(void)
{
	const char *spec = getenv("USEKVM_LOG"), *file = getenv("USEKVM_LOG_FILE");
	const char *engine = getenv("USEKVM_ENGINE"), *stats = getenv("USEKVM_STATS"), *bad = NULL;
	const char *perf_map = getenv("USEKVM_PERF_MAP"), *cache = getenv("USEKVM_CODE_CACHE"), *direct = getenv("USEKVM_DIRECT");
	const char *drop = getenv("USEKVM_TLB_DROP"), *first = getenv("USEKVM_CHECK_FIRST"), *inject = getenv("USEKVM_INJECT");
	struct inject_spec faults;
	int saved = errno;

	if (file && *file && log_set_file(file) < 0)
		log_error(preload, "USEKVM_LOG_FILE: cannot write %s", file);
	if (spec && log_configure(spec, &bad) < 0)
		log_error(preload, "USEKVM_LOG: not understood at '%s' (want SUBSYSTEM:LEVEL[,...])", bad);
	if (engine && !strcmp(engine, "interp"))
		process_engine = ENGINE_INTERP;
	else if (engine && !strcmp(engine, "translate"))
		process_engine = ENGINE_TRANSLATE;
	else if (engine && !strcmp(engine, "check"))
		process_engine = ENGINE_CHECK;
	else if (engine && *engine && strcmp(engine, "auto"))
		log_error(preload, "USEKVM_ENGINE: no engine '%s' (interp, translate, check or auto)", engine);
	if (process_engine == ENGINE_AUTO && !(direct && !strcmp(direct, "off")))
		process_direct = direct && !strcmp(direct, "always") ? DIRECT_ALWAYS : DIRECT_AUTO;
	if (perf_map && *perf_map && perf_map_start(strcmp(perf_map, "-") ? perf_map : "") < 0)
		log_error(preload, "USEKVM_PERF_MAP: %s cannot be read or holds no symbols of code; the map has addresses only", perf_map);
	if (cache)
		process_code_cache = (u32)strtoul(cache, NULL, 0);
	if (drop)
		process_tlb_drop = (u32)strtoul(drop, NULL, 0);
	if (first)
		process_check_first = (u32)strtoul(first, NULL, 0);
	if (inject && *inject && inject_parse(inject, &faults, &bad) < 0)
		log_error(preload, "USEKVM_INJECT: not understood at '%s' (want KIND[=N][,...])", bad);
	else if (inject && *inject)
		inject_start(&faults);
	for (size_t i = 0; stats && stats[i] && i < sizeof(stats_dest) - 1; i++)
		stats_dest[i] = stats[i];
	pthread_atfork(NULL, NULL, in_child);
	cpuid_start();
	errno = saved;
}

#ifdef USEKVM_DEBUG
static void leak_check(void)
{
	static const char *const name[LIVE_KINDS] = { "VM", "vCPU", "device", "statistics file", "VFIO file", "heap block", "mapping" };
	const char *on = getenv("USEKVM_LEAK_CHECK");
	bool bad = false;

	if (!on || !*on || vfile_is_forked())
		return;
	vfile_closing_range(0, ~0u);
	for (int i = 0; i < LIVE_KINDS; i++) {
		if (!live_count(i))
			continue;
		log_error(preload, "leak: %d of kind %s", live_count(i), name[i]);
		bad = true;
	}
	if (bad)
		_exit(86);
}
#else
static void leak_check(void)
{
}
#endif

static __attribute__((destructor)) void usekvm_end(void)
{
	leak_check();
	if (stats_dest[0] && load_relaxed(&kvm_used) && !vfile_is_forked() && api_stats_dump)
		api_stats_dump(stats_dest);
}
