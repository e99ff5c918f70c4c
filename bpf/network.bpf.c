//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* TCP: who listens, who connects to whom, and what goes wrong on the way. */
#include "network.h"
#include "send.h"

const struct connect_record *unused_connect __attribute__((unused));
const struct listen_record *unused_listen __attribute__((unused));
const struct reset_record *unused_reset __attribute__((unused));
const struct retransmit_record *unused_retransmit __attribute__((unused));
const struct overflow_record *unused_overflow __attribute__((unused));
const enum network_kind *unused_kind __attribute__((unused));

/* Since 6.10 the kernel says why it sends a reset. */
const volatile bool reset_has_reason = false;
/* Since 6.16 the kernel also tells of segments that it could not send again, and why. */
const volatile bool retransmit_has_error = false;

/* A connection's retransmissions are told at most this often, in nanoseconds. */
#define RETRANSMIT_INTERVAL 1000000000ULL

struct sent_connect {
	struct connect_record record;
	struct record_tail tail;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sent_connect);
} connect_scratch SEC(".maps");

/* A record, and the request that it is about. */
struct traced_reset {
	struct reset_record record;
	struct trace_context trace;
};

struct traced_retransmit {
	struct retransmit_record record;
	struct trace_context trace;
};

static __always_inline void connect_begins(__u64 key)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 zero = 0;
	struct connection *c = bpf_map_lookup_elem(&connection_scratch, &zero);

	if (!c)
		return;
	__builtin_memset(c, 0, sizeof(*c));
	c->begun = bpf_ktime_get_boot_ns();
	fill_process(&c->process, task, BPF_CORE_READ(task, mm));
	remember_path(task, c->process.cgroup_id);
	bpf_map_update_elem(&connections, &key, c, BPF_ANY);
	remember_socket_trace(key);
}

