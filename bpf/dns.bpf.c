//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* DNS over UDP, seen where packets leave and enter a network device: of all
 * resolvers, whichever system calls they use; and over TCP, seen where sockets are
 * written and read. Nothing is sent; what fails is counted, by process and name, and
 * what is not answered is found by whoever reads dns_queries. */
#include "calls.h"
#include "dns.h"

const struct dns_key *unused_key __attribute__((unused));
const struct dns_query *unused_query __attribute__((unused));
const struct dns_end_key *unused_end_key __attribute__((unused));
const struct dns_outcome *unused_outcome __attribute__((unused));
const enum dns_end *unused_end __attribute__((unused));
const struct udp_listen_record *unused_listen __attribute__((unused));
const enum udp_kind *unused_kind __attribute__((unused));

/* An answer that takes longer is late; 0: none is. */
const volatile __u64 dns_slow = 0;

/* A resolver that goes on searching asks for the next name that soon. */
#define DNS_SEARCHES 500000000ULL
/* Resolvers ask again, or give up, after five seconds (RES_TIMEOUT). */
#define DNS_ANSWERS 5000000000ULL

static __always_inline __u64 hash_words(const __u64 *words, int n)
{
	__u64 h = 0xcbf29ce484222325ULL;

	UNROLL
	for (int i = 0; i < n; i++)
		h = (h ^ (words[i] | 0x2020202020202020ULL)) * 0x100000001b3ULL;
	return h ^ h >> 32;
}

/* Where a name ends, its root label included; 0: that is no name. */
static __always_inline __u32 name_length(const __u8 *raw)
{
	__u32 at = 0;

	UNROLL
	for (int i = 0; i < DNS_LABELS; i++) {
		__u8 len = raw[at & 0xff];

		if (!len)
			return at + 1;
		at += len + 1;
		if (len > 63 || at >= DNS_NAME - 1)
			return 0;
	}
	return 0;
}

/* Reads the question at from, of which there are len bytes. */
static __noinline int read_question(struct dns_question *q, struct dns_scratch *s, const void *from, __u32 len)
{
	__u32 size;

	if (len > DNS_NAME + 4)
		len = DNS_NAME + 4;
	__builtin_memset(s->raw, 0, DNS_NAME + 8);
	asm volatile("%0 &= 511" : "+r"(len));
	if (bpf_probe_read_kernel(s->raw, len, from))
		return false;
	size = name_length(s->raw);
	if (!size || size + 4 > len)
		return false;
	__builtin_memset(q, 0, sizeof(*q));
	q->len = size;
	asm volatile("%0 &= 255" : "+r"(size));
	bpf_probe_read_kernel(q->name, size, s->raw);
	q->type = big_endian(s->raw + size);
	q->hash = hash_words((const __u64 *)q->name, DNS_NAME / 8);
	__builtin_memset(s->label, 0, sizeof(s->label));
	size = s->raw[0];
	asm volatile("%0 &= 63" : "+r"(size));
	bpf_probe_read_kernel(s->label, size, s->raw + 1);
	q->label = hash_words(s->label, 8);
	return true;
}

/* Whether the current task sends what leaves through sk. A packet that waited for
 * the address of the next hop leaves in an interrupt, where the task is anybody:
 * one of another user or network is found out. */
