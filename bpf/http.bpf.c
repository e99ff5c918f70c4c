//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* HTTP requests with a traceparent: who works on them, and their spans. */
#include "calls.h"
#include "goroutines.h"
#include "http.h"
#include "tls.h"

const struct http_process_record *unused_process __attribute__((unused));
const struct http_exchange_record *unused_exchange __attribute__((unused));
const struct tracee *unused_tracee __attribute__((unused));
const enum http_kind *unused_kind __attribute__((unused));
const enum http_count *unused_count __attribute__((unused));
const enum http_method *unused_method __attribute__((unused));
const enum tracee_runtime *unused_runtime __attribute__((unused));
const enum tracee_sdk *unused_sdk __attribute__((unused));

/* Bytes of a request that are looked at. */
#define SCAN 4096
/* length of "traceparent:", of "content-length:", and of 00-<32 hex>-<16 hex>-<2 hex> */
#define NAME_LEN 12
#define LENGTH_LEN 15
#define VALUE_LEN 55
/* White space before the value that is put up with. */
#define VALUE_SPACE 4
/* Of a content-length, with white space. */
#define LENGTH_DIGITS 12

/* include/uapi/asm-generic/errno-base.h, include/uapi/asm-generic/fcntl.h,
 * include/uapi/asm-generic/socket.h */
#define EAGAIN 11
#define O_NONBLOCK 00004000
#define MSG_DONTWAIT 0x40

/* What kernel.h has of these types is not all that is read here. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct file___http {
	unsigned int f_flags;
	void *private_data;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs___http {
	unsigned long r10;
};
#endif
#pragma clang attribute pop

/* Sockets that connected somewhere: what is read from them is no request. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u8);
} outgoing SEC(".maps");

/* When the processes began that were seen to make spans themselves, by what they
 * send or connect to. It may be long before they serve anything. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} sdks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TAPIO_HTTP_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} http_counts SEC(".maps");

/* The header of a request, while it is looked at, and room to look behind it. */
struct header {
	__u64 words[SCAN / 8];
	__u8 behind[128];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct header);
} header_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct request);
} request_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exchange);
} exchange_scratch SEC(".maps");

/* How many processes run Node.js: without any, reads need not be followed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} event_loops SEC(".maps");

static __always_inline void count_http(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&http_counts, &what);

	if (n)
		*n += 1;
}

/* Every call of the machine comes here: a plain load, which a program may do that
 * is handed the registers. */
#if defined(__TARGET_ARCH_x86)
#define NUMBER(regs) ((int)(regs)->orig_ax)
#else
#define NUMBER(regs) ((regs)->syscallno)
#endif

static __always_inline __u32 argument_fd(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, di);
#else
	return BPF_CORE_READ(regs, orig_x0);
#endif
}

static __always_inline __u64 argument_buffer(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, si);
#else
	return BPF_CORE_READ(regs, regs[1]);
#endif
}

/* Whether a call that receives was told not to wait. */
static __always_inline bool never_waits(struct pt_regs *regs)
{
	switch (NUMBER(regs)) {
#if defined(__TARGET_ARCH_x86)
	case NR_RECVFROM:
		return BPF_CORE_READ((struct pt_regs___http *)regs, r10) & MSG_DONTWAIT;
	case NR_RECVMSG:
		return BPF_CORE_READ(regs, dx) & MSG_DONTWAIT;
#else
	case NR_RECVFROM:
		return BPF_CORE_READ(regs, regs[3]) & MSG_DONTWAIT;
	case NR_RECVMSG:
		return BPF_CORE_READ(regs, regs[2]) & MSG_DONTWAIT;
#endif
	}
	return false;
}

/* What a call has read or written: the first of its buffers. */
struct data {
	__u64 at;
	__u64 len;
	__u64 sk;	   /* on which socket */
	__u32 never_waits; /* the thread may go on with something else at any time */
	__u32 more;	   /* bytes in its other buffers */
};

static __always_inline bool data_of(struct data *d, int number, struct pt_regs *regs, long ret)
{
	__u64 argument = argument_buffer(regs), iov = 0, vec[2] = {};

	d->at = argument;
	d->len = ret;
	d->more = 0;
	switch (number) {
	case NR_READ:
	case NR_WRITE:
	case NR_SENDTO:
	case NR_RECVFROM:
		return true;
	case NR_RECVMSG:
	case NR_SENDMSG:
		/* struct user_msghdr: name, its length, then the vector */
		if (bpf_probe_read_user(&iov, sizeof(iov), (void *)(argument + 16)))
			return false;
		break;
	default:
		iov = argument;
	}
	if (bpf_probe_read_user(vec, sizeof(vec), (void *)iov))
		return false;
	d->at = vec[0];
	if (d->len > vec[1]) {
		d->more = d->len - vec[1];
		d->len = vec[1];
	}
	return true;
}

#define TEXT4(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

/* The method with which a request begins. Go's net/http reads the first byte of
 * the next request by itself, to learn that the client is gone: then the rest
 * is what is read here. */
