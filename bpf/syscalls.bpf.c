//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* System calls that fail: counted by cgroup, call and error; those that say that
 * something ran out or broke are also sent, each by itself. */
#include "bucket.h"
#include "calls.h"
#include "process.h"
#include "send.h"

#define BPF_MAP_TYPE_PERCPU_HASH 5

/* include/uapi/asm-generic/errno-base.h and errno.h: the same on amd64 and arm64. */
#define EINTR 4
#define EIO 5
#define EAGAIN 11
#define ENOMEM 12
#define ENFILE 23
#define EMFILE 24
#define ENOSPC 28
#define EROFS 30
#define EINPROGRESS 115
#define EDQUOT 122
#define MAX_ERRNO 133 /* above are the kernel's own, such as ERESTARTSYS */

/* include/uapi/linux/stat.h, magic.h */
#define S_IFMT 0170000
#define S_IFCHR 0020000
#define PROC_SUPER_MAGIC 0x9fa0

/* ptrace of programs of 32 bits, the same on i386 and arm. */
#define NR_PTRACE_COMPAT 26

/* arch/x86/include/asm/thread_info.h, arch/arm64/include/asm/thread_info.h */
#define TS_COMPAT 2
#define TIF_32BIT 22

/* In place of a number of this machine's: one of the table of 32 bits. */
#define TAPIO_COMPAT 0x80000000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_info {
	unsigned long flags;
	__u32 status;
};

struct task_struct___compat {
	struct thread_info thread_info;
};

struct super_block {
	unsigned long s_magic;
};

struct inode___device {
	__u32 i_rdev;
	struct super_block *i_sb;
};

struct pt_regs___compat {
	unsigned long bx;
};

struct qstr___hash {
	__u32 hash;
};

struct dentry___hash {
	struct qstr___hash d_name;
};

#pragma clang attribute pop

const struct syscall_record *unused_syscall __attribute__((unused));
const struct syscall_again_record *unused_again __attribute__((unused));
const enum syscall_kind *unused_kind __attribute__((unused));
const struct failure_key *unused_failure __attribute__((unused));

struct failure_key {
	__u64 cgroup;
	__u32 number;
	__u32 error;
};

/* How often each failed since the key was made, on each CPU: CPUs that add to one
 * number wait for each other, which costs more than all the rest. User space reads the
 * growth of the sums and deletes keys that grow no more. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct failure_key);
	__type(value, __u64);
} failures SEC(".maps");

/* Paths of the cgroups of those keys. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct cgroup_path);
} failure_paths SEC(".maps");

/* A path is too big for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cgroup_path);
} failure_scratch SEC(".maps");

static __always_inline int syscall_number(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return regs->orig_ax;
#else
	return regs->syscallno;
#endif
}

/* Whether a system call was made as programs of 32 bits do, whose numbers are others. */
static __always_inline bool is_compat(struct task_struct *task)
{
	struct task_struct___compat *t = (void *)task;

#if defined(__TARGET_ARCH_x86)
	return t->thread_info.status & TS_COMPAT;
#else
	return t->thread_info.flags >> TIF_32BIT & 1;
#endif
}

static __always_inline __u64 first_argument(struct pt_regs *regs, bool compat)
{
#if defined(__TARGET_ARCH_x86)
	if (compat)
		return BPF_CORE_READ((struct pt_regs___compat *)regs, bx);
	return BPF_CORE_READ(regs, di);
#else
	return BPF_CORE_READ(regs, orig_x0);
#endif
}

/* Documentation/admin-guide/devices.txt: consoles, serial ports, both ends of
 * pseudoterminals, modems. */
static __always_inline bool is_terminal(__u32 major)
{
	return major == 4 || major == 5 || (major >= 128 && major <= 143) || major == 166 || major == 188 ||
	       major == 204 || major == 229;
}

/* Whether EIO means that something is broken. Terminals answer it when their other end
 * is closed, ptrace(2) and the files of /proc to who asks for what is not there.
 * A first argument that is no open file is a path, a folder (AT_FDCWD) or a file that is
 * just closed, which may all be on a disk. */
static __always_inline bool is_fault(struct task_struct *task, struct pt_regs *regs, __u32 number)
{
	bool compat = number & TAPIO_COMPAT;
	__u64 fd = first_argument(regs, compat);
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files, *file = NULL;
	struct inode *inode;

	if (number == (compat ? TAPIO_COMPAT | NR_PTRACE_COMPAT : NR_PTRACE))
		return false;
	if (number == NR_MMAP || !table || fd >= BPF_CORE_READ(table, max_fds))
		return true;
	files = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (!file)
		return true;
	inode = BPF_CORE_READ(file, f_inode);
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFCHR)
		return !is_terminal(BPF_CORE_READ((struct inode___device *)inode, i_rdev) >> 20);
	return BPF_CORE_READ((struct inode___device *)inode, i_sb, s_magic) != PROC_SUPER_MAGIC;
}

/* task_cgroup of process.h, for a task that the verifier knows the type of: loads
 * in place of calls of bpf_probe_read_kernel, which cost more than all the rest. */
static __always_inline struct cgroup *current_cgroup(struct task_struct *task)
{
	struct css_set *set = task->cgroups;
	struct cgroup *unified = set->dfl_cgrp, *memory;
	struct cgroup_subsys_state *css;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return unified;
	css = *(struct cgroup_subsys_state **)((void *)set +
					       bpf_core_field_offset(struct css_set, subsys) +
					       bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) *
						       sizeof(void *));
	memory = css->cgroup;
	return memory && memory->root != unified->root ? memory : unified;
}