static __always_inline bool is_sender(struct task_struct *task, const struct sock *sk)
{
	struct task_struct___namespaces *in = (void *)task;
	const struct cred___file *cred = (const void *)BPF_CORE_READ(task, cred);

	if (!BPF_CORE_READ(task, tgid) || BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return false;
	if (BPF_CORE_READ(in, nsproxy, net_ns) != BPF_CORE_READ(sk, __sk_common.skc_net.net))
		return false;
	return BPF_CORE_READ(cred, fsuid.val) == BPF_CORE_READ((const struct sock___owner *)sk, sk_uid.val);
}

static __always_inline struct dns_outcome *outcome_of(const struct dns_query *q, __u32 code)
{
	struct dns_end_key key = {
		.start = q->process.start, .pid = q->process.pid, .code = code,
		.hash = code == DNS_NXDOMAIN ? q->question.label : q->question.hash,
	};

	return bpf_map_lookup_elem(&dns_outcomes, &key);
}

/* The outcome of a question, made when it is the first such. */
static __always_inline struct dns_outcome *make_outcome(struct dns_scratch *s, const struct dns_query *q, __u32 code)
{
	struct dns_outcome *o = outcome_of(q, code);
	struct dns_end_key key = {
		.start = q->process.start, .pid = q->process.pid, .code = code,
		.hash = code == DNS_NXDOMAIN ? q->question.label : q->question.hash,
	};

	if (o)
		return o;
	o = &s->outcome;
	__builtin_memset(o, 0, sizeof(*o));
	o->process = q->process;
	o->question = q->question;
	bpf_map_update_elem(&dns_outcomes, &key, o, BPF_NOEXIST);
	o = bpf_map_lookup_elem(&dns_outcomes, &key);
	if (!o)
		count_suppressed(TAPIO_DNS);
	return o;
}

static __always_inline void add_type(struct dns_outcome *o, __u16 type)
{
	UNROLL
	for (int i = 0; i < DNS_TYPES; i++) {
		if (o->types[i] == type)
			return;
		if (!o->types[i]) {
			o->types[i] = type;
			return;
		}
	}
}

static __always_inline void note(struct dns_outcome *o, const struct dns_query *q, __u64 now)
{
	__builtin_memcpy(o->server, q->server, 16);
	o->server_port = q->server_port;
	o->netns = q->netns;
	o->tcp = q->tcp;
	if (now - q->sent > o->longest)
		o->longest = now - q->sent;
	add_type(o, q->question.type);
	o->last = now;
}

static __always_inline void ended(struct dns_scratch *s, const struct dns_query *q, __u32 code, __u64 now)
{
	struct dns_outcome *o = make_outcome(s, q, code);

	if (!o)
		return;
	note(o, q, now);
	__sync_fetch_and_add(&o->lookups, 1);
}

/* A resolver that searches a list of domains asks for a name in each of them and
 * by itself, at once after the answer before: that is one lookup, which failed
 * when no answer was another. The shortest name is that which was looked up. */
static __always_inline void not_found(struct dns_scratch *s, const struct dns_query *q, __u64 now)
{
	struct dns_outcome *o = make_outcome(s, q, DNS_NXDOMAIN);
	__u64 question = q->question.hash + q->question.type;

	if (!o)
		return;
	if (!o->until || o->first == question || q->sent > o->last + DNS_SEARCHES) {
		o->first = question;
		o->question = q->question;
		__sync_fetch_and_add(&o->lookups, 1);
	} else if (q->question.len < o->question.len) {
		o->question = q->question;
	}
	note(o, q, now);
	o->until = now + DNS_SEARCHES;
}

/* An answer ends the search of which its question was a part. */
static __always_inline void found(const struct dns_query *q)
{
	struct dns_outcome *o = outcome_of(q, DNS_NXDOMAIN);
	struct dns_end_key key = {
		.start = q->process.start, .pid = q->process.pid, .code = DNS_NXDOMAIN, .hash = q->question.label,
	};

	if (!o || !o->until || q->sent > o->last + DNS_SEARCHES)
		return;
	o->until = 0;
	if (__sync_fetch_and_add(&o->resolved, 1) + 1 == o->lookups)
		bpf_map_delete_elem(&dns_outcomes, &key);
}

/* While a search goes on nobody can say that it failed. */
static __always_inline void searches_on(const struct dns_query *q)
{
	struct dns_outcome *o = outcome_of(q, DNS_NXDOMAIN);

	if (o && o->until && q->sent <= o->last + DNS_SEARCHES)
		o->until = q->sent + DNS_ANSWERS;
}

/* Takes a question out of those that wait for an answer, into the scratch. */
static __always_inline bool take_query(struct dns_scratch *s, const struct dns_key *key)
{
	struct dns_query *q = bpf_map_lookup_elem(&dns_queries, key);

	if (!q)
		return false;
	/* What is deleted may be another question's next: copy first. */
	bpf_probe_read_kernel(&s->query, sizeof(s->query), q);
	/* Else it was seen on another device, by another CPU. */
	return !bpf_map_delete_elem(&dns_queries, key);
}

/* Counts how the question in the scratch ended. */
static __noinline int has_ended(struct dns_scratch *s, __u32 code)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct dns_query *q = &s->query;

	if (code == DNS_NXDOMAIN)
		not_found(s, q, now);
	else if (code)
		ended(s, q, code, now);
	else
		found(q);
	if (dns_slow && (!code || code == DNS_NXDOMAIN) && now - q->sent >= dns_slow)
		ended(s, q, TAPIO_DNS_SLOW, now);
	return 0;
}