static __always_inline __u32 method_of(__u64 start)
{
	__u32 rest = start >> 32;

	switch ((__u32)start) {
	case TEXT4('G', 'E', 'T', ' '):
	case TEXT4('E', 'T', ' ', '/'):
		return TAPIO_METHOD_GET;
	case TEXT4('P', 'O', 'S', 'T'):
	case TEXT4('O', 'S', 'T', ' '):
		return TAPIO_METHOD_POST;
	case TEXT4('P', 'U', 'T', ' '):
	case TEXT4('U', 'T', ' ', '/'):
		return TAPIO_METHOD_PUT;
	case TEXT4('H', 'E', 'A', 'D'):
	case TEXT4('E', 'A', 'D', ' '):
		return TAPIO_METHOD_HEAD;
	case TEXT4('D', 'E', 'L', 'E'):
		return rest == TEXT4('T', 'E', ' ', '/') ? TAPIO_METHOD_DELETE : 0;
	case TEXT4('E', 'L', 'E', 'T'):
		return (rest & 0xffffff) == TEXT4('E', ' ', '/', 0) ? TAPIO_METHOD_DELETE : 0;
	case TEXT4('P', 'A', 'T', 'C'):
		return (rest & 0xffffff) == TEXT4('H', ' ', '/', 0) ? TAPIO_METHOD_PATCH : 0;
	case TEXT4('A', 'T', 'C', 'H'):
		return (rest & 0xffff) == TEXT4(' ', '/', 0, 0) ? TAPIO_METHOD_PATCH : 0;
	case TEXT4('O', 'P', 'T', 'I'):
		return rest == TEXT4('O', 'N', 'S', ' ') ? TAPIO_METHOD_OPTIONS : 0;
	case TEXT4('P', 'T', 'I', 'O'):
		return (rest & 0xffffff) == TEXT4('N', 'S', ' ', 0) ? TAPIO_METHOD_OPTIONS : 0;
	}
	return TAPIO_METHOD_NONE;
}

/* What was found in a header. */
struct scan {
	__u32 len;
	__u32 lines;
	__u32 traceparents; /* how many */
	__u32 value; /* where the first one's value begins */
	__u32 ended; /* where the empty line ends */
	__u32 is_http;
	__u32 length; /* where the value of the last content-length begins */
	__u32 lengths; /* how many there are */
	__u32 in_chunks; /* the body says itself how long it is */
	__u32 next;	 /* behind the header is the line of another request */
};

struct scanned {
	struct scan found;
	struct header *header;
};

static __always_inline __u8 byte_at(struct header *h, __u32 i)
{
	asm volatile("%0 &= 4095" : "+r"(i)); /* clang would drop a plain mask */
	return ((__u8 *)h->words)[i];
}

/* " HTTP/1." before the end of the first line: "\r\n" behind the version. */
static __always_inline bool is_request_line(struct header *h, __u32 newline)
{
	char text[8] = {};
	__u32 at = newline - 10; /* " HTTP/1.1\r\n" */

	if (newline < 10)
		return false;
	asm volatile("%0 &= 4095" : "+r"(at));
	bpf_probe_read_kernel(text, sizeof(text), (__u8 *)h->words + at);
	return *(__u64 *)text == ((__u64)TEXT4('P', '/', '1', '.') << 32 | TEXT4(' ', 'H', 'T', 'T'));
}

/* A global function: the verifier looks at it once, by itself. */
__noinline int line_ends(struct scan *s, __u32 newline)
{
	__u32 at = newline + 1, text[4] = {}, zero = 0;
	struct header *header = bpf_map_lookup_elem(&header_scratch, &zero);
	__u8 next;

	if (!s || !header || newline >= s->len)
		return 1;
	if (s->ended) {
		s->next = is_request_line(header, newline) || is_request_line(header, at); /* with or without \r */
		return s->next;
	}
	if (!s->lines++ && !is_request_line(header, newline))
		return 1;
	s->is_http = 1;
	if (at >= s->len)
		return 1;
	next = byte_at(header, at);
	if (next == '\n' || (next == '\r' && byte_at(header, at + 1) == '\n')) {
		at += next == '\n' ? 1 : 2;
		if (at <= s->len)
			s->ended = at;
		return !s->ended || !s->in_chunks;
	}
	if (((next | 0x20) != 't' && (next | 0x20) != 'c') || at + LENGTH_LEN > s->len)
		return 0;
	asm volatile("%0 &= 4095" : "+r"(at));
	bpf_probe_read_kernel(text, sizeof(text), (__u8 *)header->words + at);
	if ((text[0] | 0x20202020) == TEXT4('c', 'o', 'n', 't') && (text[1] | 0x00202020) == TEXT4('e', 'n', 't', '-') &&
	    (text[2] | 0x20202020) == TEXT4('l', 'e', 'n', 'g') && ((text[3] | 0x2020) & 0xffffff) == TEXT4('t', 'h', ':', 0)) {
		s->lengths++;
		s->length = at + LENGTH_LEN;
		return 0;
	}
	if ((text[0] | 0x20202020) == TEXT4('t', 'r', 'a', 'n') && (text[1] | 0x20202020) == TEXT4('s', 'f', 'e', 'r'))
		s->in_chunks = 1;
	if ((text[0] | 0x20202020) != TEXT4('t', 'r', 'a', 'c') ||
	    (text[1] | 0x20202020) != TEXT4('e', 'p', 'a', 'r') ||
	    (text[2] | 0x00202020) != TEXT4('e', 'n', 't', ':'))
		return 0;
	if (!s->traceparents++)
		s->value = at + NAME_LEN;
	return 0;
}

