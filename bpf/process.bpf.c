//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Beginning and end of processes. */
#include "death.h"

/* Send all arguments of an exec, not the first alone. */
const volatile bool command_line = false;
/* The tracepoint sched_process_exit says itself which thread was the last. */
const volatile bool exit_has_group_dead = false;

/* Makes bpf2go see the types. */
const enum record_kind *unused_kind __attribute__((unused));
const struct exec_record *unused_exec __attribute__((unused));
const struct exit_record *unused_exit __attribute__((unused));
const struct signal_record *unused_signal __attribute__((unused));

static __always_inline void fill_args(struct exec_record *rec, struct mm_struct *mm)
{
	unsigned long start = BPF_CORE_READ(mm, arg_start);
	unsigned long end = BPF_CORE_READ(mm, arg_end);
	__u64 size = end - start;
	long n;

	rec->args_len = 0;
	rec->args_total = size;
	if (!command_line) {
		n = bpf_probe_read_user_str(rec->args, TAPIO_FILE, (void *)start);
		if (n > 0)
			rec->args_len = n;
		return;
	}
	if (size > TAPIO_ARGS)
		size = TAPIO_ARGS;
	if (!bpf_probe_read_user(rec->args, size, (void *)start))
		rec->args_len = size;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct exec_record *rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);
	struct mm_struct *mm;

	if (!rec) {
		count_lost(TAPIO_EXEC);
		return 0;
	}
	mm = BPF_CORE_READ(task, mm);
	fill_header(&rec->header, TAPIO_EXEC);
	fill_process(&rec->process, task, mm);
	fill_path(&rec->cgroup, task_cgroup(task));
	rec->interp[0] = 0;
	bpf_probe_read_kernel_str(rec->interp, sizeof(rec->interp), BPF_CORE_READ(bprm, interp));
	fill_args(rec, mm);
	/* No flag: the kernel wakes the reader unless it is already behind, which
	 * is both the fastest and, in a storm, the cheapest. */
	bpf_ringbuf_submit(rec, 0);
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

/* A record, and the request that the process worked on. */
struct traced_exit {
	struct exit_record record;
	struct trace_context trace;
};

SEC("tp_btf/sched_process_exit")
int process_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct traced_exit *traced;
	struct exit_record *rec;
	struct death_key key;

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	if (traces_enabled && ends_its_process(task))
		note_death();
	if (!is_last_thread(ctx, task))
		return 0;
	traced = bpf_ringbuf_reserve(&events, sizeof(*traced), 0);
	if (!traced) {
		count_lost(TAPIO_EXIT);
		return 0;
	}
	rec = &traced->record;
	fill_header(&rec->header, TAPIO_EXIT);
	fill_process(&rec->process, task, BPF_CORE_READ(task, mm));
	fill_path(&rec->cgroup, task_cgroup(task));
	rec->code = wait_status(task);
	rec->pad = 0;
	fill_death_key(&key, task);
	fill_death_trace(&traced->trace, &key);
	if (traces_enabled)
		bpf_map_delete_elem(&deaths, &key);
	bpf_ringbuf_submit(traced, 0);
	return 0;
}

/* The signals by which people, service managers and the kernel end a process
 * that did nothing wrong itself. */
static __always_inline bool ends_processes(int sig)
{
	return sig == SIGHUP || sig == SIGINT || sig == SIGQUIT || sig == SIGABRT ||
	       sig == SIGKILL || sig == SIGTERM;
}

/* include/trace/events/signal.h */
#define TRACE_SIGNAL_DELIVERED 0
/* include/linux/sched/signal.h: in place of a siginfo, the kernel itself. */
#define SEND_SIG_PRIV 1

SEC("tp_btf/signal_generate")
int BPF_PROG(process_signal, int sig, void *info, struct task_struct *target, int group, int result)
{
	struct task_struct *sender = (void *)bpf_get_current_task();
	struct signal_record *rec;
	bool from_kernel = (__u64)info == SEND_SIG_PRIV;

	if (!ends_processes(sig) || result != TRACE_SIGNAL_DELIVERED)
		return 0;
	if (BPF_CORE_READ(sender, tgid) == BPF_CORE_READ(target, tgid) && !from_kernel)
		return 0; /* abort(3) and the like: the exit says it all */
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