static __always_inline void fill_addresses(struct connect_record *rec, const struct sock *sk)
{
	const struct inet_sock *inet = (const void *)sk;

	__builtin_memset(rec->local, 0, sizeof(rec->local));
	__builtin_memset(rec->peer, 0, sizeof(rec->peer));
	rec->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	rec->local_port = __builtin_bswap16(BPF_CORE_READ(inet, inet_sport));
	rec->peer_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (rec->family == AF_INET) {
		bpf_core_read(rec->local, 4, &inet->inet_saddr);
		bpf_core_read(rec->peer, 4, &sk->__sk_common.skc_daddr);
	} else if (rec->family == AF_INET6) {
		bpf_core_read(rec->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(rec->peer, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

/* What the error queue of a socket has (linux/skbuff.h, linux/errqueue.h). */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sk_buff___error {
	struct sk_buff___error *next;
	char cb[48];
};

struct sk_buff_head___error {
	struct sk_buff___error *next;
};

struct sock_extended_err {
	__u32 ee_errno;
	__u8 ee_origin;
};

struct sock_exterr_skb {
	struct sock_extended_err ee;
};

struct sock___error {
	int sk_err_soft;
	struct sk_buff_head___error sk_error_queue;
};
#pragma clang attribute pop

/* include/uapi/linux/errqueue.h */
#define SO_EE_ORIGIN_ICMP 2
#define SO_EE_ORIGIN_ICMP6 3

/* Why a connect failed. An ICMP message that comes while the connect has the socket, as
 * this host's own does, ends nothing: the application is told, and closes it. Having been
 * told takes the error from the socket, but not the message from its queue. */
static __always_inline __u32 error_of(const struct sock *sk)
{
	const struct sock___error *s = (const void *)sk;
	__u32 error = BPF_CORE_READ(sk, sk_err);
	struct sk_buff___error *skb;
	struct sock_exterr_skb *e;
	__u8 origin;

	if (!error)
		error = BPF_CORE_READ(s, sk_err_soft);
	if (error)
		return error;
	skb = BPF_CORE_READ(s, sk_error_queue.next);
	if ((void *)skb == (void *)__builtin_preserve_access_index(&s->sk_error_queue))
		return 0; /* it is empty */
	e = (void *)__builtin_preserve_access_index(&skb->cb);
	origin = BPF_CORE_READ(e, ee.ee_origin);
	return origin == SO_EE_ORIGIN_ICMP || origin == SO_EE_ORIGIN_ICMP6 ? BPF_CORE_READ(e, ee.ee_errno) : 0;
}

static __always_inline void connect_failed(const struct sock *sk, __u64 key)
{
	struct connection *c = bpf_map_lookup_elem(&connections, &key);
	struct sent_connect *sent;
	struct connect_record *rec;
	__u32 zero = 0;

	if (!may_send(TAPIO_CONNECT, c ? c->process.cgroup_id : 0, CONNECTS, false))
		return;
	sent = bpf_map_lookup_elem(&connect_scratch, &zero);
	if (!sent)
		return;
	rec = &sent->record;
	fill_header(&rec->header, TAPIO_CONNECT);
	rec->begun = c ? c->begun : 0;
	fill_owner(&rec->process, &sent->tail.cgroup, c ? &c->process : NULL);
	fill_addresses(rec, sk);
	rec->socket_state = BPF_CORE_READ(sk, sk_socket, state);
	rec->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	rec->error = error_of(sk);
	fill_socket_trace(&sent->tail.trace, key); /* that of the connect, as it was joined there */
	send_record(TAPIO_CONNECT, sent, sizeof(*sent) - TAPIO_PATH + names_size(&sent->tail.cgroup));
}

/* The counts of a connection's pair, made when it is the first. */
static __always_inline struct pair *pair_of(struct connection *c)
{
	struct pair *p = bpf_map_lookup_elem(&pairs, &c->pair), *fresh;
	__u32 zero = 0;

	if (p)
		return p;
	fresh = bpf_map_lookup_elem(&pair_scratch, &zero);
	if (!fresh)
		return NULL;
	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->process = c->process;
	bpf_map_update_elem(&pairs, &c->pair, fresh, BPF_NOEXIST);
	p = bpf_map_lookup_elem(&pairs, &c->pair);
	if (!p)
		count_suppressed(TAPIO_CONNECTIONS); /* it is full */
	return p;
}

static __always_inline void fill_pair(struct connection *c, const struct sock *sk, bool incoming)
{
	struct endpoints e;

	fill_endpoints(&e, sk);
	c->pair.start = c->process.start;
	c->pair.pid = c->process.pid;
	c->pair.netns = e.netns;
	__builtin_memcpy(c->pair.local, e.local, 16);
	__builtin_memcpy(c->pair.peer, e.peer, 16);
	c->pair.port = incoming ? e.local_port : e.peer_port;
	c->pair.incoming = incoming;
	c->pair.pad = 0;
}

static __always_inline void connected(const struct sock *sk, __u64 key)
{
	struct connection *c = bpf_map_lookup_elem(&connections, &key);
	struct pair *p;

	if (!c) { /* forgotten, or begun before the start */
		count_suppressed(TAPIO_CONNECTIONS);
		return;
	}
	fill_pair(c, sk, false);
	p = pair_of(c);
	if (!p)
		return;
	__sync_fetch_and_add(&p->opened, 1);
	__sync_fetch_and_add(&p->connect_time, bpf_ktime_get_boot_ns() - c->begun);
}

static __always_inline struct listening *listening_at(const struct endpoints *e)
{
	struct listen_key key = { .netns = e->netns, .port = e->local_port };
	struct listening *all;

	__builtin_memcpy(key.address, e->local, 16);
	all = bpf_map_lookup_elem(&addresses, &key);
	if (all)
		return all;
	__builtin_memset(key.address, 0, 16);
	all = bpf_map_lookup_elem(&addresses, &key);
	if (all)
		return all;
	key.address[10] = key.address[11] = 0xff;
	return bpf_map_lookup_elem(&addresses, &key);
}

/* The listener of a local address: of that, or of all addresses. Of several the kernel
 * does not say which it is: the first that is known. */
static __always_inline struct listener *listener_of(const struct endpoints *e)
{
	struct listening *all = listening_at(e);
	struct listener *l = NULL;

	if (!all)
		return NULL;
	UNROLL
	for (int i = 0; i < LISTENING; i++) {
		__u64 sk = all->sockets[i];

		if (sk && !l)
			l = bpf_map_lookup_elem(&listeners, &sk);
	}
	return l;
}

static __always_inline void accepted(const struct sock *sk, __u64 key)
{
	__u32 zero = 0;
	struct connection *c = bpf_map_lookup_elem(&connection_scratch, &zero);
	struct listener *l;
	struct endpoints e;
	struct pair *p;

	if (!c)
		return;
	fill_endpoints(&e, sk);
	l = listener_of(&e);
	if (!l) {
		bpf_map_delete_elem(&connections, &key); /* of another, at the same place */
		return;
	}
	__builtin_memset(c, 0, sizeof(*c));
	c->process = l->process;
	c->begun = bpf_ktime_get_boot_ns();
	fill_pair(c, sk, true);
	bpf_map_update_elem(&connections, &key, c, BPF_ANY);
	p = pair_of(c);
	if (p)
		__sync_fetch_and_add(&p->opened, 1);
}

/* Adds to its pair what a connection has carried since the last time. */
static __always_inline struct pair *count_bytes(struct connection *c, const struct sock *sk)
{
	const struct tcp_sock *tcp = (const void *)sk;
	__u64 sent, received, before;
	struct pair *p;
	__u32 rtt;

	if (!c->pair.port)
		return NULL;
	p = pair_of(c);
	if (!p)
		return NULL;
	sent = BPF_CORE_READ(tcp, bytes_acked);
	received = BPF_CORE_READ(tcp, bytes_received);
	before = __sync_lock_test_and_set(&c->sent, sent);
	if (sent > before)
		__sync_fetch_and_add(&p->sent, sent - before);
	rtt = BPF_CORE_READ(tcp, srtt_us) >> 3;
	if (rtt && sent > before) { /* else it is what it was at the last look */
		__sync_fetch_and_add(&p->rtt, rtt);
		__sync_fetch_and_add(&p->rtts, 1);
	}
	before = __sync_lock_test_and_set(&c->received, received);
	if (received > before)
		__sync_fetch_and_add(&p->received, received - before);
	return p;
}

static __always_inline void closed(const struct sock *sk, __u64 key)
{
	struct connection *c = bpf_map_lookup_elem(&connections, &key);
	struct pair *p;

	if (!c || c->over)
		return;
	p = count_bytes(c, sk);
	if (p)
		__sync_fetch_and_add(&p->closed, 1);
	c->over = 1;
}

static __always_inline void fill_listen_key(struct listen_key *key, const struct endpoints *e)
{
	__builtin_memcpy(key->address, e->local, 16);
	key->netns = e->netns;
	key->port = e->local_port;
	key->pad = 0;
}

static __always_inline void send_listen(const struct sock *sk, const struct process_id *process,
					bool ends, bool existing)
{
	struct listen_record *rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);

	if (!rec) {
		count_lost(TAPIO_LISTEN);
		return;
	}
	fill_header(&rec->header, TAPIO_LISTEN);
	fill_owner(&rec->process, &rec->cgroup, process);
	fill_endpoints(&rec->socket, sk);
	rec->ends = ends;
	rec->existing = existing;
	rec->backlog = BPF_CORE_READ(sk, sk_max_ack_backlog);
	rec->pad = 0;
	bpf_ringbuf_submit(rec, 0);
}

/* Too big for the stack. */
struct listen_scratch {
	struct listener listener;
	struct listening none; /* always zero */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct listen_scratch);
} listen_scratch SEC(".maps");

/* One more socket listens at an address. */
static __always_inline void join(struct listen_scratch *s, __u64 sk)
{
	struct listening *all = bpf_map_lookup_elem(&addresses, &s->listener.at);
	bool placed = false;

	if (!all) {
		bpf_map_update_elem(&addresses, &s->listener.at, &s->none, BPF_NOEXIST); /* or another CPU was faster */
		all = bpf_map_lookup_elem(&addresses, &s->listener.at);
		if (!all) {
			count_suppressed(TAPIO_LISTEN);
			return;
		}
	}
	__sync_fetch_and_add(&all->count, 1);
	UNROLL
	for (int i = 0; i < LISTENING; i++) {
		if (!placed && !all->sockets[i])
			placed = !__sync_val_compare_and_swap(&all->sockets[i], 0, sk);
	}
}

/* A socket listens no more; returns whether none is left at its address. */
static __always_inline bool leave(const struct listener *l, __u64 sk)
{
	struct listen_key at = l->at;
	struct listening *all = bpf_map_lookup_elem(&addresses, &at);
	bool last = true;

	if (all) {
		UNROLL
		for (int i = 0; i < LISTENING; i++) {
			if (all->sockets[i] == sk)
				all->sockets[i] = 0;
		}
		last = __sync_fetch_and_add(&all->count, -1) <= 1;
		if (last)
			bpf_map_delete_elem(&addresses, &at);
	}
	return last;
}

static __always_inline void listens(struct task_struct *task, const struct sock *sk, bool existing)
{
	__u64 key = (__u64)sk;
	struct listener *l = bpf_map_lookup_elem(&listeners, &key);
	struct listen_scratch *s;
	struct endpoints e;
	__u32 zero = 0;

	if (l && existing)
		return; /* of processes that share a listener, the first is who made it */
	if (l)
		leave(l, key);
	s = bpf_map_lookup_elem(&listen_scratch, &zero);
	if (!s)
		return;
	fill_endpoints(&e, sk);
	if (!e.local_port)
		return; /* the kernel is about to choose one: rare, and no address to name */
	l = &s->listener;
	fill_listen_key(&l->at, &e);
	fill_process(&l->process, task, BPF_CORE_READ(task, mm));
	remember_path(task, l->process.cgroup_id);
	l->drops = BPF_CORE_READ(sk, sk_drops.counter);
	if (bpf_map_update_elem(&listeners, &key, l, BPF_ANY))
		count_suppressed(TAPIO_LISTEN); /* it is full */
	else
		join(s, key);
	if (!existing && !take_token(TAPIO_LISTEN)) {
		count_suppressed(TAPIO_LISTEN);
		return;
	}
	send_listen(sk, &l->process, false, existing);
}

static __always_inline void listens_no_more(const struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct listener *l = bpf_map_lookup_elem(&listeners, &key);

	if (!l)
		return;
	if (leave(l, key)) {
		if (take_token(TAPIO_LISTEN))
			send_listen(sk, &l->process, true, false);
		else
			count_suppressed(TAPIO_LISTEN);
	}
	bpf_map_delete_elem(&listeners, &key);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_connect, const struct sock *sk, int oldstate, int newstate)
{
	__u64 key = (__u64)sk;

	if (!is_tcp(sk))
		return 0;
	switch (newstate) {
	case TCP_SYN_SENT:
		connect_begins(key);
		return 0;
	case TCP_LISTEN:
		listens((void *)bpf_get_current_task(), sk, false);
		return 0;
	case TCP_ESTABLISHED:
		if (traces_enabled) /* what it is used for next is not known */
			bpf_map_delete_elem(&socket_traces, &key);
		if (oldstate == TCP_SYN_SENT)
			connected(sk, key);
		else if (oldstate == TCP_SYN_RECV)
			accepted(sk, key);
		return 0;
	case TCP_CLOSE:
		if (oldstate == TCP_LISTEN) {
			listens_no_more(sk);
			return 0;
		}
		if (oldstate == TCP_SYN_SENT)
			connect_failed(sk, key);
		closed(sk, key);
	}
	return 0;
}

static __always_inline const struct sock *socket_of(struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);
	const struct sock *sk;

	if (!socket)
		return NULL;
	sk = BPF_CORE_READ(socket, sk);
	if (sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP && bpf_core_type_exists(struct mptcp_sock))
		sk = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	return sk && is_tcp(sk) ? sk : NULL;
}

/* Run once: who listens already. */
SEC("iter/task_file")
int tcp_listeners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	const struct sock *sk;

	if (!task || !file)
		return 0;
	sk = socket_of(file);
	if (sk && BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN)
		listens(task, sk, true);
	return 0;
}

