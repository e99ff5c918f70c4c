//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Processes and threads that begin, counted by the cgroup of their parent. */
#include "reclaim.h"

const struct fork_count *unused_forks __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, __u64);
	__type(value, struct fork_count);
} forks SEC(".maps");

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	struct cgroup *cgroup = task_cgroup(parent);
	__u64 id = cgroup_id(cgroup);
	struct fork_count *f = bpf_map_lookup_elem(&forks, &id), none = {};

	if (!f) {
		remember_path(id, cgroup);
		bpf_map_update_elem(&forks, &id, &none, BPF_NOEXIST); /* or another CPU was faster */
		f = bpf_map_lookup_elem(&forks, &id);
		if (!f) {
			count_suppressed(TAPIO_FORKS);
			return 0;
		}
	}
	if (BPF_CORE_READ(child, pid) == BPF_CORE_READ(child, tgid))
		__sync_fetch_and_add(&f->processes, 1);
	else
		__sync_fetch_and_add(&f->threads, 1);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
