//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Beginning and end of processes. */
#include "bucket.h"
#include "death.h"
#include "environment.h"
#include "send.h"

/* Send all arguments of an exec, not the first alone. */
const volatile bool command_line = false;
/* The tracepoint sched_process_exit says itself which thread was the last. */
const volatile bool exit_has_group_dead = false;

/* Makes bpf2go see the types. */
const enum record_kind *unused_kind __attribute__((unused));
const enum path_part *unused_part __attribute__((unused));
const struct exec_record *unused_exec __attribute__((unused));
const struct exit_record *unused_exit __attribute__((unused));
const struct signal_record *unused_signal __attribute__((unused));

/* An exec record and all that may be behind it. */
struct sent_exec {
	struct exec_record record;
	struct record_tail tail;
	__u8 more[2 * TAPIO_FILE + TAPIO_ARGS + TAPIO_ENVIRONMENT]; /* a file name is less than that for the verifier */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sent_exec);
} exec_scratch SEC(".maps");

/* Puts the arguments, or the first alone, where there is room for TAPIO_ARGS bytes, and
 * returns how many it put there. */
static __always_inline __u64 fill_args(struct exec_record *rec, __u8 *out, struct mm_struct *mm)
{
	unsigned long start = BPF_CORE_READ(mm, arg_start);
	unsigned long end = BPF_CORE_READ(mm, arg_end);
	__u64 size = end - start;
	long n;

	rec->args_len = 0;
	rec->args_total = size;
	if (!command_line) {
		n = bpf_probe_read_user_str(out, TAPIO_FILE, (void *)start);
		if (n <= 0 || n > TAPIO_FILE)
			return 0;
		asm volatile("%0 &= 511" : "+r"(n)); /* before 6.x the verifier may take it for negative */
		rec->args_len = n;
		return n;
	}
	if (size > TAPIO_ARGS)
		size = TAPIO_ARGS;
	if (bpf_probe_read_user(out, size, (void *)start))
		return 0;
	rec->args_len = size;
	return size;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct exec_record *rec;
	struct sent_exec *sent;
	struct mm_struct *mm;
	const char *interp;
	__u32 zero = 0;
	__u64 size;
	long n;

	if (!may_send(TAPIO_EXEC, cgroup_id(task_cgroup(task)), PROCESSES, false))
		return 0;
	sent = bpf_map_lookup_elem(&exec_scratch, &zero);
	if (!sent)
		return 0;
	rec = &sent->record;
	mm = BPF_CORE_READ(task, mm);
	fill_header(&rec->header, TAPIO_EXEC);
	fill_process(&rec->process, task, mm);
	__builtin_memset(&sent->tail.trace, 0, sizeof(sent->tail.trace));
	fill_path(&sent->tail.cgroup, task_cgroup(task));
	size = names_size(&sent->tail.cgroup);
	rec->interp_len = rec->interp_rest = 0;
	interp = BPF_CORE_READ(bprm, interp);
	n = bpf_probe_read_kernel_str(sent->tail.cgroup.names + size, TAPIO_FILE, interp);
	if (n > 0 && n <= TAPIO_FILE) {
		if (n == TAPIO_FILE)
			bpf_probe_read_kernel(&rec->interp_rest, 1, interp + TAPIO_FILE - 1);
		asm volatile("%0 &= 511" : "+r"(n));
		rec->interp_len = n;
		size += n;
	}
	size += fill_args(rec, sent->tail.cgroup.names + size, mm);
	rec->environment_len = fill_environment(sent->tail.cgroup.names + size, &rec->environment_whole, mm);
	size += rec->environment_len;
	send_record(TAPIO_EXEC, sent, sizeof(*sent) - sizeof(sent->more) - TAPIO_PATH + size);
	return 0;
}

struct ended {
	__u64 start;
	__u64 tgid;
};