/* Looks at eight bytes. */
static int scan_word(__u32 i, struct scanned *s)
{
	const __u64 low = 0x0101010101010101ULL;
	__u64 word, is_newline;

	if (i * 8 >= s->found.len)
		return 1;
	asm volatile("%0 &= 511" : "+r"(i));
	word = s->header->words[i] ^ (low * '\n');
	is_newline = (word - low) & ~word & (low << 7);
	if (!is_newline) /* exact when there is none */
		return 0;
	for (int k = 0; k < 8; k++) {
		if (!((word >> (8 * k)) & 0xff) && line_ends(&s->found, i * 8 + k))
			return 1;
	}
	return 0;
}

/* The value of a hexadecimal digit as traceparent has them, which is in lower
 * case; above 15 when it is none. */
static __always_inline __u32 hex(__u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return 16;
}

static __always_inline bool read_hex(__u8 *out, const __u8 *text, int bytes)
{
	__u32 invalid = 0;

	for (int i = 0; i < bytes; i++) {
		__u32 high = hex(text[2 * i]), low = hex(text[2 * i + 1]);

		invalid |= (high | low) & 16;
		out[i] = high << 4 | low;
	}
	return !invalid;
}

/* W3C Trace Context: version 00, and what later ones must begin with. */
static __always_inline bool parse_traceparent(struct trace_context *out, const struct scanned *s)
{
	__u8 text[VALUE_LEN + 1] = {}, version = 0;
	__u32 at = s->found.value;
	__u64 *id = (__u64 *)out->trace_id, *span = (__u64 *)out->span_id;

	for (int i = 0; i < VALUE_SPACE; i++) {
		__u8 c = byte_at(s->header, at);

		if (c == ' ' || c == '\t')
			at++;
	}
	if (at + VALUE_LEN + 1 > s->found.len)
		return false;
	asm volatile("%0 &= 4095" : "+r"(at));
	bpf_probe_read_kernel(text, sizeof(text), (__u8 *)s->header->words + at);
	if (text[2] != '-' || text[35] != '-' || text[52] != '-')
		return false;
	if (!read_hex(&version, text, 1) || version == 0xff)
		return false;
	switch (text[VALUE_LEN]) {
	case '\r':
	case '\n':
	case ' ':
	case '\t':
		break;
	case '-':
		if (version)
			break;
	default:
		return false;
	}
	return read_hex(out->trace_id, text + 3, 16) && read_hex(out->span_id, text + 36, 8) &&
	       read_hex(&out->flags, text + 53, 1) && (id[0] || id[1]) && span[0];
}

/* The number at that place of the header, or 0. A global function: the verifier looks at
 * it once, by itself. */
__noinline __u64 content_length(__u32 at)
{
	__u32 zero = 0;
	struct header *header = bpf_map_lookup_elem(&header_scratch, &zero);
	__u64 n = 0;

	if (!header)
		return 0;
	for (int i = 0; i < LENGTH_DIGITS; i++) {
		__u8 c = byte_at(header, at + i);

		if (c >= '0' && c <= '9')
			n = n * 10 + (c - '0');
		else if (c != ' ' && c != '\t')
			break;
	}
	return n;
}

/* Whether something else than the request and its body was read: another request,
 * and it is not known when the work on that begins. */
static __always_inline bool is_alone(const struct scan *s, const struct data *d)
{
	__u64 behind = d->len + d->more - s->ended;

	if (!behind)
		return true;
	if (s->in_chunks)
		return !s->lengths && !s->next && !d->more && d->len <= SCAN;
	return s->lengths == 1 && behind <= content_length(s->length);
}

enum parsed {
	NOT_HTTP,
	NO_TRACEPARENT,
	BAD_TRACEPARENT,
	CUT_HEADER,
	SEVERAL_REQUESTS,
	GOOD_TRACEPARENT,
};

/* Reads the header of a request. */
static __noinline int parse_request(struct trace_context *out, struct data *d)
{
	struct scanned s = {};
	__u32 zero = 0, len;

	if (!out || !d)
		return NOT_HTTP;
	__builtin_memset(out, 0, sizeof(*out));
	s.header = bpf_map_lookup_elem(&header_scratch, &zero);
	if (!s.header)
		return NOT_HTTP;
	len = d->len > SCAN ? SCAN : d->len;
	asm volatile("%0 &= 8191" : "+r"(len));
	if (len > SCAN || bpf_probe_read_user(s.header->words, len, (void *)d->at))
		return NOT_HTTP;
	s.found.len = len;
	bpf_loop(SCAN / 8, scan_word, &s, 0);
	if (!s.found.lines)
		return CUT_HEADER;
	if (!s.found.is_http)
		return NOT_HTTP;
	if (!s.found.ended && s.found.traceparents < 2)
		return CUT_HEADER; /* one more may follow, which would make both void */
	if (s.found.ended && !is_alone(&s.found, d))
		return SEVERAL_REQUESTS;
	if (!s.found.traceparents)
		return NO_TRACEPARENT;
	if (s.found.traceparents > 1 || !parse_traceparent(out, &s))
		return BAD_TRACEPARENT;
	return GOOD_TRACEPARENT;
}

