/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Which request a task works on: what http.bpf.c learns and the others look up.
 * An event without an id is better than one with a wrong id: whatever is not
 * certain here ends in "none". */
#ifndef TAPIO_TRACE_H
#define TAPIO_TRACE_H

#include "kernel.h"

/* The group http runs. Else nothing here costs anything: the verifier removes it. */
const volatile bool traces_enabled = false;
/* The map of OpenTelemetry eBPF Instrumentation is there. */
const volatile bool sdk_traces_enabled = false;
/* Goroutines are followed to those that they start. */
const volatile bool children_enabled = false;

/* How an event was joined to a request. */
enum trace_association {
	TAPIO_TRACE_NONE = 0,
	TAPIO_TRACE_GOROUTINE = 1,
	TAPIO_TRACE_THREAD = 2,
	TAPIO_TRACE_SOCKET = 3,
	TAPIO_TRACE_SDK = 4,
	TAPIO_TRACE_GOROUTINE_CHILD = 5,
};

/* Sent behind a record: same layout for all kinds. All zero: none. */
struct trace_context {
	__u8 trace_id[16];
	__u8 span_id[8];
	__u8 flags; /* of the traceparent */
	__u8 association;
	__u8 answered; /* of a socket: the response has been seen */
	__u8 role;     /* of the socket on which the request came or went: enum trace_role */
	__u32 sequence; /* of that socket, see is_answered */
};

enum trace_role {
	TAPIO_ROLE_NONE = 0, /* it is a connect that the request made */
	TAPIO_ROLE_SERVER = 1,
	TAPIO_ROLE_CLIENT = 2,
};

/* What runs in a process decides how its requests are told apart. */
enum tracee_runtime {
	TAPIO_RUNTIME_UNKNOWN = 0, /* user space has been asked */
	TAPIO_RUNTIME_GO = 1,	   /* by goroutine */
	TAPIO_RUNTIME_NODE = 2,	   /* by the callback that read the request */
	TAPIO_RUNTIME_OTHER = 3,   /* by thread, if it reads from a blocking socket */
};

/* Whether a process makes spans itself. */
enum tracee_sdk {
	TAPIO_SDK_NOT_SEEN = 0,
	TAPIO_SDK_YES = 1,
	TAPIO_SDK_NO = 2, /* surely: its executable lists what it is made of */
};

/* A process that serves HTTP. */
struct tracee {
	__u64 start;
	__u32 runtime;
	__u32 goid_offset; /* of runtime.g.goid; 0: not known */
	__u32 sdk;	   /* enum tracee_sdk */
	__u32 told;	   /* user space has its identity */
	__u64 spans_from; /* no span that began before; 0: none at all */
	__u32 curg_offset; /* of runtime.m.curg; 0: not known */
	__u32 mixes;	  /* who reads its requests reads others before the response */
};

enum execution_kind {
	TAPIO_GOROUTINE = 1,
	TAPIO_THREAD = 2,
};

/* What works on one request at a time: a goroutine or a thread. */
struct execution {
	__u64 id;
	__u32 tgid;
	__u32 kind;
};

/* Words of the stack of an event loop that show whether the callback that read
 * the request still runs, and how far they are from the read: between are what
 * the C library's read, which has returned, had there, and variables of its caller. */
#define TAPIO_FRAMES 16
#define TAPIO_FRAMES_AT 128

/* Without association it has no id, or it is not certain who works on it. */
struct request {
	struct trace_context context;
	__u8 span_id[8]; /* of the span that is made of it */
	__u64 begun;
	__u64 start;	/* of the process that read it */
	__u64 exec_id;	/* which of its programs it ran then */
	__u64 children; /* how many there had been by then, of all requests */
	__u64 sk;
	__u64 stack; /* stack pointer at the read; 0: not an event loop */
	__u64 frames[TAPIO_FRAMES];
};

/* Maps are of this size only when the group http runs. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct tracee);
} tracees SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct execution);
	__type(value, struct request);
} requests SEC(".maps");

/* A goroutine that works on a request of which another one, its root, was the reader:
 * the root started it, or one that the root had started. It does so until the
 * root has no such request any more, since then nobody waits for it. */
struct child {
	__u64 root;
	__u64 begun; /* of the request: the root may be at another one by now */
};

#define TAPIO_CHILDREN 65536

/* A goroutine's number is never given to another one, so that those that have ended
 * need not be known: they are the first to be forgotten. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TAPIO_CHILDREN);
	__type(key, struct execution);
	__type(value, struct child);
} children SEC(".maps");

/* By socket, for what happens to it outside of any task. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct trace_context);
} socket_traces SEC(".maps");

/* The layout of traces_ctx_v1 of OpenTelemetry eBPF Instrumentation: by
 * pid_tgid. Theirs takes the place of this one when it is there. */
