/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Who a task is: process, pid namespace, cgroup. */
#ifndef TAPIO_PROCESS_H
#define TAPIO_PROCESS_H

#include "record.h"

/* Inode of the pid namespace that the collector lives in; 0 when that is the
 * first one of the machine, where the kernel's own numbers are right. */
const volatile __u32 collector_pidns = 0;

/* Before 6.x the verifier takes a loop only when the jump back is a jump; clang
 * lays some out so that one falls through to its head ("back-edge"). Unrolled,
 * for which the bound must be constant, a loop has no way back at all. */
#define UNROLL _Pragma("clang loop unroll(full)")

/* The kernel nests pid namespaces at most 32 deep (MAX_PID_NS_LEVEL). */
#define PIDNS_LEVELS 33

/* Where in a struct pid its numbers are, by level. */
struct pid_numbers {
	void *first;
	__u64 size; /* of each */
};

static __always_inline struct pid_numbers pid_numbers(struct pid *pid)
{
	struct pid_numbers n = {
		.first = (void *)pid + bpf_core_field_offset(struct pid, numbers),
		.size = bpf_core_type_size(struct upid),
	};
	return n;
}

static __always_inline struct upid *pid_number(struct pid_numbers n, __u32 level)
{
	return n.first + level * n.size;
}

static __always_inline __u32 pidns_of(struct upid *number, __u64 ns_offset, __u64 inum_offset)
{
	void *ns = NULL;
	__u32 inum = 0;

	bpf_probe_read_kernel(&ns, sizeof(ns), (void *)number + ns_offset);
	bpf_probe_read_kernel(&inum, sizeof(inum), ns + inum_offset);
	return inum;
}

/* The level of the collector's pid namespace among those of a process; -1 when
 * it is not there. */
static __always_inline int collector_level(struct pid_numbers numbers, __u32 level)
{
	__u64 ns = bpf_core_field_offset(struct upid, ns);
	__u64 inum = bpf_core_field_offset(struct pid_namespace, ns) +
		     bpf_core_field_offset(struct ns_common, inum);

	int found = -1;

	UNROLL
	for (int i = 0; i < PIDNS_LEVELS; i++) {
		if (i <= level && found < 0 &&
		    pidns_of(pid_number(numbers, i), ns, inum) == collector_pidns)
			found = i;
	}
	return found;
}

/* The number of a group leader in the collector's pid namespace, 0 if it has
 * none there. vpid, unless NULL, gets its number in its own namespace when that
 * is another one. */
static __noinline __u32 process_number(struct task_struct *leader, __u32 *vpid)
{
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	struct pid_numbers numbers = pid_numbers(pid);
	__u32 level = BPF_CORE_READ(pid, level);
	int ours = 0;

	if (level >= PIDNS_LEVELS)
		return 0;
	if (collector_pidns)
		ours = collector_level(numbers, level);
	if (vpid && ours != level)
		*vpid = BPF_CORE_READ(pid_number(numbers, level), nr);
	if (ours < 0)
		return 0;
	return BPF_CORE_READ(pid_number(numbers, ours), nr);
}

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *kn)
{
	if (bpf_core_field_exists(kn->__parent))
		return BPF_CORE_READ(kn, __parent);
	return BPF_CORE_READ((struct kernfs_node___before_6_15 *)kn, parent);
}

/* The ancestor that is as many levels above a cgroup as there are more than fit. */
static __noinline __attribute__((unused)) struct kernfs_node *fitting_ancestor(struct cgroup *cgroup)
{
	struct kernfs_node *kn = BPF_CORE_READ(cgroup, kn);
	int more = BPF_CORE_READ(cgroup, level) - TAPIO_DEPTH;

	UNROLL
	for (int i = 0; i < TAPIO_DEEPER; i++) {
		if (i < more)
			kn = kernfs_parent(kn);
	}
	return kn;
}

static __noinline __attribute__((unused)) int fill_path(struct cgroup_path *out, struct cgroup *cgroup)
{
	struct kernfs_node *kn = BPF_CORE_READ(cgroup, kn);
	__u32 off = 0, part = TAPIO_PATH_WHOLE;

	if (BPF_CORE_READ(cgroup, level) > TAPIO_DEPTH) {
		kn = fitting_ancestor(cgroup);
		part = TAPIO_PATH_TOP;
	}
	out->len = 0;
	out->partial = TAPIO_PATH_UNKNOWN;
	UNROLL
	for (int i = 0; i <= TAPIO_DEPTH; i++) {
		struct kernfs_node *parent = kernfs_parent(kn);
		long n;

		if (!parent) { /* the root has no name of its own */
			out->len = off;
			out->partial = part;
			return 0;
		}
		if (off > TAPIO_PATH - TAPIO_NAME) { /* forget what was read first */
			bpf_probe_read_kernel(out->names, TAPIO_PATH - TAPIO_NAME, out->names + TAPIO_NAME);
			off -= TAPIO_NAME;
			part = TAPIO_PATH_TOP_CUT;
		}
		n = bpf_probe_read_kernel_str(out->names + off, TAPIO_NAME, BPF_CORE_READ(kn, name));
		if (n <= 0 || n > TAPIO_NAME)
			return 0;
		off += n;
		kn = parent;
	}
	return 0;
}

static __always_inline struct cgroup_subsys_state *memory_css(struct css_set *set)
{
	struct cgroup_subsys_state *css = NULL;
	__u32 id;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return NULL;
	id = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	bpf_probe_read_kernel(&css, sizeof(css),
			      (void *)set + bpf_core_field_offset(struct css_set, subsys) +
				      id * sizeof(void *));
	return css;
}

/* The cgroup that tells most about a task: that of the memory controller where
 * it is mounted as cgroup v1, else the unified one. (In a unified hierarchy the
 * memory controller may be on for an ancestor only.) */
static __always_inline struct cgroup *task_cgroup(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup *unified = BPF_CORE_READ(set, dfl_cgrp);
	struct cgroup *memory = BPF_CORE_READ(memory_css(set), cgroup);

	if (memory && BPF_CORE_READ(memory, root) != BPF_CORE_READ(unified, root))
		return memory;
	return unified;
}

static __always_inline __u64 cgroup_id(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, kn, id);
}

/* Fills everything of the process that task belongs to. mm may be NULL. */
static __noinline int fill_process(struct process_id *p, struct task_struct *task,
				   struct mm_struct *mm)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent);
	const unsigned char *exe;

	__builtin_memset(p, 0, sizeof(*p));
	p->start = BPF_CORE_READ(leader, start_boottime);
	p->cgroup_id = cgroup_id(task_cgroup(task));
	p->pid = process_number(leader, &p->vpid);
	p->parent = process_number(BPF_CORE_READ(parent, group_leader), NULL);
	bpf_probe_read_kernel(p->comm, sizeof(p->comm), &leader->comm);
	exe = BPF_CORE_READ(mm, exe_file, f_path.dentry, d_name.name);
	if (exe && bpf_probe_read_kernel_str(p->exe, sizeof(p->exe), exe) == sizeof(p->exe))
		bpf_probe_read_kernel(&p->exe_rest, 1, exe + sizeof(p->exe) - 1);
	return 0;
}

/* The same choice that wait(2) makes. */
static __always_inline int wait_status(struct task_struct *task)
{
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(task, signal, group_exit_code);
	return BPF_CORE_READ(task, group_leader, exit_code);
}

#endif