/* The TCP socket of a file descriptor. */
static __always_inline const struct sock *socket_of(struct task_struct *task, __u32 fd, bool *nonblocking)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files, *file = NULL;
	struct socket *socket;
	const struct sock *sk;

	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	files = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & 0170000) != 0140000) /* S_IFSOCK */
		return NULL;
	*nonblocking = BPF_CORE_READ((struct file___http *)file, f_flags) & O_NONBLOCK;
	socket = BPF_CORE_READ((struct file___http *)file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP && bpf_core_type_exists(struct mptcp_sock))
		sk = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	return sk && is_tcp(sk) ? sk : NULL;
}

static __always_inline __u64 start_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, start_boottime);
}

/* Tells user space of a process. */
static __noinline int tell(struct task_struct *task, __u32 tgid)
{
	struct http_process_record *rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);

	if (!rec) {
		count_lost(TAPIO_HTTP_PROCESS);
		return -1;
	}
	fill_header(&rec->header, TAPIO_HTTP_PROCESS);
	fill_process(&rec->process, task, BPF_CORE_READ(task, mm));
	fill_path(&rec->cgroup, task_cgroup(task));
	rec->tgid = tgid;
	rec->pad = 0;
	bpf_ringbuf_submit(rec, BPF_RB_FORCE_WAKEUP);
	return 0;
}

/* What is known of a process; NULL when user space must look at it first, which
 * is asked to, once. */
static __always_inline struct tracee *tracee_of(struct task_struct *task, __u32 tgid)
{
	struct tracee *p = bpf_map_lookup_elem(&tracees, &tgid), fresh = {};
	__u64 start = start_of(task);

	if (p && p->start == start) {
		if (!p->told && !tell(task, tgid))
			p->told = 1;
		return p->runtime ? p : NULL;
	}
	fresh.start = start;
	fresh.told = 1;
	bpf_map_update_elem(&tracees, &tgid, &fresh, BPF_ANY);
	if (tell(task, tgid))
		bpf_map_delete_elem(&tracees, &tgid); /* the next request asks again */
	return NULL;
}

/* An execution does not work on the request of this socket any more. */
static __always_inline void forget_request(struct execution *by, __u64 sk)
{
	struct request *r;

	if (!by->id)
		return;
	r = bpf_map_lookup_elem(&requests, by);
	if (!r || r->sk != sk)
		return;
	if (may_have_lost_children(r))
		count_http(TAPIO_HTTP_CHILDREN_LOST);
	bpf_map_delete_elem(&requests, by);
}

static __always_inline void fill_random(__u8 *id)
{
	__u32 *half = (void *)id;

	half[0] = bpf_get_prandom_u32();
	half[1] = bpf_get_prandom_u32() | 1; /* not all zero */
}

/* Whether a process makes spans itself. What user space says is of its files, and of
 * those that leave a doubt only what it does decides. */
static __always_inline bool has_sdk(const struct tracee *p, __u32 *tgid)
{
	__u64 *start;

	if (p->sdk != TAPIO_SDK_NOT_SEEN)
		return p->sdk == TAPIO_SDK_YES;
	start = bpf_map_lookup_elem(&sdks, tgid);
	return start && *start == p->start;
}

static __always_inline void remember_sdk(__u32 *tgid, __u64 start)
{
	bpf_map_update_elem(&sdks, tgid, &start, BPF_ANY);
}

/* Whether a span is to be made of what begins now in a process. */
static __always_inline bool makes_span(const struct tracee *p, const struct exchange *x, __u32 *tgid)
{
	return (x->context.flags & 1) && p->spans_from && x->begun >= p->spans_from && !has_sdk(p, tgid);
}

/* Tells a request and its response. */
static __noinline int send_exchange(struct exchange *x, const struct sock *sk, __u32 status)
{
	struct http_exchange_record *rec;
	struct tracee *p;
	__u32 tgid;

	if (!x || !sk || !x->span)
		return 0;
	if (!status && sequence_of((__u64)sk, x->context.role) - x->context.sequence > 1) { /* 1: FIN */
		count_http(TAPIO_HTTP_SPANS_LOST); /* a response that did not look like one */
		return 0;
	}
	tgid = x->tgid;
	p = bpf_map_lookup_elem(&tracees, &tgid);
	if (!p || p->start != x->start || has_sdk(p, &tgid))
		return 0; /* it was seen to have one meanwhile */
	if (!may_send(TAPIO_HTTP_EXCHANGE, tgid, EXCHANGES, false)) /* by process: its cgroup is not at hand */
		return 0;
	rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);
	if (!rec) {
		count_lost(TAPIO_HTTP_EXCHANGE);
		return 0;
	}
	fill_header(&rec->header, TAPIO_HTTP_EXCHANGE);
	rec->start = x->start;
	rec->tgid = tgid;
	rec->status = status;
	rec->begun = x->begun;
	__builtin_memcpy(rec->trace_id, x->context.trace_id, 16);
	__builtin_memcpy(rec->span_id, x->span_id, 8);
	__builtin_memcpy(rec->parent_span_id, x->parent, 8);
	fill_endpoints(&rec->socket, sk);
	rec->method = x->method;
	rec->client = x->client;
	rec->flags = x->context.flags;
	rec->pad = 0;
	bpf_ringbuf_submit(rec, 0);
	return 0;
}

