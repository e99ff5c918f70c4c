/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The processor: the parts of the scheduler's types, and what is counted of it. */
#ifndef TAPIO_SCHEDULER_H
#define TAPIO_SCHEDULER_H

#include "histogram.h"

/* Never sent: they count what found no place. */
enum scheduler_kind {
	TAPIO_RUN_QUEUE = 44,
	TAPIO_THROTTLED = 45,
};

/* How often a cgroup ran out of its quota; ns. */
struct throttling {
	__u64 periods;
	__u64 throttled;
	__u64 time;
	__u64 quota;
	__u64 period;
	/* By which its own tasks are known elsewhere, where that is in another hierarchy
	 * (cgroup v1); else 0. */
	__u64 tasks;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sched_info {
	unsigned long long last_arrival;
	unsigned long long last_queued;
};

struct cfs_bandwidth {
	__s64 period;
	__u64 quota;
	int nr_periods;
	int nr_throttled;
	__u64 throttled_time;
};

struct task_group {
	struct cgroup_subsys_state css;
	struct task_group *parent;
	struct cfs_bandwidth cfs_bandwidth;
};

/* More of what kernel.h has: a name after three underscores is no part of it. */
struct task_struct___scheduler {
	struct sched_info sched_info;
	struct task_group *sched_task_group;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

/* kernel/sched/sched.h: no quota. */
#define RUNTIME_INF ((__u64)~0ULL)

#endif
