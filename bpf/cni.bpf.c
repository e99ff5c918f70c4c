//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* CNI plugins: the processes that are started with CNI_COMMAND in their
 * environment. What they are asked (environment, the first bytes of standard
 * input) and what they answer (the first bytes of a JSON object on standard
 * output) leaves the kernel; nothing of any other process does. */
#include "calls.h"
#include "cni.h"

/* Makes bpf2go see the types. */
const enum cni_kind *unused_kind __attribute__((unused));
const enum cni_skip *unused_skip __attribute__((unused));
const struct cni_exec_record *unused_exec __attribute__((unused));
const struct cni_data_record *unused_data __attribute__((unused));
const struct cni_exit_record *unused_exit __attribute__((unused));

struct plugin {
	__u64 start;
	__u32 parent;
	__u32 sent[2]; /* bytes of each stream */
	__u32 pad;
};

/* The plugins that run, by tgid. LRU: an end that was missed costs one place
 * for a while, never the next plugin. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct plugin);
} plugins SEC(".maps");

/* Where a thread's read(2) of standard input puts its bytes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} reads SEC(".maps");

/* Records are too big for the stack, and most execs are no plugin's: those must
 * not take room in the ring buffer. While a program runs on a CPU the kernel
 * does not start it there again, so nobody else writes here. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cni_exec_record);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TAPIO_CNI_SKIPS);
	__type(key, __u32);
	__type(value, __u64);
} skipped SEC(".maps");

static __always_inline void count_skipped(__u32 why)
{
	__u64 *n = bpf_map_lookup_elem(&skipped, &why);

	if (n)
		*n += 1;
}

static __always_inline bool is_cni(const __u8 *name)
{
	return name[0] == 'C' && name[1] == 'N' && name[2] == 'I' && name[3] == '_';
}

/* Tells CNI_COMMAND from the other names of the specification. */
static __always_inline bool is_command(const __u8 *name)
{
	return name[4] == 'C' && name[5] == 'O' && name[6] == 'M';
}

/* How far the search of an environment is. */
struct search {
	__u64 p;
	__u64 end;
	__u32 used; /* bytes kept */
	__u32 cut;
	__u32 inside; /* of a variable that was longer than what is read at once */
	__u32 found; /* CNI_COMMAND */
};

/* Reads one variable to where the next one to keep belongs, and keeps it if it
 * begins with CNI_. Returns 0 while there may be another. A global function: the
 * verifier looks at it once, not once for each turn of the loop. */
__noinline int next_variable(struct search *s)
{
	__u32 zero = 0;
	struct cni_exec_record *rec = bpf_map_lookup_elem(&scratch, &zero);
	__u8 *at;
	long n;

	if (!s || !rec || s->p >= s->end)
		return 1;
	if (s->used > TAPIO_CNI_ENV) {
		s->cut = 1;
		return 1;
	}
	at = rec->env + s->used;
	n = bpf_probe_read_user_str(at, TAPIO_CNI_VAR, (void *)s->p);
	if (n < 0)
		return 1;
	if (n == 0) /* so 6.1 counts an empty string, 6.18 its NUL too */
		n = 1;
	if (n > 1 && !s->inside && is_cni(at)) {
		s->found |= is_command(at);
		s->cut |= n == TAPIO_CNI_VAR;
		s->used += n;
	}
	/* What did not fit goes on where the NUL in place of its next byte is. */
	s->inside = n == TAPIO_CNI_VAR;
	s->p += n - s->inside;
	return 0;
}

/* Keeps the variables that begin with CNI_. Returns whether CNI_COMMAND is one. */
static __always_inline bool fill_env(struct cni_exec_record *rec, struct mm_struct *mm)
{
	struct search s = {
		.p = BPF_CORE_READ(mm, env_start),
		.end = BPF_CORE_READ(mm, env_end),
	};

	UNROLL
	for (int i = 0; i < TAPIO_CNI_VARS; i++) {
		if (next_variable(&s))
			break;
	}
	rec->env_len = s.used;
	rec->env_cut = s.cut;
	if (!s.found && s.p < s.end)
		count_skipped(TAPIO_CNI_UNSCANNED);
	return s.found;
}

/* setns(2) wants CAP_SYS_ADMIN, and for a namespace of the host that of the host. */
static __always_inline bool may_enter_namespaces(struct task_struct *task)
{
	const struct cred *cred = BPF_CORE_READ(task, cred);
	__u32 caps = 0;

	bpf_probe_read_kernel(&caps, sizeof(caps),
			      (void *)cred + bpf_core_field_offset(struct cred, cap_effective));
	return caps & (1 << CAP_SYS_ADMIN) && BPF_CORE_READ(cred, user_ns, level) == 0;
}

static __always_inline void fill_id(struct cni_process *id, __u32 tgid, struct plugin *plugin)
{
	id->start = plugin->start;
	id->tgid = tgid;
	id->parent = plugin->parent;
}

/* What the way up from a directory to the root needs of kernel types (linux/dcache.h,
 * linux/mount.h, linux/fs_struct.h, fs/mount.h). */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct dentry___up {
	struct qstr d_name;
	struct dentry___up *d_parent;
};