/* Remembers who works on a request. */
static __always_inline void remember_request(struct execution *by, const struct exchange *x, __u64 sk,
					     bool is_event_loop, struct pt_regs *regs)
{
	__u32 zero = 0;
	__u64 *so_far;
	struct task_struct *task = (void *)bpf_get_current_task();
	struct request *r = bpf_map_lookup_elem(&request_scratch, &zero);

	if (!r)
		return;
	__builtin_memcpy(&r->context, &x->context, sizeof(r->context));
	r->begun = x->begun;
	r->start = start_of(task);
	r->exec_id = exec_id_of(task);
	so_far = children_enabled ? children_so_far() : NULL;
	r->children = so_far ? *so_far : 0;
	r->sk = sk;
	__builtin_memcpy(r->span_id, x->span_id, 8);
	r->stack = 0;
	if (is_event_loop) {
		r->stack = user_stack(regs);
		if (!read_frames(r->frames, r->stack))
			return;
	}
	bpf_map_update_elem(&requests, by, r, BPF_ANY);
}

/* An exchange to fill: on the stack it would leave too little for what is called,
 * Linux 6.1 and 6.12 allow all calls together 512 bytes. */
static __always_inline struct exchange *scratch_exchange(void)
{
	__u32 zero = 0;
	struct exchange *x = bpf_map_lookup_elem(&exchange_scratch, &zero);

	if (x)
		__builtin_memset(x, 0, sizeof(*x));
	return x;
}

/* Who reads a request has not answered the one before, which came on another
 * socket: it works on several in turn, at any time on any of them. */
static __always_inline bool works_on_another(const struct execution *by, __u64 sk)
{
	struct request *r = bpf_map_lookup_elem(&requests, by);

	return r && r->sk != sk && is_unanswered(&r->context, r->sk) && is_own(r);
}

/* Whether it can be told who works on a request that is read, and who. */
static __always_inline bool reader(struct execution *by, struct tracee *p, __u64 pid_tgid, struct pt_regs *regs, __u64 sk)
{
	if (!current_execution(by, p, pid_tgid, regs))
		return false;
	if (children_enabled) /* it serves others than the one for which it was started */
		bpf_map_delete_elem(&children, by);
	if (p->mixes)
		return false;
	if (p->runtime == TAPIO_RUNTIME_NODE || !works_on_another(by, sk))
		return true; /* Node.js: by its callbacks */
	p->mixes = 1;
	return false;
}

/* What was read while a request waits for its response is in its body, or one that
 * did not wait for its turn. Until the response, no id. */
static __always_inline void make_void(struct exchange *x, __u64 sk)
{
	forget_request(&x->by, sk);
	x->by.id = 0;
	if (x->span)
		count_http(TAPIO_HTTP_SPANS_LOST);
	x->span = 0;
	bpf_map_delete_elem(&socket_traces, &sk);
	count_http(TAPIO_HTTP_RUNTIME_UNKNOWN);
}

static __always_inline void count_parsed(int parsed, bool known)
{
	switch (parsed) {
	case NO_TRACEPARENT:
		count_http(TAPIO_HTTP_UNTRACED);
		return;
	case BAD_TRACEPARENT:
		count_http(TAPIO_HTTP_INVALID);
		return;
	case CUT_HEADER:
		count_http(TAPIO_HTTP_CUT);
		return;
	}
	count_http(known ? TAPIO_HTTP_TRACED : TAPIO_HTTP_RUNTIME_UNKNOWN);
}

/* A server has read the beginning of a request. One without an id is remembered too:
 * what follows on its socket is its body, and who works on it may read others. Several
 * in one read are remembered until the connection ends: which of them is worked on, or
 * answered, is not seen. */
static __noinline int request_read(struct pt_regs *regs, struct data *d, __u32 method)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 pid_tgid = bpf_get_current_pid_tgid(), key;
	__u32 tgid = pid_tgid >> 32;
	bool known = false;
	struct exchange *x = scratch_exchange();
	struct exchange *old;
	struct tracee *p;
	int parsed;

	if (!regs || !d || !x)
		return 0;
	key = d->sk;
	if (bpf_map_lookup_elem(&outgoing, &key))
		return 0;
	parsed = parse_request(&x->context, d);
	if (parsed == NOT_HTTP)
		return 0;
	old = bpf_map_lookup_elem(&exchanges, &key);
	if (old && !old->client && is_unanswered(&old->context, key)) {
		make_void(old, key);
		return 0;
	}
	if (old) { /* to which there was no response that we saw */
		if (!old->client)
			forget_request(&old->by, key);
		if (old->span)
			count_http(TAPIO_HTTP_SPANS_LOST);
	}
	p = tracee_of(task, tgid);
	if (p) {
		known = reader(&x->by, p, pid_tgid, regs, key);
		bpf_map_delete_elem(&requests, &x->by);
		if (p->runtime == TAPIO_RUNTIME_OTHER && d->never_waits)
			known = false; /* the thread may go on with another request at any time */
		if (parsed == SEVERAL_REQUESTS)
			known = false;
		x->start = p->start;
		count_parsed(parsed, known);
	} else {
		if (parsed != SEVERAL_REQUESTS)
			parsed = CUT_HEADER; /* whatever it says, it has no id */
		count_http(TAPIO_HTTP_PROCESS_UNKNOWN);
		x->by.id = (__u32)pid_tgid;
		x->by.tgid = pid_tgid >> 32;
		x->by.kind = TAPIO_THREAD;
		known = parsed != SEVERAL_REQUESTS;
	}
	if (!known)
		__builtin_memset(&x->by, 0, sizeof(x->by));
	if (parsed != GOOD_TRACEPARENT)
		__builtin_memset(&x->context, 0, sizeof(x->context));
	x->begun = bpf_ktime_get_boot_ns();
	x->tgid = tgid;
	x->method = method;
	x->context.role = parsed == SEVERAL_REQUESTS ? TAPIO_ROLE_NONE : TAPIO_ROLE_SERVER;
	x->context.sequence = sequence_of(key, TAPIO_ROLE_SERVER);
	if (parsed == GOOD_TRACEPARENT) {
		x->context.association = TAPIO_TRACE_SOCKET;
		x->span = p && makes_span(p, x, &tgid);
		fill_random(x->span_id);
		__builtin_memcpy(x->parent, x->context.span_id, 8);
		bpf_map_update_elem(&socket_traces, &key, &x->context, BPF_ANY);
	} else {
		bpf_map_delete_elem(&socket_traces, &key);
	}
	bpf_map_update_elem(&exchanges, &key, x, BPF_ANY);
	if (!known)
		return 0;
	if (parsed == GOOD_TRACEPARENT)
		x->context.association = x->by.kind == TAPIO_GOROUTINE ? TAPIO_TRACE_GOROUTINE : TAPIO_TRACE_THREAD;
	remember_request(&x->by, x, key, p && p->runtime == TAPIO_RUNTIME_NODE, regs);
	return 0;
}

