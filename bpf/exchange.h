/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Requests that wait for their response: http.bpf.c follows them, and who looks at
 * the end of a process finds there what it worked on. */
#ifndef TAPIO_EXCHANGE_H
#define TAPIO_EXCHANGE_H

#include "trace.h"

/* The request of a connection that waits for its response. */
struct exchange {
	struct execution by; /* id 0: nobody */
	struct trace_context context;
	__u8 span_id[8];
	__u8 parent[8];
	__u64 begun;
	__u64 start;
	__u32 tgid;
	__u32 method;
	__u32 client;
	__u32 span; /* 1: to be told as a span */
};

/* Requests that wait for their response, by socket. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct exchange);
} exchanges SEC(".maps");

#endif
