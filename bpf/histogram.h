/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Histograms of durations, and the paths of the cgroups that they are counted by. */
#ifndef TAPIO_HISTOGRAM_H
#define TAPIO_HISTOGRAM_H

#include "record.h"

/* Not all that count durations name a process. */
static int fill_process(struct process_id *p, struct task_struct *task, struct mm_struct *mm)
	__attribute__((unused));

#include "process.h"

/* Four slots to an octave, in units of 1024 ns: from 1 us to 30 s, the last is
 * for all above. Its borders are in receiver/ebpfreceiver/histogram.go. */
#define TAPIO_SLOTS 96

struct histogram {
	__u64 count;
	__u64 total; /* ns */
	__u32 slots[TAPIO_SLOTS];
};

static __always_inline __u32 log2_of(__u64 v)
{
	__u32 r = 0;

	if (v >> 32) {
		v >>= 32;
		r += 32;
	}
	if (v >> 16) {
		v >>= 16;
		r += 16;
	}
	if (v >> 8) {
		v >>= 8;
		r += 8;
	}
	if (v >> 4) {
		v >>= 4;
		r += 4;
	}
	if (v >> 2) {
		v >>= 2;
		r += 2;
	}
	return r + (v >> 1);
}

static __always_inline __u32 slot_of(__u64 ns)
{
	__u64 v = ns >> 10;
	__u32 octave, slot;

	if (v < 4)
		return v;
	octave = log2_of(v);
	slot = (octave - 1) * 4 + ((v >> (octave - 2)) & 3);
	return slot < TAPIO_SLOTS ? slot : TAPIO_SLOTS - 1;
}

static __always_inline void count_duration(struct histogram *h, __u64 ns)
{
	__u64 slot = slot_of(ns);

	/* The verifier wants the bound on the very register that is the index. */
	asm volatile("" : "+r"(slot));
	if (slot >= TAPIO_SLOTS)
		return;
	__sync_fetch_and_add(&h->count, 1);
	__sync_fetch_and_add(&h->total, ns);
	__sync_fetch_and_add(&h->slots[slot], 1);
}

/* Paths by the id of the cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct cgroup_path);
} cgroup_paths SEC(".maps");

/* A path is too big for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cgroup_path);
} cgroup_scratch SEC(".maps");

static __always_inline void remember_path(__u64 id, struct cgroup *cgroup)
{
	struct cgroup_path *path;
	__u32 zero = 0;

	if (!cgroup || bpf_map_lookup_elem(&cgroup_paths, &id))
		return;
	path = bpf_map_lookup_elem(&cgroup_scratch, &zero);
	if (!path)
		return;
	fill_path(path, cgroup);
	bpf_map_update_elem(&cgroup_paths, &id, path, BPF_ANY);
}

#endif
