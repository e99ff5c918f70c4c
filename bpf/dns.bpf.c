//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* DNS over UDP, seen where packets leave and enter a network device: of all
 * resolvers, whichever system calls they use. Nothing is sent; what fails is
 * counted, by process and name, and what is not answered is found by whoever
 * reads dns_queries. */
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
static __always_inline bool read_question(struct dns_question *q, struct dns_scratch *s, const void *from, __u32 len)
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
	q->pad = 0;
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
	struct dns_query *q;
	__u32 zero = 0, offset = 0, len, code, next;
	__u64 now;

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
	q = bpf_map_lookup_elem(&dns_queries, &key);
	s = bpf_map_lookup_elem(&dns_scratch, &zero);
	if (!q || !s)
		return 0;
	/* What is deleted may be another question's next: copy first. */
	bpf_probe_read_kernel(&s->query, sizeof(s->query), q);
	if (bpf_map_delete_elem(&dns_queries, &key))
		return 0; /* seen on another device, by another CPU */
	q = &s->query;
	now = bpf_ktime_get_boot_ns();
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

char _license[] SEC("license") = "Dual MIT/GPL";
