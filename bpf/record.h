/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The records that the programs send. bpf2go makes Go types of them. Times are
 * nanoseconds of CLOCK_BOOTTIME, sizes bytes, text ends at the first NUL. */
#ifndef TAPIO_RECORD_H
#define TAPIO_RECORD_H

#include "kernel.h"

enum record_kind {
	TAPIO_EXEC = 1,
	TAPIO_EXIT = 2,
	TAPIO_OOM = 3,
	TAPIO_CONNECT = 4,
	TAPIO_SIGNAL = 5,
	TAPIO_SYSCALL = 6,
};

/* Above all kinds of all files, so that one more does not change every object:
 * network.h has those from 16, disk's begin with 32. */
#define TAPIO_KINDS 64

/* A file name of the kernel is at most 255 long, and ends with a NUL here. */
#define TAPIO_NAME 256
#define TAPIO_PATH 1024
#define TAPIO_DEPTH 16
/* Paths that are deeper by more than this are not known at all. */
#define TAPIO_DEEPER 64
#define TAPIO_ARGS 1024
#define TAPIO_EXE 64
#define TAPIO_FILE 256

struct record_header {
	__u64 time;
	__u32 kind;
	__u32 pad;
};

/* Who. pid and parent are numbers of the collector's pid namespace, 0 when the
 * process cannot be seen from it; vpid is the number in the process's own pid
 * namespace, 0 when that is the collector's. All zero: not known. */
struct process_id {
	__u64 start;
	__u64 cgroup_id;
	__u32 pid;
	__u32 vpid;
	__u32 parent;
	__u32 exe_rest; /* 0: all of the name is in exe */
	__u8 comm[16];
	__u8 exe[TAPIO_EXE];
};

/* How much of a path is there. What is near the root says whose it is: when there are
 * more or longer names than fit, those near the leaf are left out. */
enum path_part {
	TAPIO_PATH_WHOLE = 0,
	TAPIO_PATH_UNKNOWN = 1,
	TAPIO_PATH_TOP = 2,	/* the leaf is missing */
	TAPIO_PATH_TOP_CUT = 3, /* and the first name here may be the end of one */
};

/* A cgroup path, the names from the leaf up, each with its NUL. len 0 is the root. */
struct cgroup_path {
	__u32 len;
	__u32 partial; /* enum path_part */
	__u8 names[TAPIO_PATH];
};

/* Exec, exit, connect and syscall have the struct record_tail of send.h behind them, and
 * are as long as the names of the cgroup there make them. */

/* Behind the names of the cgroup are those bytes of the interpreter, with a NUL, those of
 * the arguments, and those of the variables that name the service (environment.h). */
struct exec_record {
	struct record_header header;
	struct process_id process;
	__u32 interp_len;
	__u32 interp_rest; /* 0: all of the interpreter's path is there */
	__u32 args_len;
	__u32 args_total;
	__u32 environment_len;
	__u32 environment_whole; /* 1: all variables were looked at */
};

struct exit_record {
	struct record_header header;
	struct process_id process;
	__s32 code; /* as wait(2) encodes it */
	__u32 is_copy; /* it ran the program that its parent runs, with its environment: no exec since the fork */
};

struct oom_record {
	struct record_header header;
	struct process_id process;
	struct cgroup_path cgroup;
	__u64 rss;
	__u64 limit; /* 0: no memory cgroup was at its limit */
	__u64 usage;
	__u64 peak;
	__u64 limit_id;
	struct cgroup_path limit_cgroup;
	/* Who asked for the memory that was not there; all zero for a kernel thread. */
	struct process_id trigger;
	struct cgroup_path trigger_cgroup;
	__s32 score_adj;
	__u32 fate; /* enum container_fate */
};

struct connect_record {
	struct record_header header;
	struct process_id process;
	__u64 begun; /* 0: the connect was under way before the program was attached */
	__u8 local[16];
	__u8 peer[16];
	__u16 local_port;
	__u16 peer_port;
	__u16 family;
	__u16 socket_state; /* enum socket_state; 0: no socket any more */
	__u32 netns;
	__s32 error; /* errno, 0: the kernel recorded none */
};

/* process and cgroup are those of the target; the sender is all zero when the
 * kernel itself sent the signal. */
struct signal_record {
	struct record_header header;
	struct process_id process;
	struct cgroup_path cgroup;
	struct process_id sender;
	struct cgroup_path sender_cgroup;
	__u32 signal;
	__u32 pad;
};

struct syscall_record {
	struct record_header header;
	struct process_id process;
	__u32 number;
	__u32 error;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* replaced by the loader */
} events SEC(".maps");

/* Records that did not fit, by kind. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TAPIO_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline void count_lost(__u32 kind)
{
	__u64 *n = bpf_map_lookup_elem(&lost, &kind);

	if (n)
		*n += 1;
}

/* Records that the token bucket of their kind held back. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TAPIO_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} suppressed SEC(".maps");

static __always_inline void count_suppressed(__u32 kind)
{
	__u64 *n = bpf_map_lookup_elem(&suppressed, &kind);

	if (n)
		*n += 1;
}

static __always_inline void fill_header(struct record_header *h, __u32 kind)
{
	h->time = bpf_ktime_get_boot_ns();
	h->kind = kind;
	h->pad = 0;
}

#endif
