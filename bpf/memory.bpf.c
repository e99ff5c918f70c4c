//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Out-of-memory kills, and how much memory processes hold. */
#include "death.h"

/* Bytes of a page, and how many CPUs may hold back charges. */
const volatile __u32 page_size = 4096;
const volatile __u32 cpus = 1;

const struct oom_record *unused_oom __attribute__((unused));

/* What becomes of the container of a victim. */
enum container_fate {
	TAPIO_FATE_UNKNOWN = 0,
	TAPIO_FATE_ENDS = 1,
	TAPIO_FATE_LIVES = 2,
};

const enum container_fate *unused_fate __attribute__((unused));

/* Each CPU keeps up to 64 pages charged in advance (MEMCG_CHARGE_BATCH), which
 * are given back while the kernel looks for a victim. So the usage may be that
 * much below the limit that was hit; more than a 16th of the limit is no longer
 * "at the limit". */
#define CHARGE_BATCH 64

static __always_inline bool is_at_limit(__u64 usage, __u64 max)
{
	__u64 slack = (__u64)CHARGE_BATCH * cpus;

	if (slack > max / 16)
		slack = max / 16;
	if (slack < CHARGE_BATCH)
		slack = CHARGE_BATCH;
	return usage + slack >= max;
}

/* The first memory cgroup at its limit, from the victim's own up to the root.
 * group says whether one up to there has all its processes killed together
 * (memory.oom.group). */
static __always_inline struct mem_cgroup *memcg_at_limit(struct task_struct *task, bool *group)
{
	struct cgroup_subsys_state *css = memory_css(BPF_CORE_READ(task, cgroups));
	__u64 css_offset = bpf_core_field_offset(struct mem_cgroup, css);

	struct mem_cgroup *found = NULL;

	UNROLL
	for (int i = 0; i < TAPIO_DEPTH; i++) {
		if (css && !found) {
			struct mem_cgroup *memcg = (void *)css - css_offset;
			__u64 max = BPF_CORE_READ(memcg, memory.max);

			*group |= BPF_CORE_READ(memcg, oom_group);
			if (max < PAGE_COUNTER_MAX(page_size) &&
			    is_at_limit(BPF_CORE_READ(memcg, memory.usage.counter), max))
				found = memcg;
			css = BPF_CORE_READ(css, parent);
		}
	}
	return found;
}

static __always_inline __s64 rss_counter(struct mm_struct *mm, int i)
{
	__s64 n = 0;

	if (bpf_core_type_exists(struct mm_rss_stat)) {
		struct mm_struct___before_6_2 *old = (void *)mm;

		bpf_core_read(&n, sizeof(n), &old->rss_stat.count[i]);
	} else {
		bpf_probe_read_kernel(&n, sizeof(n),
				      (void *)mm + bpf_core_field_offset(struct mm_struct, rss_stat) +
					      i * bpf_core_type_size(struct percpu_counter) +
					      bpf_core_field_offset(struct percpu_counter, count));
	}
	return n > 0 ? n : 0;
}

static __always_inline __u64 rss_pages(struct mm_struct *mm)
{
	return rss_counter(mm, MM_FILEPAGES) + rss_counter(mm, MM_ANONPAGES) +
	       rss_counter(mm, MM_SHMEMPAGES);
}

static __always_inline void fill_limit(struct oom_record *rec, struct mem_cgroup *memcg)
{
	struct cgroup *cgroup;

	rec->limit = rec->usage = rec->peak = rec->limit_id = 0;
	rec->limit_cgroup.len = rec->limit_cgroup.partial = 0;
	if (!memcg)
		return;
	cgroup = BPF_CORE_READ(memcg, css.cgroup);
	rec->limit = BPF_CORE_READ(memcg, memory.max) * page_size;
	rec->usage = BPF_CORE_READ(memcg, memory.usage.counter) * page_size;
	rec->peak = BPF_CORE_READ(memcg, memory.watermark) * page_size;
	rec->limit_id = cgroup_id(cgroup);
	fill_path(&rec->limit_cgroup, cgroup);
}

static __always_inline __u32 pid_level(struct task_struct *leader)
{
	return BPF_CORE_READ(leader, thread_pid, level);
}

/* A container ends with the first process of its pid namespace and lives on
 * without another one; but one whose parent is outside may be the main process
 * of a container that shares the namespace of its pod: of that nothing is known.
 * Who makes a container is not in its cgroup: a first process whose parent is has a
 * namespace within that of the container, as of a sandbox. */
static __always_inline __u32 container_fate(struct task_struct *task, bool group)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent, group_leader);
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);

	if (level >= PIDNS_LEVELS)
		return TAPIO_FATE_UNKNOWN;
	if (group)
		return TAPIO_FATE_ENDS;
	if (!level) /* the machine's: whoever made the container is not in its cgroup, the main process is his child */
		return task_cgroup(parent) == task_cgroup(leader) ? TAPIO_FATE_LIVES : TAPIO_FATE_UNKNOWN;
	if (BPF_CORE_READ(pid_number(pid_numbers(pid), level), nr) == 1)
		return task_cgroup(parent) == task_cgroup(leader) ? TAPIO_FATE_LIVES : TAPIO_FATE_ENDS;
	if (pid_level(parent) < level)
		return TAPIO_FATE_UNKNOWN;
	return TAPIO_FATE_LIVES;
}