/* "HTTP/1.1 102 Processing\r\n\r\n": too short for a response to follow in the same call. */
#define INTERIM_LEN 27

/* A server has said that the response is yet to come. */
static __always_inline void still_unanswered(struct exchange *x, __u64 sk)
{
	__u32 sequence = sequence_of(sk, TAPIO_ROLE_SERVER);
	struct trace_context *t = bpf_map_lookup_elem(&socket_traces, &sk);
	struct request *r = bpf_map_lookup_elem(&requests, &x->by);

	x->context.sequence = sequence;
	if (t)
		t->sequence = sequence;
	if (r && r->sk == sk)
		r->context.sequence = sequence;
}

/* The beginning of a response was written by a server, or read by a client. */
static __noinline int response_seen(struct data *d, __u32 status, __u32 client)
{
	struct trace_context *t;
	const struct sock *sk;
	struct exchange *x;
	__u64 key;

	if (!d)
		return 0;
	key = d->sk;
	sk = (const struct sock *)key;
	x = bpf_map_lookup_elem(&exchanges, &key);
	if (!x && !client)
		bpf_map_delete_elem(&socket_traces, &key); /* to a request that was not seen */
	if (!x || x->client != client || !x->context.role)
		return 0; /* without a role: one of several that were read together */
	if (status < 200 && status != 101) {
		if (!client && d->len <= INTERIM_LEN)
			still_unanswered(x, key);
		return 0;
	}
	if (!client)
		forget_request(&x->by, key);
	t = bpf_map_lookup_elem(&socket_traces, &key);
	if (t)
		t->answered = 1;
	send_exchange(x, sk, status);
	bpf_map_delete_elem(&exchanges, &key);
	return 0;
}

/* The request for which a process writes another one. A function of its own, so that its
 * stack is free again when the header is read. */
static __noinline struct request *request_of_writer(struct execution *by, struct tracee *p, struct pt_regs *regs)
{
	if (!by || !p || !regs || !current_execution(by, p, bpf_get_current_pid_tgid(), regs))
		return NULL;
	return request_of(by, regs);
}

/* A client has written the beginning of a request. If it names a span that is not
 * the one that its server was asked for, an SDK made it. */
static __noinline int request_written(struct pt_regs *regs, struct data *d, __u32 method)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct exchange *x = scratch_exchange(), *old;
	__u64 key;
	struct request *r = NULL;
	struct tracee *p;

	if (!regs || !d || !x)
		return 0;
	key = d->sk;
	old = bpf_map_lookup_elem(&exchanges, &key);
	if (old && !old->client)
		return 0; /* a server, whose response begins like a request */
	/* Whoever writes this: the request before is over. */
	if (old && old->span)
		count_http(TAPIO_HTTP_SPANS_LOST);
	bpf_map_delete_elem(&exchanges, &key);
	bpf_map_delete_elem(&socket_traces, &key);
	p = bpf_map_lookup_elem(&tracees, &tgid);
	if (!p || !p->runtime || has_sdk(p, &tgid))
		return 0;
	r = request_of_writer(&x->by, p, regs);
	if (p->sdk == TAPIO_SDK_NOT_SEEN && parse_request(&x->context, d) == GOOD_TRACEPARENT) {
		__u64 *caller = (__u64 *)x->context.span_id;

		if (!r || *caller != *(__u64 *)r->context.span_id) {
			remember_sdk(&tgid, p->start);
			return 0;
		}
	}
	if (!r)
		return 0;
	__builtin_memcpy(&x->context, &r->context, sizeof(x->context));
	x->context.role = TAPIO_ROLE_CLIENT;
	x->context.sequence = sequence_of(key, TAPIO_ROLE_CLIENT);
	__builtin_memcpy(x->parent, r->span_id, 8);
	fill_random(x->span_id);
	x->context.association = TAPIO_TRACE_SOCKET;
	x->begun = bpf_ktime_get_boot_ns();
	x->start = p->start;
	x->tgid = tgid;
	x->method = method;
	x->client = 1;
	/* Its parent is a span that was not made unless it began in time too. */
	x->span = r->begun >= p->spans_from && makes_span(p, x, &tgid);
	bpf_map_update_elem(&exchanges, &key, x, BPF_ANY);
	bpf_map_update_elem(&socket_traces, &key, &x->context, BPF_ANY);
	return 0;
}