static __always_inline void count_failure(struct cgroup *cgroup, __u32 number, __u32 error)
{
	struct failure_key key = { .cgroup = cgroup->kn->id, .number = number, .error = error };
	__u64 *n = bpf_map_lookup_elem(&failures, &key), one = 1;
	struct cgroup_path *path;
	__u32 zero = 0;

	if (n) {
		*n += 1; /* nothing else runs here meanwhile: a tracepoint turns preemption off */
		return;
	}
	if (bpf_map_update_elem(&failures, &key, &one, BPF_NOEXIST)) {
		n = bpf_map_lookup_elem(&failures, &key); /* another CPU was faster, or it is full */
		if (n)
			*n += 1;
		else
			count_suppressed(TAPIO_SYSCALL);
		return;
	}
	if (bpf_map_lookup_elem(&failure_paths, &key.cgroup))
		return;
	path = bpf_map_lookup_elem(&failure_scratch, &zero);
	if (!path)
		return;
	fill_path(path, cgroup);
	bpf_map_update_elem(&failure_paths, &key.cgroup, path, BPF_ANY);
}

/* Beside the kinds of record.h. */
enum syscall_kind {
	TAPIO_SYSCALL_AGAIN = 7,
};

/* Of the same process, on the same request, as the syscall_record that this CPU sent last,
 * which has the CPU in its header's pad. Those of a storm are nearly all of this kind. */
struct syscall_again_record {
	struct record_header header;
	__u32 number;
	__u32 error;
	__u32 cpu;
	__u32 pad;
};

struct sent_syscall {
	struct syscall_record record;
	struct record_tail tail;
};

/* What a syscall_record says is the same while this is. */
struct failing_process {
	__u64 leader;
	__u64 start;
	__u64 parent;
	__u64 parent_start;
	__u64 exe;
	__u64 exe_name;
	__u64 cgroup;
	__u64 comm[2];
	struct trace_context trace;
};

struct syscall_scratch {
	struct failing_process last;
	struct sent_syscall sent;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct syscall_scratch);
} syscall_scratch SEC(".maps");

/* For benchmarks: every failure is sent. */
const volatile bool is_unlimited = false;

static __always_inline void identify(struct failing_process *p, struct task_struct *task, struct cgroup *cgroup)
{
	struct task_struct *leader = task->group_leader, *parent = leader->real_parent;
	__u64 *comm = (void *)leader + bpf_core_field_offset(struct task_struct, comm);
	struct mm_struct *mm = task->mm;
	struct file *exe = mm ? mm->exe_file : NULL;
	struct dentry *name = exe ? exe->f_path.dentry : NULL;

	p->leader = (__u64)leader;
	p->start = leader->start_boottime;
	p->parent = (__u64)parent;
	p->parent_start = parent->start_boottime;
	p->exe = (__u64)exe;
	p->exe_name = name ? ((struct dentry___hash *)name)->d_name.hash : 0; /* it may be renamed */
	p->cgroup = cgroup->kn->id;
	p->comm[0] = comm[0];
	p->comm[1] = comm[1];
	fill_current_trace(&p->trace);
}

static __always_inline bool is_same(const struct failing_process *a, const struct failing_process *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	UNROLL
	for (int i = 0; i < sizeof(*a) / sizeof(*x); i++) {
		if (x[i] != y[i])
			return false;
	}
	return true;
}

static __always_inline void send_failure(struct task_struct *task, struct cgroup *cgroup, __u32 number, __u32 error)
{
	struct failing_process process;
	struct syscall_scratch *s;
	struct sent_syscall *sent;
	__u32 zero = 0;

	if (!is_unlimited && !take_token(TAPIO_SYSCALL)) {
		count_suppressed(TAPIO_SYSCALL);
		return;
	}
	s = bpf_map_lookup_elem(&syscall_scratch, &zero);
	if (!s)
		return;
	identify(&process, task, cgroup);
	if (is_same(&process, &s->last)) {
		struct syscall_again_record again = { .number = number, .error = error, .cpu = bpf_get_smp_processor_id() };

		fill_header(&again.header, TAPIO_SYSCALL_AGAIN);
		if (bpf_ringbuf_output(&events, &again, sizeof(again), 0))
			count_lost(TAPIO_SYSCALL);
		return;
	}
	s->last = process;
	sent = &s->sent;
	fill_header(&sent->record.header, TAPIO_SYSCALL);
	sent->record.header.pad = bpf_get_smp_processor_id();
	fill_process(&sent->record.process, task, BPF_CORE_READ(task, mm));
	fill_path(&sent->tail.cgroup, cgroup);
	sent->record.number = number;
	sent->record.error = error;
	sent->tail.trace = process.trace;
	if (bpf_ringbuf_output(&events, sent, sizeof(*sent) - TAPIO_PATH + names_size(&sent->tail.cgroup), 0)) {
		count_lost(TAPIO_SYSCALL);
		s->last.leader = 0; /* nobody knows of it */
	}
}

SEC("tp_btf/sys_exit")
int BPF_PROG(syscall_failed, struct pt_regs *regs, long ret)
{
	struct task_struct *task;
	struct cgroup *cgroup;
	__u32 error, number;

	/* All but a few calls end here. */
	if (ret >= 0 || ret < -MAX_ERRNO)
		return 0;
	error = -ret;
	if (error == EAGAIN || error == EINTR || error == EINPROGRESS)
		return 0; /* how callers learn that they must wait */
	task = bpf_get_current_task_btf();
	number = syscall_number(regs);
	if (is_compat(task))
		number |= TAPIO_COMPAT;
	cgroup = current_cgroup(task);
	count_failure(cgroup, number, error);
	switch (error) {
	case EIO:
		if (!is_fault(task, regs, number))
			return 0;
	case ENOMEM:
	case ENFILE:
	case EMFILE:
	case ENOSPC:
	case EROFS:
	case EDQUOT:
		send_failure(task, cgroup, number, error);
	}
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