static __always_inline void fill_trigger(struct oom_record *rec)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	__builtin_memset(&rec->trigger, 0, sizeof(rec->trigger));
	rec->trigger_cgroup.len = rec->trigger_cgroup.partial = 0;
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return;
	fill_process(&rec->trigger, task, BPF_CORE_READ(task, mm));
	fill_path(&rec->trigger_cgroup, task_cgroup(task));
}

/* A record, and the request that the victim worked on. */
struct traced_oom {
	struct oom_record record;
	struct trace_context trace;
};

/* Victims that were told: each further thread of one that wants memory before it is
 * gone is marked too. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct death_key);
	__type(value, __u8);
} victims SEC(".maps");

#define EEXIST 17

SEC("tp_btf/mark_victim")
int BPF_PROG(oom_kill, struct task_struct *task)
{
	struct traced_oom *traced;
	struct oom_record *rec;
	struct death_key key;
	struct mm_struct *mm;
	bool group = false;
	__u8 one = 1;

	fill_death_key(&key, task);
	if (traces_enabled && key.tgid == bpf_get_current_pid_tgid() >> 32)
		note_death(); /* a thread of the victim wanted the memory that was not there */
	if (bpf_map_update_elem(&victims, &key, &one, BPF_NOEXIST) == -EEXIST)
		return 0;
	traced = bpf_ringbuf_reserve(&events, sizeof(*traced), 0);
	if (!traced) {
		count_lost(TAPIO_OOM);
		return 0;
	}
	rec = &traced->record;
	mm = BPF_CORE_READ(task, mm);
	fill_header(&rec->header, TAPIO_OOM);
	fill_process(&rec->process, task, mm);
	fill_path(&rec->cgroup, task_cgroup(task));
	fill_limit(rec, memcg_at_limit(task, &group));
	fill_trigger(rec);
	rec->rss = mm ? rss_pages(mm) * page_size : 0;
	rec->score_adj = BPF_CORE_READ(task, signal, oom_score_adj);
	rec->fate = container_fate(task, group);
	fill_death_trace(&traced->trace, &key);
	/* Rare and urgent: whatever the reader does, wake it. */
	bpf_ringbuf_submit(traced, BPF_RB_FORCE_WAKEUP);
	return 0;
}

struct seq_file;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

/* What the sampler of growing processes reads: one for each process that holds
 * enough, in the order of their numbers. */
struct memory_sample {
	struct process_id process;
	struct cgroup_path cgroup;
	__u64 rss;
	/* The lowest limit from the process's memory cgroup up, what is charged to that
	 * cgroup, and its path; limit 0: there is none. */
	__u64 limit;
	__u64 usage;
	struct cgroup_path limit_cgroup;
};

const struct memory_sample *unused_sample __attribute__((unused));

/* Smaller processes are left out. */
const volatile __u64 sample_min_rss = 64 << 20;

/* A sample is too big for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memory_sample);
} sample_scratch SEC(".maps");

static __always_inline void fill_lowest_limit(struct memory_sample *s, struct task_struct *task)
{
	struct cgroup_subsys_state *css = memory_css(BPF_CORE_READ(task, cgroups));
	__u64 css_offset = bpf_core_field_offset(struct mem_cgroup, css);
	__u64 lowest = PAGE_COUNTER_MAX(page_size);
	struct mem_cgroup *found = NULL;

	s->limit = s->usage = 0;
	s->limit_cgroup.len = s->limit_cgroup.partial = 0;
	UNROLL
	for (int i = 0; i < TAPIO_DEPTH; i++) {
		if (css) {
			struct mem_cgroup *memcg = (void *)css - css_offset;
			__u64 max = BPF_CORE_READ(memcg, memory.max);

			if (max < lowest) {
				lowest = max;
				found = memcg;
			}
			css = BPF_CORE_READ(css, parent);
		}
	}
	if (!found)
		return;
	s->limit = lowest * page_size;
	s->usage = BPF_CORE_READ(found, memory.usage.counter) * page_size;
	fill_path(&s->limit_cgroup, BPF_CORE_READ(found, css.cgroup));
}

SEC("iter/task")
int memory_samples(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct memory_sample *s;
	struct mm_struct *mm;
	__u32 zero = 0;
	__u64 rss;

	if (!task || BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid))
		return 0;
	mm = BPF_CORE_READ(task, mm);
	if (!mm)
		return 0;
	rss = rss_pages(mm) * page_size;
	if (rss < sample_min_rss)
		return 0;
	s = bpf_map_lookup_elem(&sample_scratch, &zero);
	if (!s)
		return 0;
	fill_process(&s->process, task, mm);
	fill_path(&s->cgroup, task_cgroup(task));
	fill_lowest_limit(s, task);
	s->rss = rss;
	/* An error of it makes the kernel empty the buffer and come again. */
	bpf_seq_write(ctx->meta->seq, s, sizeof(*s));
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
