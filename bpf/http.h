/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* HTTP/1.x at the socket. Of the bytes of a request, the value of traceparent is
 * kept, and which of a list of methods it is; of those of a response the status. */
#ifndef TAPIO_HTTP_H
#define TAPIO_HTTP_H

#include "network.h"
#include "exchange.h"

#define BPF_MAP_TYPE_ARRAY 2
#define BPF_EXIST 2

enum http_kind {
	TAPIO_HTTP_PROCESS = 48,
	TAPIO_HTTP_EXCHANGE = 49,
};

/* What was done with requests: index of "http_counts". */
enum http_count {
	TAPIO_HTTP_TRACED = 0,		/* joined to a goroutine or thread */
	TAPIO_HTTP_UNTRACED = 1,	/* no traceparent */
	TAPIO_HTTP_INVALID = 2,		/* one that is malformed, or several */
	TAPIO_HTTP_CUT = 3,		/* the header did not end in what was looked at */
	TAPIO_HTTP_PROCESS_UNKNOWN = 4, /* user space has not looked at the process yet */
	TAPIO_HTTP_RUNTIME_UNKNOWN = 5, /* neither goroutine nor blocking socket nor Node.js */
	TAPIO_HTTP_SPANS_LOST = 6,	/* a request came before the response to the last */
	TAPIO_HTTP_CHILDREN_LOST = 7,	/* ended after goroutines started for it may have been forgotten */
	TAPIO_HTTP_COUNTS = 8,
};

enum http_method {
	TAPIO_METHOD_NONE = 0,
	TAPIO_METHOD_GET = 1,
	TAPIO_METHOD_POST = 2,
	TAPIO_METHOD_PUT = 3,
	TAPIO_METHOD_HEAD = 4,
	TAPIO_METHOD_DELETE = 5,
	TAPIO_METHOD_PATCH = 6,
	TAPIO_METHOD_OPTIONS = 7,
};

/* A process that begins to serve HTTP, or may. User space answers in "tracees". */
struct http_process_record {
	struct record_header header;
	struct process_id process;
	struct cgroup_path cgroup;
	__u32 tgid; /* of the machine's first pid namespace: the key of "tracees" */
	__u32 pad;
};

/* A request and its response, when that has begun. */
struct http_exchange_record {
	struct record_header header;
	__u64 start; /* of the process */
	__u32 tgid;
	__u32 status; /* 0: the connection ended without a response */
	__u64 begun;
	__u8 trace_id[16];
	__u8 span_id[8];
	__u8 parent_span_id[8];
	struct endpoints socket;
	__u32 method;
	__u32 client; /* 1: the process sent the request */
	__u32 flags;
	__u32 pad;
};

#endif