/* Run once, after that: who is connected already. */
SEC("iter/task_file")
int tcp_connections(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	__u32 zero = 0;
	const struct sock *sk;
	const struct tcp_sock *tcp;
	struct connection *c;
	struct endpoints e;
	__u64 key;

	if (!task || !file)
		return 0;
	sk = socket_of(file);
	key = (__u64)sk;
	if (!sk || bpf_map_lookup_elem(&connections, &key))
		return 0;
	if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_ESTABLISHED &&
	    BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_CLOSE_WAIT)
		return 0;
	c = bpf_map_lookup_elem(&connection_scratch, &zero);
	if (!c)
		return 0;
	tcp = (const void *)sk;
	__builtin_memset(c, 0, sizeof(*c));
	fill_process(&c->process, task, BPF_CORE_READ(task, mm));
	remember_path(task, c->process.cgroup_id);
	c->sent = BPF_CORE_READ(tcp, bytes_acked);
	c->received = BPF_CORE_READ(tcp, bytes_received);
	fill_endpoints(&e, sk);
	fill_pair(c, sk, listener_of(&e) != NULL);
	bpf_map_update_elem(&connections, &key, c, BPF_NOEXIST);
	return 0;
}

/* Run at each sample: what open connections have carried. */
SEC("iter/bpf_map_elem")
int tcp_bytes(struct bpf_iter__bpf_map_elem *ctx)
{
	__u64 *key = ctx->key, sk;
	struct connection *c;

	if (!key)
		return 0;
	sk = *key;
	c = bpf_map_lookup_elem(&connections, &sk);
	if (c && !c->over)
		count_bytes(c, (const struct sock *)sk);
	return 0;
}

