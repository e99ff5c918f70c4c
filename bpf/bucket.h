/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* A token bucket for each kind of record, on each CPU. */
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

#endif