struct vfsmount___up {
	struct dentry___up *mnt_root;
};

struct path___up {
	struct vfsmount___up *mnt;
	struct dentry___up *dentry;
};

struct mount___up {
	struct mount___up *mnt_parent;
	struct dentry___up *mnt_mountpoint;
	struct vfsmount___up mnt;
};

struct fs_struct___up {
	struct path___up root;
	struct path___up pwd;
};

struct task_struct___up {
	struct fs_struct___up *fs;
};

#pragma clang attribute pop

/* Directories and mounts on the way. */
#define TAPIO_CNI_UP 48

struct climb {
	struct dentry___up *dentry;
	struct vfsmount___up *mnt;
	struct dentry___up *root_dentry;
	struct vfsmount___up *root_mnt;
	__u32 used;
	__u32 whole;
};

/* Writes down the name of a directory and goes to the one above; from where a file
 * system begins to where it is mounted. Returns 0 while there is a way. A global
 * function, as next_variable. */
__noinline int climb_up(struct climb *c)
{
	__u32 zero = 0;
	struct cni_exec_record *rec = bpf_map_lookup_elem(&scratch, &zero);
	struct vfsmount___up *mnt;
	struct dentry___up *dentry;
	long n;

	if (!c || !rec)
		return 1;
	/* BPF_CORE_READ must not see c itself, which is no type of the kernel's. */
	dentry = c->dentry;
	mnt = c->mnt;
	if (dentry == c->root_dentry && mnt == c->root_mnt) {
		c->whole = 1;
		return 1;
	}
	if (dentry == BPF_CORE_READ(mnt, mnt_root)) {
		struct mount___up *mount = (void *)mnt - bpf_core_field_offset(struct mount___up, mnt);
		struct mount___up *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount) { /* the root of the mount namespace: no chroot */
			c->whole = 1;
			return 1;
		}
		c->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		c->mnt = (void *)above + bpf_core_field_offset(struct mount___up, mnt);
		return 0;
	}
	if (c->used > TAPIO_CNI_CWD)
		return 1;
	n = bpf_probe_read_kernel_str(rec->cwd + c->used, TAPIO_CNI_NAME, BPF_CORE_READ(dentry, d_name.name));
	if (n <= 1)
		return 1;
	c->used += n;
	c->dentry = BPF_CORE_READ(dentry, d_parent);
	return 0;
}

/* Where a relative path begins. */
static __always_inline void fill_cwd(struct cni_exec_record *rec, struct task_struct *task)
{
	struct fs_struct___up *fs = BPF_CORE_READ((struct task_struct___up *)task, fs);
	struct climb c = {
		.dentry = BPF_CORE_READ(fs, pwd.dentry),
		.mnt = BPF_CORE_READ(fs, pwd.mnt),
		.root_dentry = BPF_CORE_READ(fs, root.dentry),
		.root_mnt = BPF_CORE_READ(fs, root.mnt),
	};

	UNROLL
	for (int i = 0; i < TAPIO_CNI_UP; i++) {
		if (climb_up(&c))
			break;
	}
	if (c.whole) {
		rec->cwd_len = c.used;
		rec->is_root = c.used == 0;
	}
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(cni_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	__u32 zero = 0, tgid = BPF_CORE_READ(task, tgid);
	struct cni_exec_record *rec = bpf_map_lookup_elem(&scratch, &zero);
	struct plugin plugin = {};

	if (!rec || !fill_env(rec, mm))
		return 0;
	if (!may_enter_namespaces(task)) {
		count_skipped(TAPIO_CNI_UNPRIVILEGED);
		return 0;
	}
	plugin.start = BPF_CORE_READ(task, group_leader, start_boottime);
	plugin.parent = BPF_CORE_READ(task, real_parent, tgid);
	bpf_map_update_elem(&plugins, &tgid, &plugin, BPF_ANY);

	fill_header(&rec->header, TAPIO_CNI_EXEC);
	fill_id(&rec->id, tgid, &plugin);
	fill_process(&rec->process, task, mm);
	rec->path[0] = 0;
	bpf_probe_read_kernel_str(rec->path, sizeof(rec->path), BPF_CORE_READ(bprm, filename));
	rec->cwd_len = rec->is_root = 0;
	if (rec->path[0] != '/')
		fill_cwd(rec, task);
	if (bpf_ringbuf_output(&events, rec, sizeof(*rec), BPF_RB_FORCE_WAKEUP))
		count_lost(TAPIO_CNI_EXEC);
	return 0;
}

struct chunk {
	struct cni_process id;
	__u32 stream;
	__u32 offset;
	__u64 from;
	__u32 len;
	__u32 more;
};

/* Sends one record. Returns false when the rest of the stream is not wanted. */
static __noinline bool send_chunk(struct chunk *c)
{
	struct cni_data_record *rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);
	__u32 n = c->len;

	if (!rec) {
		count_lost(TAPIO_CNI_DATA);
		return false;
	}
	if (n > TAPIO_CNI_CHUNK)
		n = TAPIO_CNI_CHUNK;
	/* A plugin answers with a JSON object; the output of what else runs with
	 * its environment, iptables for one, stays here. */
	if (bpf_probe_read_user(rec->data, n, (void *)c->from) ||
	    (c->stream == STDOUT && c->offset == 0 && rec->data[0] != '{')) {
		/* With a wakeup: a reader that sleeps at this record is not woken for the next. */
		bpf_ringbuf_discard(rec, 0);
		return false;
	}
	fill_header(&rec->header, TAPIO_CNI_DATA);
	rec->id = c->id;
	rec->stream = c->stream;
	rec->offset = c->offset;
	rec->len = n;
	rec->more = c->more;
	bpf_ringbuf_submit(rec, 0);
	return true;
}