/* In an event loop: what follows is of another request, or may be. */
static __always_inline void next_callback(long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), *loops;
	struct execution e = { .id = (__u32)pid_tgid, .tgid = pid_tgid >> 32, .kind = TAPIO_THREAD };
	struct request *r;
	__u32 zero = 0;

	if (ret == -EAGAIN)
		return;
	loops = bpf_map_lookup_elem(&event_loops, &zero);
	if (!loops || !*loops)
		return;
	r = bpf_map_lookup_elem(&requests, &e);
	if (r && r->stack)
		bpf_map_delete_elem(&requests, &e);
}

/* A thread waits for one of several things, or takes a new connection: what it does
 * next need not be for the request that it has read, and if it reads others before the response it
 * is found out. */
static __always_inline void takes_turns(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct execution e = { .id = (__u32)pid_tgid, .tgid = pid_tgid >> 32, .kind = TAPIO_THREAD };
	struct request *r = bpf_map_lookup_elem(&requests, &e);

	if (r)
		r->context.association = TAPIO_TRACE_NONE;
}

/* "HTTP/1.1 200" */
#define STATUS_LEN 12

static __always_inline bool is_response(const __u8 *text)
{
	return *(const __u32 *)text == TEXT4('H', 'T', 'T', 'P') && text[4] == '/' && text[5] == '1' &&
	       text[6] == '.' && text[8] == ' ';
}

static __always_inline __u32 status_of(const __u8 *text)
{
	return (text[9] - '0') * 100 + (text[10] - '0') * 10 + (text[11] - '0');
}

/* A request or a response may have moved: what it is, by its first bytes. */
static __always_inline void has_moved(struct pt_regs *regs, struct data *d, const __u8 *text, bool is_read)
{
	__u32 method;

	if (is_response(text)) {
		response_seen(d, status_of(text), is_read);
		return;
	}
	method = method_of(*(__u64 *)text);
	if (!method)
		return;
	if (is_read)
		request_read(regs, d, method);
	else
		request_written(regs, d, method);
}

/* What a program looks at: on the stack it would leave too little for what is called.
 * Each program has its own. A probe in a process may be preempted, by another thread that
 * comes to the same probe on this CPU, and that one finds it taken. */
struct moved {
	struct data data;
	__u8 text[16] __attribute__((aligned(8)));
	struct tls_call call;
	__u32 is_taken;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct moved);
} moved_scratch SEC(".maps");

static __always_inline bool may_be_http(const __u8 *text)
{
	return is_response(text) || method_of(*(__u64 *)text);
}

static __always_inline void fill_socket(struct data *d, struct pt_regs *regs)
{
	bool nonblocking = false;

	d->sk = (__u64)socket_of((void *)bpf_get_current_task(), argument_fd(regs), &nonblocking);
	d->never_waits = nonblocking || never_waits(regs);
}

/* What moves while a thread is in OpenSSL is for that: the socket is what counts. */
static __noinline int socket_of_tls(struct pt_regs *regs, struct tls_call *c)
{
	struct data d = {};

	if (!regs || !c)
		return 0;
	fill_socket(&d, regs);
	remember_tls_socket(c, d.sk, d.never_waits);
	return 0;
}

/* A system call has read from or written to something. */
static __noinline int find_http(struct pt_regs *regs, struct moved *m, int number, long ret)
{
	if (!regs || !m || !data_of(&m->data, number, regs, ret) || m->data.len < STATUS_LEN)
		return 0;
	if (bpf_probe_read_user(m->text, STATUS_LEN, (void *)m->data.at) || !may_be_http(m->text))
		return 0;
	fill_socket(&m->data, regs);
	return m->data.sk != 0;
}