/* The whole answer comes over TCP, if anybody wants it. */
static __always_inline void remember_truncated(const struct dns_query *q)
{
	struct dns_truncated key = {
		.start = q->process.start, .hash = q->question.hash, .pid = q->process.pid, .type = q->question.type,
	};

	bpf_map_update_elem(&dns_truncated, &key, &q->sent, BPF_ANY);
}

static __always_inline bool is_docker(const __u8 *mapped)
{
	return *(const __u32 *)(mapped + 12) == __builtin_bswap32(0x7f00000b) && mapped[10] == 0xff;
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(dns_ask, const struct sk_buff *skb)
{
	const struct sock *sk = skb->sk;
	struct datagram d = {};
	struct dns_key key = {};
	struct dns_scratch *s;
	struct dns_query *q;
	struct task_struct *task;
	const void *ip;
	__u16 protocol;
	__u32 zero = 0, offset = 0, len, before;
	__u64 now;

	if (!sk || sk->sk_protocol != IPPROTO_UDP)
		return 0;
	protocol = __builtin_bswap16(skb->protocol);
	if (protocol != ETH_P_IP && protocol != ETH_P_IPV6)
		return 0;
	ip = skb->head + skb->network_header;
	before = ip - (const void *)skb->data; /* the header of the link */
	len = skb->len - skb->data_len - before;
	if (read_ip(&d, ip, protocol == ETH_P_IP, len, &offset) != IPPROTO_UDP || offset > len ||
	    !read_udp(&d, ip + offset, len - offset))
		return 0;
	if (dns_is_answer(&d) || !dns_is_plain(&d) || dns_names(&d) != 1)
		return 0;
	/* A connected socket knows the port that was asked for, whatever translates
	 * it. Docker's resolver in a container listens at another one. */
	if (d.to_port != DNS_PORT && sk->__sk_common.skc_dport != __builtin_bswap16(DNS_PORT) && !is_docker(d.to))
		return 0;
	s = bpf_map_lookup_elem(&dns_scratch, &zero);
	if (!s)
		return 0;
	__builtin_memcpy(key.client, d.from, 16);
	key.port = d.from_port;
	key.id = big_endian(d.dns);
	now = bpf_ktime_get_boot_ns();
	q = bpf_map_lookup_elem(&dns_queries, &key);
	if (q && now - q->sent < DNS_ANSWERS)
		return 0; /* on its way through another device, or asked again */
	q = &s->query;
	if (d.len < DNS_HEADER ||
	    !read_question(&q->question, s, ip + offset + 8 + DNS_HEADER, d.len - DNS_HEADER)) {
		count_suppressed(TAPIO_DNS);
		return 0;
	}
	task = (void *)bpf_get_current_task();
	if (is_sender(task, sk)) {
		fill_process(&q->process, task, BPF_CORE_READ(task, mm));
		remember_path(task, q->process.cgroup_id);
	} else {
		__builtin_memset(&q->process, 0, sizeof(q->process));
	}
	q->sent = now;
	__builtin_memcpy(q->server, d.to, 16);
	q->server_port = d.to_port;
	if (sk->__sk_common.skc_dport) {
		struct endpoints e;

		fill_endpoints(&e, sk);
		__builtin_memcpy(q->server, e.peer, 16);
		q->server_port = e.peer_port;
	}
	q->tcp = 0;
	q->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (bpf_map_update_elem(&dns_queries, &key, q, BPF_ANY))
		count_suppressed(TAPIO_DNS);
	searches_on(q);
	return 0;
}

static __always_inline void send_udp_listen(struct task_struct *task, const struct sock *sk, const __u8 *local)
{
	struct udp_listen_record *rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);

	if (!rec) {
		count_lost(TAPIO_UDP_LISTEN);
		return;
	}
	fill_header(&rec->header, TAPIO_UDP_LISTEN);
	fill_process(&rec->process, task, BPF_CORE_READ(task, mm));
	fill_path(&rec->cgroup, task_cgroup(task));
	fill_endpoints(&rec->socket, sk);
	__builtin_memcpy(rec->socket.local, local, 16);
	bpf_ringbuf_submit(rec, 0);
}

/* Who serves at which address, also where the socket has all of them: what leaves says
 * which. A socket that is not connected and that was bound to a port is a server's. */