/* Run at each sample: who does not take connections fast enough. */
SEC("iter/bpf_map_elem")
int tcp_overflow(struct bpf_iter__bpf_map_elem *ctx)
{
	__u64 *at = ctx->key, key;
	struct overflow_record *rec;
	const struct sock *sk;
	struct listener *l;
	__u32 drops;

	if (!at)
		return 0;
	key = *at;
	l = bpf_map_lookup_elem(&listeners, &key);
	if (!l)
		return 0;
	sk = (const struct sock *)key;
	drops = BPF_CORE_READ(sk, sk_drops.counter);
	if (drops == l->drops || BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN)
		return 0;
	rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);
	if (!rec) {
		count_lost(TAPIO_OVERFLOW);
		return 0;
	}
	fill_header(&rec->header, TAPIO_OVERFLOW);
	fill_owner(&rec->process, &rec->cgroup, &l->process);
	fill_endpoints(&rec->socket, sk);
	rec->dropped = drops - l->drops;
	l->drops = drops;
	rec->queue = BPF_CORE_READ(sk, sk_ack_backlog);
	rec->limit = BPF_CORE_READ(sk, sk_max_ack_backlog);
	rec->pad = 0;
	bpf_ringbuf_submit(rec, 0);
	return 0;
}

static __always_inline void send_reset(const struct sock *sk, bool received, __u32 reason)
{
	struct traced_reset *traced;
	struct reset_record *rec;
	struct connection *c;
	__u64 key = (__u64)sk;
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

	/* A listener answers what belongs to no connection; and a reset that answers
	 * a SYN is a refused connect, which is told as that. */
	if (state == TCP_LISTEN || state == TCP_SYN_SENT)
		return;
	if (!take_token(TAPIO_RESET)) {
		count_suppressed(TAPIO_RESET);
		return;
	}
	traced = bpf_ringbuf_reserve(&events, sizeof(*traced), 0);
	if (!traced) {
		count_lost(TAPIO_RESET);
		return;
	}
	rec = &traced->record;
	c = bpf_map_lookup_elem(&connections, &key);
	fill_header(&rec->header, TAPIO_RESET);
	fill_owner(&rec->process, &rec->cgroup, c ? &c->process : NULL);
	fill_endpoints(&rec->socket, sk);
	rec->received = received;
	rec->state = state;
	rec->reason = reason;
	rec->pad = 0;
	fill_socket_trace(&traced->trace, key);
	if (is_answered(&traced->trace, key)) /* it waits for its next request */
		__builtin_memset(&traced->trace, 0, sizeof(traced->trace));
	traced->trace.association = traced->trace.association ? TAPIO_TRACE_SOCKET : TAPIO_TRACE_NONE;
	bpf_ringbuf_submit(traced, 0);
}

