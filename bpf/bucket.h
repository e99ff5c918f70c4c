/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Token buckets on each CPU: for each kind of record, and for each cgroup that makes
 * such records; and room in the ring that the daily round leaves to what is urgent. */
#ifndef TAPIO_BUCKET_H
#define TAPIO_BUCKET_H

#include "record.h"

/* Bursts of that many records, refilled in a second or so (a jiffy is 1 to 10 ms). */
#define BURST 32
#define JIFFIES_PER_TOKEN 10

struct bucket {
	__u64 at;
	__u64 tokens;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TAPIO_KINDS);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

static __always_inline bool take_token(__u32 kind)
{
	__u64 now = bpf_jiffies64(), refill;
	struct bucket *b = bpf_map_lookup_elem(&buckets, &kind);

	if (!b)
		return false;
	refill = (now - b->at) / JIFFIES_PER_TOKEN;
	if (refill) {
		b->tokens = refill > BURST || b->tokens + refill > BURST ? BURST : b->tokens + refill;
		b->at = now;
	}
	if (!b->tokens)
		return false;
	b->tokens -= 1;
	return true;
}

/* At once, and then in a second, on each CPU: what no healthy machine meets. An exec
 * with its fork and exit takes half a millisecond and more, so 2000 are all that one
 * CPU can do; a request of HTTP takes 50 us and more. Signals that end processes come
 * in hundreds when services of many processes are stopped, failed connects in
 * thousands when a server with many clients ends. */
#define PROCESSES 2000, 2000
#define CONNECTS 4096, 500
#define EXCHANGES 20000, 20000
#define SIGNALS 256, 256

struct cgroup_bucket_key {
	__u64 cgroup;
	__u32 kind;
	__u32 pad;
};

struct cgroup_bucket {
	__u64 at; /* nanoseconds */
	__u64 tokens;
};

/* By whose records they are, so that one cgroup does not silence the others. The
 * one that was not used for longest is forgotten, and begins full again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct cgroup_bucket_key);
	__type(value, struct cgroup_bucket);
} cgroup_buckets SEC(".maps");

static __always_inline bool take_cgroup_token(__u32 kind, __u64 cgroup, __u64 burst, __u64 per_second)
{
	struct cgroup_bucket_key key = { .cgroup = cgroup, .kind = kind };
	struct cgroup_bucket *b = bpf_map_lookup_elem(&cgroup_buckets, &key);
	__u64 now = bpf_ktime_get_ns(), step = 1000000000 / per_second, refill;

	if (!b) {
		struct cgroup_bucket full = { .at = now, .tokens = burst - 1 };

		bpf_map_update_elem(&cgroup_buckets, &key, &full, BPF_ANY);
		return true;
	}
	refill = (now - b->at) / step;
	if (refill) {
		b->tokens = refill > burst || b->tokens + refill > burst ? burst : b->tokens + refill;
		b->at += refill * step;
	}
	if (!b->tokens)
		return false;
	b->tokens -= 1;
	return true;
}

/* Whether the ring has room for a record that is not urgent: the last quarter is
 * kept for those that are. */
static __always_inline bool has_room(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 4 * 3;
}

/* Whether a record may be sent; counts it when not. */
static __always_inline bool may_send(__u32 kind, __u64 cgroup, __u64 burst, __u64 per_second, bool urgent)
{
	if (!take_cgroup_token(kind, cgroup, burst, per_second)) {
		count_suppressed(kind);
		return false;
	}
	if (!urgent && !has_room()) {
		count_lost(kind);
		return false;
	}
	return true;
}

#endif