SEC("tp_btf/net_dev_queue")
int BPF_PROG(udp_listen, const struct sk_buff *skb)
{
	const struct sock *sk = skb->sk;
	struct task_struct *task;
	struct udp_server key = {};
	struct datagram d = {};
	__u32 offset = 0, len;
	__u64 start, *told;
	const void *ip;
	__u16 protocol;

	if (!sk || sk->sk_protocol != IPPROTO_UDP || sk->__sk_common.skc_dport ||
	    !(BPF_CORE_READ_BITFIELD_PROBED((const struct sock___bound *)sk, sk_userlocks) & SOCK_BINDPORT_LOCK))
		return 0;
	task = (void *)bpf_get_current_task();
	if (!is_sender(task, sk))
		return 0;
	protocol = __builtin_bswap16(skb->protocol);
	if (protocol != ETH_P_IP && protocol != ETH_P_IPV6)
		return 0;
	ip = skb->head + skb->network_header;
	len = skb->len - skb->data_len - (ip - (const void *)skb->data);
	if (read_ip(&d, ip, protocol == ETH_P_IP, len, &offset) != IPPROTO_UDP)
		return 0;
	key.sk = (__u64)sk;
	__builtin_memcpy(key.local, d.from, 16);
	start = BPF_CORE_READ(task, group_leader, start_boottime);
	told = bpf_map_lookup_elem(&udp_servers, &key);
	if (told && *told == start)
		return 0;
	if (!take_token(TAPIO_UDP_LISTEN)) {
		count_suppressed(TAPIO_UDP_LISTEN); /* what it sends next tells it again */
		return 0;
	}
	bpf_map_update_elem(&udp_servers, &key, &start, BPF_ANY);
	send_udp_listen(task, sk, d.from);
	return 0;
}