static __always_inline void call_has_moved(struct pt_regs *regs, int number, long ret, bool is_read)
{
	struct tls_call *tls = current_tls_call(regs);
	struct moved *m;
	__u32 zero = 0;

	if (tls) {
		socket_of_tls(regs, tls);
		return;
	}
	if (ret < STATUS_LEN)
		return;
	m = bpf_map_lookup_elem(&moved_scratch, &zero);
	if (m && find_http(regs, m, number, ret))
		has_moved(regs, &m->data, m->text, is_read);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(http_calls, struct pt_regs *regs, long ret)
{
	int number = NUMBER(regs);

	switch (number) {
	case NR_READ:
	case NR_READV:
	case NR_RECVFROM:
	case NR_RECVMSG:
		next_callback(ret);
		call_has_moved(regs, number, ret, true);
		return 0;
	case NR_WRITE:
	case NR_WRITEV:
	case NR_SENDTO:
	case NR_SENDMSG:
		call_has_moved(regs, number, ret, false);
		return 0;
#if defined(__TARGET_ARCH_x86)
	case NR_POLL:
#endif
	case NR_PPOLL:
		if (argument_buffer(regs) > 1) /* how many */
			takes_turns();
		return 0;
#if defined(__TARGET_ARCH_x86)
	case NR_SELECT:
	case NR_EPOLL_WAIT:
#endif
	case NR_PSELECT6:
	case NR_EPOLL_PWAIT:
	case NR_EPOLL_PWAIT2:
	case NR_ACCEPT:
	case NR_ACCEPT4:
	case NR_IO_URING_ENTER:
		takes_turns();
		next_callback(ret);
		return 0;
	case NR_GETSOCKOPT:
		next_callback(ret);
	}
	return 0;
}

/* The ports of OTLP: who connects there exports, spans most likely. */
#define PORT_OTLP_GRPC 4317
#define PORT_OTLP_HTTP 4318

static __always_inline void find_exporter(const struct sock *sk, struct task_struct *task)
{
	__u16 port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	__u32 tgid;

	if (port != PORT_OTLP_GRPC && port != PORT_OTLP_HTTP)
		return;
	tgid = BPF_CORE_READ(task, tgid);
	remember_sdk(&tgid, start_of(task));
}

/* A socket that listens belongs to a process that may serve HTTP; one that is
 * connected now, or no more, has no request that waits. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(http_sockets, const struct sock *sk, int oldstate, int newstate)
{
	struct task_struct *task;
	__u64 key = (__u64)sk;
	struct exchange *x;
	__u8 one = 1;

	if (!is_tcp(sk))
		return 0;
	switch (newstate) {
	case TCP_LISTEN:
		task = (void *)bpf_get_current_task();
		tracee_of(task, bpf_get_current_pid_tgid() >> 32);
		return 0;
	case TCP_SYN_SENT:
		bpf_map_update_elem(&outgoing, &key, &one, BPF_ANY);
		find_exporter(sk, (void *)bpf_get_current_task());
		return 0;
	case TCP_ESTABLISHED:
	case TCP_CLOSE:
		if (newstate == TCP_CLOSE || oldstate == TCP_SYN_RECV)
			bpf_map_delete_elem(&outgoing, &key);
		x = bpf_map_lookup_elem(&exchanges, &key);
		if (!x)
			return 0;
		if (!x->client)
			forget_request(&x->by, key);
		if (newstate == TCP_CLOSE)
			send_exchange(x, sk, 0);
		bpf_map_delete_elem(&exchanges, &key);
	}
	return 0;
}

/* Run once: who listens already, and who exports. */
SEC("iter/task_file")
int http_listeners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	const struct sock *sk;
	unsigned short family;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = BPF_CORE_READ(socket, sk);
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN)
		tracee_of(task, BPF_CORE_READ(task, tgid));
	else if (is_tcp(sk))
		find_exporter(sk, task);
	return 0;
}

/* A child is what its parent is, until it begins to run something else. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(http_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 from = BPF_CORE_READ(parent, tgid), to = BPF_CORE_READ(child, tgid);
	struct execution e = { .tgid = to, .kind = TAPIO_THREAD };
	struct tracee *p, copy;
	__u64 *started;

	if (tls_enabled)
		forget_tls_call((__u64)to << 32 | (__u32)BPF_CORE_READ(child, pid));
	p = bpf_map_lookup_elem(&tracees, &from);
	if (from == to) {
		/* A thread: of the one that had the number before, nothing is true any more. */
		e.id = BPF_CORE_READ(child, pid);
		if (p)
			bpf_map_delete_elem(&requests, &e);
		return 0;
	}
	started = bpf_map_lookup_elem(&sdks, &from);
	if (started && *started == start_of(parent))
		remember_sdk(&to, start_of(child));
	if (!p) {
		bpf_map_delete_elem(&tracees, &to);
		return 0;
	}
	copy = *p;
	copy.start = start_of(child);
	copy.told = 0;
	bpf_map_update_elem(&tracees, &to, &copy, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(http_exec, struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);

	bpf_map_delete_elem(&tracees, &tgid);
	bpf_map_delete_elem(&sdks, &tgid);
	return 0;
}

SEC("uprobe/SSL_read")
int http_tls_call(struct pt_regs *ctx)
{
	tls_call_begins(ctx);
	return 0;
}

/* What SSL_read has read, or SSL_write has written. */
SEC("uprobe/SSL_read.return")
int http_tls_return(struct pt_regs *ctx)
{
	struct moved *m;
	__u32 zero = 0;

	m = bpf_map_lookup_elem(&moved_scratch, &zero);
	if (!m)
		return 0;
	if (__sync_val_compare_and_swap(&m->is_taken, 0, 1)) {
		forget_tls_call(bpf_get_current_pid_tgid());
		count_http(TAPIO_HTTP_RUNTIME_UNKNOWN);
		return 0;
	}
	if (tls_call_ends(&m->call, ctx) && m->call.len >= STATUS_LEN &&
	    !bpf_probe_read_user(m->text, STATUS_LEN, (void *)m->call.buffer)) {
		m->data.at = m->call.buffer;
		m->data.len = m->call.len;
		m->data.more = 0;
		m->data.sk = m->call.sk;
		m->data.never_waits = m->call.never_waits;
		has_moved(ctx, &m->data, m->text, !m->call.is_write);
	}
	__sync_lock_test_and_set(&m->is_taken, 0);
	return 0;
}

SEC("uprobe/SSL_free")
int http_tls_free(struct pt_regs *ctx)
{
	tls_ends(ctx);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
