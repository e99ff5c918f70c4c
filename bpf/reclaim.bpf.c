//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Tasks that must free memory before they get some: how often and how long, by cgroup. */
#include "reclaim.h"

const enum count_kind *unused_kind __attribute__((unused));
const struct reclaim *unused_reclaim __attribute__((unused));

/* When a task began to reclaim, by its number. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} reclaiming SEC(".maps");

/* What each cgroup had to reclaim since the key was made. User space reads the
 * growth and deletes keys that grow no more. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct reclaim);
} reclaims SEC(".maps");

/* A value is too big for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reclaim);
} reclaim_scratch SEC(".maps");

static __always_inline int begin(void)
{
	__u32 task = (__u32)bpf_get_current_pid_tgid();
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&reclaiming, &task, &now, BPF_ANY);
	return 0;
}

static __always_inline struct reclaim *reclaim_of(__u64 id, struct cgroup *cgroup)
{
	struct reclaim *r = bpf_map_lookup_elem(&reclaims, &id);
	__u32 zero = 0;

	if (r)
		return r;
	r = bpf_map_lookup_elem(&reclaim_scratch, &zero);
	if (!r)
		return NULL;
	remember_path(id, cgroup);
	bpf_map_update_elem(&reclaims, &id, r, BPF_NOEXIST); /* or another CPU was faster */
	r = bpf_map_lookup_elem(&reclaims, &id);
	if (!r)
		count_suppressed(TAPIO_RECLAIM);
	return r;
}

static __always_inline int end(__u64 pages)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 number = (__u32)bpf_get_current_pid_tgid();
	__u64 *began = bpf_map_lookup_elem(&reclaiming, &number);
	struct cgroup *cgroup;
	struct reclaim *r;

	if (!began)
		return 0;
	/* A thread of the kernel that reclaims for a cgroup stalls nobody. */
	if (!(BPF_CORE_READ(task, flags) & PF_KTHREAD)) {
		cgroup = task_cgroup(task);
		r = reclaim_of(cgroup_id(cgroup), cgroup);
		if (r) {
			count_duration(&r->stalls, bpf_ktime_get_ns() - *began);
			__sync_fetch_and_add(&r->pages, pages);
		}
	}
	bpf_map_delete_elem(&reclaiming, &number);
	return 0;
}

/* The machine is short of memory. */
SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int direct_reclaim_begin(void *ctx)
{
	return begin();
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int direct_reclaim_end(__u64 *ctx)
{
	return end(ctx[0]);
}

/* A cgroup is at its limit. */
SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int memcg_reclaim_begin(void *ctx)
{
	return begin();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int memcg_reclaim_end(__u64 *ctx)
{
	return end(ctx[0]);
}

char _license[] SEC("license") = "Dual MIT/GPL";