/* An ICMP message holds the beginning of the packet that it is about. */
static __always_inline __u32 refusal(struct datagram *d, const void *icmp, bool is_ipv4, __u32 len)
{
	__u32 offset = 0;
	__u8 h[8];

	if (len < sizeof(h) || bpf_probe_read_kernel(h, sizeof(h), icmp))
		return 0;
	if (h[0] != (is_ipv4 ? ICMP_DEST_UNREACH : ICMPV6_DEST_UNREACH))
		return 0;
	icmp += sizeof(h);
	len -= sizeof(h);
	if (read_ip(d, icmp, is_ipv4, len, &offset) != IPPROTO_UDP || offset > len ||
	    !read_udp(d, icmp + offset, len - offset))
		return 0;
	if (dns_is_answer(d) || !dns_is_plain(d) || dns_names(d) != 1)
		return 0;
	return h[1] == (is_ipv4 ? ICMP_PORT_UNREACH : ICMPV6_PORT_UNREACH) ? TAPIO_DNS_REFUSED : TAPIO_DNS_UNREACHABLE;
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(dns_answer, const struct sk_buff *skb)
{
	__u16 protocol = __builtin_bswap16(skb->protocol);
	bool is_ipv4 = protocol == ETH_P_IP;
	const void *ip = skb->data;
	struct datagram d = {};
	struct dns_key key = {};
	struct dns_scratch *s;
	__u32 zero = 0, offset = 0, len, code, next;

	if (!is_ipv4 && protocol != ETH_P_IPV6)
		return 0;
	len = skb->len - skb->data_len;
	next = read_ip(&d, ip, is_ipv4, len, &offset);
	if (!next || offset > len)
		return 0;
	if (next == IPPROTO_UDP) {
		if (!read_udp(&d, ip + offset, len - offset) || !dns_is_answer(&d) || !dns_is_plain(&d) || dns_names(&d) > 1)
			return 0;
		code = dns_code(&d);
		__builtin_memcpy(key.client, d.to, 16);
		key.port = d.to_port;
	} else {
		code = refusal(&d, ip + offset, is_ipv4, len - offset);
		if (!code)
			return 0;
		__builtin_memcpy(key.client, d.from, 16);
		key.port = d.from_port;
	}
	key.id = big_endian(d.dns);
	s = bpf_map_lookup_elem(&dns_scratch, &zero);
	if (!s || !take_query(s, &key))
		return 0;
	if (next == IPPROTO_UDP && !code && dns_is_truncated(&d)) {
		remember_truncated(&s->query);
		found(&s->query);
		return 0;
	}
	has_ended(s, code);
	return 0;
}

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct file___socket {
	void *private_data;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs___flags {
	unsigned long r10;
};
#endif
#pragma clang attribute pop

/* include/linux/socket.h, include/uapi/asm-generic/errno.h, include/uapi/linux/uio.h */
#define MSG_PEEK 2
#define ECONNRESET 104
#define UIO_MAXIOV 1024

/* The bytes that a call has written or read, buffer by buffer. */
struct walk {
	__u64 key; /* of the connection */
	__u64 at, len; /* what is left of a buffer */
	__u64 vector;  /* the next one's struct iovec; 0: there is none */
	__u64 left;    /* of all buffers together */
};

static __always_inline bool begin_walk(struct walk *w, __u64 left)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
#if defined(__TARGET_ARCH_x86)
	int number = BPF_CORE_READ(regs, orig_ax);
	__u64 buffer = BPF_CORE_READ(regs, si);
#else
	int number = BPF_CORE_READ(regs, syscallno);
	__u64 buffer = BPF_CORE_READ(regs, regs[1]);
#endif

	w->left = left;
	switch (number) {
	case NR_READ:
	case NR_WRITE:
	case NR_SENDTO:
	case NR_RECVFROM:
		w->at = buffer;
		w->len = left;
		return true;
	case NR_SENDMSG:
	case NR_RECVMSG:
		/* struct user_msghdr: name, its length, then the vector */
		return !bpf_probe_read_user(&w->vector, sizeof(w->vector), (void *)(buffer + 16));
	case NR_READV:
	case NR_WRITEV:
		w->vector = buffer;
		return true;
	}
	return false; /* not from here: io_uring, or the kernel's own */
}

/* Takes what is next of a message: its length, what is kept of it, or what is not.
 * False when it is none; is_whole when that was the last byte that is kept. */
static __always_inline bool take_bytes(struct dns_stream *s, __u8 *bytes, struct walk *w, __u32 keep, bool *is_whole)
{
	__u32 have = s->have, n = w->len > 0xffff ? 0xffff : w->len, whole;

	if (s->skip) {
		if (n > s->skip)
			n = s->skip;
		s->skip -= n;
		goto taken;
	}
	if (have >= keep)
		return false; /* never */
	whole = have < 2 ? 2 : 2 + big_endian(bytes);
	if (n > (whole < keep ? whole : keep) - have)
		n = (whole < keep ? whole : keep) - have;
	asm volatile("%0 &= 511" : "+r"(have));
	asm volatile("%0 &= 511" : "+r"(n));
	if (n > keep || have > keep || bpf_probe_read_user(bytes + have, n, (void *)w->at))
		return false;
	s->have = have + n;
	whole = 2 + big_endian(bytes);
	if (s->have >= 2) {
		if (whole < 2 + DNS_HEADER)
			return false;
		if (s->have >= (whole < keep ? whole : keep)) {
			s->skip = whole - s->have;
			*is_whole = true;
		}
	}
taken:
	w->at += n;
	w->len -= n;
	w->left -= n;
	return true;
}

static __noinline __u64 since_truncated(const struct dns_query *q)
{
	struct dns_truncated key = {
		.start = q->process.start, .hash = q->question.hash, .pid = q->process.pid, .type = q->question.type,
	};
	__u64 *at = bpf_map_lookup_elem(&dns_truncated, &key), sent;

	if (!at)
		return q->sent;
	sent = *at;
	bpf_map_delete_elem(&dns_truncated, &key);
	return q->sent - sent < DNS_ANSWERS ? sent : q->sent;
}

static __always_inline void fill_stream_key(struct dns_key *key, const struct dns_connection *c, const __u8 *dns)
{
	__builtin_memcpy(key->client, c->socket.local, 16);
	key->port = c->socket.local_port;
	key->id = big_endian(dns);
	key->tcp = 1;
}

/* A question was written to a connection. */
static __noinline int stream_asks(struct dns_connection *c)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	const __u8 *dns = c->question + 2;
	__u32 zero = 0, have = c->sent.have, i;
	struct dns_key key = {};
	struct dns_scratch *s;
	struct dns_query *q;

	c->sent.have = 0;
	/* As dns_is_plain of a datagram: a standard question, of one name. */
	if (dns[2] & 0xf8 || dns[4] || dns[5] != 1)
		return 0;
	s = bpf_map_lookup_elem(&dns_scratch, &zero);
	if (!s)
		return 0;
	q = &s->query;
	if (have < STREAM_ANSWER || !read_question(&q->question, s, dns + DNS_HEADER, have - STREAM_ANSWER)) {
		count_suppressed(TAPIO_DNS);
		return 0;
	}
	fill_stream_key(&key, c, dns);
	fill_process(&q->process, task, BPF_CORE_READ(task, mm));
	remember_path(task, q->process.cgroup_id);
	q->sent = bpf_ktime_get_boot_ns();
	q->sent = since_truncated(q);
	__builtin_memcpy(q->server, c->socket.peer, 16);
	q->server_port = c->socket.peer_port;
	q->tcp = 1;
	q->netns = c->socket.netns;
	if (bpf_map_update_elem(&dns_queries, &key, q, BPF_ANY))
		count_suppressed(TAPIO_DNS);
	searches_on(q);
	UNROLL
	for (i = 0; i < STREAM_PENDING; i++) {
		if (!(c->pending >> i & 1)) {
			c->ids[i] = key.id;
			c->pending |= 1 << i;
			break;
		}
	}
	return 0;
}