/* Sends the next chunk of what a process moves; 0 bytes are none. */
static __always_inline void send_next(__u32 *sent, struct chunk *c, __u64 *len)
{
	const __u32 share = TAPIO_CNI_CHUNK * TAPIO_CNI_CHUNKS;

	if (!*len || *sent >= share)
		return;
	c->offset = *sent;
	c->len = share - c->offset;
	if (c->len > TAPIO_CNI_CHUNK)
		c->len = TAPIO_CNI_CHUNK;
	if (c->len > *len)
		c->len = *len;
	*len -= c->len;
	c->more = *len && c->offset + c->len == share;
	if (!send_chunk(c)) {
		*sent = share;
		return;
	}
	*sent += c->len;
	c->from += c->len;
}

/* Sends the first of len bytes at from, as far as the stream's share goes. */
static __noinline int send_data(struct plugin *plugin, __u32 stream, __u64 from, __u64 len)
{
	__u32 *sent = &plugin->sent[stream & 1];
	struct chunk c = {.stream = stream, .from = from};

	fill_id(&c.id, bpf_get_current_pid_tgid() >> 32, plugin);
	UNROLL
	for (int i = 0; i < TAPIO_CNI_CHUNKS; i++)
		send_next(sent, &c, &len);
	return 0;
}

/* The number of a system call and its first three arguments, read without a helper: every system call of the machine comes by here. */
#if defined(__TARGET_ARCH_x86)
#define NUMBER(regs) ((regs)->orig_ax)
#define ARGUMENT_1(regs) ((regs)->di)
#define ARGUMENT_2(regs) ((regs)->si)
#define ARGUMENT_3(regs) ((regs)->dx)
#elif defined(__TARGET_ARCH_arm64)
#define NUMBER(regs) ((regs)->syscallno)
#define ARGUMENT_1(regs) ((regs)->regs[0])
#define ARGUMENT_2(regs) ((regs)->regs[1])
#define ARGUMENT_3(regs) ((regs)->regs[2])
#endif

SEC("tp_btf/sys_enter")
int BPF_PROG(cni_write, struct pt_regs *regs, long nr)
{
	struct plugin *plugin;
	__u64 thread, buffer;
	__u32 tgid;

	if (nr != NR_READ && nr != NR_WRITE)
		return 0;
	thread = bpf_get_current_pid_tgid();
	tgid = thread >> 32;
	plugin = bpf_map_lookup_elem(&plugins, &tgid);
	if (!plugin)
		return 0;
	buffer = ARGUMENT_2(regs);
	if (nr == NR_READ && ARGUMENT_1(regs) == STDIN)
		bpf_map_update_elem(&reads, &thread, &buffer, BPF_ANY);
	if (nr == NR_WRITE && ARGUMENT_1(regs) == STDOUT)
		send_data(plugin, STDOUT, buffer, ARGUMENT_3(regs));
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(cni_read, struct pt_regs *regs, long ret)
{
	struct plugin *plugin;
	__u64 thread, *buffer;
	__u32 tgid;

	if (NUMBER(regs) != NR_READ)
		return 0;
	thread = bpf_get_current_pid_tgid();
	tgid = thread >> 32;
	plugin = bpf_map_lookup_elem(&plugins, &tgid);
	if (!plugin)
		return 0;
	buffer = bpf_map_lookup_elem(&reads, &thread);
	if (!buffer)
		return 0;
	if (ret > 0)
		send_data(plugin, STDIN, *buffer, ret);
	bpf_map_delete_elem(&reads, &thread);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(cni_exit, struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct plugin *plugin = bpf_map_lookup_elem(&plugins, &tgid);
	struct cni_process id;
	struct cni_exit_record *rec;

	if (!plugin || BPF_CORE_READ(task, signal, live.counter) != 0)
		return 0;
	fill_id(&id, tgid, plugin);
	/* Two threads that end at once may both see no live one: the first sends. */
	if (bpf_map_delete_elem(&plugins, &tgid))
		return 0;
	rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);
	if (!rec) {
		count_lost(TAPIO_CNI_EXIT);
		return 0;
	}
	fill_header(&rec->header, TAPIO_CNI_EXIT);
	rec->id = id;
	rec->code = wait_status(task);
	rec->pad = 0;
	bpf_ringbuf_submit(rec, 0);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
