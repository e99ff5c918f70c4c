//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* How long tasks wait for a processor, and what quotas keep from them, by cgroup. */
#include "scheduler.h"

const enum scheduler_kind *unused_kind __attribute__((unused));
const struct histogram *unused_histogram __attribute__((unused));
const struct throttling *unused_throttling __attribute__((unused));

/* How long the tasks of each cgroup waited since the key was made. User space reads
 * the growth and deletes keys that grow no more. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct histogram);
} waits SEC(".maps");

/* A value is too big for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct histogram);
} wait_scratch SEC(".maps");

/* What was last switched to on a CPU, and the difference between the scheduler's
 * clock and ours. */
struct switched {
	__u64 next;
	__u64 at;
	__u64 offset;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct switched);
} switches SEC(".maps");

static __always_inline struct histogram *waits_of(__u64 id, struct cgroup *cgroup)
{
	struct histogram *h = bpf_map_lookup_elem(&waits, &id);
	__u32 zero = 0;

	if (h)
		return h;
	h = bpf_map_lookup_elem(&wait_scratch, &zero);
	if (!h)
		return NULL;
	remember_path(id, cgroup);
	bpf_map_update_elem(&waits, &id, h, BPF_NOEXIST); /* or another CPU was faster */
	h = bpf_map_lookup_elem(&waits, &id);
	if (!h)
		count_suppressed(TAPIO_RUN_QUEUE);
	return h;
}

/* ctx: bool, struct task_struct *prev, *next, ... The scheduler notes itself since
 * when a task waits (last_queued) and, just after this, when it got the CPU
 * (last_arrival), by a clock that no helper reads: what it noted at the last switch
 * tells its difference to ours. So no program runs at a wake-up, and there is no
 * map of tasks. */
SEC("tp_btf/sched_switch")
int run_queue(__u64 *ctx)
{
	struct task_struct___scheduler *prev = (void *)ctx[1], *next = (void *)ctx[2];
	__u64 now = bpf_ktime_get_ns(), queued, arrived;
	struct switched *s;
	struct cgroup *cgroup;
	struct histogram *h;
	__u32 zero = 0;
	__s64 waited;

	s = bpf_map_lookup_elem(&switches, &zero);
	if (!s)
		return 0;
	if (s->next == (__u64)prev) {
		arrived = prev->sched_info.last_arrival;
		if (arrived)
			s->offset = arrived - s->at;
	}
	queued = next->sched_info.last_queued;
	s->next = queued ? (__u64)next : 0;
	s->at = now;
	if (!queued || !s->offset)
		return 0; /* the idle task, or the first on this CPU */
	waited = now + s->offset - queued;
	cgroup = task_cgroup((void *)next);
	h = waits_of(cgroup_id(cgroup), cgroup);
	if (h)
		count_duration(h, waited > 0 ? waited : 0);
	return 0;
}

/* By the id of the cgroup of the cpu controller. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct throttling);
} throttlings SEC(".maps");

static __always_inline void read_throttling(struct task_group *group, struct cgroup *tasks)
{
	struct throttling t = {
		.periods = (__u32)BPF_CORE_READ(group, cfs_bandwidth.nr_periods),
		.throttled = (__u32)BPF_CORE_READ(group, cfs_bandwidth.nr_throttled),
		.time = BPF_CORE_READ(group, cfs_bandwidth.throttled_time),
		.quota = BPF_CORE_READ(group, cfs_bandwidth.quota),
		.period = BPF_CORE_READ(group, cfs_bandwidth.period),
	};
	struct cgroup *cgroup = BPF_CORE_READ(group, css.cgroup);
	struct throttling *known;
	__u64 id;

	if (!cgroup)
		return; /* an autogroup */
	id = cgroup_id(cgroup);
	remember_path(id, cgroup);
	known = bpf_map_lookup_elem(&throttlings, &id);
	if (known && known->tasks) {
		t.tasks = known->tasks;
	} else if (tasks && BPF_CORE_READ(tasks, root) != BPF_CORE_READ(cgroup, root)) {
		t.tasks = cgroup_id(tasks);
		remember_path(t.tasks, tasks);
	}
	if (bpf_map_update_elem(&throttlings, &id, &t, BPF_ANY))
		count_suppressed(TAPIO_THROTTLED);
}

/* The kernel counts itself; there is no tracepoint. What it shows as cpu.stat is read
 * where it is, so that no cgroup need be mounted: of the groups of all tasks, and of
 * those above, whose quota is theirs too. */
SEC("iter/task")
int cpu_throttled(struct bpf_iter__task *ctx)
{
	struct task_struct___scheduler *task = (void *)ctx->task;
	struct task_group *group;

	if (!task)
		return 0;
	group = BPF_CORE_READ(task, sched_task_group);
	UNROLL
	for (int i = 0; i < TAPIO_DEPTH; i++) {
		if (group) {
			if (BPF_CORE_READ(group, cfs_bandwidth.quota) != RUNTIME_INF)
				read_throttling(group, i ? NULL : task_cgroup((void *)task));
			group = BPF_CORE_READ(group, parent);
		}
	}
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