/* An answer was read from a connection. */
static __noinline int stream_answers(struct dns_connection *c)
{
	const __u8 *dns = c->answer + 2;
	struct dns_key key = {};
	struct dns_scratch *s;
	__u32 zero = 0, i;

	c->received.have = 0;
	if (!(dns[2] & 0x80) || dns[2] & 0x78 || dns[4] || dns[5] > 1)
		return 0;
	fill_stream_key(&key, c, dns);
	UNROLL
	for (i = 0; i < STREAM_PENDING; i++) {
		if (c->ids[i] == key.id)
			c->pending &= ~(1 << i);
	}
	s = bpf_map_lookup_elem(&dns_scratch, &zero);
	if (s && take_query(s, &key))
		has_ended(s, dns[3] & 0x0f);
	return 0;
}

static __always_inline long walk_on(struct walk *w, bool sends)
{
	struct dns_connection *c;
	bool is_whole = false;
	__u64 vec[2] = {};

	if (!w->left)
		return 1;
	if (!w->len) {
		if (!w->vector || bpf_probe_read_user(vec, sizeof(vec), (void *)w->vector))
			return 1;
		w->vector += sizeof(vec);
		w->at = vec[0];
		w->len = vec[1] < w->left ? vec[1] : w->left;
		return 0;
	}
	c = bpf_map_lookup_elem(&dns_connections, &w->key);
	if (!c)
		return 1;
	if (!(sends ? take_bytes(&c->sent, c->question, w, STREAM_QUESTION, &is_whole)
		    : take_bytes(&c->received, c->answer, w, STREAM_ANSWER, &is_whole))) {
		c->lost = 1;
		return 1;
	}
	if (!is_whole)
		return 0;
	if (sends)
		stream_asks(c);
	else
		stream_answers(c);
	return 0;
}

static long walk_sent(__u32 i, struct walk *w)
{
	return walk_on(w, true);
}

static long walk_received(__u32 i, struct walk *w)
{
	return walk_on(w, false);
}

/* A message takes up to three steps, its length, what is kept and what is not, and each
 * buffer that it is in two more. Of a call that writes or reads more nothing is read any
 * more. */
#define WALK_STEPS 128

/* The other end sends no more: what was asked last has no answer. */
static __always_inline void stream_closes(struct dns_connection *c)
{
	__u32 zero = 0;
	struct dns_scratch *s = bpf_map_lookup_elem(&dns_scratch, &zero);

	UNROLL
	for (int i = 0; i < STREAM_PENDING; i++) {
		struct dns_key key = { .id = c->ids[i], .port = c->socket.local_port, .tcp = 1 };

		if (!s || !(c->pending >> i & 1))
			continue;
		__builtin_memcpy(key.client, c->socket.local, 16);
		if (take_query(s, &key))
			has_ended(s, TAPIO_DNS_CLOSED);
	}
	c->pending = 0;
}

/* Whether a socket is one to a server of DNS over TCP; a program of MPTCP sees another. */
static __always_inline bool is_stream(const struct sock *sk)
{
	return sk->__sk_common.skc_dport == __builtin_bswap16(DNS_PORT) && sk->sk_protocol == IPPROTO_TCP;
}

