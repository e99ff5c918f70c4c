/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Who a task is: process, pid namespace, cgroup. */
#ifndef TAPIO_PROCESS_H
#define TAPIO_PROCESS_H

#include "record.h"

/* Inode of the pid namespace that the collector lives in; 0 when that is the
 * first one of the machine, where the kernel's own numbers are right. */
const volatile __u32 collector_pidns = 0;

/* The kernel nests pid namespaces at most 32 deep (MAX_PID_NS_LEVEL). */
#define PIDNS_LEVELS 33

static __always_inline struct upid *pid_number(struct pid *pid, __u32 level)
{
	return (void *)pid + bpf_core_field_offset(struct pid, numbers) +
	       level * bpf_core_type_size(struct upid);
}

/* The number of a group leader in the collector's pid namespace, 0 if it has
 * none there. vpid, unless NULL, gets its number in its own namespace, or 0
 * when that is the collector's. */
static __always_inline __u32 process_number(struct task_struct *leader, __u32 *vpid)
{
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	__u32 nr = 0, inum = 0;

	if (level >= PIDNS_LEVELS)
		return 0;
	if (!collector_pidns) {
		nr = BPF_CORE_READ(leader, tgid);
		if (vpid && level)
			*vpid = BPF_CORE_READ(pid_number(pid, level), nr);
		return nr;
	}
	for (__u32 i = 0; i < PIDNS_LEVELS; i++) {
		if (i > level)
			break;
		inum = BPF_CORE_READ(pid_number(pid, i), ns, ns.inum);
		if (inum == collector_pidns) {
			nr = BPF_CORE_READ(pid_number(pid, i), nr);
			break;
		}
	}
	if (vpid && inum != collector_pidns)
		*vpid = BPF_CORE_READ(pid_number(pid, level), nr);
	else if (vpid && nr != BPF_CORE_READ(pid_number(pid, level), nr))
		*vpid = BPF_CORE_READ(pid_number(pid, level), nr);
	return nr;
}

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *kn)
{
	if (bpf_core_field_exists(kn->__parent))
		return BPF_CORE_READ(kn, __parent);
	return BPF_CORE_READ((struct kernfs_node___before_6_15 *)kn, parent);
}

static __noinline int fill_path(struct cgroup_path *out, struct cgroup *cgroup)
{
	struct kernfs_node *kn = BPF_CORE_READ(cgroup, kn);
	__u32 off = 0, partial = 1;

	for (int i = 0; i <= TAPIO_DEPTH; i++) {
		struct kernfs_node *parent = kernfs_parent(kn);
		long n;

		if (!parent) { /* the root has no name of its own */
			partial = 0;
			break;
		}
		if (i == TAPIO_DEPTH || off > TAPIO_PATH - TAPIO_NAME)
			break;
		n = bpf_probe_read_kernel_str(out->names + off, TAPIO_NAME, BPF_CORE_READ(kn, name));
		if (n <= 0 || n >= TAPIO_NAME)
			break;
		off += n;
		kn = parent;
	}
	out->len = off;
	out->partial = partial;
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
	if (exe)
		bpf_probe_read_kernel_str(p->exe, sizeof(p->exe), exe);
	return 0;
}

#endif
