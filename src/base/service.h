/* SPDX-License-Identifier: MIT */
/*
 * The service thread of a VM: timers (PIT, LAPIC timers of running vCPUs) and file descriptors to wait for (irqfd). It is made with
 * the VM, by the agent (base/agent.h), blocks every signal, and calls back with no lock held.
 */
#ifndef USEKVM_BASE_SERVICE_H
#define USEKVM_BASE_SERVICE_H

#include "base/lock.h"
#include "base/types.h"

struct svc_timer {
	void (*fn)(struct svc_timer *t); /* on the service thread; may re-arm */
	u64 deadline;                    /* CLOCK_MONOTONIC, ns; ~0: off */
	unsigned pos;                    /* heap position, service's own */
};
struct svc_watch {
	void (*fn)(struct svc_watch *w, u32 epoll_events); /* level-triggered EPOLLIN; EPOLLHUP when the other side is gone */
	int fd;                                            /* the watch does not own it */
};
struct service;

int service_start(struct service **out, const char *name) hidden; /* 0 or -errno */
void service_stop(struct service *s) hidden;                      /* waits for its end; not from a callback */
/* Room for one more timer of this service, or -ENOMEM: setting one has no way to fail. */
int svc_timer_reserve(struct service *s) hidden;
void svc_timer_init(struct svc_timer *t, void (*fn)(struct svc_timer *)) hidden;
void svc_timer_set(struct service *s, struct svc_timer *t, u64 deadline_ns) hidden; /* ~0: cancel (fn may be running) */
void svc_timer_cancel_sync(struct service *s, struct svc_timer *t) hidden;          /* fn is not running after it */
int svc_watch_add(struct service *s, struct svc_watch *w) hidden;
void svc_watch_del_sync(struct service *s, struct svc_watch *w) hidden;
/*
 * Run fn(arg) on the service thread and wait for it. The caller holds no lock that a callback takes. For work whose system calls a
 * seccomp filter may forbid on the calling thread; the call itself needs no more than write and futex.
 */
void svc_call(struct service *s, void (*fn)(void *arg), void *arg) hidden;

#endif
