/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Which goroutine starts which: probes in runtime.newproc1 of Go programs. */
#ifndef TAPIO_GOROUTINES_H
#define TAPIO_GOROUTINES_H

#include "http.h"

/* The registers of Go's calling convention: the second argument, and the result. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pt_regs___go {
#if defined(__TARGET_ARCH_x86)
	unsigned long ax, bx;
#elif defined(__TARGET_ARCH_arm64)
	__u64 regs[31];
#endif
};
#pragma clang attribute pop

static __always_inline __u64 go_second_argument(struct pt_regs___go *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, bx);
#else
	return BPF_CORE_READ(regs, regs[1]);
#endif
}

static __always_inline __u64 go_result(struct pt_regs___go *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, ax);
#else
	return BPF_CORE_READ(regs, regs[0]);
#endif
}

/* What a thread is about to start a goroutine for. While it is in newproc1 it
 * runs nothing else: that holds the processor and is on the system's stack. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct child);
} starting SEC(".maps");

/* How many were followed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} children_count SEC(".maps");

static __always_inline __u64 *children_so_far(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&children_count, &zero);
}

/* A request has ended: if the map has had more children since it began than it has
 * room for, its own may have been forgotten. */
static __always_inline bool may_have_lost_children(const struct request *r)
{
	__u64 *now = children_enabled ? children_so_far() : NULL;

	return now && *now - r->children > TAPIO_CHILDREN;
}

static __always_inline bool read_goid(struct execution *e, void *ctx, __u64 g)
{
	__u64 offset = bpf_get_attach_cookie(ctx);

	e->tgid = bpf_get_current_pid_tgid() >> 32;
	e->kind = TAPIO_GOROUTINE;
	return !bpf_probe_read_user(&e->id, sizeof(e->id), (void *)(g + offset)) && e->id;
}

/* newproc1(fn, callergp, ...) is called. The cookie of both probes is the offset of
 * the goroutine's number. */
SEC("uprobe/runtime.newproc1")
int http_goroutine_call(void *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct execution e = {};
	struct request *r = NULL;
	struct child c = {};

	if (read_goid(&e, ctx, go_second_argument(ctx)))
		r = unanswered_request(&e);
	if (!r && e.id)
		r = request_of_child(&e);
	if (!r) {
		bpf_map_delete_elem(&starting, &thread);
		return 0;
	}
	c.root = e.id;
	c.begun = r->begun;
	bpf_map_update_elem(&starting, &thread, &c, BPF_ANY);
	return 0;
}

/* newproc1 returns the new goroutine, which does not run yet. */
SEC("uprobe/runtime.newproc1.return")
int http_goroutine_return(void *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid(), *count;
	struct child *c = bpf_map_lookup_elem(&starting, &thread);
	struct execution e = {};

	if (!c)
		return 0;
	if (read_goid(&e, ctx, go_result(ctx)) && !bpf_map_update_elem(&children, &e, c, BPF_ANY)) {
		count = children_so_far();
		if (count)
			__sync_fetch_and_add(count, 1);
	}
	bpf_map_delete_elem(&starting, &thread);
	return 0;
}

#endif