/* Processes whose end was sent, for kernels whose tracepoint does not say which
 * thread is the last: two threads that end at once both see no live one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ended);
	__type(value, __u8);
} ended SEC(".maps");

static __always_inline bool is_last_thread(__u64 *ctx, struct task_struct *task)
{
	struct ended key = {};
	__u8 one = 1;

	if (exit_has_group_dead)
		return ctx[1] & 0xff;
	if (BPF_CORE_READ(task, signal, live.counter) != 0)
		return false;
	key.tgid = BPF_CORE_READ(task, tgid);
	key.start = BPF_CORE_READ(task, group_leader, start_boottime);
	return bpf_map_update_elem(&ended, &key, &one, BPF_NOEXIST) == 0;
}

struct sent_exit {
	struct exit_record record;
	struct record_tail tail;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sent_exit);
} exit_scratch SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* Where an exec put things, at random places; a fork leaves them there. */
struct mm_struct___layout {
	unsigned long mmap_base;
	unsigned long start_code;
	unsigned long start_brk;
	unsigned long start_stack;
	unsigned long arg_start;
	unsigned long env_start;
};

struct signal_struct___reaper {
	unsigned int is_child_subreaper : 1;
};
#pragma clang attribute pop

#define same_place(a, b, field) (BPF_CORE_READ(a, field) == BPF_CORE_READ(b, field))

static __always_inline int may_adopt(struct task_struct *parent)
{
	struct signal_struct___reaper *signal = (void *)BPF_CORE_READ(parent, signal);
	__u32 own = 0;

	return process_number(BPF_CORE_READ(parent, group_leader), &own) == 1 || own == 1 ||
	       BPF_CORE_READ_BITFIELD_PROBED(signal, is_child_subreaper);
}

/* Whether a process runs what its parent runs. One that was adopted has another parent than
 * the one that forked it, which by chance can have executed as many programs. Before 6.16
 * the memory is gone here, and of who may have been adopted nothing is said. */
static __noinline int is_copy(struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent);
	struct mm_struct___layout *own = (void *)BPF_CORE_READ(task, mm), *its = (void *)BPF_CORE_READ(parent, mm);
	__u64 id = exec_id_of(leader);

	if (id != BPF_CORE_READ((struct task_struct___exec *)leader, parent_exec_id) || id != exec_id_of(parent))
		return 0;
	if (!own)
		return !may_adopt(parent);
	return same_place(own, its, mmap_base) && same_place(own, its, start_code) && same_place(own, its, start_brk) &&
	       same_place(own, its, start_stack) && same_place(own, its, arg_start) && same_place(own, its, env_start);
}

SEC("tp_btf/sched_process_exit")
int process_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct sent_exit *sent;
	struct exit_record *rec;
	struct death_key key;
	__u32 zero = 0;
	int status;

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	if (traces_enabled && ends_its_process(task))
		note_death();
	if (!is_last_thread(ctx, task))
		return 0;
	status = wait_status(task);
	if (!may_send(TAPIO_EXIT, cgroup_id(task_cgroup(task)), PROCESSES, status != 0))
		return 0;
	sent = bpf_map_lookup_elem(&exit_scratch, &zero);
	if (!sent)
		return 0;
	rec = &sent->record;
	fill_header(&rec->header, TAPIO_EXIT);
	fill_process(&rec->process, task, BPF_CORE_READ(task, mm));
	fill_path(&sent->tail.cgroup, task_cgroup(task));
	rec->code = status;
	rec->is_copy = is_copy(task);
	fill_death_key(&key, task);
	fill_death_trace(&sent->tail.trace, &key);
	if (traces_enabled)
		bpf_map_delete_elem(&deaths, &key);
	send_record(TAPIO_EXIT, sent, sizeof(*sent) - TAPIO_PATH + names_size(&sent->tail.cgroup));
	return 0;
}

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernel_siginfo {
	int si_code;
};

struct sigaction {
	void *sa_handler;
};

struct k_sigaction {
	struct sigaction sa;
};

struct sighand_struct {
	struct k_sigaction action[64];
};

typedef struct {
	__u64 sig[1];
} sigset_t;

struct task_struct___signals {
	struct sighand_struct *sighand;
	sigset_t blocked;
};

#pragma clang attribute pop

/* The signals by which people, service managers and the kernel end a process
 * that did nothing wrong itself. */
static __always_inline bool ends_processes(int sig)
{
	return sig == SIGHUP || sig == SIGINT || sig == SIGQUIT || sig == SIGABRT ||
	       sig == SIGKILL || sig == SIGTERM;
}