struct sdk_context {
	__u8 trace_id[16];
	__u8 span_id[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct sdk_context);
} traces_ctx_v1 SEC(".maps");

/* The user's registers that matter here. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pt_regs___user {
#if defined(__TARGET_ARCH_x86)
	unsigned long r14, sp;
#elif defined(__TARGET_ARCH_arm64)
	__u64 regs[31], sp;
#endif
};
#pragma clang attribute pop

static __always_inline __u64 user_stack(struct pt_regs *regs)
{
	return BPF_CORE_READ((struct pt_regs___user *)regs, sp);
}

/* Go keeps the current goroutine in a register. In C code, and while the runtime
 * works on a stack of its own, that holds anything: then the stack pointer is not
 * within what it points to. */
static __always_inline __u64 current_goid(struct pt_regs *regs, __u32 goid_offset)
{
	struct pt_regs___user *user = (void *)regs;
	__u64 stack[2] = {}, goid = 0, sp = user_stack(regs);
#if defined(__TARGET_ARCH_x86)
	__u64 g = BPF_CORE_READ(user, r14);
#else
	__u64 g = BPF_CORE_READ(user, regs[28]);
#endif

	if (!goid_offset || bpf_probe_read_user(stack, sizeof(stack), (void *)g))
		return 0;
	if (sp < stack[0] || sp >= stack[1])
		return 0;
	if (bpf_probe_read_user(&goid, sizeof(goid), (void *)(g + goid_offset)))
		return 0;
	return goid;
}

/* Who executes in a process of that kind; false when it cannot be told. */
static __always_inline bool current_execution(struct execution *e, const struct tracee *p,
					      __u64 pid_tgid, struct pt_regs *regs)
{
	e->tgid = pid_tgid >> 32;
	switch (p->runtime) {
	case TAPIO_RUNTIME_GO:
		e->kind = TAPIO_GOROUTINE;
		e->id = current_goid(regs, p->goid_offset);
		return e->id != 0;
	case TAPIO_RUNTIME_NODE:
	case TAPIO_RUNTIME_OTHER:
		e->kind = TAPIO_THREAD;
		e->id = (__u32)pid_tgid;
		return true;
	}
	return false;
}

static __always_inline bool read_frames(__u64 *frames, __u64 stack)
{
	return !bpf_probe_read_user(frames, TAPIO_FRAMES * sizeof(*frames), (void *)(stack + TAPIO_FRAMES_AT));
}

/* Whether the callback that read the request still runs: the stack is deeper than
 * it was then, and the frames below the read are the same. Timers run on less of
 * the stack, since libuv keeps its events there while it reads; if they reach that
 * far all the same, they have overwritten those frames. */
static __always_inline bool is_same_callback(const struct request *r, struct pt_regs *regs)
{
	__u64 words[4], differ = 0; /* a few at a time: Linux 6.1 and 6.12 allow all calls together 512 bytes of stack */

	if (user_stack(regs) >= r->stack)
		return false;
	for (int i = 0; i < TAPIO_FRAMES; i += 4) {
		if (bpf_probe_read_user(words, sizeof(words), (void *)(r->stack + TAPIO_FRAMES_AT + i * sizeof(*words))))
			return false;
		for (int j = 0; j < 4; j++)
			differ |= words[j] ^ r->frames[i + j];
	}
	return !differ;
}

/* include/net/tcp_states.h */
#define TRACE_TCP_ESTABLISHED 1
#define TRACE_TCP_CLOSE_WAIT 8

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct tcp_sock___trace {
	__u32 copied_seq, write_seq;
};
#pragma clang attribute pop

/* What changes on a request's socket when the response begins: what a server has
 * written, or a client has read. It does so whatever calls it is written with. */
static __always_inline __u32 sequence_of(__u64 sk, __u32 role)
{
	struct tcp_sock___trace *tcp = (void *)sk;

	return role == TAPIO_ROLE_SERVER ? BPF_CORE_READ(tcp, write_seq) : BPF_CORE_READ(tcp, copied_seq);
}

static __always_inline bool is_answered(const struct trace_context *c, __u64 sk)
{
	return c->answered || (c->role && sequence_of(sk, c->role) != c->sequence);
}

/* Whether a socket still waits to write its response. It may be gone, or another
 * one by now: then it is closed, or has written something else. */
