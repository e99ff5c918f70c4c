/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Records of which there may be many are put together on the CPU, and only the bytes
 * that are used go into the ring: a path of 1 KiB is nearly always a tenth of that. */
#ifndef TAPIO_SEND_H
#define TAPIO_SEND_H

#include "record.h"
#include "trace.h"

/* Behind such a record: the request that it is about, and the cgroup of its process, of
 * which only the names that are there are sent. */
struct record_tail {
	struct trace_context trace;
	struct cgroup_path cgroup;
};

/* How many bytes of a path's names are there. */
static __always_inline __u64 names_size(const struct cgroup_path *path)
{
	__u64 size = path->len;

	return size > TAPIO_PATH ? TAPIO_PATH : size;
}

/* Sends a record that ends with size bytes of those that its type has behind the fixed
 * part. No flag: the kernel wakes the reader unless it is already behind, which is both
 * the fastest and, in a storm, the cheapest. */
static __always_inline void send_record(__u32 kind, void *record, __u64 size)
{
	if (bpf_ringbuf_output(&events, record, size, 0))
		count_lost(kind);
}

#endif