static __always_inline bool is_same_socket(const struct endpoints *a, const struct endpoints *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

/* What is known of a connection, made when it is asked over for the first time. */
static __noinline struct dns_connection *connection_of(__u64 key, const struct sock *sk)
{
	struct dns_connection *c = bpf_map_lookup_elem(&dns_connections, &key), *fresh;
	struct endpoints e = {};
	__u32 zero = 0;

	fill_endpoints(&e, sk);
	if (c && is_same_socket(&c->socket, &e))
		return c;
	fresh = bpf_map_lookup_elem(&dns_connection_scratch, &zero);
	if (!fresh)
		return NULL;
	__builtin_memset(&fresh->sent, 0, sizeof(fresh->sent));
	__builtin_memset(&fresh->received, 0, sizeof(fresh->received));
	fresh->pending = fresh->lost = 0;
	fresh->socket = e;
	bpf_map_update_elem(&dns_connections, &key, fresh, BPF_ANY);
	return bpf_map_lookup_elem(&dns_connections, &key);
}

static __always_inline int stream_sent(const struct sock *sk, int ret)
{
	struct walk w = { .key = (__u64)sk };
	struct dns_connection *c;

	if (ret <= 0)
		return 0;
	c = connection_of(w.key, sk);
	if (!c || c->lost || !begin_walk(&w, ret))
		return 0;
	bpf_loop(WALK_STEPS, walk_sent, &w, 0);
	if (w.left)
		c->lost = 1;
	if (c->lost)
		count_suppressed(TAPIO_DNS);
	return 0;
}

static __always_inline int stream_received(const struct sock *sk, int ret, int flags)
{
	struct walk w = { .key = (__u64)sk };
	struct dns_connection *c;

	if (flags & MSG_PEEK)
		return 0;
	c = bpf_map_lookup_elem(&dns_connections, &w.key);
	if (!c || c->lost)
		return 0; /* nothing was asked */
	if (!ret || ret == -ECONNRESET) {
		stream_closes(c);
		return 0;
	}
	if (ret < 0 || !begin_walk(&w, ret))
		return 0;
	bpf_loop(WALK_STEPS, walk_received, &w, 0);
	if (w.left)
		c->lost = 1;
	if (c->lost)
		count_suppressed(TAPIO_DNS);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(dns_stream_send, const struct sock *sk, int ret, int flags)
{
	return is_stream(sk) ? stream_sent(sk, ret) : 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(dns_stream_receive, const struct sock *sk, int ret, int flags)
{
	return is_stream(sk) ? stream_received(sk, ret, flags) : 0;
}

/* The socket of a file descriptor to a server of DNS. */
static __noinline struct sock *stream_of(__u32 fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files, *file = NULL;
	struct socket *socket;
	struct sock *sk;

	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	files = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & 0170000) != 0140000) /* S_IFSOCK */
		return NULL;
	socket = BPF_CORE_READ((struct file___socket *)file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (BPF_CORE_READ(sk, __sk_common.skc_dport) != __builtin_bswap16(DNS_PORT) ||
	    BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return NULL;
	return sk;
}

/* In place of the two before where the kernel has not their tracepoints: all calls that
 * write or read come here, so it costs more. */
SEC("tp_btf/sys_exit")
int BPF_PROG(dns_stream_calls, struct pt_regs *regs, long ret)
{
#if defined(__TARGET_ARCH_x86)
	int number = regs->orig_ax;
	__u64 fd = regs->di, flags = number == NR_RECVMSG ? regs->dx : 0;

	if (number == NR_RECVFROM)
		flags = BPF_CORE_READ((struct pt_regs___flags *)regs, r10);
#else
	int number = regs->syscallno;
	__u64 fd = regs->orig_x0, flags = number == NR_RECVMSG ? regs->regs[2] : 0;

	if (number == NR_RECVFROM)
		flags = regs->regs[3];
#endif
	struct sock *sk;

	switch (number) {
	case NR_WRITE:
	case NR_WRITEV:
	case NR_SENDTO:
	case NR_SENDMSG:
		sk = stream_of(fd);
		return sk ? stream_sent(sk, ret) : 0;
	case NR_READ:
	case NR_READV:
	case NR_RECVFROM:
	case NR_RECVMSG:
		sk = stream_of(fd);
		return sk ? stream_received(sk, ret, flags) : 0;
	}
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