static __always_inline bool is_unanswered(const struct trace_context *c, __u64 sk)
{
	__u8 state = BPF_CORE_READ((const struct sock *)sk, __sk_common.skc_state);

	return (state == TRACE_TCP_ESTABLISHED || state == TRACE_TCP_CLOSE_WAIT) && !is_answered(c, sk);
}

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct task_struct___exec {
	__u64 parent_exec_id; /* the parent's self_exec_id at the fork */
	__u64 self_exec_id;   /* how many there were, from the first process on */
};
#pragma clang attribute pop

static __always_inline __u64 exec_id_of(struct task_struct *task)
{
	return BPF_CORE_READ((struct task_struct___exec *)task, self_exec_id);
}

/* Whether the program that runs now has read a request: its numbers may have been those of
 * another process, or of what this one ran before, whose connection another one keeps open. */
static __always_inline bool is_own(const struct request *r)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return r->start == BPF_CORE_READ(task, group_leader, start_boottime) && r->exec_id == exec_id_of(task);
}

/* The request that somebody has read, until its response begins. */
static __always_inline struct request *unanswered_request(const struct execution *e)
{
	struct request *r = bpf_map_lookup_elem(&requests, e);

	return r && r->context.association && is_unanswered(&r->context, r->sk) && is_own(r) ? r : NULL;
}

/* The request on which somebody works. */
static __always_inline struct request *request_of(const struct execution *e, struct pt_regs *regs)
{
	struct request *r = unanswered_request(e);

	return r && r->stack && !is_same_callback(r, regs) ? NULL : r;
}

/* The request for which a goroutine was started, while that waits for its response.
 * e is its root then. */
static __always_inline struct request *request_of_child(struct execution *e)
{
	struct child *c = bpf_map_lookup_elem(&children, e);
	struct request *r;

	if (!c)
		return NULL;
	e->id = c->root;
	r = unanswered_request(e);
	return r && r->begun == c->begun ? r : NULL;
}

static __always_inline bool is_zero_id(const struct sdk_context *c)
{
	const __u64 *id = (const void *)c->trace_id;

	return !id[0] && !id[1];
}

/* Fills what the current task works on, or zeros. To be called only where the
 * current task is the one that the event is about. */
static __noinline __attribute__((unused)) int fill_current_trace(struct trace_context *out)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 tgid = pid_tgid >> 32;
	struct request *r = NULL;
	struct tracee *p;

	__builtin_memset(out, 0, sizeof(*out));
	if (!traces_enabled)
		return 0;
	p = bpf_map_lookup_elem(&tracees, &tgid);
	if (p) {
		struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
		struct execution e = {};

		if (current_execution(&e, p, pid_tgid, regs))
			r = request_of(&e, regs);
		if (r) {
			__builtin_memcpy(out, &r->context, sizeof(*out));
		} else if (children_enabled && e.kind == TAPIO_GOROUTINE && e.id) {
			r = request_of_child(&e);
			if (r) {
				__builtin_memcpy(out, &r->context, sizeof(*out));
				out->association = TAPIO_TRACE_GOROUTINE_CHILD;
			}
		}
		out->role = TAPIO_ROLE_NONE; /* it happens on another socket */
	}
	if (sdk_traces_enabled) {
		struct sdk_context *sdk = bpf_map_lookup_elem(&traces_ctx_v1, &pid_tgid);
		__u64 *ours = (__u64 *)out->trace_id, *theirs;

		if (!sdk || is_zero_id(sdk))
			return 0;
		theirs = (__u64 *)sdk->trace_id;
		/* Of two that differ, that by goroutine or thread was read from the request
		 * itself. */
		if (r && (ours[0] != theirs[0] || ours[1] != theirs[1]))
			return 0;
		__builtin_memcpy(out, sdk, sizeof(*sdk));
		out->association = TAPIO_TRACE_SDK;
	}
	return 0;
}

/* Fills what a socket is used for, or zeros. What a client writes after the
 * response is something else. */
static __always_inline void fill_socket_trace(struct trace_context *out, __u64 sk)
{
	struct trace_context *t = traces_enabled ? bpf_map_lookup_elem(&socket_traces, &sk) : NULL;

	if (t && !(t->role == TAPIO_ROLE_CLIENT && is_answered(t, sk)))
		__builtin_memcpy(out, t, sizeof(*out));
	else
		__builtin_memset(out, 0, sizeof(*out));
}

/* A socket of the current task begins to connect. */
static __always_inline void remember_socket_trace(__u64 sk)
{
	struct trace_context t;

	if (!traces_enabled)
		return;
	fill_current_trace(&t);
	if (t.association)
		bpf_map_update_elem(&socket_traces, &sk, &t, BPF_ANY);
	else
		bpf_map_delete_elem(&socket_traces, &sk);
}

#endif