/* include/uapi/asm-generic/signal.h: SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU,
 * SIGURG and SIGWINCH, which end nobody who does nothing about them. */
#define HARMLESS_SIGNALS (1ULL << 17 | 1ULL << 18 | 1ULL << 19 | 1ULL << 20 | 1ULL << 21 | 1ULL << 22 | 1ULL << 23 | 1ULL << 28)
#define MAX_SIGNAL 64
#define SIG_DFL NULL

/* Whether any other signal ends a process: it neither handles nor blocks it. */
static __always_inline bool is_deadly(int sig, struct task_struct *target)
{
	struct task_struct___signals *t = (void *)target;
	struct sighand_struct *sighand = BPF_CORE_READ(t, sighand);
	void *action = (void *)sighand + bpf_core_field_offset(struct sighand_struct, action), *handler = NULL;

	if (sig < 1 || sig > MAX_SIGNAL || (sig < MAX_SIGNAL && HARMLESS_SIGNALS >> sig & 1))
		return false;
	if (BPF_CORE_READ(t, blocked.sig[0]) >> (sig - 1) & 1)
		return false;
	action += (sig - 1) * bpf_core_type_size(struct k_sigaction) + bpf_core_field_offset(struct k_sigaction, sa) +
		  bpf_core_field_offset(struct sigaction, sa_handler);
	return !bpf_probe_read_kernel(&handler, sizeof(handler), action) && handler == SIG_DFL;
}

/* include/trace/events/signal.h */
#define TRACE_SIGNAL_DELIVERED 0
/* include/linux/sched/signal.h: in place of a siginfo, the current task and the kernel itself. */
#define SEND_SIG_NOINFO 0
#define SEND_SIG_PRIV 1
/* include/uapi/asm-generic/siginfo.h: kill(2), sigqueue(3), tgkill(2). */
#define SI_USER 0
#define SI_QUEUE -1
#define SI_TKILL -6

/* Whether a system call of the current task sent a signal. All other codes come from
 * within the kernel: timers and files that are ready (SI_TIMER, SI_SIGIO, POLL_IN) in an
 * interrupt, where the current task is anybody, queues (SI_MESGQ) in who wrote to
 * them. What si_pid says is of no use: 0 of a process that the target does not see,
 * and with sigqueue(3) whatever the sender likes. */
static __always_inline bool is_from_current(const struct kernel_siginfo *info)
{
	int code;

	if ((__u64)info == SEND_SIG_NOINFO)
		return true;
	if ((__u64)info == SEND_SIG_PRIV)
		return false;
	code = BPF_CORE_READ(info, si_code);
	return code == SI_USER || code == SI_QUEUE || code == SI_TKILL;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(process_signal, int sig, void *info, struct task_struct *target, int group, int result)
{
	struct task_struct *sender = (void *)bpf_get_current_task();
	struct signal_record *rec;
	bool from_kernel = !is_from_current(info);

	if (result != TRACE_SIGNAL_DELIVERED)
		return 0;
	/* What a process does to itself, abort(3) or a fault: the exit says it all. */
	if (BPF_CORE_READ(sender, tgid) == BPF_CORE_READ(target, tgid) && !from_kernel)
		return 0;
	if (!ends_processes(sig) && (from_kernel || !is_deadly(sig, target)))
		return 0;
	if (!may_send(TAPIO_SIGNAL, cgroup_id(task_cgroup(from_kernel ? target : sender)), SIGNALS, false))
		return 0;
	rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);
	if (!rec) {
		count_lost(TAPIO_SIGNAL);
		return 0;
	}
	fill_header(&rec->header, TAPIO_SIGNAL);
	fill_process(&rec->process, target, BPF_CORE_READ(target, mm));
	fill_path(&rec->cgroup, task_cgroup(target));
	rec->signal = sig;
	rec->pad = 0;
	if (from_kernel) {
		__builtin_memset(&rec->sender, 0, sizeof(rec->sender));
		rec->sender_cgroup.len = 0;
		rec->sender_cgroup.partial = 1;
	} else {
		fill_process(&rec->sender, sender, BPF_CORE_READ(sender, mm));
		fill_path(&rec->sender_cgroup, task_cgroup(sender));
	}
	bpf_ringbuf_submit(rec, 0);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
