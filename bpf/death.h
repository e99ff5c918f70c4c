/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Which request a process worked on when it ended: the one of the thread that ended
 * it, or else the only one that it had not answered yet. */
#ifndef TAPIO_DEATH_H
#define TAPIO_DEATH_H

#include "calls.h"
#include "exchange.h"
#include "process.h"

/* include/linux/sched.h, unchanged since 5.15: the thread of a process whose signal
 * makes the kernel dump core, whether or not there is a file in the end. */
#define PF_DUMPCORE 0x00000200

struct death_key {
	__u64 start;
	__u64 tgid;
};

/* What threads that ended their process worked on. */
struct death {
	struct trace_context trace;
	__u64 several; /* and not on the same */
};

/* From the thread that ended a process to the last one, and from an OOM kill to the
 * end. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct death_key);
	__type(value, struct death);
} deaths SEC(".maps");

static __always_inline void fill_death_key(struct death_key *key, struct task_struct *task)
{
	key->start = BPF_CORE_READ(task, group_leader, start_boottime);
	key->tgid = BPF_CORE_READ(task, tgid);
}

static __always_inline bool is_same_trace(const struct trace_context *a, const struct trace_context *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* Whether an exiting task is the one that ends its process, not one that goes with it. */
static __always_inline bool ends_its_process(struct task_struct *task)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	if (BPF_CORE_READ(task, flags) & PF_DUMPCORE)
		return true;
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, orig_ax) == NR_EXIT_GROUP;
#else
	return BPF_CORE_READ(regs, syscallno) == NR_EXIT_GROUP;
#endif
}

/* The goroutine for which the runtime of Go works on the stack of its thread: there
 * it ends the process after a panic. The offset of runtime.g.m is the same in all
 * versions from 1.17 on. */
#define GO_M_OFFSET 48

static __always_inline __u64 goid_of_thread(const struct tracee *p, struct pt_regs *regs)
{
	__u64 m = 0, g = 0, owner = 0, goid = 0, stack[2] = {}, sp = user_stack(regs);
#if defined(__TARGET_ARCH_x86)
	__u64 g0 = BPF_CORE_READ((struct pt_regs___user *)regs, r14);
#else
	__u64 g0 = BPF_CORE_READ((struct pt_regs___user *)regs, regs[28]);
#endif

	if (!p->curg_offset || !p->goid_offset || bpf_probe_read_user(stack, sizeof(stack), (void *)g0) ||
	    sp < stack[0] || sp >= stack[1])
		return 0;
	bpf_probe_read_user(&m, sizeof(m), (void *)(g0 + GO_M_OFFSET));
	bpf_probe_read_user(&g, sizeof(g), (void *)(m + p->curg_offset));
	bpf_probe_read_user(&owner, sizeof(owner), (void *)(g + GO_M_OFFSET));
	if (!m || owner != m)
		return 0;
	bpf_probe_read_user(&goid, sizeof(goid), (void *)(g + p->goid_offset));
	return goid;
}

/* What the thread of a Go program works on while its runtime does. */
static __always_inline void fill_goroutine_of_thread(struct trace_context *out, const struct tracee *p)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct execution e = { .tgid = bpf_get_current_pid_tgid() >> 32, .kind = TAPIO_GOROUTINE };
	struct request *r;

	e.id = goid_of_thread(p, regs);
	r = e.id ? unanswered_request(&e) : NULL;
	if (r)
		__builtin_memcpy(out, &r->context, sizeof(*out));
}

/* The process of the current task ends, for what this task does. */
static __noinline __attribute__((unused)) int note_death(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct death d = {}, *known;
	struct death_key key;
	struct tracee *p;
	__u32 tgid;

	if (!traces_enabled)
		return 0;
	fill_death_key(&key, task);
	tgid = key.tgid;
	p = bpf_map_lookup_elem(&tracees, &tgid);
	if (!p || p->start != key.start)
		return 0;
	/* Before 6.16 the tracepoint comes when the memory of the task is gone, where the
	 * goroutine and the frames of an event loop are looked for. */
	if (p->runtime != TAPIO_RUNTIME_OTHER && !BPF_CORE_READ(task, mm))
		return 0;
	fill_current_trace(&d.trace);
	if (!d.trace.association && p->runtime == TAPIO_RUNTIME_GO)
		fill_goroutine_of_thread(&d.trace, p);
	if (!d.trace.association)
		return 0;
	known = bpf_map_lookup_elem(&deaths, &key);
	if (!known)
		bpf_map_update_elem(&deaths, &key, &d, BPF_NOEXIST);
	else if (!is_same_trace(&known->trace, &d.trace))
		known->several = 1;
	return 0;
}

/* The requests that a process has not answered. Flags: the verifier would follow a
 * number to all its values. And not on the stack: before 6.6 it looks at one call of
 * a callback only, and takes out what that cannot reach from what it knows of the
 * stack, here all that comes after the first one found. */
struct unanswered {
	struct death_key by;
	struct trace_context trace; /* of the first one found */
	__u32 found;
	__u32 several;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unanswered);
} unanswered_scratch SEC(".maps");

static long find_unanswered(void *map, const void *key, struct exchange *x, void *context)
{
	__u32 zero = 0;
	struct unanswered *u = bpf_map_lookup_elem(&unanswered_scratch, &zero);

	if (!u)
		return 1;
	if (x->client || x->tgid != u->by.tgid || x->start != u->by.start || is_answered(&x->context, *(const __u64 *)key))
		return 0;
	if (u->found) {
		u->several = 1;
		return 1;
	}
	u->found = 1;
	__builtin_memcpy(&u->trace, &x->context, sizeof(u->trace));
	return 0;
}

/* Fills what a process that ends worked on, or zeros. */
static __noinline __attribute__((unused)) int fill_death_trace(struct trace_context *out, struct death_key *by)
{
	__u32 tgid = by->tgid, zero = 0;
	struct unanswered *u;
	struct death *d;

	__builtin_memset(out, 0, sizeof(*out));
	if (!traces_enabled)
		return 0;
	d = bpf_map_lookup_elem(&deaths, by);
	if (d) {
		if (!d->several)
			__builtin_memcpy(out, &d->trace, sizeof(*out));
		return 0;
	}
	if (!bpf_map_lookup_elem(&tracees, &tgid))
		return 0; /* it did not serve HTTP: nearly all that end */
	u = bpf_map_lookup_elem(&unanswered_scratch, &zero);
	if (!u)
		return 0;
	u->by = *by;
	u->found = u->several = 0;
	bpf_for_each_map_elem(&exchanges, find_unanswered, NULL, 0);
	if (u->found && !u->several)
		__builtin_memcpy(out, &u->trace, sizeof(*out));
	return 0;
}

#endif