SEC("tp_btf/tcp_send_reset")
int tcp_reset_sent(__u64 *ctx)
{
	const struct sock *sk = (const void *)ctx[0];

	/* Without a socket it answers a SYN to a closed port. */
	if (sk)
		send_reset(sk, false, reset_has_reason ? ctx[2] : 0);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_reset_received, const struct sock *sk)
{
	if (sk)
		send_reset(sk, true, 0);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit, const struct sock *sk)
{
	const struct tcp_sock *tcp = (const void *)sk;
	__u64 key = (__u64)sk, now = bpf_ktime_get_boot_ns();
	struct traced_retransmit *traced;
	struct retransmit_record *rec;
	struct connection *c;
	struct pair *p;
	__u32 count = 1;

	if (!sk || (retransmit_has_error && (int)ctx[2]))
		return 0;
	c = bpf_map_lookup_elem(&connections, &key);
	if (c) {
		count = __sync_fetch_and_add(&c->retransmits, 1) + 1;
		p = c->pair.port ? pair_of(c) : NULL;
		if (p)
			__sync_fetch_and_add(&p->retransmits, 1);
		if (now - c->told < RETRANSMIT_INTERVAL)
			return 0;
	}
	if (!take_token(TAPIO_RETRANSMIT)) {
		count_suppressed(TAPIO_RETRANSMIT);
		return 0;
	}
	traced = bpf_ringbuf_reserve(&events, sizeof(*traced), 0);
	if (!traced) {
		count_lost(TAPIO_RETRANSMIT);
		return 0;
	}
	rec = &traced->record;
	if (c) {
		c->told = now;
		c->retransmits = 0;
	}
	fill_header(&rec->header, TAPIO_RETRANSMIT);
	fill_owner(&rec->process, &rec->cgroup, c ? &c->process : NULL);
	fill_endpoints(&rec->socket, sk);
	rec->state = BPF_CORE_READ(sk, __sk_common.skc_state);
	rec->count = count;
	rec->total = BPF_CORE_READ(tcp, total_retrans);
	rec->rtt = BPF_CORE_READ(tcp, srtt_us) >> 3;
	fill_socket_trace(&traced->trace, key);
	traced->trace.association = traced->trace.association ? TAPIO_TRACE_SOCKET : TAPIO_TRACE_NONE;
	bpf_ringbuf_submit(traced, 0);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
